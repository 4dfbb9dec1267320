//! `tocsin.lease`: which replica looks after a tenant. Expiry is by the clock of the database, so that
//! no clock of ours can make two replicas believe in one tenant.
//!
//! `unique (tenant, epoch)` makes the epoch a key column. A writer takes `for key share` on the row of
//! its own epoch; renewing changes no key column and passes it, a claim changes the epoch and does
//! not: it leaves such a row out (`skip locked`) until the writer has committed.
//!
//! Claiming, renewing and giving back are one statement each, however many tenants it is about. No two of them wait for each other
//! crosswise: each touches rows of its own replica only, but for a claim, which passes over what is locked, and for what is done
//! after a replica that is gone.
//!
//! No index has `holder` or `expires_at`, and half of each page is empty (`0020_room_for_renewals.sql`): a renewal of ten thousand
//! leases writes into no index and leaves the table as large as it is.

use std::time::Duration;

use domain::{AppName, CloudName, Epoch, Fence, HeldTenant, ReplicaId, TenantId, TenantState, Ticks};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgExecutor, PgTransaction, Row as _};
use uuid::Uuid;

use crate::store::exactly_one;
use crate::store::tenants::{sources_of, state_of};

/// Makes the row of a new tenant; nobody holds it yet.
pub(crate) async fn create(tx: &mut PgTransaction<'_>, tenant: TenantId) -> Result<(), sqlx::Error> {
    let statement = sqlx::query("-- leases::create\ninsert into tocsin.lease (tenant) values ($1)");
    exactly_one(&statement.bind(tenant.0).execute(&mut **tx).await?)
}

/// Extends all leases of `me` that have not expired; returns how many there are.
///
/// It need not be told which, nor under which epochs: a replica has another id at every start, so whatever it holds it has
/// claimed itself, and has read since. If there are fewer than it knew of, reading what it holds ([`held`]) shows which are lost.
pub(crate) async fn renew(tx: &mut PgTransaction<'_>, me: ReplicaId, lease: Duration) -> Result<u64, sqlx::Error> {
    let result = sqlx::query(
        "-- leases::renew
         update tocsin.lease set expires_at = now() + $2 * interval '1 second' where holder = $1 and expires_at > now()",
    )
    .bind(me.0)
    .bind(lease.as_secs_f64())
    .execute(&mut **tx)
    .await?;
    Ok(result.rows_affected())
}

/// Takes up to `limit` tenants that nobody looks after, each under a new epoch.
pub(crate) async fn claim(tx: &mut PgTransaction<'_>, me: ReplicaId, lease: Duration, limit: i64) -> Result<Vec<TenantId>, sqlx::Error> {
    let claimed: Vec<Uuid> = sqlx::query_scalar(
        "-- leases::claim
         with free as (
             select l.tenant
             from tocsin.lease l join tocsin.tenant t using (tenant)
             where (l.holder is null or l.expires_at <= now()) and t.state not in ('removed', 'offboarding')
             order by l.expires_at, l.tenant
             limit $3
             for update of l skip locked
         )
         update tocsin.lease l set holder = $1, epoch = l.epoch + 1, expires_at = now() + $2 * interval '1 second'
         from free where l.tenant = free.tenant
         returning l.tenant",
    )
    .bind(me.0)
    .bind(lease.as_secs_f64())
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?;
    Ok(claimed.into_iter().map(TenantId).collect())
}

/// Gives back some of the tenants of `me`, for others to claim at once.
pub(crate) async fn release(tx: &mut PgTransaction<'_>, me: ReplicaId, tenants: &[TenantId]) -> Result<u64, sqlx::Error> {
    let tenants: Vec<Uuid> = tenants.iter().map(|tenant| tenant.0).collect();
    let result = sqlx::query(
        "-- leases::release
         update tocsin.lease set holder = null, expires_at = '-infinity' where holder = $1 and tenant = any($2)",
    )
    .bind(me.0)
    .bind(tenants)
    .execute(&mut **tx)
    .await?;
    Ok(result.rows_affected())
}

