//! `tocsin.quarantine`: records that could not be stored as alerts, kept as received (I6).

use domain::{Source, TenantId};
use sqlx::PgConnection;
use sqlx::postgres::PgBindIterExt;

use super::text::storable;
use crate::parts::Rejected;

/// Keeps them and says how many are new. The same bytes again stay one row.
pub(crate) async fn add(conn: &mut PgConnection, tenant: TenantId, source: Source, records: &[Rejected<'_>]) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "-- quarantine::add
         insert into tocsin.quarantine (tenant, source, hash, reason, raw_bytes)
         select $1, $2, q.hash, q.reason, q.raw_bytes
         from unnest($3::bytea[], $4::text[], $5::bytea[]) as q(hash, reason, raw_bytes)
         on conflict do nothing",
    )
    .bind(tenant.0)
    .bind(source.as_str())
    .bind(records.iter().map(|record| record.hash.0).bind_iter())
    .bind(records.iter().map(|record| storable(record.reason)).bind_iter())
    .bind(records.iter().map(|record| record.raw).bind_iter())
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
