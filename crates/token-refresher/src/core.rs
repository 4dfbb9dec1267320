//! What the handle and the worker share: the dependencies, and what is remembered per tenant and app.
//!
//! Two locks per tenant, on purpose. The *gate* is held for the length of a redemption and makes
//! redemptions of one refresh token queue: two at once are a reuse, for which a strict server revokes
//! the whole family. The *memory* is held for a few instructions, so that a cached token is handed
//! out while a redemption is under way.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::health::StageStatus;
use domain::ports::{AppCredentials, NoToken};
use domain::{AccessToken, AppName, Audience, Chance, Clock, CloudName, HeldTenant, Report, TenantId, TenantSet, Trouble, Verdict};
use microsoft::{App, Cloud, Grant};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agenda::Agenda;
use crate::breaker::Breaker;
use crate::config::Config;
use crate::lane::Lanes;
use crate::outbox::Outbox;
use crate::redeemer::Redeemer;
use crate::slot::{Hold, Memory, Now};
use crate::unsaved::Unsaved;
use crate::vault::TokenVault;

/// Everything that the refresher is handed at the start.
pub struct Deps {
    /// The sign-in service.
    pub redeemer: Arc<dyn Redeemer>,
    /// Where refresh tokens are sealed.
    pub vault: Arc<dyn TokenVault>,
    /// The configured clouds.
    pub clouds: Arc<BTreeMap<CloudName, Cloud>>,
    /// The rate of each login host.
    pub lanes: Arc<Lanes>,
    /// The configured app registrations.
    pub apps: Arc<BTreeMap<AppName, App>>,
    /// The credentials of the app registrations, read at each use.
    pub credentials: Arc<dyn AppCredentials>,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub chance: Arc<dyn Chance>,
    /// The tenants that this replica holds.
    pub tenants: watch::Receiver<Arc<TenantSet>>,
    /// News for the registry.
    pub reports: mpsc::Sender<Report>,
    /// What this stage says about itself.
    pub status: watch::Sender<StageStatus>,
}

/// What is kept per tenant.
pub(crate) struct Slot {
    pub(crate) gate: tokio::sync::Mutex<()>,
    memory: Mutex<Memory>,
    /// The sign-in service is being asked with the stored token; see [`domain::ports::InFlight`].
    asked: AtomicBool,
}

impl Slot {
    fn new(memory: Memory) -> Self {
        Self { gate: tokio::sync::Mutex::new(()), memory: Mutex::new(memory), asked: AtomicBool::new(false) }
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        locked(&self.memory)
    }

    /// Whether what a redemption came to may still have to be stored.
    pub(crate) fn is_redeeming(&self) -> bool {
        // In this order: what came back is in memory before the mark is taken away.
        self.asked.load(Ordering::SeqCst) || self.memory().unsaved.is_some()
    }

    /// A mark for the redemption that is about to begin. It is not set yet.
    pub(crate) fn mark(&self) -> Mark<'_> {
        Mark(&self.asked)
    }
}

/// Says to the registry that a refresh token is on its way, until it is dropped: from before the last look at the
/// lease to after what came back is stored, or held in memory.
pub(crate) struct Mark<'a>(&'a AtomicBool);

