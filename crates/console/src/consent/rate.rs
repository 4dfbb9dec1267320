//! How often strangers may make us work.
//!
//! These pages are reached by anybody. Every request costs a look into the database at most, but a refusal is a row of
//! the audit, which nobody may ever delete: it has a smaller bucket of its own. One pair of buckets for all, since behind
//! a proxy every browser has one address.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

const fn per_second(rate: u32, burst: u32) -> Quota {
    Quota::per_second(NonZeroU32::new(rate).expect("a rate is not zero")).allow_burst(NonZeroU32::new(burst).expect("a burst is not zero"))
}

/// Far above what people do, with every page that watches a proof renewed every two seconds; far below what hurts.
const REQUESTS: Quota = per_second(50, 200);
/// People take a wrong link or an old window now and then.
const REFUSALS: Quota = per_second(1, 100);

/// The buckets.
pub(super) struct Rate {
    requests: DefaultDirectRateLimiter,
    refusals: DefaultDirectRateLimiter,
}

impl Default for Rate {
    fn default() -> Self {
        Self { requests: RateLimiter::direct(REQUESTS), refusals: RateLimiter::direct(REFUSALS) }
    }
}

impl Rate {
    /// Whether one more request may pass.
    pub(super) fn admits(&self) -> bool {
        self.requests.check().is_ok()
    }

    /// Whether one more refusal may be written down.
    pub(super) fn admits_refusal(&self) -> bool {
        self.refusals.check().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_turned_away_and_of_its_refusals_few_are_written() {
        let rate = Rate::default();
        assert_eq!((0..1000).filter(|_| rate.admits_refusal()).count() / 10, 10);
        let admitted = (0..10_000).filter(|_| rate.admits()).count();
        assert!((200..1000).contains(&admitted), "{admitted}");
    }
}
