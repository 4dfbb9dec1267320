//! The long-lived task: knows who is due, starts polls, and takes their ends.
//!
//! It never waits for anything but news: tenants, ends of polls, the sink's state, the time. What is due is taken
//! together every 50 ms, since with thousands of feeds the wake-ups are what idling costs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use domain::health::StageStatus;
use domain::ports::{AccessTokens, Cursors};
use domain::retry::Backoff;
use domain::{Chance, Clock, HeldTenant, Report, SinkMessage, TenantId, TenantSet, TenantState};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::budget::Allowance;
use crate::config::Config;
use crate::feed::{Feed, FeedKey};
use crate::lanes::{Lane, Lanes};
use crate::metrics;
use crate::poll::{End, Poll, Shared};
use crate::schedule::Schedule;
use crate::source::AlertSource;

/// Due polls are taken together this often.
const GATHER: Duration = Duration::from_millis(50);
/// Between two words about oneself.
const BEAT: Duration = Duration::from_secs(1);
/// New feeds begin spread out by this much each, so that one begins at once and a thousand do not collide …
const SPREAD_EACH: Duration = Duration::from_millis(5);
/// … but all within this.
const SPREAD_MOST: Duration = Duration::from_secs(2);
/// The first delay after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The delay after failures grows to this, or to the interval if that is longer.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// A source that this version does not read is mentioned this often.
const UNSUPPORTED: Duration = Duration::from_secs(3600);
/// Polls in flight get this long to notice that they are cancelled.
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
    /// Tells this entry from an earlier one of the same feed, whose poll may still be ending.
    generation: u64,
    /// `None` while a poll has it.
    feed: Option<Feed<L>>,
    backoff: Option<Box<Backoff>>,
    /// The source or the budget named a time: nothing hastens it.
    held_back: bool,
    cancel: CancellationToken,
}

struct Ended<L> {
    key: FeedKey,
    generation: u64,
    started: Instant,
    /// `None` when it was cancelled.
    result: Option<(Feed<L>, bool, End)>,
}

