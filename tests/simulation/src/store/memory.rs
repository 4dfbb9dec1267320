//! The database as a whole: who excludes whom, leases, and what a commit comes to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domain::{Axis, ContentHash, Errand, Fence, Reread, TenantId, Ticks};
use sink::store::{Ahead, Feed, Item, Noted, Store, StoreError};

use super::rows::RereadRow;
use super::tables::{GapKey, Tables};
use super::tx::Tx;
use super::writes::fresh_reread;
use crate::time::{Ms, SECOND, span};

/// A transaction that does nothing for so long is ended by the server.
const IDLE: Ms = 2 * SECOND;
/// A statement waits for so long for somebody else's rows.
const LOCK_WAIT: Ms = 2 * SECOND;

/// What a statement does, for whoever lets statements fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    Begin,
    Read,
    Write,
    Commit,
    Note,
}

/// What came in the way of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// The database cannot be reached.
    Away,
    /// It answers and refuses.
    Refused,
    /// Somebody else was first.
    Contention,
    /// It does what it is told, and its answer is lost.
    AnswerLost,
    /// It refuses the data of this record, and will every time.
    Data,
}

impl From<Obstacle> for StoreError {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Away | Obstacle::AnswerLost => Self::Away("simulated".to_owned()),
            Obstacle::Refused => Self::Refused("simulated: read-only".to_owned()),
            Obstacle::Contention => Self::Contention("simulated: deadlock".to_owned()),
            Obstacle::Data => Self::Data { code: "22P05".to_owned(), message: "simulated".to_owned() },
        }
    }
}

/// Who uses the database, and what stands between them.
#[async_trait]
pub(crate) trait Surroundings: Send + Sync + 'static {
    /// By the clock of the database.
    fn now(&self) -> Ms;

    /// A statement is on its way.
    async fn pass(&self, statement: Statement) -> Result<(), Obstacle>;

    /// The data of a version with this body is on its way.
    fn accepts(&self, hash: ContentHash) -> bool;

    /// It is committed. Called while nobody else can write.
    fn committed(&self, memory: &Memory, effects: &Effects);

    /// News is written. Likewise.
    fn noted(&self, memory: &Memory, item: &Item);
}

/// A lease on a tenant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lease {
    /// Which process holds it, if one does.
    pub(crate) holder: Option<u64>,
    /// Who claimed it last.
    pub(crate) claimed_by: u64,
    pub(crate) epoch: i64,
    pub(crate) expires: Ms,
}

#[derive(Debug)]
struct Lock {
    tx: u64,
    last_heard: Ms,
}

/// The database.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) tenants: BTreeMap<TenantId, Tables>,
    pub(crate) leases: BTreeMap<TenantId, Lease>,
    locks: BTreeMap<TenantId, Lock>,
    transactions: u64,
}

/// What a commit has changed.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) tenant: Option<TenantId>,
    /// What the transaction proved of its right to write.
    pub(crate) fence: Option<Fence>,
    pub(crate) versions: Vec<(Feed, String, ContentHash)>,
    /// Alerts of which the latest state changed: the values before, if there were some.
    pub(crate) latest: Vec<(String, Option<sink::store::Judgement>)>,
    /// Incidents written, with the stamp that stood before.
    pub(crate) incidents: Vec<(String, ContentHash, Option<i64>, i64)>,
    pub(crate) quarantined: Vec<(Feed, ContentHash)>,
    /// First contact: the first watermark.
    pub(crate) began: Option<(Feed, Ticks)>,
    /// The watermark before and after.
    pub(crate) cursor: Option<(Feed, Option<Ticks>, Ticks)>,
    pub(crate) gaps: Vec<GapKey>,
    pub(crate) rereads: Vec<(Feed, Errand)>,
    /// The re-read to which the records of the batch were counted.
    pub(crate) tallied: Option<(Feed, Errand)>,
    /// Observed changes: alert, field, new value.
    pub(crate) events: Vec<(String, &'static str, Option<String>)>,
}

impl Memory {
    /// Tries to be the only one who writes for a tenant. `false` while somebody else is.
    fn lock(&mut self, tenant: TenantId, tx: u64, now: Ms) -> bool {
        match self.locks.get(&tenant) {
            Some(lock) if lock.tx != tx && now < lock.last_heard + IDLE => false,
            _ => {
                self.locks.insert(tenant, Lock { tx, last_heard: now });
                true
            }
        }
    }

    /// Whether the transaction still has the tenant to itself; if so it has been heard of now.
    pub(super) fn holds(&mut self, tenant: TenantId, tx: u64, now: Ms) -> bool {
        match self.locks.get_mut(&tenant).filter(|lock| lock.tx == tx) {
            Some(lock) => {
                lock.last_heard = lock.last_heard.max(now);
                true
            }
            None => false,
        }
    }

