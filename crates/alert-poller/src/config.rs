//! What can be set.

use std::time::Duration;

/// Settings of the poller. The defaults are those of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Between two polls of a feed, ±10 %.
    pub interval: Duration,
    /// Between two polls of a feed of a customer at whom nothing has happened for long: it grows up to this. Not longer than
    /// the interval, as zero is: it does not grow.
    pub quiet_interval: Duration,
    /// How much before its watermark every poll reads again, for alerts that become visible late.
    pub overlap: Duration,
    /// How far back the first contact reads: the last day of it by polling, the rest as a backfill.
    pub first_sync: Duration,
    /// How long the source keeps alerts. What nobody has read for longer is recorded as a gap.
    pub source_keeps: Duration,
    /// What is read again, and when.
    pub ladder: Ladder,
    /// Records asked for per page; more than the source allows is clamped.
    pub page_size: u32,
    /// Calls to Graph per tenant in any minute.
    pub graph_per_minute: u32,
    /// Calls to Defender for Endpoint per tenant in any minute.
    pub defender_per_minute: u32,
    /// Calls to Defender for Endpoint per tenant in any hour.
    pub defender_per_hour: u32,
    /// Calls to Graph per app in any ten seconds, over all tenants and all replicas. Zero: no limit.
    pub app_graph_per_10s: u32,
    /// Calls to Defender for Endpoint per app in any minute, over all tenants and all replicas. Zero: no limit.
    pub app_defender_per_minute: u32,
    /// Polls in flight.
    pub polls_at_once: usize,
    /// Polls in flight of feeds that are slow to answer, apart from the others. Many, since whoever is well again waits
    /// behind those that are not; a place costs little.
    pub slow_polls_at_once: usize,
    /// An answer that takes longer is waited for in the slow lane.
    pub slow_after: Duration,
    /// An answer that takes longer is given up.
    pub answer_timeout: Duration,
    /// Re-reads in flight, apart from all polls.
    pub rereads_at_once: usize,
    /// Bytes of pages in memory, each counted before it is asked for; the slow lane may use two fifths
    /// as much again, and so may re-reads.
    pub page_memory: usize,
    /// A feed with much to read lets the others go first after so many pages …
    pub pages_per_turn: u32,
    /// … or after so long.
    pub time_per_turn: Duration,
    /// Between two words about oneself.
    pub beat: Duration,
    /// Between two questions for what operators want read again.
    pub ask_every: Duration,
}

/// What is read again by the clock, to find what became visible late or was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// A short stretch, often.
    pub short: Rung,
    /// A long stretch, seldom.
    pub long: Rung,
    /// Once a day source and store are compared.
    pub compare: Option<Compare>,
}

/// One rung of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// How far back it reads.
    pub reach: Duration,
    /// How often. Zero: never.
    pub every: Duration,
}

/// The nightly comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare {
    /// How far back it compares.
    pub reach: Duration,
    /// When the first tenants begin, after midnight UTC; the others follow within three hours.
    pub at: Duration,
}

impl Default for Ladder {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            short: Rung { reach: DAY, every: Duration::from_secs(3600) },
            long: Rung { reach: DAY * 7, every: DAY },
            compare: Some(Compare { reach: DAY, at: Duration::from_secs(2 * 3600) }),
        }
    }
}

impl Config {
    /// Bytes of pages that the slow lane may have in memory, and re-reads as well. Small answers fit into it for every place of
    /// the slow lane: a place that waits for memory would be none.
    pub(crate) fn memory_beside(&self) -> usize {
        self.page_memory / 5 * 2
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            quiet_interval: Duration::ZERO,
            overlap: Duration::from_secs(15 * 60),
            first_sync: Duration::from_secs(30 * 24 * 3600),
            source_keeps: Duration::from_secs(180 * 24 * 3600),
            ladder: Ladder::default(),
            // One slice of the sink, as alerts are. Twice as many halve the calls and double what lies in memory.
            page_size: 500,
            graph_per_minute: 150,
            defender_per_minute: 100,
            defender_per_hour: 1500,
            app_graph_per_10s: 130_000,
            app_defender_per_minute: 0,
            polls_at_once: 64,
            slow_polls_at_once: 128,
            rereads_at_once: 8,
            slow_after: Duration::from_secs(2),
            answer_timeout: Duration::from_secs(55),
            // Some pages for each writer; more in memory make nothing faster.
            page_memory: 20 << 20,
            pages_per_turn: 8,
            time_per_turn: Duration::from_secs(3),
            beat: Duration::from_secs(1),
            ask_every: Duration::from_secs(2),
        }
    }
}