/// Polls the sources of all held tenants. See the crate's front page.
pub struct Poller<S: AlertSource> {
    shared: Arc<Shared<S>>,
    chance: Arc<dyn Chance>,
    tenants: watch::Receiver<Arc<TenantSet>>,
    sink_status: watch::Receiver<StageStatus>,
    status: watch::Sender<StageStatus>,
    entries: BTreeMap<FeedKey, Entry<S::Link>>,
    allowances: HashMap<TenantId, Arc<Allowance>>,
    schedule: Schedule<FeedKey>,
    running: JoinSet<Ended<S::Link>>,
    generations: u64,
    last_start: Instant,
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
            sink_status,
            status,
            entries: BTreeMap::new(),
            allowances: HashMap::new(),
            schedule: Schedule::new(),
            running: JoinSet::new(),
            generations: 0,
            last_start: Instant::now(),
        }
    }

    /// Polls until `stop`. Pages in flight are dropped then, which is safe: their cursor has not moved.
    ///
    /// # Errors
    /// When something without which polling makes no sense is gone, in words. The process should end.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), String> {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.adopt();
        let end = loop {
            self.start_due();
            let wake = self.next_wake();
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                _ = beat.tick() => self.beat(),
                changed = self.tenants.changed() => match changed {
                    Ok(()) => self.adopt(),
                    Err(_) => break gone(&stop, "nobody says any more which tenants to poll"),
                },
                changed = self.sink_status.changed() => if changed.is_err() {
                    break gone(&stop, "nobody says any more whether alerts can be stored");
                },
                Some(ended) = self.running.join_next() => match ended {
                    Ok(ended) => if let Err(fatal) = self.take_end(ended) {
                        break gone(&stop, fatal);
                    },
                    Err(error) => break Err(format!("a poll ended abnormally: {error}")),
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
        let dropped: Vec<_> = self.entries.iter().filter(|(key, entry)| !still_held(&set, **key, entry)).map(|(key, _)| *key).collect();
        for key in dropped {
            if let Some(entry) = self.entries.remove(&key) {
                // Whoever holds the tenant now reads from the database where it stands; so do we if it is us again.
                entry.cancel.cancel();
                self.schedule.remove(key);
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
                        if promising && !entry.held_back {
                            self.schedule.hasten(key, now);
                        }
                    }
                    None => fresh.push((key, Arc::clone(tenant))),
                }
            }
        }
        self.add(fresh, now);
    }

    fn add(&mut self, fresh: Vec<(FeedKey, Arc<HeldTenant>)>, now: Instant) {
        let count = u32::try_from(fresh.len()).unwrap_or(u32::MAX);
        let spread = SPREAD_EACH.saturating_mul(count).min(SPREAD_MOST).min(self.shared.config.interval);
        for (key, tenant) in fresh {
            self.generations += 1;
            let entry = Entry {
                tenant,
                generation: self.generations,
                feed: Some(Feed::default()),
                backoff: None,
                held_back: false,
                cancel: CancellationToken::new(),
            };
            if self.entries.insert(key, entry).is_none() {
                self.schedule.set(key, Lane::Main, now + self.chance.between(Duration::ZERO, spread));
            }
        }
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

    fn next_wake(&self) -> Option<Instant> {
        if self.hindrance().is_some() {
            return None; // A watch or the next beat will wake us.
        }
        let first =
            Lane::ALL.into_iter().filter(|lane| self.shared.lanes.has_room(*lane)).filter_map(|lane| self.schedule.first(lane)).min()?;
        Some(first.max(self.last_start + GATHER))
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        if now < self.last_start + GATHER || self.hindrance().is_some() {
            return;
        }
        for lane in Lane::ALL {
            while self.schedule.first(lane).is_some_and(|due| due <= now) {
                let Some(pass) = self.shared.lanes.try_enter(lane) else { break };
                let Some((due, key)) = self.schedule.pop(lane, now) else { break };
                self.last_start = now;
                let Some(entry) = self.entries.get_mut(&key) else { continue };
                let Some(feed) = entry.feed.take() else { continue };
                entry.held_back = false;
                metrics::lateness(now - due);
                let allowance = self.allowances.entry(key.tenant).or_insert_with(|| Arc::new(Allowance::new(&self.shared.config)));
                let poll = Poll {
                    shared: Arc::clone(&self.shared),
                    tenant: Arc::clone(&entry.tenant),
                    source: key.source,
                    feed,
                    pass,
                    allowance: Arc::clone(allowance),
                    token: None,
                    began: self.shared.clock.now(),
                };
                let (cancel, generation) = (entry.cancel.clone(), entry.generation);
                self.running.spawn(async move {
                    let result = cancel.run_until_cancelled(poll.run()).await;
                    Ended { key, generation, started: now, result }
                });
            }
        }
    }

    /// Takes the end of a poll and says when the feed is due again.
    fn take_end(&mut self, ended: Ended<S::Link>) -> Result<(), &'static str> {
        let Ended { key, generation, started, result } = ended;
        let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.generation == generation) else { return Ok(()) };
        let Some((feed, was_slow, end)) = result else { return Ok(()) };
        entry.feed = Some(feed);
        let config = &self.shared.config;
        let regular = started + self.chance.around(config.interval, 0.1);
        let now = Instant::now();
        if matches!(end, End::CaughtUp | End::More) {
            entry.backoff = None;
        }
        let mut delay = |retry_after| {
            let longest = LONGEST_RETRY.max(config.interval);
            entry.backoff.get_or_insert_with(|| Box::new(Backoff::new(FIRST_RETRY, longest))).next_delay(retry_after)
        };
        let mut lane = if was_slow { Lane::Slow } else { Lane::Main };
        let due = match end {
            End::CaughtUp => regular.max(now),
            End::More => now,
            End::Crowded => {
                lane = Lane::Slow;
                now
            }
            End::NotBefore(wait) => {
                entry.held_back = true;
                now + wait
            }
            // Looked at again at every interval at least: asking is cheap, the token source remembers.
            End::NoToken(wait) => now + wait.max(FIRST_RETRY).min(config.interval),
            End::Failed { retry_after, .. } => {
                entry.held_back = retry_after.is_some();
                now + delay(retry_after)
            }
            End::StoreAway => now + delay(None),
            End::Unsupported => now + UNSUPPORTED,
            // The next word about tenants takes it away, or it begins anew from what is committed.
            End::Void => now + FIRST_RETRY.max(config.interval / 10),
            End::SinkGone => return Err("nobody takes alerts any more"),
        };
        self.schedule.set(key, lane, due);
        Ok(())
    }

    fn beat(&self) {
        let now = self.shared.clock.now();
        let status = match self.hindrance() {
            None => StageStatus::well(now),
            Some(fault) => StageStatus::faulty(now, fault),
        };
        self.status.send_replace(status);
    }

    async fn stop(&mut self) {
        for entry in self.entries.values() {
            entry.cancel.cancel();
        }
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
