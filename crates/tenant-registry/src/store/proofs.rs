//! The proofs under way, in `tocsin.sign_in` and on the checklist of `tocsin.link`.

use std::time::Duration;

use domain::TenantId;
use sqlx::{PgExecutor, PgTransaction};
use uuid::Uuid;

use crate::links::Step;

/// Whether a proof may go on: it was not given up, and the link that its sign-in was begun from is still open. A link
/// ends when it is called back or replaced, when a sign-in of it has connected the tenant, and when that is removed.
pub(crate) async fn is_wanted(db: impl PgExecutor<'_>, tenant: TenantId, sign_in: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "-- proofs::is_wanted
         select exists (
             select from tocsin.sign_in s join tocsin.link l using (tenant, link)
             where s.tenant = $1 and s.sign_in = $2 and s.proving_at is not null and l.ended_at is null)",
    )
    .bind(tenant.0)
    .bind(sign_in)
    .fetch_one(db)
    .await
}

/// Notes that a proof goes on, unless it has ended.
pub(crate) async fn goes_on(db: impl PgExecutor<'_>, tenant: TenantId, sign_in: Uuid) -> Result<(), sqlx::Error> {
    let statement = sqlx::query(
        "-- proofs::goes_on
         update tocsin.sign_in set proving_at = now() where tenant = $1 and sign_in = $2 and proving_at is not null",
    );
    statement.bind(tenant.0).bind(sign_in).execute(db).await.map(drop)
}

/// Ends a proof.
pub(crate) async fn end(tx: &mut PgTransaction<'_>, tenant: TenantId, sign_in: Uuid) -> Result<(), sqlx::Error> {
    let statement = sqlx::query("-- proofs::end\nupdate tocsin.sign_in set proving_at = null where tenant = $1 and sign_in = $2");
    statement.bind(tenant.0).bind(sign_in).execute(&mut **tx).await.map(drop)
}

/// Proofs of which nothing was heard for so long, of any tenant.
pub(crate) async fn silent(db: impl PgExecutor<'_>, span: Duration) -> Result<Vec<(TenantId, Uuid)>, sqlx::Error> {
    let found: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "-- proofs::silent
         select tenant, sign_in from tocsin.sign_in where proving_at < now() - $1 * interval '1 second'",
    )
    .bind(span.as_secs_f64())
    .fetch_all(db)
    .await?;
    Ok(found.into_iter().map(|(tenant, sign_in)| (TenantId(tenant), sign_in)).collect())
}

/// Whether this one is silent, now that its tenant is locked.
pub(crate) async fn is_silent(db: impl PgExecutor<'_>, tenant: TenantId, sign_in: Uuid, span: Duration) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "-- proofs::is_silent
         select exists (
             select from tocsin.sign_in where tenant = $1 and sign_in = $2 and proving_at < now() - $3 * interval '1 second')",
    )
    .bind(tenant.0)
    .bind(sign_in)
    .bind(span.as_secs_f64())
    .fetch_one(db)
    .await
}

/// Ends the checklist of this sign-in, if it is the one that its link shows.
pub(crate) async fn add_last_step(tx: &mut PgTransaction<'_>, tenant: TenantId, sign_in: Uuid, step: &Step) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- proofs::add_last_step
         update tocsin.link set steps = steps || $3, proving_at = null where tenant = $1 and proving = $2 and ended_at is null",
    )
    .bind(tenant.0)
    .bind(sign_in)
    .bind(sqlx::types::Json([step]))
    .execute(&mut **tx)
    .await
    .map(drop)
}
