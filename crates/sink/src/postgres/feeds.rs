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

/// Moves the watermark forward, never back, and writes nothing when it stays. `false`, and nothing is written, when it
/// stands before `from` or nowhere.
pub(crate) async fn advance(conn: &mut PgConnection, feed: Feed, from: Ticks, to: Ticks) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "-- feeds::advance
         with stands as (
             select watermark_ticks from tocsin.feed where tenant = $1 and source = $2 and watermark_ticks >= $3
         ), moved as (
             update tocsin.feed set watermark_ticks = $4
             where tenant = $1 and source = $2 and watermark_ticks >= $3 and watermark_ticks < $4
         )
         select exists (select from stands)",
    )
    .bind(feed.tenant.0)
    .bind(feed.source.as_str())
    .bind(from.0)
    .bind(to.0)
    .fetch_one(conn)
    .await
}

/// Changes the count of what is in quarantine, which never falls below zero. Makes the feed's row if need be.
pub(crate) async fn count_quarantined(conn: &mut PgConnection, feed: Feed, change: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- feeds::count_quarantined
         insert into tocsin.feed as f (tenant, source, quarantined) values ($1, $2, greatest(0, $3))
         on conflict (tenant, source) do update set quarantined = greatest(0, f.quarantined + $3)",
    )
    .bind(feed.tenant.0)
    .bind(feed.source.as_str())
    .bind(change)
    .execute(conn)
    .await
    .map(drop)
}

/// Sets the first watermark, and with it the backfill of what lies before: both or, when there is a watermark
/// already, neither. A backfill that was asked for before is widened.
pub(crate) async fn begin(conn: &mut PgConnection, feed: Feed, live_from: Ticks, history_from: Ticks) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- feeds::begin
         with begun as (
             insert into tocsin.feed as f (tenant, source, watermark_ticks)
             values ($1, $2, $3)
             on conflict (tenant, source) do update set watermark_ticks = excluded.watermark_ticks where f.watermark_ticks is null
             returning 1
         )
         insert into tocsin.reread as r (tenant, source, errand, from_ticks, to_ticks, left_ticks, polled_before_ticks)
         select $1, $2, 'backfill', $4, $3, $3, $3 from begun where $4 < $3
         on conflict (tenant, source, errand) do update set
             run = r.run + 1,
             axis = 'update',
             from_ticks = least(r.from_ticks, excluded.from_ticks),
             to_ticks = greatest(r.to_ticks, excluded.to_ticks),
             left_ticks = greatest(r.to_ticks, excluded.to_ticks),
             polled_before_ticks = excluded.polled_before_ticks,
             finished_at = null,
             cancelled_at = null",
    )
    .bind(feed.tenant.0)
    .bind(feed.source.as_str())
    .bind(live_from.0)
    .bind(history_from.0)
    .execute(conn)
    .await
    .map(drop)
}