impl Mark<'_> {
    /// A redemption begins, unless the look at the lease that follows forbids it. The look takes the lock of the
    /// published set, so whoever withdraws the tenant either comes before the look, or finds the mark.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// What was asked has been answered, and there is nothing to store.
    pub(crate) fn clear(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What the handle and the worker share.
pub(crate) struct Core {
    pub(crate) redeemer: Arc<dyn Redeemer>,
    pub(crate) vault: Arc<dyn TokenVault>,
    pub(crate) clouds: Arc<BTreeMap<CloudName, Cloud>>,
    pub(crate) apps: Arc<BTreeMap<AppName, App>>,
    pub(crate) credentials: Arc<dyn AppCredentials>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Chance>,
    pub(crate) tenants: watch::Receiver<Arc<TenantSet>>,
    pub(crate) outbox: Outbox,
    pub(crate) config: Config,
    pub(crate) lanes: Arc<Lanes>,
    /// Redemptions under way on behalf of callers. They outlive a caller who went away: an answer that
    /// nobody reads may hold the only refresh token that still works.
    pub(crate) under_way: TaskTracker,
    pub(crate) stopping: CancellationToken,
    /// The worker's appointments, and a nudge when the earliest one has changed.
    pub(crate) agenda: Mutex<Agenda>,
    pub(crate) agenda_changed: Notify,
    /// Somebody was seen as not held, and has lost his appointments by that. He may be held all the same by now.
    missed: AtomicBool,
    /// Until when the leases may be believed, and when that was first seen.
    confirmed: Mutex<(Instant, Now)>,
    slots: Mutex<HashMap<TenantId, Arc<Slot>>>,
    breakers: Mutex<BTreeMap<(CloudName, AppName), Breaker>>,
}

impl Core {
    pub(crate) fn new(deps: Deps, config: Config) -> (Self, watch::Sender<StageStatus>) {
        let now = Now { instant: Instant::now(), wall: deps.clock.now() };
        let core = Self {
            confirmed: Mutex::new((now.instant, now)),
            lanes: deps.lanes,
            redeemer: deps.redeemer,
            vault: deps.vault,
            clouds: deps.clouds,
            apps: deps.apps,
            credentials: deps.credentials,
            clock: deps.clock,
            chance: deps.chance,
            tenants: deps.tenants,
            outbox: Outbox::new(deps.reports),
            config,
            under_way: TaskTracker::new(),
            stopping: CancellationToken::new(),
            agenda: Mutex::new(Agenda::default()),
            agenda_changed: Notify::new(),
            missed: AtomicBool::new(false),
            slots: Mutex::new(HashMap::new()),
            breakers: Mutex::new(BTreeMap::new()),
        };
        (core, deps.status)
    }

    pub(crate) fn now(&self) -> Now {
        Now { instant: Instant::now(), wall: self.clock.now() }
    }

    /// How much more the wall clock has moved than tokio's since the leases were confirmed. A machine that slept
    /// counts no time of its own, while its leases went on to end (I31). A step of the clock looks the same, and
    /// costs a wait for the next renewal.
    pub(crate) fn slept(&self, set: &TenantSet) -> Duration {
        let now = self.now();
        let mut confirmed = locked(&self.confirmed);
        if confirmed.0 != set.trusted_until {
            *confirmed = (set.trusted_until, now);
        }
        let (_, then) = *confirmed;
        now.wall.since(then.wall).saturating_sub(now.instant - then.instant)
    }

    /// The tenant as the registry sees it now, if this replica still holds it.
    pub(crate) fn held(&self, tenant: TenantId) -> Option<Arc<HeldTenant>> {
        self.tenants.borrow().tenants.get(&tenant).cloned()
    }

    /// The slot of a held tenant, brought up to date with what the registry says of it.
    pub(crate) fn slot(&self, tenant: &HeldTenant) -> Arc<Slot> {
        let fresh = || Arc::new(Slot::new(Memory::new(tenant)));
        let slot = Arc::clone(locked(&self.slots).entry(tenant.id).or_insert_with(fresh));
        slot.memory().adopt(tenant);
        slot
    }

    /// The slot of a tenant, if there is one.
    pub(crate) fn known_slot(&self, tenant: TenantId) -> Option<Arc<Slot>> {
        locked(&self.slots).get(&tenant).cloned()
    }

    /// Forgets tenants that are no longer held. A slot that somebody still uses stays until the next
    /// time: with a second gate for the same tenant two redemptions could overlap.
    pub(crate) fn forget_all_but(&self, set: &TenantSet) {
        let now = Instant::now();
        let known = set.trusted_until > now;
        let (mut agenda, mut slots) = (locked(&self.agenda), locked(&self.slots));
        // Everybody in the set has a slot as soon as it was taken over.
        if slots.len() <= set.tenants.len() {
            return;
        }
        slots.retain(|tenant, slot| {
            let stays = set.tenants.contains_key(tenant) || Arc::strong_count(slot) > 1 || self.holds_on(*tenant, slot, known, now);
            if !stays {
                agenda.set(*tenant, None);
                self.missed.store(true, Ordering::SeqCst);
            }
            stays
        });
    }

    /// Whether appointments were lost since this was last asked, of somebody who may be held.
    pub(crate) fn has_missed(&self) -> bool {
        self.missed.swap(false, Ordering::SeqCst)
    }

    /// Whether a slot of a tenant that is not ours keeps a token that is worth it.
    fn holds_on(&self, tenant: TenantId, slot: &Slot, known: bool, now: Instant) -> bool {
        let mut memory = slot.memory();
        let Some(unsaved) = &mut memory.unsaved else { return false };
        if known && unsaved.not_ours(now, &self.config) {
            tracing::warn!(tenant.id = %tenant, "a new refresh token was never stored, and the tenant is looked after elsewhere: dropped");
            memory.unsaved = None;
            return false;
        }
        true
    }

    /// Every tenant with a token that is not stored yet.
    pub(crate) fn holding(&self) -> Vec<(TenantId, Arc<Slot>)> {
        let slots = locked(&self.slots);
        slots.iter().filter(|(_, slot)| slot.memory().unsaved.is_some()).map(|(tenant, slot)| (*tenant, Arc::clone(slot))).collect()
    }

    /// Works out anew when the worker has to look at this tenant.
    pub(crate) fn plan(&self, tenant: &HeldTenant, slot: &Slot) {
        let keeps_token = self.apps.get(&tenant.app).is_some_and(|app| app.grant == Grant::RefreshToken);
        let due = {
            let mut memory = slot.memory();
            memory.unasked.plan(tenant, keeps_token, self.now(), &self.config, &*self.chance);
            memory.due()
        };
        if locked(&self.agenda).set(tenant.id, due) {
            self.agenda_changed.notify_one();
        }
    }

    /// For a tenant that is not ours there is nothing to do but to offer what is held of it.
    pub(crate) fn plan_offer(&self, tenant: TenantId, slot: &Slot) {
        let next = slot.memory().unsaved.as_deref().and_then(Unsaved::offer_at);
        if locked(&self.agenda).set(tenant, next) {
            self.agenda_changed.notify_one();
        }
        // Last: whoever sees it, and plans everybody anew, plans what was taken away here.
        self.missed.store(true, Ordering::SeqCst);
    }

    /// The answer that needs no network, if there is one: a cached token, or what stands in the way.
    pub(crate) fn without_network(&self, tenant: &HeldTenant, slot: &Slot, audience: Audience) -> Option<Result<AccessToken, NoToken>> {
        let now = self.now();
        let held_back = {
            let mut memory = slot.memory();
            if let Some(token) = memory.live_token(audience, now) {
                return Some(Ok(token));
            }
            memory.hold(audience, now.instant)
        };
        let held_back =
            held_back.or_else(|| self.breaker(tenant, |breaker| breaker.shut(now.instant)).map(|(trouble, until)| Hold { trouble, until }));
        if self.stopping.is_cancelled() {
            return Some(Err(self.no_token(passing("the daemon is stopping"), Duration::from_secs(1))));
        }
        held_back.map(|hold| Err(self.no_token(hold.trouble, hold.until - now.instant)))
    }

    pub(crate) fn no_token(&self, trouble: Trouble, wait: Duration) -> NoToken {
        NoToken { trouble, retry_at: self.clock.now().plus(wait) }
    }

    /// Uses the switch of the tenant's app registration.
    pub(crate) fn breaker<T>(&self, tenant: &HeldTenant, with: impl FnOnce(&mut Breaker) -> T) -> T {
        with(locked(&self.breakers).entry((tenant.cloud.clone(), tenant.app.clone())).or_default())
    }

    /// What is at fault with our own app registrations, in words.
    pub(crate) fn app_faults(&self) -> Option<String> {
        let breakers = locked(&self.breakers);
        let faults: Vec<_> = breakers
            .iter()
            .filter_map(|((cloud, app), breaker)| breaker.fault().map(|fault| format!("app {app} in cloud {cloud}: {fault}")))
            .collect();
        (!faults.is_empty()).then(|| faults.join("; "))
    }
}

/// Locks a mutex whose holder runs a few instructions that cannot panic halfway.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Trouble that ends by itself and needs nobody.
pub(crate) fn passing(reason: impl Into<String>) -> Trouble {
    Trouble { verdict: Verdict::Retry, reason: reason.into(), action: "nothing; it is tried again".to_owned(), code: None, trace: None }
}
