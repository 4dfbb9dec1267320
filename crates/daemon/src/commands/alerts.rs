//! `tocsin alerts list`: what is stored. `tocsin alerts tail` has a file of its own.

use domain::{Clock, SystemClock, TenantId};
use sink::read::{AlertFilter, alerts_list};
use sqlx::PgPool;
use tenant_registry::Registry;

use super::Setting;
use super::asking::unread as failure;
use crate::cli::{self, Alerts};
use crate::failure::Failure;

/// Reads stored alerts.
pub(super) async fn run(setting: &Setting, command: Alerts) -> Result<(), Failure> {
    let database = setting.database("alerts").await?;
    let result = match command {
        Alerts::List(filter) => list(setting, &database.pool, filter).await,
        Alerts::Tail(options) => super::tail::run(setting, &database.pool, options).await,
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

/// To the second: `2026-11-21T12:00:00Z`.
pub(super) fn short(stamp: domain::Ticks) -> String {
    let text = stamp.to_string();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

/// The filter as it was typed, with its tenant found.
pub(super) async fn resolve(pool: &PgPool, filter: cli::AlertFilter) -> Result<AlertFilter, Failure> {
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
