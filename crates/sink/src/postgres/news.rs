//! News of feeds: `tocsin.feed` again, but many feeds of many tenants at once, and nobody waits for anybody.

use std::time::Duration;

use sqlx::postgres::{PgArguments, PgBindIterExt, PgRow};
use sqlx::query::QueryAs;
use sqlx::{FromRow, PgConnection, Postgres};

use super::session::Limits;
use super::stamp::PgStamp;
use super::{PgStore, PgTx};
use crate::store::{Item, Noted, StoreError, StoreTx};
use crate::text::storable;

/// A row that somebody else is making right now cannot be passed over, only waited for: for so long.
const MAKING: Duration = Duration::from_millis(200);

/// So many feeds in one statement. Tables that were never analysed are joined row by row, which takes the square of this: ten
/// thousand feeds at once took longer than a statement may.
const AT_ONCE: usize = 500;

/// Writes news, see [`crate::store::Store::note`], so much at a time.
pub(super) async fn write(store: &PgStore, items: &[Item]) -> Result<Noted, StoreError> {
    let mut noted = Noted::default();
    for (number, part) in items.chunks(AT_ONCE).enumerate() {
        // Part of it may be written when this fails. All of it is written again then, which changes nothing.
        let Noted { written, later } = write_part(store, part).await?;
        noted.written += written;
        noted.later.extend(later.into_iter().map(|at| number * AT_ONCE + at));
    }
    Ok(noted)
}

/// First the feeds that have a row, in one statement that passes over what is locked. Then those that have none,
/// which happens once in the life of a feed.
async fn write_part(store: &PgStore, items: &[Item]) -> Result<Noted, StoreError> {
    let mut tx = store.open(store.borrow().await?, store.limits).await?;
    let found = update(tx.conn(), items).await;
    let found = end(tx, found).await?;
    let mut noted = Noted::default();
    let mut parts = vec![Vec::new()];
    for Found { ord, written, there } in found {
        let at = usize::try_from(ord).unwrap_or(0).saturating_sub(1);
        match (written, there) {
            (true, _) => noted.written += 1,
            (false, true) => noted.later.push(at),
            (false, false) => parts[0].push(at),
        }
    }
    parts.retain(|part| !part.is_empty());
    while let Some(part) = parts.pop() {
        let chosen: Vec<&Item> = part.iter().map(|at| &items[*at]).collect();
        let mut tx = store.open(store.borrow().await?, Limits { lock: MAKING.min(store.limits.lock), ..store.limits }).await?;
        let made = make(tx.conn(), &chosen).await;
        match end(tx, made).await {
            Ok(made) => noted.written += made,
            // Somebody is making one of these rows: look for it, so that the others need not wait.
            Err(StoreError::Contention(_)) if part.len() > 1 => {
                let (left, right) = part.split_at(part.len() / 2);
                parts.extend([left.to_vec(), right.to_vec()]);
            }
            Err(StoreError::Contention(_)) => noted.later.extend(part),
            Err(error) => return Err(error),
        }
    }
    noted.later.sort_unstable();
    Ok(noted)
}

async fn end<T>(tx: PgTx, outcome: Result<T, sqlx::Error>) -> Result<T, StoreError> {
    match outcome {
        Ok(value) => tx.commit().await.map(|()| value),
        Err(error) => {
            tx.rollback().await;
            Err(error.into())
        }
    }
}

/// What became of an item whose lease stands: counted from one, written, and whether its feed has a row.
#[derive(FromRow)]
struct Found {
    ord: i64,
    written: bool,
    there: bool,
}

/// Writes what has a row that nobody holds. Each feed is looked up by itself: joined with each other, lists of which nothing
/// is known take the square of their length.
///
/// A lease row that is being claimed this instant is passed over rather than waited for: after the claim this news
/// would be void anyway. A feed's row that is locked is passed over as well, and told.
async fn update(conn: &mut PgConnection, items: &[Item]) -> Result<Vec<Found>, sqlx::Error> {
    let items: Vec<&Item> = items.iter().collect();
    bound(
        "-- news::update
         with held as materialized (
             select n.*, free.ok is not null as written,
                 free.ok is not null or exists (select from tocsin.feed f where f.tenant = n.tenant and f.source = n.source) as there
             from unnest($1::uuid[], $2::bigint[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::bigint[], $7::text[], $8::timestamptz[], $9::text[])
                 with ordinality
                 as n(tenant, epoch, source, last_attempt_at, last_success_at, caught_up_ticks, last_error, throttled_until, read_order, ord)
             cross join lateral (
                 select from tocsin.lease l where l.tenant = n.tenant and l.epoch = n.epoch for key share skip locked
             ) lease
             left join lateral (
                 select true as ok from tocsin.feed f where f.tenant = n.tenant and f.source = n.source for no key update skip locked
             ) free on true
         ),
         written as (
             update tocsin.feed f set
                 last_attempt_at = coalesce(h.last_attempt_at, f.last_attempt_at),
                 last_success_at = coalesce(h.last_success_at, f.last_success_at),
                 caught_up_ticks = greatest(f.caught_up_ticks, h.caught_up_ticks),
                 last_error = h.last_error,
                 throttled_until = h.throttled_until,
                 read_order = h.read_order
             from held h
             where h.written and f.tenant = h.tenant and f.source = h.source
         )
         select ord, written, there from held",
        &items,
    )
    .fetch_all(conn)
    .await
}

/// Makes the rows of feeds that have none, and says how many were written.
async fn make(conn: &mut PgConnection, items: &[&Item]) -> Result<u64, sqlx::Error> {
    let rows: Vec<(i32,)> = bound(
        "-- news::make
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
             read_order = excluded.read_order
         returning 1",
        items,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.len() as u64)
}

fn bound<'q, O: for<'r> FromRow<'r, PgRow>>(sql: &'static str, items: &'q [&'q Item]) -> QueryAs<'q, Postgres, O, PgArguments> {
    sqlx::query_as(sql)
        .bind(items.iter().map(|item| item.fence.tenant.0).bind_iter())
        .bind(items.iter().map(|item| item.fence.epoch.0).bind_iter())
        .bind(items.iter().map(|item| item.source.as_str()).bind_iter())
        .bind(items.iter().map(|item| PgStamp::of(item.attempted_at)).bind_iter())
        .bind(items.iter().map(|item| item.succeeded_at.and_then(PgStamp::of)).bind_iter())
        .bind(items.iter().map(|item| item.caught_up.map(|at| at.0)).bind_iter())
        .bind(items.iter().map(|item| item.error.as_deref().map(storable)).bind_iter())
        .bind(items.iter().map(|item| item.throttled_until.and_then(PgStamp::of)).bind_iter())
        .bind(items.iter().map(|item| item.order.as_str()).bind_iter())
}
