//! The long-lived task: knows who is due, starts polls and re-reads, and takes their ends.
//!
//! It never waits for anything but news: tenants, ends of turns, requests, the sink's state, the time. What is due
//! together is started together, and what has ended together is taken together, since with thousands of feeds the wake-ups
//! are what idling costs.

mod ends;
mod headline;
mod requests;
mod settings;
mod starts;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use domain::health::{Headline, StageStatus};
use domain::ports::{AccessTokens, Cursors};
use domain::rehearsal::point;
use domain::retry::Backoff;
use domain::{Chance, Clock, Errand, HeldTenant, Report, SinkMessage, TenantId, TenantSet, TenantState};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use vecmap::VecMap;

use self::ends::Fatal;
use self::requests::Answer;
use crate::again::Again;
use crate::budget::{Allowance, Apps};
use crate::call::Shared;
use crate::config::Config;
use crate::end::End;
use crate::feed::{Common, Feed, FeedKey, Job, Work};
use crate::lanes::{Lane, Lanes};
use crate::schedule::Schedule;
use crate::source::AlertSource;

/// New feeds begin spread out by this much each, so that one begins at once and a thousand do not collide …
const SPREAD_EACH: Duration = Duration::from_millis(5);
/// … but all within this.
const SPREAD_MOST: Duration = Duration::from_secs(2);
/// Turns in flight get this long to notice that they are cancelled.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// What the poller works with.
pub struct Deps<S> {
    /// Where alerts come from.
    pub source: Arc<S>,
    /// Gives out access tokens.
    pub tokens: Arc<dyn AccessTokens>,
    /// Knows how far feeds have come.
    pub cursors: Arc<dyn Cursors>,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub chance: Arc<dyn Chance>,
    /// Who is to be polled.
    pub tenants: watch::Receiver<Arc<TenantSet>>,
    /// Where alerts go.
    pub sink: mpsc::Sender<SinkMessage>,
    /// Whether they would get through.
    pub sink_status: watch::Receiver<StageStatus>,
    /// Where troubles go.
    pub reports: mpsc::Sender<Report>,
    /// Where the poller says how it is.
    pub status: watch::Sender<StageStatus>,
}

/// A feed as the worker sees it.
struct Entry<L> {
    tenant: Arc<HeldTenant>,
    /// Tells this entry from an earlier one of the same feed, of which a turn may still be ending.
    generation: u64,
    common: Arc<Common>,
    polling: Polling<L>,
    rereading: Rereads<L>,
    /// When it came to us.
    since: Instant,
    cancel: CancellationToken,
}

impl<L> Entry<L> {
    /// What is committed may be less than what is known here: re-reads begin again after the poll that finds out.
    fn forget_marks(&mut self) {
        self.common.forget_marks();
        self.rereading.begun = false;
    }
}

struct Polling<L> {
    /// `None` while a poll has it.
    feed: Option<Feed<L>>,
    backoff: Option<Box<Backoff>>,
    /// The source or the budget named a time: nothing hastens it.
    held_back: bool,
    /// The last poll that came to the source found it in order. Otherwise re-reads wait: they would only wait for the
    /// same, in places that others need.
    works: bool,
    /// A poll has ended, so that `works` says something.
    tried: bool,
    /// A poll has come to the end of the feed, so that it has its own moment of the interval.
    placed: bool,
    /// What the poll in flight believes to be committed may not be.
    doubted: bool,
}

struct Rereads<L> {
    /// `None` while a turn has it.
    memory: Option<Again<L>>,
    backoff: Option<Box<Backoff>>,
    /// Polling has begun, so that there is something to read again.
    begun: bool,
    /// What the turn in flight believes to be on record may not be.
    stale: bool,
    /// Requests that were passed on already.
    told: VecMap<Errand, i64>,
}

/// A turn is over.
struct Ended<L> {
    feed: FeedKey,
    generation: u64,
    due: Instant,
    started: Instant,
    /// `None` when it was cancelled.
    result: Option<Outcome<L>>,
}

enum Outcome<L> {
    Polled(Feed<L>, bool, End),
    Reread(Again<L>, End),
}

