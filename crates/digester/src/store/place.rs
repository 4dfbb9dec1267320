//! `tocsin.derivation`: how far a tenant is derived. Whoever holds its row derives the tenant, and nobody else does.

use domain::{Fence, TenantId};
use sqlx::{FromRow, PgConnection};

use crate::step::VERSION;

/// How far it has come. Numbers of transactions travel as text: they have 64 bits without a sign.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Place {
    /// What earlier transactions wrote is derived.
    pub(crate) upto: String,
    /// A sweep has come to this alert.
    pub(crate) swept_to: Option<String>,
    /// No transaction before this one is still running.
    pub(crate) horizon: String,
    /// It was derived by this code on this server.
    pub(crate) ours: bool,
}

/// Holds the tenant's lease until the end of the transaction, as the sink does when it stores.
pub(crate) async fn hold(conn: &mut PgConnection, fence: Fence) -> Result<bool, sqlx::Error> {
    let held: Option<i32> = sqlx::query_scalar(
        "-- place::hold
         select 1 from tocsin.lease where tenant = $1 and epoch = $2 for key share",
    )
    .bind(fence.tenant.0)
    .bind(fence.epoch.0)
    .fetch_optional(conn)
    .await?;
    Ok(held.is_some())
}

/// Keeps a customer who has gone from coming back, or from being erased, until the end of the transaction.
pub(crate) async fn is_removed(conn: &mut PgConnection, tenant: TenantId) -> Result<bool, sqlx::Error> {
    let removed: Option<i32> = sqlx::query_scalar(
        "-- place::is_removed
         select 1 from tocsin.tenant where tenant = $1 and state = 'removed' for share",
    )
    .bind(tenant.0)
    .fetch_optional(conn)
    .await?;
    Ok(removed.is_some())
}

/// Takes the tenant's place until the end of the transaction; nothing when somebody else has it. Where this code has not
/// derived on this server before, a sweep over all alerts begins.
pub(crate) async fn take(conn: &mut PgConnection, tenant: TenantId) -> Result<Option<Place>, sqlx::Error> {
    sqlx::query(
        "-- place::begin
         insert into tocsin.derivation (tenant, upto, swept_to, system_id, version)
         select $1, pg_snapshot_xmin(pg_current_snapshot()), '', system_identifier, $2 from pg_control_system()
         on conflict (tenant) do nothing",
    )
    .bind(tenant.0)
    .bind(VERSION)
    .execute(&mut *conn)
    .await?;
    // The horizon is that of this statement: what comes to light in later ones lies above it.
    let place: Option<Place> = sqlx::query_as(
        "-- place::take
         select upto::text, swept_to, pg_snapshot_xmin(pg_current_snapshot())::text as horizon,
             version = $2 and system_id = (select system_identifier from pg_control_system()) as ours
         from tocsin.derivation where tenant = $1 for update skip locked",
    )
    .bind(tenant.0)
    .bind(VERSION)
    .fetch_optional(&mut *conn)
    .await?;
    match place {
        Some(place) if !place.ours => {
            let place = Place { upto: place.horizon.clone(), swept_to: Some(String::new()), ours: true, ..place };
            put(conn, tenant, &place).await?;
            Ok(Some(place))
        }
        place => Ok(place),
    }
}

/// Writes down where it stands now, and that it was this code on this server.
pub(crate) async fn put(conn: &mut PgConnection, tenant: TenantId, place: &Place) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- place::put
         update tocsin.derivation set
             upto = $2::text::xid8,
             swept_to = $3,
             system_id = system_identifier,
             version = $4,
             -- A sweep that begins says since when it goes on.
             begun_at = case when $3 = '' then now() else begun_at end
         from pg_control_system() where tenant = $1",
    )
    .bind(tenant.0)
    .bind(&place.upto)
    .bind(&place.swept_to)
    .bind(VERSION)
    .execute(conn)
    .await
    .map(drop)
}
