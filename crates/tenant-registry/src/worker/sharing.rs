//! Who holds how many: pure arithmetic, so that it can be told as a table.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::TenantId;
use tokio::time::Instant;

/// The share of one replica: rounded up, so that all shares together hold every tenant.
pub(super) fn fair_share(tenants: i64, replicas: usize) -> usize {
    usize::try_from(tenants).unwrap_or(0).div_ceil(replicas.max(1))
}

/// Tenants on their way to another replica: published no more, but still ours for a while, so that
/// what is in flight for them can end.
#[derive(Debug, Default)]
pub(super) struct LettingGo(BTreeMap<TenantId, Instant>);

impl LettingGo {
    /// Lets go of `excess` tenants out of `held`: of more when there are too few, and takes the latest
    /// back when there are too many.
    pub(super) fn aim(&mut self, held: impl DoubleEndedIterator<Item = TenantId>, excess: usize, now: Instant) {
        while self.0.len() > excess {
            let latest = self.0.iter().max_by_key(|(_, since)| **since).map(|(id, _)| *id);
            latest.and_then(|id| self.0.remove(&id));
        }
        let missing = excess - self.0.len();
        let more: Vec<TenantId> = held.rev().filter(|id| !self.0.contains_key(id)).take(missing).collect();
        self.0.extend(more.into_iter().map(|id| (id, now)));
    }

    /// Those that were let go of long enough ago.
    pub(super) fn ripe(&self, now: Instant, after: Duration) -> Vec<TenantId> {
        self.0.iter().filter(|(_, since)| now.duration_since(**since) >= after).map(|(id, _)| *id).collect()
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
        for (tenants, replicas, share) in [(0, 1, 0), (1, 3, 1), (5, 2, 3), (6, 2, 3), (100, 3, 34), (7, 0, 7), (-1, 2, 0)] {
            assert_eq!(fair_share(tenants, replicas), share, "{tenants} tenants, {replicas} replicas");
        }
    }

    #[test]
    fn what_is_too_much_is_let_go_of_and_released_later() {
        let after = Duration::from_secs(10);
        let held = tenants(6);
        let mut going = LettingGo::default();
        let start = Instant::now();
        going.aim(held.iter().copied(), 2, start);
        assert!(going.contains(&held[5]) && going.contains(&held[4]) && !going.contains(&held[3]));
        assert!(going.ripe(start + after / 2, after).is_empty());
        going.aim(held.iter().copied(), 3, start + after / 2);
        assert_eq!(going.ripe(start + after, after), held[4..], "the third is not due yet");
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
