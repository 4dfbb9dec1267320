//! `tocsin.alert`: the latest state of each alert, whichever source delivered it.

use std::collections::HashMap;

use sqlx::postgres::PgBindIterExt;
use sqlx::{FromRow, PgConnection};

use crate::store::{Alert, Feed, Judgement, Offer, StoreError, Taken};
use crate::text::storable;

#[derive(FromRow)]
struct TakenRow {
    alert_id: String,
    fresh: bool,
    replaced: Option<Vec<Option<String>>>,
}

impl TakenRow {
    fn before(self) -> Result<Option<Judgement>, StoreError> {
        if self.fresh {
            return Ok(None);
        }
        let before = self.replaced.and_then(|all| Judgement::try_from(all).ok());
        before.map(Some).ok_or_else(|| StoreError::Stumbled("tocsin.alert.replaced".into()))
    }
}

/// Offers the best that this batch knows of each alert; what stands and is higher stays.
///
/// Every row offered is locked, also one that stays, in the order of the offers. `xmax` is zero only in
/// a row that this statement has made. What a row said of people's decisions is moved aside by the very statement
/// that replaces it: nobody can have changed it in between, and no row has to be locked or asked for beforehand.
///
/// Whatever is written carries the number of this transaction, the column's default: what is derived is derived after it.
pub(crate) async fn put(conn: &mut PgConnection, feed: Feed, alerts: &[Alert<'_>], offers: &[Offer]) -> Result<Vec<Taken>, StoreError> {
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
              assigned_to, classification, determination, version_count, first_stored_at, last_stored_at)
         select $1, $2, $3, r.*, statement_timestamp(), statement_timestamp()
         from unnest($4::text[], $5::bytea[], $6::timestamptz[], $7::bigint[], $8::timestamptz[], $9::timestamptz[],
                     $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
                     $17::text[], $18::text[], $19::text[], $20::int[]) as r
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
             assigned_to = excluded.assigned_to,
             classification = excluded.classification,
             determination = excluded.determination,
             replaced = array[a.status, a.assigned_to, a.classification, a.determination, a.severity],
             version_count = a.version_count + excluded.version_count,
             last_stored_at = excluded.last_stored_at,
             changed_xid = excluded.changed_xid
         where (excluded.last_update_ticks, excluded.source_rank) >= (a.last_update_ticks, a.source_rank)
         returning a.alert_id, a.xmax = 0 as fresh, a.replaced",
    )
    .bind(feed.tenant.0)
    .bind(feed.source.as_str())
    .bind(feed.source.rank())
    .bind(offers.iter().map(|offer| alert(offer).id()).bind_iter())
    .bind(offers.iter().map(|offer| alert(offer).record.hash.0).bind_iter())
    .bind(offers.iter().map(|offer| alert(offer).place).bind_iter())
    .bind(offers.iter().map(|offer| alert(offer).ticks()).bind_iter())
    .bind(offers.iter().map(|offer| alert(offer).created()).bind_iter())
    .bind(offers.iter().map(|offer| alert(offer).last_updated()).bind_iter())
    .bind(fact!(incident_id))
    .bind(fact!(title))
    .bind(fact!(severity))
    .bind(fact!(status))
    .bind(fact!(service_source))
    .bind(fact!(detection_source))
    .bind(fact!(category))
    .bind(fact!(assigned_to))
    .bind(fact!(classification))
    .bind(fact!(determination))
    .bind(offers.iter().map(|offer| offer.versions).bind_iter())
    .fetch_all(&mut *conn)
    .await?;

    let places: HashMap<&str, usize> = offers.iter().enumerate().map(|(at, offer)| (alert(offer).id(), at)).collect();
    let mut answer = Vec::with_capacity(taken.len());
    for row in taken {
        let offer = *places.get(row.alert_id.as_str()).ok_or_else(|| StoreError::Stumbled("tocsin.alert.alert_id".into()))?;
        answer.push(Taken { offer, before: row.before()? });
    }
    let mut kept = vec![true; offers.len()];
    answer.iter().for_each(|taken| kept[taken.offer] = false);
    let below: Vec<_> = offers.iter().zip(kept).filter(|(offer, kept)| *kept && offer.versions > 0).map(|(offer, _)| *offer).collect();
    if !below.is_empty() {
        count(conn, feed, alerts, &below).await?;
    }
    Ok(answer)
}

/// Counts versions that were stored below what stands, in rows that [`put`] has locked already.
///
/// An insert that always finds its row: unlike an update that joins, it goes by the key whatever the
/// planner believes of the table.
async fn count(conn: &mut PgConnection, feed: Feed, alerts: &[Alert<'_>], below: &[Offer]) -> Result<(), sqlx::Error> {
    let alert = |offer: &Offer| alerts[offer.record];
    sqlx::query(
        "-- latest::count
         insert into tocsin.alert as a (tenant, source, source_rank, alert_id, hash, version_created_at, version_count)
         select $1, $2, $3, r.alert_id, r.hash, r.filed, r.versions
         from unnest($4::text[], $5::bytea[], $6::timestamptz[], $7::int[]) as r(alert_id, hash, filed, versions)
         on conflict (tenant, alert_id) do update set
             version_count = a.version_count + excluded.version_count,
             last_stored_at = statement_timestamp(),
             changed_xid = excluded.changed_xid",
    )
    .bind(feed.tenant.0)
    .bind(feed.source.as_str())
    .bind(feed.source.rank())
    .bind(below.iter().map(|offer| alert(offer).id()).bind_iter())
    .bind(below.iter().map(|offer| alert(offer).record.hash.0).bind_iter())
    .bind(below.iter().map(|offer| alert(offer).place).bind_iter())
    .bind(below.iter().map(|offer| offer.versions).bind_iter())
    .execute(conn)
    .await
    .map(drop)
}
