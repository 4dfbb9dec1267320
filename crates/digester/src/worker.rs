//! The loop: looks who has something to derive, takes one step for each of them in turn, and says how it fares.
//!
//! It looks every two seconds at those of whom it has heard that something was stored, and now and then at everybody: a word
//! that is lost costs some seconds, and a restart takes the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use domain::health::StageStatus;
use domain::retry::Backoff;
use domain::{Clock, TenantId, TenantSet, metric};
use sqlx::PgPool;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::step::{Right, StepError, Stepped, step};
use crate::store::look::{Due, look};

/// How often it looks when all is derived.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often it looks at everybody: what a command or somebody before us has left is not heard of.
const EVERYBODY_EVERY: Duration = Duration::from_secs(10);
/// One step has this long, less than a beat may be old.
const STEP: Duration = Duration::from_secs(20);
/// A tenant of which a step failed is left alone for this long at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the worker takes from the wiring.
pub struct Deps {
    /// The store.
    pub pool: PgPool,
    /// Who is held.
    pub tenants: watch::Receiver<Arc<TenantSet>>,
    /// For beats.
    pub clock: Arc<dyn Clock>,
    /// How it fares.
    pub status: watch::Sender<StageStatus>,
}

/// Derives what the held tenants have stored; see [`DigestWorker::run`].
pub struct DigestWorker {
    deps: Deps,
    stored: Option<mpsc::Receiver<TenantId>>,
    /// Of whom it has heard since it last looked, and who was not wholly derived then.
    open: BTreeSet<TenantId>,
    /// When it looks at everybody next, and how many were held when it last did.
    everybody: (Instant, usize),
    failing: BTreeMap<TenantId, Failing>,
    fault: Option<String>,
    look_every: Duration,
    everybody_every: Duration,
}

/// A tenant of which the last step failed.
struct Failing {
    backoff: Backoff,
    again: Instant,
}

impl DigestWorker {
    /// Puts it together; it does nothing before [`DigestWorker::run`].
    pub fn new(deps: Deps) -> Self {
        let everybody = (Instant::now(), 0);
        Self {
            deps,
            stored: None,
            open: BTreeSet::new(),
            everybody,
            failing: BTreeMap::new(),
            fault: None,
            look_every: LOOK_EVERY,
            everybody_every: EVERYBODY_EVERY,
        }
    }

    /// The same, told by the sink of whom something was stored. Otherwise it looks at everybody each time, which with
    /// thousands of customers is most of what they cost the database while nothing happens.
    #[must_use]
    pub fn hearing(self, stored: mpsc::Receiver<TenantId>) -> Self {
        Self { stored: Some(stored), ..self }
    }

    /// The same, looking so often.
    #[must_use]
    pub fn looking_every(self, look_every: Duration) -> Self {
        Self { look_every, ..self }
    }

    /// The same, looking at everybody so often.
    #[must_use]
    pub fn looking_at_everybody_every(self, everybody_every: Duration) -> Self {
        Self { everybody_every, ..self }
    }

    /// Works until `stop`. Trouble with the database is waited for.
    ///
    /// # Errors
    /// Never.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), String> {
        // A round is dropped wherever it stands: what is half-way in the database is rolled back.
        while stop.run_until_cancelled(self.round()).await.is_some() {}
        Ok(())
    }

    async fn round(&mut self) {
        self.beat();
        let held = Arc::clone(&self.deps.tenants.borrow());
        let ids = self.whom_to_look_at(&held);
        let mut more = false;
        match timeout(STEP, look(&self.deps.pool, &ids)).await {
            Ok(Ok(due)) => {
                self.open = due.iter().map(|due| due.tenant).collect();
                let worst = due.iter().filter(|due| due.held).map(|due| due.lag).fold(0.0, f64::max);
                metrics::gauge!(metric::DIGEST_LAG).set(worst);
                self.failing.retain(|tenant, _| due.iter().any(|due| due.tenant == *tenant));
                more = self.take_turns(&held, &due).await;
            }
            Ok(Err(error)) => self.cannot_look(&StepError::from(error).to_string()),
            Err(_) => self.cannot_look(&format!("the database did not answer within {} s", STEP.as_secs())),
        }
        self.beat();
        if !more {
            sleep(self.look_every).await;
        }
    }

    /// Who of those held may have something to derive.
    fn whom_to_look_at(&mut self, held: &TenantSet) -> Vec<TenantId> {
        let now = Instant::now();
        while let Some(tenant) = self.stored.as_mut().and_then(|stored| stored.try_recv().ok()) {
            self.open.insert(tenant);
        }
        let (due, count) = self.everybody;
        if self.stored.is_none() || now >= due || count != held.tenants.len() {
            self.everybody = (now + self.everybody_every, held.tenants.len());
            return held.tenants.keys().copied().collect();
        }
        self.open.iter().copied().filter(|tenant| held.tenants.contains_key(tenant)).collect()
    }

    /// One step for each; whether somebody has more.
    async fn take_turns(&mut self, held: &TenantSet, due: &[Due]) -> bool {
        let (mut more, mut worked, mut waiting, mut failed) = (false, false, false, None);
        for due in due.iter().filter(|due| due.ready) {
            let right = match held.tenants.get(&due.tenant) {
                Some(tenant) => Right::Lease(tenant.fence()),
                None => Right::Removed(due.tenant),
            };
            let failing = self.failing.get(&due.tenant);
            if failing.is_some_and(|failing| failing.again > Instant::now()) {
                waiting = true;
                continue;
            }
            let stepped = match timeout(STEP, step(&self.deps.pool, right, failing.is_some())).await {
                Ok(Ok(stepped)) => Ok(stepped),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("a step took longer than {} s", STEP.as_secs())),
            };
            self.beat();
            match stepped {
                Ok(stepped) => {
                    worked = true;
                    more |= matches!(stepped, Stepped::Moved { more: true, .. });
                    self.recovered(due.tenant);
                }
                Err(reason) => {
                    self.failed(due.tenant, &reason);
                    failed = Some(reason);
                }
            }
        }
        match failed {
            // One tenant's trouble is its own; it is everybody's when nobody's step was done.
            Some(reason) if !worked => self.cannot(&reason),
            None if !worked && waiting => {}
            _ => self.fault = None,
        }
        more
    }

    fn failed(&mut self, tenant: TenantId, reason: &str) {
        let is_new = !self.failing.contains_key(&tenant);
        let failing = self
            .failing
            .entry(tenant)
            .or_insert_with(|| Failing { backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), again: Instant::now() });
        failing.again = Instant::now() + failing.backoff.next_delay(None);
        if is_new {
            tracing::warn!(tenant.id = %tenant, reason, "what dashboards read of this tenant is not brought up to date; its alerts are stored all the same");
        }
    }

    fn recovered(&mut self, tenant: TenantId) {
        if self.failing.remove(&tenant).is_some() {
            tracing::info!(tenant.id = %tenant, "what dashboards read of this tenant is brought up to date again");
        }
    }

    fn cannot_look(&mut self, reason: &str) {
        self.everybody.0 = Instant::now();
        self.cannot(reason);
    }

    fn cannot(&mut self, reason: &str) {
        self.fault = Some(format!("evidence and roll-ups are not brought up to date: {reason}"));
    }

    fn beat(&self) {
        let now = self.deps.clock.now();
        self.deps.status.send_replace(match &self.fault {
            None => StageStatus::well(now),
            Some(fault) => StageStatus::faulty(now, fault.clone()),
        });
    }
}
