//! `tocsin.quarantine`: records that could not be stored as alerts, kept as received (I6).

use domain::{ContentHash, Source, TenantId};
use sqlx::postgres::PgBindIterExt;
use sqlx::{PgConnection, PgPool};

use crate::store::{Feed, Rejected};
use crate::text::storable;

/// Keeps them and says how many are new, or had been understood before. The same bytes again stay one row.
pub(crate) async fn add(conn: &mut PgConnection, feed: Feed, records: &[Rejected<'_>]) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "-- quarantine::add
         insert into tocsin.quarantine as q (tenant, source, hash, reason, raw_bytes)
         select distinct on (n.hash) $1, $2, n.hash, n.reason, n.raw_bytes
         from unnest($3::bytea[], $4::text[], $5::bytea[]) with ordinality as n(hash, reason, raw_bytes, ord)
         order by n.hash, n.ord
         on conflict (tenant, source, hash) do update set reason = excluded.reason, replay_at = null, tried_at = null, replayed_at = null
         where q.replayed_at is not null",
    )
    .bind(feed.tenant.0)
    .bind(feed.source.as_str())
    .bind(records.iter().map(|record| record.hash.0).bind_iter())
    .bind(records.iter().map(|record| storable(record.reason)).bind_iter())
    .bind(records.iter().map(|record| record.raw).bind_iter())
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Marks what was tried again, and says how many were understood that were not before.
pub(crate) async fn replayed(
    conn: &mut PgConnection,
    feed: Feed,
    understood: &[ContentHash],
    refused: &[ContentHash],
) -> Result<u64, sqlx::Error> {
    if !refused.is_empty() {
        sqlx::query(
            "-- quarantine::tried
             update tocsin.quarantine set tried_at = now()
             where tenant = $1 and source = $2 and hash = any($3::bytea[]) and replayed_at is null",
        )
        .bind(feed.tenant.0)
        .bind(feed.source.as_str())
        .bind(refused.iter().map(|hash| hash.0).bind_iter())
        .execute(&mut *conn)
        .await?;
    }
    if understood.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(
        "-- quarantine::replayed
         update tocsin.quarantine set tried_at = now(), replayed_at = now()
         where tenant = $1 and source = $2 and hash = any($3::bytea[]) and replayed_at is null",
    )
    .bind(feed.tenant.0)
    .bind(feed.source.as_str())
    .bind(understood.iter().map(|hash| hash.0).bind_iter())
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Bodies that an operator wants tried again and that were not since, in a fixed order.
pub(crate) async fn to_replay(pool: &PgPool, tenant: TenantId, source: Source, limit: u32) -> Result<Vec<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar(
        "-- quarantine::to_replay
         select raw_bytes from tocsin.quarantine
         where tenant = $1 and source = $2 and replay_at is not null and replayed_at is null and (tried_at is null or tried_at < replay_at)
         order by seen_at, hash
         limit $3",
    )
    .bind(tenant.0)
    .bind(source.as_str())
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await
}
