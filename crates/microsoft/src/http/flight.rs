//! How many requests are in flight at each host, and which pool of connections each goes by.
//!
//! Over HTTP/2 a pool has one connection to a host, and the host allows so many requests at once on it, commonly 100. Whatever
//! is more waits inside the client until one of them ends: a hundred customers whose side hangs would hold up everybody at that
//! host (I10). So fewer than that go by one connection, and what is more goes by the next pool, which has a connection of its own.
//!
//! All pools together are the limit per host. It lies above all that the poller has in flight at once (64 polls, 128 slow ones, 8
//! re-reads), even if every one of them hangs at one host: who gives way to whom is settled by the poller's lanes, and no poll waits
//! for another one here. It bounds what nothing else bounds, such as the redemptions at a sign-in host that has ceased to answer, twenty
//! more of them every second. Who meets it waits, in order, within the time that his call may take.
//!
//! A request is in flight until its answer is read to the end, since it is one for the host until then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::warmup::name;

/// All hosts.
#[derive(Debug)]
pub(super) struct Flights {
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    per_connection: usize,
    per_host: usize,
}

#[derive(Debug)]
struct Host {
    places: Arc<Semaphore>,
    /// How many requests go by each pool.
    pools: Mutex<Vec<usize>>,
}

/// A request in flight, from before it is sent until its answer is read.
#[derive(Debug)]
pub(super) struct Flight {
    host: Arc<Host>,
    pool: usize,
    _place: OwnedSemaphorePermit,
}

impl Flights {
    /// At most so many at once.
    pub(super) fn new(per_connection: usize, per_host: usize) -> Self {
        Self { hosts: Mutex::default(), per_connection: per_connection.max(1), per_host: per_host.max(1) }
    }

    /// How many pools that takes.
    pub(super) fn pools(&self) -> usize {
        self.per_host.div_ceil(self.per_connection)
    }

    /// Resolves when the host of this address may be sent one more request.
    pub(super) async fn begin(&self, url: &Url) -> Option<Flight> {
        let host = self.host(url);
        let place = Arc::clone(&host.places).acquire_owned().await.ok()?;
        let pool = {
            let mut pools = host.pools();
            // There is one: all of them together have as many places as the host.
            let pool = pools.iter().position(|count| *count < self.per_connection)?;
            pools[pool] += 1;
            pool
        };
        Some(Flight { host, pool, _place: place })
    }

    fn host(&self, url: &Url) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let name = name(url);
        if let Some(host) = hosts.get(name) {
            return Arc::clone(host);
        }
        let host = Arc::new(Host { places: Arc::new(Semaphore::new(self.per_host)), pools: Mutex::new(vec![0; self.pools()]) });
        hosts.insert(name.to_owned(), Arc::clone(&host));
        host
    }
}

impl Flight {
    /// The number of the pool that it goes by.
    pub(super) fn pool(&self) -> usize {
        self.pool
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.host.pools()[self.pool] -= 1;
    }
}

impl Host {
    fn pools(&self) -> MutexGuard<'_, Vec<usize>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("an address")
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_connection_does_not_carry_goes_by_the_next_and_comes_back_to_the_first() {
        let (flights, host) = (Flights::new(2, 5), url("https://a.test/x"));
        let mut going = Vec::new();
        for _ in 0..5 {
            going.push(flights.begin(&host).await.expect("a place"));
        }
        assert_eq!((flights.pools(), going.iter().map(Flight::pool).collect::<Vec<_>>()), (3, vec![0, 0, 1, 1, 2]));
        drop(going.remove(0));
        assert_eq!(flights.begin(&host).await.expect("a place").pool(), 0, "the others can be closed when nothing goes by them");
    }

    #[tokio::test(start_paused = true)]
    async fn who_meets_the_limit_of_a_host_waits_in_order_and_other_hosts_are_other_matters() {
        let (flights, host) = (Arc::new(Flights::new(2, 3)), url("https://dead.test/x"));
        let mut hanging = Vec::new();
        for _ in 0..3 {
            hanging.push(flights.begin(&host).await.expect("a place"));
        }
        for other in ["https://well.test/x", "https://dead.test:8443/x"] {
            assert!(timeout(Duration::ZERO, flights.begin(&url(other))).await.is_ok(), "{other}");
        }
        let (sender, mut begun) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..3 {
            let (flights, host, sender) = (Arc::clone(&flights), host.clone(), sender.clone());
            tokio::spawn(async move {
                let flight = flights.begin(&host).await;
                sender.send((number, flight)).expect("somebody listens");
            });
            tokio::task::yield_now().await;
        }
        assert!(timeout(Duration::from_secs(60), begun.recv()).await.is_err(), "three hang");
        for expected in 0..3 {
            drop(hanging.pop());
            let (number, flight) = begun.recv().await.expect("the next");
            assert_eq!(number, expected);
            drop(flight);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_takes_no_place() {
        let (flights, host) = (Flights::new(1, 1), url("https://a.test/x"));
        let only = flights.begin(&host).await;
        assert!(timeout(Duration::from_secs(1), flights.begin(&host)).await.is_err());
        drop(only);
        assert!(timeout(Duration::ZERO, flights.begin(&host)).await.is_ok());
    }
}
