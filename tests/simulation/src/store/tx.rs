//! One transaction.

use async_trait::async_trait;
use domain::{Axis, Comparison, ContentHash, Errand, Fence, Gap, GapKind, Reread, TenantId, Ticks};
use sink::store::{
    Alert, Event, Feed, Incident, Known, Link, MOST_IDS, Offer, Rejected, Standing, StandingIncident, StoreError, StoreTx, Taken, Tally,
};

use super::memory::{Effects, MemoryStore, Obstacle, Statement};
use super::rows::{AlertRow, EventRow, GapRow, IncidentRow, QuarantineRow, ReconciliationRow, RereadRow, VersionRow, carried};
use super::tables::{Draft, Tables};

/// A transaction: what it has written so far, and the tenant that it has to itself.
pub(crate) struct Tx {
    store: MemoryStore,
    number: u64,
    tenant: Option<TenantId>,
    draft: Draft,
    effects: Effects,
}

impl Drop for Tx {
    fn drop(&mut self) {
        if let Some(tenant) = self.tenant {
            self.store.memory().unlock(tenant, self.number);
        }
    }
}

impl Tx {
    pub(super) fn new(store: MemoryStore, number: u64) -> Self {
        Self { store, number, tenant: None, draft: Draft::default(), effects: Effects::default() }
    }

    /// A statement arrives: it may fail on its way, and it is the first one that shuts the others out.
    async fn arrive(&mut self, tenant: TenantId, statement: Statement) -> Result<(), StoreError> {
        self.store.around.pass(statement).await?;
        let now = self.store.around.now();
        match self.tenant {
            Some(tenant) if !self.store.memory().holds(tenant, self.number, now) => {
                self.tenant = None;
                Err(StoreError::Away("simulated: the server has ended an idle transaction".to_owned()))
            }
            Some(_) => Ok(()),
            None => {
                self.store.exclude_others(tenant, self.number).await?;
                self.tenant = Some(tenant);
                self.effects.tenant = Some(tenant);
                self.store.memory().tenants.entry(tenant).or_default();
                Ok(())
            }
        }
    }

    /// Works on the draft, with the tables beneath it.
    fn with<T>(&mut self, tenant: TenantId, work: impl FnOnce(&mut Draft, &Tables, &mut Effects) -> T) -> T {
        let mut memory = self.store.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let base = memory.tenants.entry(tenant).or_default();
        work(&mut self.draft, base, &mut self.effects)
    }
}

#[async_trait]
impl StoreTx for Tx {
    async fn hold(&mut self, fence: Fence) -> Result<(), StoreError> {
        self.arrive(fence.tenant, Statement::Read).await?;
        if self.store.memory().stands(fence) {
            self.effects.fence = Some(fence);
            Ok(())
        } else {
            Err(StoreError::LeaseLost)
        }
    }

    async fn look_up(&mut self, feed: Feed, alerts: &[Alert<'_>]) -> Result<Vec<Known>, StoreError> {
        self.arrive(feed.tenant, Statement::Read).await?;
        Ok(self.with(feed.tenant, |draft, base, _| {
            let known = |alert: &Alert<'_>| {
                let is = |row: &VersionRow| row.hash == alert.record.hash && row.filed == alert.filed();
                let standing = draft.alert(base, alert.id()).map(|row| Standing {
                    same: row.source == feed.source && row.hash == alert.record.hash && row.filed == alert.filed(),
                    rank: row.rank,
                });
                let versions = || draft.versions_of(base, feed.source, alert.id());
                Known { stored: versions().any(is), standing, newest: versions().map(|row| row.number).max().unwrap_or(0) }
            };
            alerts.iter().map(known).collect()
        }))
    }

    async fn insert_versions(&mut self, feed: Feed, alerts: &[Alert<'_>], versions: &[(usize, i32)]) -> Result<(), StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        if versions.iter().any(|(at, _)| !self.store.around.accepts(alerts[*at].record.hash)) {
            return Err(Obstacle::Data.into());
        }
        self.with(feed.tenant, |draft, base, effects| {
            for (at, number) in versions {
                let alert = &alerts[*at];
                let (hash, filed) = (alert.record.hash, alert.filed());
                if draft.versions_of(base, feed.source, alert.id()).any(|row| row.hash == hash && row.filed == filed) {
                    return Err(StoreError::Contention("simulated: a new version was there already".to_owned()));
                }
                let row = VersionRow {
                    hash,
                    filed,
                    number: *number,
                    last_update_text: alert.record.last_update_text.clone(),
                    raw: alert.record.raw.clone(),
                    rank: (carried(alert.record), feed.source.rank()),
                };
                draft.versions.push((feed.source, alert.id().to_owned(), row));
                effects.versions.push((feed, alert.id().to_owned(), hash));
            }
            Ok(())
        })
    }

