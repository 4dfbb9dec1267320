//! Where a file lies that the configuration names by a relative path.
//!
//! A service manager hands over copies of secret files in a folder of its own, `$CREDENTIALS_DIRECTORY`, and names those of a
//! whole folder `FOLDER_FILE`. So `keys/ring` is `keys_ring` there for the service, and the file beside the configuration for
//! whoever types a command: one configuration serves both.

use std::fmt;
use std::path::{Path, PathBuf};

use super::raw::Raw;

/// A relative path, and what was taken for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The key in the configuration.
    pub(crate) key: String,
    named: String,
    /// The file.
    pub(crate) path: PathBuf,
    /// Where that is.
    pub(crate) place: Place,
}

/// Where a relative path led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The folder of the service manager.
    Credentials,
    /// The folder of the configuration file.
    Beside,
    /// The folder in which the program was started.
    Here,
}

impl Place {
    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Credentials => "a credential of the service manager",
            Self::Beside => "beside the configuration file",
            Self::Here => "from the folder in which tocsin was started",
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = \"{}\" is {}, {}", self.key, self.named, self.path.display(), self.place.words())
    }
}

/// The folders in which relative paths are looked for, in this order; then the one in which the program was started.
pub(super) struct Folders<'a> {
    pub(super) credentials: Option<&'a Path>,
    pub(super) beside: Option<&'a Path>,
}

impl Folders<'_> {
    /// Puts what is found in the place of every relative path to a file.
    pub(super) fn settle(&self, raw: &mut Raw) -> Vec<Found> {
        let mut found = Vec::new();
        let key_file = &mut raw.vault.key_file;
        if let Some(ring) = key_file.to_str().and_then(|named| self.find("vault.key_file", named)) {
            *key_file = ring.path.clone();
            found.push(ring);
        }
        let mut texts = vec![
            ("database.url_file".to_owned(), &mut raw.database.url_file),
            ("database.migrate_url_file".to_owned(), &mut raw.database.migrate_url_file),
            ("notify.url_file".to_owned(), &mut raw.notify.url_file),
            ("notify.secret_file".to_owned(), &mut raw.notify.secret_file),
        ];
        for (name, app) in &mut raw.apps {
            let files = [
                ("client_secret_file", &mut app.client_secret_file),
                ("certificate_file", &mut app.certificate_file),
                ("private_key_file", &mut app.private_key_file),
                ("federated_token_file", &mut app.federated_token_file),
            ];
            texts.extend(files.map(|(key, file)| (format!("apps.{name}.{key}"), file)));
        }
        for (key, file) in texts {
            // A path that came as text is text with a folder before it, unless the folder is not.
            if let Some(one) = self.find(&key, file)
                && let Some(path) = one.path.to_str()
            {
                *file = path.to_owned();
                found.push(one);
            }
        }
        found
    }

    fn find(&self, key: &str, named: &str) -> Option<Found> {
        if named.is_empty() || Path::new(named).is_absolute() {
            return None;
        }
        let found = |path: PathBuf, place| Found { key: key.to_owned(), named: named.to_owned(), path, place };
        let credential = self.credentials.map(|folder| folder.join(named.replace('/', "_")));
        let beside = self.beside.map(|folder| folder.join(named));
        let here = PathBuf::from(named);
        Some(match (credential, beside) {
            (Some(credential), _) if credential.exists() => found(credential, Place::Credentials),
            // What is nowhere yet will be made beside the configuration.
            (_, Some(beside)) if beside.exists() || !here.exists() => found(beside, Place::Beside),
            _ => found(here, Place::Here),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_goes_before_what_lies_beside_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let (credentials, beside) = (folder.path().join("credentials"), folder.path().join("etc"));
        std::fs::create_dir_all(&credentials).unwrap();
        std::fs::create_dir_all(beside.join("apps")).unwrap();
        std::fs::write(credentials.join("apps_main.key"), "x").unwrap();
        for file in ["apps/main.key", "apps/main.crt"] {
            std::fs::write(beside.join(file), "x").unwrap();
        }
        let folders = Folders { credentials: Some(&credentials), beside: Some(&beside) };
        let found = |named: &str| folders.find("k", named).map(|found| (found.path, found.place));
        assert_eq!(found("apps/main.key"), Some((credentials.join("apps_main.key"), Place::Credentials)));
        assert_eq!(found("apps/main.crt"), Some((beside.join("apps/main.crt"), Place::Beside)));
        assert_eq!(found("keys/ring"), Some((beside.join("keys/ring"), Place::Beside)), "it will be made there");
        assert_eq!(found("Cargo.toml"), Some((PathBuf::from("Cargo.toml"), Place::Here)), "tests are started in the crate's folder");
        assert_eq!((found("/etc/x"), found("")), (None, None), "an absolute path is what it is");
        let alone = Folders { credentials: None, beside: None };
        assert_eq!(alone.find("k", "keys/ring").map(|found| found.path), Some(PathBuf::from("keys/ring")));
        let sentence = folders.find("apps.main.private_key_file", "apps/main.key").unwrap().to_string();
        assert!(
            sentence.starts_with("apps.main.private_key_file = \"apps/main.key\" is /") && sentence.ends_with("of the service manager")
        );
    }
}
