//! What a feed has shown of its source, kept while the process runs. Forgetting it costs calls, never alerts.

use std::time::Duration;

use domain::{Axis, Ticks, cursor};

use super::judge::{Row, stamps};

/// How long polling goes around a record that could not be read. Re-reads look at it again regardless.
const GO_AROUND: Duration = Duration::from_secs(3600);
/// How long a page size counts above which pages have failed.
const BOUND_LASTS: Duration = Duration::from_secs(15 * 60);
/// How many of each are remembered; the oldest are forgotten first.
const KEPT: usize = 64;

/// What a feed has shown of its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Learnt {
    /// Records on the longest answer so far: no clamp was lower than this when it came.
    pub(crate) longest: usize,
    /// When an answer of that length came last, by our clock.
    longest_at: Option<Ticks>,
    /// How often, within a page, a stamp was greater than the one before it; pages that fall do not
    /// get this far.
    rises: usize,
    /// Answers have risen by last update where they fell by creation: they are not in order of creation.
    by_update: bool,
    /// The length at which an answer was cut in silence: the next of that length needs no second look.
    cut_at: Option<usize>,
    /// Links lead in circles: they are no longer believed to mean that there is more.
    pub(crate) links_useless: bool,
    /// The longest answer after the source was last asked for a longer one.
    pub(crate) measured: Option<usize>,
    /// Gaps told already, so that an alarm rings once.
    gaps: Vec<Ticks>,
    /// Instants with a record that could not be read, and when that was noticed.
    unread: Vec<(Axis, Ticks, Ticks)>,
    page_bound: Option<Bound>,
}

/// A page size above which pages have failed, and this one has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    top: u32,
    noted: Ticks,
    /// It was so more than once: it was no passing trouble.
    confirmed: bool,
}

/// An instant that holds a record which could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) at: Ticks,
    /// It has been left alone for so long that it is looked at again.
    pub(crate) again: bool,
}

impl Learnt {
    /// Rising pairs after which ascending order is believed. A source in random order would pass by
    /// chance once in many thousand walks (2^16 with the shortest pages, far less with others); one that
    /// answers newest first never does.
    const BELIEF: usize = 16;

    /// Notes how long an answer was.
    pub(crate) fn note_length(&mut self, len: usize, now: Ticks) {
        if len >= self.longest {
            self.longest = len;
            self.longest_at = Some(now);
        }
    }

    /// Forgets the longest answer when none like it has come for this long: a source that let long answers
    /// through then need not do so now, and believing it would lose what it cuts off in silence.
    pub(crate) fn forget_if_old(&mut self, now: Ticks, lasts: Duration) {
        if self.longest_at.is_some_and(|at| now.since(at) > lasts) {
            self.longest = 0;
            self.longest_at = None;
            self.measured = None;
        }
    }

    /// Counts evidence of order on an ascending page.
    pub(crate) fn note_rises(&mut self, rows: &[Row]) {
        let stamps: Vec<_> = stamps(rows).collect();
        self.rises = self.rises.saturating_add(stamps.windows(2).filter(|pair| pair[0] < pair[1]).count());
        self.by_update |= !cursor::is_ascending(rows.iter().map(|row| row.created));
    }

    /// Where an ascending answer that was cut can be gone on from. Rows that nobody has changed rise by creation as they
    /// do by last update; as long as the order may be that of creation, what follows may be stamped before the last row,
    /// but not before its creation.
    pub(crate) fn border(&self, rows: &[Row]) -> Option<Ticks> {
        let last = rows.iter().rfind(|row| row.stamp.is_some())?;
        if self.by_update { last.stamp } else { last.stamp.min(last.created) }
    }

    /// Whether enough has been seen to move a cursor on the strength of the order alone.
    pub(crate) fn order_is_believed(&self) -> bool {
        self.rises >= Self::BELIEF
    }

    /// An answer of this length turned out to have been cut.
    pub(crate) fn note_cut(&mut self, len: usize) {
        if len > 0 {
            self.cut_at = Some(len);
        }
    }

    /// Whether an answer of this length has been cut before.
    pub(crate) fn was_cut_at(&self, len: usize) -> bool {
        self.cut_at == Some(len)
    }

    /// Whether this gap is news.
    pub(crate) fn is_new_gap(&mut self, at: Ticks) -> bool {
        if self.gaps.contains(&at) {
            return false;
        }
        if self.gaps.len() >= KEPT {
            self.gaps.remove(0);
        }
        self.gaps.push(at);
        true
    }

    /// What lies at this instant could not be read.
    pub(crate) fn note_unread(&mut self, axis: Axis, at: Ticks, now: Ticks) {
        self.unread.retain(|(known, there, _)| (*known, *there) != (axis, at));
        if self.unread.len() >= KEPT {
            self.unread.remove(0);
        }
        self.unread.push((axis, at, now));
    }

    /// Everything in `[from, to)` has been read: there is no gap.
    pub(crate) fn note_read(&mut self, axis: Axis, from: Ticks, to: Ticks) {
        self.unread.retain(|(known, at, _)| *known != axis || *at < from || *at >= to);
        if axis == Axis::Update {
            self.gaps.retain(|at| *at < from || *at >= to);
        }
    }

