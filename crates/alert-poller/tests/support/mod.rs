//! A world for the poller without a network or a database: a source, a token source and a store in memory, all on
//! tokio's paused clock. The store refuses to take a cursor that has passed an alert it does not have (I1).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alert_poller::source::{AlertSource, FetchError, Manner, Page, Query};
use alert_poller::{Config, Deps, Poller};
use async_trait::async_trait;
use bytes::Bytes;
use domain::health::StageStatus;
use domain::ports::{AccessTokens, Cursors, NoToken, StoreUnavailable};
use domain::token::Bearer;
use domain::{
    AccessToken, AlertFacts, AlertId, AlertRecord, AppName, Audience, Clock, CloudName, Committed, ContentHash, Epoch, FeedProgress,
    FeedState, HeldTenant, Record, Refusal, Report, SeededChance, SinkMessage, Source, TenantId, TenantSet, TenantState, Ticks, Trouble,
    Verdict,
};
use microsoft::ApiErrorKind;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const EPOCH: Ticks = Ticks(17_500_000_000_000_000);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wall-clock time that goes with tokio's.
#[derive(Clone, Copy)]
pub(crate) struct WorldClock(Instant);

impl Clock for WorldClock {
    fn now(&self) -> Ticks {
        EPOCH.plus(self.0.elapsed())
    }
}

pub(crate) fn tenant(number: u32) -> TenantId {
    TenantId(uuid::Uuid::from_u128(u128::from(number) + 1))
}

/// What a tenant's source does when asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Answers,
    /// Never answers.
    Hangs,
    /// 429, with a time to wait.
    Throttles(Duration),
    /// 503, nothing else said.
    Fails,
    /// 401 to every token with this number or a lower one.
    RefusesTokens(usize),
    /// 403.
    Forbids,
}

/// A tenant at the source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shop {
    pub(crate) mood: Mood,
    pub(crate) alerts: Vec<(String, Ticks)>,
    pub(crate) newest_first: bool,
    pub(crate) delay: Duration,
}

/// A call that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) tenant: TenantId,
    pub(crate) at: Instant,
}

/// The source.
#[derive(Default)]
pub(crate) struct Cloud {
    pub(crate) shops: Mutex<HashMap<TenantId, Shop>>,
    pub(crate) calls: Mutex<Vec<Call>>,
    pub(crate) in_flight: AtomicUsize,
}

struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Cloud {
    pub(crate) fn with<T>(&self, number: u32, change: impl FnOnce(&mut Shop) -> T) -> T {
        change(lock(&self.shops).entry(tenant(number)).or_default())
    }

    pub(crate) fn publish(&self, number: u32, id: impl Into<String>, stamp: Ticks) {
        self.with(number, |shop| shop.alerts.push((id.into(), stamp)));
    }

    /// So many alerts, the last one now, one every `apart`.
    pub(crate) fn history(&self, number: u32, count: u32, apart: Duration) {
        for index in 0..count {
            self.publish(number, format!("{number}-{index}"), EPOCH.minus(apart * (count - index)));
        }
    }

    pub(crate) fn calls_of(&self, number: u32) -> Vec<Call> {
        lock(&self.calls).iter().filter(|call| call.tenant == tenant(number)).copied().collect()
    }

    pub(crate) fn calls(&self) -> usize {
        lock(&self.calls).len()
    }
}

fn error(kind: ApiErrorKind, verdict: Verdict) -> FetchError {
    let reason = format!("{kind:?}");
    FetchError { kind, trouble: Trouble { verdict, reason, action: "nothing".to_owned(), code: None } }
}

/// The source as the poller gets it.
#[derive(Clone)]
pub(crate) struct Front {
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) clock: WorldClock,
}

impl AlertSource for Front {
    type Link = ();

    fn manner(&self, source: Source) -> Option<Manner> {
        match source {
            Source::GraphAlerts => Some(Manner { max_page: 1000, max_skip: 500, can_order: true }),
            Source::MdeAlerts => Some(Manner { max_page: 10_000, max_skip: 10_000, can_order: false }),
            Source::GraphIncidents => None,
        }
    }

