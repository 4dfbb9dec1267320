//! `tocsin.feed`: how far each source of each tenant has been read.

use domain::{CursorMove, FeedState, Order, Source, TenantId, Ticks};
use sqlx::postgres::PgBindIterExt;
use sqlx::{FromRow, PgConnection, PgPool};

use super::stamp::PgStamp;
use super::text::storable;
use crate::news::Item;

#[derive(FromRow)]
struct StateRow {
    watermark_ticks: Option<i64>,
    read_order: String,
    throttled_until: Option<PgStamp>,
}

/// Where a feed stands, if it was ever written.
pub(crate) async fn state(pool: &PgPool, tenant: TenantId, source: Source) -> Result<Option<FeedState>, sqlx::Error> {
    let row: Option<StateRow> = sqlx::query_as(
        "-- feeds::state
         select watermark_ticks, read_order, throttled_until from tocsin.feed where tenant = $1 and source = $2",
    )
    .bind(tenant.0)
    .bind(source.as_str())
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| FeedState {
        watermark: row.watermark_ticks.map(Ticks),
        order: Order::from_word(&row.read_order),
        throttled_until: row.throttled_until.and_then(PgStamp::to_ticks),
    }))
}

/// Moves the cursor forward, never back, and counts what went to quarantine. Writes nothing when
/// neither changes, which is what most re-reads come to.
pub(crate) async fn advance(
    conn: &mut PgConnection,
    tenant: TenantId,
    source: Source,
    cursor: Option<&CursorMove>,
    quarantined: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- feeds::advance
         insert into tocsin.feed as f (tenant, source, watermark_ticks, quarantined)
         values ($1, $2, $3, $4)
         on conflict (tenant, source) do update set
             watermark_ticks = greatest(f.watermark_ticks, excluded.watermark_ticks),
             quarantined = f.quarantined + excluded.quarantined
         where excluded.quarantined > 0 or f.watermark_ticks is null or f.watermark_ticks < excluded.watermark_ticks",
    )
    .bind(tenant.0)
    .bind(source.as_str())
    .bind(cursor.map(|cursor| cursor.watermark.0))
    .bind(i64::try_from(quarantined).unwrap_or(i64::MAX))
    .execute(conn)
    .await
    .map(drop)
}

/// Writes news of many feeds of many tenants at once, and says how many were written. Those whose lease
/// generation is over are left out.
///
/// A lease row that is being claimed this instant is passed over rather than waited for: one tenant
/// never delays the news of all others, and after the claim this news would be void anyway.
pub(crate) async fn note(conn: &mut PgConnection, items: &[Item]) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "-- feeds::note
         insert into tocsin.feed as f
             (tenant, source, last_attempt_at, last_success_at, caught_up_ticks, last_error, throttled_until, read_order)
         select n.tenant, n.source, n.last_attempt_at, n.last_success_at, n.caught_up_ticks, n.last_error, n.throttled_until, n.read_order
         from unnest($1::uuid[], $2::bigint[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::bigint[], $7::text[], $8::timestamptz[], $9::text[])
             as n(tenant, epoch, source, last_attempt_at, last_success_at, caught_up_ticks, last_error, throttled_until, read_order)
         cross join lateral (
             select 1 from tocsin.lease l where l.tenant = n.tenant and l.epoch = n.epoch for key share skip locked
         ) held
         on conflict (tenant, source) do update set
             last_attempt_at = coalesce(excluded.last_attempt_at, f.last_attempt_at),
             last_success_at = coalesce(excluded.last_success_at, f.last_success_at),
             caught_up_ticks = greatest(f.caught_up_ticks, excluded.caught_up_ticks),
             last_error = excluded.last_error,
             throttled_until = excluded.throttled_until,
             read_order = excluded.read_order",
    )
    .bind(items.iter().map(|item| item.fence.tenant.0).bind_iter())
    .bind(items.iter().map(|item| item.fence.epoch.0).bind_iter())
    .bind(items.iter().map(|item| item.source.as_str()).bind_iter())
    .bind(items.iter().map(|item| PgStamp::of(item.attempted_at)).bind_iter())
    .bind(items.iter().map(|item| item.succeeded_at.and_then(PgStamp::of)).bind_iter())
    .bind(items.iter().map(|item| item.caught_up.map(|at| at.0)).bind_iter())
    .bind(items.iter().map(|item| item.error.as_deref().map(storable)).bind_iter())
    .bind(items.iter().map(|item| item.throttled_until.and_then(PgStamp::of)).bind_iter())
    .bind(items.iter().map(|item| item.order.as_str()).bind_iter())
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
