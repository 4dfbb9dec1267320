//! `tocsin alerts list` and `tocsin alerts tail`: what is stored, for people and for pipes.

use std::time::Duration;

use domain::{Clock, SystemClock, TenantId};
use sink::read::{AlertFilter, AlertRow, TailCursor, alerts_list, alerts_tail};
use sqlx::PgPool;
use tenant_registry::Registry;

use super::Setting;
use super::asking::unread as failure;
use crate::cli::{self, Alerts};
use crate::failure::Failure;
use crate::output::printable;

/// How often a tail looks.
const LOOK: Duration = Duration::from_secs(1);

/// Reads stored alerts.
pub(super) async fn run(setting: &Setting, command: Alerts) -> Result<(), Failure> {
    let database = setting.database("alerts").await?;
    let result = match command {
        Alerts::List(filter) => list(setting, &database.pool, filter).await,
        Alerts::Tail { filter, no_follow } => tail(setting, &database.pool, filter, no_follow).await,
    };
    database.close().await;
    result
}

async fn list(setting: &Setting, pool: &PgPool, filter: cli::AlertFilter) -> Result<(), Failure> {
    let mut rows = alerts_list(pool, &resolve(pool, filter).await?).await.map_err(failure)?;
    rows.reverse();
    if rows.is_empty() && !setting.output.json {
        setting.output.note("no alerts stored that match; `tocsin tenant list` tells which tenants are being read");
    }
    setting.output.rows(&["STORED", "TENANT", "SEVERITY", "STATUS", "TITLE", "ALERT"], &rows, |row| {
        vec![
            short(row.last_stored_at),
            row.tenant.clone(),
            row.severity.clone().unwrap_or_default(),
            row.status.clone().unwrap_or_default(),
            row.title.clone().unwrap_or_default(),
            row.alert_id.to_string(),
        ]
    })
}

async fn tail(setting: &Setting, pool: &PgPool, filter: cli::AlertFilter, no_follow: bool) -> Result<(), Failure> {
    let filter = resolve(pool, filter).await?;
    let mut last: Vec<AlertRow> = alerts_list(pool, &filter).await.map_err(failure)?;
    last.reverse();
    // From the newest row shown; what is stored at the same instant comes by the tail's own overlap.
    let mut cursor = last.last().map_or_else(TailCursor::from_now, |row| TailCursor::since(row.last_stored_at));
    let mut shown: Vec<_> = last.iter().map(|row| (row.directory_id, row.alert_id.clone(), row.last_stored_at)).collect();
    for row in &last {
        print(setting, row)?;
    }
    if no_follow {
        return Ok(());
    }
    let everything = AlertFilter { limit: 1000, ..filter };
    let mut interrupted = Box::pin(tokio::signal::ctrl_c());
    loop {
        for row in alerts_tail(pool, &everything, &mut cursor).await.map_err(failure)? {
            let key = (row.directory_id, row.alert_id.clone(), row.last_stored_at);
            if !shown.contains(&key) {
                print(setting, &row)?;
            }
        }
        shown.clear();
        tokio::select! {
            _ = &mut interrupted => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// One line: an object, or words.
fn print(setting: &Setting, row: &AlertRow) -> Result<(), Failure> {
    if setting.output.json {
        return setting.output.event(row);
    }
    let text = |value: &Option<String>| printable(value.as_deref().unwrap_or("-"));
    setting.output.line(&format!(
        "{} {} {:13} {:10} {}{}",
        short(row.last_stored_at),
        printable(&row.tenant),
        text(&row.severity),
        text(&row.status),
        text(&row.title),
        if row.version_count > 1 { format!("  (version {})", row.version_count) } else { String::new() }
    ))
}

/// To the second: `2026-11-21T12:00:00Z`.
fn short(stamp: domain::Ticks) -> String {
    let text = stamp.to_string();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

async fn resolve(pool: &PgPool, filter: cli::AlertFilter) -> Result<AlertFilter, Failure> {
    let tenant: Option<TenantId> = match &filter.tenant {
        Some(named) => Some(Registry::without_keys(pool.clone()).find(named).await.map_err(super::tenant::failure)?.id),
        None => None,
    };
    Ok(AlertFilter {
        tenant,
        severity: filter.severity,
        since: filter.since.map(|since| SystemClock.now().minus(since)),
        limit: filter.limit,
    })
}
