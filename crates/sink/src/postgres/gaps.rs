//! `tocsin.gap`: stretches of a source that could not be read.

use domain::{Axis, Gap, Ticks};
use sqlx::PgConnection;
use sqlx::postgres::PgBindIterExt;

use crate::store::Feed;
use crate::text::storable;

/// Writes them down and says how many were not open before. The same stretch again stays one row.
pub(crate) async fn add(conn: &mut PgConnection, feed: Feed, axis: Axis, gaps: &[Gap]) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "-- gaps::add
         insert into tocsin.gap as g (tenant, source, axis, from_ticks, to_ticks, kind, reason)
         select distinct on (n.from_ticks, n.to_ticks) $1, $2, $3, n.*
         from unnest($4::bigint[], $5::bigint[], $6::text[], $7::text[]) as n(from_ticks, to_ticks, kind, reason)
         order by n.from_ticks, n.to_ticks
         on conflict (tenant, source, from_ticks, to_ticks) do update set
             axis = excluded.axis,
             kind = excluded.kind,
             reason = excluded.reason,
             noticed_at = excluded.noticed_at,
             healed_at = null
         where g.healed_at is not null",
    )
    .bind(feed.tenant.0)
    .bind(feed.source.as_str())
    .bind(axis.as_str())
    .bind(gaps.iter().map(|gap| gap.from.0).bind_iter())
    .bind(gaps.iter().map(|gap| gap.to.0).bind_iter())
    .bind(gaps.iter().map(|gap| gap.kind.as_str()).bind_iter())
    .bind(gaps.iter().map(|gap| storable(&gap.reason)).bind_iter())
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Heals what lies in `[from, to)` altogether, and says how many that were.
pub(crate) async fn heal(
    conn: &mut PgConnection,
    feed: Feed,
    axis: Axis,
    (from, to): (Ticks, Ticks),
    but: &[Gap],
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "-- gaps::heal
         update tocsin.gap g set healed_at = now()
         where g.tenant = $1 and g.source = $2 and g.axis = $3 and g.from_ticks >= $4 and g.to_ticks < $5
           and g.kind <> 'expired' and g.healed_at is null
           and not exists (
               select from unnest($6::bigint[], $7::bigint[]) as n(from_ticks, to_ticks)
               where n.from_ticks = g.from_ticks and n.to_ticks = g.to_ticks
           )",
    )
    .bind(feed.tenant.0)
    .bind(feed.source.as_str())
    .bind(axis.as_str())
    .bind(from.0)
    .bind(to.0)
    .bind(but.iter().map(|gap| gap.from.0).bind_iter())
    .bind(but.iter().map(|gap| gap.to.0).bind_iter())
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
