//! `[notify]`: the webhook that tells somebody who has no Prometheus.

use std::path::PathBuf;
use std::time::Duration;

use notifier::{Egress, Endpoint, Settings};

use super::{ConfigError, raw, read_secret_file};

/// A message has to be tried for longer than its first pauses.
const LEAST: Duration = Duration::from_secs(60);

/// `[notify]`, checked; there only where an address is named.
#[derive(Clone, Debug)]
pub(crate) struct NotifyConfig {
    /// The file with the address.
    pub(crate) url_file: PathBuf,
    /// The file with what signs.
    pub(crate) secret_file: PathBuf,
    /// How it behaves.
    pub(crate) settings: Settings,
    /// Where it may go.
    pub(crate) egress: Egress,
}

/// Checks the section; nothing where it is switched off.
pub(super) fn check(raw: &raw::Notify) -> Result<Option<NotifyConfig>, ConfigError> {
    if raw.give_up_after < LEAST {
        return Err(ConfigError(
            "notify.give_up_after is under a minute, in which a receiver may just be starting; use at least 1m".into(),
        ));
    }
    match (raw.url_file.as_str(), raw.secret_file.as_str()) {
        ("", "") => Ok(None),
        ("", _) => Err(ConfigError("notify.secret_file is set and notify.url_file is not; name the file with the webhook's address, too".into())),
        (_, "") => Err(ConfigError(
            "notify.url_file is set and notify.secret_file is not; no message goes out unsigned, so name a file made with: echo whsec_$(openssl rand -base64 32)".into(),
        )),
        (url, secret) => Ok(Some(NotifyConfig {
            url_file: url.into(),
            secret_file: secret.into(),
            settings: Settings {
                alive_every: raw.alive_every,
                repeat_after: raw.repeat_after,
                give_up_after: raw.give_up_after,
                ..Settings::default()
            },
            egress: Egress { allow_private: raw.allow_private, allow_plaintext: raw.allow_plaintext },
        })),
    }
}

impl NotifyConfig {
    /// Reads both files, anew at every use.
    ///
    /// # Errors
    /// A sentence that names the file and holds nothing of it.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, String> {
        let url = read_secret_file(&self.url_file, "the webhook's address").map_err(|error| format!("notify.url_file: {error}"))?;
        let secret =
            read_secret_file(&self.secret_file, "the webhook's signing secret").map_err(|error| format!("notify.secret_file: {error}"))?;
        Endpoint::parse(&url, &secret, self.egress).map_err(|error| match error {
            notifier::BadEndpoint::Secret(_) => format!("{}: {error}", self.secret_file.display()),
            _ => format!("{}: {error}", self.url_file.display()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(url_file: &str, secret_file: &str) -> raw::Notify {
        raw::Notify {
            url_file: url_file.to_owned(),
            secret_file: secret_file.to_owned(),
            alive_every: Duration::ZERO,
            repeat_after: Duration::ZERO,
            give_up_after: LEAST,
            allow_private: false,
            allow_plaintext: false,
        }
    }

    #[test]
    fn it_is_off_or_whole() {
        assert!(check(&raw("", "")).unwrap().is_none());
        assert!(check(&raw("/x/url", "/x/secret")).unwrap().is_some());
        for (url, secret, words) in
            [("", "/x/secret", "name the file with the webhook's address"), ("/x/url", "", "no message goes out unsigned")]
        {
            assert!(check(&raw(url, secret)).unwrap_err().0.contains(words));
        }
        let hasty = raw::Notify { give_up_after: Duration::from_secs(1), ..raw("", "") };
        assert!(check(&hasty).unwrap_err().0.contains("at least 1m"));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_of_the_file_and_not_shown() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path.display().to_string()
        };
        let (url, secret) = (write("url", "https://hooks.example/T0KEN\n"), write("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"));
        let endpoint = |url: &str, secret: &str| check(&raw(url, secret)).unwrap().unwrap().endpoint();
        assert_eq!(endpoint(&url, &secret).unwrap().host(), "hooks.example");
        for (url, secret, words) in [
            (write("plain", "http://hooks.example/T0KEN"), secret.clone(), "plain: the webhook's address does not begin with https://"),
            (url.clone(), write("short", "whsec_T0KEN"), "short: what follows whsec_"),
            (url.clone(), "/nowhere/secret".to_owned(), "notify.secret_file: cannot read"),
        ] {
            let problem = endpoint(&url, &secret).unwrap_err();
            assert!(problem.contains(words) && !problem.contains("T0KEN"), "{problem}");
        }
    }
}