    /// Where the records lie that could not be read, in ascending order.
    pub(crate) fn unread(&self, axis: Axis, now: Ticks) -> Vec<Unread> {
        let here = self.unread.iter().filter(|(known, ..)| *known == axis);
        let mut unread: Vec<_> = here.map(|(_, at, noted)| Unread { at: *at, again: now.since(*noted) > GO_AROUND }).collect();
        unread.sort_by_key(|unread| unread.at);
        unread
    }

    /// Pages of more records than this have failed, and this one has come.
    pub(crate) fn note_page_bound(&mut self, top: u32, now: Ticks) {
        self.page_bound = Some(Bound { top, noted: now, confirmed: self.page_bound.is_some_and(|known| top <= known.top) });
    }

    /// How many records to ask for at most: all that is wanted, unless that has failed not long ago.
    pub(crate) fn page_bound(&self, full: u32, now: Ticks) -> u32 {
        match self.page_bound {
            Some(Bound { top, noted, confirmed: true }) if now.since(noted) <= BOUND_LASTS => top.min(full),
            _ => full,
        }
    }

    /// The size to go back to when a page of `top` fails, without more ado: it has come before.
    pub(crate) fn known_bound(&self, top: u32) -> Option<u32> {
        self.page_bound.map(|bound| bound.top).filter(|bound| *bound < top)
    }
}

#[cfg(test)]
mod tests {
    use domain::ContentHash;

    use super::*;

    #[test]
    fn order_is_believed_after_many_rises_and_never_for_equal_stamps() {
        let page = |stamps: &[i64]| -> Vec<Row> {
            stamps.iter().map(|stamp| Row { key: ContentHash([0; 32]), stamp: Some(Ticks(*stamp)), created: Some(Ticks(*stamp)) }).collect()
        };
        let mut learnt = Learnt::default();
        for _ in 0..100 {
            learnt.note_rises(&page(&[5, 5, 5, 5]));
            learnt.note_rises(&page(&[7]));
        }
        assert!(!learnt.order_is_believed());
        for _ in 0..16 {
            assert!(!learnt.order_is_believed());
            learnt.note_rises(&page(&[5, 5, 9]));
        }
        assert!(learnt.order_is_believed());
    }

    #[test]
    fn a_gap_is_told_once_and_again_after_it_was_read() {
        let mut learnt = Learnt::default();
        assert!(learnt.is_new_gap(Ticks(1)));
        assert!(!learnt.is_new_gap(Ticks(1)));
        learnt.note_read(Axis::Creation, Ticks(0), Ticks(9));
        assert!(!learnt.is_new_gap(Ticks(1)), "creation says nothing about an instant of updates");
        learnt.note_read(Axis::Update, Ticks(1), Ticks(2));
        assert!(learnt.is_new_gap(Ticks(1)));
        assert!((0..1000).all(|at| learnt.is_new_gap(Ticks(2 + at))));
    }

    #[test]
    fn what_could_not_be_read_is_remembered_by_axis_looked_at_again_later_and_forgotten_when_read() {
        let mut learnt = Learnt::default();
        let noon = Ticks(17_000_000_000_000_000);
        learnt.note_unread(Axis::Update, Ticks(7), noon);
        learnt.note_unread(Axis::Update, Ticks(5), noon.plus(GO_AROUND));
        learnt.note_unread(Axis::Creation, Ticks(6), noon);
        let later = noon.plus(GO_AROUND).next();
        let expected = vec![Unread { at: Ticks(5), again: false }, Unread { at: Ticks(7), again: true }];
        assert_eq!(learnt.unread(Axis::Update, later), expected);
        learnt.note_read(Axis::Update, Ticks(5), Ticks(7));
        assert_eq!(learnt.unread(Axis::Update, later), vec![Unread { at: Ticks(7), again: true }], "the end is not inside");
        assert_eq!(learnt.unread(Axis::Creation, later).len(), 1);
        for at in 0..1000 {
            learnt.note_unread(Axis::Update, Ticks(at), noon);
        }
        assert_eq!(learnt.unread.len(), KEPT);
    }

    #[test]
    fn a_page_size_that_fails_is_tried_again_after_a_while() {
        let mut learnt = Learnt::default();
        let noon = Ticks(17_000_000_000_000_000);
        assert_eq!((learnt.page_bound(1000, noon), learnt.known_bound(1000)), (1000, None));
        learnt.note_page_bound(100, noon);
        assert_eq!((learnt.page_bound(1000, noon), learnt.known_bound(1000)), (1000, Some(100)), "once may be chance");
        learnt.note_page_bound(100, noon);
        assert_eq!(learnt.page_bound(1000, noon.plus(BOUND_LASTS)), 100);
        assert_eq!(learnt.page_bound(50, noon), 50);
        assert_eq!(learnt.page_bound(1000, noon.plus(BOUND_LASTS).next()), 1000);
        assert_eq!((learnt.known_bound(1000), learnt.known_bound(100)), (Some(100), None));
    }
}