    async fn fetch(&self, tenant: &HeldTenant, _: Source, token: &AccessToken, query: &Query<()>) -> Result<Page<()>, FetchError> {
        let Query::Window(window) = query else { return Err(error(ApiErrorKind::SkipExpired, Verdict::Retry)) };
        lock(&self.cloud.calls).push(Call { tenant: tenant.id, at: Instant::now() });
        self.cloud.in_flight.fetch_add(1, Ordering::SeqCst);
        let _in_flight = InFlight(&self.cloud.in_flight);
        let shop = lock(&self.cloud.shops).get(&tenant.id).cloned().unwrap_or_default();
        sleep(shop.delay.max(Duration::from_millis(20))).await;
        match shop.mood {
            Mood::Answers => {}
            Mood::Hangs => std::future::pending().await,
            Mood::Throttles(wait) => return Err(error(ApiErrorKind::Throttled(wait), Verdict::RetryAfter(wait))),
            Mood::Fails => return Err(error(ApiErrorKind::Unavailable, Verdict::Retry)),
            Mood::Forbids => return Err(error(ApiErrorKind::Forbidden, Verdict::NeedsCustomer)),
            Mood::RefusesTokens(last) => {
                use secrecy_of::number;
                if number(token) <= last {
                    return Err(error(ApiErrorKind::Unauthorized, Verdict::Retry));
                }
            }
        }
        let inside = |stamp: Ticks| stamp >= window.from && window.before.is_none_or(|before| stamp < before);
        let mut alerts: Vec<_> = shop.alerts.into_iter().filter(|(_, stamp)| inside(*stamp)).collect();
        alerts.sort_by(|one, other| (one.1, &one.0).cmp(&(other.1, &other.0)));
        if shop.newest_first || !window.ordered {
            alerts.reverse();
        }
        let (skip, top) = (usize::try_from(window.skip).unwrap_or(0), usize::try_from(window.top).unwrap_or(0));
        let records: Vec<_> = alerts.into_iter().skip(skip).take(top).map(|(id, stamp)| record(&id, stamp)).collect();
        let bytes = records.iter().map(Record::len).sum();
        Ok(Page { records, next: None, server_date: Some(self.clock.now()), bytes })
    }
}

/// The expiry of a test token says which one it is, so that nothing needs to open a secret.
mod secrecy_of {
    use domain::AccessToken;

    pub(super) fn number(token: &AccessToken) -> usize {
        usize::try_from(token.expires_at.0).unwrap_or(0)
    }
}

fn record(id: &str, stamp: Ticks) -> Record {
    let raw = Bytes::from(format!("{{\"id\":\"{id}\",\"lastUpdateDateTime\":\"{stamp}\"}}"));
    Record::Alert(AlertRecord {
        id: AlertId::new(id),
        hash: ContentHash::of(&raw),
        raw,
        last_update_text: Some(stamp.to_string()),
        last_update: Some(stamp),
        created: None,
        facts: AlertFacts::default(),
    })
}

/// Gives out numbered tokens.
pub(crate) struct Tokens {
    pub(crate) current: AtomicUsize,
    pub(crate) asked: AtomicUsize,
    pub(crate) refused: AtomicUsize,
    /// While set, there is no token until then.
    pub(crate) none_until: Mutex<Option<Ticks>>,
}

#[async_trait]
impl AccessTokens for Tokens {
    async fn access_token(&self, _: &HeldTenant, _: Audience) -> Result<AccessToken, NoToken> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(retry_at) = *lock(&self.none_until) {
            let trouble =
                Trouble { verdict: Verdict::NeedsConsent, reason: "dead".to_owned(), action: "consent again".to_owned(), code: None };
            return Err(NoToken { trouble, retry_at });
        }
        let number = self.current.load(Ordering::SeqCst);
        let bearer = Bearer::new("a-token").expect("it is not empty");
        Ok(AccessToken { bearer, expires_at: Ticks(i64::try_from(number).unwrap_or(0)) })
    }

    async fn refused(&self, _: TenantId, _: Audience, token: &AccessToken) {
        self.refused.fetch_add(1, Ordering::SeqCst);
        let number = secrecy_of::number(token);
        let _ = self.current.compare_exchange(number, number + 1, Ordering::SeqCst, Ordering::SeqCst);
    }
}

/// What is stored. It outlives pollers.
pub(crate) struct Store {
    cloud: Arc<Cloud>,
    pub(crate) feeds: Mutex<HashMap<(TenantId, Source), FeedState>>,
    pub(crate) records: Mutex<HashMap<TenantId, HashSet<(String, Ticks)>>>,
    pub(crate) batches: Mutex<Vec<(TenantId, Epoch, usize, bool)>>,
    pub(crate) progress: Mutex<Vec<(Instant, FeedProgress)>>,
    pub(crate) read: AtomicUsize,
    /// Batches are taken and not answered.
    pub(crate) stalled: Mutex<bool>,
    /// Batches under another epoch are refused.
    pub(crate) epochs: Mutex<HashMap<TenantId, Epoch>>,
}

#[async_trait]
impl Cursors for Store {
    async fn feed_state(&self, tenant: TenantId, source: Source) -> Result<FeedState, StoreUnavailable> {
        self.read.fetch_add(1, Ordering::SeqCst);
        Ok(lock(&self.feeds).get(&(tenant, source)).cloned().unwrap_or_default())
    }
}