/// Polls the sources of all held tenants, and reads them again. See the crate's front page.
pub struct Poller<S: AlertSource> {
    shared: Arc<Shared<S>>,
    chance: Arc<dyn Chance>,
    tenants: watch::Receiver<Arc<TenantSet>>,
    /// Whom `entries` are about.
    adopted: Arc<BTreeMap<TenantId, Arc<HeldTenant>>>,
    sink_status: watch::Receiver<StageStatus>,
    sink_was_faulty: bool,
    status: watch::Sender<StageStatus>,
    settings: Option<watch::Receiver<Config>>,
    /// Where the line is said, and when it was.
    headline: Option<(watch::Sender<Headline>, Option<Instant>)>,
    entries: BTreeMap<FeedKey, Box<Entry<S::Link>>>,
    allowances: HashMap<TenantId, Arc<Allowance>>,
    apps: Apps,
    /// What a turn that began before this was told of its budgets counts no more.
    limits_since: Instant,
    schedule: Schedule<Job>,
    running: JoinSet<Ended<S::Link>>,
    asking: JoinSet<Answer>,
    generations: u64,
}

impl<S: AlertSource> Poller<S> {
    /// Prepares; nothing is asked before [`Poller::run`].
    pub fn new(deps: Deps<S>, config: Config) -> Self {
        let lanes = Lanes::new(&config);
        let Deps { source, tokens, cursors, clock, chance, tenants, sink, sink_status, reports, status } = deps;
        Self {
            shared: Arc::new(Shared { config, source, tokens, cursors, clock, sink, reports, lanes }),
            chance,
            tenants,
            adopted: Arc::default(),
            sink_status,
            sink_was_faulty: false,
            status,
            settings: None,
            headline: None,
            entries: BTreeMap::new(),
            allowances: HashMap::new(),
            apps: Apps::default(),
            limits_since: Instant::now(),
            schedule: Schedule::new(Instant::now()),
            running: JoinSet::new(),
            asking: JoinSet::new(),
            generations: 0,
        }
    }

