//! `tocsin.incident`: the latest state of each incident, with its body.

use domain::{ContentHash, TenantId};
use sqlx::postgres::PgBindIterExt;
use sqlx::{FromRow, PgConnection};

use crate::store::{Incident, StandingIncident, StoreError};
use crate::text::storable;

#[derive(FromRow)]
struct StandingRow {
    ord: i64,
    hash: Option<Vec<u8>>,
    last_update_ticks: Option<i64>,
    redirect_incident_id: Option<String>,
}

/// Asks for the latest state of each of these, in their order.
pub(crate) async fn look_up(
    conn: &mut PgConnection,
    tenant: TenantId,
    incidents: &[Incident<'_>],
) -> Result<Vec<Option<StandingIncident>>, StoreError> {
    let mut rows: Vec<StandingRow> = sqlx::query_as(
        "-- incidents::look_up
         select r.ord, i.hash, i.last_update_ticks, i.redirect_incident_id
         from unnest($2::text[]) with ordinality as r(incident_id, ord)
         left join lateral (select * from tocsin.incident i where i.tenant = $1 and i.incident_id = r.incident_id limit 1) i on true",
    )
    .bind(tenant.0)
    .bind(incidents.iter().map(Incident::id).bind_iter())
    .fetch_all(conn)
    .await?;
    if rows.len() != incidents.len() {
        return Err(StoreError::Refused(format!("asked about {} incidents, the answer has {}", incidents.len(), rows.len())));
    }
    rows.sort_unstable_by_key(|row| row.ord);
    rows.into_iter().map(StandingRow::standing).collect()
}

impl StandingRow {
    fn standing(self) -> Result<Option<StandingIncident>, StoreError> {
        let Some((hash, ticks)) = self.hash.zip(self.last_update_ticks) else { return Ok(None) };
        let hash = hash.try_into().map_err(|_| StoreError::Stumbled("tocsin.incident.hash".into()))?;
        Ok(Some(StandingIncident { hash: ContentHash(hash), ticks, redirect: self.redirect_incident_id }))
    }
}

/// Replaces the latest state of some of these.
pub(crate) async fn put(conn: &mut PgConnection, tenant: TenantId, incidents: &[Incident<'_>], which: &[usize]) -> Result<(), StoreError> {
    let each = || which.iter().map(|at| &incidents[*at]);
    let done = sqlx::query(
        "-- incidents::put
         insert into tocsin.incident as i
             (tenant, incident_id, hash, last_update_ticks, title, severity, status, redirect_incident_id, created_at, last_updated_at, raw)
         select $1, n.*
         from unnest($2::text[], $3::bytea[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::timestamptz[], $10::timestamptz[], $11::text[]) as n
         on conflict (tenant, incident_id) do update set
             hash = excluded.hash,
             last_update_ticks = excluded.last_update_ticks,
             title = excluded.title,
             severity = excluded.severity,
             status = excluded.status,
             redirect_incident_id = excluded.redirect_incident_id,
             created_at = excluded.created_at,
             last_updated_at = excluded.last_updated_at,
             last_stored_at = statement_timestamp(),
             raw = excluded.raw
         where excluded.last_update_ticks >= i.last_update_ticks and excluded.hash <> i.hash",
    )
    .bind(tenant.0)
    .bind(each().map(Incident::id).bind_iter())
    .bind(each().map(|incident| incident.record.hash.0).bind_iter())
    .bind(each().map(Incident::ticks).bind_iter())
    .bind(each().map(|incident| incident.record.title.as_deref().map(storable)).bind_iter())
    .bind(each().map(|incident| incident.record.severity.as_deref().map(storable)).bind_iter())
    .bind(each().map(|incident| incident.record.status.as_deref().map(storable)).bind_iter())
    .bind(each().map(Incident::redirect).bind_iter())
    .bind(each().map(Incident::created).bind_iter())
    .bind(each().map(Incident::last_updated).bind_iter())
    .bind(each().map(|incident| incident.raw).bind_iter())
    .execute(conn)
    .await?;
    if done.rows_affected() != which.len() as u64 {
        return Err(StoreError::Contention(format!(
            "{} of {} incidents were not written",
            which.len() as u64 - done.rows_affected(),
            which.len()
        )));
    }
    Ok(())
}