/// Gives back everything that these replicas hold.
pub(crate) async fn release_all(tx: &mut PgTransaction<'_>, replicas: &[ReplicaId]) -> Result<u64, sqlx::Error> {
    let replicas: Vec<Uuid> = replicas.iter().map(|replica| replica.0).collect();
    let result = sqlx::query(
        "-- leases::release_all
         update tocsin.lease set holder = null, expires_at = '-infinity' where holder = any($1)",
    )
    .bind(replicas)
    .execute(&mut **tx)
    .await?;
    Ok(result.rows_affected())
}

/// Takes a tenant away from whoever holds it, and says who that was: what is in flight for it is refused from now on.
/// Waits for a writer that is about to commit.
pub(crate) async fn revoke(tx: &mut PgTransaction<'_>, tenant: TenantId) -> Result<Option<ReplicaId>, sqlx::Error> {
    let holder: Option<Uuid> = sqlx::query_scalar(
        "-- leases::revoke
         with before as (select tenant, holder from tocsin.lease where tenant = $1 for update)
         update tocsin.lease l set holder = null, epoch = l.epoch + 1, expires_at = '-infinity'
         from before where l.tenant = before.tenant
         returning before.holder",
    )
    .bind(tenant.0)
    .fetch_one(&mut **tx)
    .await?;
    Ok(holder.map(ReplicaId))
}

/// Those of `fences` that still stand; they keep standing until the end of the transaction.
pub(crate) async fn hold(tx: &mut PgTransaction<'_>, fences: &[Fence]) -> Result<Vec<Fence>, sqlx::Error> {
    let (tenants, epochs): (Vec<Uuid>, Vec<i64>) = fences.iter().map(|fence| (fence.tenant.0, fence.epoch.0)).unzip();
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(
        "-- leases::hold
         select l.tenant, l.epoch
         from tocsin.lease l join unnest($1::uuid[], $2::bigint[]) as f (tenant, epoch) on l.tenant = f.tenant and l.epoch = f.epoch
         for key share of l",
    )
    .bind(tenants)
    .bind(epochs)
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|(tenant, epoch)| Fence { tenant: TenantId(tenant), epoch: Epoch(epoch) }).collect())
}

struct HeldRow(HeldTenant);

impl FromRow<'_, PgRow> for HeldRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let state = match row.try_get::<Option<&str>, _>("need")? {
            Some("needs-consent") => TenantState::NeedsConsent,
            Some(_) => TenantState::NeedsCustomer,
            None => state_of(row)?,
        };
        let refreshed: Option<jiff_sqlx::Timestamp> = row.try_get("last_refresh_at")?;
        Ok(Self(HeldTenant {
            id: TenantId(row.try_get("tenant")?),
            name: row.try_get("name")?,
            cloud: CloudName::new(row.try_get::<String, _>("cloud")?),
            app: AppName::new(row.try_get::<String, _>("app")?),
            sources: sources_of(row)?,
            state,
            epoch: Epoch(row.try_get("epoch")?),
            credential_version: row.try_get("credential_version")?,
            last_refresh_at: refreshed.map(|at| Ticks::from_timestamp(at.to_jiff())),
        }))
    }
}

/// Everything that `me` holds now. An active tenant with an open need shows that need.
pub(crate) async fn held(db: impl PgExecutor<'_>, me: ReplicaId) -> Result<Vec<HeldTenant>, sqlx::Error> {
    let rows: Vec<HeldRow> = sqlx::query_as(
        "-- leases::held
         select t.tenant, t.name, t.cloud, t.app, t.sources, t.state, t.credential_version, t.last_refresh_at, l.epoch,
             case when t.state = 'active' then (
                 select min(x.verdict) from tocsin.trouble x
                 where x.tenant = t.tenant and x.verdict in ('needs-consent', 'needs-customer') and x.shown_from <= now()
             ) end as need
         from tocsin.lease l join tocsin.tenant t using (tenant)
         where l.holder = $1 and l.expires_at > now() and t.state not in ('removed', 'offboarding')",
    )
    .bind(me.0)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}
