//! What tunes the sink, with the values that are right unless measured otherwise.

use std::time::Duration;

/// How many batches of stuck feeds are held besides the others. The poller has one batch per feed on its
/// way, so this is the number of feeds that may be stuck before the others are held up as well.
pub(crate) const ASIDE: usize = 64;

/// Settings of the sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many batches are stored at once, each of another feed. Two fill two cores of a Postgres on
    /// the same host; more gain nothing there.
    pub writers: usize,
    /// The longest one statement may run or wait for a lock, and the longest a transaction may stand
    /// idle. Also bounds how long a frozen process can make its successor wait, so keep it small.
    pub statement_timeout: Duration,
    /// The longest a commit waits for somebody else's lock before it frees its writer and is tried again later.
    pub lock_timeout: Duration,
    /// How long to wait for a connection before the database counts as away.
    pub acquire_timeout: Duration,
    /// The first pause after a failed attempt; it doubles from there.
    pub first_delay: Duration,
    /// The longest pause between two attempts.
    pub max_delay: Duration,
    /// How often news of feeds is written.
    pub progress_flush: Duration,
    /// How long storing may go on after a stop was asked for.
    pub stop_grace: Duration,
    /// How often the status is renewed. A reader calls a stage stuck after some seconds without.
    pub beat: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            writers: 2,
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(2),
            acquire_timeout: Duration::from_secs(5),
            first_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(5),
            progress_flush: Duration::from_secs(1),
            stop_grace: Duration::from_secs(5),
            beat: Duration::from_millis(500),
        }
    }
}

impl Config {
    /// The longest one attempt may take by our own clock. The server ends a slow statement by itself;
    /// this is for a server, or a network, that has stopped answering at all.
    pub(crate) fn attempt_timeout(&self) -> Duration {
        self.statement_timeout * 3
    }

    /// How many connections the sink can use at the same time: one for each writer, and one for news.
    pub fn connections(&self) -> u32 {
        u32::try_from(self.writers.max(1) + 1).unwrap_or(u32::MAX)
    }

    /// How many batches are held at most, waiting ones included, besides those of stuck feeds. The
    /// look-ahead lets a second writer find another feed behind a busy one, and bounds what lies in memory
    /// while the database is away.
    pub(crate) fn held(&self) -> usize {
        self.writers.max(1) * 2
    }

    /// How many writers may be at batches that were stuck before. One stays free for everybody else,
    /// since each of those may wait for a lock until the statement's time is over.
    pub(crate) fn writers_for_stuck(&self) -> usize {
        self.writers.saturating_sub(1).max(1)
    }
}