    /// Polls until `stop`. Pages in flight are dropped then, which is safe: their cursor has not moved.
    ///
    /// # Errors
    /// When something without which polling makes no sense is gone, in words. The process should end.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), String> {
        let mut beat = interval(self.shared.config.beat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ask = interval(self.shared.config.ask_every);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.adopt();
        let end = loop {
            self.start_due();
            let wake = self.next_wake();
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                _ = beat.tick() => if point("poller.beat").await.is_ok() {
                    self.beat();
                },
                changed = self.tenants.changed() => match changed {
                    Ok(()) => self.adopt(),
                    Err(_) => break gone(&stop, "nobody says any more which tenants to poll"),
                },
                changed = self.sink_status.changed() => match changed {
                    Ok(()) => self.look_at_sink(),
                    Err(_) => break gone(&stop, "nobody says any more whether alerts can be stored"),
                },
                () = settings::next(&mut self.settings) => self.take_settings(),
                _ = ask.tick() => self.ask(),
                Some(answer) = self.asking.join_next() => match answer {
                    Ok(answer) => self.take_requests(answer),
                    Err(error) => break Err(format!("a question ended abnormally: {error}")),
                },
                Some(ended) = self.running.join_next() => match self.take_ends(ended) {
                    Ok(()) => {}
                    Err(Fatal::Gone(what)) => break gone(&stop, what),
                    Err(Fatal::Died(error)) => break Err(format!("a poll ended abnormally: {error}")),
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        };
        self.stop().await;
        end
    }

    /// Takes over the latest word about who is to be polled.
    fn adopt(&mut self) {
        let set = Arc::clone(&self.tenants.borrow_and_update());
        if Arc::ptr_eq(&set.tenants, &self.adopted) {
            // Only the leases were confirmed.
            return;
        }
        self.adopted = Arc::clone(&set.tenants);
        let dropped: Vec<_> = self.entries.iter().filter(|(key, entry)| !still_held(&set, **key, entry)).map(|(key, _)| *key).collect();
        for feed in dropped {
            if let Some(entry) = self.entries.remove(&feed) {
                // Whoever holds the tenant now reads from the database where it stands; so do we if it is us again.
                entry.cancel.cancel();
                self.schedule.remove(Job { feed, work: Work::Live });
                self.schedule.remove(Job { feed, work: Work::Again });
            }
        }
        self.allowances.retain(|tenant, _| set.tenants.contains_key(tenant));

        let now = Instant::now();
        let mut fresh = Vec::new();
        for tenant in set.tenants.values().filter(|tenant| tenant.is_polled()) {
            for source in &tenant.sources {
                let key = FeedKey { tenant: tenant.id, source: *source };
                match self.entries.get_mut(&key) {
                    Some(entry) => {
                        let promising = entry.tenant.credential_version != tenant.credential_version
                            || (entry.tenant.state != TenantState::Active && tenant.state == TenantState::Active);
                        entry.tenant = Arc::clone(tenant);
                        if promising && !entry.polling.held_back {
                            self.schedule.hasten(Job { feed: key, work: Work::Live }, now, now);
                        }
                    }
                    None => fresh.push((key, Arc::clone(tenant))),
                }
            }
        }
        self.add(fresh, now);
    }

    fn add(&mut self, fresh: Vec<(FeedKey, Arc<HeldTenant>)>, now: Instant) {
        let spread = self.spread(fresh.len());
        for (feed, tenant) in fresh {
            self.generations += 1;
            let entry = Entry {
                tenant,
                generation: self.generations,
                common: Arc::default(),
                polling: Polling {
                    feed: Some(Feed::default()),
                    backoff: None,
                    held_back: false,
                    works: false,
                    tried: false,
                    placed: false,
                    doubted: false,
                },
                rereading: Rereads { memory: Some(Again::default()), backoff: None, begun: false, stale: false, told: VecMap::new() },
                since: now,
                cancel: CancellationToken::new(),
            };
            if self.entries.insert(feed, Box::new(entry)).is_none() {
                let due = now + self.chance.between(Duration::ZERO, spread);
                self.schedule.set(Job { feed, work: Work::Live }, Lane::Main, due, now);
            }
        }
    }

    /// Over how long so many feeds that are due at once are spread.
    fn spread(&self, count: usize) -> Duration {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        SPREAD_EACH.saturating_mul(count).min(SPREAD_MOST).min(self.shared.config.interval)
    }

    /// When alerts can be stored again after they could not, the database may have lost what it had, as a standby that
    /// took over may have. Where each feed stands is read again: what came after that has to be fetched once more.
    fn look_at_sink(&mut self) {
        let faulty = self.sink_status.borrow_and_update().fault.is_some();
        if self.sink_was_faulty && !faulty {
            let (now, spread) = (Instant::now(), self.spread(self.entries.len()));
            for (feed, entry) in &mut self.entries {
                entry.forget_marks();
                match &mut entry.polling.feed {
                    Some(feed) => feed.doubt(),
                    None => entry.polling.doubted = true,
                }
                match &mut entry.rereading.memory {
                    Some(memory) => *memory = Again::default(),
                    None => entry.rereading.stale = true,
                }
                self.schedule.hasten(Job { feed: *feed, work: Work::Again }, now + self.chance.between(Duration::ZERO, spread), now);
            }
        }
        self.sink_was_faulty = faulty;
    }

    /// Why nothing is started now, if so.
    fn hindrance(&self) -> Option<&'static str> {
        if self.entries.is_empty() {
            None
        } else if self.sink_status.borrow().fault.is_some() {
            Some("alerts cannot be stored now, so none are fetched: Microsoft keeps them")
        } else if Instant::now() >= self.tenants.borrow().trusted_until {
            Some("the leases on the tenants are not confirmed")
        } else {
            None
        }
    }

    fn beat(&mut self) {
        let now = self.shared.clock.now();
        let status = match self.hindrance() {
            None => StageStatus::well(now),
            Some(fault) => StageStatus::faulty(now, fault),
        };
        self.status.send_replace(status);
        self.say_headline();
    }

    async fn stop(&mut self) {
        for entry in self.entries.values() {
            entry.cancel.cancel();
        }
        self.asking.abort_all();
        let drained = timeout(STOP_WITHIN, async { while self.running.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            self.running.abort_all();
        }
    }
}

/// Whether a feed goes on as it is.
fn still_held<L>(set: &TenantSet, key: FeedKey, entry: &Entry<L>) -> bool {
    set.tenants
        .get(&key.tenant)
        .is_some_and(|tenant| tenant.is_polled() && tenant.epoch == entry.tenant.epoch && tenant.sources.contains(&key.source))
}

/// Something is gone: an error, unless that is how stopping looks from here.
fn gone(stop: &CancellationToken, what: &str) -> Result<(), String> {
    if stop.is_cancelled() { Ok(()) } else { Err(what.to_owned()) }
}
