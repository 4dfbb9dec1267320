//! A tiny keeper of leases, by the rules of `tenant-registry`: time is the database's, a claim begins a new epoch and
//! waits for writers, a renewal only goes on with what has not expired, and what a process believes ends a little
//! before what the database knows.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use domain::ports::InFlight;
use domain::{AppName, CloudName, Epoch, HeldTenant, TenantId, TenantSet, TenantState};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::process::Process;
use crate::scenario::StoreFault;
use crate::time::{Ms, SECOND};

/// How long a lease lasts without a renewal.
pub(crate) const LEASE: Ms = 30 * SECOND;
/// So much earlier a process stops believing in it.
const MARGIN: Ms = 3 * SECOND;
/// Between two rounds, as the registry is delivered.
const ROUND: Ms = 10 * SECOND;

/// What one process keeps of its leases.
pub(crate) struct Keeper {
    next_round: Ms,
    /// Published no more, and given back in the first round that finds nothing under way for them.
    leaving: Vec<TenantId>,
    in_flight: Arc<dyn InFlight>,
}

/// Where a process says which tenants are its own. In the product this is one channel, which wakes its listeners in an
/// order drawn by tokio; here each has its own, so that the dice draw it.
pub(crate) struct Held([watch::Sender<Arc<TenantSet>>; 2]);

impl Held {
    /// Nobody is held yet.
    pub(crate) fn new() -> Self {
        let nobody = Arc::new(TenantSet::empty(Instant::now()));
        Self([watch::Sender::new(Arc::clone(&nobody)), watch::Sender::new(nobody)])
    }

    /// Where the refresher listens, and where the poller does.
    pub(crate) fn listeners(&self) -> [watch::Receiver<Arc<TenantSet>>; 2] {
        self.0.each_ref().map(watch::Sender::subscribe)
    }

    fn publish(&self, process: &Process, mut set: TenantSet) {
        // The same tenants are the same allocation, as the registry has it.
        let before = Arc::clone(&self.0[0].borrow().tenants);
        if before == set.tenants {
            set.tenants = before;
        }
        let (set, first) = (Arc::new(set), process.dice.below(2));
        self.0[first].send_replace(Arc::clone(&set));
        self.0[1 - first].send_replace(set);
    }
}

/// Tenants in need, as the registry knows them from reports.
pub(crate) type Needs = BTreeMap<TenantId, TenantState>;

impl Keeper {
    pub(crate) fn new(now: Ms, in_flight: Arc<dyn InFlight>) -> Self {
        Self { next_round: now, leaving: Vec::new(), in_flight }
    }

    /// Renews, claims, gives back, and says who is held, when it is time to. `live` is the number of replicas that
    /// are seen to be there.
    pub(crate) fn round(&mut self, process: &Process, live: usize, needs: &Needs, held: &Held, now: Ms) {
        if now < self.next_round {
            return;
        }
        self.next_round = now + ROUND;
        let run = &process.run;
        if matches!(run.store_fault(process.replica, now), Some(StoreFault::Away | StoreFault::Silent | StoreFault::ReadOnly)) {
            return;
        }
        let mut memory = run.memory();
        let me = Some(process.serial);
        let (busy, idle): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.leaving).into_iter().partition(|tenant| self.in_flight.redeeming(*tenant));
        self.leaving = busy;
        for tenant in idle {
            if let Some(lease) = memory.leases.get_mut(&tenant).filter(|lease| lease.holder == me) {
                (lease.holder, lease.expires) = (None, now);
                run.state().trace.event(now, "release", &[], || format!("process {} {}", process.serial, tenant.0));
            }
        }
        for lease in memory.leases.values_mut().filter(|lease| lease.holder == me && lease.expires > now) {
            lease.expires = now + LEASE;
        }
        let share = memory.leases.len().div_ceil(live.max(1));
        let mine = |lease: &&crate::store::Lease| lease.holder == me && lease.expires > now;
        let mut holds = memory.leases.iter().filter(|(tenant, lease)| mine(lease) && !self.leaving.contains(tenant)).count();
        let tenants: Vec<TenantId> = memory.leases.keys().copied().collect();
        for tenant in tenants {
            let written = memory.is_written(tenant, now);
            let Some(lease) = memory.leases.get_mut(&tenant) else { continue };
            // Processes run in turns: what another one has given back later than this is not free yet.
            let free = lease.expires <= now;
            if free && holds < share && !written {
                (lease.holder, lease.claimed_by) = (me, process.serial);
                (lease.epoch, lease.expires) = (lease.epoch + 1, now + LEASE);
                holds += 1;
                let epoch = lease.epoch;
                run.state().trace.event(now, "claim", &[epoch], || format!("process {} {}", process.serial, tenant.0));
                run.state().tally.add("claims", 1);
            } else if lease.holder == me && lease.expires > now && holds > share && !self.leaving.contains(&tenant) {
                self.leaving.push(tenant);
                holds -= 1;
            }
        }
        let leases: Vec<(TenantId, i64)> = memory
            .leases
            .iter()
            .filter(|(tenant, lease)| mine(lease) && !self.leaving.contains(tenant))
            .map(|(tenant, lease)| (*tenant, lease.epoch))
            .collect();
        drop(memory);
        let state = run.state();
        let tenants = leases.into_iter().filter_map(|(id, epoch)| {
            let tenant = run.scenario.tenants.iter().find(|tenant| tenant.id == id)?;
            let held = HeldTenant {
                id,
                name: format!("tenant {}", id.0.as_u128() >> 64),
                cloud: CloudName::new("global"),
                app: AppName::new("main"),
                sources: tenant.sources.clone(),
                state: needs.get(&id).copied().unwrap_or(TenantState::Active),
                epoch: Epoch(epoch),
                credential_version: state.vault.credential_version(id),
                last_refresh_at: None,
            };
            Some((id, Arc::new(held)))
        });
        let tenants = Arc::new(tenants.collect());
        let replicas = u32::try_from(live).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        drop(state);
        held.publish(process, TenantSet { trusted_until: process.time.instant(now + LEASE - MARGIN), replicas, tenants });
    }

    /// Gives everything back: the process has stopped in order.
    pub(crate) fn release_all(process: &Process) {
        for lease in process.run.memory().leases.values_mut().filter(|lease| lease.holder == Some(process.serial)) {
            (lease.holder, lease.expires) = (None, process.time.now());
        }
    }
}
