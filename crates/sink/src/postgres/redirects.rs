//! `tocsin.incident_redirect`: where merged incidents lead in the end.

use domain::TenantId;
use sqlx::postgres::PgBindIterExt;
use sqlx::{FromRow, PgConnection};

use crate::store::Link;

#[derive(FromRow)]
struct LinkRow {
    id: String,
    redirect: Option<String>,
    end: Option<String>,
    beyond: Option<String>,
}

/// The neighbourhood of incidents whose redirect has changed, see [`crate::store::StoreTx::links`].
pub(crate) async fn links(conn: &mut PgConnection, tenant: TenantId, turned: &[&str]) -> Result<Vec<Link>, sqlx::Error> {
    let rows: Vec<LinkRow> = sqlx::query_as(
        r#"-- redirects::links
         with turned as (select t.id from unnest($2::text[]) as t(id)),
         ends as (
             select id from turned
             union
             select r.final_id from turned t join tocsin.incident_redirect r on r.tenant = $1 and r.incident_id = t.id
         ),
         near as (
             select id from ends
             union
             select r.incident_id from ends e join tocsin.incident_redirect r on r.tenant = $1 and r.final_id = e.id
         )
         select n.id, i.redirect_incident_id as redirect, r.final_id as "end", b.final_id as beyond
         from near n
         left join tocsin.incident i on i.tenant = $1 and i.incident_id = n.id
         left join tocsin.incident_redirect r on r.tenant = $1 and r.incident_id = n.id
         left join tocsin.incident_redirect b on b.tenant = $1 and b.incident_id = i.redirect_incident_id"#,
    )
    .bind(tenant.0)
    .bind(turned.iter().copied().bind_iter())
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| Link { id: row.id, redirect: row.redirect, end: row.end, beyond: row.beyond }).collect())
}

/// Records where incidents lead, and forgets those that lead nowhere.
pub(crate) async fn put_ends(conn: &mut PgConnection, tenant: TenantId, ends: &[(String, Option<String>)]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- redirects::put_ends
         with n as (select * from unnest($2::text[], $3::text[]) as n(incident_id, final_id)),
         gone as (
             delete from tocsin.incident_redirect r using n
             where r.tenant = $1 and r.incident_id = n.incident_id and n.final_id is null
         )
         insert into tocsin.incident_redirect (tenant, incident_id, final_id)
         select $1, n.incident_id, n.final_id from n where n.final_id is not null
         on conflict (tenant, incident_id) do update set final_id = excluded.final_id",
    )
    .bind(tenant.0)
    .bind(ends.iter().map(|end| end.0.as_str()).bind_iter())
    .bind(ends.iter().map(|end| end.1.as_deref()).bind_iter())
    .execute(conn)
    .await
    .map(drop)
}
