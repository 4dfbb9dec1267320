//! How often a tenant may be called, and until when it must not be.
//!
//! Microsoft counts per app and tenant, in minutes and (Defender for Endpoint) in hours. A limit of N calls in any
//! minute is kept as a burst of a fifth and a steady rate of the rest, since a bucket that starts full and refills at
//! the whole rate would let almost twice as many through in its first minute.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::Audience;
use governor::clock::{Clock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::config::Config;

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
    clock: TokioClock,
}

impl Meter {
    fn new(limit: u32, period: Duration) -> Self {
        let burst = NonZeroU32::new(limit / 5).unwrap_or(NonZeroU32::MIN);
        let steady = limit.saturating_sub(burst.get()).max(1);
        let quota = Quota::with_period(period / steady).unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN)).allow_burst(burst);
        let clock = TokioClock { start: Instant::now() };
        Self { limiter: RateLimiter::direct_with_clock(quota, clock), clock }
    }

    /// Counts a call, or says how long to wait.
    fn take(&self) -> Result<(), Duration> {
        self.limiter.check().map_err(|not_until| {
            let now = self.clock.now();
            not_until.earliest_possible().duration_since(now).into()
        })
    }
}

/// What one tenant may be asked.
#[derive(Debug)]
pub(crate) struct Allowance {
    graph: Meter,
    defender_minute: Meter,
    defender_hour: Meter,
    /// The other side has asked to be left alone until then.
    graph_blocked: Mutex<Option<Instant>>,
    defender_blocked: Mutex<Option<Instant>>,
}

impl Allowance {
    /// Unused yet.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            graph: Meter::new(config.graph_per_minute, MINUTE),
            defender_minute: Meter::new(config.defender_per_minute, MINUTE),
            defender_hour: Meter::new(config.defender_per_hour, HOUR),
            graph_blocked: Mutex::default(),
            defender_blocked: Mutex::default(),
        }
    }

    /// Counts a call that is about to be made, or says how long to wait before asking again.
    pub(crate) fn take(&self, audience: Audience) -> Result<(), Duration> {
        let blocked = self.blocked(audience).lock().unwrap_or_else(PoisonError::into_inner).map(|until| until - Instant::now());
        if let Some(wait) = blocked.filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        match audience {
            Audience::Graph => self.graph.take(),
            // The hour last: what the minute refuses must not be counted there, where it is missed for long.
            Audience::Defender => self.defender_minute.take().and_then(|()| self.defender_hour.take()),
        }
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
        assert_eq!(allowance.take(Audience::Graph), Err(Duration::from_secs(10)), "a shorter one does not shorten it");
        assert_eq!(allowance.take(Audience::Defender), Ok(()));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(allowance.take(Audience::Graph), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_hour_of_defender_is_kept_too() {
        let allowance = Allowance::new(&Config { defender_per_hour: 50, ..Config::default() });
        let passed = (0..100).filter(|_| allowance.take(Audience::Defender).is_ok()).count();
        assert_eq!(passed, 10);
    }
}
