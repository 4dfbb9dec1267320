//! A world for the poller without a network or a database: a source, a token source and a store in memory, all on
//! tokio's paused clock.

pub(crate) mod cloud;
pub(crate) mod store;
mod tokens;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alert_poller::{Compare, Config, Deps, Ladder, Poller, Rung};
use domain::health::{Headline, StageStatus};
use domain::ports::{AccessTokens, Cursors};
use domain::{AppName, Clock, CloudName, Epoch, HeldTenant, Report, SeededChance, Source, TenantId, TenantSet, TenantState, Ticks};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::cloud::Front;
pub(crate) use self::cloud::{Cloud, Item, Mood};
pub(crate) use self::store::Store;
use self::tokens::Tokens;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
pub(crate) const EPOCH: Ticks = Ticks(17_500_000_000_000_000);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most calls within any such period, of calls in the order of time.
pub(crate) fn most_within(calls: &[Instant], period: Duration) -> usize {
    let within = |index: usize| calls[index..].partition_point(|later| *later - calls[index] < period);
    (0..calls.len()).map(within).max().unwrap_or_default()
}

/// No rung and no comparison.
pub(crate) fn no_ladder() -> Ladder {
    let off = Rung { reach: DAY, every: Duration::ZERO };
    Ladder { short: off, long: off, compare: None }
}

/// Only the short rung.
pub(crate) fn only_short(reach: Duration, every: Duration) -> Ladder {
    Ladder { short: Rung { reach, every }, ..no_ladder() }
}

/// Only the nightly comparison.
pub(crate) fn only_nightly(reach: Duration) -> Ladder {
    Ladder { compare: Some(Compare { reach, at: Duration::ZERO }), ..no_ladder() }
}

/// Wall-clock time that goes with tokio's, and can be set.
#[derive(Clone)]
pub(crate) struct WorldClock {
    start: Instant,
    offset: Arc<AtomicI64>,
}

impl WorldClock {
    fn new() -> Self {
        Self { start: Instant::now(), offset: Arc::default() }
    }

    /// Sets it so many seconds ahead of the true time, or behind.
    pub(crate) fn set_off(&self, seconds: i64) {
        self.offset.store(seconds * 10_000_000, Ordering::SeqCst);
    }

    /// What every other clock says.
    pub(crate) fn truth(&self) -> Ticks {
        EPOCH.plus(self.start.elapsed())
    }
}

impl Clock for WorldClock {
    fn now(&self) -> Ticks {
        Ticks(self.truth().0 + self.offset.load(Ordering::SeqCst))
    }
}

pub(crate) fn tenant(number: u32) -> TenantId {
    TenantId(uuid::Uuid::from_u128(u128::from(number) + 1))
}

/// A running poller and everything around it.
pub(crate) struct World {
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) store: Arc<Store>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) reports: Arc<Mutex<Vec<Report>>>,
    pub(crate) clock: WorldClock,
    pub(crate) config: Config,
    held: BTreeMap<TenantId, Arc<HeldTenant>>,
    trusted_for: Duration,
    tenants: watch::Sender<Arc<TenantSet>>,
    sink_status: watch::Sender<StageStatus>,
    pub(crate) status: watch::Receiver<StageStatus>,
    settings: watch::Sender<Config>,
    pub(crate) headline: watch::Receiver<Headline>,
    stop: CancellationToken,
    running: Option<JoinHandle<Result<(), String>>>,
}

impl World {
    /// Nobody is held yet; the poller runs.
    pub(crate) fn start(config: Config) -> Self {
        let clock = WorldClock::new();
        let cloud = Arc::new(Cloud::default());
        let store = Arc::new(Store { cloud: Arc::clone(&cloud), clock: Mutex::new(Some(clock.clone())), ..Store::default() });
        let tokens = Arc::new(Tokens::default());
        let mut world = Self {
            cloud,
            store,
            tokens,
            reports: Arc::default(),
            clock,
            config,
            held: BTreeMap::new(),
            trusted_for: Duration::from_secs(1_000_000),
            tenants: watch::channel(Arc::new(TenantSet::empty(Instant::now()))).0,
            sink_status: watch::channel(StageStatus::well(EPOCH)).0,
            status: watch::channel(StageStatus::well(EPOCH)).1,
            settings: watch::channel(Config::default()).0,
            headline: watch::channel(Headline::default()).1,
            stop: CancellationToken::new(),
            running: None,
        };
        world.launch();
        world
    }

