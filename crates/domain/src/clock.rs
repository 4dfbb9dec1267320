//! The clock is passed in, so that a 90-day expiry is tested in a millisecond.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::stamp::Ticks;

/// Tells the wall-clock time. Delays are measured with tokio's clock, which tests can pause; this one
/// is for comparing with stamps of other machines.
pub trait Clock: Send + Sync + 'static {
    /// Now, by this clock.
    fn now(&self) -> Ticks;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Ticks {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
        Ticks::from_timestamp(jiff::Timestamp::now())
    }
}

/// A clock that moves only when told to. For tests.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// Starts at `now`.
    pub fn at(now: Ticks) -> Self {
        Self(Arc::new(AtomicI64::new(now.0)))
    }

    /// Moves forward.
    pub fn advance(&self, span: Duration) {
        let now = self.now().plus(span);
        self.0.store(now.0, Ordering::SeqCst);
    }

    /// Jumps, also backwards.
    pub fn set(&self, now: Ticks) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Ticks {
        Ticks(self.0.load(Ordering::SeqCst))
    }
}
