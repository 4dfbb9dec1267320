//! `tocsin config check` and `tocsin config show`.

use domain::{AppCredential, Clock as _, SystemClock};
use serde::Serialize;

use super::Setting;
use crate::cli::ConfigCommand;
use crate::config::{UrlSource, read_secret_file};
use crate::failure::{Exit, Failure};
use crate::secrets::{Outlook, outlook, read_credential};

#[derive(Serialize)]
struct Row {
    key: String,
    value: String,
    origin: String,
}

/// Checks or shows the configuration; the files it names are looked at, nothing is started.
pub(super) fn run(setting: &Setting, command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Show { origin } => {
            let rows: Vec<_> = setting
                .config
                .shown
                .iter()
                .map(|(key, value, origin)| Row { key: key.clone(), value: value.clone(), origin: origin.to_string() })
                .collect();
            let columns = if *origin { 3 } else { 2 };
            setting.output.rows(&["KEY", "VALUE", "FROM"][..columns], &rows, |row| {
                [&row.key, &row.value, &row.origin].into_iter().take(columns).cloned().collect()
            })
        }
        ConfigCommand::Check => {
            let mut warnings = setting.config.warnings.clone();
            warnings.extend(check(setting)?);
            for warning in &warnings {
                setting.output.note(&format!("warning: {warning}"));
            }
            let found = &setting.config.found;
            if setting.output.json {
                let files: Vec<_> = found
                    .iter()
                    .map(|found| serde_json::json!({ "key": found.key, "path": found.path, "place": found.place.words() }))
                    .collect();
                setting.output.document(&serde_json::json!({ "ok": true, "warnings": warnings, "files": files }))
            } else {
                for found in found {
                    setting.output.note(&found.to_string());
                }
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
    let mut warnings = config.shared_files(&ring);
    if config.apps.is_empty() {
        warnings.push("no app registration is configured, so no customer can be connected; add one: [apps.main] with its client_id".into());
    }
    for (name, app) in &config.apps {
        let credential = read_credential(&app.credential).map_err(|error| unusable(&format!("apps.{name}: {error}")))?;
        if let Some(AppCredential::Certificates(pairs)) = &credential {
            match outlook(pairs, SystemClock.now()) {
                Outlook::Fine => {}
                Outlook::Unwise(sentence) => warnings.push(format!("apps.{name}: {sentence}")),
                Outlook::Useless(sentence) => return Err(unusable(&format!("apps.{name}: {sentence}"))),
            }
        }
    }
    if let Some(notify) = &config.notify {
        notify.endpoint().map_err(|error| unusable(&error))?;
    }
    if let Some(UrlSource::File(file)) = &config.database.url {
        read_secret_file(file, "a database URL").map_err(|error| unusable(&format!("database.url_file: {error}")))?;
    }
    if let Some(file) = &config.database.migrate_url_file {
        read_secret_file(file, "a database URL").map_err(|error| unusable(&format!("database.migrate_url_file: {error}")))?;
    }
    Ok(warnings)
}
