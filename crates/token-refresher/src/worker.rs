//! The worker: redeems ahead of expiry, follows up suspicions, keeps idle refresh tokens alive, and
//! says every second that it is there.
//!
//! One timer serves all tenants (see [`crate::agenda`]); a tenant costs a task only while it is being
//! refreshed. What to do is worked out anew from memory each time a tenant is due, so an appointment
//! that is out of date does no harm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::health::StageStatus;
use domain::{HeldTenant, TenantId, TenantSet};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::core::{Core, Slot, locked};
use crate::settle::Wish;

/// Who is held, as the registry publishes it.
type Tenants = Arc<BTreeMap<TenantId, Arc<HeldTenant>>>;

/// The task behind [`crate::TokenSource`].
pub struct Worker {
    pub(crate) core: Arc<Core>,
    pub(crate) status: watch::Sender<StageStatus>,
}

impl Worker {
    /// Runs until `stop`, then lets redemptions in flight end, so that no rotated token is lost.
    ///
    /// # Errors
    /// In words, when a refresh panicked.
    pub async fn run(self, stop: CancellationToken) -> Result<(), String> {
        let core = &self.core;
        let mut tenants = core.tenants.clone();
        let mut jobs = JoinSet::new();
        let mut beat = tokio::time::interval(core.config.beat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut adopted = Arc::default();
        self.take_over(&mut tenants, &mut adopted);
        loop {
            let next = locked(&core.agenda).next().filter(|_| jobs.len() < core.config.concurrency);
            let outcome = tokio::select! {
                // In this order, since one drawn by chance could not be repeated in a simulation.
                biased;
                () = stop.cancelled() => break,
                _ = beat.tick() => {
                    self.beat();
                    Ok(())
                }
                // A registry that has ended publishes nothing more; whoever watches its task ends us.
                Ok(()) = tenants.changed() => {
                    self.take_over(&mut tenants, &mut adopted);
                    Ok(())
                }
                () = core.agenda_changed.notified() => Ok(()),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    self.start_due(&mut jobs);
                    Ok(())
                }
                Some(done) = jobs.join_next() => done.map_err(|error| format!("a token refresh failed: {error}")),
            };
            outcome?;
        }
        self.drain(jobs).await;
        Ok(())
    }

    fn beat(&self) {
        let core = &self.core;
        core.outbox.flush();
        core.forget_all_but(&core.tenants.borrow());
        self.status.send_replace(StageStatus::well(core.clock.now()).remarking(core.app_faults()));
    }

    /// Takes over the tenants of the newest set, unless they are those that were adopted before: then only the leases were
    /// confirmed. A set that was withdrawn for a moment comes back as it was, and somebody may have looked meanwhile.
    fn take_over(&self, tenants: &mut watch::Receiver<Arc<TenantSet>>, adopted: &mut Tenants) {
        let set = Arc::clone(&tenants.borrow_and_update());
        self.core.slept(&set);
        if !self.core.has_missed() && Arc::ptr_eq(&set.tenants, adopted) {
            return;
        }
        *adopted = Arc::clone(&set.tenants);
        for tenant in set.tenants.values() {
            let slot = self.core.slot(tenant);
            self.core.plan(tenant, &slot);
        }
        self.core.forget_all_but(&set);
    }

    /// Starts a job for each tenant that is due, as far as there is room.
    fn start_due(&self, jobs: &mut JoinSet<()>) {
        let core = &self.core;
        while jobs.len() < core.config.concurrency {
            let now = Instant::now();
            let Some(id) = locked(&core.agenda).pop_due(now) else { return };
            let Some(slot) = core.known_slot(id) else { continue };
            slot.memory().tidy(now);
            if slot.memory().is_offer_due(now) {
                jobs.spawn(save(Arc::clone(core), id, slot));
                continue;
            }
            let Some(tenant) = core.held(id) else {
                core.plan_offer(id, &slot);
                continue;
            };
            if slot.memory().due_audiences(now).is_empty() {
                core.plan(&tenant, &slot);
            } else {
                jobs.spawn(renew(Arc::clone(core), tenant, slot));
            }
        }
    }

    async fn drain(&self, mut jobs: JoinSet<()>) {
        let core = &self.core;
        core.stopping.cancel();
        core.under_way.close();
        let all = async {
            // What is held need not wait for those who still hang at a sign-in service.
            tokio::join!(
                async {
                    while jobs.join_next().await.is_some() {}
                    core.under_way.wait().await;
                },
                core.save_all(),
            );
            core.save_all().await;
        };
        if timeout(core.config.drain, all).await.is_err() {
            let count = jobs.len() + core.under_way.len();
            tracing::warn!(count, "token refreshes were still in flight when the daemon stopped");
        }
        core.tell_unsaved();
        core.outbox.flush();
    }
}

/// Offers a token that is held to the database once more. The tenant need not be ours: the fence decides.
async fn save(core: Arc<Core>, id: TenantId, slot: Arc<Slot>) {
    {
        let _alone = slot.gate.lock().await;
        // What stands in the way is in memory, with the time of the next offer.
        let _ = core.save_held(id, &slot, false).await;
    }
    match core.held(id) {
        Some(tenant) => core.plan(&tenant, &slot),
        None => core.plan_offer(id, &slot),
    }
}

/// Does what is due for one tenant, one audience after the other.
async fn renew(core: Arc<Core>, tenant: Arc<HeldTenant>, slot: Arc<Slot>) {
    let due = slot.memory().due_audiences(Instant::now());
    for audience in due {
        // The outcome is in memory, in the report and in the counters.
        let _ = core.obtain(tenant.id, &slot, audience, Wish::Ahead).await;
    }
    let now = Instant::now();
    {
        let mut memory = slot.memory();
        // Whatever happened, the next look is not at once: a mistake in a rule must not become a hot loop.
        if !memory.due_audiences(now).is_empty() {
            memory.snooze_until(now + Duration::from_secs(1));
        }
    }
    core.plan(&tenant, &slot);
}
