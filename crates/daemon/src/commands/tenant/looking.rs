//! `tocsin tenant list` and `tocsin tenant show`.

use serde::Serialize;
use sqlx::{PgPool, Row};
use tenant_registry::{LinkStatus, Registry, TenantClock, TenantSummary, WARNED_AT_DAYS};

use super::failure;
use crate::cli::Named;
use crate::commands::{Setting, asking, invite};
use crate::failure::{Exit, Failure};
use crate::progress::words;

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    tenant: TenantSummary,
    /// The clock that ends first, when it is near.
    next: Option<TenantClock>,
}

/// Lists the tenants.
pub(super) async fn list(setting: &Setting, registry: &Registry) -> Result<(), Failure> {
    let tenants = registry.list().await.map_err(failure)?;
    if tenants.is_empty() && !setting.output.json {
        setting.output.note("no tenants; add one with `tocsin tenant add` or many with `tocsin tenant import`");
    }
    let clocks = registry.clocks(None).await.map_err(failure)?;
    let near = |clock: &&TenantClock| clock.days_left.is_some_and(|days| days < WARNED_AT_DAYS[0]);
    // Of several the first is kept: the nearest.
    let mut next = std::collections::BTreeMap::new();
    for clock in clocks.iter().filter(near) {
        next.entry(clock.tenant).or_insert_with(|| clock.clone());
    }
    let rows: Vec<_> = tenants.into_iter().map(|tenant| Listed { next: next.remove(&tenant.id), tenant }).collect();
    setting.output.rows(&["TENANT", "DIRECTORY ID", "CLOUD", "SOURCES", "STATE", "NEXT", "REASON"], &rows, |Listed { tenant, next }| {
        let sources = tenant.sources.iter().map(|source| source.as_str()).collect::<Vec<_>>().join(";");
        vec![
            tenant.name.clone(),
            tenant.id.to_string(),
            tenant.cloud.to_string(),
            sources,
            tenant.state.to_string(),
            next.as_ref().map(briefly).unwrap_or_default(),
            tenant.reason.clone().unwrap_or_default(),
        ]
    })
}

/// A clock in few words: `access in 12 d`.
fn briefly(clock: &TenantClock) -> String {
    match clock.days_left {
        Some(days) if days >= 0 => format!("{} in {days} d", clock.clock),
        Some(_) => format!("{} over", clock.clock),
        None => clock.clock.clone(),
    }
}

/// A clock in one line.
fn in_full(clock: &TenantClock) -> String {
    let estimated = if clock.estimated { ", estimated" } else { "" };
    match (clock.ends_at, clock.days_left) {
        (Some(at), Some(days)) if days >= 0 => format!("{days} days left ({at:.0}{estimated}): {}", clock.words),
        (Some(at), _) => format!("over since {at:.0}{estimated}: {}", clock.words),
        (None, _) => clock.words.clone(),
    }
}

/// Shows one tenant.
pub(super) async fn show(setting: &Setting, registry: &Registry, pool: &PgPool, named: &Named) -> Result<(), Failure> {
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
    let backfills: Vec<_> = sink::read::rereads(pool, Some(tenant.id)).await.map_err(asking::unread)?;
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
    let clocks = registry.clocks(Some(tenant.id)).await.map_err(failure)?;
    let link = registry.newest_link(tenant.id).await.map_err(failure)?;
    let sight = registry.partial_sight(tenant.id).await.map_err(failure)?;
    if setting.output.json {
        document["link"] = serde_json::to_value(&link).map_err(unwritable)?;
        document["partial_sight"] = serde_json::to_value(&sight).map_err(unwritable)?;
        document["clocks"] = serde_json::to_value(&clocks).map_err(unwritable)?;
        return setting.output.document(&document);
    }
    let mut lines = facts("", &document);
    if let Some(link) = link.filter(|link| link.outcome.is_none()) {
        lines.push(("link".to_owned(), invited(&link)));
        lines.extend(invite::told(&link).pop().map(|line| ("last sign-in".to_owned(), line.trim().to_owned())));
    }
    lines.extend(sight.map(|sight| ("partial sight".to_owned(), sight.words)));
    lines.extend(clocks.iter().map(|clock| (format!("clock {}", clock.clock), in_full(clock))));
    setting.output.rows(&["", ""], &lines, |(key, value)| vec![key.clone(), value.clone()])
}

/// An open invitation in one line.
fn invited(link: &LinkStatus) -> String {
    let opened = link.opened_at.map_or("not opened yet".to_owned(), |at| format!("opened at {at:.0}"));
    let until = if link.expired { "expired at" } else { "good until" };
    format!("{until} {:.0}, {opened}", link.expires_at)
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
