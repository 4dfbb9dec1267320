//! Time in a run: milliseconds since its beginning. Each machine's clock is that plus its own error.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use domain::{Clock, Ticks};
use tokio::time::Instant;

/// Milliseconds since the run began; negative before.
pub(crate) type Ms = i64;

/// One second.
pub(crate) const SECOND: Ms = 1000;
/// One minute.
pub(crate) const MINUTE: Ms = 60 * SECOND;
/// One hour.
pub(crate) const HOUR: Ms = 60 * MINUTE;

/// 2026-03-01T08:00:00Z, when every run begins.
const BEGINNING: Ticks = Ticks(17_723_520_000_000_000);
/// Ticks in a millisecond.
pub(crate) const TICKS: i64 = 10_000;

/// The instant by a clock that is right.
pub(crate) fn ticks(at: Ms) -> Ticks {
    Ticks(BEGINNING.0.saturating_add(at.saturating_mul(TICKS)))
}

/// A span for the product's settings.
pub(crate) fn span(milliseconds: Ms) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
}

/// A process's view of time. Its runtime's paused clock drives it.
#[derive(Debug)]
pub(crate) struct ProcessTime {
    began: Instant,
    /// The run's time when the process began; grows when the machine sleeps, which the process cannot see.
    offset: AtomicI64,
    /// Error of the machine's clock, shared by all processes that run on it.
    error: Arc<AtomicI64>,
}

impl ProcessTime {
    /// Made inside the process's runtime, when the run has come to `now`.
    pub(crate) fn new(now: Ms, error: Arc<AtomicI64>) -> Self {
        Self { began: Instant::now(), offset: AtomicI64::new(now), error }
    }

    /// The run's time. Only inside the process's runtime.
    pub(crate) fn now(&self) -> Ms {
        // Outside of a runtime it would be the machine's own clock that answers, and no seed would repeat itself.
        self.offset.load(Ordering::Relaxed) + Ms::try_from(self.began.elapsed().as_millis()).unwrap_or(Ms::MAX)
    }

    /// The instant of the runtime's clock at this time of the run.
    pub(crate) fn instant(&self, at: Ms) -> Instant {
        self.began + span(at - self.offset.load(Ordering::Relaxed))
    }

    /// The machine slept until `now`, and its monotonic clock with it.
    pub(crate) fn slept_until(&self, now: Ms) {
        let elapsed = Ms::try_from(self.began.elapsed().as_millis()).unwrap_or(Ms::MAX);
        self.offset.store(now - elapsed, Ordering::Relaxed);
    }
}

impl Clock for ProcessTime {
    fn now(&self) -> Ticks {
        Ticks(ticks(Self::now(self)).0 + self.error.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_what_it_says() {
        assert_eq!(ticks(0).to_string(), "2026-03-01T08:00:00.0000000Z");
        assert_eq!(ticks(-1), ticks(0).minus(Duration::from_millis(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_slept_does_not_notice_by_its_monotonic_clock() {
        let time = ProcessTime::new(5 * MINUTE, Arc::new(AtomicI64::new(SECOND * TICKS)));
        tokio::time::advance(span(MINUTE)).await;
        assert_eq!(time.now(), 6 * MINUTE);
        assert_eq!(Clock::now(&time), ticks(6 * MINUTE + SECOND));
        let before = Instant::now();
        time.slept_until(16 * MINUTE);
        assert_eq!((time.now(), Instant::now()), (16 * MINUTE, before));
        assert_eq!(time.instant(17 * MINUTE), before + span(MINUTE));
    }
}
