//! `tocsin.tenant_key` and `tocsin.tenant_secret`: ciphertext, and what may be known without opening it.

use domain::TenantId;
use sqlx::{PgExecutor, PgPool, PgTransaction};
use uuid::Uuid;

use crate::store::exactly_one;
use crate::vault::{REFRESH_TOKEN, Wrapped};

/// A refresh token as it lies in the database, with the data key that opens it.
#[derive(sqlx::FromRow)]
pub(crate) struct SealedToken {
    pub(crate) wrapped: Vec<u8>,
    pub(crate) version: i64,
    pub(crate) client_id: String,
    pub(crate) sealed: Vec<u8>,
    pub(crate) previous_version: Option<i64>,
    pub(crate) previous: Option<Vec<u8>>,
}

/// A data key as it lies in the database.
#[derive(sqlx::FromRow)]
pub(crate) struct StoredKey {
    pub(crate) tenant: Uuid,
    pub(crate) key_id: String,
    pub(crate) wrapped: Vec<u8>,
}

/// How many data keys each key of the ring seals.
pub(crate) async fn count_by_key(db: impl PgExecutor<'_>) -> Result<Vec<(String, i64)>, sqlx::Error> {
    sqlx::query_as("-- secrets::count_by_key\nselect key_id, count(*) from tocsin.tenant_key group by key_id order by key_id")
        .fetch_all(db)
        .await
}

