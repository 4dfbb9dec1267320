//! The secrets of our app registrations, read from their files at every use.
//!
//! Reading anew costs microseconds and means that a rotated secret is picked up without a restart.

use std::collections::BTreeMap;
use std::path::PathBuf;

use domain::ports::{AppSecrets, SecretUnreadable};
use domain::{AppName, ClientSecret};

use crate::config::read_secret_file;

/// Reads client secrets from the files that the configuration names.
pub(crate) struct FileSecrets {
    files: BTreeMap<AppName, PathBuf>,
}

impl FileSecrets {
    /// Secrets are read from these files.
    pub(crate) fn new(files: BTreeMap<AppName, PathBuf>) -> Self {
        Self { files }
    }
}

impl AppSecrets for FileSecrets {
    fn client_secret(&self, app: &AppName) -> Result<Option<ClientSecret>, SecretUnreadable> {
        let Some(file) = self.files.get(app) else { return Ok(None) };
        let text = read_secret_file(file, "an app's client secret")
            .map_err(|error| SecretUnreadable { reason: error.to_string(), passing: error.is_passing() })?;
        Ok(ClientSecret::new(text.as_str()))
    }
}
