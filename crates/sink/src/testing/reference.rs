//! What has to be stored after each step, said as simply as possible: no plan, no look-up, everything by reading all
//! there is.

mod moves;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::{AlertRecord, Committed, CursorMove, Errand, Fence, Gap, IncidentRecord, Poison, Purpose, Record, Refusal, Source, Ticks};

use super::snapshot::{EventLine, IncidentLine, LatestLine, QuarantineLine, Snapshot, VersionKey, VersionLine, cut};

/// What our clock says, always: 2026-11-21T20:00:00Z.
pub(super) const NOW: Ticks = Ticks(17_952_912_000_000_000);

/// A batch without the way back.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) fence: Fence,
    pub(super) source: Source,
    pub(super) records: Vec<Record>,
    pub(super) cursor: Option<CursorMove>,
    pub(super) gaps: Vec<Gap>,
    pub(super) purpose: Purpose,
}

/// One tenant.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub(super) fence: Fence,
    pub(super) stored: Snapshot,
}

/// What a batch has written, for the counters.
#[derive(Default)]
struct Written {
    stamps: Vec<Option<Ticks>>,
    new: BTreeSet<String>,
    changed: BTreeSet<String>,
}

impl Reference {
    pub(super) fn new(fence: Fence) -> Self {
        Self { fence, stored: Snapshot::default() }
    }

