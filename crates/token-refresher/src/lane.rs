//! The rate at which a login host is asked, over all tenants and all replicas (I12).
//!
//! A fair mutex makes the callers queue, so that a thousand tenants that start at once are served in the order in which
//! they came and only the first of the queue waits on a timer. There is no burst: a second never holds more than its
//! share, wherever it begins.
//!
//! The rate is one for the host, so each replica takes its part of it: the registry says how many there are with every
//! set of tenants. One that joins is counted by the others about a second later.
//!
//! A host that answers 429 to several tenants and serves none in between means everybody: it is left alone
//! for as long as it asked for. One such answer is the affair of one tenant, and holds up nobody else (I10).

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::{CloudName, TenantId, TenantSet};
use microsoft::{Cloud, Turns};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until};

use crate::core::locked;

/// So many tenants are throttled one after the other, and none is served in between, before it is believed that the
/// host means everybody: of a tenth that are throttled by themselves, five in a row are one in a hundred thousand.
const IN_A_ROW: usize = 5;

/// The longest that a host is left alone before it is asked again, whatever it says: one bad `Retry-After` must
/// not blind everybody for an hour.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// The queue in front of one login host.
pub(crate) struct Lane {
    /// Held by the first in the queue: when the host was last asked.
    queue: Mutex<Option<Instant>>,
    per_second: NonZeroU32,
    tenants: watch::Receiver<Arc<TenantSet>>,
    rest: std::sync::Mutex<Rest>,
}

/// Whether the host throttles everybody.
#[derive(Default)]
struct Rest {
    throttled: BTreeSet<TenantId>,
    until: Option<Instant>,
}

impl Lane {
    fn new(per_second: NonZeroU32, tenants: watch::Receiver<Arc<TenantSet>>) -> Self {
        Self { queue: Mutex::default(), per_second, tenants, rest: std::sync::Mutex::default() }
    }

    /// Returns when it is the caller's turn to ask.
    ///
    /// # Errors
    /// Until when the host is left alone, if it throttles everybody: then the queue is sent home at once.
    pub(crate) async fn turn(&self) -> Result<(), Instant> {
        let mut last = self.queue.lock().await;
        loop {
            if let Some(until) = self.resting() {
                return Err(until);
            }
            // Looked up each time: the number of replicas may change while the queue is long.
            let pause = pause(self.per_second, self.tenants.borrow().replicas);
            let (now, next) = (Instant::now(), last.map(|last| last + pause));
            match next.filter(|next| *next > now) {
                Some(next) => sleep_until(next).await,
                None => {
                    *last = Some(now);
                    return Ok(());
                }
            }
        }
    }

    /// The host answered a tenant with anything but 429.
    pub(crate) fn served(&self) {
        *locked(&self.rest) = Rest::default();
    }

    /// The host answered a tenant with 429 and wants to be left alone for `wait`. Answers for how long nobody asks
    /// from now on, if this was the one that settled it.
    pub(crate) fn throttled(&self, tenant: TenantId, wait: Duration) -> Option<Duration> {
        let mut rest = locked(&self.rest);
        // What was under way when the rest began says nothing new.
        if rest.until.is_some_and(|until| until > Instant::now()) {
            return None;
        }
        rest.throttled.insert(tenant);
        if rest.throttled.len() < IN_A_ROW {
            return None;
        }
        let wait = wait.min(LONGEST_REST);
        *rest = Rest { throttled: BTreeSet::new(), until: Some(Instant::now() + wait) };
        Some(wait)
    }

    fn resting(&self) -> Option<Instant> {
        locked(&self.rest).until.filter(|until| *until > Instant::now())
    }
}

/// The time between two turns of one of so many replicas. Shares are rounded down, so that together they stay within the
/// rate; more replicas than turns in a second take one each in as many seconds as that makes.
fn pause(per_second: NonZeroU32, replicas: NonZeroU32) -> Duration {
    const SECOND: u64 = 1_000_000_000;
    match per_second.get() / replicas {
        0 => Duration::from_nanos((SECOND * u64::from(replicas.get())).div_ceil(per_second.get().into())),
        share => Duration::from_nanos(SECOND.div_ceil(share.into())),
    }
}

