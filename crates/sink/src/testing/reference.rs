//! What has to be stored after each step, said as simply as possible: no plan, no look-up, everything by reading all
//! there is.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    AlertRecord, Axis, Committed, CursorMove, Errand, Fence, Gap, GapKind, IncidentRecord, Poison, Purpose, Record, Refusal, RereadMove,
    Source, Ticks,
};

use super::snapshot::{
    EventLine, GapLine, IncidentLine, LatestLine, QuarantineLine, ReconciliationLine, RereadLine, Snapshot, VersionKey, VersionLine, cut,
};
use crate::store::{Item, MOST_IDS};

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
                    rejected.push(Poison::new(reason, alert.raw.clone()));
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
                let raw = String::from_utf8_lossy(&alert.raw).into_owned();
                VersionLine { number: i32::try_from(of_it).unwrap_or(0) + 1, last_update_text: alert.last_update_text.clone(), raw }
            });
            if best.get(id).is_none_or(|other| alert.last_update >= other.last_update) {
                best.insert(id, alert);
            }
        }
        for (id, alert) in best {
            let versions = fresh.get(id).copied().unwrap_or(0);
            let mut line = LatestLine {
                source,
                hash: alert.hash,
                filed: cut(alert.created),
                ticks: alert.last_update.map_or(i64::MIN, |stamp| stamp.0),
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
            let Some(best) = incidents.iter().filter(|incident| incident.id.as_str() == id).max_by_key(|incident| incident.last_update)
            else {
                continue;
            };
            let line = IncidentLine {
                hash: best.hash,
                ticks: best.last_update.map_or(i64::MIN, |stamp| stamp.0),
                redirect: best.redirect.as_ref().map(|to| to.as_str().to_owned()),
                title: best.title.clone(),
                severity: best.severity.clone(),
                status: best.status.clone(),
                raw: String::from_utf8_lossy(&best.raw).into_owned(),
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

    fn cursor(&mut self, batch: &Batch, written: &Written, committed: &mut Committed) {
        let (mut axis, mut stands) = (Axis::Update, None);
        match &batch.cursor {
            None => {}
            Some(CursorMove::Begin { live_from, history_from }) => self.begin(batch.source, *live_from, *history_from),
            Some(CursorMove::Live { watermark }) => {
                let feed = self.stored.feeds.entry(batch.source).or_default();
                feed.watermark = feed.watermark.max(Some(*watermark));
            }
            Some(CursorMove::Reread(to)) => {
                axis = to.now.axis;
                stands = Some(self.reread(batch, to));
                committed.cancelled = stands == Some(false);
            }
        }
        for gap in &batch.gaps {
            let line = GapLine { axis, kind: gap.kind, reason: gap.reason.clone(), healed: false };
            let place = self.stored.gaps.entry((batch.source, gap.from, gap.to)).or_insert_with(|| line.clone());
            if place.healed {
                *place = line;
            }
        }
        if let Purpose::Reread { errand, .. } = batch.purpose
            && !batch.records.is_empty()
            && stands != Some(false)
        {
            let row = self.stored.rereads.get_mut(&(batch.source, errand));
            match row.filter(|row| stands == Some(true) || (row.started && !row.finished)) {
                None => committed.cancelled = true,
                Some(row) => {
                    row.records += batch.records.len() as u64;
                    row.new += committed.new;
                    row.updated += committed.updated;
                    row.late += committed.late;
                    for (list, ids) in [(&mut row.missing, &written.new), (&mut row.changed, &written.changed)] {
                        let unknown: Vec<_> = ids.iter().filter(|id| !list.contains(id)).cloned().collect();
                        list.extend(unknown);
                        list.truncate(MOST_IDS);
                    }
                }
            }
        }
        if let (Some(true), Some(CursorMove::Reread(RereadMove { now, comparison: Some(comparison), .. }))) = (stands, &batch.cursor) {
            let row = &self.stored.rereads[&(batch.source, now.errand)];
            let asked_by = if now.errand == Errand::Reconcile { "operator" } else { "nightly" }.to_owned();
            let line = ReconciliationLine {
                source: batch.source,
                asked_by,
                run: row.run,
                stretch: (row.from, row.to),
                counts: [comparison.at_source, comparison.stored, row.new, row.updated, comparison.only_stored_count],
                ids: [row.missing.clone(), row.changed.clone(), comparison.only_stored.clone()],
            };
            let place = self.stored.reconciliations.partition_point(|other| other.source <= batch.source);
            self.stored.reconciliations.insert(place, line);
        }
    }

    fn begin(&mut self, source: Source, live_from: Ticks, history_from: Ticks) {
        let feed = self.stored.feeds.entry(source).or_default();
        if feed.watermark.is_some() {
            return;
        }
        feed.watermark = Some(live_from);
        if history_from < live_from {
            let row = row(1, Axis::Update, (history_from, live_from), live_from, live_from);
            self.stored.rereads.entry((source, Errand::Backfill)).or_insert(row);
        }
    }

    fn reread(&mut self, batch: &Batch, RereadMove { now, whole, .. }: &RereadMove) -> bool {
        let moved = RereadLine {
            started: true,
            finished: now.finished_at.is_some(),
            ..row(now.run, now.axis, (now.from, now.to), now.left, now.polled_before)
        };
        let line = match self.stored.rereads.get(&(batch.source, now.errand)).cloned() {
            Some(before) if now.run < before.run || (now.run == before.run && before.finished) => return false,
            Some(before) if now.run == before.run => RereadLine {
                run: moved.run,
                axis: moved.axis,
                from: moved.from,
                to: moved.to,
                left: moved.left,
                polled_before: moved.polled_before,
                started: true,
                finished: moved.finished,
                ..before
            },
            _ => moved,
        };
        self.stored.rereads.insert((batch.source, now.errand), line);
        if let Some((from, to)) = whole {
            for ((source, start, end), gap) in &mut self.stored.gaps {
                let noticed = batch.gaps.iter().any(|gap| (gap.from, gap.to) == (*start, *end));
                gap.healed |= *source == batch.source
                    && gap.axis == now.axis
                    && gap.kind != GapKind::Expired
                    && (start >= from && end < to)
                    && !noticed;
            }
        }
        true
    }

    pub(super) fn news(&mut self, item: &Item) {
        if item.fence != self.fence {
            return;
        }
        let feed = self.stored.feeds.entry(item.source).or_default();
        feed.last_attempt = cut(Some(item.attempted_at)).or(feed.last_attempt);
        feed.last_success = cut(item.succeeded_at).or(feed.last_success);
        feed.caught_up = feed.caught_up.max(item.caught_up);
        feed.error.clone_from(&item.error);
        feed.throttled_until = cut(item.throttled_until);
        feed.order = item.order;
    }

    pub(super) fn ask(&mut self, source: Source, errand: Errand, (from, to): (Ticks, Ticks), replace: bool) -> Option<i64> {
        let run = match self.stored.rereads.get(&(source, errand)) {
            Some(open) if !open.finished && !replace => return None,
            Some(before) => before.run + 1,
            None => 1,
        };
        let asked = RereadLine { asked: true, ..row(run, Axis::Update, (from, to), to, to) };
        self.stored.rereads.insert((source, errand), asked);
        Some(run)
    }

    pub(super) fn cancel(&mut self, source: Source, errand: Errand) -> Option<i64> {
        let row = self.stored.rereads.get_mut(&(source, errand)).filter(|row| !row.finished)?;
        (row.finished, row.cancelled) = (true, true);
        Some(row.run)
    }

    pub(super) fn want_replay(&mut self, source: Source) {
        for ((of, _), line) in &mut self.stored.quarantine {
            line.due |= *of == source && !line.replayed;
        }
    }
}

fn row(run: i64, axis: Axis, (from, to): (Ticks, Ticks), left: Ticks, polled_before: Ticks) -> RereadLine {
    RereadLine {
        run,
        axis,
        from,
        to,
        left,
        polled_before,
        asked: false,
        started: false,
        finished: false,
        cancelled: false,
        records: 0,
        new: 0,
        updated: 0,
        late: 0,
        missing: Vec::new(),
        changed: Vec::new(),
    }
}