/// A batch of data keys, in the order of the tenants, after `after`.
pub(crate) async fn keys_after(pool: &PgPool, after: Option<Uuid>, limit: i64) -> Result<Vec<StoredKey>, sqlx::Error> {
    sqlx::query_as(
        "-- secrets::keys_after
         select tenant, key_id, wrapped from tocsin.tenant_key where $1::uuid is null or tenant > $1 order by tenant limit $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Puts a data key in the place of the one that was there, if one was: what that one sealed does not open any more.
pub(crate) async fn put_key(tx: &mut PgTransaction<'_>, tenant: TenantId, wrapped: &Wrapped) -> Result<(), sqlx::Error> {
    let result = sqlx::query(
        "-- secrets::put_key
         insert into tocsin.tenant_key (tenant, key_id, wrapped) values ($1, $2, $3)
         on conflict (tenant) do update set key_id = excluded.key_id, wrapped = excluded.wrapped",
    )
    .bind(tenant.0)
    .bind(wrapped.key_id.to_string())
    .bind(&wrapped.blob)
    .execute(&mut **tx)
    .await?;
    exactly_one(&result)
}

/// The token that a tenant is read with.
pub(crate) async fn refresh_token(db: impl PgExecutor<'_>, tenant: TenantId) -> Result<Option<SealedToken>, sqlx::Error> {
    sqlx::query_as(
        "-- secrets::refresh_token
         select k.wrapped, s.version, s.client_id, s.sealed, s.previous_version, s.previous
         from tocsin.tenant_secret s join tocsin.tenant_key k using (tenant)
         where s.tenant = $1 and s.kind = $2",
    )
    .bind(tenant.0)
    .bind(REFRESH_TOKEN)
    .fetch_optional(db)
    .await
}

/// A token on its way into the database.
pub(crate) struct NewToken<'a> {
    pub(crate) version: i64,
    pub(crate) client_id: &'a str,
    pub(crate) sealed: &'a [u8],
    pub(crate) import_mac: &'a [u8],
}

/// Puts an imported token in the place of whatever was there; there is no way back from an import.
pub(crate) async fn put_imported(tx: &mut PgTransaction<'_>, tenant: TenantId, token: &NewToken<'_>) -> Result<(), sqlx::Error> {
    let result = sqlx::query(
        "-- secrets::put_imported
         insert into tocsin.tenant_secret as s (tenant, kind, version, client_id, sealed, import_mac) values ($1, $2, $3, $4, $5, $6)
         on conflict (tenant, kind) do update set version = excluded.version, client_id = excluded.client_id, sealed = excluded.sealed,
             import_mac = excluded.import_mac, previous = null, previous_version = null, updated_at = now()
         where s.version = excluded.version - 1",
    )
    .bind(tenant.0)
    .bind(REFRESH_TOKEN)
    .bind(token.version)
    .bind(token.client_id)
    .bind(token.sealed)
    .bind(token.import_mac)
    .execute(&mut **tx)
    .await?;
    exactly_one(&result)
}

/// Replaces the token of version `version` and keeps it as the previous one. `false` when another
/// version stands there.
pub(crate) async fn rotate(
    tx: &mut PgTransaction<'_>,
    tenant: TenantId,
    version: i64,
    client_id: &str,
    sealed: &[u8],
) -> Result<bool, sqlx::Error> {
    let result = sqlx::query(
        "-- secrets::rotate
         update tocsin.tenant_secret
         set previous = sealed, previous_version = version, sealed = $5, version = version + 1, updated_at = now()
         where tenant = $1 and kind = $2 and version = $3 and client_id = $4",
    )
    .bind(tenant.0)
    .bind(REFRESH_TOKEN)
    .bind(version)
    .bind(client_id)
    .bind(sealed)
    .execute(&mut **tx)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Lets go of the previous token, now that the one of `version` has worked. Nothing happens when
/// another version stands there by now, or when there is no previous one.
pub(crate) async fn drop_previous(tx: &mut PgTransaction<'_>, tenant: TenantId, version: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- secrets::drop_previous
         update tocsin.tenant_secret set previous = null, previous_version = null
         where tenant = $1 and kind = $2 and version = $3 and previous is not null",
    )
    .bind(tenant.0)
    .bind(REFRESH_TOKEN)
    .bind(version)
    .execute(&mut **tx)
    .await
    .map(drop)
}

/// Destroys everything that could open or be opened for this tenant; how many data keys and tokens it were.
pub(crate) async fn destroy(tx: &mut PgTransaction<'_>, tenant: TenantId) -> Result<(u64, u64), sqlx::Error> {
    let key = sqlx::query("-- secrets::destroy_key\ndelete from tocsin.tenant_key where tenant = $1");
    let keys = key.bind(tenant.0).execute(&mut **tx).await?.rows_affected();
    let token = sqlx::query("-- secrets::destroy\ndelete from tocsin.tenant_secret where tenant = $1");
    let tokens = token.bind(tenant.0).execute(&mut **tx).await?.rows_affected();
    Ok((keys, tokens))
}

/// Some data keys that are not wrapped by this key, kept from everybody else until the end of the transaction.
pub(crate) async fn lock_wrapped_by_others(tx: &mut PgTransaction<'_>, key_id: &str, limit: i64) -> Result<Vec<StoredKey>, sqlx::Error> {
    sqlx::query_as(
        "-- secrets::lock_wrapped_by_others
         select tenant, key_id, wrapped from tocsin.tenant_key where key_id <> $1 order by tenant limit $2 for update",
    )
    .bind(key_id)
    .bind(limit)
    .fetch_all(&mut **tx)
    .await
}

/// Puts rewrapped data keys in the place of those that were locked.
pub(crate) async fn rewrap(tx: &mut PgTransaction<'_>, rewrapped: &[(TenantId, Wrapped)]) -> Result<(), sqlx::Error> {
    let result = sqlx::query(
        "-- secrets::rewrap
         update tocsin.tenant_key k set key_id = n.key_id, wrapped = n.wrapped
         from unnest($1::uuid[], $2::text[], $3::bytea[]) as n (tenant, key_id, wrapped) where k.tenant = n.tenant",
    )
    .bind(rewrapped.iter().map(|(tenant, _)| tenant.0).collect::<Vec<_>>())
    .bind(rewrapped.iter().map(|(_, wrapped)| wrapped.key_id.to_string()).collect::<Vec<_>>())
    .bind(rewrapped.iter().map(|(_, wrapped)| wrapped.blob.as_slice()).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    if result.rows_affected() == rewrapped.len() as u64 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// How many data keys are not wrapped by this key.
pub(crate) async fn count_wrapped_by_others(db: impl PgExecutor<'_>, key_id: &str) -> Result<i64, sqlx::Error> {
    let statement = sqlx::query_scalar("-- secrets::count_wrapped_by_others\nselect count(*) from tocsin.tenant_key where key_id <> $1");
    statement.bind(key_id).fetch_one(db).await
}
