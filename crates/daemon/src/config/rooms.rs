//! What each room gets of the configuration. A room defines its own settings; here they are filled in.

use std::num::NonZeroU32;

use super::Config;
use crate::secrets::FileSecrets;

impl Config {
    /// Settings of the poller.
    pub(crate) fn poller(&self) -> alert_poller::Config {
        alert_poller::Config {
            interval: self.poll.interval,
            overlap: self.poll.overlap,
            first_sync: self.poll.first_sync,
            page_size: self.poll.page_size,
            graph_per_minute: self.budget.graph_per_minute,
            defender_per_minute: self.budget.defender_per_minute,
            defender_per_hour: self.budget.defender_per_hour,
            ..alert_poller::Config::default()
        }
    }

    /// Settings of the refresher.
    pub(crate) fn refresher(&self) -> token_refresher::Config {
        let default = token_refresher::Config::default();
        // Zero was refused when the configuration was checked.
        let token_per_second = NonZeroU32::new(self.budget.token_per_second).unwrap_or(default.token_per_second);
        token_refresher::Config { token_per_second, ..default }
    }

    /// Settings of the registry.
    pub(crate) fn registry(&self) -> tenant_registry::Config {
        tenant_registry::Config { poll_interval: self.poll.interval, ..tenant_registry::Config::default() }
    }

    /// Where the secrets of the app registrations are read from.
    pub(crate) fn secrets(&self) -> FileSecrets {
        FileSecrets::new(self.apps.iter().filter_map(|(name, app)| Some((name.clone(), app.client_secret_file.clone()?))).collect())
    }
}
