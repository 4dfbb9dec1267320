//! Randomness is passed in: jitter comes from here, so that a test can repeat it.
//!
//! This is never used for keys, nonces or anything else that must not be guessed; those are drawn
//! from the operating system where they are needed (`tenant-registry`).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A source of harmless randomness.
pub trait Chance: Send + Sync + 'static {
    /// A number in `0.0..1.0`.
    fn unit(&self) -> f64;

    /// A span between `low` and `high` (inclusive of `low`).
    fn between(&self, low: Duration, high: Duration) -> Duration {
        low + high.saturating_sub(low).mul_f64(self.unit())
    }

    /// A span spread evenly within `share` (0.1 = ±10 %) around `span`.
    fn around(&self, span: Duration, share: f64) -> Duration {
        span.mul_f64(1.0 - share + 2.0 * share * self.unit())
    }
}

/// Seeded by the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemChance;

impl Chance for SystemChance {
    fn unit(&self) -> f64 {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that draws ambient randomness")]
        rand::rng().random()
    }
}

/// Repeats itself for the same seed. For tests and simulations.
#[derive(Debug)]
pub struct SeededChance(Mutex<StdRng>);

impl SeededChance {
    /// The same seed gives the same numbers in the same order.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Chance for SeededChance {
    fn unit(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_stay_within_their_bounds() {
        let chance = SeededChance::new(7);
        for _ in 0..1000 {
            let span = chance.around(Duration::from_secs(100), 0.1);
            assert!((90..=110).contains(&span.as_secs()), "{span:?}");
            let span = chance.between(Duration::from_secs(3), Duration::from_secs(5));
            assert!((3..5).contains(&span.as_secs()), "{span:?}");
        }
    }
}
