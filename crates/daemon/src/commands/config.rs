//! `tocsin config check` and `tocsin config show`.

use serde::Serialize;

use super::Setting;
use crate::cli::ConfigCommand;
use crate::config::{UrlSource, read_secret_file};
use crate::failure::{Exit, Failure};

#[derive(Serialize)]
struct Row {
    key: String,
    value: String,
    origin: String,
}

/// Checks or shows the configuration; the files it names are looked at, nothing is started.
pub(super) fn run(setting: &Setting, command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Show => {
            let rows: Vec<_> = setting
                .config
                .shown
                .iter()
                .map(|(key, value, origin)| Row { key: key.clone(), value: value.clone(), origin: origin.to_string() })
                .collect();
            setting.output.rows(&["KEY", "VALUE", "FROM"], &rows, |row| vec![row.key.clone(), row.value.clone(), row.origin.clone()])
        }
        ConfigCommand::Check => {
            let mut warnings = setting.config.warnings.clone();
            warnings.extend(check(setting)?);
            for warning in &warnings {
                setting.output.note(&format!("warning: {warning}"));
            }
            if setting.output.json {
                setting.output.document(&serde_json::json!({ "ok": true, "warnings": warnings }))
            } else {
                setting.output.line("the configuration is fine")
            }
        }
    }
}

/// The files that the configuration names: there, not open to others, and not empty. Answers what is unwise about them.
fn check(setting: &Setting) -> Result<Vec<String>, Failure> {
    let config = &setting.config;
    let unusable = |error: &dyn std::fmt::Display| Failure::new(Exit::Config, error.to_string());
    let ring = tenant_registry::KeyRing::load(&config.key_file).map_err(|error| unusable(&error))?;
    for (name, app) in &config.apps {
        if let Some(file) = &app.client_secret_file {
            read_secret_file(file, "an app's client secret").map_err(|error| unusable(&format!("apps.{name}: {error}")))?;
        }
    }
    if let Some(UrlSource::File(file)) = &config.database.url {
        read_secret_file(file, "a database URL").map_err(|error| unusable(&format!("database.url_file: {error}")))?;
    }
    if let Some(file) = &config.database.migrate_url_file {
        read_secret_file(file, "a database URL").map_err(|error| unusable(&format!("database.migrate_url_file: {error}")))?;
    }
    Ok(config.shared_files(&ring))
}
