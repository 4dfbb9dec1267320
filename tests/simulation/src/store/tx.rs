//! One transaction.

use async_trait::async_trait;
use domain::{Axis, Comparison, ContentHash, Errand, Fence, Gap, Reread, TenantId, Ticks};
use sink::store::{
    Alert, Event, Feed, Incident, Known, Link, Offer, Rejected, Standing, StandingIncident, StoreError, StoreTx, Taken, Tally,
};

use super::memory::{Effects, MemoryStore, Obstacle, Statement};
use super::rows::{EventRow, GapRow, IncidentRow, VersionRow, carried};
use super::tables::{Draft, Tables};
use super::writes::{self, keep};

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

    async fn look_up(&mut self, feed: Feed, alerts: &[Alert<'_>], thorough: bool) -> Result<Vec<Known>, StoreError> {
        self.arrive(feed.tenant, Statement::Read).await?;
        Ok(self.with(feed.tenant, |draft, base, _| {
            let known = |alert: &Alert<'_>| {
                let is = |row: &VersionRow| row.hash == alert.record.hash && row.filed == alert.filed();
                let standing = draft.alert(base, alert.id()).map(|row| Standing {
                    same: row.source == feed.source && row.hash == alert.record.hash && row.filed == alert.filed(),
                    rank: row.rank,
                });
                // As the database does: unless somebody is thorough, the state, or that there is none, speaks for the versions.
                if !thorough && standing.is_none_or(|it| it.same) {
                    return Known { stored: standing.is_some(), standing, newest: 0 };
                }
                let (mut stored, mut newest) = (false, 0);
                for row in draft.versions_of(base, feed.source, alert.id()) {
                    (stored, newest) = (stored || is(row), newest.max(row.number));
                }
                Known { stored, standing, newest }
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
        Ok(self.with(feed.tenant, |draft, base, effects| writes::put_latest(draft, base, effects, feed, alerts, offers, now)))
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
        Ok(self.with(tenant, |draft, base, _| writes::links(draft, base, turned)))
    }

    async fn put_ends(&mut self, tenant: TenantId, ends: &[(String, Option<String>)]) -> Result<(), StoreError> {
        self.arrive(tenant, Statement::Write).await?;
        self.draft.ends.extend(ends.iter().cloned());
        Ok(())
    }

    async fn quarantine(&mut self, feed: Feed, rejected: &[Rejected<'_>]) -> Result<u64, StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        let now = self.store.around.now();
        Ok(self.with(feed.tenant, |draft, base, effects| writes::quarantine(draft, base, effects, feed, rejected, now)))
    }

    async fn replayed(&mut self, feed: Feed, understood: &[ContentHash], refused: &[ContentHash]) -> Result<u64, StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        let now = self.store.around.now();
        Ok(self.with(feed.tenant, |draft, base, _| writes::replayed(draft, base, feed, understood, refused, now)))
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
        Ok(self.with(feed.tenant, |draft, base, _| writes::heal_gaps(draft, base, feed, axis, stretch, but, now)))
    }

    async fn advance(&mut self, feed: Feed, from: Ticks, to: Ticks) -> Result<bool, StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        Ok(self.with(feed.tenant, |draft, base, effects| {
            let on_record = draft.feeds.get(&feed.source).or_else(|| base.feeds.get(&feed.source));
            let stands = on_record.is_some_and(|row| row.watermark >= Some(from));
            let row = stands.then(|| draft.feed(base, feed));
            if let Some(row) = row.filter(|row| row.watermark < Some(to)) {
                effects.cursor = Some((feed, row.watermark, to));
                row.watermark = Some(to);
            }
            stands
        }))
    }

    async fn count_quarantined(&mut self, feed: Feed, change: i64) -> Result<(), StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        self.with(feed.tenant, |draft, base, _| {
            let row = draft.feed(base, feed);
            row.quarantined = (row.quarantined + change).max(0);
        });
        Ok(())
    }

    async fn begin_feed(&mut self, feed: Feed, live_from: Ticks, history_from: Ticks) -> Result<(), StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        self.with(feed.tenant, |draft, base, effects| writes::begin_feed(draft, base, effects, feed, live_from, history_from));
        Ok(())
    }

    async fn move_reread(&mut self, feed: Feed, before: Option<(Axis, Ticks)>, to: &Reread) -> Result<bool, StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        let now = self.store.around.now();
        Ok(self.with(feed.tenant, |draft, base, effects| writes::move_reread(draft, base, effects, feed, before, to, now)))
    }

    async fn tally(&mut self, feed: Feed, errand: Errand, run: Option<i64>, tally: &Tally<'_>) -> Result<bool, StoreError> {
        self.arrive(feed.tenant, Statement::Write).await?;
        Ok(self.with(feed.tenant, |draft, base, effects| {
            let Some(row) = draft.reread(base, feed, errand) else { return false };
            let counts = match run {
                Some(run) => row.now.run == run,
                None => row.started_at.is_some() && row.finished_at.is_none(),
            };
            if counts {
                effects.tallied = Some((feed, errand));
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
        Ok(self.with(feed.tenant, |draft, base, _| writes::reconcile(draft, base, feed, errand, comparison)))
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
