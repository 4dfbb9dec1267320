//! What the others see of the worker: the published set, the status, and the end of trust.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use domain::health::StageStatus;
use domain::{Clock, HeldTenant, TenantId, TenantSet, metric};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Publishes, beats, and withdraws what must not be believed any more.
pub(super) struct Beacon {
    clock: Arc<dyn Clock>,
    tenants: watch::Sender<Arc<TenantSet>>,
    status: watch::Sender<StageStatus>,
    fault: Option<String>,
    trusted_until: Instant,
}

impl Beacon {
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        tenants: watch::Sender<Arc<TenantSet>>,
        status: watch::Sender<StageStatus>,
        now: Instant,
    ) -> Self {
        metrics::gauge!(metric::LEASES_HELD).set(0);
        Self { clock, tenants, status, fault: None, trusted_until: now }
    }

    /// Says that the loop goes round.
    pub(super) fn beat(&self) {
        self.status.send_replace(StageStatus { beat: self.clock.now(), fault: self.fault.clone() });
    }

    pub(super) fn well(&mut self) {
        self.fault = None;
        self.beat();
    }

    pub(super) fn faulty(&mut self, fault: String) {
        self.fault = Some(fault);
        self.beat();
    }

    /// The leases were renewed: they may be believed until then.
    pub(super) fn trust_until(&mut self, until: Instant) {
        self.trusted_until = until;
    }

    /// Publishes these tenants, if they or the trust in them are other than before.
    pub(super) fn publish(&self, tenants: BTreeMap<TenantId, Arc<HeldTenant>>) {
        // Trust that ended while the tenants were being read is not given to anybody.
        if self.trusted_until <= Instant::now() && !tenants.is_empty() {
            return self.check_trust();
        }
        let before = Arc::clone(&self.tenants.borrow());
        if before.trusted_until == self.trusted_until && before.tenants == tenants {
            return;
        }
        metrics::gauge!(metric::LEASES_HELD).set(tenants.len() as f64);
        self.tenants.send_replace(Arc::new(TenantSet { trusted_until: self.trusted_until, tenants }));
    }

    /// Withdraws the published tenants once trust in the leases has ended.
    pub(super) fn check_trust(&self) {
        // Of the published set, not of the latest renewal: what was read before it may be outdated.
        let until = {
            let published = self.tenants.borrow();
            if published.tenants.is_empty() || published.trusted_until > Instant::now() {
                return;
            }
            published.trusted_until
        };
        tracing::warn!("the leases could not be renewed in time: no tenant is looked after until the database is back");
        metrics::gauge!(metric::LEASES_HELD).set(0);
        self.tenants.send_replace(Arc::new(TenantSet::empty(until)));
    }

    /// Waits for the database, but not for ever, and goes on beating and watching meanwhile.
    pub(super) async fn during<T>(&self, limit: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        let mut work = pin!(timeout(limit, work));
        let mut beats = interval(super::BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done.unwrap_or_else(|_| Err(silent(limit))),
                _ = beats.tick() => {
                    self.check_trust();
                    self.beat();
                }
            }
        }
    }
}

fn silent(limit: Duration) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, format!("it did not answer within {} s", limit.as_secs())))
}
