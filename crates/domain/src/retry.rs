//! How long to wait before trying again: the one module that uses `backoff`.
//!
//! `backoff` is unmaintained (RUSTSEC-2025-0012), so it does arithmetic here and nothing else: the
//! loop, the sleep and the cancelling are ours and tokio's. Three of its habits are corrected: it gives
//! up after 15 minutes unless told otherwise, it adds jitter after applying its upper bound, and its jitter
//! cannot be repeated. Ours can, in a seeded rehearsal.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

use crate::chance::{Chance, SystemChance};
use crate::rehearsal;

/// Each delay is drawn from this much around the growing one.
const JITTER: f64 = 0.5;

/// A growing delay that never passes its upper bound and never gives up.
#[derive(Debug)]
pub struct Backoff {
    policy: ExponentialBackoff,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts at `first` and doubles, each time ±50 % jitter, up to `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        let policy = ExponentialBackoff {
            current_interval: first,
            initial_interval: first,
            randomization_factor: 0.0,
            multiplier: 2.0,
            max_interval: cap,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Self { policy, cap, failures: 0 }
    }

    /// The next delay: the growing one, clamped, or what the other side asked for if that is longer.
    pub fn next_delay(&mut self, retry_after: Option<Duration>) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let grown = self.policy.next_backoff().unwrap_or(self.cap);
        // Whole milliseconds, since even without jitter it draws the last nanosecond by chance.
        let grown = Duration::from_millis(u64::try_from((grown.as_micros() + 500) / 1000).unwrap_or(u64::MAX));
        let unit = rehearsal::unit().unwrap_or_else(|| SystemChance.unit());
        let own = grown.mul_f64(1.0 - JITTER + 2.0 * JITTER * unit).min(self.cap);
        own.max(retry_after.unwrap_or(Duration::ZERO))
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.policy.reset();
        self.failures = 0;
    }

    /// How many delays were drawn since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_stay_under_the_bound_and_never_end() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
        let delays: Vec<_> = (0..10_000).map(|_| backoff.next_delay(None)).collect();
        assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(300)));
        assert!(delays[0] <= Duration::from_millis(1500));
        assert!(delays[9_999] >= Duration::from_secs(150));
        assert_eq!(backoff.failures(), 10_000);
    }

    #[test]
    fn what_the_other_side_asks_for_is_the_least_we_wait() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));
        assert!(backoff.next_delay(Some(Duration::from_secs(600))) == Duration::from_secs(600));
        assert!(backoff.next_delay(Some(Duration::ZERO)) > Duration::ZERO, "a Retry-After of zero is no hot loop");
    }

    #[test]
    fn a_success_starts_over() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
        for _ in 0..20 {
            backoff.next_delay(None);
        }
        backoff.reset();
        assert!(backoff.next_delay(None) <= Duration::from_millis(1500));
    }
}
