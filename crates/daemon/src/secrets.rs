//! The credentials of our app registrations, read from their files at every use.
//!
//! Reading anew costs microseconds and means that a rotated secret, a second certificate or the token that Kubernetes
//! replaces every hour is picked up without a restart.

use std::collections::BTreeMap;
use std::path::Path;

use domain::ports::{AppCredentials, SecretUnreadable};
use domain::{AppCredential, AppName, ClientAssertion, ClientSecret, SigningCertificate, Ticks};
use microsoft::certificates;
use tenant_registry::KeyRing;
use zeroize::Zeroizing;

use crate::config::{Config, CredentialFiles, read_secret_file};
use crate::failure::{Exit, Failure};

/// Reads credentials from the files that the configuration names.
pub(crate) struct FileCredentials {
    files: BTreeMap<AppName, CredentialFiles>,
}

impl FileCredentials {
    /// Credentials are read from these files.
    pub(crate) fn new(files: BTreeMap<AppName, CredentialFiles>) -> Self {
        Self { files }
    }
}

impl AppCredentials for FileCredentials {
    fn credential(&self, app: &AppName) -> Result<Option<AppCredential>, SecretUnreadable> {
        self.files.get(app).map_or(Ok(None), read_credential)
    }
}

/// Opens what a daemon with this configuration cannot do without: its key ring, and the credential of every app.
///
/// # Errors
/// Exit 78 with the sentence about the first of them that cannot be used.
pub(crate) fn usable(config: &Config) -> Result<KeyRing, Failure> {
    let unusable = |error: &dyn std::fmt::Display| Failure::new(Exit::Config, error.to_string());
    let ring = KeyRing::load(&config.key_file).map_err(|error| unusable(&error))?;
    for (name, app) in &config.apps {
        read_credential(&app.credential).map_err(|error| unusable(&format!("apps.{name}: {error}")))?;
    }
    if let Some(notify) = &config.notify {
        // Nobody would miss what is never told.
        notify.endpoint().map_err(|error| unusable(&error))?;
    }
    Ok(ring)
}

/// Reads the credential that these files hold; `None` when there are none.
///
/// # Errors
/// A sentence that names the file: it cannot be read, others may read it, or it does not hold what it should.
pub(crate) fn read_credential(files: &CredentialFiles) -> Result<Option<AppCredential>, SecretUnreadable> {
    match files {
        CredentialFiles::None => Ok(None),
        CredentialFiles::Secret(file) => {
            let text = secret(file, "an app's client secret")?;
            Ok(ClientSecret::new(text.as_str()).map(AppCredential::Secret))
        }
        CredentialFiles::Federated(file) => {
            let text = secret(file, "an app's federated token")?;
            Ok(ClientAssertion::new(text.trim()).map(AppCredential::Federated))
        }
        CredentialFiles::Certificate { certificate, private_key } => {
            let keys = secret(private_key, "an app's private key")?;
            // Public, unless somebody keeps both in one file; then what is secret about it was checked above.
            let text = std::fs::read_to_string(certificate)
                .map(Zeroizing::new)
                .map_err(|error| unusable(certificate, &format!("cannot be read as an app's certificate: {error}")))?;
            let pairs = certificates::pair(&text, &keys).map_err(|error| {
                let sentence = error.to_string();
                let about_the_key = sentence.contains("private key");
                unusable(if about_the_key { private_key } else { certificate }, &sentence)
            })?;
            Ok(Some(AppCredential::Certificates(pairs)))
        }
    }
}

fn secret(file: &Path, what: &'static str) -> Result<Zeroizing<String>, SecretUnreadable> {
    read_secret_file(file, what).map_err(|error| SecretUnreadable { reason: error.to_string(), passing: error.is_passing() })
}

fn unusable(file: &Path, what: &str) -> SecretUnreadable {
    SecretUnreadable { reason: format!("{} {what}", file.display()), passing: false }
}

/// What the validity of an app's certificates means today.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Nothing to say.
    Fine,
    /// It works, and something should be done, in a sentence.
    Unwise(String),
    /// No certificate is good now, in a sentence.
    Useless(String),
}

