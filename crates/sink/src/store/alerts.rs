//! What crosses the seam about alerts.

use std::borrow::Cow;
use std::time::Duration;

use domain::rehearsal::bug;
use domain::{AlertRecord, ContentHash, Ticks};

use crate::postgres::stamp::PgStamp;
use crate::text::storable;

/// A record as it will be stored as an alert.
#[derive(Clone, Copy, Debug)]
pub struct Alert<'a> {
    /// As received.
    pub record: &'a AlertRecord,
    /// The body; not a copy.
    pub raw: &'a str,
    /// Where it is filed: the creation time, or the beginning of time without a usable one.
    pub(crate) place: PgStamp,
    ticks: i64,
}

impl<'a> Alert<'a> {
    /// Checks what storing it relies on. `now` is our clock.
    ///
    /// # Errors
    /// The reason, in words, why it cannot be stored as an alert.
    pub fn new(record: &'a AlertRecord, now: Ticks) -> Result<Self, &'static str> {
        if record.id.as_str().contains('\0') {
            return Err("the alert id holds a NUL character, which Postgres cannot keep");
        }
        let place = record.created.and_then(PgStamp::of).unwrap_or(PgStamp::BEGINNING);
        Ok(Self { record, raw: &record.raw, place, ticks: deciding(record.last_update, now) })
    }

    /// As the API gave it.
    pub fn id(&self) -> &'a str {
        self.record.id.as_str()
    }

    /// Its creation time as it is filed: cut to the microsecond; `None` without one in the years 1 to 9999.
    pub fn filed(&self) -> Option<Ticks> {
        self.place.to_ticks()
    }

    /// The stamp that decides which version is the latest: the smallest number when there is none, or one that is more
    /// than 30 days ahead of our clock. Such a one would keep every later version from being the latest.
    pub fn ticks(&self) -> i64 {
        self.ticks
    }

    /// What people decide about an alert, as it is stored.
    pub fn judgement(&self) -> [Option<Cow<'a, str>>; 5] {
        let facts = &self.record.facts;
        [&facts.status, &facts.assigned_to, &facts.classification, &facts.determination, &facts.severity]
            .map(|fact| fact.as_deref().map(storable))
    }

    pub(crate) fn created(&self) -> Option<PgStamp> {
        (self.place != PgStamp::BEGINNING).then_some(self.place)
    }

    pub(crate) fn last_updated(&self) -> Option<PgStamp> {
        self.record.last_update.and_then(PgStamp::of)
    }
}

/// The number by which two states are compared.
pub(super) fn deciding(last_update: Option<Ticks>, now: Ticks) -> i64 {
    const AHEAD: Duration = Duration::from_secs(30 * 24 * 3600);
    if bug("older-overwrites-newer") {
        return i64::MAX;
    }
    last_update.filter(|ticks| *ticks <= now.plus(AHEAD)).map_or(i64::MIN, |ticks| ticks.0)
}

/// A record on its way to quarantine.
#[derive(Clone, Copy, Debug)]
pub struct Rejected<'a> {
    /// Why, in words.
    pub reason: &'a str,
    /// Of the bytes.
    pub hash: ContentHash,
    /// As received, whatever it is.
    pub raw: &'a [u8],
}

/// What the database knows of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// This very version is stored.
    pub stored: bool,
    /// The alert's latest state, if there is one.
    pub standing: Option<Standing>,
    /// The highest version number of the alert at this source. May be zero when this version is stored, or the
    /// alert has no latest state: then nobody looks at it.
    pub newest: i32,
}

/// The latest state of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// It is this very version, of this source.
    pub same: bool,
    /// [`Alert::ticks`] of it, and how loudly its source speaks.
    pub rank: (i64, i16),
}

/// The best that a part of a batch knows of one alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Which record, by position among the alerts.
    pub record: usize,
    /// How many versions of the alert are new, this one or others.
    pub versions: i32,
}

/// The columns that [`Judgement`] is about, in its order.
pub const JUDGED: [&str; 5] = ["status", "assigned_to", "classification", "determination", "severity"];

/// What people decide about an alert: the values of [`JUDGED`].
pub type Judgement = [Option<String>; 5];

/// An offer that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which one, by position among the offers.
    pub offer: usize,
    /// What stood in the row that it replaced, seen while nobody else could change it. `None` when the alert is new.
    pub before: Option<Judgement>,
}

/// An observed change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Which alert.
    pub alert: &'a str,
    /// Which column, one of [`JUDGED`].
    pub field: &'static str,
    /// What stood.
    pub old: Option<String>,
    /// What stands.
    pub new: Option<String>,
    /// The source's stamp of the version that showed it; dropped outside the years 1 to 9999.
    pub changed_at: Option<Ticks>,
}
