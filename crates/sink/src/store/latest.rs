//! `tocsin.alert`: the latest state of each alert, whichever source delivered it.

use domain::{Source, TenantId};
use sqlx::postgres::PgBindIterExt;
use sqlx::{FromRow, PgConnection};

use super::text::storable;
use crate::error::StoreError;
use crate::parts::Alert;
use crate::plan::Offer;

/// What became of the offers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Alerts that were not there before.
    pub(crate) fresh: u64,
}

#[derive(FromRow)]
struct TakenRow {
    alert_id: String,
    fresh: bool,
}

/// Offers the best that this batch knows of each alert; what stands and is higher stays.
///
/// Every row offered is locked, also one that stays, in the order of the offers. `xmax` is zero only in
/// a row that this statement has made.
pub(crate) async fn put(
    conn: &mut PgConnection,
    tenant: TenantId,
    source: Source,
    alerts: &[Alert<'_>],
    offers: &[Offer],
) -> Result<Taken, StoreError> {
    let alert = |offer: &Offer| alerts[offer.record];
    macro_rules! fact {
        ($name:ident) => {
            offers.iter().map(|offer| alert(offer).record.facts.$name.as_deref().map(storable)).bind_iter()
        };
    }
    let taken: Vec<TakenRow> = sqlx::query_as(
        "-- latest::put
         insert into tocsin.alert as a
             (tenant, source, source_rank, alert_id, hash, version_created_at, last_update_ticks, created_at, last_updated_at,
              incident_id, title, severity, status, service_source, detection_source, category,
              version_count, first_stored_at, last_stored_at)
         select $1, $2, $3, r.*, statement_timestamp(), statement_timestamp()
         from unnest($4::text[], $5::bytea[], $6::timestamptz[], $7::bigint[], $8::timestamptz[], $9::timestamptz[],
                     $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::int[]) as r
         on conflict (tenant, alert_id) do update set
             source = excluded.source,
             source_rank = excluded.source_rank,
             hash = excluded.hash,
             version_created_at = excluded.version_created_at,
             last_update_ticks = excluded.last_update_ticks,
             created_at = excluded.created_at,
             last_updated_at = excluded.last_updated_at,
             incident_id = excluded.incident_id,
             title = excluded.title,
             severity = excluded.severity,
             status = excluded.status,
             service_source = excluded.service_source,
             detection_source = excluded.detection_source,
             category = excluded.category,
             version_count = a.version_count + excluded.version_count,
             last_stored_at = excluded.last_stored_at
         where (excluded.last_update_ticks, excluded.source_rank) >= (a.last_update_ticks, a.source_rank)
         returning a.alert_id, a.xmax = 0 as fresh",
    )
    .bind(tenant.0)
    .bind(source.as_str())
    .bind(source.rank())
    .bind(offers.iter().map(|offer| alert(offer).record.id.as_str()).bind_iter())
    .bind(offers.iter().map(|offer| alert(offer).record.hash.0).bind_iter())
    .bind(offers.iter().map(|offer| alert(offer).filed).bind_iter())
    .bind(offers.iter().map(|offer| alert(offer).ticks()).bind_iter())
    .bind(offers.iter().map(|offer| alert(offer).created()).bind_iter())
    .bind(offers.iter().map(|offer| alert(offer).record.last_update.and_then(super::stamp::PgStamp::of)).bind_iter())
    .bind(fact!(incident_id))
    .bind(fact!(title))
    .bind(fact!(severity))
    .bind(fact!(status))
    .bind(fact!(service_source))
    .bind(fact!(detection_source))
    .bind(fact!(category))
    .bind(offers.iter().map(|offer| offer.versions).bind_iter())
    .fetch_all(&mut *conn)
    .await?;

    let fresh = taken.iter().filter(|row| row.fresh).count() as u64;
    let taken: std::collections::HashSet<&str> = taken.iter().map(|row| row.alert_id.as_str()).collect();
    let late: Vec<_> =
        offers.iter().filter(|offer| offer.versions > 0 && !taken.contains(alert(offer).record.id.as_str())).copied().collect();
    if !late.is_empty() {
        count(conn, tenant, source, alerts, &late).await?;
    }
    Ok(Taken { fresh })
}

/// Counts versions that were stored below what stands, in rows that [`put`] has locked already.
///
/// An insert that always finds its row: unlike an update that joins, it goes by the key whatever the
/// planner believes of the table.
async fn count(conn: &mut PgConnection, tenant: TenantId, source: Source, alerts: &[Alert<'_>], late: &[Offer]) -> Result<(), sqlx::Error> {
    let alert = |offer: &Offer| alerts[offer.record];
    sqlx::query(
        "-- latest::count
         insert into tocsin.alert as a (tenant, source, source_rank, alert_id, hash, version_created_at, version_count)
         select $1, $2, $3, r.alert_id, r.hash, r.filed, r.versions
         from unnest($4::text[], $5::bytea[], $6::timestamptz[], $7::int[]) as r(alert_id, hash, filed, versions)
         on conflict (tenant, alert_id) do update set
             version_count = a.version_count + excluded.version_count,
             last_stored_at = statement_timestamp()",
    )
    .bind(tenant.0)
    .bind(source.as_str())
    .bind(source.rank())
    .bind(late.iter().map(|offer| alert(offer).record.id.as_str()).bind_iter())
    .bind(late.iter().map(|offer| alert(offer).record.hash.0).bind_iter())
    .bind(late.iter().map(|offer| alert(offer).filed).bind_iter())
    .bind(late.iter().map(|offer| offer.versions).bind_iter())
    .execute(conn)
    .await
    .map(drop)
}
