//! What the checker keeps of one feed.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Axis, Epoch, Errand, Record, Source, TenantId, Ticks};

use crate::store::Memory;
use crate::time::{MINUTE, Ms, SECOND};
use crate::world::Version;

/// The overlap that the poller is set to.
pub(crate) const OVERLAP: Ms = 15 * MINUTE;

/// The interval that the poller is set to, with its jitter and two seconds (I10), and what its own pages may take.
pub(crate) fn latest_poll(interval: Ms) -> Ms {
    interval + interval / 10 + 2 * SECOND + 5 * SECOND
}

/// What a process knows of a feed.
#[derive(Debug)]
pub(crate) struct Reading {
    /// When it last knew where the feed stood: it had read it, or had caught up.
    pub(crate) since: Ms,
    /// Where that was.
    pub(crate) watermark: Option<Ticks>,
    /// When the walk began that is under way, and from where.
    pub(crate) walk: Option<(Ms, Ticks)>,
    pub(crate) last_fetch: Option<(Ms, Epoch)>,
    /// It has caught up at least once.
    pub(crate) caught_up: bool,
}

/// A re-read as the checker saw it begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Began {
    pub(crate) run: i64,
    pub(crate) at: Ms,
    /// Its stretch on the axis of updates.
    pub(crate) updates: Option<(Ticks, Ticks)>,
    /// Which process moved it last, and how far it has come.
    pub(crate) moved: (u64, Axis, Ticks),
    /// What it stored that was not stored before: alerts, and versions of known ones.
    pub(crate) stored: (u64, u64),
}

/// One feed.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// As committed.
    pub(crate) watermark: Option<Ticks>,
    /// By process.
    pub(crate) readings: BTreeMap<u64, Reading>,
    pub(crate) rereads: BTreeMap<Errand, Began>,
    /// What operators have asked for.
    pub(crate) asked: BTreeSet<Errand>,
    /// The highest stamp stored of each incident.
    pub(crate) incidents: BTreeMap<String, i64>,
    /// When it was last noted that a poll came to a good end.
    pub(crate) last_success: Ms,
    pub(crate) last_bad_news: Option<Ms>,
    /// Since when it is blind and nothing tells of it.
    pub(crate) silent_since: Option<Ms>,
}

impl Book {
    /// Whether it is right that a version is not stored.
    pub(crate) fn excuses(&self, memory: &Memory, tenant: TenantId, source: Source, version: &Version) -> bool {
        // Of an incident only the latest state is kept.
        if let Record::Incident(incident) = &version.record
            && let Some(stands) = self.incidents.get(incident.id.as_str())
            && *stands > incident.last_update.map_or(i64::MIN, |ticks| ticks.0)
        {
            return true;
        }
        let Some(tables) = memory.tenants.get(&tenant) else { return false };
        tables.gaps.iter().any(|((at, from, to), row)| {
            let stamp = match row.axis {
                Axis::Update => version.stamp,
                Axis::Creation => version.created,
            };
            *at == source && row.healed_at.is_none() && stamp.is_some_and(|stamp| *from <= stamp && stamp <= *to)
        })
    }
}
