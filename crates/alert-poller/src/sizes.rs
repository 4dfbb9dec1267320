//! How large answers are, so that memory is set aside for a page before it is asked for: enough, and not so much that
//! thousands of customers with little to say wait for each other.

use std::time::Duration;

use microsoft::WindowQuery;

use crate::source::Query;

/// What the answers of one feed have shown so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Of the first page of the last walk.
    first_page: usize,
    /// Of a record, on the last page that was long enough to tell.
    record: usize,
    /// What the last stretch of time came to: how long it was, and its bytes.
    stretch: Option<(Duration, usize)>,
}

/// What is known of an answer before it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Nothing: it may be as long as it is allowed to be.
    Open,
    /// The feed is up to date, and answers with few records whatever it is asked for.
    UpToDate,
    /// It is about so much time.
    Stretch(Duration),
}

impl Outlook {
    /// Of a re-read's question.
    pub(crate) fn of<L>(query: &Query<L>) -> Self {
        match query {
            Query::Window(WindowQuery { from, before: Some(before), .. }) => Self::Stretch(before.since(*from)),
            Query::Window(_) | Query::Next(_) => Self::Open,
        }
    }
}

impl Default for Sizes {
    fn default() -> Self {
        // Alerts are 2 to 20 kB; it is measured as soon as there is a page.
        const RECORD_BYTES: usize = 8 * 1024;
        Self { first_page: 0, record: RECORD_BYTES, stretch: None }
    }
}

/// Nobody sets aside less than this, bytes.
pub(crate) const LEAST: usize = 64 * 1024;

impl Sizes {
    /// How much memory to set aside for a page of at most so many records, bytes: twice what came the last time, where
    /// that says anything.
    pub(crate) fn expected(&self, records: u32, outlook: Outlook) -> usize {
        let full = usize::try_from(records).unwrap_or(usize::MAX).saturating_mul(self.record);
        let expected = match (outlook, self.stretch) {
            (Outlook::UpToDate, _) => self.first_page.saturating_mul(2),
            (Outlook::Stretch(time), Some((last, bytes))) => {
                // Not less than a second: nobody can tell from less what is to come.
                let times = time.as_secs().max(1).div_ceil(last.as_secs().max(1));
                bytes.saturating_mul(usize::try_from(times).unwrap_or(usize::MAX)).saturating_mul(2).min(full)
            }
            (Outlook::Open, _) | (Outlook::Stretch(_), None) => full,
        };
        expected.max(LEAST)
    }

    /// The first page of a walk has this size.
    pub(crate) fn begin_walk(&mut self, bytes: usize) {
        self.first_page = bytes;
    }

    /// A page of this size has come.
    pub(crate) fn note(&mut self, bytes: usize, records: usize, outlook: Outlook) {
        if let Outlook::Stretch(time) = outlook {
            self.stretch = Some((time, bytes));
        }
        if records >= 10 {
            self.record = bytes / records;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_feed_sets_little_memory_aside_and_a_reading_one_a_full_page() {
        let mut sizes = Sizes::default();
        assert_eq!(sizes.expected(100, Outlook::Open), 800 * 1024, "nothing is known yet");
        sizes.begin_walk(600_000);
        sizes.note(600_000, 100, Outlook::Open);
        assert_eq!(sizes.expected(1000, Outlook::Open), 6_000_000);
        sizes.begin_walk(20_000);
        sizes.note(20_000, 3, Outlook::Open);
        assert_eq!(sizes.expected(1000, Outlook::UpToDate), 64 * 1024);
        assert_eq!(sizes.expected(1000, Outlook::Open), 6_000_000);
    }

    #[test]
    fn a_stretch_of_time_is_expected_to_hold_as_much_as_the_last_one_did_in_the_same_time() {
        const HOUR: Duration = Duration::from_secs(3600);
        let mut sizes = Sizes::default();
        assert_eq!(sizes.expected(500, Outlook::Stretch(HOUR)), 500 * 8 * 1024, "nothing is known yet");
        sizes.note(0, 0, Outlook::Stretch(24 * HOUR));
        assert_eq!(sizes.expected(500, Outlook::Stretch(7 * 24 * HOUR)), 64 * 1024, "there was nothing");
        sizes.note(15_000, 3, Outlook::Stretch(24 * HOUR));
        assert_eq!(sizes.expected(500, Outlook::Stretch(24 * HOUR)), 64 * 1024);
        assert_eq!(sizes.expected(500, Outlook::Stretch(7 * 24 * HOUR)), 2 * 7 * 15_000);
        sizes.note(500 * 6000, 500, Outlook::Stretch(HOUR));
        assert_eq!(sizes.expected(500, Outlook::Stretch(7 * 24 * HOUR)), 500 * 6000, "no page is longer than it may be");
        sizes.note(6000, 1, Outlook::Stretch(Duration::ZERO));
        assert_eq!(sizes.expected(500, Outlook::Stretch(24 * HOUR)), 500 * 6000, "a moment says little about a day");
    }
}
