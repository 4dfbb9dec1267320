//! How often a tenant may be called, and until when it must not be.
//!
//! Microsoft counts per app and tenant, in minutes and (Defender for Endpoint) in hours. A limit of N calls in any
//! minute is kept as a burst of a fifth and a steady rate of the rest, since a bucket that starts full and refills at
//! the whole rate would let almost twice as many through in its first minute.
//!
//! Re-reads are counted twice: first against a share of their own, then with everything else. So polling always has
//! the rest, whatever is being read again: a fifth of each minute, which is far more than a feed that is up to date
//! needs, and half of each hour, since an hour that is used up is missed for long.
//!
//! What Microsoft counts per app, over all of its tenants, is in [`app`].

mod app;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use domain::{Audience, Source};
use governor::clock::{Clock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

pub(crate) use self::app::{AppBudget, Apps};
use crate::config::Config;
use crate::feed::Work;

/// A turn in the line of the app that was not used by so much later is lost: others would have to make way for it.
const TURN_LASTS: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Tokio's clock for `governor`, so that a test may pause it.
#[derive(Clone, Copy, Debug)]
struct TokioClock {
    start: Instant,
}

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// At most so many calls in any period.
#[derive(Debug)]
struct Meter {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>,
}

impl Meter {
    fn new(limit: u32, period: Duration) -> Self {
        let burst = NonZeroU32::new(limit / 5).unwrap_or(NonZeroU32::MIN);
        let steady = limit.saturating_sub(burst.get()).max(1);
        let quota = Quota::with_period(period / steady).unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN)).allow_burst(burst);
        let clock = TokioClock { start: Instant::now() };
        Self { limiter: RateLimiter::direct_with_clock(quota, clock) }
    }

    /// Counts a call, or says how long to wait.
    fn take(&self) -> Result<(), Duration> {
        self.limiter.check().map_err(|not_until| {
            let now = self.limiter.clock().now();
            not_until.earliest_possible().duration_since(now).into()
        })
    }
}

/// The meters of one kind of work.
#[derive(Debug)]
struct Purse {
    graph: Meter,
    /// Made when it is first used: not every tenant is asked about everything, and there are thousands.
    defender: OnceLock<Box<Defender>>,
    per_minute: u32,
    per_hour: u32,
}

/// Defender for Endpoint counts by the minute and by the hour.
#[derive(Debug)]
struct Defender {
    minute: Meter,
    hour: Meter,
}

impl Purse {
    /// All that is configured.
    fn whole(config: &Config) -> Self {
        Self {
            graph: Meter::new(config.graph_per_minute, MINUTE),
            defender: OnceLock::new(),
            per_minute: config.defender_per_minute,
            per_hour: config.defender_per_hour,
        }
    }

    /// What re-reads may use of it.
    fn again(config: &Config) -> Self {
        let four_fifths = |limit: u32| u32::try_from(u64::from(limit) * 4 / 5).unwrap_or(limit).max(1);
        Self {
            graph: Meter::new(four_fifths(config.graph_per_minute), MINUTE),
            defender: OnceLock::new(),
            per_minute: four_fifths(config.defender_per_minute),
            per_hour: (config.defender_per_hour / 2).max(1),
        }
    }

    fn defender(&self) -> &Defender {
        self.defender
            .get_or_init(|| Box::new(Defender { minute: Meter::new(self.per_minute, MINUTE), hour: Meter::new(self.per_hour, HOUR) }))
    }

    /// Of what the one before it was used for.
    fn spend_bursts(&self, before: &Self) {
        let defender = before.defender.get().map(|_| self.defender());
        for meter in defender.into_iter().flat_map(|defender| [&defender.minute, &defender.hour]).chain([&self.graph]) {
            while meter.take().is_ok() {}
        }
    }

    fn take(&self, audience: Audience) -> Result<(), Duration> {
        match audience {
            Audience::Graph => self.graph.take(),
            // The hour last: what the minute refuses must not be counted there, where it is missed for long.
            Audience::Defender => self.defender().minute.take().and_then(|()| self.defender().hour.take()),
        }
    }
}

/// What one tenant may be asked.
#[derive(Debug)]
pub(crate) struct Allowance {
    all: Purse,
    again: Purse,
    /// The other side has asked to be left alone until then.
    graph_blocked: Mutex<Option<Instant>>,
    defender_blocked: Mutex<Option<Instant>>,
    /// Who has a place in the line of the app, and when his turn is. He has been counted here already.
    turns: Mutex<BTreeMap<(Source, Work), Instant>>,
}

