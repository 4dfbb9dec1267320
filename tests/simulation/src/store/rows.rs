//! The rows of the tables, as far as anything depends on them.

#![cfg_attr(not(test), expect(dead_code, reason = "some columns are only for the comparison with Postgres"))]

use std::fmt;

use bytestring::ByteString;
use domain::{AlertFacts, AlertRecord, Axis, ContentHash, GapKind, Order, Reread, Source, Ticks};
use sink::store::{Alert, Judgement};

use crate::time::Ms;

/// A version: one body of one alert of one source.
#[derive(Clone, Debug)]
pub(crate) struct VersionRow {
    pub(crate) hash: ContentHash,
    pub(crate) filed: Option<Ticks>,
    pub(crate) number: i32,
    pub(crate) last_update_text: Option<String>,
    pub(crate) raw: ByteString,
    /// The stamp as the record carries it, and how loudly its source speaks.
    pub(crate) rank: (i64, i16),
}

/// The latest state of an alert.
#[derive(Clone)]
pub(crate) struct AlertRow {
    pub(crate) source: Source,
    pub(crate) hash: ContentHash,
    pub(crate) filed: Option<Ticks>,
    /// The stamp that decided, and how loudly its source speaks.
    pub(crate) rank: (i64, i16),
    pub(crate) versions: i32,
    pub(crate) judged: Judgement,
    pub(crate) facts: AlertFacts,
    pub(crate) first_stored: Ms,
    pub(crate) last_stored: Ms,
}

/// An observed change.
#[derive(Clone, Debug)]
pub(crate) struct EventRow {
    pub(crate) alert: String,
    pub(crate) field: &'static str,
    pub(crate) old: Option<String>,
    pub(crate) new: Option<String>,
    pub(crate) changed_at: Option<Ticks>,
    pub(crate) seen_at: Ms,
    pub(crate) source: Source,
}

/// The latest state of an incident.
#[derive(Clone, Debug)]
pub(crate) struct IncidentRow {
    pub(crate) hash: ContentHash,
    pub(crate) ticks: i64,
    pub(crate) redirect: Option<String>,
    /// Title, severity and status.
    pub(crate) words: [Option<String>; 3],
    pub(crate) raw: ByteString,
}

/// A record in quarantine.
#[derive(Clone, Debug)]
pub(crate) struct QuarantineRow {
    pub(crate) reason: String,
    pub(crate) raw: Vec<u8>,
    pub(crate) seen_at: Ms,
    pub(crate) replay_at: Option<Ms>,
    pub(crate) replayed_at: Option<Ms>,
    pub(crate) tried_at: Option<Ms>,
}

/// A stretch that could not be read.
#[derive(Clone, Debug)]
pub(crate) struct GapRow {
    pub(crate) kind: GapKind,
    pub(crate) reason: String,
    pub(crate) axis: Axis,
    pub(crate) healed_at: Option<Ms>,
}

/// A re-read.
#[derive(Clone, Debug)]
pub(crate) struct RereadRow {
    pub(crate) now: Reread,
    pub(crate) asked_at: Option<Ms>,
    pub(crate) started_at: Option<Ms>,
    pub(crate) finished_at: Option<Ms>,
    pub(crate) cancelled_at: Option<Ms>,
    pub(crate) records: u64,
    pub(crate) new: u64,
    pub(crate) updated: u64,
    pub(crate) late: u64,
    pub(crate) missing: Vec<String>,
    pub(crate) changed: Vec<String>,
}

/// What a comparison came to.
#[derive(Clone, Debug)]
pub(crate) struct ReconciliationRow {
    pub(crate) source: Source,
    pub(crate) by_operator: bool,
    pub(crate) run: i64,
    pub(crate) stretch: (Ticks, Ticks),
    /// At the source, stored, missing, changed, only stored.
    pub(crate) counts: [u64; 5],
    /// First ids of what was missing, changed, only stored.
    pub(crate) ids: [Vec<String>; 3],
}

/// What is noted of a feed.
#[derive(Clone, Debug, Default)]
pub(crate) struct FeedNews {
    pub(crate) attempted_at: Option<Ticks>,
    pub(crate) succeeded_at: Option<Ticks>,
    pub(crate) caught_up: Option<Ticks>,
    pub(crate) error: Option<String>,
    pub(crate) throttled_until: Option<Ticks>,
    pub(crate) order: Order,
}

impl fmt::Debug for AlertRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlertRow").field("source", &self.source).field("rank", &self.rank).finish_non_exhaustive()
    }
}

impl AlertRow {
    /// The row that an offer of this alert becomes.
    pub(crate) fn of(alert: &Alert<'_>, source: Source, versions: i32, first_stored: Ms, now: Ms) -> Self {
        Self {
            source,
            hash: alert.record.hash,
            filed: alert.filed(),
            rank: (alert.ticks(), source.rank()),
            versions,
            facts: alert.record.facts.clone(),
            judged: alert.judgement().map(|value| value.map(std::borrow::Cow::into_owned)),
            first_stored,
            last_stored: now,
        }
    }
}

/// The stamp that a record carries, as a number; the smallest without one.
pub(crate) fn carried(record: &AlertRecord) -> i64 {
    record.last_update.map_or(i64::MIN, |ticks| ticks.0)
}
