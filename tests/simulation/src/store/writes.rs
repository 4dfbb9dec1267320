//! The longer statements of a transaction: what each writes into the draft, with the tables beneath it.

use domain::{Axis, Comparison, ContentHash, Errand, Gap, GapKind, Reread, Ticks};
use sink::store::{Alert, Feed, Link, MOST_IDS, Offer, Rejected, Taken};

use super::memory::Effects;
use super::rows::{AlertRow, GapRow, QuarantineRow, ReconciliationRow, RereadRow};
use super::tables::{Draft, Tables};
use crate::time::Ms;

/// Offers latest states, and says which were taken.
pub(super) fn put_latest(
    draft: &mut Draft,
    base: &Tables,
    effects: &mut Effects,
    feed: Feed,
    alerts: &[Alert<'_>],
    offers: &[Offer],
    now: Ms,
) -> Vec<Taken> {
    let mut taken = Vec::new();
    for (place, offer) in offers.iter().enumerate() {
        let alert = &alerts[offer.record];
        let rank = (alert.ticks(), feed.source.rank());
        let row = match draft.alert(base, alert.id()) {
            None => {
                taken.push(Taken { offer: place, before: None });
                effects.latest.push((alert.id().to_owned(), None));
                AlertRow::of(alert, feed.source, offer.versions, now, now)
            }
            Some(stands) if rank >= stands.rank => {
                let before = stands.judged.clone();
                let row = AlertRow::of(alert, feed.source, stands.versions + offer.versions, stands.first_stored, now);
                effects.latest.push((alert.id().to_owned(), Some(before.clone())));
                taken.push(Taken { offer: place, before: Some(before) });
                row
            }
            Some(stands) => {
                let last_stored = if offer.versions == 0 { stands.last_stored } else { now };
                AlertRow { versions: stands.versions + offer.versions, last_stored, ..stands.clone() }
            }
        };
        draft.alerts.insert(alert.id().to_owned(), row);
    }
    taken
}

/// Where incidents lead that turned elsewhere, and those that led to them.
pub(super) fn links(draft: &Draft, base: &Tables, turned: &[&str]) -> Vec<Link> {
    let mut ids: std::collections::BTreeSet<String> = turned.iter().map(|id| (*id).to_owned()).collect();
    ids.extend(turned.iter().filter_map(|id| draft.end(base, id).cloned()));
    let leads_there = |id: &&String| draft.end(base, id).is_some_and(|end| ids.contains(end));
    let more: Vec<String> = base.ends.keys().chain(draft.ends.keys()).filter(leads_there).cloned().collect();
    ids.extend(more);
    let link = |id: String| {
        let redirect = draft.incident(base, &id).and_then(|row| row.redirect.clone());
        let beyond = redirect.as_deref().and_then(|to| draft.end(base, to).cloned());
        Link { end: draft.end(base, &id).cloned(), redirect, beyond, id }
    };
    ids.into_iter().map(link).collect()
}

/// Puts records aside, and says how many are new there.
pub(super) fn quarantine(draft: &mut Draft, base: &Tables, effects: &mut Effects, feed: Feed, rejected: &[Rejected<'_>], now: Ms) -> u64 {
    let mut fresh = 0;
    for record in rejected {
        let key = (feed.source, record.hash);
        effects.quarantined.push((feed, record.hash));
        match draft.quarantine.get(&key).or_else(|| base.quarantine.get(&key)) {
            None => {
                let (reason, raw) = (record.reason.to_owned(), record.raw.to_vec());
                let row = QuarantineRow { reason, raw, seen_at: now, replay_at: None, replayed_at: None, tried_at: None };
                draft.quarantine.insert(key, row);
                fresh += 1;
            }
            Some(row) if row.replayed_at.is_some() => {
                let (reason, raw) = (record.reason.to_owned(), row.raw.clone());
                let row = QuarantineRow { reason, raw, seen_at: row.seen_at, replay_at: None, replayed_at: None, tried_at: None };
                draft.quarantine.insert(key, row);
                fresh += 1;
            }
            Some(_) => {}
        }
    }
    fresh
}

/// Notes what became of records that were tried again.
pub(super) fn replayed(draft: &mut Draft, base: &Tables, feed: Feed, understood: &[ContentHash], refused: &[ContentHash], now: Ms) -> u64 {
    let mut marked = 0;
    for (hash, good) in refused.iter().map(|hash| (hash, false)).chain(understood.iter().map(|hash| (hash, true))) {
        let key = (feed.source, *hash);
        let row = draft.quarantine.get(&key).or_else(|| base.quarantine.get(&key));
        let Some(mut row) = row.filter(|row| row.replayed_at.is_none()).cloned() else { continue };
        row.tried_at = Some(now);
        if good {
            row.replayed_at = Some(now);
            marked += 1;
        }
        draft.quarantine.insert(key, row);
    }
    marked
}

/// Closes gaps in a stretch that was read whole.
pub(super) fn heal_gaps(draft: &mut Draft, base: &Tables, feed: Feed, axis: Axis, stretch: (Ticks, Ticks), but: &[Gap], now: Ms) -> u64 {
    let mut healed = Vec::new();
    for (key, row) in base.gaps.iter().chain(&draft.gaps) {
        let inside = key.0 == feed.source && key.1 >= stretch.0 && key.2 < stretch.1;
        let kept = row.kind == GapKind::Expired || but.iter().any(|gap| (gap.from, gap.to) == (key.1, key.2));
        let row = draft.gaps.get(key).unwrap_or(row);
        if inside && !kept && row.axis == axis && row.healed_at.is_none() {
            healed.push((*key, GapRow { healed_at: Some(now), ..row.clone() }));
        }
    }
    healed.dedup_by_key(|(key, _)| *key);
    let before = draft.gaps.iter().filter(|(_, row)| row.healed_at.is_some()).count();
    draft.gaps.extend(healed);
    (draft.gaps.values().filter(|row| row.healed_at.is_some()).count() - before) as u64
}

/// First contact.
pub(super) fn begin_feed(draft: &mut Draft, base: &Tables, effects: &mut Effects, feed: Feed, live_from: Ticks, history_from: Ticks) {
    let row = draft.feed(base, feed);
    if row.watermark.is_some() {
        return;
    }
    row.watermark = Some(live_from);
    effects.began = Some((feed, live_from));
    if history_from >= live_from {
        return;
    }
    let backfill = |run, from, to| Reread {
        errand: Errand::Backfill,
        run,
        axis: Axis::Update,
        from,
        to,
        left: to,
        polled_before: live_from,
        finished_at: None,
    };
    match draft.reread(base, feed, Errand::Backfill) {
        // One that was asked for before is widened.
        Some(row) => {
            row.now = backfill(row.now.run + 1, row.now.from.min(history_from), row.now.to.max(live_from));
            row.finished_at = None;
            row.cancelled_at = None;
        }
        None => {
            let row = fresh_reread(backfill(1, history_from, live_from), None);
            draft.rereads.insert((feed.source, Errand::Backfill), row);
        }
    }
    effects.rereads.push((feed, Errand::Backfill));
}

/// Moves a re-read, unless it is void.
pub(super) fn move_reread(
    draft: &mut Draft,
    base: &Tables,
    effects: &mut Effects,
    feed: Feed,
    before: Option<(Axis, Ticks)>,
    to: &Reread,
    now: Ms,
) -> bool {
    if let Some((axis, left)) = before {
        let as_far = |row: &Reread| if row.axis == axis { row.left <= left } else { row.axis == Axis::Creation };
        let row = draft.reread(base, feed, to.errand);
        if !row.is_some_and(|row| row.now.run == to.run && row.finished_at.is_none() && as_far(&row.now)) {
            return false;
        }
    }
    let finished = to.finished_at.is_some().then_some(now);
    match draft.reread(base, feed, to.errand) {
        Some(row) if row.now.run == to.run && row.finished_at.is_none() => {
            row.now = to.clone();
            row.started_at.get_or_insert(now);
            row.finished_at = finished;
        }
        Some(row) if row.now.run >= to.run => return false,
        // What a run has counted that never came to its end goes on in the next.
        Some(row) if row.finished_at.is_none() => {
            row.now = to.clone();
            (row.started_at, row.finished_at, row.asked_at) = (Some(now), finished, None);
        }
        _ => {
            let row = RereadRow { finished_at: finished, ..fresh_reread(to.clone(), Some(now)) };
            draft.rereads.insert((feed.source, to.errand), row);
        }
    }
    effects.rereads.push((feed, to.errand));
    true
}

/// Leaves the result of a comparison.
pub(super) fn reconcile(draft: &mut Draft, base: &Tables, feed: Feed, errand: Errand, comparison: &Comparison) -> (u64, u64) {
    let Some(row) = draft.reread(base, feed, errand).cloned() else { return (0, 0) };
    let only_stored = comparison.only_stored.iter().take(MOST_IDS).cloned().collect();
    draft.reconciliations.push(ReconciliationRow {
        source: feed.source,
        by_operator: errand == Errand::Reconcile,
        run: row.now.run,
        stretch: (row.now.from, row.now.to),
        counts: [comparison.at_source, comparison.stored, row.new, row.updated, comparison.only_stored_count],
        ids: [row.missing, row.changed, only_stored],
    });
    (row.new, row.updated)
}

/// A re-read of which nothing is read yet.
pub(super) fn fresh_reread(now: Reread, started_at: Option<Ms>) -> RereadRow {
    RereadRow {
        now,
        asked_at: None,
        started_at,
        finished_at: None,
        cancelled_at: None,
        records: 0,
        new: 0,
        updated: 0,
        late: 0,
        missing: Vec::new(),
        changed: Vec::new(),
    }
}

/// Adds to the first few ids that a row names.
pub(super) fn keep(list: &mut Vec<String>, ids: &[&str]) {
    for id in ids {
        if list.len() < MOST_IDS && !list.iter().any(|kept| kept == id) {
            list.push((*id).to_owned());
        }
    }
}