    pub(super) fn unlock(&mut self, tenant: TenantId, tx: u64) {
        if self.locks.get(&tenant).is_some_and(|lock| lock.tx == tx) {
            self.locks.remove(&tenant);
        }
    }

    /// Whether a claim of the lease has to wait for a writer.
    pub(crate) fn is_written(&self, tenant: TenantId, now: Ms) -> bool {
        self.locks.get(&tenant).is_some_and(|lock| now < lock.last_heard + IDLE)
    }

    /// A command asks for a re-read, unless one is open that is not to be replaced. Says which run it is.
    pub(crate) fn ask(&mut self, feed: Feed, errand: Errand, (from, to): (Ticks, Ticks), replace: bool, now: Ms) -> Option<i64> {
        let rereads = &mut self.tenants.entry(feed.tenant).or_default().rereads;
        let run = match rereads.get(&(feed.source, errand)) {
            Some(row) if row.finished_at.is_none() && !replace => return None,
            Some(row) => row.now.run + 1,
            None => 1,
        };
        let asked = Reread { errand, run, axis: Axis::Update, from, to, left: to, polled_before: to, finished_at: None };
        rereads.insert((feed.source, errand), RereadRow { asked_at: Some(now), ..fresh_reread(asked, None) });
        Some(run)
    }

    /// A re-read ended long ago.
    pub(crate) fn finished_before(&mut self, feed: Feed, row: Reread, at: Ms) {
        let errand = row.errand;
        let row = RereadRow { finished_at: Some(at), ..fresh_reread(row, Some(at)) };
        self.tenants.entry(feed.tenant).or_default().rereads.insert((feed.source, errand), row);
    }

    /// A command marks all quarantine of a feed to be tried again.
    pub(crate) fn want_replay(&mut self, feed: Feed, now: Ms) {
        let rows = &mut self.tenants.entry(feed.tenant).or_default().quarantine;
        for ((_, _), row) in rows.iter_mut().filter(|((source, _), row)| *source == feed.source && row.replayed_at.is_none()) {
            row.replay_at = Some(now);
        }
    }

    /// Whether a lease generation still stands.
    pub(crate) fn stands(&self, fence: Fence) -> bool {
        self.leases.get(&fence.tenant).is_some_and(|lease| lease.epoch == fence.epoch.0)
    }
}

/// The database, as one process uses it.
#[derive(Clone)]
pub(crate) struct MemoryStore {
    pub(crate) memory: Arc<Mutex<Memory>>,
    pub(crate) around: Arc<dyn Surroundings>,
}

impl MemoryStore {
    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a transaction has a tenant to itself.
    pub(super) async fn exclude_others(&self, tenant: TenantId, tx: u64) -> Result<(), StoreError> {
        const LOOK_AGAIN: Ms = 50;
        let mut waited = 0;
        while !self.memory().lock(tenant, tx, self.around.now()) {
            if waited >= LOCK_WAIT {
                return Err(StoreError::Contention("simulated: lock not available".to_owned()));
            }
            tokio::time::sleep(span(LOOK_AGAIN)).await;
            waited += LOOK_AGAIN;
        }
        Ok(())
    }
}

#[async_trait]
impl Store for MemoryStore {
    type Tx = Tx;

    async fn begin(&self, _: Ahead<'_>) -> Result<Tx, StoreError> {
        self.around.pass(Statement::Begin).await?;
        let mut memory = self.memory();
        memory.transactions += 1;
        Ok(Tx::new(self.clone(), memory.transactions))
    }

    async fn note(&self, news: &[Item]) -> Result<Noted, StoreError> {
        self.around.pass(Statement::Note).await?;
        let now = self.around.now();
        let mut memory = self.memory();
        let mut noted = Noted::default();
        for (place, item) in news.iter().enumerate() {
            if !memory.stands(item.fence) {
                continue;
            }
            if memory.is_written(item.fence.tenant, now) {
                noted.later.push(place);
                continue;
            }
            let row = memory.tenants.entry(item.fence.tenant).or_default().feeds.entry(item.source).or_default();
            row.news.attempted_at = Some(item.attempted_at);
            row.news.succeeded_at = item.succeeded_at.or(row.news.succeeded_at);
            row.news.caught_up = row.news.caught_up.max(item.caught_up);
            row.news.error.clone_from(&item.error);
            row.news.throttled_until = item.throttled_until;
            row.news.order = item.order;
            noted.written += 1;
            self.around.noted(&memory, item);
        }
        Ok(noted)
    }
}