    fn launch(&mut self) {
        let (sink, mut inbox) = mpsc::channel(16);
        let (reports, mut told) = mpsc::channel(16);
        let (status, seen) = watch::channel(StageStatus::faulty(EPOCH, "not started"));
        self.status = seen;
        self.stop = CancellationToken::new();
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Some(message) = inbox.recv().await {
                store.take(message, &mut held);
            }
        });
        let list = Arc::clone(&self.reports);
        tokio::spawn(async move {
            while let Some(report) = told.recv().await {
                lock(&list).push(report);
            }
        });
        let deps = Deps {
            source: Arc::new(Front { cloud: Arc::clone(&self.cloud), clock: self.clock.clone() }),
            tokens: Arc::clone(&self.tokens) as Arc<dyn AccessTokens>,
            cursors: Arc::clone(&self.store) as Arc<dyn Cursors>,
            clock: Arc::new(self.clock.clone()),
            chance: Arc::new(SeededChance::new(7)),
            tenants: self.tenants.subscribe(),
            sink,
            sink_status: self.sink_status.subscribe(),
            reports,
            status,
        };
        let (headline, line) = watch::channel(Headline::default());
        self.headline = line;
        let poller = Poller::new(deps, self.config.clone()).following(self.settings.subscribe()).telling(headline);
        self.running = Some(tokio::spawn(poller.run(self.stop.clone())));
    }

    /// Other settings from now on.
    pub(crate) fn set(&mut self, config: Config) {
        self.config = config;
        self.settings.send_replace(self.config.clone());
    }

    /// Holds these tenants as well, each with one source.
    pub(crate) fn hold(&mut self, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            let held = HeldTenant {
                id: tenant(number),
                name: format!("tenant {number}"),
                cloud: CloudName::new("lab"),
                app: AppName::new("main"),
                sources: vec![Source::GraphAlerts],
                state: TenantState::Active,
                epoch: Epoch(1),
                credential_version: 1,
                last_refresh_at: None,
            };
            self.held.insert(held.id, Arc::new(held));
        }
        self.announce();
    }

    /// Changes a held tenant.
    pub(crate) fn change(&mut self, number: u32, change: impl FnOnce(&mut HeldTenant)) {
        if let Some(held) = self.held.get_mut(&tenant(number)) {
            change(Arc::make_mut(held));
        }
        self.announce();
    }

    /// Another replica holds the tenant now.
    pub(crate) fn let_go(&mut self, number: u32) {
        self.held.remove(&tenant(number));
        self.announce();
    }

    /// How long the leases are to be believed from now on.
    pub(crate) fn trust_for(&mut self, span: Duration) {
        self.trusted_for = span;
        self.announce();
    }

    fn announce(&self) {
        let set = TenantSet { tenants: Arc::new(self.held.clone()), ..TenantSet::empty(Instant::now() + self.trusted_for) };
        self.tenants.send_replace(Arc::new(set));
    }

    /// The sink says that the database is away, or that it is back.
    pub(crate) fn database_is_away(&self, away: bool) {
        let now = self.clock.now();
        self.sink_status.send_replace(if away { StageStatus::faulty(now, "no database") } else { StageStatus::well(now) });
    }

    pub(crate) fn reports(&self) -> Vec<Report> {
        lock(&self.reports).clone()
    }

    /// Ends the poller and says how long that took.
    pub(crate) async fn stop(&mut self) -> Duration {
        let before = Instant::now();
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            running.await.expect("no panic").expect("a clean end");
        }
        before.elapsed()
    }

    /// A new process on the same database.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.launch();
    }

    /// Whether the poller still runs.
    pub(crate) fn is_running(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.is_finished())
    }
}

/// Waits on the paused clock until the condition holds, and says how long it took.
pub(crate) async fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let before = Instant::now();
    let step = (limit / 2000).clamp(Duration::from_millis(10), SECOND * 5);
    while !condition() {
        assert!(before.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(step).await;
    }
    before.elapsed()
}

/// Lets time go by.
pub(crate) async fn pass(span: Duration) {
    sleep(span).await;
}

/// Locks for tests.
pub(crate) fn set<T>(mutex: &Mutex<T>, value: T) {
    *lock(mutex) = value;
}
