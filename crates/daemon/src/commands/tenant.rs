//! `tocsin tenant …`: customers in, out, held and looked at.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use domain::RefreshToken;
use serde_json::json;
use sqlx::{PgPool, Row};
use tenant_registry::{
    AdminError, Alerts, AppRule, ImportError, ImportReport, ImportRules, KeyRing, OpenError, Registry, StateChange, TenantDraft,
    TenantSummary,
};
use zeroize::Zeroizing;

use super::Setting;
use crate::cli::{Named, Tenant};
use crate::database::Database;
use crate::failure::{Exit, Failure};
use crate::progress::words;

/// Works on tenants.
pub(super) async fn run(setting: &Setting, command: Tenant) -> Result<(), Failure> {
    let name = match &command {
        Tenant::Import { .. } => "tenant import",
        Tenant::Add { .. } => "tenant add",
        Tenant::List => "tenant list",
        Tenant::Show(_) => "tenant show",
        Tenant::Pause(_) => "tenant pause",
        Tenant::Resume(_) => "tenant resume",
        Tenant::Remove { .. } => "tenant remove",
    };
    match command {
        Tenant::Import { file, replace_token } => {
            let content = read_csv(setting, &file)?;
            with_keys(setting, name, async |registry| import(setting, registry, &content, replace_token).await).await
        }
        Tenant::Add { name: called, tenant, cloud, app, sources, refresh_token_stdin, replace_token } => {
            let refresh_token = if refresh_token_stdin { Some(read_token()?) } else { None };
            let draft = TenantDraft { directory_id: tenant, name: called, cloud, app, sources: sources.join(";"), refresh_token };
            with_keys(setting, name, async |registry| add(setting, registry, draft, replace_token).await).await
        }
        Tenant::List => without_keys(setting, name, async |registry, _| list(setting, registry).await).await,
        Tenant::Show(named) => without_keys(setting, name, async |registry, pool| show(setting, registry, pool, &named).await).await,
        Tenant::Pause(named) => {
            without_keys(setting, name, async |registry, _| {
                let found = registry.find(&named.tenant).await.map_err(failure)?;
                changed(setting, &found, registry.pause(found.id).await.map_err(failure)?)
            })
            .await
        }
        Tenant::Resume(named) => {
            without_keys(setting, name, async |registry, _| {
                let found = registry.find(&named.tenant).await.map_err(failure)?;
                changed(setting, &found, registry.resume(found.id).await.map_err(failure)?)
            })
            .await
        }
        Tenant::Remove { named, delete_alerts, keep_alerts, yes } => {
            let wanted = match (delete_alerts, keep_alerts) {
                (true, _) => Some(Alerts::Delete),
                (_, true) => Some(Alerts::Keep),
                _ => None,
            };
            without_keys(setting, name, async |registry, _| super::removal::remove(setting, registry, &named, wanted, yes).await).await
        }
    }
}

async fn import(setting: &Setting, registry: &Registry, content: &[u8], replace_token: bool) -> Result<(), Failure> {
    let report = match registry.import_csv(content, &rules(setting, replace_token)).await {
        Ok(report) => report,
        Err(ImportError::File(sentence)) => return Err(Failure::new(Exit::Failed, sentence)),
        Err(ImportError::Stopped { line, done, source }) => {
            print_report(setting, &done)?;
            return Err(Failure::new(
                Exit::Temporary,
                format!("the import stopped at line {line}: {source}; run it again, since lines that are done change nothing"),
            ));
        }
    };
    print_report(setting, &report)?;
    let failures: Vec<String> = report.failures().map(|(line, _)| line.line.to_string()).collect();
    match failures.as_slice() {
        [] => Ok(()),
        [one] => Err(Failure::new(Exit::Failed, format!("line {one} was not imported; the others were"))),
        many => Err(Failure::new(Exit::Failed, format!("lines {} were not imported; the others were", many.join(", ")))),
    }
}

fn print_report(setting: &Setting, report: &ImportReport) -> Result<(), Failure> {
    if setting.output.json {
        let lines: Vec<_> = report
            .lines
            .iter()
            .map(|line| match &line.result {
                Ok(enrolled) => json!({ "line": line.line, "ok": true, "directory_id": line.tenant, "name": line.name, "state": enrolled.state, "result": enrolled.to_string() }),
                Err(error) => json!({ "line": line.line, "ok": false, "directory_id": line.tenant, "error": error.to_string() }),
            })
            .collect();
        return setting.output.document(&lines);
    }
    for line in &report.lines {
        match &line.result {
            Ok(enrolled) => {
                setting.output.line(&format!("line {}: {}: {enrolled}", line.line, line.name.as_deref().unwrap_or_default()))?
            }
            Err(error) => setting.output.note(&format!("line {}: error: {error}", line.line)),
        }
    }
    Ok(())
}

