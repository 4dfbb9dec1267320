//! The rows of single alerts: `tocsin.evidence`, `tocsin.finding`, `tocsin.digested`.

use domain::TenantId;
use sqlx::PgConnection;
use sqlx::postgres::PgBindIterExt;
use sqlx::types::Json;

use super::read::Measured;
use crate::counted::Counted;
use microsoft::evidence::Thing;

/// What was derived from one alert.
#[derive(Clone, Debug)]
pub(crate) struct Derived {
    pub(crate) alert_id: String,
    pub(crate) changed_xid: String,
    pub(crate) counted: Counted,
    pub(crate) things: Vec<Thing>,
    pub(crate) finding: String,
    pub(crate) measured: Measured,
    /// What its body told before still holds, since the body has gone by retention: evidence and finding stay as they are.
    pub(crate) as_before: bool,
    /// Nothing was derived from it before: there is nothing to forget.
    pub(crate) first: bool,
    /// Why nothing could be read from the body.
    pub(crate) skipped: Option<String>,
}

/// Puts what was derived in the place of what was derived before.
pub(crate) async fn put(conn: &mut PgConnection, tenant: TenantId, derived: &[Derived]) -> Result<(), sqlx::Error> {
    let read = || derived.iter().filter(|it| !it.as_before);
    let known: Vec<&str> = read().filter(|it| !it.first).map(|it| it.alert_id.as_str()).collect();
    if !known.is_empty() {
        sqlx::query(
            "-- write::forget_evidence
             delete from tocsin.evidence where tenant = $1 and alert_id = any ($2)",
        )
        .bind(tenant.0)
        .bind(known)
        .execute(&mut *conn)
        .await?;
    }
    let things = || read().flat_map(|it| it.things.iter().map(move |thing| (it, thing)));
    sqlx::query(
        "-- write::evidence
         insert into tocsin.evidence (tenant, alert_id, kind, value, role, verdict, created_at)
         select $1, r.alert_id, r.kind, r.value, nullif(r.role, ''), r.verdict, tocsin.ticks_to_timestamptz(r.created)
         from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[]) as r(alert_id, kind, value, role, verdict, created)",
    )
    .bind(tenant.0)
    .bind(things().map(|(it, _)| it.alert_id.as_str()).bind_iter())
    .bind(things().map(|(_, thing)| thing.kind.as_str()).bind_iter())
    .bind(things().map(|(_, thing)| thing.value.as_str()).bind_iter())
    .bind(things().map(|(_, thing)| thing.roles.join(",")).bind_iter())
    .bind(things().map(|(_, thing)| thing.verdict.as_deref()).bind_iter())
    .bind(things().map(|(it, _)| it.counted.created).bind_iter())
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "-- write::findings
         insert into tocsin.finding (tenant, alert_id, finding)
         select $1, r.alert_id, r.finding::json from unnest($2::text[], $3::text[]) as r(alert_id, finding)
         on conflict (tenant, alert_id) do update set finding = excluded.finding",
    )
    .bind(tenant.0)
    .bind(read().map(|it| it.alert_id.as_str()).bind_iter())
    .bind(read().map(|it| it.finding.as_str()).bind_iter())
    .execute(&mut *conn)
    .await?;
    digested(conn, tenant, derived).await
}

/// Remembers what the alerts are counted as now. The techniques travel as JSON: an array of arrays has to be rectangular.
async fn digested(conn: &mut PgConnection, tenant: TenantId, derived: &[Derived]) -> Result<(), sqlx::Error> {
    macro_rules! counted {
        ($name:ident) => {
            derived.iter().map(|it| it.counted.$name.as_str()).bind_iter()
        };
    }
    sqlx::query(
        "-- write::digested
         insert into tocsin.digested
             (tenant, alert_id, changed_xid, created_at, title, severity, status, service_source, classification, techniques, measured, skipped)
         select $1, r.alert_id, r.changed::xid8, tocsin.ticks_to_timestamptz(r.created), r.title, r.severity, r.status, r.service, r.class,
             array(select jsonb_array_elements_text(r.techniques)), r.measured, r.skipped
         from unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::jsonb[], $11::jsonb[], $12::text[])
             as r(alert_id, changed, created, title, severity, status, service, class, techniques, measured, skipped)
         on conflict (tenant, alert_id) do update set
             changed_xid = excluded.changed_xid,
             created_at = excluded.created_at,
             title = excluded.title,
             severity = excluded.severity,
             status = excluded.status,
             service_source = excluded.service_source,
             classification = excluded.classification,
             techniques = excluded.techniques,
             measured = excluded.measured,
             skipped = excluded.skipped",
    )
    .bind(tenant.0)
    .bind(derived.iter().map(|it| it.alert_id.as_str()).bind_iter())
    .bind(derived.iter().map(|it| it.changed_xid.as_str()).bind_iter())
    .bind(derived.iter().map(|it| it.counted.created).bind_iter())
    .bind(counted!(title))
    .bind(counted!(severity))
    .bind(counted!(status))
    .bind(counted!(service_source))
    .bind(counted!(classification))
    .bind(derived.iter().map(|it| Json(&it.counted.techniques)).collect::<Vec<_>>())
    .bind(derived.iter().map(|it| Json(&it.measured)).collect::<Vec<_>>())
    .bind(derived.iter().map(|it| it.skipped.as_deref()).bind_iter())
    .execute(conn)
    .await
    .map(drop)
}
