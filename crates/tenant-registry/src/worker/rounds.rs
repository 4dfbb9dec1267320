//! What the worker does in the database. Each function is one transaction (reads need none) and leaves
//! nothing behind when it is dropped half-way.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use domain::{Fence, HeldTenant, ReplicaId, TenantId, TenantState, Ticks, metric, rehearsal};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::Instant;

use super::clocks::{self, Look};
use super::news::{News, OpenTroubles, Written, origin_of, storable};
use crate::config::{Config, shown_after};
use crate::process;
use crate::registry::Registry;
use crate::store::replicas::Survey;
use crate::store::{self, counts, leases, replicas, tenants, troubles};

pub(super) struct Rounds {
    registry: Registry,
    pool: PgPool,
    me: ReplicaId,
    config: Config,
    /// The poll interval, if it may become another one while we run.
    poll_interval: Option<watch::Receiver<Duration>>,
}

/// What a look round shows.
pub(super) struct View {
    pub(super) survey: Survey,
    pub(super) live_others: usize,
}

impl View {
    /// So many processes are there, this one included.
    pub(super) fn replicas(&self) -> NonZeroU32 {
        NonZeroU32::MIN.saturating_add(u32::try_from(self.live_others).unwrap_or(u32::MAX))
    }
}

/// What is there.
pub(super) struct Read {
    /// Everything about what we hold, if that was asked for.
    pub(super) held: Option<Vec<HeldTenant>>,
    pub(super) open: OpenTroubles,
}

impl Rounds {
    pub(super) fn new(registry: Registry, me: ReplicaId, config: Config) -> Self {
        Self { pool: registry.pool.clone(), registry, me, config, poll_interval: None }
    }

    pub(super) fn follow(&mut self, poll_interval: watch::Receiver<Duration>) {
        self.poll_interval = Some(poll_interval);
    }

    /// How long passing trouble must have lasted before it is shown.
    fn shown_after(&self) -> Duration {
        shown_after(self.poll_interval.as_ref().map_or(self.config.poll_interval, |interval| *interval.borrow()))
    }

    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Renews everything we hold, in one statement; how many tenants that is.
    pub(super) async fn renew(&self) -> Result<u64, sqlx::Error> {
        point("lease.before-renew").await?;
        let mut tx = store::begin(&self.pool).await?;
        let renewed = leases::renew(&mut tx, self.me, self.config.lease).await?;
        tx.commit().await?;
        point("lease.renewed").await?;
        Ok(renewed)
    }

    /// Announces us, and sees who else is there and whether anything changed.
    pub(super) async fn look(&self) -> Result<View, sqlx::Error> {
        let asked = Instant::now();
        let mut tx = store::begin(&self.pool).await?;
        replicas::announce(&mut tx, self.me, self.config.process.as_str(), &self.registry.key_ids()).await?;
        let others = replicas::others(&mut tx, self.me, self.config.replica_gone_after).await?;
        let (gone, there): (Vec<_>, Vec<_>) = others.into_iter().partition(|other| process::is_gone(&other.host));
        let mut freed = 0;
        if !gone.is_empty() {
            let gone: Vec<ReplicaId> = gone.into_iter().map(|other| ReplicaId(other.replica)).collect();
            freed = leases::release_all(&mut tx, &gone).await?;
            replicas::remove(&mut tx, &gone).await?;
        }
        let survey = replicas::survey(&mut tx).await?;
        tx.commit().await?;
        metrics::histogram!(metric::DATABASE_SECONDS).record(asked.elapsed().as_secs_f64());
        if freed > 0 {
            tracing::info!(count = freed, "freed the tenants of a process of this machine that is gone");
        }
        Ok(View { survey, live_others: there.iter().filter(|other| other.live).count() })
    }

    /// Takes up to `room` tenants that nobody holds; how many it were.
    pub(super) async fn claim(&self, room: usize) -> Result<usize, sqlx::Error> {
        point("lease.before-claim").await?;
        let mut tx = store::begin(&self.pool).await?;
        let claimed = leases::claim(&mut tx, self.me, self.config.lease, i64::try_from(room).unwrap_or(i64::MAX)).await?;
        tx.commit().await?;
        point("lease.claimed").await?;
        Ok(claimed.len())
    }

    /// Gives tenants back and wakes the others.
    pub(super) async fn release(&self, tenants: &[TenantId]) -> Result<(), sqlx::Error> {
        point("lease.before-release").await?;
        let mut tx = store::begin(&self.pool).await?;
        leases::release(&mut tx, self.me, tenants).await?;
        store::announce_change(&mut tx).await?;
        tx.commit().await
    }

