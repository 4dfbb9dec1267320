//! `[apps]`: our app registrations, and the files that hold what each proves itself with.

use std::path::{Path, PathBuf};

use domain::Ticks;
use microsoft::{App, Endpoint, Grant};

use super::{ConfigError, clocks, raw};

/// An app registration of ours.
#[derive(Debug, Clone)]
pub(crate) struct AppConfig {
    /// What Microsoft needs to know of it.
    pub(crate) app: App,
    /// Where its credential is.
    pub(crate) credential: CredentialFiles,
    /// When its client secret ends, as the operator says: Microsoft does not tell.
    pub(crate) client_secret_expires: Option<Ticks>,
}

/// The files that hold a credential. An app has one kind of it, or as a public client none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CredentialFiles {
    /// A public client has none.
    None,
    /// A shared secret.
    Secret(PathBuf),
    /// Certificates, which are public, and their private keys.
    Certificate {
        /// Certificates as PEM, one or several.
        certificate: PathBuf,
        /// Their keys as PEM.
        private_key: PathBuf,
    },
    /// A token that somebody else writes and replaces: Kubernetes.
    Federated(PathBuf),
}

impl AppConfig {
    /// The files that hold something secret, each with its key in the configuration and what it holds.
    pub(crate) fn credential_files(&self) -> Vec<(&'static str, &Path, &'static str)> {
        match &self.credential {
            CredentialFiles::None => vec![],
            CredentialFiles::Secret(file) => vec![("client_secret_file", file, "an app's client secret")],
            CredentialFiles::Certificate { private_key, .. } => vec![("private_key_file", private_key, "an app's private key")],
            CredentialFiles::Federated(file) => vec![("federated_token_file", file, "an app's federated token")],
        }
    }
}

/// Checks one section.
pub(super) fn check(name: &str, raw: raw::App) -> Result<AppConfig, ConfigError> {
    if raw.client_id.is_empty() {
        return Err(ConfigError(format!("apps.{name}.client_id is empty; copy the Application (client) ID from the app registration")));
    }
    let credential = credential(name, &raw)?;
    let grant = match raw.grant.as_str() {
        "refresh_token" => Grant::RefreshToken,
        "client_credentials" if credential == CredentialFiles::None => {
            return Err(ConfigError(format!(
                "apps.{name} uses client_credentials but has no credential; name certificate_file and private_key_file, federated_token_file or \
                 client_secret_file"
            )));
        }
        "client_credentials" => Grant::ClientCredentials,
        other => return Err(ConfigError(format!("apps.{name}.grant = \"{other}\" is neither refresh_token nor client_credentials"))),
    };
    let endpoint = match raw.endpoint.as_str() {
        "v2" => Endpoint::V2,
        "v1" => Endpoint::V1,
        other => return Err(ConfigError(format!("apps.{name}.endpoint = \"{other}\" is neither v2 nor v1"))),
    };
    let client_secret_expires = clocks::check_end(name, &raw.client_secret_expires)?;
    Ok(AppConfig { app: App { endpoint, ..App::new(raw.client_id, grant) }, credential, client_secret_expires })
}

/// Exactly one kind of credential, whole, or none.
fn credential(name: &str, raw: &raw::App) -> Result<CredentialFiles, ConfigError> {
    let file = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
    let refused = |problem: &str| Err(ConfigError(format!("apps.{name}{problem}")));
    let pair = match (file(&raw.certificate_file), file(&raw.private_key_file)) {
        (None, None) => None,
        (Some(certificate), Some(private_key)) => Some(CredentialFiles::Certificate { certificate, private_key }),
        (Some(_), None) => {
            return refused(".certificate_file is set and private_key_file is not; a certificate needs the key that belongs to it");
        }
        (None, Some(_)) => {
            return refused(".private_key_file is set and certificate_file is not; a key needs the certificate that belongs to it");
        }
    };
    let kinds =
        [file(&raw.client_secret_file).map(CredentialFiles::Secret), pair, file(&raw.federated_token_file).map(CredentialFiles::Federated)];
    let mut kinds = kinds.into_iter().flatten();
    let first = kinds.next().unwrap_or(CredentialFiles::None);
    if kinds.next().is_some() {
        return refused(
            " has more than one kind of credential; keep client_secret_file, or certificate_file with private_key_file, or federated_token_file",
        );
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(set: &[(&str, &str)]) -> Result<AppConfig, String> {
        let of = |key: &str, default: &str| set.iter().find(|(name, _)| *name == key).map_or(default, |(_, value)| value).to_owned();
        let raw = raw::App {
            client_secret_expires: String::new(),
            client_id: "x".to_owned(),
            client_secret_file: of("client_secret_file", ""),
            certificate_file: of("certificate_file", ""),
            private_key_file: of("private_key_file", ""),
            federated_token_file: of("federated_token_file", ""),
            grant: of("grant", "refresh_token"),
            endpoint: of("endpoint", "v2"),
        };
        check("main", raw).map_err(|error| error.0)
    }

    #[test]
    fn an_app_has_one_kind_of_credential() {
        let files = |set: &[(&str, &str)]| app(set).unwrap().credential_files().into_iter().map(|(key, ..)| key).collect::<Vec<_>>();
        assert_eq!(files(&[]), <[&str; 0]>::default());
        assert_eq!(files(&[("client_secret_file", "/s")]), ["client_secret_file"]);
        assert_eq!(files(&[("certificate_file", "/c"), ("private_key_file", "/k")]), ["private_key_file"], "a certificate is public");
        assert_eq!(files(&[("federated_token_file", "/t")]), ["federated_token_file"]);
        for (set, words) in [
            (vec![("certificate_file", "/c")], "private_key_file is not"),
            (vec![("private_key_file", "/k")], "certificate_file is not"),
            (vec![("client_secret_file", "/s"), ("federated_token_file", "/t")], "more than one kind"),
            (vec![("client_secret_file", "/s"), ("certificate_file", "/c"), ("private_key_file", "/k")], "more than one kind"),
            (vec![("certificate_file", "/c"), ("private_key_file", "/k"), ("federated_token_file", "/t")], "more than one kind"),
            (vec![("client_secret_file", "/s"), ("certificate_file", "/c")], "private_key_file is not"),
            (vec![("grant", "client_credentials")], "no credential"),
            (vec![("endpoint", "v3")], "neither v2 nor v1"),
        ] {
            let sentence = app(&set).unwrap_err();
            assert!(sentence.starts_with("apps.main") && sentence.contains(words), "{set:?}: {sentence}");
        }
        assert!(app(&[("grant", "client_credentials"), ("federated_token_file", "/t")]).is_ok());
        assert_eq!(app(&[("endpoint", "v1")]).unwrap().app.endpoint, Endpoint::V1);
    }
}
