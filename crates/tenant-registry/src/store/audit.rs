//! `tocsin.audit` and `tocsin.audit_head`: the rows of the audit log. What they mean stands in [`crate::audit`].

use domain::TenantId;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgExecutor, PgTransaction, Row as _};
use uuid::Uuid;

use crate::store::exactly_one;

/// The end of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeadRow {
    pub(crate) seq: i64,
    pub(crate) hash: Vec<u8>,
}

/// An entry as it lies in the database, believed in nothing.
pub(crate) struct EntryRow {
    pub(crate) tenant: Uuid,
    pub(crate) seq: i64,
    /// `None` when it is no time that we could have written.
    pub(crate) at: Option<Timestamp>,
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) details: String,
    pub(crate) previous: Vec<u8>,
    pub(crate) hash: Vec<u8>,
}

impl FromRow<'_, PgRow> for EntryRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tenant: row.try_get("tenant")?,
            seq: row.try_get("seq")?,
            at: row.try_get::<jiff_sqlx::Timestamp, _>("at").ok().map(jiff_sqlx::Timestamp::to_jiff),
            actor: row.try_get("actor")?,
            action: row.try_get("action")?,
            details: row.try_get("details")?,
            previous: row.try_get("previous")?,
            hash: row.try_get("hash")?,
        })
    }
}

/// The end of a chain, begun if need be, and the time by the database's clock. Until this transaction ends, nobody
/// else appends to that chain.
pub(crate) async fn lock_head(tx: &mut PgTransaction<'_>, tenant: TenantId) -> Result<(HeadRow, Timestamp), sqlx::Error> {
    let row = sqlx::query(
        "-- audit::lock_head
         insert into tocsin.audit_head as h (tenant, seq, hash) values ($1, 0, $2)
         on conflict (tenant) do update set seq = h.seq
         returning h.seq, h.hash, clock_timestamp() as at",
    )
    .bind(tenant.0)
    .bind(&[0_u8; 32][..])
    .fetch_one(&mut **tx)
    .await?;
    let at = row.try_get::<jiff_sqlx::Timestamp, _>("at")?.to_jiff();
    Ok((HeadRow { seq: row.try_get("seq")?, hash: row.try_get("hash")? }, at))
}

/// Writes an entry and makes it the end of its chain.
pub(crate) async fn insert(tx: &mut PgTransaction<'_>, entry: &EntryRow, at: Timestamp) -> Result<(), sqlx::Error> {
    let result = sqlx::query(
        "-- audit::insert
         with written as (
             insert into tocsin.audit (tenant, seq, at, actor, action, details, previous, hash)
             values ($1, $2, $3, $4, $5, $6, $7, $8) returning tenant
         )
         update tocsin.audit_head h set seq = $2, hash = $8 from written where h.tenant = written.tenant and h.seq = $2 - 1",
    )
    .bind(entry.tenant)
    .bind(entry.seq)
    .bind(at.to_sqlx())
    .bind(&entry.actor)
    .bind(&entry.action)
    .bind(&entry.details)
    .bind(&entry.previous)
    .bind(&entry.hash)
    .execute(&mut **tx)
    .await?;
    exactly_one(&result)
}

/// All entries, chain by chain, each in its order.
pub(crate) fn stream<'a>(db: impl PgExecutor<'a> + 'a, tenant: Option<TenantId>) -> BoxStream<'a, Result<EntryRow, sqlx::Error>> {
    sqlx::query_as(
        "-- audit::stream
         select tenant, seq, at, actor, action, details, previous, hash from tocsin.audit
         where $1::uuid is null or tenant = $1 order by tenant, seq",
    )
    .bind(tenant.map(|tenant| tenant.0))
    .fetch(db)
}

/// The newest entries, the last one last.
pub(crate) async fn newest(db: impl PgExecutor<'_>, tenant: Option<TenantId>, limit: i64) -> Result<Vec<EntryRow>, sqlx::Error> {
    let mut rows: Vec<EntryRow> = sqlx::query_as(
        "-- audit::newest
         select tenant, seq, at, actor, action, details, previous, hash from tocsin.audit
         where $1::uuid is null or tenant = $1 order by at desc, seq desc limit $2",
    )
    .bind(tenant.map(|tenant| tenant.0))
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.reverse();
    Ok(rows)
}

