//! The archive for a ticket: what the facts without names come to, and nothing that was read from a secret.
//!
//! It is redacted by construction: each file is written from facts that hold numbers in place of names, or from values
//! that are listed here as harmless. A key of the configuration that is not listed shows where it was set, not to what.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::check::{Check, tally};
use super::facts::{DaemonFacts, DatabaseFacts, Facts};
use crate::config::{Config, Origin};
use crate::failure::{Exit, Failure};

/// Sections whose values are spans, counts, switches and words of ours.
const HARMLESS_SECTIONS: &[&str] = &["poll", "ladder", "budget", "log"];
/// Keys elsewhere of which that is true as well.
const HARMLESS_KEYS: &[&str] = &["vault.require_separation"];
/// Metrics whose labels are known to hold no name all begin so.
const METRIC: &str = "tocsin_";

/// The files of the archive, by name.
pub(super) fn contents(config: &Config, facts: &Facts, checks: &[Check]) -> Result<Vec<(&'static str, String)>, Failure> {
    let [well, warn, fail] = tally(checks);
    let doctor = json!({
        "at": facts.now.to_string(),
        "counts": { "ok": well, "warn": warn, "fail": fail },
        "checks": checks,
        "tenants": facts.tenants,
        "tenant": facts.deep,
    });
    let (health, metrics) = match &facts.daemon {
        DaemonFacts::Silent => (json!({ "answers": false }), String::new()),
        DaemonFacts::Answers { ready, stages, metrics } => {
            let stages: Vec<_> =
                stages.iter().map(|(stage, alive, ready)| json!({ "stage": stage, "alive": alive, "ready": ready })).collect();
            (json!({ "answers": true, "ready": ready, "stages": stages }), harmless_metrics(metrics))
        }
    };
    let (postgres, counts) = match &facts.database {
        DatabaseFacts::There(server) => {
            let counts: serde_json::Map<_, _> = server.counts.iter().map(|(table, rows)| (table.clone(), (*rows).into())).collect();
            (json!({ "version": server.version, "embedded": server.embedded }), Value::Object(counts))
        }
        _ => (Value::Null, Value::Null),
    };
    let versions = json!({
        "tocsin": env!("CARGO_PKG_VERSION"), "postgres": postgres, "os": std::env::consts::OS, "architecture": std::env::consts::ARCH,
    });
    let pretty = |value: &Value| {
        serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Failed, format!("cannot write JSON: {error}")))
    };
    Ok(vec![
        ("README.txt", README.to_owned()),
        ("doctor.json", pretty(&doctor)?),
        ("config.json", pretty(&shown_config(config))?),
        ("versions.json", pretty(&versions)?),
        ("health.json", pretty(&health)?),
        ("counts.json", pretty(&counts)?),
        ("metrics.txt", metrics),
    ])
}

const README: &str = "What tocsin doctor found on one machine, made to be shown to others.\n\n\
    Customers, app registrations and clouds are numbers (tenant-3): the same ones in every archive of this database.\n\
    Of the configuration, values that could name something are left out. Rows of counts.json are estimates of the database.\n";

/// Every key that was set: with its value where that is harmless.
fn shown_config(config: &Config) -> Value {
    let mut names: Vec<String> = Vec::new();
    let rows = config.shown.iter().map(|(key, value, origin)| {
        let from = match origin {
            Origin::Default => "default",
            Origin::File(_) => "file",
            Origin::Environment(_) => "environment",
        };
        let section = key.split('.').next().unwrap_or_default();
        let harmless = HARMLESS_SECTIONS.contains(&section) || HARMLESS_KEYS.contains(&key.as_str());
        let value = if harmless {
            value.clone()
        } else if value.is_empty() {
            "(empty)".into()
        } else {
            "(set)".into()
        };
        json!({ "key": without_name(key, &mut names), "value": value, "from": from })
    });
    rows.collect()
}

/// `apps.contoso.grant` as `apps.#1.grant`: the operator chooses these names.
fn without_name(key: &str, names: &mut Vec<String>) -> String {
    let mut parts = key.splitn(3, '.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(section @ ("apps" | "clouds")), Some(name), Some(leaf)) => {
            let whole = format!("{section}.{name}");
            let at = names.iter().position(|known| *known == whole).unwrap_or_else(|| {
                names.push(whole);
                names.len() - 1
            });
            format!("{section}.#{}.{leaf}", at + 1)
        }
        _ => key.to_owned(),
    }
}

/// Our own metrics. Anything else that may answer at that address is none of ours to pass on.
fn harmless_metrics(text: &str) -> String {
    text.lines().filter(|line| line.starts_with(METRIC)).map(|line| format!("{line}\n")).collect()
}

/// Writes the archive, readable by its owner alone, and says its name. A file that is there already is not overwritten.
pub(super) fn write(path: &Path, files: &[(&'static str, String)]) -> Result<String, Failure> {
    let unwritable = |error: io::Error| {
        let exit = if error.kind() == io::ErrorKind::AlreadyExists { Exit::Conflict } else { Exit::Failed };
        Failure::new(exit, format!("cannot write {}: {error}", path.display()))
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(unwritable)?;
    pack(&file, files).and_then(|()| file.sync_all()).map_err(unwritable)?;
    Ok(path.display().to_string())
}

/// Writes the archive to standard output.
pub(super) fn write_out(files: &[(&'static str, String)]) -> Result<String, Failure> {
    let unwritable = |error| Failure::new(Exit::Failed, format!("cannot write the archive to standard output: {error}"));
    pack(io::stdout().lock(), files).map_err(unwritable)?;
    Ok("the archive".to_owned())
}

fn pack(place: impl io::Write, files: &[(&'static str, String)]) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(place, Compression::default()));
    for (name, content) in files {
        // No owner, no times: nothing of this machine.
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_entry_type(tar::EntryType::Regular);
        archive.append_data(&mut header, format!("tocsin-doctor/{name}"), content.as_bytes())?;
    }
    archive.into_inner()?.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_operator_chose_are_numbers_in_the_configuration() {
        let mut names = Vec::new();
        for (key, shown) in [
            ("poll.interval", "poll.interval"),
            ("apps.contoso.grant", "apps.#1.grant"),
            ("apps.contoso.client_id", "apps.#1.client_id"),
            ("apps.fabrikam.grant", "apps.#2.grant"),
            ("clouds.contoso.login_url", "clouds.#3.login_url"),
            ("state_dir", "state_dir"),
        ] {
            assert_eq!(without_name(key, &mut names), shown);
        }
    }

    #[test]
    fn the_archive_is_for_its_owner_and_replaces_nothing() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ticket.tar.gz");
        write(&path, &[("README.txt", "hello".to_owned())]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = flate2::read::GzDecoder::new(std::fs::File::open(&path).unwrap());
        let mut archive = tar::Archive::new(read);
        let names: Vec<_> = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["tocsin-doctor/README.txt"]);
        assert_eq!(write(&path, &[]).unwrap_err().exit, Exit::Conflict);
    }

    #[test]
    fn only_our_own_metrics_are_passed_on() {
        assert_eq!(harmless_metrics("# HELP x\ntocsin_lease_held 3\nother{name=\"x\"} 1\n"), "tocsin_lease_held 3\n");
    }
}
