//! What crosses the seam about feeds and their re-reads.

use domain::{Source, TenantId, Ticks};

/// A feed: one source of one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Feed {
    /// Whose.
    pub tenant: TenantId,
    /// From where.
    pub source: Source,
}

/// What a transaction is going to be about.
#[derive(Clone, Copy, Debug)]
pub struct Ahead<'a> {
    /// Creation times of the alerts that will be stored.
    pub created: &'a [Ticks],
    /// By our clock: a creation time far ahead of this is absurd.
    pub now: Ticks,
}

/// What became of news.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// How many feeds were written.
    pub written: u64,
    /// Which items (by position) have to be written later, because somebody holds the row of their feed.
    pub later: Vec<usize>,
}

/// How many ids a re-read keeps of what was missing, and of what had changed.
pub const MOST_IDS: usize = 100;

/// What a part of a batch adds to the re-read that it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally<'a> {
    /// Records read, of any kind.
    pub records: u64,
    /// Alerts or incidents that were not stored.
    pub new: u64,
    /// Versions that were not stored, of what was.
    pub updated: u64,
    /// Of the new and updated, those that polling had passed over.
    pub late: u64,
    /// The ids of what is new, each once.
    pub missing: Vec<&'a str>,
    /// The ids of what is updated, each once.
    pub changed: Vec<&'a str>,
}
