//! The store in memory is held to the same model as Postgres.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use domain::{AlertFacts, ContentHash, Epoch, Errand, Fence, TenantId, Ticks};
use sink::Config;
use sink::store::{Feed, Item};
use sink::testing::{
    EventLine, Extent, FeedLine, GapLine, IncidentLine, LatestLine, QuarantineLine, ReconciliationLine, RereadLine, Snapshot, VersionKey,
    VersionLine, World, cut, model,
};
use uuid::Uuid;

use super::memory::{Effects, Lease, Memory, MemoryStore, Obstacle, Statement, Surroundings};
use super::rows::{AlertRow, RereadRow};
use crate::time::Ms;

/// A world in which nothing goes wrong and every look at the clock is another time.
#[derive(Default)]
struct Still {
    clock: AtomicI64,
}

#[async_trait]
impl Surroundings for Still {
    fn now(&self) -> Ms {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    async fn pass(&self, _: Statement) -> Result<(), Obstacle> {
        Ok(())
    }

    fn accepts(&self, _: ContentHash) -> bool {
        true
    }

    fn committed(&self, _: &Memory, _: &Effects) {}

    fn noted(&self, _: &Memory, _: &Item) {}
}

struct InMemory {
    store: MemoryStore,
    tenants: AtomicI64,
}

impl InMemory {
    fn new() -> Self {
        let around = Arc::new(Still::default());
        Self { store: MemoryStore { memory: Arc::new(Mutex::new(Memory::default())), around }, tenants: AtomicI64::new(1) }
    }
}

#[async_trait]
impl World for InMemory {
    type Store = MemoryStore;

    fn store(&self, _: &Config) -> MemoryStore {
        self.store.clone()
    }

    async fn tenant(&self) -> Fence {
        let number = self.tenants.fetch_add(1, Ordering::SeqCst);
        let tenant = TenantId(Uuid::from_u128(u128::from(number.unsigned_abs())));
        let mut memory = self.store.memory();
        memory.leases.insert(tenant, Lease { epoch: 1, expires: Ms::MAX, ..Lease::default() });
        memory.tenants.entry(tenant).or_default();
        Fence { tenant, epoch: Epoch(1) }
    }

    async fn claim(&self, fence: Fence) -> Fence {
        let mut memory = self.store.memory();
        let lease = memory.leases.get_mut(&fence.tenant).expect("a lease");
        lease.epoch += 1;
        Fence { epoch: Epoch(lease.epoch), ..fence }
    }

    async fn ask(&self, feed: Feed, errand: Errand, stretch: (Ticks, Ticks), replace: bool) -> Option<i64> {
        let now = self.store.around.now();
        self.store.memory().ask(feed, errand, stretch, replace, now)
    }

    async fn cancel(&self, feed: Feed, errand: Errand) -> Option<i64> {
        let now = self.store.around.now();
        let mut memory = self.store.memory();
        let row = memory.tenants.entry(feed.tenant).or_default().rereads.get_mut(&(feed.source, errand))?;
        if row.finished_at.is_some() {
            return None;
        }
        (row.finished_at, row.cancelled_at) = (Some(now), Some(now));
        Some(row.now.run)
    }

    async fn want_replay(&self, feed: Feed) {
        let now = self.store.around.now();
        self.store.memory().want_replay(feed, now);
    }

