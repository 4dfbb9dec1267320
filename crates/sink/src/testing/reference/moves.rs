//! Cursors, gaps, re-reads and what an operator asks for, as they have to be.

use domain::{Axis, Committed, CursorMove, Errand, GapKind, Purpose, RereadMove, Source, Ticks};

use super::{Batch, Reference, Written};
use crate::store::{Item, MOST_IDS};
use crate::testing::snapshot::{GapLine, ReconciliationLine, RereadLine, cut};

impl Reference {
    pub(super) fn cursor(&mut self, batch: &Batch, written: &Written, committed: &mut Committed) {
        let (mut axis, mut stands) = (Axis::Update, None);
        match &batch.cursor {
            None => {}
            Some(CursorMove::Begin { live_from, history_from }) => self.begin(batch.source, *live_from, *history_from),
            Some(CursorMove::Live { from, watermark }) => match self.stored.feeds.get_mut(&batch.source) {
                Some(feed) if feed.watermark >= Some(*from) => feed.watermark = feed.watermark.max(Some(*watermark)),
                _ => committed.void = true,
            },
            Some(CursorMove::Reread(to)) => {
                axis = to.now.axis;
                stands = Some(self.reread(batch, to));
                committed.void = stands == Some(false);
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
                None => committed.void = true,
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
            let asked = self.stored.rereads.remove(&(source, Errand::Backfill));
            let wider = match &asked {
                None => row(1, Axis::Update, (history_from, live_from), live_from, live_from),
                Some(asked) => {
                    let (from, to) = (asked.from.min(history_from), asked.to.max(live_from));
                    let mut wider = RereadLine { finished: false, cancelled: false, ..asked.clone() };
                    (wider.run, wider.axis, wider.from, wider.to, wider.left) = (asked.run + 1, Axis::Update, from, to, to);
                    wider.polled_before = live_from;
                    wider
                }
            };
            self.stored.rereads.insert((source, Errand::Backfill), wider);
        }
    }

    fn reread(&mut self, batch: &Batch, RereadMove { now, before, whole, .. }: &RereadMove) -> bool {
        let moved = RereadLine {
            started: true,
            finished: now.finished_at.is_some(),
            ..row(now.run, now.axis, (now.from, now.to), now.left, now.polled_before)
        };
        let on_record = self.stored.rereads.get(&(batch.source, now.errand)).cloned();
        if let Some((axis, left)) = before {
            let as_far = |row: &RereadLine| if row.axis == *axis { row.left <= *left } else { row.axis == Axis::Creation };
            if !on_record.as_ref().is_some_and(|row| row.run == now.run && !row.finished && as_far(row)) {
                return false;
            }
        }
        let line = match on_record {
            Some(before) if now.run < before.run || (now.run == before.run && before.finished) => return false,
            Some(open) if !open.finished => RereadLine {
                asked: open.asked && open.run == now.run,
                records: open.records,
                new: open.new,
                updated: open.updated,
                late: open.late,
                missing: open.missing,
                changed: open.changed,
                ..moved
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

    pub(in crate::testing) fn news(&mut self, item: &Item) {
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

    pub(in crate::testing) fn ask(&mut self, source: Source, errand: Errand, (from, to): (Ticks, Ticks), replace: bool) -> Option<i64> {
        let run = match self.stored.rereads.get(&(source, errand)) {
            Some(open) if !open.finished && !replace => return None,
            Some(before) => before.run + 1,
            None => 1,
        };
        let asked = RereadLine { asked: true, ..row(run, Axis::Update, (from, to), to, to) };
        self.stored.rereads.insert((source, errand), asked);
        Some(run)
    }

    pub(in crate::testing) fn cancel(&mut self, source: Source, errand: Errand) -> Option<i64> {
        let row = self.stored.rereads.get_mut(&(source, errand)).filter(|row| !row.finished)?;
        (row.finished, row.cancelled) = (true, true);
        Some(row.run)
    }

    pub(in crate::testing) fn want_replay(&mut self, source: Source) {
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
