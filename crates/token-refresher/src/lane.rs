//! The rate at which a login host is asked, over all tenants and all replicas (I12).
//!
//! A fair mutex makes the callers queue, so that a thousand tenants that start at once are served in the order in which
//! they came and only the first of the queue waits on a timer. When the next one may go, [`pace`] says.
//!
//! The rate is one for the host, so each replica takes its part of it: the registry says how many there are with every
//! set of tenants. One that joins is counted by the others about a second later.
//!
//! A host that answers 429 to several tenants and serves none in between means everybody: it is left alone
//! for as long as it asked for. One such answer is the affair of one tenant, and holds up nobody else (I10).

mod pace;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::{CloudName, TenantId, TenantSet};
use microsoft::{Cloud, Turns};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until};

use self::pace::{Pace, Rate};
use crate::core::locked;

/// So many tenants are throttled one after the other, and none is served in between, before it is believed that the
/// host means everybody: of a tenth that are throttled by themselves, five in a row are one in a hundred thousand.
const IN_A_ROW: usize = 5;

/// The longest that a host is left alone before it is asked again, whatever it says: one bad `Retry-After` must
/// not blind everybody for an hour.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// A host that has given a token within this is taken for one that gives tokens.
const LATELY: Duration = Duration::from_secs(10);

/// The queue in front of one login host.
pub(crate) struct Lane {
    /// Held by the first in the queue.
    queue: Mutex<Pace>,
    per_second: NonZeroU32,
    tenants: watch::Receiver<Arc<TenantSet>>,
    heard: std::sync::Mutex<Heard>,
}

/// What the host's answers say of it.
#[derive(Default)]
struct Heard {
    /// The last one was a token, then.
    gave_at: Option<Instant>,
    /// Who was answered 429 since anybody was served.
    throttled: BTreeSet<TenantId>,
    /// It throttles everybody, and is left alone until then.
    rest_until: Option<Instant>,
}

impl Lane {
    fn new(per_second: NonZeroU32, tenants: watch::Receiver<Arc<TenantSet>>) -> Self {
        Self { queue: Mutex::default(), per_second, tenants, heard: std::sync::Mutex::default() }
    }

    /// Returns when it is the caller's turn to ask.
    ///
    /// # Errors
    /// Until when the host is left alone, if it throttles everybody: then the queue is sent home at once.
    pub(crate) async fn turn(&self) -> Result<(), Instant> {
        let mut pace = self.queue.lock().await;
        loop {
            if let Some(until) = self.resting() {
                return Err(until);
            }
            // Looked up each time: the number of replicas may change while the queue is long.
            let rate = Rate::of(self.per_second, self.tenants.borrow().replicas);
            let (now, gave_at) = (Instant::now(), locked(&self.heard).gave_at);
            match pace.turn(now, rate, gave_at.is_some_and(|at| now < at + LATELY)) {
                Ok(()) => return Ok(()),
                Err(next) => sleep_until(next).await,
            }
        }
    }

    /// The host gave a tenant a token.
    pub(crate) fn gave(&self) {
        self.served(Some(Instant::now()));
    }

    /// The host refused a tenant, with anything but 429.
    pub(crate) fn refused(&self) {
        self.served(None);
    }

    fn served(&self, gave_at: Option<Instant>) {
        let mut heard = locked(&self.heard);
        if !heard.is_resting() {
            *heard = Heard { gave_at, ..Heard::default() };
        }
    }

    /// The host answered a tenant with 429 and wants to be left alone for `wait`. Answers for how long nobody asks
    /// from now on, if this was the one that settled it.
    pub(crate) fn throttled(&self, tenant: TenantId, wait: Duration) -> Option<Duration> {
        let mut heard = locked(&self.heard);
        if heard.is_resting() {
            return None;
        }
        heard.gave_at = None;
        heard.throttled.insert(tenant);
        if heard.throttled.len() < IN_A_ROW {
            return None;
        }
        let wait = wait.min(LONGEST_REST);
        *heard = Heard { rest_until: Some(Instant::now() + wait), ..Heard::default() };
        Some(wait)
    }

    fn resting(&self) -> Option<Instant> {
        let heard = locked(&self.heard);
        heard.rest_until.filter(|_| heard.is_resting())
    }
}

impl Heard {
    /// Nobody is asked. Answers that were under way when the rest began, or are told of late since what came had to be stored,
    /// say nothing new.
    fn is_resting(&self) -> bool {
        self.rest_until.is_some_and(|until| until > Instant::now())
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

    #[tokio::test(start_paused = true)]
    async fn no_second_holds_more_than_its_share_and_nobody_is_passed_over() {
        let (lane, _tenants) = lane();
        lane.gave();
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
        assert_eq!(times[0], times[19], "who finds the host at rest does not wait");
        assert!(
            times[20..].windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(50)),
            "after that in even distances: {times:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_host_that_has_given_a_token_lately_is_asked_by_all_at_once() {
        let (lane, _tenants) = lane();
        let twenty_after = async |pause: Duration| {
            sleep(pause).await;
            let begun = Instant::now();
            for _ in 0..20 {
                lane.turn().await.unwrap();
            }
            begun.elapsed()
        };
        let (at_once, evenly, rest) = (Duration::ZERO, Duration::from_millis(950), Duration::from_secs(3));
        assert!(twenty_after(rest).await >= evenly, "nobody knows yet what it answers");
        lane.gave();
        assert_eq!(twenty_after(rest).await, at_once);
        for no_token in [&(|| lane.refused()) as &dyn Fn(), &|| assert_eq!(lane.throttled(TenantId(uuid::Uuid::nil()), rest), None)] {
            lane.gave();
            no_token();
            assert!(twenty_after(rest).await >= evenly, "its last answer was no token");
        }
        lane.gave();
        assert!(twenty_after(LATELY).await >= evenly, "who knows what it answers now");
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_throttles_everybody_is_left_alone_and_one_that_serves_somebody_is_not_i10() {
        let (lane, _tenants) = lane();
        let tenant = |number| TenantId(uuid::Uuid::from_u128(number));
        let wait = Duration::from_secs(30);
        for number in [1, 2, 3, 4, 4, 3, 2, 1] {
            assert_eq!(lane.throttled(tenant(number), wait), None, "four tenants, however often");
        }
        lane.gave();
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
        let until = Instant::now() + LONGEST_REST;
        for told_late in [Lane::gave, Lane::refused] {
            told_late(&lane);
            assert_eq!(lane.turn().await, Err(until), "it was asked before the rest began");
        }
        sleep(LONGEST_REST).await;
        lane.turn().await.unwrap();
    }
}
