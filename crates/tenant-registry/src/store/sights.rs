//! `tocsin.partial_sight`: the alerts of Defender for Endpoint that one source of a tenant holds and the other lacks.

use std::time::Duration;

use domain::TenantId;
use jiff_sqlx::ToSqlx as _;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgExecutor, PgTransaction, Row as _};
use uuid::Uuid;

use crate::sight::{Compared, PartialSight};

impl FromRow<'_, PgRow> for PartialSight {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            since: row.try_get::<jiff_sqlx::Timestamp, _>("since")?.to_jiff(),
            compared: row.try_get("compared")?,
            missing: row.try_get("missing")?,
            newest_at: row.try_get::<jiff_sqlx::Timestamp, _>("newest_at")?.to_jiff(),
            words: row.try_get("words")?,
        })
    }
}

impl FromRow<'_, PgRow> for Compared {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tenant: TenantId(row.try_get("tenant")?),
            compared: row.try_get("compared")?,
            missing: row.try_get("missing")?,
            newest_at: row.try_get::<Option<jiff_sqlx::Timestamp>, _>("newest_at")?.map(jiff_sqlx::Timestamp::to_jiff),
            over: row.try_get("over")?,
        })
    }
}

/// What is known of one tenant, if it is in part only that it is seen.
pub(crate) async fn of(db: impl PgExecutor<'_>, tenant: TenantId) -> Result<Option<PartialSight>, sqlx::Error> {
    sqlx::query_as("-- sights::of\nselect since, compared, missing, newest_at, words from dash.partial_sight where directory_id = $1")
        .bind(tenant.0)
        .fetch_optional(db)
        .await
}