    async fn put_latest(&mut self, feed: Feed, alerts: &[Alert<'_>], offers: &[Offer]) -> Result<Vec<Taken>, StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        let now = self.store.around.now();
        Ok(self.with(feed.tenant, |draft, base, effects| {
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
        }))
    }

    async fn add_events(&mut self, feed: Feed, events: &[Event<'_>]) -> Result<(), StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        let now = self.store.around.now();
        self.with(feed.tenant, |draft, base, effects| {
            for event in events {
                let last = base.events.iter().filter(|row| row.alert == event.alert).map(|row| row.seen_at).max();
                effects.events.push((event.alert.to_owned(), event.field, event.new.clone()));
                draft.events.push(EventRow {
                    alert: event.alert.to_owned(),
                    field: event.field,
                    old: event.old.clone(),
                    new: event.new.clone(),
                    changed_at: event.changed_at,
                    seen_at: last.map_or(now, |last| now.max(last + 1)),
                    source: feed.source,
                });
            }
        });
        Ok(())
    }

    async fn look_up_incidents(
        &mut self,
        tenant: TenantId,
        incidents: &[Incident<'_>],
    ) -> Result<Vec<Option<StandingIncident>>, StoreError> {
        self.arrive(tenant, Statement::Read).await?;
        Ok(self.with(tenant, |draft, base, _| {
            let known = |row: &IncidentRow| StandingIncident { hash: row.hash, ticks: row.ticks, redirect: row.redirect.clone() };
            incidents.iter().map(|incident| draft.incident(base, incident.id()).map(known)).collect()
        }))
    }

    async fn put_incidents(&mut self, tenant: TenantId, incidents: &[Incident<'_>], which: &[usize]) -> Result<(), StoreError> {
        self.arrive(tenant, Statement::Write).await?;
        if which.iter().any(|at| !self.store.around.accepts(incidents[*at].record.hash)) {
            return Err(Obstacle::Data.into());
        }
        self.with(tenant, |draft, base, effects| {
            for at in which {
                let incident = &incidents[*at];
                let hash = incident.record.hash;
                let before = draft.incident(base, incident.id()).map(|row| (row.hash, row.ticks));
                if before.is_some_and(|(stands, ticks)| stands == hash || ticks > incident.ticks()) {
                    return Err(StoreError::Contention("simulated: an incident was written meanwhile".to_owned()));
                }
                let record = incident.record;
                let row = IncidentRow {
                    hash,
                    ticks: incident.ticks(),
                    redirect: incident.redirect().map(str::to_owned),
                    words: [&record.title, &record.severity, &record.status].map(Clone::clone),
                    raw: record.raw.clone(),
                };
                let carries = incident.record.last_update.map_or(i64::MIN, |ticks| ticks.0);
                effects.incidents.push((incident.id().to_owned(), hash, before.map(|(_, ticks)| ticks), carries));
                draft.incidents.insert(incident.id().to_owned(), row);
            }
            Ok(())
        })
    }

    async fn links(&mut self, tenant: TenantId, turned: &[&str]) -> Result<Vec<Link>, StoreError> {
        self.arrive(tenant, Statement::Read).await?;
        Ok(self.with(tenant, |draft, base, _| {
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
        }))
    }

    async fn put_ends(&mut self, tenant: TenantId, ends: &[(String, Option<String>)]) -> Result<(), StoreError> {
        self.arrive(tenant, Statement::Write).await?;
        self.draft.ends.extend(ends.iter().cloned());
        Ok(())
    }

    async fn quarantine(&mut self, feed: Feed, rejected: &[Rejected<'_>]) -> Result<u64, StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        let now = self.store.around.now();
        Ok(self.with(feed.tenant, |draft, base, effects| {
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
        }))
    }

    async fn replayed(&mut self, feed: Feed, understood: &[ContentHash], refused: &[ContentHash]) -> Result<u64, StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        let now = self.store.around.now();
        Ok(self.with(feed.tenant, |draft, base, _| {
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
        }))
    }

    async fn add_gaps(&mut self, feed: Feed, axis: Axis, gaps: &[Gap]) -> Result<u64, StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        Ok(self.with(feed.tenant, |draft, base, effects| {
            let mut opened = 0;
            for gap in gaps {
                let key = (feed.source, gap.from, gap.to);
                let stands = draft.gaps.get(&key).or_else(|| base.gaps.get(&key));
                if stands.is_none_or(|row| row.healed_at.is_some()) {
                    draft.gaps.insert(key, GapRow { kind: gap.kind, reason: gap.reason.clone(), axis, healed_at: None });
                    effects.gaps.push(key);
                    opened += 1;
                }
            }
            opened
        }))
    }

    async fn heal_gaps(&mut self, feed: Feed, axis: Axis, stretch: (Ticks, Ticks), but: &[Gap]) -> Result<u64, StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        let now = self.store.around.now();
        Ok(self.with(feed.tenant, |draft, base, _| {
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
        }))
    }

    async fn advance(&mut self, feed: Feed, watermark: Option<Ticks>, quarantined: i64) -> Result<(), StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        self.with(feed.tenant, |draft, base, effects| {
            let row = draft.feed(base, feed);
            row.quarantined = (row.quarantined + quarantined).max(0);
            if let Some(watermark) = watermark.filter(|watermark| row.watermark.is_none_or(|stands| stands < *watermark)) {
                effects.cursor = Some((feed, row.watermark, watermark));
                row.watermark = Some(watermark);
            }
        });
        Ok(())
    }

    async fn begin_feed(&mut self, feed: Feed, live_from: Ticks, history_from: Ticks) -> Result<(), StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        self.with(feed.tenant, |draft, base, effects| {
            let row = draft.feed(base, feed);
            if row.watermark.is_some() {
                return;
            }
            row.watermark = Some(live_from);
            effects.began = Some((feed, live_from));
            let key = (feed.source, Errand::Backfill);
            if history_from < live_from && draft.reread(base, feed, Errand::Backfill).is_none() {
                let now = Reread {
                    errand: Errand::Backfill,
                    run: 1,
                    axis: Axis::Update,
                    from: history_from,
                    to: live_from,
                    left: live_from,
                    polled_before: live_from,
                    finished_at: None,
                };
                draft.rereads.insert(key, fresh_reread(now, None));
                effects.rereads.push((feed, Errand::Backfill));
            }
        });
        Ok(())
    }

