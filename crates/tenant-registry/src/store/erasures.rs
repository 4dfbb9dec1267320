//! `tocsin.erasure`: deleting what is stored of a tenant that has gone, a bounded piece at a time.

use domain::TenantId;
use serde::Serialize;
use sqlx::{PgExecutor, PgTransaction};
use uuid::Uuid;

/// How many rows of a tenant were deleted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Erased {
    /// Alerts.
    pub alerts: i64,
    /// Versions of alerts, bodies included.
    pub versions: i64,
    /// Incidents.
    pub incidents: i64,
    /// Observed changes, cursors, gaps, quarantined records, comparisons.
    pub others: i64,
}

/// Forgets an erasure of before: the tenant has come back and goes again.
pub(crate) async fn begin(tx: &mut PgTransaction<'_>, tenant: TenantId) -> Result<(), sqlx::Error> {
    let statement = sqlx::query(
        "-- erasures::begin
         insert into tocsin.erasure as e (tenant) values ($1)
         on conflict (tenant) do update set begun_at = now(), alerts = 0, versions = 0, incidents = 0, others = 0, finished_at = null",
    );
    statement.bind(tenant.0).execute(&mut **tx).await.map(drop)
}

/// Deletes at most so many rows; how many it were.
pub(crate) async fn some(tx: &mut PgTransaction<'_>, tenant: TenantId, at_most: i64) -> Result<i64, sqlx::Error> {
    let statement = sqlx::query_scalar("-- erasures::some\nselect tocsin.erase_some($1, $2)");
    statement.bind(tenant.0).bind(at_most).fetch_one(&mut **tx).await
}

/// Notes that nothing is left.
pub(crate) async fn finish(tx: &mut PgTransaction<'_>, tenant: TenantId) -> Result<(), sqlx::Error> {
    let statement = sqlx::query("-- erasures::finish\nupdate tocsin.erasure set finished_at = now() where tenant = $1");
    statement.bind(tenant.0).execute(&mut **tx).await.map(drop)
}

/// How far it has come.
pub(crate) async fn progress(db: impl PgExecutor<'_>, tenant: TenantId) -> Result<Option<Erased>, sqlx::Error> {
    let statement =
        sqlx::query_as("-- erasures::progress\nselect alerts, versions, incidents, others from tocsin.erasure where tenant = $1");
    statement.bind(tenant.0).fetch_optional(db).await
}

/// The tenants of which something is still to be deleted.
pub(crate) async fn waiting(db: impl PgExecutor<'_>) -> Result<Vec<TenantId>, sqlx::Error> {
    let statement =
        sqlx::query_scalar("-- erasures::waiting\nselect tenant from tocsin.tenant where state = 'offboarding' order by state_since");
    let tenants: Vec<Uuid> = statement.fetch_all(db).await?;
    Ok(tenants.into_iter().map(TenantId).collect())
}

/// What is stored of a tenant: alerts, versions, incidents.
pub(crate) async fn stored(db: impl PgExecutor<'_>, tenant: TenantId) -> Result<(i64, i64, i64), sqlx::Error> {
    sqlx::query_as(
        "-- erasures::stored
         select (select count(*) from tocsin.alert where tenant = $1),
             (select count(*) from tocsin.alert_version where tenant = $1),
             (select count(*) from tocsin.incident where tenant = $1)",
    )
    .bind(tenant.0)
    .fetch_one(db)
    .await
}
