//! The tables of one tenant, and the writes of one transaction on top of them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use domain::{ContentHash, Errand, Source, Ticks};
use sink::store::Feed;

use super::rows::{AlertRow, EventRow, FeedNews, GapRow, IncidentRow, QuarantineRow, ReconciliationRow, RereadRow, VersionRow};

/// What stands of a feed.
#[derive(Clone, Debug, Default)]
pub(crate) struct FeedRow {
    pub(crate) watermark: Option<Ticks>,
    pub(crate) quarantined: i64,
    pub(crate) news: FeedNews,
}

/// A gap, as it is told apart from others.
pub(crate) type GapKey = (Source, Ticks, Ticks);

/// The tables of one tenant.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) versions: BTreeMap<Source, BTreeMap<String, Vec<VersionRow>>>,
    pub(crate) alerts: BTreeMap<String, AlertRow>,
    pub(crate) events: Vec<EventRow>,
    pub(crate) incidents: BTreeMap<String, IncidentRow>,
    pub(crate) ends: BTreeMap<String, String>,
    pub(crate) quarantine: BTreeMap<(Source, ContentHash), QuarantineRow>,
    pub(crate) gaps: BTreeMap<GapKey, GapRow>,
    pub(crate) feeds: BTreeMap<Source, FeedRow>,
    pub(crate) rereads: BTreeMap<(Source, Errand), RereadRow>,
    pub(crate) reconciliations: Vec<ReconciliationRow>,
}

impl Tables {
    /// The versions of an alert at one source.
    pub(crate) fn versions_of(&self, source: Source, id: &str) -> &[VersionRow] {
        self.versions.get(&source).and_then(|by_id| by_id.get(id)).map_or(&[], Vec::as_slice)
    }

    /// The versions of an alert at all sources.
    pub(crate) fn all_versions_of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a VersionRow> {
        self.versions.values().filter_map(move |by_id| by_id.get(id)).flatten()
    }
}

/// What a transaction has written and not committed.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) versions: Vec<(Source, String, VersionRow)>,
    pub(crate) alerts: BTreeMap<String, AlertRow>,
    pub(crate) events: Vec<EventRow>,
    pub(crate) incidents: BTreeMap<String, IncidentRow>,
    pub(crate) ends: BTreeMap<String, Option<String>>,
    pub(crate) quarantine: BTreeMap<(Source, ContentHash), QuarantineRow>,
    pub(crate) gaps: BTreeMap<GapKey, GapRow>,
    pub(crate) feeds: BTreeMap<Source, FeedRow>,
    pub(crate) rereads: BTreeMap<(Source, Errand), RereadRow>,
    pub(crate) reconciliations: Vec<ReconciliationRow>,
}

impl Draft {
    /// A row as this transaction sees it.
    pub(crate) fn alert<'a>(&'a self, base: &'a Tables, id: &str) -> Option<&'a AlertRow> {
        self.alerts.get(id).or_else(|| base.alerts.get(id))
    }

    /// The same for an incident.
    pub(crate) fn incident<'a>(&'a self, base: &'a Tables, id: &str) -> Option<&'a IncidentRow> {
        self.incidents.get(id).or_else(|| base.incidents.get(id))
    }

    /// Where an incident leads in the end, as this transaction sees it.
    pub(crate) fn end<'a>(&'a self, base: &'a Tables, id: &str) -> Option<&'a String> {
        match self.ends.get(id) {
            Some(end) => end.as_ref(),
            None => base.ends.get(id),
        }
    }

    /// The feed's row, for writing; made if need be.
    pub(crate) fn feed(&mut self, base: &Tables, feed: Feed) -> &mut FeedRow {
        self.feeds.entry(feed.source).or_insert_with(|| base.feeds.get(&feed.source).cloned().unwrap_or_default())
    }

    /// A re-read's row, for writing, if there is one.
    pub(crate) fn reread(&mut self, base: &Tables, feed: Feed, errand: Errand) -> Option<&mut RereadRow> {
        let key = (feed.source, errand);
        match self.rereads.entry(key) {
            Entry::Occupied(row) => Some(row.into_mut()),
            Entry::Vacant(place) => Some(place.insert(base.rereads.get(&key)?.clone())),
        }
    }

    /// The versions of an alert at one source, as this transaction sees them.
    pub(crate) fn versions_of<'a>(&'a self, base: &'a Tables, source: Source, id: &'a str) -> impl Iterator<Item = &'a VersionRow> {
        let own = self.versions.iter().filter(move |(at, whose, _)| *at == source && whose == id).map(|(_, _, row)| row);
        base.versions_of(source, id).iter().chain(own)
    }

    /// Everything becomes true at once.
    pub(crate) fn apply(self, base: &mut Tables) {
        for (source, id, row) in self.versions {
            base.versions.entry(source).or_default().entry(id).or_default().push(row);
        }
        base.alerts.extend(self.alerts);
        base.events.extend(self.events);
        base.incidents.extend(self.incidents);
        for (id, end) in self.ends {
            match end {
                Some(end) => base.ends.insert(id, end),
                None => base.ends.remove(&id),
            };
        }
        base.quarantine.extend(self.quarantine);
        base.gaps.extend(self.gaps);
        for (source, row) in self.feeds {
            // News is written beside transactions and is nobody's draft.
            let stands = base.feeds.entry(source).or_default();
            (stands.watermark, stands.quarantined) = (row.watermark, row.quarantined);
        }
        base.rereads.extend(self.rereads);
        base.reconciliations.extend(self.reconciliations);
    }
}
