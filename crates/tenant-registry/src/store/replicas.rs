//! `tocsin.replica`: which processes are running, and what has changed since one last looked.

use std::time::Duration;

use domain::{ReplicaId, TenantId};
use sqlx::{PgExecutor, PgTransaction};
use uuid::Uuid;

/// What a replica sees when it looks round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Survey {
    /// Tenants to be looked after by somebody.
    pub(crate) tenants: i64,
    /// Changes whenever a tenant, or what troubles it, changes in a way that the other rooms must know.
    pub(crate) token: i64,
}

/// Another process.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Other {
    pub(crate) replica: Uuid,
    pub(crate) host: String,
    /// Seen lately.
    pub(crate) live: bool,
}

/// Says that `me` is running, and which keys it has.
pub(crate) async fn announce(tx: &mut PgTransaction<'_>, me: ReplicaId, host: &str, ring: &[String]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- replicas::announce
         insert into tocsin.replica as r (replica, host, ring, looks) values ($1, $2, $3, 1)
         on conflict (replica) do update set seen_at = now(), ring = excluded.ring, looks = r.looks + 1",
    )
    .bind(me.0)
    .bind(host)
    .bind(ring)
    .execute(&mut **tx)
    .await
    .map(drop)
}

/// The other processes, with those that were seen lately marked.
pub(crate) async fn others(tx: &mut PgTransaction<'_>, me: ReplicaId, lately: Duration) -> Result<Vec<Other>, sqlx::Error> {
    sqlx::query_as(
        "-- replicas::others
         select replica, host, seen_at > now() - $2 * interval '1 second' as live from tocsin.replica where replica <> $1",
    )
    .bind(me.0)
    .bind(lately.as_secs_f64())
    .fetch_all(&mut **tx)
    .await
}

/// Counts the tenants and makes the change token: a few milliseconds for 10,000 tenants, so that it
/// can be asked every second and the full read left for when there is something to read.
pub(crate) async fn survey(tx: &mut PgTransaction<'_>) -> Result<Survey, sqlx::Error> {
    sqlx::query_as(
        "-- replicas::survey
         select t.tenants, t.token # x.token as token
         from (
             select count(*) as tenants,
                 coalesce(bit_xor(uuid_hash_extended(tenant,
                     hashtextextended(concat_ws('|', state, cloud, app, array_to_string(sources, ';'), name), credential_version))), 0) as token
             from tocsin.tenant where state not in ('removed', 'offboarding')
         ) t, (
             select coalesce(bit_xor(uuid_hash_extended(tenant, hashtextextended(origin || verdict, (shown_from <= now())::int))), 0) as token
             from tocsin.trouble
         ) x",
    )
    .fetch_one(&mut **tx)
    .await
}

/// How many processes were seen lately, and whether one of them looks after this tenant.
pub(crate) async fn attention(db: impl PgExecutor<'_>, tenant: TenantId) -> Result<(i64, bool), sqlx::Error> {
    sqlx::query_as(
        "-- replicas::attention
         select (select count(*) from tocsin.replica where seen_at > now() - interval '10 seconds'),
             exists (select from tocsin.lease where tenant = $1 and holder is not null and expires_at > now())",
    )
    .bind(tenant.0)
    .fetch_one(db)
    .await
}

/// How often a process has looked round; `None` when it is there no more, or has not been seen for too long.
pub(crate) async fn looks(tx: &mut PgTransaction<'_>, replica: ReplicaId) -> Result<Option<i64>, sqlx::Error> {
    let statement = sqlx::query_scalar(
        "-- replicas::looks
         select looks from tocsin.replica where replica = $1 and seen_at > now() - interval '10 seconds'",
    );
    statement.bind(replica.0).fetch_optional(&mut **tx).await
}

/// What a running process says of its keys.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Keys {
    pub(crate) host: String,
    /// The one that seals first; empty from a version that does not say.
    pub(crate) ring: Vec<String>,
}

impl Keys {
    /// Whether it has this key, or does not say.
    pub(crate) fn has(&self, key_id: &str) -> bool {
        self.ring.is_empty() || self.ring.iter().any(|key| key == key_id)
    }
}

/// The keys of all processes that were seen lately.
pub(crate) async fn keys(db: impl PgExecutor<'_>) -> Result<Vec<Keys>, sqlx::Error> {
    sqlx::query_as("-- replicas::keys\nselect host, ring from tocsin.replica where seen_at > now() - interval '10 seconds' order by host")
        .fetch_all(db)
        .await
}

pub(crate) async fn remove(tx: &mut PgTransaction<'_>, replicas: &[ReplicaId]) -> Result<(), sqlx::Error> {
    let replicas: Vec<Uuid> = replicas.iter().map(|replica| replica.0).collect();
    let statement = sqlx::query("-- replicas::remove\ndelete from tocsin.replica where replica = any($1)");
    statement.bind(replicas).execute(&mut **tx).await.map(drop)
}

/// Forgets processes that have not been seen for an hour; one that comes back announces itself anew.
pub(crate) async fn forget_old(tx: &mut PgTransaction<'_>) -> Result<(), sqlx::Error> {
    let statement = sqlx::query("-- replicas::forget_old\ndelete from tocsin.replica where seen_at < now() - interval '1 hour'");
    statement.execute(&mut **tx).await.map(drop)
}
