//! What can be set.

use std::time::Duration;

/// Settings of the poller. The defaults are those of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Between two polls of a feed, ±10 %.
    pub interval: Duration,
    /// How much before its watermark every poll reads again, for alerts that become visible late.
    pub overlap: Duration,
    /// How far back the first contact reads.
    pub first_sync: Duration,
    /// Records asked for per page; more than the source allows is clamped.
    pub page_size: u32,
    /// Calls to Graph per tenant in any minute.
    pub graph_per_minute: u32,
    /// Calls to Defender for Endpoint per tenant in any minute.
    pub defender_per_minute: u32,
    /// Calls to Defender for Endpoint per tenant in any hour.
    pub defender_per_hour: u32,
    /// Polls in flight.
    pub polls_at_once: usize,
    /// Polls in flight of feeds that are slow to answer, apart from the others.
    pub slow_polls_at_once: usize,
    /// An answer that takes longer is waited for in the slow lane.
    pub slow_after: Duration,
    /// An answer that takes longer is given up.
    pub answer_timeout: Duration,
    /// Bytes of pages in memory, each counted before it is asked for; the slow lane may use a quarter
    /// as much again.
    pub page_memory: usize,
    /// A feed with much to read lets the others go first after so many pages …
    pub pages_per_turn: u32,
    /// … or after so long.
    pub time_per_turn: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            overlap: Duration::from_secs(15 * 60),
            first_sync: Duration::from_secs(30 * 24 * 3600),
            page_size: 1000,
            graph_per_minute: 150,
            defender_per_minute: 100,
            defender_per_hour: 1500,
            polls_at_once: 64,
            slow_polls_at_once: 16,
            slow_after: Duration::from_secs(2),
            answer_timeout: Duration::from_secs(60),
            page_memory: 64 << 20,
            pages_per_turn: 8,
            time_per_turn: Duration::from_secs(3),
        }
    }
}
