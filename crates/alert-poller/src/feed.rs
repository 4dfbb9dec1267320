//! What is remembered of a feed between polls. Losing it costs a few calls, never an alert: what must last
//! is in the database.

use domain::{FeedState, Source, TenantId};

use crate::walk::{Learnt, Walk};

/// One source of one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FeedKey {
    pub(crate) tenant: TenantId,
    pub(crate) source: Source,
}

/// Whether the last word about this feed was good or bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nothing said yet.
    #[default]
    Unknown,
    Working,
    Troubled,
}

/// A feed's memory. It travels into each poll and comes back with its end.
#[derive(Debug)]
pub(crate) struct Feed<L> {
    /// What is committed; read from the database when the feed is new.
    pub(crate) state: Option<FeedState>,
    /// What the source has shown of itself.
    pub(crate) learnt: Learnt,
    /// A walk that is not done. It goes on where it stood, also after a failure: beginning again from the watermark
    /// would read the overlap again every time, and a tenant with very much in it would never come to an end.
    pub(crate) walk: Option<Box<Walk<L>>>,
    pub(crate) health: Health,
    /// Some walk has come to its end: what comes from now on is news.
    pub(crate) caught_up: bool,
    /// Failures in a row that may have to do with the size of the page.
    pub(crate) stuck: u32,
    /// Size of the first page of the last walk.
    pub(crate) page_bytes: usize,
    /// Size of a record, on the largest page so far.
    pub(crate) record_bytes: usize,
}

impl<L> Default for Feed<L> {
    fn default() -> Self {
        // Alerts are 2 to 20 kB; it is measured as soon as there is a page.
        const RECORD_BYTES: usize = 8 * 1024;
        Self {
            state: None,
            learnt: Learnt::default(),
            walk: None,
            health: Health::default(),
            caught_up: false,
            stuck: 0,
            page_bytes: 0,
            record_bytes: RECORD_BYTES,
        }
    }
}

impl<L> Feed<L> {
    /// How much memory to set aside for a page of so many records.
    pub(crate) fn expected_bytes(&self, records: u32, begins_walk: bool) -> usize {
        const LEAST: usize = 64 * 1024;
        let full = usize::try_from(records).unwrap_or(usize::MAX).saturating_mul(self.record_bytes);
        // A feed that is up to date answers with a handful of records, whatever it is asked for.
        let expected = if begins_walk && self.caught_up { self.page_bytes.saturating_mul(2) } else { full };
        expected.max(LEAST)
    }

    /// A page of this size has come.
    pub(crate) fn note_size(&mut self, bytes: usize, records: usize, begins_walk: bool) {
        if begins_walk {
            self.page_bytes = bytes;
        }
        if records >= 10 {
            self.record_bytes = bytes / records;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_feed_sets_little_memory_aside_and_a_reading_one_a_full_page() {
        let mut feed = Feed::<()>::default();
        assert_eq!(feed.expected_bytes(100, true), 800 * 1024, "nothing is known yet");
        feed.note_size(600_000, 100, true);
        assert_eq!(feed.expected_bytes(1000, false), 6_000_000);
        feed.caught_up = true;
        feed.note_size(20_000, 3, true);
        assert_eq!(feed.expected_bytes(1000, true), 64 * 1024);
        assert_eq!(feed.expected_bytes(1000, false), 6_000_000);
    }
}
