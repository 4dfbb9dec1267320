//! `tocsin.gap`: stretches of a source that could not be read.

use domain::{Gap, Source, TenantId};
use sqlx::PgConnection;
use sqlx::postgres::PgBindIterExt;

use super::text::storable;

/// Writes them down and says how many are new. The same stretch again stays one row.
pub(crate) async fn add(conn: &mut PgConnection, tenant: TenantId, source: Source, gaps: &[Gap]) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "-- gaps::add
         insert into tocsin.gap (tenant, source, from_ticks, to_ticks, reason)
         select $1, $2, g.from_ticks, g.to_ticks, g.reason
         from unnest($3::bigint[], $4::bigint[], $5::text[]) as g(from_ticks, to_ticks, reason)
         on conflict do nothing",
    )
    .bind(tenant.0)
    .bind(source.as_str())
    .bind(gaps.iter().map(|gap| gap.from.0).bind_iter())
    .bind(gaps.iter().map(|gap| gap.to.0).bind_iter())
    .bind(gaps.iter().map(|gap| storable(&gap.reason)).bind_iter())
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
