//! Who holds how many: pure arithmetic, so that it can be told as a table.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use domain::TenantId;
use tokio::time::Instant;

/// The share of one replica: rounded up, so that all shares together hold every tenant.
pub(super) fn fair_share(tenants: i64, replicas: NonZeroU32) -> usize {
    usize::try_from(tenants).unwrap_or(0).div_ceil(replicas.get() as usize)
}

/// Tenants on their way to another replica: published no more, but still ours until what is in flight for them has ended.
#[derive(Debug, Default)]
pub(super) struct LettingGo(BTreeMap<TenantId, Going>);

#[derive(Clone, Copy, Debug)]
struct Going {
    since: Instant,
    /// A set without it has been published: nothing new is begun for it.
    withdrawn: bool,
}

impl LettingGo {
    /// Lets go of `excess` tenants out of `held`: of more when there are too few, and takes the latest
    /// back when there are too many.
    pub(super) fn aim(&mut self, held: impl DoubleEndedIterator<Item = TenantId>, excess: usize, now: Instant) {
        while self.0.len() > excess {
            let latest = self.0.iter().max_by_key(|(_, going)| going.since).map(|(id, _)| *id);
            latest.and_then(|id| self.0.remove(&id));
        }
        let missing = excess - self.0.len();
        let more: Vec<TenantId> = held.rev().filter(|id| !self.0.contains_key(id)).take(missing).collect();
        self.0.extend(more.into_iter().map(|id| (id, Going { since: now, withdrawn: false })));
    }

    /// A set without them has been published. Says whether that is news of any.
    pub(super) fn withdrawn(&mut self) -> bool {
        let news = self.0.values().any(|going| !going.withdrawn);
        self.0.values_mut().for_each(|going| going.withdrawn = true);
        news
    }

    /// Those that can be given away: withdrawn, and with nothing in flight or for longer than is waited for that.
    pub(super) fn ripe(&self, now: Instant, within: Duration, in_flight: impl Fn(TenantId) -> bool) -> Vec<TenantId> {
        let ripe = self.0.iter().filter(|(id, going)| {
            // Asked only of what is withdrawn: a "no" before that would be worth nothing.
            going.withdrawn && (!in_flight(**id) || now.duration_since(going.since) >= within)
        });
        ripe.map(|(id, _)| *id).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, tenant: &TenantId) -> bool {
        self.0.contains_key(tenant)
    }

    /// Forgets those that are not ours any more.
    pub(super) fn keep_only<T>(&mut self, held: &BTreeMap<TenantId, T>) {
        self.0.retain(|id, _| held.contains_key(id));
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn tenants(count: u128) -> Vec<TenantId> {
        (1..=count).map(|n| TenantId(Uuid::from_u128(n))).collect()
    }

    #[test]
    fn shares_hold_every_tenant_and_none_is_much_larger() {
        for (tenants, replicas, share) in [(0, 1, 0), (1, 3, 1), (5, 2, 3), (6, 2, 3), (100, 3, 34), (-1, 2, 0)] {
            let replicas = NonZeroU32::new(replicas).unwrap();
            assert_eq!(fair_share(tenants, replicas), share, "{tenants} tenants, {replicas} replicas");
        }
    }

    #[test]
    fn what_is_too_much_is_released_once_it_is_withdrawn_and_nothing_is_in_flight() {
        let within = Duration::from_secs(60);
        let held = tenants(6);
        let mut going = LettingGo::default();
        let start = Instant::now();
        going.aim(held.iter().copied(), 2, start);
        assert!(going.contains(&held[5]) && going.contains(&held[4]) && !going.contains(&held[3]));
        assert!(going.ripe(start, within, |_| false).is_empty(), "whoever works for them has not been told yet");
        assert!(going.withdrawn());
        assert_eq!(going.ripe(start, within, |_| false), held[4..]);
        assert_eq!(going.ripe(start, within, |id| id == held[4]), held[5..], "the other one is in the middle of a redemption");
        assert!(!going.withdrawn(), "no news");
        going.aim(held.iter().copied(), 3, start + within / 2);
        assert_eq!(going.ripe(start + within, within, |_| true), held[4..], "nobody is waited for any longer, but for the third");
        assert!(going.withdrawn());
        assert_eq!(going.ripe(start + within, within, |id| id != held[3]), held[3..]);
    }

    #[test]
    fn a_replica_that_vanishes_again_leaves_us_what_we_had() {
        let held = tenants(4);
        let mut going = LettingGo::default();
        going.aim(held.iter().copied(), 2, Instant::now());
        going.aim(held.iter().copied(), 0, Instant::now());
        assert!(held.iter().all(|id| !going.contains(id)));
    }
}
