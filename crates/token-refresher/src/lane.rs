//! The rate at which a login host is asked, over all tenants (I12).
//!
//! `governor` counts; a fair mutex in front of it makes the callers queue, so that a thousand tenants
//! that start at once are served in the order in which they came and only the first of the queue
//! waits on a timer. There is no burst: a second never holds more than its share, wherever it begins.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use domain::CloudName;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use microsoft::Cloud;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// The queue in front of one login host.
pub(crate) struct Lane {
    queue: Mutex<()>,
    clock: Metronome,
    limiter: RateLimiter<NotKeyed, InMemoryState, Metronome, NoOpMiddleware<Duration>>,
}

impl Lane {
    fn new(per_second: NonZeroU32) -> Self {
        let clock = Metronome(Instant::now());
        let quota = Quota::per_second(per_second).allow_burst(NonZeroU32::MIN);
        Self { queue: Mutex::new(()), clock, limiter: RateLimiter::direct_with_clock(quota, clock) }
    }

    /// Returns when it is the caller's turn to ask.
    pub(crate) async fn turn(&self) {
        let _first_in_the_queue = self.queue.lock().await;
        while let Err(too_early) = self.limiter.check() {
            sleep(too_early.wait_time_from(self.clock.now())).await;
        }
    }
}

/// One lane per login host; two clouds that share a host share its lane.
pub(crate) struct Lanes(BTreeMap<String, Lane>);

impl Lanes {
    pub(crate) fn new(clouds: &BTreeMap<CloudName, Cloud>, per_second: NonZeroU32) -> Self {
        Self(clouds.values().map(|cloud| (host(cloud), Lane::new(per_second))).collect())
    }

    /// The lane of a cloud that was there at the start.
    pub(crate) fn of(&self, cloud: &Cloud) -> Option<&Lane> {
        self.0.get(&host(cloud))
    }
}

fn host(cloud: &Cloud) -> String {
    let url = &cloud.login_url;
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

/// Tokio's clock as `governor` wants to see it, so that paused time pauses the rate as well.
#[derive(Clone, Copy, Debug)]
struct Metronome(Instant);

impl Clock for Metronome {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_second_holds_more_than_its_share_and_nobody_is_passed_over() {
        let lane = Arc::new(Lane::new(NonZeroU32::new(20).unwrap()));
        let mut callers = tokio::task::JoinSet::new();
        for number in 0..100_u32 {
            let lane = Arc::clone(&lane);
            callers.spawn(async move {
                lane.turn().await;
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
}
