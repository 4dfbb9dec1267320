//! How often strangers may make us work, and what becomes of what is too much.
//!
//! These pages are reached by anybody. Every request costs a look into the database at most, but a refusal is a row of
//! the audit, which nobody may ever delete: it has a smaller bucket. One pair of buckets is for all, since behind a proxy
//! every browser has one address.
//!
//! When they are empty, whoever names an open link or sign-in has a pair of his own, so that rubbish keeps no customer
//! out. The ids are random and nobody guesses them; which ones are open is read from the database, at most every two
//! seconds and only while a bucket is empty, so rubbish costs no look-up beyond the common bucket. A signature inside of
//! each ticket would spare that reading, and need a key that all replicas share and that outlives rotations.
//!
//! Refusals that are not written are counted, and the number is.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::Ticks;
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use tenant_registry::Registry;
use tokio::time::Instant;
use uuid::Uuid;

const fn per_second(rate: u32, burst: u32) -> Quota {
    Quota::per_second(NonZeroU32::new(rate).expect("a rate is not zero")).allow_burst(NonZeroU32::new(burst).expect("a burst is not zero"))
}

/// Far above what people do, with every page that watches a proof renewed every two seconds; far below what hurts.
const REQUESTS: Quota = per_second(50, 200);
/// People take a wrong link or an old window now and then.
const REFUSALS: Quota = per_second(1, 100);
/// One person with one link.
const OWN_REQUESTS: Quota = per_second(5, 20);
/// The same person, in the wrong window.
const OWN_REFUSALS: Quota = per_second(1, 10);
/// What is open is read anew after this long.
const OPEN_FOR: Duration = Duration::from_secs(2);

/// The buckets.
pub(super) struct Rate {
    requests: DefaultDirectRateLimiter,
    refusals: DefaultDirectRateLimiter,
    own_requests: DefaultKeyedRateLimiter<Uuid>,
    own_refusals: DefaultKeyedRateLimiter<Uuid>,
    open: Mutex<Open>,
    unwritten: Mutex<Option<Unwritten>>,
}

/// Links and sign-ins that are open, as was read lately.
#[derive(Default)]
struct Open {
    ids: HashSet<Uuid>,
    /// Sign-ins begun here since that reading began.
    begun: Vec<Uuid>,
    read_at: Option<Instant>,
}

/// Refusals that were not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unwritten {
    pub(super) count: u64,
    pub(super) from: Ticks,
    pub(super) until: Ticks,
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            requests: RateLimiter::direct(REQUESTS),
            refusals: RateLimiter::direct(REFUSALS),
            own_requests: RateLimiter::keyed(OWN_REQUESTS),
            own_refusals: RateLimiter::keyed(OWN_REFUSALS),
            open: Mutex::default(),
            unwritten: Mutex::default(),
        }
    }
}

impl Rate {
    /// Whether one more request may pass, which names this link or sign-in.
    pub(super) async fn admits(&self, registry: &Registry, named: Option<Uuid>) -> bool {
        self.requests.check().is_ok() || self.has_its_own(registry, named, &self.own_requests).await
    }

    /// Whether one more refusal may be written down.
    pub(super) async fn admits_refusal(&self, registry: &Registry, named: Option<Uuid>) -> bool {
        self.refusals.check().is_ok() || self.has_its_own(registry, named, &self.own_refusals).await
    }

    /// Notes a sign-in that has just begun here: its answer may come before the open ones are read again.
    pub(super) fn begun(&self, sign_in: Uuid) {
        let mut open = locked(&self.open);
        // Unless the next one who asks reads them anyway: nothing is kept while there is no flood.
        if open.read_at.is_some_and(|at| at.elapsed() < OPEN_FOR) {
            open.begun.push(sign_in);
        }
    }

    /// Only ids that are known to be open get a bucket, so there are never more of these than links and sign-ins.
    async fn has_its_own(&self, registry: &Registry, named: Option<Uuid>, buckets: &DefaultKeyedRateLimiter<Uuid>) -> bool {
        let Some(id) = named else { return false };
        if self.is_due() {
            match registry.open_tickets().await {
                Ok(ids) => self.learn(ids),
                Err(error) => tracing::warn!("a flood at the consent pages, and which links are open cannot be read: {error}"),
            }
        }
        let open = locked(&self.open);
        (open.ids.contains(&id) || open.begun.contains(&id)) && buckets.check_key(&id).is_ok()
    }

    /// Whether the open ones are to be read now: of many at once, one does it and the others go by what is known.
    fn is_due(&self) -> bool {
        let mut open = locked(&self.open);
        let due = open.read_at.is_none_or(|at| at.elapsed() >= OPEN_FOR);
        if due {
            open.read_at = Some(Instant::now());
            open.begun.clear();
        }
        due
    }

    fn learn(&self, ids: HashSet<Uuid>) {
        locked(&self.open).ids = ids;
        self.own_requests.retain_recent();
        self.own_refusals.retain_recent();
    }

    /// Counts a refusal that is not written; `true` for the first since [`Rate::sum_up`], which somebody has to call then.
    pub(super) fn count_unwritten(&self, now: Ticks) -> bool {
        let mut unwritten = locked(&self.unwritten);
        let first = unwritten.is_none();
        let sum = unwritten.get_or_insert(Unwritten { count: 0, from: now, until: now });
        sum.count += 1;
        sum.until = now;
        first
    }

    /// What was not written since the last time.
    pub(super) fn sum_up(&self) -> Option<Unwritten> {
        locked(&self.unwritten).take()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_turned_away_and_of_its_refusals_few_are_written() {
        let rate = Rate::default();
        assert_eq!((0..1000).filter(|_| rate.refusals.check().is_ok()).count() / 10, 10);
        let admitted = (0..10_000).filter(|_| rate.requests.check().is_ok()).count();
        assert!((200..1000).contains(&admitted), "{admitted}");
    }

    #[test]
    fn what_is_not_written_is_summed_up_once() {
        let rate = Rate::default();
        assert_eq!(rate.sum_up(), None);
        let told: Vec<bool> = (1..=50).map(|at| rate.count_unwritten(Ticks(at))).collect();
        assert!(told[0] && !told[1..].contains(&true), "one is told to sum up");
        assert_eq!(rate.sum_up(), Some(Unwritten { count: 50, from: Ticks(1), until: Ticks(50) }));
        assert_eq!(rate.sum_up(), None);
        assert!(rate.count_unwritten(Ticks(60)), "and the next one anew");
    }
}
