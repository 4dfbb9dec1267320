//! When the credentials of our apps end, as far as this machine can know it.

use domain::{AppCredential, Ticks};
use microsoft::certificates;
use tenant_registry::AppClock;

use super::{AppConfig, Config, ConfigError, CredentialFiles};
use crate::moment::day_or_instant;
use crate::secrets::read_credential;

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
        let clock = |(name, app): (&domain::AppName, &AppConfig)| {
            let (what, ends_at) = match &app.credential {
                CredentialFiles::Certificate { .. } => ("certificate", last_certificate(&app.credential)?),
                CredentialFiles::Secret(_) => ("client secret", app.client_secret_expires?),
                CredentialFiles::Federated(_) | CredentialFiles::None => return None,
            };
            Some(AppClock { app: name.clone(), what, ends_at })
        };
        self.apps.iter().filter_map(clock).collect()
    }
}

/// When the last of an app's certificates ends. One that cannot be read is told where it is used.
fn last_certificate(files: &CredentialFiles) -> Option<Ticks> {
    let Ok(Some(AppCredential::Certificates(pairs))) = read_credential(files) else { return None };
    pairs.iter().filter_map(|pair| Some(certificates::read(&pair.certificate_pem).ok()?.not_after)).max()
}
