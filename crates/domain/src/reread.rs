//! Reading again what polling has passed over: at first contact, on the ladder, and on request.
//!
//! All of it is one thing: a stretch of time of one feed, read in windows from the newest to the oldest, once by
//! last update and once by creation (an alert without an update stamp is found only by the second). How far it
//! has come is a row of `tocsin.reread`, moved in the same transaction as the records, so that it goes on where
//! it stood after any crash and on any replica.

use crate::stamp::Ticks;
use crate::tenant::words;

words! {
    /// What a stretch is read for. A feed has at most one open re-read of each.
    Errand {
        /// What lies before the first contact, or what an operator asked to read back.
        Backfill = "backfill",
        /// The short rung of the ladder: a day, every hour.
        Short = "short",
        /// The long rung of the ladder: a week, every day.
        Long = "long",
        /// The nightly comparison of source and store.
        Nightly = "nightly",
        /// The same, because an operator asked for it.
        Reconcile = "reconcile",
        /// Records in quarantine are tried again, because an operator asked for it. Asks nothing of the source.
        Replay = "replay",
    }
}

impl Errand {
    /// Whether it is there to find out what polling had missed.
    pub fn is_rung(self) -> bool {
        matches!(self, Self::Short | Self::Long)
    }

    /// Whether its result is a row of `dash.reconciliation`.
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Nightly | Self::Reconcile)
    }
}

words! {
    /// Which stamp of a record a stretch is about.
    Axis {
        /// The source's last-update stamp, which moves.
        Update = "update",
        /// The creation stamp, which never changes.
        Creation = "creation",
    }
}

/// A re-read as it stands in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reread {
    /// What for.
    pub errand: Errand,
    /// Counts the re-reads of this errand, so that a move of one that was cancelled or begun anew is void.
    pub run: i64,
    /// By which stamp it is reading now. Update comes first.
    pub axis: Axis,
    /// Start of the stretch, inclusive.
    pub from: Ticks,
    /// End of the stretch, exclusive.
    pub to: Ticks,
    /// What is left to read on this axis is `[from, left)`.
    pub left: Ticks,
    /// Polling was done with everything stamped before this when the re-read began: what is found there and was not
    /// stored, polling had missed.
    pub polled_before: Ticks,
    /// When it ended, by the database's clock; `None` while there is something to do.
    pub finished_at: Option<Ticks>,
}

/// How far a re-read has come. The store takes it when it begins a later run than the one on record, or goes on
/// with the same run and that is still open; otherwise it says [`crate::Committed::void`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RereadMove {
    /// What stands from now on. `finished_at` is `Some` (the value is ignored) when nothing is left to do.
    pub now: Reread,
    /// How far this run had come, as far as the poller knows: the axis and what was left. When the store has it less
    /// far, or not at all, it has lost what it had: then the move is void. `None` where a run begins.
    pub before: Option<(Axis, Ticks)>,
    /// Stretch on `now.axis` that has just been read whole, `[from, to)`: gaps inside it are healed.
    pub whole: Option<(Ticks, Ticks)>,
    /// With the last move of a comparison.
    pub comparison: Option<Comparison>,
}

/// What a comparison of source and store came to, besides what the store itself has counted on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Alerts that the source shows with a stamp in the stretch.
    pub at_source: u64,
    /// Alerts of this source that are stored with a stamp in the stretch.
    pub stored: u64,
    /// Stored, but no longer shown by the source; the first hundred ids.
    pub only_stored: Vec<String>,
    /// How many there are of those.
    pub only_stored_count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for errand in Errand::ALL {
            assert_eq!(errand.as_str().parse::<Errand>().as_ref(), Ok(errand));
            assert!(!(errand.is_rung() && errand.is_comparison()));
        }
        assert_eq!("creation".parse::<Axis>(), Ok(Axis::Creation));
    }
}
