//! When a feed is polled next. Pure.
//!
//! A customer at whom nothing happens may be polled less often, if the operator allows it: the longer nothing has
//! happened, the less often, up to `quiet_interval`. The first news, from whichever of its feeds, ends that.
//!
//! A quiet customer who cannot be read any more is noticed by its next poll. So `quiet_interval` is a bound and no average: the
//! spread stays within it, and leaves the answer some time. With a minute, nobody is blind for longer without it being known (I24).

use std::time::Duration;

use domain::Chance;
use tokio::time::Instant;

use crate::config::Config;
use crate::schedule::TICK;

/// A quiet customer is polled each time after such a part of the time for which it has been quiet: after half an hour without
/// news every thirty seconds, after an hour once a minute.
const PART: u32 = 60;
/// Intervals are spread by this much to both sides, so that feeds which were due together drift apart.
const SPREAD: f64 = 0.1;

/// A poll that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Polled {
    /// When it was due.
    pub(crate) due: Instant,
    /// When it began.
    pub(crate) started: Instant,
    /// It was the first to come to its end.
    pub(crate) first: bool,
    /// The last news of this customer before its end, or when it came to us.
    pub(crate) news: Instant,
}

impl Config {
    /// Between two polls of a feed of a customer that has been quiet for so long.
    fn pace(&self, quiet_for: Duration) -> Duration {
        // A tenth less than the bound, since the spread adds a tenth.
        let longest = self.quiet_interval.mul_f64(1.0 - SPREAD).max(self.interval);
        (quiet_for / PART).clamp(self.interval, longest)
    }

    /// Between two polls of any feed, but for the spread of the usual interval.
    pub(crate) fn longest_interval(&self) -> Duration {
        self.interval.max(self.quiet_interval)
    }

    /// When a feed that is up to date is polled next.
    ///
    /// Counted from when the last poll was due rather than from when it began: what was held up, as all feeds are while the
    /// database is away, would otherwise be due together from then on. The first time a feed finds its own moment of the
    /// interval, since it was called up together with all the others.
    pub(crate) fn next(&self, polled: Polled, chance: &dyn Chance) -> Instant {
        let Polled { due, started, first, news } = polled;
        let pace = self.pace(started.saturating_duration_since(news));
        let least = pace.mul_f64(SPREAD);
        if first {
            return started + chance.between(least, pace);
        }
        let step = chance.around(pace, SPREAD);
        let late = (started + least).saturating_duration_since(due + step);
        let missed = late.as_nanos().div_ceil(pace.as_nanos().max(1));
        let next = due + step + pace.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX));
        // It will be moved to the tick after it, half a tick away on the average.
        next - TICK / 2
    }
}

#[cfg(test)]
mod tests {
    use domain::SeededChance;
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    fn config(quiet_interval: Duration) -> Config {
        Config { quiet_interval, ..Config::default() }
    }

    #[test]
    fn who_is_quiet_is_polled_less_often_up_to_the_bound() {
        let config = config(SECOND * 120);
        for (quiet_for, pace) in [(0, 30), (60 * 30, 30), (60 * 60, 60), (60 * 90, 90), (60 * 120, 108), (3600 * 1000, 108)] {
            assert_eq!(config.pace(SECOND * quiet_for), SECOND * pace, "after {quiet_for} s");
        }
    }

    #[test]
    fn unless_the_operator_says_so_nobody_is_polled_less_often() {
        for quiet_interval in [Duration::ZERO, SECOND, SECOND * 30, SECOND * 33] {
            assert_eq!(config(quiet_interval).pace(HOUR * 1000), SECOND * 30);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn feeds_that_began_together_are_spread_over_the_interval() {
        let (chance, now) = (SeededChance::new(1), Instant::now());
        let mut tenths = [0_u32; 10];
        for _ in 0..1000 {
            let next = config(Duration::ZERO).next(Polled { due: now, started: now, first: true, news: now }, &chance);
            tenths[usize::try_from((next - now).as_secs() / 3).expect("fits")] += 1;
        }
        assert!(tenths[1..].iter().all(|count| (70..160).contains(count)), "{tenths:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn feeds_that_were_held_up_together_keep_their_moments() {
        let (chance, now) = (SeededChance::new(1), Instant::now());
        let mut tenths = [0_u32; 10];
        for number in 0..1000 {
            // Each was due at a moment of its own, and all begin when the hindrance ends after ten minutes.
            let (due, started) = (now + SECOND * 30 * number / 1000, now + SECOND * 600);
            let next = config(Duration::ZERO).next(Polled { due, started, first: false, news: now }, &chance);
            assert!(next > started && next <= started + SECOND * 33);
            tenths[usize::try_from((next - started).as_secs() / 3).expect("fits").min(9)] += 1;
        }
        assert!(tenths[1..9].iter().all(|count| (60..160).contains(count)) && tenths[9] < 260, "{tenths:?}");
    }

    proptest! {
        #[test]
        fn the_next_poll_is_never_at_once_and_never_later_than_promised(
            late in 0_u64..10_000_000, quiet in 0_u64..1_000_000, longest in 0_u64..300, seed in 0_u64..1000) {
            tokio::runtime::Builder::new_current_thread().start_paused(true).enable_time().build().expect("it starts").block_on(async {
                let (config, chance) = (config(SECOND * u32::try_from(longest).expect("fits")), SeededChance::new(seed));
                let news = Instant::now();
                let due = news + Duration::from_secs(quiet);
                let started = due + Duration::from_millis(late);
                let next = config.next(Polled { due, started, first: false, news }, &chance);
                assert!(next + TICK >= started + SECOND * 3, "{:?}", next - started);
                assert!(next - started <= (SECOND * 33).max(config.quiet_interval), "{:?}", next - started);
            });
        }
    }
}