/// Forgets tenants that can be compared no more, and lists those that can: read by an account, through both sources.
pub(crate) async fn comparable(tx: &mut PgTransaction<'_>) -> Result<Vec<TenantId>, sqlx::Error> {
    let tenants: Vec<Uuid> = sqlx::query_scalar(
        "-- sights::comparable
         with comparable as (
             select t.tenant
             from tocsin.tenant t
             join tocsin.tenant_secret s on s.tenant = t.tenant and s.kind = 'refresh-token'
             where t.state = 'active' and t.sources @> array['graph-alerts', 'mde-alerts']
         ), gone as (
             delete from tocsin.partial_sight where not tenant = any (array(select tenant from comparable))
         )
         select tenant from comparable order by tenant",
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(tenants.into_iter().map(TenantId).collect())
}

/// Compares the two sources of these tenants. Those of which nothing can be said yet are not among the answers.
///
/// Compared is what was made within `reach`, in a stretch that mde-alerts was read for completely (`from_at`: whatever was
/// made after it can have no earlier stamp at either source), and that both sources have passed by `settled` since. What
/// lies in an open gap of mde-alerts is left out, and so many as are in its quarantine are taken for found there.
///
/// `over`: what was noted of the tenant before no longer holds, since the newest alert that was missing was looked at
/// again, or is out of reach.
pub(crate) async fn compare(
    tx: &mut PgTransaction<'_>,
    tenants: &[TenantId],
    reach: Duration,
    settled: Duration,
) -> Result<Vec<Compared>, sqlx::Error> {
    sqlx::query_as(
        "-- sights::compare
         with stretch as (
             select m.tenant, m.quarantined,
                 greatest(whole.from_at, now() - $2 * interval '1 second') as from_at,
                 tocsin.ticks_to_timestamptz(least(g.caught_up_ticks, m.caught_up_ticks)) - $3 * interval '1 second' as to_at
             from tocsin.feed m
             join tocsin.feed g on g.tenant = m.tenant and g.source = 'graph-alerts'
             cross join lateral (
                 select tocsin.ticks_to_timestamptz(min(r.from_ticks)) as from_at
                 from tocsin.reread r
                 where r.tenant = m.tenant and r.source = m.source and r.errand <> 'replay'
                     and r.finished_at is not null and r.cancelled_at is null
             ) whole
             where m.tenant = any ($1) and m.source = 'mde-alerts' and g.caught_up_ticks is not null and m.caught_up_ticks is not null
                 and whole.from_at is not null
         )
         select s.tenant, found.compared, greatest(found.missing - s.quarantined, 0) as missing, found.newest_at,
             coalesce(s.from_at <= p.newest_at or p.newest_at < now() - $2 * interval '1 second', false) as over
         from stretch s
         left join tocsin.partial_sight p on p.tenant = s.tenant
         cross join lateral (
             select count(*) as compared, count(*) filter (where e.missing) as missing, max(e.created_at) filter (where e.missing) as newest_at
             from (
                 select a.created_at, not exists (
                     -- The bounds on its own creation leave most partitions unopened.
                     select from tocsin.alert_version v
                     where v.tenant = a.tenant and v.source = 'mde-alerts' and v.alert_id = a.alert_id
                         and (v.created_at >= now() - ($2 + 86400) * interval '1 second' or v.created_at = '-infinity')
                 ) as missing
                 from tocsin.alert a
                 where a.tenant = s.tenant and a.service_source = 'microsoftDefenderForEndpoint'
                     and a.last_updated_at >= s.from_at and a.created_at >= s.from_at and a.created_at < s.to_at
                     and a.first_stored_at < now() - $3 * interval '1 second'
                     and not exists (
                         select from tocsin.gap h
                         where h.tenant = a.tenant and h.source = 'mde-alerts' and h.healed_at is null
                             and case h.axis when 'creation' then a.created_at else a.last_updated_at end
                                 between tocsin.ticks_to_timestamptz(h.from_ticks) and tocsin.ticks_to_timestamptz(h.to_ticks)
                     )
             ) e
         ) found
         order by s.tenant",
    )
    .bind(tenants.iter().map(|tenant| tenant.0).collect::<Vec<_>>())
    .bind(reach.as_secs_f64())
    .bind(settled.as_secs_f64())
    .fetch_all(&mut **tx)
    .await
}

/// Notes what is missing; answers the tenants of which nothing was noted before.
pub(crate) async fn note(tx: &mut PgTransaction<'_>, found: &[&Compared]) -> Result<Vec<TenantId>, sqlx::Error> {
    let rows: Vec<(Uuid, bool)> = sqlx::query_as(
        "-- sights::note
         insert into tocsin.partial_sight as s (tenant, compared, missing, newest_at)
         select * from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::timestamptz[])
         on conflict (tenant) do update set compared = excluded.compared, missing = excluded.missing, newest_at = excluded.newest_at
         where (s.compared, s.missing, s.newest_at) is distinct from (excluded.compared, excluded.missing, excluded.newest_at)
         returning s.tenant, s.xmax = 0",
    )
    .bind(found.iter().map(|found| found.tenant.0).collect::<Vec<_>>())
    .bind(found.iter().map(|found| found.compared).collect::<Vec<_>>())
    .bind(found.iter().map(|found| found.missing).collect::<Vec<_>>())
    .bind(found.iter().map(|found| found.newest_at.map(|at| at.to_sqlx())).collect::<Vec<_>>())
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().filter(|(_, fresh)| *fresh).map(|(tenant, _)| TenantId(tenant)).collect())
}

/// Forgets what was noted of these tenants; answers those of which something was.
pub(crate) async fn forget(tx: &mut PgTransaction<'_>, tenants: &[TenantId]) -> Result<Vec<TenantId>, sqlx::Error> {
    let statement = sqlx::query_scalar("-- sights::forget\ndelete from tocsin.partial_sight where tenant = any ($1) returning tenant");
    let gone: Vec<Uuid> = statement.bind(tenants.iter().map(|tenant| tenant.0).collect::<Vec<_>>()).fetch_all(&mut **tx).await?;
    Ok(gone.into_iter().map(TenantId).collect())
}

/// Of how many tenants something is noted.
pub(crate) async fn count(db: impl PgExecutor<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("-- sights::count\nselect count(*) from dash.partial_sight").fetch_one(db).await
}
