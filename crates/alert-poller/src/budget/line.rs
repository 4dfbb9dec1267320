//! A line in which calls wait for their turn: at most so many in any period.
//!
//! Whoever joins is told when it is his turn: now, or later. So nobody is passed over, however many others come after,
//! which somebody who only asks whether there is room now, and again a moment later, may be for ever.
//!
//! A limit of N calls in any period is kept as a burst of a fifth and a steady rate of the rest, since a bucket that
//! starts full and refills at the whole rate would let almost twice as many through in its first period.

use std::sync::{Mutex, PoisonError};
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
}

/// When the next turn would be, if there were no bursts. `None` before the first.
#[derive(Debug, Default)]
pub(super) struct Line(Mutex<Option<Instant>>);

impl Line {
    /// Joins the line for one call, and says when it is its turn. The rate is looked up each time: it may change while the
    /// line is long.
    pub(super) fn join(&self, rate: Rate, now: Instant) -> Instant {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let steady = next.map_or(now, |next| next.max(now));
        *next = Some(steady + rate.step);
        // A burst is as far as one may go ahead of the steady rate.
        steady.checked_sub(rate.step * (rate.burst - 1)).map_or(now, |turn| turn.max(now))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// The most calls within any such period, of calls in the order of time.
    pub(in crate::budget) fn most_within(calls: &[Instant], period: Duration) -> usize {
        let within = |index: usize| calls[index..].partition_point(|later| *later - calls[index] < period);
        (0..calls.len()).map(within).max().unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn in_no_minute_are_there_more_calls_than_allowed() {
        for limit in [1_u32, 2, 5, 10, 100, 150, 1_000] {
            let (line, now) = (Line::default(), Instant::now());
            let turns: Vec<_> = (0..limit * 4).map(|_| line.join(Rate::of(limit, MINUTE), now)).collect();
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
            assert!((0..30).all(|_| line.join(rate, now) == now));
            assert_eq!(line.join(rate, now), now + Duration::from_millis(500));
            tokio::time::advance(MINUTE * 60).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_rate_gives_no_second_burst() {
        let (line, now) = (Line::default(), Instant::now());
        while line.join(Rate::of(150, MINUTE), now) == now {}
        let turns: Vec<_> = (0..10).map(|_| line.join(Rate::of(600, MINUTE), now)).collect();
        assert!(turns.windows(2).skip(5).all(|pair| pair[1] - pair[0] == Duration::from_millis(125)), "480 a minute, steadily");
        let at_once = turns.iter().filter(|turn| **turn == now).count();
        assert!(at_once <= 1, "{at_once} at once");
    }

    #[test]
    fn a_part_of_several_is_smaller_and_comes_more_slowly() {
        assert_eq!(Rate::shared(75, MINUTE, 1), Rate { burst: 15, step: Duration::from_secs(1) });
        assert_eq!(Rate::shared(75, MINUTE, 3), Rate { burst: 5, step: Duration::from_secs(3) });
    }
}
