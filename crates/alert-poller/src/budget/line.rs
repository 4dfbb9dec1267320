//! A line in which calls wait for their turn: at most so many turns in any period.
//!
//! Whoever joins is told when it is his turn: now, or later. So nobody is passed over, however many others come after,
//! which somebody who only asks whether there is room now, and again a moment later, may be for ever.
//!
//! A limit of N calls in any period is kept as a burst of a fifth and a steady rate of the rest, since a bucket that
//! starts full and refills at the whole rate would let almost twice as many through in its first period.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What a limit comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// So many calls may come at once.
    burst: u32,
    /// And after that one each.
    step: Duration,
}

impl Rate {
    /// Of a limit for one.
    pub(super) fn of(limit: u32, period: Duration) -> Self {
        Self::shared(limit, period, 1)
    }

    /// Of a limit for so many replicas together: the part of one.
    pub(super) fn shared(limit: u32, period: Duration, replicas: u32) -> Self {
        let burst = (limit / 5).max(1);
        let steady = limit.saturating_sub(burst).max(1);
        let nanos = (period.as_nanos() * u128::from(replicas)).div_ceil(u128::from(steady));
        Self { burst: (burst / replicas).max(1), step: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)) }
    }

    /// How far one may go ahead of the steady rate.
    fn ahead(self) -> Duration {
        self.step * (self.burst - 1)
    }
}

/// When the next turn would be, if there were no bursts. `None` before the first.
#[derive(Debug, Default)]
pub(super) struct Line(Mutex<Option<Instant>>);

impl Line {
    fn next(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call goes through: a line, and the rate at which it moves now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate<'a> {
    pub(super) line: &'a Line,
    pub(super) rate: Rate,
    /// For so long a turn is kept for somebody who comes late.
    pub(super) kept_for: Duration,
}

impl Gate<'_> {
    /// Joins the line for one call, and says when it is its turn.
    pub(super) fn join(&self, now: Instant) -> Instant {
        let mut next = self.line.next();
        let steady = next.map_or(now, |next| next.max(now));
        *next = Some(steady + self.rate.step);
        steady.checked_sub(self.rate.ahead()).map_or(now, |turn| turn.max(now))
    }

    /// Begins as if the burst were used.
    pub(super) fn spend_burst(&self, now: Instant) {
        *self.line.next() = Some(now + self.rate.ahead());
    }

    /// Whether it is still somebody's turn.
    pub(super) fn keeps(&self, turn: Instant, now: Instant) -> bool {
        now.saturating_duration_since(turn) <= self.kept_for
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Joins as one who calls at once.
    fn join(line: &Line, rate: Rate, now: Instant) -> Instant {
        Gate { line, rate, kept_for: Duration::MAX }.join(now)
    }

    /// The most calls within any such period, of calls in the order of time.
    pub(in crate::budget) fn most_within(calls: &[Instant], period: Duration) -> usize {
        let within = |index: usize| calls[index..].partition_point(|later| *later - calls[index] < period);
        (0..calls.len()).map(within).max().unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn in_no_minute_are_there_more_calls_than_allowed() {
        for limit in [1_u32, 2, 5, 10, 100, 150, 1_000] {
            let (line, now) = (Line::default(), Instant::now());
            let turns: Vec<_> = (0..limit * 4).map(|_| join(&line, Rate::of(limit, MINUTE), now)).collect();
            assert!(turns.is_sorted(), "first come, first served");
            let most = most_within(&turns, MINUTE);
            let limit = usize::try_from(limit).expect("fits");
            assert!(most <= limit, "{most} calls in a minute of {limit}");
            assert!(*turns.last().expect("some") - now <= MINUTE * 7, "of {limit}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_who_has_waited_long_has_no_more_than_one() {
        let (line, rate) = (Line::default(), Rate::of(150, MINUTE));
        for _ in 0..2 {
            let now = Instant::now();
            assert!((0..30).all(|_| join(&line, rate, now) == now));
            assert_eq!(join(&line, rate, now), now + Duration::from_millis(500));
            tokio::time::advance(MINUTE * 60).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_that_is_spent_comes_back_and_does_not_pass_at_once() {
        let (line, rate, now) = (Line::default(), Rate::of(150, MINUTE), Instant::now());
        Gate { line: &line, rate, kept_for: Duration::MAX }.spend_burst(now);
        assert_eq!((0..3).map(|_| join(&line, rate, now) - now).max(), Some(Duration::from_secs(1)), "one at once, and steadily");
        tokio::time::advance(MINUTE).await;
        assert_eq!((0..40).filter(|_| join(&line, rate, Instant::now()) == Instant::now()).count(), 30);
    }

    #[test]
    fn a_part_of_several_is_smaller_and_comes_more_slowly() {
        assert_eq!(Rate::shared(75, MINUTE, 1), Rate { burst: 15, step: Duration::from_secs(1) });
        assert_eq!(Rate::shared(75, MINUTE, 3), Rate { burst: 5, step: Duration::from_secs(3) });
    }
}
