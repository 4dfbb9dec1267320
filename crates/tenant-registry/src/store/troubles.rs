//! `tocsin.trouble` and `tocsin.app_fault`: what does not work now, and what an operator sees of it.

use domain::{AppName, CloudName, ReplicaId, ReportOrigin, TenantId};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgExecutor, PgTransaction};
use uuid::Uuid;

/// One trouble to be written.
#[derive(Debug)]
pub(crate) struct TroubleRow {
    pub(crate) tenant: TenantId,
    pub(crate) origin: &'static str,
    pub(crate) verdict: &'static str,
    /// How long it must have lasted before it is shown.
    pub(crate) shown_after_seconds: f64,
    pub(crate) reason: String,
    pub(crate) action: String,
    pub(crate) error_code: Option<String>,
    /// The number that Microsoft gave the request, and when it answered.
    pub(crate) trace_id: Option<String>,
    pub(crate) answered_at: Option<Timestamp>,
}

/// An open trouble: tenant, origin, verdict.
pub(crate) type OpenRow = (Uuid, String, String);

/// Writes troubles; returns those that stand as given.
///
/// A trouble has one of three characters: a need for consent, a need for the customer, or passing. As
/// long as its character stays, so do `since` and `shown_from`, and only the words are renewed. A
/// passing trouble never covers a need: that a probe could not reach the sign-in service says nothing
/// about the consent that is missing.
pub(crate) async fn put(tx: &mut PgTransaction<'_>, rows: &[TroubleRow]) -> Result<Vec<OpenRow>, sqlx::Error> {
    sqlx::query_as(
        "-- troubles::put
         insert into tocsin.trouble as x (tenant, origin, verdict, shown_from, reason, action, error_code, trace_id, answered_at)
         select n.tenant, n.origin, n.verdict, now() + n.shown_after * interval '1 second', n.reason, n.action, n.error_code, n.trace_id, n.answered_at
         from (
             -- Alone with the tenant: an operator may be taking this very source from it.
             select n.*
             from unnest($1::uuid[], $2::text[], $3::text[], $4::float8[], $5::text[], $6::text[], $7::text[],
                         $10::text[], $11::timestamptz[])
                 as n (tenant, origin, verdict, shown_after, reason, action, error_code, trace_id, answered_at)
             join tocsin.tenant t using (tenant)
             where n.origin = $9 or n.origin = any(t.sources)
             order by n.tenant, n.origin
             for share of t
         ) n
         on conflict (tenant, origin) do update set
             since = case when x.verdict = excluded.verdict or not excluded.verdict = any($8) then x.since else excluded.since end,
             shown_from = case when x.verdict = excluded.verdict or not excluded.verdict = any($8) then x.shown_from else excluded.shown_from end,
             verdict = excluded.verdict, seen_at = excluded.seen_at,
             reason = excluded.reason, action = excluded.action, error_code = excluded.error_code,
             trace_id = excluded.trace_id, answered_at = excluded.answered_at
         where excluded.verdict = any($8) or not x.verdict = any($8)
         returning tenant, origin, verdict",
    )
    .bind(rows.iter().map(|row| row.tenant.0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.origin).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.verdict).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.shown_after_seconds).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.reason.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.action.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.error_code.as_deref()).collect::<Vec<_>>())
    .bind(NEEDS)
    .bind(ReportOrigin::SignIn.as_str())
    .bind(rows.iter().map(|row| row.trace_id.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.answered_at.map(|at| at.to_sqlx())).collect::<Vec<_>>())
    .fetch_all(&mut **tx)
    .await
}

/// The verdicts that make an active tenant one in need.
pub(crate) const NEEDS: &[&str] = &["needs-consent", "needs-customer"];

