//! `dash.tenant_clock` and what lies under it: access, consent, credentials of apps, and the warnings given.

use domain::{Audience, ReplicaId, TenantId, Ticks};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgExecutor, PgTransaction, Row as _};
use uuid::Uuid;

use crate::clocks::{AppClock, TenantClock};

impl FromRow<'_, PgRow> for TenantClock {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tenant: TenantId(row.try_get("directory_id")?),
            name: row.try_get("tenant")?,
            clock: row.try_get("clock")?,
            ends_at: row.try_get::<Option<jiff_sqlx::Timestamp>, _>("ends_at")?.map(jiff_sqlx::Timestamp::to_jiff),
            days_left: row.try_get("days_left")?,
            estimated: row.try_get("estimated")?,
            words: row.try_get("words")?,
        })
    }
}

pub(crate) async fn all(db: impl PgExecutor<'_>, tenant: Option<TenantId>) -> Result<Vec<TenantClock>, sqlx::Error> {
    sqlx::query_as(
        "-- clocks::all
         select directory_id, tenant, clock, ends_at, days_left, estimated, words
         from dash.tenant_clock
         where $1::uuid is null or directory_id = $1
         order by ends_at nulls last, tenant, clock",
    )
    .bind(tenant.map(|tenant| tenant.0))
    .fetch_all(db)
    .await
}

/// A clock that is near, or of which somebody was warned: whose, which, seconds left, the line of the last warning.
#[derive(Debug, FromRow)]
pub(crate) struct Near {
    pub(crate) tenant: Uuid,
    pub(crate) clock: String,
    pub(crate) left_seconds: f64,
    pub(crate) warned_at_days: Option<i32>,
    pub(crate) words: String,
}

/// Clocks of tenants that `me` holds. Those of apps are told once for all tenants, by [`apps_near`]. Missing consent
/// begins to count when it is first seen, so it is past its end at once.
pub(crate) async fn near(tx: &mut PgTransaction<'_>, me: ReplicaId) -> Result<Vec<Near>, sqlx::Error> {
    sqlx::query_as(
        "-- clocks::near
         select l.tenant, k.clock, w.warned_at_days,
             coalesce(extract(epoch from c.ends_at - now())::float8, 'infinity') as left_seconds, coalesce(c.words, '') as words
         from tocsin.lease l
         cross join (values ('refresh-token'), ('access'), ('consent')) as k (clock)
         left join dash.tenant_clock c on c.directory_id = l.tenant and c.clock = k.clock
         left join tocsin.clock_warning w on w.tenant = l.tenant and w.clock = k.clock
         where l.holder = $1 and (c.ends_at < now() + interval '31 days' or w.tenant is not null)
         order by l.tenant, k.clock",
    )
    .bind(me.0)
    .fetch_all(&mut **tx)
    .await
}

/// Remembers a line, unless another replica has done so since; whether it was us.
pub(crate) async fn remember(tx: &mut PgTransaction<'_>, near: &Near, line: i32) -> Result<bool, sqlx::Error> {
    let result = sqlx::query(
        "-- clocks::remember
         insert into tocsin.clock_warning as w (tenant, clock, ends_at, warned_at_days)
         values ($1, $2, now() + $3 * interval '1 second', $4)
         on conflict (tenant, clock) do update
             set ends_at = excluded.ends_at, warned_at_days = excluded.warned_at_days, warned_at = now()
             where w.warned_at_days = $5",
    )
    .bind(near.tenant)
    .bind(&near.clock)
    .bind(near.left_seconds)
    .bind(line)
    .bind(near.warned_at_days)
    .execute(&mut **tx)
    .await?;
    Ok(result.rows_affected() > 0)
}

pub(crate) async fn forget(tx: &mut PgTransaction<'_>, near: &Near) -> Result<(), sqlx::Error> {
    let statement = sqlx::query("-- clocks::forget\ndelete from tocsin.clock_warning where tenant = $1 and clock = $2");
    statement.bind(near.tenant).bind(&near.clock).execute(&mut **tx).await.map(drop)
}

/// A credential of an app that is near its end, or of which somebody was warned.
#[derive(Debug, FromRow)]
pub(crate) struct AppNear {
    pub(crate) app: String,
    pub(crate) what: String,
    pub(crate) left_seconds: f64,
    pub(crate) warned_at_days: Option<i32>,
}

pub(crate) async fn apps_near(tx: &mut PgTransaction<'_>) -> Result<Vec<AppNear>, sqlx::Error> {
    sqlx::query_as(
        "-- clocks::apps_near
         select app, what, extract(epoch from ends_at - now())::float8 as left_seconds, warned_at_days
         from tocsin.app_clock where ends_at < now() + interval '31 days' or warned_at_days is not null order by app",
    )
    .fetch_all(&mut **tx)
    .await
}