impl Allowance {
    /// Unused yet.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            all: Purse::whole(config),
            again: Purse::again(config),
            graph_blocked: Mutex::default(),
            defender_blocked: Mutex::default(),
            turns: Mutex::default(),
        }
    }

    /// The same tenant's under other limits. Its burst is spent, since nobody knows how much of the last minute was used;
    /// who has asked to be left alone still is.
    pub(crate) fn renewed(&self, config: &Config) -> Self {
        let fresh = Self::new(config);
        fresh.all.spend_bursts(&self.all);
        fresh.again.spend_bursts(&self.again);
        for audience in [Audience::Graph, Audience::Defender] {
            if let Some(wait) = self.left_alone(audience) {
                fresh.block(audience, wait);
            }
        }
        fresh
    }

    /// Counts a call that is about to be made, or says how long to wait before asking again.
    pub(crate) fn take(&self, audience: Audience, work: Work) -> Result<(), Duration> {
        if let Some(wait) = self.left_alone(audience) {
            return Err(wait);
        }
        if work == Work::Again {
            self.again.take(audience)?;
        }
        self.all.take(audience)
    }

    /// Goes away and comes back when it is his turn in the line of the app.
    pub(crate) fn keep_turn(&self, source: Source, work: Work, turn: Instant) {
        self.turns().insert((source, work), turn);
    }

    /// His turn, if he has come back for one in time.
    pub(crate) fn kept_turn(&self, source: Source, work: Work) -> Option<Instant> {
        self.turns().remove(&(source, work)).filter(|turn| Instant::now() <= *turn + TURN_LASTS)
    }

    fn turns(&self) -> MutexGuard<'_, BTreeMap<(Source, Work), Instant>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long the other side has asked to be left alone, if it has.
    pub(crate) fn left_alone(&self, audience: Audience) -> Option<Duration> {
        let until = *self.blocked(audience).lock().unwrap_or_else(PoisonError::into_inner);
        until.map(|until| until - Instant::now()).filter(|wait| !wait.is_zero())
    }

    /// Nothing is asked for so long.
    pub(crate) fn block(&self, audience: Audience, wait: Duration) {
        let until = Instant::now() + wait;
        let mut blocked = self.blocked(audience).lock().unwrap_or_else(PoisonError::into_inner);
        *blocked = (*blocked).max(Some(until));
    }

    fn blocked(&self, audience: Audience) -> &Mutex<Option<Instant>> {
        match audience {
            Audience::Graph => &self.graph_blocked,
            Audience::Defender => &self.defender_blocked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn in_no_minute_are_there_more_calls_than_allowed() {
        for limit in [1, 2, 5, 10, 100, 150] {
            let meter = Meter::new(limit, MINUTE);
            let mut calls = Vec::new();
            let end = Instant::now() + MINUTE * 4;
            while Instant::now() < end {
                match meter.take() {
                    Ok(()) => calls.push(Instant::now()),
                    Err(wait) => tokio::time::advance(wait.max(Duration::from_millis(1))).await,
                }
            }
            let limit = usize::try_from(limit).expect("fits");
            for (index, call) in calls.iter().enumerate() {
                let within = calls[index..].iter().take_while(|later| **later - *call < MINUTE).count();
                assert!(within <= limit, "{within} calls in a minute of {limit}");
            }
            assert!(calls.len() >= limit * 2, "{} calls in four minutes of {limit}", calls.len());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once() {
        let meter = Meter::new(150, MINUTE);
        assert!((0..30).all(|_| meter.take().is_ok()));
        let wait = meter.take().expect_err("the burst is spent");
        assert!(wait <= Duration::from_millis(501), "{wait:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_holds_for_one_audience_and_ends() {
        let allowance = Allowance::new(&Config::default());
        allowance.block(Audience::Graph, Duration::from_secs(10));
        allowance.block(Audience::Graph, Duration::from_secs(1));
        assert_eq!(allowance.take(Audience::Graph, Work::Live), Err(Duration::from_secs(10)), "a shorter one does not shorten it");
        assert_eq!(allowance.take(Audience::Defender, Work::Live), Ok(()));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(allowance.take(Audience::Graph, Work::Live), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_hour_of_defender_is_kept_too() {
        let allowance = Allowance::new(&Config { defender_per_hour: 50, ..Config::default() });
        let passed = (0..100).filter(|_| allowance.take(Audience::Defender, Work::Live).is_ok()).count();
        assert_eq!(passed, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn rereads_never_use_more_than_their_share_and_polling_always_has_room() {
        let allowance = Allowance::new(&Config { graph_per_minute: 100, ..Config::default() });
        let mut again = Vec::new();
        let began = Instant::now();
        while began.elapsed() < MINUTE * 5 {
            while allowance.take(Audience::Graph, Work::Again).is_ok() {
                again.push(Instant::now());
            }
            // Polling asks now and then, and is never told to wait.
            if began.elapsed().as_millis().is_multiple_of(5000) {
                assert_eq!(allowance.take(Audience::Graph, Work::Live), Ok(()), "after {:?}", began.elapsed());
            }
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        for (index, call) in again.iter().enumerate() {
            let within = again[index..].iter().take_while(|later| **later - *call < MINUTE).count();
            assert!(within <= 80, "{within} calls in a minute");
        }
        assert!(again.len() >= 300, "{} calls in five minutes", again.len());
    }

    #[tokio::test(start_paused = true)]
    async fn other_limits_give_no_second_burst_and_forget_no_block() {
        let allowance = Allowance::new(&Config::default());
        allowance.block(Audience::Defender, Duration::from_secs(10));
        let renewed = allowance.renewed(&Config { graph_per_minute: 600, ..Config::default() });
        let wait = renewed.take(Audience::Graph, Work::Live).expect_err("the burst is spent");
        assert!(wait <= Duration::from_millis(126), "480 a minute, steadily: {wait:?}");
        tokio::time::advance(wait).await;
        assert_eq!(renewed.take(Audience::Graph, Work::Live), Ok(()));
        assert_eq!(renewed.take(Audience::Defender, Work::Live), Err(Duration::from_secs(10) - wait));
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_holds_for_rereads_too() {
        let allowance = Allowance::new(&Config::default());
        allowance.block(Audience::Graph, Duration::from_secs(10));
        assert_eq!(allowance.take(Audience::Graph, Work::Again), Err(Duration::from_secs(10)));
    }
}