    async fn snapshot(&self, tenant: TenantId) -> Snapshot {
        let memory = self.store.memory();
        memory.tenants.get(&tenant).map_or_else(Snapshot::default, snapshot)
    }
}

/// As Postgres keeps a text.
fn kept(text: Option<&String>) -> Option<String> {
    text.map(|text| text.replace('\0', "\u{FFFD}"))
}

fn latest(row: &AlertRow) -> LatestLine {
    let facts = &row.facts;
    let facts = AlertFacts {
        incident_id: kept(facts.incident_id.as_ref()),
        title: kept(facts.title.as_ref()),
        severity: kept(facts.severity.as_ref()),
        status: kept(facts.status.as_ref()),
        service_source: kept(facts.service_source.as_ref()),
        detection_source: kept(facts.detection_source.as_ref()),
        category: kept(facts.category.as_ref()),
        assigned_to: kept(facts.assigned_to.as_ref()),
        classification: kept(facts.classification.as_ref()),
        determination: kept(facts.determination.as_ref()),
    };
    LatestLine { source: row.source, hash: row.hash, filed: row.filed, ticks: row.rank.0, facts, version_count: row.versions }
}

fn snapshot(tables: &super::Tables) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (source, by_id) in &tables.versions {
        for (alert, row) in by_id.iter().flat_map(|(id, rows)| rows.iter().map(move |row| (id, row))) {
            let key = VersionKey { source: *source, alert: alert.clone(), hash: row.hash, filed: row.filed };
            let line = VersionLine { number: row.number, last_update_text: kept(row.last_update_text.as_ref()), raw: row.raw.to_string() };
            snapshot.versions.insert(key, line);
        }
    }
    snapshot.latest = tables.alerts.iter().map(|(id, row)| (id.clone(), latest(row))).collect();
    let mut events: Vec<_> = tables.events.iter().collect();
    events.sort_by_key(|row| (&row.alert, row.seen_at, row.field));
    snapshot.events = events
        .into_iter()
        .map(|row| EventLine {
            alert: row.alert.clone(),
            field: row.field.to_owned(),
            old: row.old.clone(),
            new: row.new.clone(),
            changed_at: cut(row.changed_at),
            source: row.source,
        })
        .collect();
    for (id, row) in &tables.incidents {
        let [title, severity, status] = row.words.each_ref().map(|word| kept(word.as_ref()));
        let (redirect, raw) = (row.redirect.clone(), row.raw.to_string());
        snapshot.incidents.insert(id.clone(), IncidentLine { hash: row.hash, ticks: row.ticks, redirect, title, severity, status, raw });
    }
    snapshot.redirects = tables.ends.clone();
    for (source, row) in &tables.feeds {
        let line = FeedLine {
            watermark: row.watermark,
            caught_up: row.news.caught_up,
            last_attempt: cut(row.news.attempted_at),
            last_success: cut(row.news.succeeded_at),
            error: kept(row.news.error.as_ref()),
            throttled_until: cut(row.news.throttled_until),
            order: row.news.order,
            quarantined: row.quarantined,
        };
        snapshot.feeds.insert(*source, line);
    }
    snapshot.rereads = tables.rereads.iter().map(|(key, row)| (*key, reread(row))).collect();
    for (key, row) in &tables.gaps {
        let reason = kept(Some(&row.reason)).unwrap_or_default();
        snapshot.gaps.insert(*key, GapLine { axis: row.axis, kind: row.kind, reason, healed: row.healed_at.is_some() });
    }
    for (key, row) in &tables.quarantine {
        let due = row.replayed_at.is_none() && row.replay_at.is_some_and(|asked| row.tried_at.is_none_or(|tried| tried < asked));
        let reason = kept(Some(&row.reason)).unwrap_or_default();
        snapshot.quarantine.insert(*key, QuarantineLine { reason, raw: row.raw.clone(), due, replayed: row.replayed_at.is_some() });
    }
    snapshot.reconciliations = tables
        .reconciliations
        .iter()
        .map(|row| ReconciliationLine {
            source: row.source,
            asked_by: if row.by_operator { "operator" } else { "nightly" }.to_owned(),
            run: row.run,
            stretch: row.stretch,
            counts: row.counts,
            ids: row.ids.clone(),
        })
        .collect();
    snapshot.reconciliations.sort_by_key(|row| row.source);
    snapshot
}

fn reread(row: &RereadRow) -> RereadLine {
    RereadLine {
        run: row.now.run,
        axis: row.now.axis,
        from: row.now.from,
        to: row.now.to,
        left: row.now.left,
        polled_before: row.now.polled_before,
        asked: row.asked_at.is_some(),
        started: row.started_at.is_some(),
        finished: row.finished_at.is_some(),
        cancelled: row.cancelled_at.is_some(),
        records: row.records,
        new: row.new,
        updated: row.updated,
        late: row.late,
        missing: row.missing.clone(),
        changed: row.changed.clone(),
    }
}

#[tokio::test]
async fn the_store_in_memory_keeps_to_the_model_that_postgres_keeps_to() {
    model(&InMemory::new(), Extent { cases: 400, steps: 64, seed: 1 }).await;
}
