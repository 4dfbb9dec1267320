//! When the credentials of our apps end, as far as this machine can know it.

use domain::Ticks;
use tenant_registry::AppClock;

use super::{Config, ConfigError};
use crate::moment::day_or_instant;

/// Reads `client_secret_expires`.
pub(super) fn check_end(app: &str, text: &str) -> Result<Option<Ticks>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    let problem = || ConfigError(format!("apps.{app}.client_secret_expires = \"{text}\" is no date; write it like 2027-05-01"));
    day_or_instant(text).map(Some).ok_or_else(problem)
}

impl Config {
    /// The known ends of credentials, one per app: where there are several, the app works until the last.
    pub(crate) fn app_clocks(&self) -> Vec<AppClock> {
        let secret = |(name, app): (&domain::AppName, &super::AppConfig)| {
            Some(AppClock { app: name.clone(), what: "client secret", ends_at: app.client_secret_expires? })
        };
        self.apps.iter().filter_map(secret).collect()
    }
}
