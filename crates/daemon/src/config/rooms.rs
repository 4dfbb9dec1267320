//! What each room gets of the configuration. A room defines its own settings; here they are filled in.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Config;
use crate::secrets::FileCredentials;

/// How long a stage may finish what it has begun. With a second for the poller before and two for the
/// registry after, this fits into the deadline of `lifecycle`.
const FINISH: Duration = Duration::from_secs(4);

impl Config {
    /// Settings of the sink.
    pub(crate) fn sink(&self) -> sink::Config {
        sink::Config { stop_grace: FINISH, ..sink::Config::default() }
    }

    /// Settings of the poller.
    pub(crate) fn poller(&self) -> alert_poller::Config {
        alert_poller::Config {
            interval: self.poll.interval,
            quiet_interval: self.poll.quiet_interval,
            overlap: self.poll.overlap,
            first_sync: self.poll.first_sync,
            source_keeps: self.poll.source_keeps,
            ladder: self.ladder,
            page_size: self.poll.page_size,
            graph_per_minute: self.budget.graph_per_minute,
            defender_per_minute: self.budget.defender_per_minute,
            defender_per_hour: self.budget.defender_per_hour,
            app_graph_per_10s: self.budget.app_graph_per_10s,
            app_defender_per_minute: self.budget.app_defender_per_minute,
            ..alert_poller::Config::default()
        }
    }

    /// Settings of the refresher.
    pub(crate) fn refresher(&self) -> token_refresher::Config {
        token_refresher::Config { drain: FINISH, ..token_refresher::Config::default() }
    }

    /// Calls per second that a login host is asked, by all replicas together.
    pub(crate) fn token_per_second(&self) -> NonZeroU32 {
        // Zero was refused when the configuration was checked.
        NonZeroU32::new(self.budget.token_per_second).unwrap_or(NonZeroU32::MIN)
    }

    /// Settings of the registry.
    pub(crate) fn registry(&self) -> tenant_registry::Config {
        tenant_registry::Config { poll_interval: self.poll.interval, ..tenant_registry::Config::default() }
    }

    /// Where the credentials of the app registrations are read from.
    pub(crate) fn credentials(&self) -> FileCredentials {
        FileCredentials::new(self.apps.iter().map(|(name, app)| (name.clone(), app.credential.clone())).collect())
    }

    /// How the pages that customers see present themselves.
    pub(crate) fn consent_pages(&self) -> console::ConsentSettings {
        let origins: std::collections::BTreeSet<_> =
            self.clouds.values().map(|cloud| cloud.login_url.origin().ascii_serialization()).collect();
        console::ConsentSettings {
            public_url: self.console.public_url.clone(),
            operator: self.console.operator.clone(),
            sign_in_origins: origins.into_iter().collect(),
            callback_path: console::CALLBACK_PATH.to_owned(),
        }
    }
}