    async fn move_reread(&mut self, feed: Feed, to: &Reread) -> Result<bool, StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        let now = self.store.around.now();
        Ok(self.with(feed.tenant, |draft, base, effects| {
            let finished = to.finished_at.is_some().then_some(now);
            match draft.reread(base, feed, to.errand) {
                Some(row) if row.now.run == to.run && row.finished_at.is_none() => {
                    row.now = to.clone();
                    row.started_at.get_or_insert(now);
                    row.finished_at = finished;
                }
                Some(row) if row.now.run >= to.run => return false,
                _ => {
                    let row = RereadRow { finished_at: finished, ..fresh_reread(to.clone(), Some(now)) };
                    draft.rereads.insert((feed.source, to.errand), row);
                }
            }
            effects.rereads.push((feed, to.errand));
            true
        }))
    }

    async fn tally(&mut self, feed: Feed, errand: Errand, run: Option<i64>, tally: &Tally<'_>) -> Result<bool, StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        Ok(self.with(feed.tenant, |draft, base, _| {
            let Some(row) = draft.reread(base, feed, errand) else { return false };
            let counts = match run {
                Some(run) => row.now.run == run,
                None => row.started_at.is_some() && row.finished_at.is_none(),
            };
            if counts {
                row.records += tally.records;
                row.new += tally.new;
                row.updated += tally.updated;
                row.late += tally.late;
                keep(&mut row.missing, &tally.missing);
                keep(&mut row.changed, &tally.changed);
            }
            counts
        }))
    }

    async fn reconcile(&mut self, feed: Feed, errand: Errand, comparison: &Comparison) -> Result<(u64, u64), StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        Ok(self.with(feed.tenant, |draft, base, _| {
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
        }))
    }

    async fn commit(mut self) -> Result<(), StoreError> {
        let passed = self.store.around.pass(Statement::Commit).await;
        if let Err(obstacle) = &passed
            && *obstacle != Obstacle::AnswerLost
        {
            return Err(obstacle.clone().into());
        }
        let Some(tenant) = self.tenant else { return Ok(()) };
        let now = self.store.around.now();
        let mut memory = self.store.memory();
        if !memory.holds(tenant, self.number, now) {
            return Err(StoreError::Away("simulated: the server has ended an idle transaction".to_owned()));
        }
        let draft = std::mem::take(&mut self.draft);
        draft.apply(memory.tenants.entry(tenant).or_default());
        memory.unlock(tenant, self.number);
        self.store.around.committed(&memory, &self.effects);
        drop(memory);
        passed.map_err(StoreError::from)
    }

    async fn rollback(self) {}
}

pub(super) fn fresh_reread(now: Reread, started_at: Option<crate::time::Ms>) -> RereadRow {
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

fn keep(list: &mut Vec<String>, ids: &[&str]) {
    for id in ids {
        if list.len() < MOST_IDS && !list.iter().any(|kept| kept == id) {
            list.push((*id).to_owned());
        }
    }
}
