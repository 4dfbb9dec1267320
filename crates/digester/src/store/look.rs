//! Who has something to derive: one statement for a thousand tenants, who cost a thousand probes of an index while they are
//! idle and nothing else.

use domain::TenantId;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use crate::step::VERSION;

/// A tenant that is not wholly derived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Due {
    /// Whose alerts.
    pub tenant: TenantId,
    /// It is one of those asked about; otherwise a customer who has gone and whose alerts were kept.
    pub held: bool,
    /// There is something that can be derived now. If not, some transaction that is still running holds it up.
    pub ready: bool,
    /// How long the oldest change waits, in seconds.
    pub lag: f64,
}

/// So many tenants are asked about at once: a connection keeps the room for the longest statement that it has carried.
const AT_ONCE: usize = 1000;

#[derive(FromRow)]
struct DueRow {
    tenant: Uuid,
    held: bool,
    ready: bool,
    lag: f64,
}

/// Those of the tenants asked about, and of those who have gone, that are not wholly derived.
///
/// # Errors
/// When the database cannot be asked.
pub async fn look(pool: &PgPool, held: &[TenantId]) -> Result<Vec<Due>, sqlx::Error> {
    let (first, rest) = held.split_at(held.len().min(AT_ONCE));
    let mut due = look_at(pool, first, true).await?;
    for some in rest.chunks(AT_ONCE) {
        due.extend(look_at(pool, some, false).await?);
    }
    Ok(due)
}

/// The same of few, and of those who have gone if that is wanted.
async fn look_at(pool: &PgPool, held: &[TenantId], gone: bool) -> Result<Vec<Due>, sqlx::Error> {
    let rows: Vec<DueRow> = sqlx::query_as(
        "-- look::look
         with here as materialized (
             select system_identifier, pg_snapshot_xmin(pg_current_snapshot()) as horizon, pg_snapshot_xmax(pg_current_snapshot()) as ahead
             from pg_control_system()
         ), asked as (
             select tenant, true as held from unnest($1::uuid[]) as h(tenant)
             union all select tenant, false from tocsin.tenant where $3 and state = 'removed'
         ), found as (
             select asked.tenant, asked.held, anew.anew or d.swept_to is not null or coalesce(w.changed_xid < here.horizon, false) as ready,
                 case when d.swept_to is not null then d.begun_at else w.last_stored_at end as since, w.changed_xid is not null as waits
             from asked cross join here
             left join tocsin.derivation d using (tenant)
             cross join lateral (
                 select case
                     when d.tenant is null then asked.held or exists (select from tocsin.alert a where a.tenant = asked.tenant)
                     else d.version <> $2 or d.system_id <> here.system_identifier
                 end as anew
             ) anew
             left join lateral (
                 select a.changed_xid, a.last_stored_at
                 from tocsin.alert a
                 where a.tenant = asked.tenant and a.changed_xid >= d.upto and a.changed_xid < here.ahead
                     and not exists (
                         select from tocsin.digested g where g.tenant = a.tenant and g.alert_id = a.alert_id and g.changed_xid = a.changed_xid
                     )
                 order by a.changed_xid
                 limit 1
             ) w on true
         )
         select tenant, held, ready, greatest(0, coalesce(extract(epoch from now() - since), 0))::float8 as lag from found where ready or waits",
    )
    .bind(held.iter().map(|tenant| tenant.0).collect::<Vec<_>>())
    .bind(VERSION)
    .bind(gone)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| Due { tenant: TenantId(row.tenant), held: row.held, ready: row.ready, lag: row.lag }).collect())
}
