//! What the others see of the worker: the published set, the status, and the end of trust.

use std::collections::BTreeMap;
use std::mem;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use domain::health::StageStatus;
use domain::{Clock, HeldTenant, TenantId, TenantSet, Ticks, metric};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Clocks that drift or are slewed part by less than this between two looks.
const SLEPT: Duration = Duration::from_secs(2);

/// The tenants of a set.
pub(super) type Tenants = Arc<BTreeMap<TenantId, Arc<HeldTenant>>>;

/// Publishes, beats, and withdraws what must not be believed any more.
pub(super) struct Beacon {
    clock: Arc<dyn Clock>,
    tenants: watch::Sender<Arc<TenantSet>>,
    status: watch::Sender<StageStatus>,
    fault: Option<String>,
    trusted_until: Instant,
    replicas: NonZeroU32,
    /// The two clocks when they were last compared.
    compared: (Instant, Ticks),
    /// The machine has slept, and nobody has drawn the consequence yet.
    slept: bool,
}

impl Beacon {
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        tenants: watch::Sender<Arc<TenantSet>>,
        status: watch::Sender<StageStatus>,
        now: Instant,
    ) -> Self {
        metrics::gauge!(metric::LEASES_HELD).set(0);
        metrics::gauge!(metric::DATABASE_UP).set(0);
        let compared = (now, clock.now());
        Self { clock, tenants, status, fault: None, trusted_until: now, replicas: NonZeroU32::MIN, compared, slept: false }
    }

    /// Says that the loop goes round.
    pub(super) fn beat(&self) {
        self.status.send_replace(StageStatus { beat: self.clock.now(), fault: self.fault.clone(), remark: None });
    }

    /// Ends all trust when the machine has slept: tokio's clock stood still meanwhile, and the leases went on to
    /// end (I31). A clock that was set forward looks the same and costs one renewal.
    fn check_sleep(&mut self) {
        let now = (Instant::now(), self.clock.now());
        let (instant, wall) = mem::replace(&mut self.compared, now);
        let slept = now.1.since(wall).saturating_sub(now.0 - instant);
        if slept < SLEPT {
            return;
        }
        self.slept = true;
        self.trusted_until = now.0;
        let published = self.tenants.borrow().tenants.len();
        if published > 0 {
            tracing::warn!(
                seconds = slept.as_secs(),
                "the machine slept, or its clock was set forward: the leases are renewed before they are believed"
            );
            self.withdraw(now.0);
        }
    }

    /// Whether the machine has slept since this was last asked. All leases have to be renewed then.
    pub(super) fn has_slept(&mut self) -> bool {
        self.check_sleep();
        mem::take(&mut self.slept)
    }

    pub(super) fn well(&mut self) {
        self.fault = None;
        metrics::gauge!(metric::DATABASE_UP).set(1);
        self.beat();
    }

    pub(super) fn faulty(&mut self, fault: String) {
        self.fault = Some(fault);
        metrics::gauge!(metric::DATABASE_UP).set(0);
        self.beat();
    }

    /// The leases were renewed: they may be believed until then.
    pub(super) fn trust_until(&mut self, until: Instant) {
        self.trusted_until = until;
    }

    /// So many processes are there, this one included.
    pub(super) fn replicas(&mut self, replicas: NonZeroU32) {
        self.replicas = replicas;
    }

    fn withdraw(&self, trusted_until: Instant) {
        self.show(trusted_until, Arc::default());
    }

    /// Makes these the published tenants, and counts who came and who went.
    fn show(&self, trusted_until: Instant, tenants: Tenants) {
        metrics::gauge!(metric::LEASES_HELD).set(tenants.len() as f64);
        let before = self.tenants.send_replace(Arc::new(TenantSet { trusted_until, replicas: self.replicas, tenants }));
        let after = self.tenants.borrow();
        if Arc::ptr_eq(&before.tenants, &after.tenants) {
            return;
        }
        let came = after.tenants.keys().filter(|tenant| !before.tenants.contains_key(tenant)).count();
        let went = before.tenants.keys().filter(|tenant| !after.tenants.contains_key(tenant)).count();
        metrics::counter!(metric::LEASE_CHANGES).increment((came + went) as u64);
    }

    /// Publishes these tenants, if they or the trust in them are other than before. They are other ones when they are
    /// another allocation: telling apart ten thousand once a second is not worth it.
    pub(super) fn publish(&self, tenants: &Tenants) {
        // Trust that ended while the tenants were being read is not given to anybody.
        if self.trusted_until <= Instant::now() && !tenants.is_empty() {
            return self.check_trust();
        }
        let before = Arc::clone(&self.tenants.borrow());
        if before.trusted_until == self.trusted_until && before.replicas == self.replicas && Arc::ptr_eq(&before.tenants, tenants) {
            return;
        }
        self.show(self.trusted_until, Arc::clone(tenants));
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
        self.withdraw(until);
    }

    /// Waits for the database, but not for ever, and goes on beating and watching meanwhile.
    pub(super) async fn during<T>(
        &mut self,
        limit: Duration,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let mut work = pin!(timeout(limit, work));
        let mut beats = interval(super::BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    // An answer from before the sleep tells nothing about now.
                    self.check_sleep();
                    return if self.slept { Err(slept()) } else { done.unwrap_or_else(|_| Err(silent(limit))) };
                }
                _ = beats.tick() => {
                    self.check_sleep();
                    self.check_trust();
                    self.beat();
                }
            }
        }
    }
}

