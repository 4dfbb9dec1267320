//! What is stored. It outlives pollers, and refuses to take a cursor or a re-read that has passed an alert which is not
//! stored (I1).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::ports::{Cursors, StoreUnavailable, StoredId};
use domain::{
    AlertId, Axis, Committed, Comparison, ContentHash, CursorMove, Epoch, Errand, FeedProgress, FeedState, Gap, Purpose, Record, Refusal,
    Reread, RereadMove, SinkMessage, Source, TenantId, Ticks,
};
use tokio::time::Instant;

use super::cloud::Cloud;
use super::{WorldClock, lock, tenant};

/// A feed.
type Key = (TenantId, Source);

/// The stamps of every version of each alert.
type Versions = HashMap<String, BTreeSet<Option<Ticks>>>;

/// What one batch was.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) tenant: TenantId,
    pub(crate) at: Instant,
    pub(crate) epoch: Epoch,
    pub(crate) records: usize,
    pub(crate) purpose: Purpose,
    pub(crate) cursor: Option<CursorMove>,
}

/// A row of `tocsin.reread`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) reread: Reread,
    pub(crate) asked: bool,
    /// A poller has written that it has begun.
    pub(crate) begun: bool,
    pub(crate) new: u64,
    pub(crate) updated: u64,
    pub(crate) late: u64,
}

/// A body in quarantine.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) raw: Bytes,
    pub(crate) wanted: bool,
    pub(crate) tried: bool,
    pub(crate) replayed: bool,
}

#[derive(Default)]
pub(crate) struct Store {
    pub(super) cloud: Arc<Cloud>,
    pub(crate) feeds: Mutex<HashMap<Key, FeedState>>,
    pub(crate) rereads: Mutex<BTreeMap<(TenantId, Source, Errand), Row>>,
    /// Every version of every alert.
    pub(crate) versions: Mutex<HashMap<TenantId, Versions>>,
    /// The latest state of each alert.
    pub(crate) latest: Mutex<HashMap<Key, BTreeMap<String, Option<Ticks>>>>,
    pub(crate) quarantine: Mutex<Vec<Kept>>,
    pub(crate) comparisons: Mutex<Vec<(TenantId, Row, Comparison)>>,
    pub(crate) gaps: Mutex<Vec<Gap>>,
    pub(crate) batches: Mutex<Vec<Taken>>,
    pub(crate) progress: Mutex<Vec<(Instant, FeedProgress)>>,
    pub(crate) read: AtomicUsize,
    pub(crate) asked: AtomicUsize,
    pub(crate) loaded: AtomicUsize,
    /// What was tried in vain is given out again.
    pub(crate) stubborn: Mutex<bool>,
    /// Batches are taken and not answered.
    pub(crate) stalled: Mutex<bool>,
    /// Batches under another epoch are refused.
    pub(crate) epochs: Mutex<HashMap<TenantId, Epoch>>,
    /// Ends are by the database's clock, which is right.
    pub(super) clock: Mutex<Option<WorldClock>>,
    /// Questions are not answered.
    pub(crate) away: Mutex<bool>,
    /// What is stored is not listed.
    pub(crate) lists_nothing: Mutex<bool>,
    /// How long it takes to say what is to be read again.
    pub(crate) takes: Mutex<Duration>,
}

