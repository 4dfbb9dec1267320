//! Everything that is stored of one tenant, in a form in which two stores can be compared. Times of the store's own
//! clock are left out: what matters of them is whether they are set, and in which order.

use std::collections::BTreeMap;
use std::fmt::Debug;

use domain::{AlertFacts, Axis, ContentHash, Errand, GapKind, Order, Source, Ticks};

use crate::postgres::stamp::PgStamp;

/// Everything that is stored of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Every version ever received.
    pub versions: BTreeMap<VersionKey, VersionLine>,
    /// The latest state of each alert, by id.
    pub latest: BTreeMap<String, LatestLine>,
    /// Observed changes, by alert, then in the order in which they were seen, then by name of the field.
    pub events: Vec<EventLine>,
    /// The latest state of each incident, by id.
    pub incidents: BTreeMap<String, IncidentLine>,
    /// Where merged incidents lead in the end.
    pub redirects: BTreeMap<String, String>,
    /// How far each source was read.
    pub feeds: BTreeMap<Source, FeedLine>,
    /// What is read again.
    pub rereads: BTreeMap<(Source, Errand), RereadLine>,
    /// What could not be read, by source, start and end.
    pub gaps: BTreeMap<(Source, Ticks, Ticks), GapLine>,
    /// What could not be understood.
    pub quarantine: BTreeMap<(Source, ContentHash), QuarantineLine>,
    /// What comparisons came to, by source, in the order in which they ended.
    pub reconciliations: Vec<ReconciliationLine>,
}

/// What makes a version one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VersionKey {
    /// From where.
    pub source: Source,
    /// Of which alert.
    pub alert: String,
    /// Of the body.
    pub hash: ContentHash,
    /// [`crate::store::Alert::filed`].
    pub filed: Option<Ticks>,
}

/// A version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionLine {
    /// Counts the versions of the alert at this source.
    pub number: i32,
    /// The stamp exactly as received.
    pub last_update_text: Option<String>,
    /// The body.
    pub raw: String,
}

/// The latest state of an alert.
#[derive(Clone, PartialEq, Eq)]
pub struct LatestLine {
    /// The version that stands, but for the id.
    pub source: Source,
    /// See `source`.
    pub hash: ContentHash,
    /// See `source`.
    pub filed: Option<Ticks>,
    /// [`crate::store::Alert::ticks`] of it.
    pub ticks: i64,
    /// What it says.
    pub facts: AlertFacts,
    /// Versions seen at all sources.
    pub version_count: i32,
}

impl Debug for LatestLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let AlertFacts { title, status, severity, assigned_to, .. } = &self.facts;
        let facts = (title, status, severity, assigned_to);
        write!(f, "{} {:?} {:?} {} ×{} {facts:?}", self.source, self.hash, self.filed, self.ticks, self.version_count)
    }
}

/// An observed change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventLine {
    /// Of which alert.
    pub alert: String,
    /// Which column.
    pub field: String,
    /// What stood.
    pub old: Option<String>,
    /// What stands.
    pub new: Option<String>,
    /// The source's stamp of it, [`cut`].
    pub changed_at: Option<Ticks>,
    /// Which source showed it.
    pub source: Source,
}

/// The latest state of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentLine {
    /// Of the body.
    pub hash: ContentHash,
    /// [`crate::store::Incident::ticks`] of it.
    pub ticks: i64,
    /// What has taken its place.
    pub redirect: Option<String>,
    /// Headline.
    pub title: Option<String>,
    /// In Graph's words.
    pub severity: Option<String>,
    /// In Graph's words.
    pub status: Option<String>,
    /// The body.
    pub raw: String,
}

/// How far a source was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedLine {
    /// The cursor.
    pub watermark: Option<Ticks>,
    /// Everything visible at this instant is stored.
    pub caught_up: Option<Ticks>,
    /// [`cut`].
    pub last_attempt: Option<Ticks>,
    /// [`cut`].
    pub last_success: Option<Ticks>,
    /// How the last poll failed.
    pub error: Option<String>,
    /// [`cut`].
    pub throttled_until: Option<Ticks>,
    /// How it is read.
    pub order: Order,
    /// Records in quarantine.
    pub quarantined: i64,
}

/// A re-read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RereadLine {
    /// See [`domain::Reread`], also for the next five.
    pub run: i64,
    /// By which stamp.
    pub axis: Axis,
    /// Start of the stretch.
    pub from: Ticks,
    /// End of the stretch.
    pub to: Ticks,
    /// Start of what was read.
    pub left: Ticks,
    /// What polling was done with.
    pub polled_before: Ticks,
    /// An operator wants it.
    pub asked: bool,
    /// Somebody has begun.
    pub started: bool,
    /// It is at its end.
    pub finished: bool,
    /// It was called off.
    pub cancelled: bool,
    /// See [`crate::store::Tally`], also for the rest.
    pub records: u64,
    /// New alerts.
    pub new: u64,
    /// Updated alerts.
    pub updated: u64,
    /// Missed by polling.
    pub late: u64,
    /// Ids of the new.
    pub missing: Vec<String>,
    /// Ids of the updated.
    pub changed: Vec<String>,
}

/// What could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapLine {
    /// By which stamp.
    pub axis: Axis,
    /// What kind.
    pub kind: GapKind,
    /// Why.
    pub reason: String,
    /// It was read after all.
    pub healed: bool,
}

/// What could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineLine {
    /// Why.
    pub reason: String,
    /// The bytes.
    pub raw: Vec<u8>,
    /// An operator wants it tried again, and it was not since.
    pub due: bool,
    /// It is understood now.
    pub replayed: bool,
}

/// What a comparison came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReconciliationLine {
    /// Of which source.
    pub source: Source,
    /// `nightly` or `operator`.
    pub asked_by: String,
    /// The run of the re-read.
    pub run: i64,
    /// The stretch.
    pub stretch: (Ticks, Ticks),
    /// At the source, stored, missing, changed, only stored.
    pub counts: [u64; 5],
    /// First ids of what was missing, changed, only stored.
    pub ids: [Vec<String>; 3],
}

/// A stamp as a store keeps it that knows microseconds and the years 1 to 9999.
pub fn cut(stamp: Option<Ticks>) -> Option<Ticks> {
    PgStamp::of(stamp?)?.to_ticks()
}

impl Snapshot {
    /// What differs from `other`, in words; `None` when nothing does.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let mut found = String::new();
        let mut compare = |table: &str, same: bool, mine: &dyn Debug, others: &dyn Debug| {
            if !same {
                found.push_str(&format!("{table}\n  expected {mine:#?}\n  found {others:#?}\n"));
            }
        };
        macro_rules! tables {
            ($($table:ident)*) => {
                $(compare(stringify!($table), self.$table == other.$table, &self.$table, &other.$table);)*
            };
        }
        tables!(versions latest events incidents redirects feeds rereads gaps quarantine reconciliations);
        (!found.is_empty()).then_some(found)
    }
}