async fn add(setting: &Setting, registry: &Registry, draft: TenantDraft, replace_token: bool) -> Result<(), Failure> {
    let (id, name) = (draft.directory_id.clone(), draft.name.clone());
    let enrolled = registry.add(draft, &rules(setting, replace_token)).await.map_err(failure)?;
    if setting.output.json {
        setting.output.document(&json!({ "directory_id": id, "name": name, "state": enrolled.state, "result": enrolled.to_string() }))
    } else {
        setting.output.line(&format!("{name}: {enrolled}"))
    }
}

async fn list(setting: &Setting, registry: &Registry) -> Result<(), Failure> {
    let tenants = registry.list().await.map_err(failure)?;
    if tenants.is_empty() && !setting.output.json {
        setting.output.note("no tenants; add one with `tocsin tenant add` or many with `tocsin tenant import`");
    }
    setting.output.rows(&["TENANT", "DIRECTORY ID", "CLOUD", "SOURCES", "STATE", "REASON"], &tenants, |tenant| {
        let sources = tenant.sources.iter().map(|source| source.as_str()).collect::<Vec<_>>().join(";");
        vec![
            tenant.name.clone(),
            tenant.id.to_string(),
            tenant.cloud.to_string(),
            sources,
            tenant.state.to_string(),
            tenant.reason.clone().unwrap_or_default(),
        ]
    })
}

async fn show(setting: &Setting, registry: &Registry, pool: &PgPool, named: &Named) -> Result<(), Failure> {
    let tenant = registry.find(&named.tenant).await.map_err(failure)?;
    let feeds: Vec<serde_json::Value> =
        sqlx::query("select to_jsonb(f) - 'directory_id' as feed from dash.feed_health f where directory_id = $1 order by source")
            .bind(tenant.id.0)
            .fetch_all(pool)
            .await?
            .into_iter()
            .map(|row| row.try_get("feed"))
            .collect::<Result<_, _>>()?;
    let unwritable = |error: serde_json::Error| Failure::new(Exit::Failed, error.to_string());
    let mut document = serde_json::to_value(&tenant).map_err(unwritable)?;
    document["feeds"] = feeds.into();
    let backfills: Vec<_> = sink::read::rereads(pool, Some(tenant.id)).await.map_err(super::asking::unread)?;
    let comparisons: Vec<serde_json::Value> = sqlx::query_scalar(
        "select distinct on (source) to_jsonb(c) - 'directory_id' from dash.reconciliation c where directory_id = $1 order by source, finished_at desc",
    )
    .bind(tenant.id.0)
    .fetch_all(pool)
    .await?;
    for feed in document["feeds"].as_array_mut().into_iter().flatten() {
        let source = feed["source"].clone();
        let backfill = backfills.iter().find(|row| row.errand == domain::Errand::Backfill.as_str() && source == row.source.as_str());
        let comparison = comparisons.iter().find(|row| row["source"] == source);
        if setting.output.json {
            feed["backfill"] = serde_json::to_value(backfill).map_err(unwritable)?;
            feed["last_comparison"] = comparison.cloned().unwrap_or_default();
        } else {
            feed["backfill"] = backfill.map(words).into();
            feed["last_comparison"] = comparison.map(compared).into();
        }
    }
    if setting.output.json {
        return setting.output.document(&document);
    }
    setting.output.rows(&["", ""], &facts("", &document), |(key, value)| vec![key.clone(), value.clone()])
}

/// A comparison in one line.
fn compared(row: &serde_json::Value) -> String {
    let count = |key: &str| row[key].as_i64().unwrap_or(0);
    let differences: Vec<String> = [("missing", "missing"), ("changed", "changed"), ("only_stored", "only stored")]
        .into_iter()
        .filter(|(key, _)| count(key) > 0)
        .map(|(key, words)| format!("{} {words}", count(key)))
        .collect();
    let found = if differences.is_empty() { "nothing differed".to_owned() } else { differences.join(", ") };
    let when = row["finished_at"].as_str().map(|at| at.split_once('.').map_or(at, |(seconds, _)| seconds)).unwrap_or_default();
    format!("{when}: {} at the source, {} stored, {found}", count("at_source"), count("stored"))
}

