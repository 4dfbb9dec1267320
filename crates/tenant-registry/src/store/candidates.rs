//! `tocsin.candidate`: refresh tokens that are being proved, each under the sign-in that brought it.

use domain::TenantId;
use sqlx::{PgExecutor, PgTransaction};
use uuid::Uuid;

use crate::store::exactly_one;

/// A candidate as it lies in the database, with the data key that opens it.
#[derive(sqlx::FromRow)]
pub(crate) struct StoredCandidate {
    pub(crate) wrapped: Vec<u8>,
    pub(crate) version: i64,
    pub(crate) client_id: String,
    pub(crate) sealed: Vec<u8>,
}

/// What a sign-in brought, if its link is still open.
pub(crate) async fn find(db: impl PgExecutor<'_>, tenant: TenantId, sign_in: Uuid) -> Result<Option<StoredCandidate>, sqlx::Error> {
    sqlx::query_as(
        "-- candidates::find
         select k.wrapped, c.version, c.client_id, c.sealed
         from tocsin.candidate c
         join tocsin.sign_in s using (tenant, sign_in)
         join tocsin.link l using (tenant, link)
         join tocsin.tenant_key k using (tenant)
         where c.tenant = $1 and c.sign_in = $2 and l.ended_at is null",
    )
    .bind(tenant.0)
    .bind(sign_in)
    .fetch_optional(db)
    .await
}

/// Stores what a sign-in brought, or its successor after a redemption.
pub(crate) async fn put(
    tx: &mut PgTransaction<'_>,
    tenant: TenantId,
    sign_in: Uuid,
    version: i64,
    client_id: &str,
    sealed: &[u8],
) -> Result<(), sqlx::Error> {
    let result = sqlx::query(
        "-- candidates::put
         insert into tocsin.candidate as c (tenant, sign_in, version, client_id, sealed) values ($1, $2, $3, $4, $5)
         on conflict (tenant, sign_in) do update set version = excluded.version, sealed = excluded.sealed, sealed_at = now()
         where c.version = excluded.version - 1 and c.client_id = excluded.client_id",
    )
    .bind(tenant.0)
    .bind(sign_in)
    .bind(version)
    .bind(client_id)
    .bind(sealed)
    .execute(&mut **tx)
    .await?;
    exactly_one(&result)
}

/// Forgets what this sign-in brought.
pub(crate) async fn forget(db: impl PgExecutor<'_>, tenant: TenantId, sign_in: Uuid) -> Result<(), sqlx::Error> {
    let statement = sqlx::query("-- candidates::forget\ndelete from tocsin.candidate where tenant = $1 and sign_in = $2");
    statement.bind(tenant.0).bind(sign_in).execute(db).await.map(drop)
}

/// Forgets what every sign-in of this tenant brought; how many there were.
pub(crate) async fn forget_all(tx: &mut PgTransaction<'_>, tenant: TenantId) -> Result<u64, sqlx::Error> {
    let statement = sqlx::query("-- candidates::forget_all\ndelete from tocsin.candidate where tenant = $1");
    Ok(statement.bind(tenant.0).execute(&mut **tx).await?.rows_affected())
}
