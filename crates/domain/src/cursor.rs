//! How far a feed has been read, and the arithmetic that keeps that answer honest.
//!
//! The watermark is the newest last-update stamp that is *committed*. Every poll asks for what is
//! `ge watermark - overlap`; nothing here ever asks `gt`, because a page border may fall inside a run
//! of equal stamps. See `ARCHITECTURE.md`, "Cursor".

use std::time::Duration;

use crate::rehearsal::bug;
use crate::reread::RereadMove;
use crate::stamp::Ticks;
use crate::tenant::words;

/// What is known of the order in which a source answers. It is believed only when seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Ascending order is asked for; every page is checked.
    #[default]
    Ascending,
    /// The source refused `$orderby`, or answered out of order: frozen windows, halved while full.
    Windows,
}

impl Order {
    /// The word stored with the feed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ascending => "ascending",
            Self::Windows => "windows",
        }
    }

    /// Reads [`Order::as_str`] back; anything else is the start value, which is always safe.
    pub fn from_word(word: &str) -> Self {
        if word == "windows" { Self::Windows } else { Self::Ascending }
    }
}

/// What the database knows of one feed (tenant and source).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedState {
    /// Newest committed last-update stamp; `None` before anything was stored.
    pub watermark: Option<Ticks>,
    /// How to read the source.
    pub order: Order,
    /// Not to be asked before this, because it said so.
    pub throttled_until: Option<Ticks>,
    /// Everything visible at this instant of the source's clock was stored; `None` before that was ever so. A quiet
    /// feed has an old watermark and was read a moment ago all the same.
    pub caught_up: Option<Ticks>,
}

/// A step of the cursor, written in the same transaction as the records that justify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorMove {
    /// First contact: the feed is read live from an instant on, and what lies before is a backfill. Writes
    /// nothing when the feed has a watermark already.
    Begin {
        /// The first watermark.
        live_from: Ticks,
        /// The backfill reads `[history_from, live_from)`. Nothing to read when they are equal.
        history_from: Ticks,
    },
    /// Everything polled so far is stored.
    Live {
        /// The watermark that is on record as far as the poller knows. When the store has an earlier one it has lost
        /// what it had, as a standby that took over may have: then the move is void.
        from: Ticks,
        /// The new watermark. The store keeps the greater of this and what it has.
        watermark: Ticks,
    },
    /// A re-read has come this far.
    Reread(RereadMove),
}

/// A stretch of a source that could not be read, and why: a row of `dash.gap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First instant that may be missing.
    pub from: Ticks,
    /// Last instant that may be missing.
    pub to: Ticks,
    /// What kind it is, which decides whether it can heal.
    pub kind: GapKind,
    /// Why, in words.
    pub reason: String,
}

words! {
    /// What kind of gap.
    GapKind {
        /// More records share one stamp than the source lets us reach.
        Ties = "ties",
        /// A record is larger than we can take in.
        TooLarge = "too-large",
        /// The source fails whenever it is asked for a certain record.
        Failing = "failing",
        /// Nobody read for longer than Microsoft keeps data. Never heals by itself.
        Expired = "expired",
    }
}

/// Where a walk starts: `overlap` before the watermark, or `first_sync` before now at first contact.
pub fn walk_start(watermark: Option<Ticks>, overlap: Duration, first_sync: Duration, now: Ticks) -> Ticks {
    match watermark {
        Some(watermark) if bug("no-overlap") => watermark,
        Some(watermark) => watermark.minus(overlap),
        None => now.minus(first_sync),
    }
}

/// The latest instant that a watermark may reach in a walk.
///
/// This is the `Date` header of the walk's first answer; our own clock when the header is absent or
/// more than five minutes from it. An alert stamped in the year 9999 is stored, and moves nothing.
pub fn ceiling(server_date: Option<Ticks>, our_clock: Ticks) -> Ticks {
    const TRUST: Duration = Duration::from_secs(5 * 60);
    match server_date {
        // A Date header has whole seconds: what happened within that second is not in the future.
        Some(date) if date.since(our_clock) <= TRUST && our_clock.since(date) <= TRUST => date.plus(Duration::from_secs(1)),
        _ => our_clock,
    }
}