/// A document as lines of key and value; what is null is left out.
fn facts(prefix: &str, value: &serde_json::Value) -> Vec<(String, String)> {
    match value {
        serde_json::Value::Null => Vec::new(),
        serde_json::Value::Object(members) => members
            .iter()
            .flat_map(|(key, value)| facts(&if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") }, value))
            .collect(),
        serde_json::Value::Array(items) if items.iter().any(serde_json::Value::is_object) => {
            items.iter().flat_map(|item| facts(item["source"].as_str().unwrap_or(prefix), item)).collect()
        }
        serde_json::Value::Array(items) => {
            vec![(prefix.to_owned(), items.iter().map(|item| item.as_str().unwrap_or_default()).collect::<Vec<_>>().join(";"))]
        }
        serde_json::Value::String(text) => vec![(prefix.to_owned(), text.clone())],
        other => vec![(prefix.to_owned(), other.to_string())],
    }
}

fn changed(setting: &Setting, tenant: &TenantSummary, change: StateChange) -> Result<(), Failure> {
    if setting.output.json {
        return setting
            .output
            .document(&json!({ "directory_id": tenant.id, "name": tenant.name, "before": change.before, "state": change.after }));
    }
    if change.happened() {
        setting.output.line(&format!("{}: {} (was {})", tenant.name, change.after, change.before))
    } else {
        setting.output.line(&format!("{}: {} already", tenant.name, change.after))
    }
}

fn rules(setting: &Setting, replace_token: bool) -> ImportRules {
    let apps = setting.config.apps.iter().map(|(name, app)| {
        let rule = AppRule { client_id: app.app.client_id.clone(), uses_refresh_token: app.app.grant == microsoft::Grant::RefreshToken };
        (name.clone(), rule)
    });
    ImportRules { clouds: super::serve::portals(&setting.config), apps: apps.collect(), replace_token }
}

/// The file, or standard input. It holds tokens, so it is wiped from memory, and others should not read it.
fn read_csv(setting: &Setting, file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut content = Zeroizing::new(Vec::new());
    if file == Path::new("-") {
        std::io::stdin()
            .lock()
            .read_to_end(&mut content)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot read standard input: {error}")))?;
        return Ok(content);
    }
    let unreadable = |error: std::io::Error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Failure::new(exit, format!("cannot read {}: {error}", file.display()))
    };
    let mut opened = std::fs::File::open(file).map_err(unreadable)?;
    let mode = opened.metadata().map_err(unreadable)?.mode() & 0o777;
    opened.read_to_end(&mut content).map_err(unreadable)?;
    if mode & 0o077 != 0 {
        setting.output.note(&format!(
            "warning: {} holds refresh tokens and can be read by others (mode {mode:03o}); remove it after the import",
            file.display()
        ));
    }
    Ok(content)
}

fn read_token() -> Result<RefreshToken, Failure> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin()
        .lock()
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot read standard input: {error}")))?;
    RefreshToken::new(text.trim()).ok_or_else(|| Failure::new(Exit::Usage, "standard input holds no refresh token"))
}

pub(super) async fn with_keys(
    setting: &Setting,
    name: &'static str,
    work: impl AsyncFnOnce(&Registry) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let ring = KeyRing::load(&setting.config.key_file).map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    let database = setting.database(name).await?;
    let result = match Registry::open(database.pool.clone(), ring).await {
        Ok(registry) => work(&registry.acting_as(setting.actor.as_str())).await,
        Err(OpenError::Database(error)) => Err(error.into()),
        Err(wrong_ring) => Err(Failure::new(Exit::Config, wrong_ring.to_string())),
    };
    database.close().await;
    result
}

async fn without_keys(
    setting: &Setting,
    name: &'static str,
    work: impl AsyncFnOnce(&Registry, &PgPool) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let database: Database = setting.database(name).await?;
    let registry = Registry::without_keys(database.pool.clone()).acting_as(setting.actor.as_str());
    let result = work(&registry, &database.pool).await;
    database.close().await;
    result
}

/// The exit code that fits an error of the registry.
pub(super) fn failure(error: AdminError) -> Failure {
    let exit = match &error {
        AdminError::NotFound { .. } => Exit::NotFound,
        AdminError::Conflict(_) => Exit::Conflict,
        AdminError::Invalid(_) => Exit::Failed,
        AdminError::Busy => Exit::Temporary,
        AdminError::NoKeys(_) | AdminError::Vault(_) => Exit::Config,
        AdminError::Unaudited(_) => Exit::NoPermission,
        AdminError::Database(_) => Exit::Temporary,
    };
    Failure::new(exit, error.to_string())
}
