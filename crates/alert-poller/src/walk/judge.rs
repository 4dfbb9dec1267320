//! Is this answer all there is? The question that loses alerts when it is answered too gladly.
//!
//! An answer may be cut without a word: a source clamps `$top` to a number it does not tell, and may
//! or may not add a link to the next page. So an answer counts as complete only with a reason:
//!
//! * it is empty and leads nowhere, or
//! * it is shorter than an answer that this feed has already got in one piece, and leads nowhere; a
//!   clamp that let the longer one through cannot have cut this one.
//!
//! Such a proof grows old, since a source may begin to cut shorter: after [`Learnt::forget_if_old`] an answer
//! has to be looked at again.
//!
//! Anything else is looked at again ([`super::exhaust`]) or read in smaller pieces.

use std::collections::HashSet;
use std::time::Duration;

use domain::{ContentHash, Record, Ticks, cursor};

/// What the walk needs to know of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Which record: over the id for an alert, over the body for what is none.
    pub(crate) key: ContentHash,
    /// Its last-update stamp, if readable.
    pub(crate) stamp: Option<Ticks>,
}

/// A set of records as they stood: a record that was updated meanwhile is another member.
pub(crate) type Seen = HashSet<(ContentHash, Option<Ticks>)>;

/// Reduces records to rows.
pub(crate) fn rows(records: &[Record]) -> Vec<Row> {
    let row = |record: &Record| match record {
        Record::Alert(alert) => Row { key: ContentHash::of(alert.id.as_str().as_bytes()), stamp: alert.last_update },
        Record::Poison(poison) => Row { key: poison.hash, stamp: None },
    };
    records.iter().map(row).collect()
}

/// The rows as a set.
pub(crate) fn seen(rows: &[Row]) -> Seen {
    rows.iter().map(|row| (row.key, row.stamp)).collect()
}

/// The readable stamps, in order of the answer.
pub(crate) fn stamps(rows: &[Row]) -> impl Iterator<Item = Ticks> {
    rows.iter().filter_map(|row| row.stamp)
}

/// First and last of the readable stamps on the time line.
pub(crate) fn hull(rows: &[Row]) -> Option<(Ticks, Ticks)> {
    Some((stamps(rows).min()?, stamps(rows).max()?))
}

/// Whether the readable stamps never fall.
pub(crate) fn is_ascending(rows: &[Row]) -> bool {
    cursor::is_ascending(rows.iter().map(|row| row.stamp))
}

/// What a feed has shown of its source, kept while the process runs. Forgetting it costs calls, never
/// alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Learnt {
    /// Records on the longest answer so far: no clamp was lower than this when it came.
    pub(crate) longest: usize,
    /// When an answer of that length came last, by our clock.
    longest_at: Option<Ticks>,
    /// How often, within a page, a stamp was greater than the one before it; pages that fall do not
    /// get this far.
    rises: usize,
    /// The length at which an answer was cut in silence: the next of that length needs no second look.
    cut_at: Option<usize>,
    /// Links lead in circles: they are no longer believed to mean that there is more.
    pub(crate) links_useless: bool,
    /// The longest answer after the source was last asked for a longer one.
    pub(crate) measured: Option<usize>,
    /// Gaps told already, so that an alarm rings once.
    gaps: Vec<Ticks>,
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
        const KEPT: usize = 64;
        if self.gaps.contains(&at) {
            return false;
        }
        if self.gaps.len() >= KEPT {
            self.gaps.remove(0);
        }
        self.gaps.push(at);
        true
    }
}

/// What an answer to a window is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// All there is.
    Complete,
    /// It may have been cut, or not: ask what comes after it.
    CheckAfter,
    /// It has a link although it is short: see whether the link leads to anything.
    CheckLink,
    /// There is more.
    More,
}

/// Judges an answer of `len` records to a question for `top`, asked without `$skip`. `longest` is from
/// before this answer.
pub(crate) fn judge(len: usize, has_link: bool, top: u32, longest: usize, max_skip: u32) -> Judgement {
    let top = usize::try_from(top).unwrap_or(usize::MAX);
    let max_skip = usize::try_from(max_skip).unwrap_or(usize::MAX);
    match (len, has_link) {
        (0, false) => Judgement::Complete,
        _ if len >= top => Judgement::More,
        (_, true) if len < longest || len == 0 => Judgement::CheckLink,
        (_, true) => Judgement::More,
        (_, false) if len < longest => Judgement::Complete,
        (_, false) if len <= max_skip => Judgement::CheckAfter,
        (_, false) => Judgement::More,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_only_with_a_reason() {
        use Judgement::{CheckAfter, CheckLink, Complete, More};
        for (len, link, longest, expected, why) in [
            (0, false, 0, Complete, "nothing, and nowhere to go"),
            (0, true, 0, CheckLink, "an empty page may still lead on"),
            (999, false, 1000, Complete, "a longer page came through whole"),
            (1000, false, 0, More, "full"),
            (1000, true, 5000, More, "full"),
            (1200, false, 5000, More, "fuller than asked"),
            (100, false, 0, CheckAfter, "may be a clamp at 100"),
            (100, false, 100, CheckAfter, "still may be"),
            (100, false, 101, Complete, "no clamp at 100"),
            (501, false, 0, More, "what follows cannot be asked for by $skip"),
            (100, true, 0, More, "a clamp that says so"),
            (99, true, 100, CheckLink, "short, and yet a link"),
        ] {
            assert_eq!(judge(len, link, 1000, longest, 500), expected, "{why}");
        }
    }

    #[test]
    fn order_is_believed_after_many_rises_and_never_for_equal_stamps() {
        let page = |stamps: &[i64]| -> Vec<Row> {
            stamps.iter().map(|stamp| Row { key: ContentHash([0; 32]), stamp: Some(Ticks(*stamp)) }).collect()
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
    fn a_gap_is_told_once() {
        let mut learnt = Learnt::default();
        assert!(learnt.is_new_gap(Ticks(1)));
        assert!(!learnt.is_new_gap(Ticks(1)));
        assert!((0..1000).all(|at| learnt.is_new_gap(Ticks(2 + at))));
    }
}