/// Ends troubles that are over.
pub(crate) async fn end(tx: &mut PgTransaction<'_>, over: &[(TenantId, &'static str)]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- troubles::end
         delete from tocsin.trouble x using unnest($1::uuid[], $2::text[]) as n (tenant, origin)
         where x.tenant = n.tenant and x.origin = n.origin",
    )
    .bind(over.iter().map(|(tenant, _)| tenant.0).collect::<Vec<_>>())
    .bind(over.iter().map(|(_, origin)| *origin).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await
    .map(drop)
}

/// Ends all troubles of a tenant.
pub(crate) async fn clear(tx: &mut PgTransaction<'_>, tenant: TenantId) -> Result<(), sqlx::Error> {
    let statement = sqlx::query("-- troubles::clear\ndelete from tocsin.trouble where tenant = $1");
    statement.bind(tenant.0).execute(&mut **tx).await.map(drop)
}

/// Ends the troubles of sources that the tenant reads no longer: nobody would ever find them to work.
pub(crate) async fn forget_unread(tx: &mut PgTransaction<'_>, tenant: TenantId) -> Result<(), sqlx::Error> {
    let statement = sqlx::query(
        "-- troubles::forget_unread
         delete from tocsin.trouble x using tocsin.tenant t
         where x.tenant = $1 and t.tenant = x.tenant and x.origin <> $2 and not x.origin = any(t.sources)",
    );
    statement.bind(tenant.0).bind(ReportOrigin::SignIn.as_str()).execute(&mut **tx).await.map(drop)
}

/// The open troubles of all tenants that `me` holds.
pub(crate) async fn open(db: impl PgExecutor<'_>, me: ReplicaId) -> Result<Vec<OpenRow>, sqlx::Error> {
    sqlx::query_as(
        "-- troubles::open
         select x.tenant, x.origin, x.verdict from tocsin.trouble x join tocsin.lease l using (tenant) where l.holder = $1",
    )
    .bind(me.0)
    .fetch_all(db)
    .await
}

/// A fault of our own app registration to be written.
#[derive(Debug)]
pub(crate) struct FaultRow<'a> {
    pub(crate) app: &'a AppName,
    pub(crate) cloud: &'a CloudName,
    pub(crate) reason: String,
    pub(crate) action: String,
    pub(crate) error_code: Option<String>,
    pub(crate) trace_id: Option<String>,
    pub(crate) answered_at: Option<Timestamp>,
}

/// Writes a fault; `true` when it was not known before.
pub(crate) async fn put_fault(tx: &mut PgTransaction<'_>, fault: &FaultRow<'_>) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "-- troubles::put_fault
         insert into tocsin.app_fault as f (app, cloud, reason, action, error_code, trace_id, answered_at) values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (app, cloud) do update set seen_at = now(), reason = excluded.reason, action = excluded.action,
             error_code = excluded.error_code, trace_id = excluded.trace_id, answered_at = excluded.answered_at
         returning f.xmax = 0",
    )
    .bind(fault.app.as_str())
    .bind(fault.cloud.as_str())
    .bind(&fault.reason)
    .bind(&fault.action)
    .bind(fault.error_code.as_deref())
    .bind(fault.trace_id.as_deref())
    .bind(fault.answered_at.map(|at| at.to_sqlx()))
    .fetch_one(&mut **tx)
    .await
}

/// Ends a fault; `true` when there was one.
pub(crate) async fn end_fault(tx: &mut PgTransaction<'_>, app: &AppName, cloud: &CloudName) -> Result<bool, sqlx::Error> {
    let statement = sqlx::query("-- troubles::end_fault\ndelete from tocsin.app_fault where app = $1 and cloud = $2");
    Ok(statement.bind(app.as_str()).bind(cloud.as_str()).execute(&mut **tx).await?.rows_affected() > 0)
}

/// The known faults, by app and cloud.
pub(crate) async fn faults(db: impl PgExecutor<'_>) -> Result<Vec<(String, String)>, sqlx::Error> {
    sqlx::query_as("-- troubles::faults\nselect app, cloud from tocsin.app_fault").fetch_all(db).await
}