fn slept() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the machine slept while it was being asked"))
}

fn silent(limit: Duration) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, format!("it did not answer within {} s", limit.as_secs())))
}

#[cfg(test)]
mod tests {
    use domain::clock::ManualClock;
    use domain::{AppName, CloudName, Epoch, Source, TenantState};

    use super::*;

    const NOW: Ticks = Ticks(17_900_000_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn world() -> (Beacon, ManualClock, watch::Receiver<Arc<TenantSet>>) {
        let clock = ManualClock::at(NOW);
        let (tenants, published) = watch::channel(Arc::new(TenantSet::empty(Instant::now())));
        let (status, _) = watch::channel(StageStatus::well(NOW));
        let mut beacon = Beacon::new(Arc::new(clock.clone()), tenants, status, Instant::now());
        beacon.trust_until(Instant::now() + 27 * SECOND);
        let id = TenantId(uuid::Uuid::from_u128(1));
        let tenant = HeldTenant {
            id,
            name: "one".to_owned(),
            cloud: CloudName::new("global"),
            app: AppName::new("main"),
            sources: vec![Source::GraphAlerts],
            state: TenantState::Active,
            epoch: Epoch(1),
            credential_version: 1,
            last_refresh_at: None,
        };
        beacon.publish(&Arc::new([(id, Arc::new(tenant))].into()));
        assert_eq!(published.borrow().tenants.len(), 1);
        (beacon, clock, published)
    }

    #[tokio::test(start_paused = true)]
    async fn i31_a_machine_that_slept_believes_no_lease_before_it_is_renewed() {
        let (mut beacon, clock, published) = world();
        let before = published.borrow().clone();
        clock.advance(600 * SECOND);
        let answer = beacon.during(SECOND, async { Ok(1) }).await;
        assert!(answer.is_err(), "an answer from before the sleep");
        assert!(beacon.has_slept());
        assert!(published.borrow().tenants.is_empty() && published.borrow().trusted_until <= Instant::now());
        beacon.publish(&before.tenants);
        assert!(published.borrow().tenants.is_empty(), "what was read before is not believed either");
        assert!(!beacon.has_slept(), "once");
        beacon.during(SECOND, async { Ok(1) }).await.unwrap();
        beacon.trust_until(Instant::now() + 27 * SECOND);
        beacon.publish(&before.tenants);
        assert_eq!(published.borrow().tenants.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn i31_neither_time_that_passes_nor_a_clock_set_back_ends_any_trust_early() {
        let (mut beacon, clock, published) = world();
        for _ in 0..20 {
            tokio::time::advance(SECOND).await;
            clock.advance(SECOND + SECOND / 100);
            assert!(!beacon.has_slept());
        }
        clock.set(NOW.minus(7200 * SECOND));
        assert!(!beacon.has_slept());
        beacon.check_trust();
        assert_eq!(published.borrow().tenants.len(), 1);
        // Nor does it make the trust last longer.
        tokio::time::advance(8 * SECOND).await;
        beacon.check_trust();
        assert!(published.borrow().tenants.is_empty());
    }
}