/// The watermark after a page or window: the newest readable stamp that is not past the ceiling, and
/// never older than `before`. `None` while there is none.
pub fn advance(before: Option<Ticks>, stamps: impl IntoIterator<Item = Option<Ticks>>, ceiling: Ticks) -> Option<Ticks> {
    stamps
        .into_iter()
        .flatten()
        .filter(|stamp| *stamp <= ceiling || bug("ceiling-ignored"))
        .fold(before, |best, stamp| best.max(Some(stamp)))
}

/// Whether the readable stamps of a page never fall. Unreadable ones are passed over.
pub fn is_ascending(stamps: impl IntoIterator<Item = Option<Ticks>>) -> bool {
    let mut last = None;
    stamps.into_iter().flatten().all(|stamp| {
        let rises = last.is_none_or(|last| last <= stamp);
        last = Some(stamp);
        rises
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Ticks = Ticks(17_000_000_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn first_contact_reads_first_sync_back_and_later_walks_overlap() {
        assert_eq!(walk_start(None, MINUTE, MINUTE * 10, NOW), NOW.minus(MINUTE * 10));
        assert_eq!(walk_start(Some(NOW), MINUTE, MINUTE * 10, NOW.plus(MINUTE)), NOW.minus(MINUTE));
    }

    #[test]
    fn the_ceiling_is_the_servers_date_unless_it_is_absent_or_absurd() {
        let second = Duration::from_secs(1);
        assert_eq!(ceiling(Some(NOW.plus(MINUTE)), NOW), NOW.plus(MINUTE).plus(second));
        assert_eq!(ceiling(Some(NOW.minus(MINUTE)), NOW), NOW.minus(MINUTE).plus(second));
        assert_eq!(ceiling(None, NOW), NOW);
        assert_eq!(ceiling(Some(NOW.plus(MINUTE * 6)), NOW), NOW);
        assert_eq!(ceiling(Some(NOW.minus(MINUTE * 6)), NOW), NOW);
    }

    #[test]
    fn a_stamp_of_the_year_9999_moves_nothing() {
        let absurd = Ticks::parse("9999-12-31T23:59:59Z");
        assert_eq!(advance(None, [absurd, None], NOW), None);
        assert_eq!(advance(None, [Some(NOW.minus(MINUTE)), absurd], NOW), Some(NOW.minus(MINUTE)));
        assert_eq!(advance(Some(NOW), [Some(NOW.minus(MINUTE))], NOW), Some(NOW), "a watermark never falls");
    }

    #[test]
    fn equal_stamps_are_in_order_and_unreadable_ones_do_not_count() {
        assert!(is_ascending([Some(Ticks(1)), None, Some(Ticks(1)), Some(Ticks(2))]));
        assert!(!is_ascending([Some(Ticks(2)), None, Some(Ticks(1))]));
        assert!(is_ascending([]));
    }

    proptest::proptest! {
        #[test]
        fn a_watermark_is_one_of_the_stamps_never_past_the_ceiling_and_never_falls(
            before in proptest::option::of(0_i64..1000), stamps in proptest::collection::vec(proptest::option::of(0_i64..2000), 0..20), top in 0_i64..2000) {
            let before = before.filter(|value| *value <= top).map(Ticks);
            let stamps: Vec<_> = stamps.into_iter().map(|value| value.map(Ticks)).collect();
            let after = advance(before, stamps.iter().copied(), Ticks(top));
            proptest::prop_assert!(after >= before);
            if let Some(after) = after {
                proptest::prop_assert!(after <= Ticks(top));
                proptest::prop_assert!(Some(after) == before || stamps.contains(&Some(after)));
            }
        }
    }
}