/// Remembers the line of an app, or that there is none, unless another replica has done so since; whether it was us.
pub(crate) async fn remember_app(tx: &mut PgTransaction<'_>, near: &AppNear, line: Option<i32>) -> Result<bool, sqlx::Error> {
    let result = sqlx::query(
        "-- clocks::remember_app
         update tocsin.app_clock set warned_at_days = $2 where app = $1 and warned_at_days is not distinct from $3",
    )
    .bind(&near.app)
    .bind(line)
    .bind(near.warned_at_days)
    .execute(&mut **tx)
    .await?;
    Ok(result.rows_affected() > 0)
}

/// How many tenants have a clock within each of these many days: clock, days, count.
pub(crate) async fn count_within(tx: &mut PgTransaction<'_>, days: &[i32]) -> Result<Vec<(String, i32, i64)>, sqlx::Error> {
    sqlx::query_as(
        "-- clocks::count_within
         select c.clock, d.days, count(*)
         from dash.tenant_clock c join unnest($1::int[]) as d (days) on c.ends_at <= now() + d.days * interval '1 day'
         group by c.clock, d.days",
    )
    .bind(days)
    .fetch_all(&mut **tx)
    .await
}

pub(crate) async fn set_apps(tx: &mut PgTransaction<'_>, apps: &[AppClock]) -> Result<(), sqlx::Error> {
    let names: Vec<&str> = apps.iter().map(|clock| clock.app.as_str()).collect();
    sqlx::query("-- clocks::set_apps (gone)\ndelete from tocsin.app_clock where not app = any($1)").bind(&names).execute(&mut **tx).await?;
    sqlx::query(
        "-- clocks::set_apps
         insert into tocsin.app_clock as c (app, what, ends_at)
         select * from unnest($1::text[], $2::text[], $3::timestamptz[])
         on conflict (app) do update set what = excluded.what, ends_at = excluded.ends_at
         where (c.what, c.ends_at) is distinct from (excluded.what, excluded.ends_at)",
    )
    .bind(&names)
    .bind(apps.iter().map(|clock| clock.what).collect::<Vec<_>>())
    .bind(apps.iter().map(|clock| timestamp(clock.ends_at).to_sqlx()).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await
    .map(drop)
}

/// An end beyond what a timestamp can hold is as far away as one can be.
fn timestamp(ticks: Ticks) -> Timestamp {
    ticks.to_timestamp().unwrap_or(Timestamp::MAX)
}

pub(crate) async fn set_access(tx: &mut PgTransaction<'_>, tenant: TenantId, ends_at: Option<Timestamp>) -> Result<(), sqlx::Error> {
    let statement = match ends_at {
        Some(ends_at) => sqlx::query(
            "-- clocks::set_access
             insert into tocsin.tenant_access as a (tenant, expires_at) values ($1, $2)
             on conflict (tenant) do update set expires_at = excluded.expires_at, said_at = now()",
        )
        .bind(tenant.0)
        .bind(ends_at.to_sqlx()),
        None => sqlx::query("-- clocks::set_access (never)\ndelete from tocsin.tenant_access where tenant = $1").bind(tenant.0),
    };
    statement.execute(&mut **tx).await.map(drop)
}

/// What a token is granted. Written only when it is other than before, or a day has passed.
pub(crate) async fn put_consent(
    tx: &mut PgTransaction<'_>,
    tenant: TenantId,
    audience: Audience,
    granted: &[String],
    missing: &[&str],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- clocks::put_consent
         insert into tocsin.tenant_consent as c (tenant, audience, granted, missing, missing_since)
         values ($1, $2, $3, $4, case when cardinality($4::text[]) > 0 then now() end)
         on conflict (tenant, audience) do update set
             granted = excluded.granted, missing = excluded.missing, seen_at = excluded.seen_at,
             missing_since = case when excluded.missing_since is not null then coalesce(c.missing_since, excluded.missing_since) end
         where c.granted <> excluded.granted or c.missing <> excluded.missing or c.seen_at < now() - interval '1 day'",
    )
    .bind(tenant.0)
    .bind(audience.as_str())
    .bind(granted)
    .bind(missing)
    .execute(&mut **tx)
    .await
    .map(drop)
}

/// Forgets what was noted about a tenant that is removed.
pub(crate) async fn clear(tx: &mut PgTransaction<'_>, tenant: TenantId) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- clocks::clear
         with access as (delete from tocsin.tenant_access where tenant = $1),
              consent as (delete from tocsin.tenant_consent where tenant = $1)
         delete from tocsin.clock_warning where tenant = $1",
    )
    .bind(tenant.0)
    .execute(&mut **tx)
    .await
    .map(drop)
}
