//! The rate at which a login host is asked, over all tenants and all replicas (I12).
//!
//! A fair mutex makes the callers queue, so that a thousand tenants that start at once are served in the order in which
//! they came and only the first of the queue waits on a timer. A second never holds more than its share, wherever it
//! begins. A host that was at rest for a second, and whose last answer was a token, is asked by all who come at once, up to
//! the share: a daemon of twenty customers has their tokens a moment after its start. Everybody else keeps an even distance.
//! So what is wrong with everybody is found out by a few, and of a long queue no two seconds run into each other on their way.
//!
//! The rate is one for the host, so each replica takes its part of it: the registry says how many there are with every
//! set of tenants. One that joins is counted by the others about a second later.
//!
//! A host that answers 429 to several tenants and serves none in between means everybody: it is left alone
//! for as long as it asked for. One such answer is the affair of one tenant, and holds up nobody else (I10).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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

const SECOND: Duration = Duration::from_secs(1);

/// A pause is rounded up.
const ROUNDED: Duration = Duration::from_nanos(1);

/// The queue in front of one login host.
pub(crate) struct Lane {
    /// Held by the first in the queue.
    queue: Mutex<Asked>,
    per_second: NonZeroU32,
    tenants: watch::Receiver<Arc<TenantSet>>,
    heard: std::sync::Mutex<Heard>,
}

/// When the host was asked.
#[derive(Default)]
struct Asked {
    last: Option<Instant>,
    /// All turns of the last second, the oldest first.
    lately: VecDeque<Instant>,
    /// A second was full since the host was last at rest.
    evenly: bool,
}

impl Asked {
    /// Takes a turn, or says when there is one. `gives`: the host gave a token when it was last asked.
    fn turn(&mut self, now: Instant, rate: Rate, gives: bool) -> Result<(), Instant> {
        while self.lately.front().is_some_and(|turn| *turn + SECOND <= now) {
            self.lately.pop_front();
        }
        // Who waits for the second to end comes right at its end, and has not found the host at rest.
        self.evenly &= self.last.is_some_and(|last| last + SECOND + rate.pause > now);
        let full = self.lately.len().checked_sub(rate.share).and_then(|index| self.lately.get(index));
        self.evenly |= full.is_some();
        let even = self.last.filter(|_| self.evenly || !gives || rate.share == 0).map(|last| last + rate.pause);
        match full.map(|turn| *turn + SECOND).max(even) {
            Some(next) if next > now => Err(next),
            _ => {
                self.last = Some(now);
                self.lately.push_back(now);
                Ok(())
            }
        }
    }
}

/// What the host's answers say of it.
#[derive(Default)]
struct Heard {
    /// The last one was a token.
    gives: bool,
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
        let mut asked = self.queue.lock().await;
        loop {
            if let Some(until) = self.resting() {
                return Err(until);
            }
            // Looked up each time: the number of replicas may change while the queue is long.
            let rate = Rate::of(self.per_second, self.tenants.borrow().replicas);
            let gives = locked(&self.heard).gives;
            match asked.turn(Instant::now(), rate, gives) {
                Ok(()) => return Ok(()),
                Err(next) => sleep_until(next).await,
            }
        }
    }

    /// The host gave a tenant a token.
    pub(crate) fn gave(&self) {
        *locked(&self.heard) = Heard { gives: true, ..Heard::default() };
    }

    /// The host refused a tenant, with anything but 429.
    pub(crate) fn refused(&self) {
        *locked(&self.heard) = Heard::default();
    }

    /// The host answered a tenant with 429 and wants to be left alone for `wait`. Answers for how long nobody asks
    /// from now on, if this was the one that settled it.
    pub(crate) fn throttled(&self, tenant: TenantId, wait: Duration) -> Option<Duration> {
        let mut heard = locked(&self.heard);
        // What was under way when the rest began says nothing new.
        if heard.rest_until.is_some_and(|until| until > Instant::now()) {
            return None;
        }
        heard.gives = false;
        heard.throttled.insert(tenant);
        if heard.throttled.len() < IN_A_ROW {
            return None;
        }
        let wait = wait.min(LONGEST_REST);
        *heard = Heard { rest_until: Some(Instant::now() + wait), ..Heard::default() };
        Some(wait)
    }

    fn resting(&self) -> Option<Instant> {
        locked(&self.heard).rest_until.filter(|until| *until > Instant::now())
    }
}

/// What one of so many replicas may ask. Shares are rounded down, so that together they stay within the rate; more replicas
/// than turns in a second take one each in as many seconds as that makes.
#[derive(Clone, Copy)]
struct Rate {
    /// So many turns in any second; none when a turn takes longer than that.
    share: usize,
    /// Between two turns that keep an even distance.
    pause: Duration,
}

impl Rate {
    fn of(per_second: NonZeroU32, replicas: NonZeroU32) -> Self {
        match NonZeroU32::new(per_second.get() / replicas) {
            None => Self { share: 0, pause: SECOND * replicas.get() / per_second.get() + ROUNDED },
            Some(share) => Self { share: share.get() as usize, pause: SECOND / share.get() + ROUNDED },
        }
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
        for (per_second, replicas, millis) in [(20, 1, 50), (20, 2, 100), (20, 3, 166), (20, 20, 1000), (20, 30, 1500), (1, 3, 3000)] {
            let rate = Rate::of(NonZeroU32::new(per_second).unwrap(), NonZeroU32::new(replicas).unwrap());
            assert_eq!(rate.pause.as_millis(), millis, "{per_second} per second, {replicas} replicas");
            assert_eq!(rate.share, (per_second / replicas) as usize);
        }
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
    async fn a_rest_of_a_second_lets_through_a_share_at_once_and_nothing_shorter_does() {
        let (lane, _tenants) = lane();
        let waits_after = async |pause: Duration, turns: u32| {
            sleep(pause).await;
            let begun = Instant::now();
            for _ in 0..turns {
                lane.turn().await.unwrap();
            }
            begun.elapsed()
        };
        let at_once = Duration::ZERO;
        assert!(waits_after(at_once, 5).await >= SECOND / 5, "nobody knows yet what it answers");
        lane.gave();
        assert_eq!(waits_after(at_once, 10).await, at_once);
        assert_eq!(waits_after(SECOND / 2, 5).await, at_once, "what is left of the second");
        assert!(waits_after(at_once, 1).await >= SECOND / 4, "the second is full");
        assert!(waits_after(SECOND - SECOND / 10, 2).await >= SECOND / 20, "it was asked less than a second ago");
        assert_eq!(waits_after(SECOND * 2, 20).await, at_once);
        for no_token in [&(|| lane.refused()) as &dyn Fn(), &|| assert_eq!(lane.throttled(TenantId(uuid::Uuid::nil()), SECOND), None)] {
            lane.gave();
            no_token();
            assert!(waits_after(SECOND * 2, 20).await >= SECOND * 19 / 20, "its last answer was no token");
        }
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
        lane.refused();
        lane.turn().await.unwrap();
    }
}