/// The end of every chain, or of one.
pub(crate) async fn heads(db: impl PgExecutor<'_>, tenant: Option<TenantId>) -> Result<Vec<(Uuid, i64, Vec<u8>)>, sqlx::Error> {
    sqlx::query_as(
        "-- audit::heads
         select tenant, seq, hash from tocsin.audit_head where $1::uuid is null or tenant = $1 order by tenant",
    )
    .bind(tenant.map(|tenant| tenant.0))
    .fetch_all(db)
    .await
}

/// What was last written under this action.
pub(crate) async fn last_details(tx: &mut PgTransaction<'_>, tenant: TenantId, action: &str) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "-- audit::last_details
         select details from tocsin.audit where tenant = $1 and action = $2 order by seq desc limit 1",
    )
    .bind(tenant.0)
    .bind(action)
    .fetch_optional(&mut **tx)
    .await
}

/// The end of a chain with what was done last.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct End {
    pub(crate) tenant: Uuid,
    pub(crate) seq: i64,
    pub(crate) hash: Vec<u8>,
    pub(crate) action: String,
}

/// The end of every chain that has an entry.
pub(crate) async fn ends(db: impl PgExecutor<'_>) -> Result<Vec<End>, sqlx::Error> {
    sqlx::query_as(
        "-- audit::ends
         select h.tenant, h.seq, h.hash, coalesce(a.action, '') as action
         from tocsin.audit_head h left join tocsin.audit a using (tenant, seq) where h.seq > 0 order by h.tenant",
    )
    .fetch_all(db)
    .await
}

/// A value that changes whenever a chain does, and the time by the database's clock.
pub(crate) async fn fingerprint(db: impl PgExecutor<'_>) -> Result<(Vec<u8>, Timestamp), sqlx::Error> {
    let row = sqlx::query(
        "-- audit::fingerprint
         select sha256(coalesce(string_agg(hash, ''::bytea order by tenant), '')) as print, clock_timestamp() as at from tocsin.audit_head",
    )
    .fetch_one(db)
    .await?;
    Ok((row.try_get("print")?, row.try_get::<jiff_sqlx::Timestamp, _>("at")?.to_jiff()))
}

/// Whose ends are not among the entries.
pub(crate) async fn lacking(db: impl PgExecutor<'_>, ends: &[End]) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "-- audit::lacking
         select k.tenant from unnest($1::uuid[], $2::bigint[], $3::bytea[]) as k(tenant, seq, hash)
         where not exists (select from tocsin.audit a where a.tenant = k.tenant and a.seq = k.seq and a.hash = k.hash)",
    )
    .bind(ends.iter().map(|end| end.tenant).collect::<Vec<_>>())
    .bind(ends.iter().map(|end| end.seq).collect::<Vec<_>>())
    .bind(ends.iter().map(|end| end.hash.as_slice()).collect::<Vec<_>>())
    .fetch_all(db)
    .await
}

/// What the newest entry of this action says is lacking, and was not decided about since: when it was seen, whose, the last deed.
pub(crate) async fn still_undone(
    db: impl PgExecutor<'_>,
    chain: TenantId,
    action: &str,
    days: i32,
) -> Result<Vec<(Option<String>, Uuid, String)>, sqlx::Error> {
    sqlx::query_as(
        "-- audit::still_undone
         select e.details::json ->> 'seen_at', (l ->> 'directory_id')::uuid, coalesce(l ->> 'last', '')
         from (
             select at, details from tocsin.audit where tenant = $1 and action = $2 and at > now() - $3 * interval '1 day'
             order by seq desc limit 1
         ) e
         cross join lateral json_array_elements(e.details::json -> 'lacks') as l
         where not exists (
             select from tocsin.audit a where a.tenant = (l ->> 'directory_id')::uuid and a.at > e.at and a.action <> $2
         )
         order by 2",
    )
    .bind(chain.0)
    .bind(action)
    .bind(days)
    .fetch_all(db)
    .await
}