/// Looks at the validity of certificates.
pub(crate) fn outlook(pairs: &[SigningCertificate], now: Ticks) -> Outlook {
    let read = pairs.iter().filter_map(|pair| certificates::read(&pair.certificate_pem).ok()).collect::<Vec<_>>();
    let day = |at: Ticks| at.to_string()[..10].to_owned();
    if read.iter().any(|certificate| certificate.is_valid_at(now)) {
        return match read.iter().find(|certificate| certificate.not_after <= now) {
            Some(old) => Outlook::Unwise(format!(
                "certificate_file holds a certificate that expired on {} ({}); another one is used, so take it out",
                day(old.not_after),
                old.thumbprint
            )),
            None => Outlook::Fine,
        };
    }
    Outlook::Useless(match read.iter().map(|certificate| certificate.not_after).filter(|end| *end <= now).max() {
        Some(end) => {
            format!("the certificate in certificate_file expired on {}; add a new one to the app registration and to this file", day(end))
        }
        None => "the certificate in certificate_file is not good yet; check this machine's clock".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn certificate(from: i32, until: i32) -> (String, String) {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["tocsin.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn write(folder: &Path, name: &str, text: &str, mode: u32) -> std::path::PathBuf {
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn each_kind_is_read_anew_at_every_use() {
        let folder = tempfile::tempdir().unwrap();
        let token = write(folder.path(), "token", "eyJ.first.x\n", 0o600);
        let files = CredentialFiles::Federated(token.clone());
        let read = |files: &CredentialFiles| match read_credential(files).unwrap().unwrap() {
            AppCredential::Federated(token) => secrecy::ExposeSecret::expose_secret(&token).to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(read(&files), "eyJ.first.x");
        std::fs::write(&token, "eyJ.second.x").unwrap();
        assert_eq!(read(&files), "eyJ.second.x", "Kubernetes has replaced it");

        let (old, new) = (certificate(2025, 2027), certificate(2026, 2028));
        let files = CredentialFiles::Certificate {
            certificate: write(folder.path(), "app.crt", &format!("{}{}", old.0, new.0), 0o644),
            private_key: write(folder.path(), "app.key", &format!("{}{}", new.1, old.1), 0o600),
        };
        let Some(AppCredential::Certificates(pairs)) = read_credential(&files).unwrap() else { panic!("two certificates") };
        assert_eq!(pairs.len(), 2);
        let at = |text: &str| outlook(&pairs, Ticks::parse(text).unwrap());
        assert_eq!(at("2026-06-01T00:00:00Z"), Outlook::Fine);
        assert!(matches!(at("2027-06-01T00:00:00Z"), Outlook::Unwise(sentence) if sentence.contains("2027-01-01")));
        assert!(matches!(at("2029-06-01T00:00:00Z"), Outlook::Useless(sentence) if sentence.contains("expired on 2028-01-01")));
        assert!(matches!(at("2024-06-01T00:00:00Z"), Outlook::Useless(sentence) if sentence.contains("clock")));
        assert!(read_credential(&CredentialFiles::None).unwrap().is_none());
    }

    #[test]
    fn what_is_wrong_is_said_of_the_file_that_it_is_wrong_with() {
        let folder = tempfile::tempdir().unwrap();
        let pair = certificate(2025, 2027);
        let certificate = write(folder.path(), "app.crt", &pair.0, 0o644);
        let exposed = write(folder.path(), "exposed.key", &pair.1, 0o644);
        let empty = write(folder.path(), "empty.crt", "", 0o644);
        let good = write(folder.path(), "app.key", &pair.1, 0o600);
        let wrong = write(folder.path(), "wrong.key", &self::certificate(2025, 2027).1, 0o600);
        for (certificate, private_key, words) in [
            (&certificate, &exposed, ["exposed.key", "chmod 600"]),
            (&empty, &good, ["empty.crt", "holds no certificate"]),
            (&certificate, &wrong, ["wrong.key", "holds no private key for the certificate"]),
            (&folder.path().join("gone.crt"), &good, ["gone.crt", "cannot be read"]),
            (&certificate, &folder.path().join("gone.key"), ["gone.key", "cannot read"]),
        ] {
            let files = CredentialFiles::Certificate { certificate: certificate.clone(), private_key: private_key.clone() };
            let unreadable = read_credential(&files).unwrap_err();
            assert!(words.iter().all(|word| unreadable.reason.contains(word)) && !unreadable.passing, "{unreadable:?}");
            assert!(!unreadable.reason.contains("BEGIN PRIVATE"));
        }
    }
}