/// One lane per login host; two clouds that share a host share its lane.
pub struct Lanes(BTreeMap<String, Lane>);

impl Lanes {
    /// Lanes for the hosts of these clouds. `per_second` is the rate of each host; `tenants` says among how many
    /// replicas it is divided.
    pub fn new(clouds: &BTreeMap<CloudName, Cloud>, per_second: NonZeroU32, tenants: &watch::Receiver<Arc<TenantSet>>) -> Self {
        Self(clouds.values().map(|cloud| (host(cloud), Lane::new(per_second, tenants.clone()))).collect())
    }

    /// The lane of a cloud that was there at the start.
    pub(crate) fn of(&self, cloud: &Cloud) -> Option<&Lane> {
        self.0.get(&host(cloud))
    }
}

/// For calls that cannot be put off any more: where the host is left alone, they are made all the same.
#[async_trait]
impl Turns for Lanes {
    async fn turn(&self, cloud: &Cloud) {
        if let Some(lane) = self.of(cloud) {
            lane.turn().await.ok();
        }
    }
}

fn host(cloud: &Cloud) -> String {
    let url = &cloud.login_url;
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// A lane of a host that is asked twenty times a second, and where the number of replicas is said.
    fn lane() -> (Arc<Lane>, watch::Sender<Arc<TenantSet>>) {
        let (tenants, seen) = watch::channel(Arc::new(TenantSet::empty(Instant::now())));
        (Arc::new(Lane::new(NonZeroU32::new(20).unwrap(), seen)), tenants)
    }

    #[test]
    fn shares_together_stay_within_the_rate_and_none_is_nothing() {
        for (per_second, replicas, millis) in [(20, 1, 50), (20, 2, 100), (20, 3, 167), (20, 20, 1000), (20, 30, 1500), (1, 3, 3000)] {
            let pause = pause(NonZeroU32::new(per_second).unwrap(), NonZeroU32::new(replicas).unwrap());
            assert_eq!(pause.as_nanos().div_ceil(1_000_000), millis, "{per_second} per second, {replicas} replicas");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_holds_more_than_its_share_and_nobody_is_passed_over() {
        let (lane, _tenants) = lane();
        let mut callers = tokio::task::JoinSet::new();
        for number in 0..100_u32 {
            let lane = Arc::clone(&lane);
            callers.spawn(async move {
                lane.turn().await.unwrap();
                (Instant::now(), number)
            });
        }
        let mut turns = callers.join_all().await;
        turns.sort();
        assert!(turns.is_sorted_by_key(|(_, number)| *number), "first come, first served");
        let times: Vec<_> = turns.iter().map(|(at, _)| *at).collect();
        for (index, start) in times.iter().enumerate() {
            let within = times[index..].iter().take_while(|at| **at < *start + Duration::from_secs(1)).count();
            assert!(within <= 20, "{within} in one second");
        }
        assert!(times[99] - times[0] <= Duration::from_secs(6), "the rate is also reached");
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_throttles_everybody_is_left_alone_and_one_that_serves_somebody_is_not_i10() {
        let (lane, _tenants) = lane();
        let tenant = |number| TenantId(uuid::Uuid::from_u128(number));
        let wait = Duration::from_secs(30);
        for number in [1, 2, 3, 4, 4, 3, 2, 1] {
            assert_eq!(lane.throttled(tenant(number), wait), None, "four tenants, however often");
        }
        lane.served();
        for number in 1..5 {
            assert_eq!(lane.throttled(tenant(number), wait), None, "somebody was served meanwhile");
        }
        lane.turn().await.unwrap();
        let begun = Instant::now();
        assert_eq!(lane.throttled(tenant(5), wait), Some(wait));
        assert_eq!(lane.throttled(tenant(6), wait), None, "it was under way");
        assert_eq!(lane.turn().await, Err(begun + wait));
        sleep(wait).await;
        lane.turn().await.unwrap();
        for number in 1..5 {
            assert_eq!(lane.throttled(tenant(number), wait), None, "it is found out anew");
        }
        assert_eq!(lane.throttled(tenant(5), Duration::from_secs(3600)), Some(LONGEST_REST));
        lane.served();
        lane.turn().await.unwrap();
    }
}