impl Store {
    fn take(&self, message: SinkMessage, held: &mut Vec<SinkMessage>) {
        let batch = match message {
            SinkMessage::Progress(progress) => {
                lock(&self.progress).push((Instant::now(), progress));
                return;
            }
            SinkMessage::Batch(batch) if *lock(&self.stalled) => {
                held.push(SinkMessage::Batch(batch));
                return;
            }
            SinkMessage::Batch(batch) => batch,
        };
        let tenant = batch.fence.tenant;
        if lock(&self.epochs).get(&tenant).is_some_and(|epoch| *epoch != batch.fence.epoch) {
            let _ = batch.ack.send(Err(Refusal::LeaseLost));
            return;
        }
        lock(&self.batches).push((tenant, batch.fence.epoch, batch.records.len(), batch.live));
        let mut committed = Committed::default();
        for record in &batch.records {
            let Record::Alert(alert) = record else { continue };
            let stamp = alert.last_update.expect("all stamps of this world are readable");
            if lock(&self.records).entry(tenant).or_default().insert((alert.id.as_str().to_owned(), stamp)) {
                committed.new += 1;
            } else {
                committed.duplicate += 1;
            }
        }
        if let Some(cursor) = &batch.cursor {
            let missing = self.missing_before(tenant, cursor.watermark);
            assert!(missing.is_empty(), "the cursor of {tenant} passed {missing:?}");
            let mut feeds = lock(&self.feeds);
            let state = feeds.entry((tenant, batch.source)).or_default();
            state.watermark = state.watermark.max(Some(cursor.watermark));
        }
        let _ = batch.ack.send(Ok(committed));
    }

    fn missing_before(&self, tenant: TenantId, watermark: Ticks) -> Vec<String> {
        let (shops, records) = (lock(&self.cloud.shops), lock(&self.records));
        let (alerts, stored) = (shops.get(&tenant).map(|shop| &shop.alerts), records.get(&tenant));
        let is_stored = |alert: &(String, Ticks)| stored.is_some_and(|stored| stored.contains(alert));
        let missing = alerts.into_iter().flatten().filter(|alert| alert.1 < watermark && !is_stored(alert));
        missing.map(|(id, _)| id.clone()).collect()
    }

    /// Ids at the source that are not stored.
    pub(crate) fn missing(&self, number: u32) -> Vec<String> {
        self.missing_before(tenant(number), Ticks(i64::MAX))
    }

    pub(crate) fn progress_of(&self, number: u32) -> Vec<(Instant, FeedProgress)> {
        lock(&self.progress).iter().filter(|(_, progress)| progress.fence.tenant == tenant(number)).cloned().collect()
    }

    pub(crate) fn batches_of(&self, number: u32) -> Vec<(TenantId, Epoch, usize, bool)> {
        lock(&self.batches).iter().filter(|batch| batch.0 == tenant(number)).copied().collect()
    }
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
    stop: CancellationToken,
    running: Option<JoinHandle<Result<(), String>>>,
}

impl World {
    /// Nobody is held yet; the poller runs.
    pub(crate) fn start(config: Config) -> Self {
        let clock = WorldClock(Instant::now());
        let cloud = Arc::new(Cloud::default());
        let store = Arc::new(Store {
            cloud: Arc::clone(&cloud),
            feeds: Mutex::default(),
            records: Mutex::default(),
            batches: Mutex::default(),
            progress: Mutex::default(),
            read: AtomicUsize::default(),
            stalled: Mutex::default(),
            epochs: Mutex::default(),
        });
        let tokens = Arc::new(Tokens {
            current: AtomicUsize::new(1),
            asked: AtomicUsize::default(),
            refused: AtomicUsize::default(),
            none_until: Mutex::default(),
        });
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
            source: Arc::new(Front { cloud: Arc::clone(&self.cloud), clock: self.clock }),
            tokens: Arc::clone(&self.tokens) as Arc<dyn AccessTokens>,
            cursors: Arc::clone(&self.store) as Arc<dyn Cursors>,
            clock: Arc::new(self.clock),
            chance: Arc::new(SeededChance::new(7)),
            tenants: self.tenants.subscribe(),
            sink,
            sink_status: self.sink_status.subscribe(),
            reports,
            status,
        };
        self.running = Some(tokio::spawn(Poller::new(deps, self.config.clone()).run(self.stop.clone())));
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
        let set = TenantSet { trusted_until: Instant::now() + self.trusted_for, tenants: self.held.clone() };
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
    while !condition() {
        assert!(before.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(10)).await;
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
