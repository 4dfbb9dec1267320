//! What is remembered of a feed between polls. Losing it costs a few calls, never an alert: what must last
//! is in the database.

use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::{FeedState, Source, TenantId, Ticks};
use tokio::time::Instant;

use crate::known::Known;
use crate::sizes::Sizes;
use crate::walk::{Learnt, Walk};

/// One source of one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FeedKey {
    pub(crate) tenant: TenantId,
    pub(crate) source: Source,
}

/// What is done with a feed. The two run beside each other, each one turn at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Work {
    /// Polling: from the watermark on.
    Live,
    /// Re-reading: what polling has passed over.
    Again,
}

/// What waits in the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Job {
    pub(crate) feed: FeedKey,
    pub(crate) work: Work,
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

/// What a walk has been answered, for who wants to know how long the next answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Nothing yet.
    #[default]
    Nothing,
    /// Less than was asked for, each time.
    Little,
    /// A whole page, or more than can be read: there may be more.
    Much,
}

/// What polling and re-reading of one feed share.
#[derive(Debug, Default)]
pub(crate) struct Common {
    learnt: Mutex<Learnt>,
    marks: Mutex<Marks>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    watermark: Option<Ticks>,
    caught_up: Option<Instant>,
    history_from: Option<Ticks>,
    news: Option<Instant>,
}

impl Common {
    /// What the source has shown of itself. Never held across an await.
    pub(crate) fn learnt(&self) -> MutexGuard<'_, Learnt> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The committed watermark, as far as polling knows it.
    pub(crate) fn watermark(&self) -> Option<Ticks> {
        self.marks().watermark
    }

    pub(crate) fn note_watermark(&self, watermark: Option<Ticks>) {
        let mut marks = self.marks();
        marks.watermark = marks.watermark.max(watermark);
    }

    /// When the last poll began that found the end of the feed.
    pub(crate) fn caught_up(&self) -> Option<Instant> {
        self.marks().caught_up
    }

    pub(crate) fn note_caught_up(&self, began: Instant) {
        let mut marks = self.marks();
        marks.caught_up = marks.caught_up.max(Some(began));
    }

    /// From where on this feed was to be read at first contact, if that was just now.
    pub(crate) fn history_from(&self) -> Option<Ticks> {
        self.marks().history_from
    }

    pub(crate) fn note_history_from(&self, from: Ticks) {
        self.marks().history_from = Some(from);
    }

    /// When something was last stored that had not been known.
    pub(crate) fn news(&self) -> Option<Instant> {
        self.marks().news
    }

    pub(crate) fn note_news(&self) {
        self.marks().news = Some(Instant::now());
    }

    /// What is committed may be less than what is known here.
    pub(crate) fn forget_marks(&self) {
        let mut marks = self.marks();
        *marks = Marks { news: marks.news, ..Marks::default() };
    }

    /// A gap that was noted may not have been recorded, so it has to be found again.
    pub(crate) fn forget_learnt(&self) {
        *self.learnt() = Learnt::default();
    }
}

/// A feed's memory for polling. It travels into each poll and comes back with its end.
#[derive(Debug)]
pub(crate) struct Feed<L> {
    /// What is committed; read from the database when the feed is new.
    pub(crate) state: Option<FeedState>,
    /// A walk that is not done. It goes on where it stood, also after a failure: beginning again from the watermark
    /// would read the overlap again every time, and a tenant with very much in it would never come to an end.
    pub(crate) walk: Option<Box<Walk<L>>>,
    /// When that walk began, by tokio's clock.
    pub(crate) walk_began: Option<Instant>,
    /// What it has been answered.
    pub(crate) answered: Answered,
    pub(crate) health: Health,
    /// The source has answered since it was last asked in vain, or since this feed is new here.
    pub(crate) answers: bool,
    /// Some walk has come to its end: what comes from now on is news.
    pub(crate) caught_up: bool,
    pub(crate) sizes: Sizes,
    pub(crate) known: Known,
}

impl<L> Default for Feed<L> {
    fn default() -> Self {
        Self {
            state: None,
            walk: None,
            walk_began: None,
            answered: Answered::default(),
            health: Health::default(),
            answers: false,
            caught_up: false,
            sizes: Sizes::default(),
            known: Known::default(),
        }
    }
}

impl<L> Feed<L> {
    /// The database may have lost what it had: where the feed stands is read again, and the walk begins there.
    pub(crate) fn doubt(&mut self) {
        self.state = None;
        self.walk = None;
        self.known = Known::default();
        // The word that all is well may be among what was lost.
        if self.health == Health::Working {
            self.health = Health::Unknown;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_only_rise_until_they_are_forgotten() {
        let common = Common::default();
        common.note_watermark(Some(Ticks(5)));
        common.note_watermark(Some(Ticks(3)));
        common.note_watermark(None);
        assert_eq!(common.watermark(), Some(Ticks(5)));
        common.forget_marks();
        assert_eq!(common.watermark(), None);
    }
}