    /// Reads what is open and counts all tenants for the metrics; reads what we hold, if that is to be known, too.
    pub(super) async fn read(&self, with_held: bool) -> Result<Read, sqlx::Error> {
        let mut tx = store::begin(&self.pool).await?;
        let held = if with_held { Some(leases::held(&mut *tx, self.me).await?) } else { None };
        let rows = troubles::open(&mut *tx, self.me).await?;
        let faults = troubles::faults(&mut *tx).await?;
        let states = tenants::count_by_state(&mut *tx).await?;
        let counts = counts::read(&mut *tx).await?;
        replicas::forget_old(&mut tx).await?;
        tx.commit().await?;
        // Every state is there from the start, so that an alert rule on one never looks into a void.
        for state in TenantState::ALL {
            let count = states.iter().find(|(word, _)| word == state.as_str()).map_or(0, |(_, count)| *count);
            metrics::gauge!(metric::TENANTS, "state" => state.as_str()).set(count as f64);
        }
        for (since, count) in [("0m", counts.blind), ("15m", counts.blind_15m), ("1d", counts.blind_1d)] {
            metrics::gauge!(metric::BLIND_TENANTS, "since" => since).set(count as f64);
        }
        metrics::gauge!(metric::FEED_LAST_SUCCESS).set(counts.oldest_success);
        metrics::gauge!(metric::OPEN_GAPS).set(counts.open_gaps as f64);
        Ok(Read { held, open: OpenTroubles::from_rows(rows, faults) })
    }

    /// Writes reports, those whose lease still stands.
    pub(super) async fn write(&self, news: &News) -> Result<Written, sqlx::Error> {
        let mut tx = store::begin(&self.pool).await?;
        let standing: BTreeSet<_> = leases::hold(&mut tx, &news.fences()).await?.into_iter().map(key).collect();
        let stands = |fence: &Fence| standing.contains(&key(*fence));
        let mut written = Written::default();
        let rows = news.trouble_rows(self.shown_after(), stands);
        if !rows.is_empty() {
            let put = troubles::put(&mut tx, &rows).await?;
            written.put =
                put.into_iter().filter_map(|(tenant, origin, verdict)| Some(((TenantId(tenant), origin_of(&origin)?), verdict))).collect();
        }
        written.ended = news.endings(stands);
        if !written.ended.is_empty() {
            let over: Vec<_> = written.ended.iter().map(|(tenant, origin)| (*tenant, origin.as_str())).collect();
            troubles::end(&mut tx, &over).await?;
        }
        for (app, fault) in news.faults(stands) {
            match fault {
                Some(trouble) => {
                    let row = troubles::FaultRow {
                        app: &app.0,
                        cloud: &app.1,
                        reason: storable(&trouble.reason),
                        action: storable(&trouble.action),
                        error_code: trouble.code.as_deref().map(storable),
                        trace_id: trouble.trace_id().map(storable),
                        answered_at: trouble.answered_at().and_then(Ticks::to_timestamp),
                    };
                    if troubles::put_fault(&mut tx, &row).await? {
                        written.new_faults.push(app.clone());
                    }
                    written.faults.push(app.clone());
                }
                None => {
                    if troubles::end_fault(&mut tx, &app.0, &app.1).await? {
                        written.ended_faults.push(app.clone());
                    }
                }
            }
        }
        tx.commit().await?;
        Ok(written)
    }

    /// Looks at the clocks of the tenants that we hold, and of the apps.
    pub(super) async fn look_at_clocks(&self) -> Result<Look, sqlx::Error> {
        clocks::look(&self.pool, self.me).await
    }

    /// Gives everything back and leaves; how many tenants we held.
    pub(super) async fn leave(&self) -> Result<u64, sqlx::Error> {
        point("lease.before-release").await?;
        let mut tx = store::begin(&self.pool).await?;
        let released = leases::release_all(&mut tx, &[self.me]).await?;
        replicas::remove(&mut tx, &[self.me]).await?;
        store::announce_change(&mut tx).await?;
        tx.commit().await?;
        Ok(released)
    }
}

/// Passes a named point; a rehearsal's error looks like a database that is away.
async fn point(name: &'static str) -> Result<(), sqlx::Error> {
    rehearsal::point(name).await.map_err(|rehearsed| sqlx::Error::Io(std::io::Error::other(rehearsed)))
}

fn key(fence: Fence) -> (TenantId, domain::Epoch) {
    (fence.tenant, fence.epoch)
}
