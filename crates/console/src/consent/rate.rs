//! How often strangers may make us work.
//!
//! These pages are reached by anybody, and each answer costs a look into the database and perhaps a row of the audit.
//! One bucket for all: behind a proxy every browser has one address.

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;

/// Far above what people do, far below what hurts.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");
const BURST: NonZeroU32 = NonZeroU32::new(100).expect("a hundred is not zero");

/// The bucket.
pub(super) struct Rate(DefaultDirectRateLimiter);

impl Default for Rate {
    fn default() -> Self {
        Self(RateLimiter::direct(Quota::per_second(PER_SECOND).allow_burst(BURST)))
    }
}

impl Rate {
    /// Whether one more may pass.
    pub(super) fn admits(&self) -> bool {
        self.0.check().is_ok()
    }
}
