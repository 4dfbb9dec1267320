//! Every customer in one row, for whoever watches all of them: can we see it, how late, and if not, who must do what.
//!
//! One statement over schema `dash`. Only who looks after a tenant, and how many daemons run, stand in no view.

use domain::{TenantId, Ticks};
use serde::Serialize;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::{ours, stamp, stamp_or_null};
use crate::error::ReadError;
use crate::postgres::stamp::PgStamp;

/// All customers at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overview {
    /// The moment, by the clock of the database.
    #[serde(serialize_with = "stamp")]
    pub at: Ticks,
    /// Daemons seen in the last ten seconds.
    pub daemons: i64,
    /// The customers who have not gone, by name.
    pub tenants: Vec<OverviewRow>,
}

/// A customer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OverviewRow {
    /// The customer.
    pub directory_id: TenantId,
    /// The operator's name for it.
    pub tenant: String,
    /// As in `dash.tenant_health`.
    pub state: String,
    /// Since when it is so.
    #[serde(serialize_with = "stamp")]
    pub since: Ticks,
    /// What happened, in words.
    pub reason: Option<String>,
    /// What to do, and who must do it.
    pub action: Option<String>,
    /// Of its sources the one that is furthest behind: how old the newest instant is up to which everything is stored.
    /// Nothing while one of them was never read.
    pub lag_seconds: Option<f64>,
    /// Of its sources the one that was read longest ago.
    #[serde(serialize_with = "stamp_or_null")]
    pub last_success_at: Option<Ticks>,
    /// The same, as how long ago.
    pub last_success_seconds: Option<f64>,
    /// Until when Microsoft wants one of its sources left alone.
    #[serde(serialize_with = "stamp_or_null")]
    pub throttled_until: Option<Ticks>,
    /// Alerts stored, or stored anew, within the last hour.
    pub alerts_last_hour: i64,
    /// Whole days until its refresh token ends, estimated.
    pub token_days_left: Option<i32>,
    /// The machine of the daemon that looks after it.
    pub holder: Option<String>,
}

#[derive(FromRow)]
struct Columns {
    directory_id: Uuid,
    tenant: String,
    state: String,
    since: PgStamp,
    reason: Option<String>,
    action: Option<String>,
    lag_seconds: Option<f64>,
    last_success_at: Option<PgStamp>,
    last_success_seconds: Option<f64>,
    throttled_until: Option<PgStamp>,
    alerts_last_hour: i64,
    token_days_left: Option<i32>,
    holder: Option<String>,
}

impl From<Columns> for OverviewRow {
    fn from(row: Columns) -> Self {
        Self {
            directory_id: TenantId(row.directory_id),
            tenant: row.tenant,
            state: row.state,
            since: ours(row.since),
            reason: row.reason,
            action: row.action,
            lag_seconds: row.lag_seconds,
            last_success_at: row.last_success_at.and_then(PgStamp::to_ticks),
            last_success_seconds: row.last_success_seconds,
            throttled_until: row.throttled_until.and_then(PgStamp::to_ticks),
            alerts_last_hour: row.alerts_last_hour,
            token_days_left: row.token_days_left,
            holder: row.holder,
        }
    }
}

/// Reads it; nothing is written.
///
/// # Errors
/// When the database cannot be asked.
pub async fn overview(pool: &PgPool) -> Result<Overview, ReadError> {
    let mut tx = pool.begin_with("begin isolation level repeatable read read only").await?;
    let (at, daemons): (PgStamp, i64) = sqlx::query_as(
        "-- overview::now
         select now(), (select count(*) from tocsin.replica where seen_at > now() - interval '10 seconds')",
    )
    .fetch_one(&mut *tx)
    .await?;
    let rows: Vec<Columns> = sqlx::query_as(
        "-- overview::tenants
         select h.directory_id, h.tenant, h.state, h.since, h.reason, h.action,
             f.lag_seconds, f.last_success_at, extract(epoch from now() - f.last_success_at)::double precision as last_success_seconds,
             f.throttled_until, coalesce(a.alerts, 0) as alerts_last_hour, c.days_left as token_days_left, r.host as holder
         from dash.tenant_health h
         left join (
             select directory_id,
                 case when bool_and(lag_seconds is not null) then max(lag_seconds) end as lag_seconds,
                 case when bool_and(last_success_at is not null) then min(last_success_at) end as last_success_at,
                 max(throttled_until) as throttled_until
             from dash.feed_health group by directory_id
         ) f using (directory_id)
         left join (
             select directory_id, count(*) as alerts from dash.alert where last_stored_at > now() - interval '1 hour' group by directory_id
         ) a using (directory_id)
         left join dash.tenant_clock c on c.directory_id = h.directory_id and c.clock = 'refresh-token'
         left join tocsin.lease l on l.tenant = h.directory_id and l.expires_at > now()
         left join tocsin.replica r on r.replica = l.holder
         where h.state <> 'removed'
         order by h.tenant, h.directory_id",
    )
    .fetch_all(&mut *tx)
    .await?;
    Ok(Overview { at: ours(at), daemons, tenants: rows.into_iter().map(OverviewRow::from).collect() })
}