    pub(super) fn apply(&mut self, batch: &Batch) -> Result<Committed, Refusal> {
        if batch.fence != self.fence {
            return Err(Refusal::LeaseLost);
        }
        let (mut alerts, mut incidents, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
        for record in &batch.records {
            match record {
                Record::Poison(poison) => rejected.push(poison.clone()),
                Record::Alert(alert) if alert.id.as_str().contains('\0') => {
                    let reason = "the alert id holds a NUL character, which Postgres cannot keep";
                    rejected.push(Poison::new(reason, alert.raw.clone().into_bytes()));
                }
                Record::Alert(alert) => alerts.push(alert),
                Record::Incident(incident) => incidents.push(incident),
            }
        }
        let mut written = Written::default();
        self.alerts(batch.source, &alerts, &mut written);
        self.incidents(&incidents, &mut written);
        let quarantined = self.quarantine(batch, &alerts, &incidents, &rejected);

        let mut committed = Committed {
            new: written.new.len() as u64,
            updated: (written.stamps.len() - written.new.len()) as u64,
            duplicate: (alerts.len() + incidents.len() - written.stamps.len()) as u64,
            quarantined,
            ..Committed::default()
        };
        if let Purpose::Reread { polled_before, .. } = batch.purpose {
            committed.late = written.stamps.iter().filter(|stamp| stamp.is_none_or(|stamp| stamp < polled_before)).count() as u64;
        }
        self.cursor(batch, &written, &mut committed);
        Ok(committed)
    }

    fn alerts(&mut self, source: Source, alerts: &[&AlertRecord], written: &mut Written) {
        let (mut best, mut fresh) = (BTreeMap::<&str, &AlertRecord>::new(), BTreeMap::<&str, i32>::new());
        for alert in alerts {
            let id = alert.id.as_str();
            let key = VersionKey { source, alert: id.to_owned(), hash: alert.hash, filed: cut(alert.created) };
            let of_it = self.stored.versions.keys().filter(|other| other.source == source && other.alert == id).count();
            self.stored.versions.entry(key).or_insert_with(|| {
                *fresh.entry(id).or_default() += 1;
                written.stamps.push(alert.last_update);
                let raw = alert.raw.to_string();
                VersionLine { number: i32::try_from(of_it).unwrap_or(0) + 1, last_update_text: alert.last_update_text.clone(), raw }
            });
            if best.get(id).is_none_or(|other| deciding(alert.last_update) >= deciding(other.last_update)) {
                best.insert(id, alert);
            }
        }
        for (id, alert) in best {
            let versions = fresh.get(id).copied().unwrap_or(0);
            let mut line = LatestLine {
                source,
                hash: alert.hash,
                filed: cut(alert.created),
                ticks: deciding(alert.last_update),
                facts: alert.facts.clone(),
                version_count: versions,
            };
            let Some(before) = self.stored.latest.get_mut(id) else {
                written.new.insert(id.to_owned());
                self.stored.latest.insert(id.to_owned(), line);
                continue;
            };
            before.version_count += versions;
            if versions > 0 {
                written.changed.insert(id.to_owned());
            }
            if (line.ticks, source.rank()) < (before.ticks, before.source.rank()) {
                continue;
            }
            line.version_count = before.version_count;
            let before = std::mem::replace(before, line).facts;
            let now = &alert.facts;
            for (field, old, new) in [
                ("assigned_to", &before.assigned_to, &now.assigned_to),
                ("classification", &before.classification, &now.classification),
                ("determination", &before.determination, &now.determination),
                ("severity", &before.severity, &now.severity),
                ("status", &before.status, &now.status),
            ] {
                if old != new {
                    let (alert, field, changed_at) = (id.to_owned(), field.to_owned(), cut(alert.last_update));
                    let event = EventLine { alert, field, old: old.clone(), new: new.clone(), changed_at, source };
                    let place = self.stored.events.partition_point(|other| other.alert.as_str() <= id);
                    self.stored.events.insert(place, event);
                }
            }
        }
    }

    fn incidents(&mut self, incidents: &[&IncidentRecord], written: &mut Written) {
        let ids: BTreeSet<&str> = incidents.iter().map(|incident| incident.id.as_str()).collect();
        for id in ids {
            // The last of those with the highest stamp.
            let Some(best) =
                incidents.iter().filter(|incident| incident.id.as_str() == id).max_by_key(|incident| deciding(incident.last_update))
            else {
                continue;
            };
            let line = IncidentLine {
                hash: best.hash,
                ticks: deciding(best.last_update),
                redirect: best.redirect.as_ref().map(|to| to.as_str().to_owned()),
                title: best.title.clone(),
                severity: best.severity.clone(),
                status: best.status.clone(),
                raw: best.raw.to_string(),
            };
            match self.stored.incidents.get(id) {
                Some(standing) if standing.hash == line.hash || standing.ticks > line.ticks => continue,
                Some(_) => written.changed.insert(id.to_owned()),
                None => written.new.insert(id.to_owned()),
            };
            written.stamps.push(best.last_update);
            self.stored.incidents.insert(id.to_owned(), line);
        }
        let ends = self.stored.incidents.keys().map(|id| (id.clone(), self.end(id)));
        self.stored.redirects = ends.filter(|(id, end)| id != end).collect();
    }

    /// Where an incident leads: follow it so often that every chain has ended and every circle was run through, and
    /// once more around.
    fn end(&self, id: &str) -> String {
        let next = |id: &str| self.stored.incidents.get(id).and_then(|incident| incident.redirect.clone());
        let (mut at, mut around) = (id.to_owned(), Vec::new());
        for round in 0..2 * self.stored.incidents.len() + 2 {
            let Some(to) = next(&at) else { return at };
            if round > self.stored.incidents.len() {
                around.push(to.clone());
            }
            at = to;
        }
        around.into_iter().min().unwrap_or(at)
    }

    fn quarantine(&mut self, batch: &Batch, alerts: &[&AlertRecord], incidents: &[&IncidentRecord], rejected: &[Poison]) -> u64 {
        let (mut added, mut understood) = (0, 0);
        for poison in rejected {
            let line = QuarantineLine { reason: poison.reason.clone(), raw: poison.raw.to_vec(), due: false, replayed: false };
            match self.stored.quarantine.get(&(batch.source, poison.hash)) {
                Some(QuarantineLine { replayed: false, .. }) => continue,
                Some(before) => {
                    self.stored.quarantine.insert((batch.source, poison.hash), QuarantineLine { raw: before.raw.clone(), ..line })
                }
                None => self.stored.quarantine.insert((batch.source, poison.hash), line),
            };
            added += 1;
        }
        if matches!(batch.purpose, Purpose::Reread { errand: Errand::Replay, .. }) {
            let hashes: BTreeSet<_> = alerts.iter().map(|alert| alert.hash).chain(incidents.iter().map(|incident| incident.hash)).collect();
            for ((source, hash), line) in &mut self.stored.quarantine {
                let tried = *source == batch.source && !line.replayed;
                line.due &= !(tried && rejected.iter().any(|poison| poison.hash == *hash));
                if tried && hashes.contains(hash) {
                    (line.due, line.replayed) = (false, true);
                    understood += 1;
                }
            }
        }
        if added != understood {
            let feed = self.stored.feeds.entry(batch.source).or_default();
            feed.quarantined = (feed.quarantined + added - understood).max(0);
        }
        u64::try_from(added).unwrap_or(0)
    }
}

/// The number by which two states are compared: a stamp far ahead counts as none.
fn deciding(stamp: Option<Ticks>) -> i64 {
    const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
    stamp.filter(|stamp| stamp.since(NOW) <= MONTH).map_or(i64::MIN, |stamp| stamp.0)
}
