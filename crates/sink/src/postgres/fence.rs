//! The right to write (I7): a lease generation that still stands.

use domain::Fence;
use sqlx::PgConnection;

use crate::store::StoreError;

/// Holds the lease row until the end of the transaction.
///
/// The lock is the weakest there is: a renewal passes it, since it leaves the key alone, but a claim
/// changes the epoch, which is part of a key, and therefore waits until we are done.
///
/// # Errors
/// [`StoreError::LeaseLost`] when the tenant has another epoch by now.
pub(crate) async fn hold(conn: &mut PgConnection, fence: Fence) -> Result<(), StoreError> {
    let held: Option<i32> = sqlx::query_scalar(
        "-- fence::hold
         select 1 from tocsin.lease where tenant = $1 and epoch = $2 for key share",
    )
    .bind(fence.tenant.0)
    .bind(fence.epoch.0)
    .fetch_optional(conn)
    .await?;
    held.map(drop).ok_or(StoreError::LeaseLost)
}
