//! `tocsin tenant …`: customers in, out, held and looked at.

mod looking;

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use domain::RefreshToken;
use serde_json::json;
use sqlx::PgPool;
use tenant_registry::{
    AdminError, Alerts, AppRule, ImportError, ImportReport, ImportRules, KeyRing, OpenError, Registry, StateChange, TenantDraft,
    TenantSummary,
};
use zeroize::Zeroizing;

use super::{Setting, connect, invite, verify};
use crate::cli::{Named, Tenant};
use crate::database::Database;
use crate::failure::{Exit, Failure};
use crate::moment::End;

/// Works on tenants.
pub(super) async fn run(setting: &Setting, command: Tenant) -> Result<(), Failure> {
    let name = match &command {
        Tenant::Import { .. } => "tenant import",
        Tenant::Add { .. } => "tenant add",
        Tenant::List => "tenant list",
        Tenant::Show(_) => "tenant show",
        Tenant::Set { .. } => "tenant set",
        Tenant::Pause(_) => "tenant pause",
        Tenant::Resume(_) => "tenant resume",
        Tenant::Invite(_) => "tenant invite",
        Tenant::Connect(_) => "tenant connect",
        Tenant::Verify { .. } => "tenant verify",
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
        Tenant::List => without_keys(setting, name, async |registry, _| looking::list(setting, registry).await).await,
        Tenant::Show(named) => {
            without_keys(setting, name, async |registry, pool| looking::show(setting, registry, pool, &named).await).await
        }
        Tenant::Set { named, access_expires } => {
            without_keys(setting, name, async |registry, _| set(setting, registry, &named, access_expires).await).await
        }
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
        Tenant::Invite(options) => with_keys(setting, name, async |registry| invite::run(setting, registry, options).await).await,
        Tenant::Connect(options) => with_keys(setting, name, async |registry| connect::run(setting, registry, options).await).await,
        Tenant::Verify { named, timeout } => {
            without_keys(setting, name, async |registry, pool| verify::run(setting, registry, pool, &named, timeout).await).await
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

async fn set(setting: &Setting, registry: &Registry, named: &Named, access_expires: End) -> Result<(), Failure> {
    let found = registry.find(&named.tenant).await.map_err(failure)?;
    let ends_at = match access_expires {
        End::Never => None,
        End::At(at) => Some(at.to_timestamp().ok_or_else(|| Failure::new(Exit::Usage, "this date is too far away; write never"))?),
    };
    registry.set_access_end(found.id, ends_at).await.map_err(failure)?;
    if setting.output.json {
        return setting.output.document(&json!({ "directory_id": found.id, "name": found.name, "access_expires": ends_at }));
    }
    setting.output.line(&match ends_at {
        Some(at) => format!("{}: our access ends {at}; you are warned 30, 14 and 3 days before", found.name),
        None => format!("{}: our access has no end", found.name),
    })
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

pub(super) fn rules(setting: &Setting, replace_token: bool) -> ImportRules {
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
    let registry = setting.registry(&database);
    let result = work(&registry, &database.pool).await;
    database.close().await;
    result
}

/// The exit code that fits an error of the registry.
pub(super) fn failure(error: AdminError) -> Failure {
    let exit = match &error {
        AdminError::NotFound { .. } | AdminError::NoReader(_) => Exit::NotFound,
        AdminError::Conflict(_) => Exit::Conflict,
        AdminError::Invalid(_) => Exit::Failed,
        AdminError::Busy => Exit::Temporary,
        AdminError::NoKeys(_) | AdminError::Vault(_) => Exit::Config,
        AdminError::Unaudited(_) => Exit::NoPermission,
        AdminError::Database(_) => Exit::Temporary,
    };
    Failure::new(exit, error.to_string())
}
