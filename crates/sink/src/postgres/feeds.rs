//! `tocsin.feed`: how far each source of each tenant has been read.

use domain::{FeedState, Order, Source, TenantId, Ticks};
use sqlx::{FromRow, PgConnection, PgPool};

use super::stamp::PgStamp;
use crate::store::Feed;

#[derive(FromRow)]
struct StateRow {
    watermark_ticks: Option<i64>,
    caught_up_ticks: Option<i64>,
    read_order: String,
    throttled_until: Option<PgStamp>,
}

/// Where a feed stands, if it was ever written.
pub(crate) async fn state(pool: &PgPool, tenant: TenantId, source: Source) -> Result<Option<FeedState>, sqlx::Error> {
    let row: Option<StateRow> = sqlx::query_as(
        "-- feeds::state
         select watermark_ticks, caught_up_ticks, read_order, throttled_until from tocsin.feed where tenant = $1 and source = $2",
    )
    .bind(tenant.0)
    .bind(source.as_str())
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| FeedState {
        watermark: row.watermark_ticks.map(Ticks),
        caught_up: row.caught_up_ticks.map(Ticks),
        order: Order::from_word(&row.read_order),
        throttled_until: row.throttled_until.and_then(PgStamp::to_ticks),
    }))
}

/// Moves the watermark forward, never back, and changes the count of what is in quarantine. Writes nothing when
/// neither changes, which is what most re-reads come to.
pub(crate) async fn advance(conn: &mut PgConnection, feed: Feed, watermark: Option<Ticks>, quarantined: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- feeds::advance
         insert into tocsin.feed as f (tenant, source, watermark_ticks, quarantined)
         values ($1, $2, $3, greatest(0, $4))
         on conflict (tenant, source) do update set
             watermark_ticks = greatest(f.watermark_ticks, excluded.watermark_ticks),
             quarantined = greatest(0, f.quarantined + $4)
         where $4 <> 0 or (excluded.watermark_ticks is not null and f.watermark_ticks is null) or f.watermark_ticks < excluded.watermark_ticks",
    )
    .bind(feed.tenant.0)
    .bind(feed.source.as_str())
    .bind(watermark.map(|watermark| watermark.0))
    .bind(quarantined)
    .execute(conn)
    .await
    .map(drop)
}

/// Sets the first watermark, and with it the backfill of what lies before: both or, when there is a watermark
/// already, neither.
pub(crate) async fn begin(conn: &mut PgConnection, feed: Feed, live_from: Ticks, history_from: Ticks) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- feeds::begin
         with begun as (
             insert into tocsin.feed as f (tenant, source, watermark_ticks)
             values ($1, $2, $3)
             on conflict (tenant, source) do update set watermark_ticks = excluded.watermark_ticks where f.watermark_ticks is null
             returning 1
         )
         insert into tocsin.reread (tenant, source, errand, from_ticks, to_ticks, left_ticks, polled_before_ticks)
         select $1, $2, 'backfill', $4, $3, $3, $3 from begun where $4 < $3
         on conflict do nothing",
    )
    .bind(feed.tenant.0)
    .bind(feed.source.as_str())
    .bind(live_from.0)
    .bind(history_from.0)
    .execute(conn)
    .await
    .map(drop)
}
