//! The months of the version table: how large they are, and when they go.

use domain::Ticks;
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use super::stamp_or_null;
use crate::error::ReadError;
use crate::postgres::stamp::PgStamp;

/// A partition of the version table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionRow {
    /// `2026-11`: its alerts were created in this month, UTC. `None`: the default partition, for those without a usable
    /// creation time, or that are still worked on although their month has gone.
    pub month: Option<String>,
    /// About so many versions, as the last `analyze` saw it; `None` where there was none.
    pub versions: Option<i64>,
    /// What it takes on the disk, in bytes, indices included.
    pub bytes: i64,
    /// From when on it may go; `None` where versions are kept for ever.
    #[serde(serialize_with = "stamp_or_null")]
    pub goes_at: Option<Ticks>,
    /// Of a month that may go: alerts that are still worked on, so that their latest versions have to move first.
    pub kept: Option<i64>,
}

/// A month that went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DroppedRow {
    /// `2026-11`.
    pub month: String,
    /// When.
    #[serde(serialize_with = "stamp_or_null")]
    pub dropped_at: Option<Ticks>,
    /// So many versions were in it.
    pub versions: i64,
    /// So many of them were moved first.
    pub kept: i64,
    /// So much room it took, in bytes.
    pub bytes: i64,
}

#[derive(FromRow)]
struct PartRow {
    month: Option<String>,
    versions: Option<i64>,
    bytes: i64,
    goes_at: Option<PgStamp>,
    kept: Option<i64>,
}

/// The partitions, oldest month first and the default one last.
///
/// # Errors
/// When the database cannot be asked.
pub async fn partitions(pool: &PgPool) -> Result<Vec<PartitionRow>, ReadError> {
    let rows: Vec<PartRow> = sqlx::query_as(
        "-- partitions::partitions
         select to_char(p.month, 'YYYY-MM') as month,
             case when c.reltuples >= 0 then c.reltuples::bigint end as versions,
             pg_total_relation_size(p.part) as bytes,
             p.goes_at,
             case when p.over then (
                 select count(*)
                 from tocsin.alert a, tocsin.retention r
                 where a.version_created_at >= p.month at time zone 'UTC'
                     and a.version_created_at < (p.month + interval '1 month') at time zone 'UTC'
                     and a.last_stored_at >= now() - r.versions
             ) end as kept
         from tocsin.version_part p
         join pg_class c on c.oid = p.part
         order by p.month nulls last",
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| PartitionRow {
            month: row.month,
            versions: row.versions,
            bytes: row.bytes,
            goes_at: row.goes_at.and_then(PgStamp::to_ticks),
            kept: row.kept,
        })
        .collect())
}

/// The months that went, the latest first, no more than so many.
///
/// # Errors
/// When the database cannot be asked.
pub async fn dropped_months(pool: &PgPool, limit: u32) -> Result<Vec<DroppedRow>, ReadError> {
    let rows: Vec<(String, PgStamp, i64, i64, i64)> = sqlx::query_as(
        "-- partitions::dropped_months
         select to_char(month, 'YYYY-MM'), dropped_at, versions, kept, bytes
         from tocsin.dropped_month
         order by dropped_at desc
         limit $1",
    )
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(month, dropped_at, versions, kept, bytes)| DroppedRow { month, dropped_at: dropped_at.to_ticks(), versions, kept, bytes })
        .collect())
}