impl Store {
    fn reachable(&self) -> Result<(), StoreUnavailable> {
        if *lock(&self.away) { Err(StoreUnavailable("away".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl Cursors for Store {
    async fn feed_state(&self, tenant: TenantId, source: Source) -> Result<FeedState, StoreUnavailable> {
        self.reachable()?;
        self.read.fetch_add(1, Ordering::SeqCst);
        Ok(lock(&self.feeds).get(&(tenant, source)).cloned().unwrap_or_default())
    }

    async fn rereads(&self, tenant: TenantId, source: Source) -> Result<Vec<Reread>, StoreUnavailable> {
        self.reachable()?;
        let takes = *lock(&self.takes);
        tokio::time::sleep(takes).await;
        self.loaded.fetch_add(1, Ordering::SeqCst);
        let rows = lock(&self.rereads);
        Ok(rows.iter().filter(|(key, _)| (key.0, key.1) == (tenant, source)).map(|(_, row)| row.reread.clone()).collect())
    }

    async fn asked_for(&self) -> Result<Vec<(TenantId, Source, Errand, i64)>, StoreUnavailable> {
        self.reachable()?;
        self.asked.fetch_add(1, Ordering::SeqCst);
        let rows = lock(&self.rereads);
        let open = rows.iter().filter(|(_, row)| row.asked && row.reread.finished_at.is_none());
        Ok(open.map(|(key, row)| (key.0, key.1, key.2, row.reread.run)).collect())
    }

    async fn stored_between(&self, tenant: TenantId, source: Source, from: Ticks, to: Ticks) -> Result<Vec<StoredId>, StoreUnavailable> {
        self.reachable()?;
        if *lock(&self.lists_nothing) {
            return Err(StoreUnavailable("too much to list".to_owned()));
        }
        let latest = lock(&self.latest);
        let stored = latest.get(&(tenant, source)).into_iter().flatten();
        let from_then_on = stored.filter(|(_, stamp)| stamp.is_some_and(|stamp| stamp >= from));
        Ok(from_then_on.map(|(id, stamp)| StoredId { id: AlertId::new(id.clone()), due: *stamp < Some(to) }).collect())
    }

    async fn to_replay(&self, _: TenantId, _: Source, limit: u32) -> Result<Vec<Bytes>, StoreUnavailable> {
        self.reachable()?;
        let (kept, stubborn) = (lock(&self.quarantine), *lock(&self.stubborn));
        let wanted = kept.iter().filter(|kept| kept.wanted && !kept.replayed && (stubborn || !kept.tried)).map(|kept| kept.raw.clone());
        Ok(wanted.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect())
    }
}

impl Store {
    pub(super) fn take(&self, message: SinkMessage, held: &mut Vec<SinkMessage>) {
        let batch = match message {
            SinkMessage::Progress(progress) => {
                lock(&self.progress).push((Instant::now(), progress));
                return;
            }
            SinkMessage::Batch(batch) if *lock(&self.stalled) => {
                held.push(SinkMessage::Batch(batch));
                return;
            }
            SinkMessage::Batch(batch) => batch,
        };
        let tenant = batch.fence.tenant;
        if lock(&self.epochs).get(&tenant).is_some_and(|epoch| *epoch != batch.fence.epoch) {
            let _ = batch.ack.send(Err(Refusal::LeaseLost));
            return;
        }
        let (epoch, purpose, cursor) = (batch.fence.epoch, batch.purpose, batch.cursor.clone());
        lock(&self.batches).push(Taken { tenant, at: Instant::now(), epoch, records: batch.records.len(), purpose, cursor });
        let key = (tenant, batch.source);
        let mut committed = Committed::default();
        if let Purpose::Reread { errand, .. } = batch.purpose
            && !batch.records.is_empty()
        {
            let begun = lock(&self.rereads).get(&(tenant, batch.source, errand)).is_some_and(|row| row.begun);
            assert!(begun, "{errand} of {tenant} brings records before it has begun: the first slice of a page would not be counted");
        }
        for record in &batch.records {
            self.store(key, record, batch.purpose, &mut committed);
        }
        lock(&self.gaps).extend(batch.gaps);
        match &batch.cursor {
            None => {}
            Some(CursorMove::Begin { live_from, history_from }) => self.begin(key, *live_from, *history_from),
            Some(CursorMove::Live { from, watermark }) => committed.void = !self.advance(key, *from, *watermark),
            Some(CursorMove::Reread(reread)) => committed.void = !self.reread(key, reread),
        }
        if let Purpose::Reread { errand, .. } = batch.purpose {
            let mut rows = lock(&self.rereads);
            let row = rows.get_mut(&(tenant, batch.source, errand)).expect("there is a row");
            row.new += committed.new;
            row.updated += committed.updated;
            row.late += committed.late;
            if let Some(CursorMove::Reread(RereadMove { comparison: Some(comparison), .. })) = batch.cursor {
                lock(&self.comparisons).push((tenant, row.clone(), comparison));
            }
        }
        let _ = batch.ack.send(Ok(committed));
    }

    fn store(&self, key: Key, record: &Record, purpose: Purpose, committed: &mut Committed) {
        let (id, stamp, hash) = match record {
            Record::Alert(alert) => (alert.id.as_str().to_owned(), alert.last_update, alert.hash),
            Record::Incident(incident) => (incident.id.as_str().to_owned(), incident.last_update, incident.hash),
            Record::Poison(poison) => (String::new(), None, poison.hash),
        };
        let is_replay = matches!(purpose, Purpose::Reread { errand: Errand::Replay, .. });
        for kept in lock(&self.quarantine).iter_mut().filter(|kept| is_replay && ContentHash::of(&kept.raw) == hash) {
            (kept.tried, kept.replayed) = (true, !id.is_empty());
        }
        if id.is_empty() {
            return;
        }
        let mut latest = lock(&self.latest);
        let state = latest.entry(key).or_default();
        let is_known = state.contains_key(&id);
        if state.get(&id).is_none_or(|before| *before <= stamp) {
            state.insert(id.clone(), stamp);
        }
        if !lock(&self.versions).entry(key.0).or_default().entry(id).or_default().insert(stamp) {
            committed.duplicate += 1;
            return;
        }
        if is_known {
            committed.updated += 1;
        } else {
            committed.new += 1;
        }
        if let Purpose::Reread { polled_before, .. } = purpose
            && stamp.is_none_or(|stamp| stamp < polled_before)
        {
            committed.late += 1;
        }
    }

    fn begin(&self, key: Key, live_from: Ticks, history_from: Ticks) {
        let mut feeds = lock(&self.feeds);
        let state = feeds.entry(key).or_default();
        if state.watermark.is_some() {
            return;
        }
        state.watermark = Some(live_from);
        if history_from < live_from {
            let reread = Reread {
                errand: Errand::Backfill,
                run: 1,
                axis: Axis::Update,
                from: history_from,
                to: live_from,
                left: live_from,
                polled_before: live_from,
                finished_at: None,
            };
            let row = Row { reread, asked: false, begun: false, new: 0, updated: 0, late: 0 };
            lock(&self.rereads).entry((key.0, key.1, Errand::Backfill)).or_insert(row);
        }
    }

    /// `false` when it is void.
    fn advance(&self, key: Key, from: Ticks, watermark: Ticks) -> bool {
        let mut feeds = lock(&self.feeds);
        let state = feeds.entry(key).or_default();
        let before = state.watermark.expect("a feed begins before it moves");
        if before < from {
            return false;
        }
        let missing = self.missing_between(key.0, Axis::Update, before, watermark, Ticks(i64::MAX));
        assert!(missing.is_empty(), "the cursor of {} passed {missing:?}", key.0);
        state.watermark = Some(before.max(watermark));
        true
    }

    /// `false` when it is void.
    fn reread(&self, key: Key, RereadMove { now, before, whole, comparison }: &RereadMove) -> bool {
        let mut rows = lock(&self.rereads);
        let row_key = (key.0, key.1, now.errand);
        let finished_at = now.finished_at.and(lock(&self.clock).as_ref().map(WorldClock::truth));
        let reread = Reread { finished_at, ..now.clone() };
        let mut checked = now.to;
        if let Some((axis, left)) = before {
            let as_far = |row: &Reread| if row.axis == *axis { row.left <= *left } else { row.axis == Axis::Creation };
            if !rows.get(&row_key).is_some_and(|row| row.reread.run == now.run && row.reread.finished_at.is_none() && as_far(&row.reread)) {
                return false;
            }
        }
        match rows.get_mut(&row_key) {
            Some(row) if now.run == row.reread.run && row.reread.finished_at.is_none() => {
                if now.axis == row.reread.axis {
                    checked = row.reread.left.min(now.to);
                }
                row.reread = reread;
                row.begun = true;
            }
            Some(row) if now.run <= row.reread.run => return false,
            _ => {
                rows.insert(row_key, Row { reread, asked: false, begun: true, new: 0, updated: 0, late: 0 });
            }
        }
        let refused = now.axis == Axis::Creation && *lock(&self.cloud.creation_is_refused);
        if now.errand != Errand::Replay && !refused && comparison.is_none() {
            // A comparison leaves what polling has not come to yet to polling.
            let before = if now.errand.is_comparison() { now.polled_before } else { Ticks(i64::MAX) };
            let missing = self.missing_between(key.0, now.axis, now.left, checked, before);
            assert!(missing.is_empty(), "{} of {} passed {missing:?}", now.errand, key.0);
        }
        if let Some((from, to)) = *whole {
            assert!(from <= to && from == now.left, "{whole:?} of {now:?}");
        }
        true
    }

    /// An operator's command: the row that it writes.
    pub(crate) fn ask(&self, number: u32, errand: Errand, from: Ticks, to: Ticks) -> i64 {
        self.ask_of(number, Source::GraphAlerts, errand, from, to)
    }

    pub(crate) fn ask_of(&self, number: u32, source: Source, errand: Errand, from: Ticks, to: Ticks) -> i64 {
        let mut rows = lock(&self.rereads);
        let key = (tenant(number), source, errand);
        let run = rows.get(&key).map_or(1, |row| row.reread.run + 1);
        let reread = Reread { errand, run, axis: Axis::Update, from, to, left: to, polled_before: to, finished_at: None };
        rows.insert(key, Row { reread, asked: true, begun: false, new: 0, updated: 0, late: 0 });
        run
    }

    /// An operator's command: it is not to go on.
    pub(crate) fn cancel(&self, number: u32, errand: Errand, now: Ticks) {
        if let Some(row) = lock(&self.rereads).get_mut(&(tenant(number), Source::GraphAlerts, errand)) {
            row.reread.finished_at = Some(now);
        }
    }

    pub(crate) fn row(&self, number: u32, errand: Errand) -> Option<Row> {
        lock(&self.rereads).get(&(tenant(number), Source::GraphAlerts, errand)).cloned()
    }

    pub(crate) fn is_finished(&self, number: u32, errand: Errand) -> bool {
        self.row(number, errand).is_some_and(|row| row.reread.finished_at.is_some())
    }

    /// With a stamp in the stretch, and updated before that.
    fn missing_between(&self, tenant: TenantId, axis: Axis, from: Ticks, to: Ticks, before: Ticks) -> Vec<String> {
        let (shops, versions) = (lock(&self.cloud.shops), lock(&self.versions));
        let (alerts, stored) = (shops.get(&tenant).map(|shop| &shop.alerts), versions.get(&tenant));
        let is_stored =
            |id: &str, stamp: Option<Ticks>| stored.and_then(|stored| stored.get(id)).is_some_and(|stamps| stamps.contains(&stamp));
        let inside = |stamp: Option<Ticks>| stamp.is_some_and(|stamp| stamp >= from && stamp < to);
        let missing = alerts
            .into_iter()
            .flatten()
            .filter(|item| !item.late && item.updated < Some(before) && inside(item.stamp(axis)) && !is_stored(&item.id, item.updated));
        missing.map(|item| item.id.clone()).collect()
    }

    /// Ids at the source of which the present state is not stored.
    pub(crate) fn missing(&self, number: u32) -> Vec<String> {
        let (shops, versions) = (lock(&self.cloud.shops), lock(&self.versions));
        let stored = versions.get(&tenant(number));
        let alerts = shops.get(&tenant(number)).into_iter().flat_map(|shop| &shop.alerts);
        let missing =
            alerts.filter(|item| !stored.and_then(|stored| stored.get(&item.id)).is_some_and(|stamps| stamps.contains(&item.updated)));
        missing.map(|item| item.id.clone()).collect()
    }

    /// How many versions are stored.
    pub(crate) fn count(&self, number: u32) -> usize {
        lock(&self.versions).get(&tenant(number)).map_or(0, |stored| stored.values().map(BTreeSet::len).sum())
    }

    /// Loses an alert, as if it had never been stored.
    pub(crate) fn lose(&self, number: u32, id: &str) {
        lock(&self.versions).entry(tenant(number)).or_default().remove(id);
        lock(&self.latest).values_mut().for_each(|latest| {
            latest.remove(id);
        });
    }

    pub(crate) fn progress_of(&self, number: u32) -> Vec<(Instant, FeedProgress)> {
        lock(&self.progress).iter().filter(|(_, progress)| progress.fence.tenant == tenant(number)).cloned().collect()
    }

    pub(crate) fn batches_of(&self, number: u32) -> Vec<Taken> {
        lock(&self.batches).iter().filter(|batch| batch.tenant == tenant(number)).cloned().collect()
    }
}
