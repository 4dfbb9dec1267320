//! A host that is not connected yet is not called by everybody at once.
//!
//! Before its first answer nobody knows whether a host speaks HTTP/2, so each call makes a connection of its own, though one
//! would do for all. When thousands of feeds are due together, as after a start or an outage, that would be a storm of
//! handshakes. So a few calls go first, and each answer lets one more go beside those that may already, until there are as many
//! as ever are in flight. Nobody waits for long: the first calls may be those of customers whose side hangs (I10).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use url::{Position, Url};

/// So many calls go first.
pub(super) const FIRST: usize = 4;
/// More than so many are never in flight at once, so that nobody has to be held back any longer.
const ENOUGH: usize = 256;
/// Nobody waits for the others for longer than this.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far each host has come.
#[derive(Debug)]
pub(super) struct Warmup {
    hosts: Mutex<HashMap<String, Host>>,
    /// Connections that nobody uses are closed after this.
    connections_last: Duration,
}

#[derive(Debug)]
struct Host {
    places: Arc<Semaphore>,
    /// How many places there are. All that are needed, at a host that is connected.
    count: usize,
    last_answer: Instant,
}

impl Host {
    fn cold(now: Instant) -> Self {
        Self { places: Arc::new(Semaphore::new(FIRST)), count: FIRST, last_answer: now }
    }
}

impl Warmup {
    pub(super) fn new(connections_last: Duration) -> Self {
        Self { hosts: Mutex::default(), connections_last }
    }

    /// Resolves when the host of this address may be called.
    pub(super) async fn turn(&self, url: &Url) -> Option<OwnedSemaphorePermit> {
        let places = {
            let (mut hosts, now) = (self.hosts(), Instant::now());
            let name = name(url);
            let host = match hosts.get_mut(name) {
                Some(host) => host,
                None => hosts.entry(name.to_owned()).or_insert_with(|| Host::cold(now)),
            };
            if now - host.last_answer > self.connections_last && host.count > FIRST {
                *host = Host::cold(now);
            }
            if host.count >= ENOUGH {
                return None;
            }
            Arc::clone(&host.places)
        };
        timeout(PATIENCE, places.acquire_owned()).await.ok()?.ok()
    }

    /// The host has answered, whatever it said: one more may call it.
    pub(super) fn answered(&self, url: &Url) {
        let mut hosts = self.hosts();
        let Some(host) = hosts.get_mut(name(url)) else { return };
        host.last_answer = Instant::now();
        if host.count < ENOUGH {
            host.count += 1;
            host.places.add_permits(1);
        }
    }

    /// The host could not be reached: who calls it next makes a new connection.
    pub(super) fn unreachable(&self, url: &Url) {
        let mut hosts = self.hosts();
        if let Some(host) = hosts.get_mut(name(url)).filter(|host| host.count > FIRST) {
            *host = Host::cold(Instant::now());
        }
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Scheme, host and port.
pub(super) fn name(url: &Url) -> &str {
    &url[..Position::BeforePath]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("an address")
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_go_first_and_each_answer_lets_one_more_go() {
        let (warmup, host) = (Warmup::new(Duration::from_secs(90)), url("https://a.test/x"));
        let mut going = Vec::new();
        for _ in 0..FIRST {
            going.push(warmup.turn(&host).await.expect("a place"));
        }
        let began = Instant::now();
        assert!(warmup.turn(&url("https://a.test/y?z")).await.is_none(), "it goes without a place");
        assert_eq!(began.elapsed(), PATIENCE);
        assert!(warmup.turn(&url("https://b.test/x")).await.is_some(), "another host is another matter");
        warmup.answered(&host);
        drop(going.pop());
        let began = Instant::now();
        for _ in 0..2 {
            going.push(warmup.turn(&host).await.expect("the one that came back, and one more"));
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_answers_is_held_back_no_more_until_its_connections_are_gone() {
        let (warmup, host) = (Warmup::new(Duration::from_secs(90)), url("https://a.test/x"));
        let held_back = async || {
            let mut going = Vec::new();
            let began = Instant::now();
            for _ in 0..FIRST {
                going.push(warmup.turn(&host).await);
            }
            assert_eq!(began.elapsed(), Duration::ZERO);
            warmup.turn(&host).await;
            began.elapsed() > Duration::ZERO
        };
        let warm = || (0..ENOUGH).for_each(|_| warmup.answered(&host));
        assert!(held_back().await);
        warm();
        assert!(!held_back().await);
        tokio::time::advance(Duration::from_secs(89)).await;
        assert!(!held_back().await, "a quiet minute keeps it warm");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(held_back().await);
        warm();
        warmup.unreachable(&host);
        assert!(held_back().await, "its connections are broken");
    }
}
