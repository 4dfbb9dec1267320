//! The commit protocol: one transaction for one part of a batch, whatever stands behind the seam.

use std::collections::BTreeSet;

use domain::rehearsal::{bug, point};
use domain::{AlertBatch, Axis, Committed, CursorMove, Errand, Gap, Purpose, RereadMove, Ticks};

use crate::parts::{Part, Sorted};
use crate::plan::plan;
use crate::store::{Ahead, Alert, Feed, Incident, Known, Store, StoreError, StoreTx, Tally};
use crate::{judged, merge};

/// What a transaction came to, for the acknowledgement and the metrics.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) committed: Committed,
    /// Gaps that were not known before.
    pub(crate) gaps: u64,
    /// The last-update stamps of what was new or had a new version.
    pub(crate) written: Vec<Option<Ticks>>,
    /// The re-read that came to its end.
    pub(crate) finished: Option<Errand>,
    /// What a comparison came to: missing, changed, only stored.
    pub(crate) differences: Option<[u64; 3]>,
}

/// Stores a part of a batch, or nothing. When it is `thorough`, what the database knows is asked for as if somebody had
/// deleted something of it by hand.
///
/// # Errors
/// Any [`StoreError`]; the transaction is then rolled back. When the answer to COMMIT is lost the error
/// is [`StoreError::Away`] although everything may be stored: trying again finds out, and is harmless.
pub(crate) async fn store<S: Store>(
    store: &S,
    batch: &AlertBatch,
    part: &Part,
    sorted: &Sorted<'_>,
    now: Ticks,
    thorough: bool,
) -> Result<Stored, StoreError> {
    let created: Vec<Ticks> = sorted.alerts.iter().filter_map(|alert| alert.record.created).collect();
    point("commit.begin").await?;
    if bug("cursor-before-commit") && part.tail && !part.records.is_empty() {
        let ahead = Ahead { created: &created, now };
        let mut tx = store.begin(ahead).await?;
        let early = cursor(&mut tx, batch, &mut Stored::default(), &Tally::default()).await;
        end(tx, early).await?;
    }
    let mut tx = store.begin(Ahead { created: &created, now }).await?;
    let outcome = write(&mut tx, batch, part, sorted, thorough).await;
    let stored = end(tx, outcome).await?;
    point("commit.after").await?;
    Ok(stored)
}

async fn end<T>(tx: impl StoreTx, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
    match outcome {
        Ok(value) => tx.commit().await.map(|()| value),
        Err(error) => {
            tx.rollback().await;
            Err(error)
        }
    }
}

async fn write<T: StoreTx>(tx: &mut T, batch: &AlertBatch, part: &Part, sorted: &Sorted<'_>, thorough: bool) -> Result<Stored, StoreError> {
    let feed = feed(batch);
    let mut stored = Stored::default();
    let mut tally = Tally { records: part.records.len() as u64, ..Tally::default() };

    // 1. The right to write.
    if !bug("fence-removed") {
        tx.hold(batch.fence).await?;
    }
    point("commit.fence").await?;

    // 2. The alerts and incidents.
    if !sorted.alerts.is_empty() {
        alerts(tx, feed, &sorted.alerts, thorough, &mut stored, &mut tally).await?;
    }
    if !sorted.incidents.is_empty() {
        incidents(tx, feed, &sorted.incidents, &mut stored, &mut tally).await?;
    }
    tally.new = stored.committed.new;
    tally.updated = stored.committed.updated;
    if let Purpose::Reread { polled_before, .. } = batch.purpose {
        tally.late = stored.written.iter().filter(|stamp| stamp.is_none_or(|stamp| stamp < polled_before)).count() as u64;
    }

    // 3. Deliveries to other systems belong here: rows of an outbox, written for every new version in this same
    //    transaction, so that an alert and its deliveries are committed together or not at all. There are none yet.

    // 4. What could not be stored or read.
    quarantine(tx, feed, batch.purpose, sorted, &mut stored).await?;

    // 5. At the very end the cursor that passes over all of it.
    point("cursor.before").await?;
    if part.tail {
        cursor(tx, batch, &mut stored, &tally).await?;
    } else {
        count(tx, feed, batch.purpose, None, &mut stored.committed, &tally).await?;
    }
    point("cursor.after").await?;
    stored.committed.late = tally.late;
    point("commit.before").await?;
    Ok(stored)
}

fn feed(batch: &AlertBatch) -> Feed {
    Feed { tenant: batch.fence.tenant, source: batch.source }
}

async fn alerts<'a, T: StoreTx>(
    tx: &mut T,
    feed: Feed,
    alerts: &[Alert<'a>],
    thorough: bool,
    stored: &mut Stored,
    tally: &mut Tally<'a>,
) -> Result<(), StoreError> {
    // Ask before you send: a re-read page costs its ids and hashes.
    let mut known = tx.look_up(feed, alerts, thorough).await?;
    point("commit.looked-up").await?;
    if bug("dedupe-by-id-only") {
        known.iter_mut().for_each(pretend_known);
    }
    let plan = plan(alerts, &known, feed.source.rank());
    stored.committed.duplicate = plan.duplicate;

    // Every version not yet known, also one that is older than what stands.
    if !plan.versions.is_empty() {
        tx.insert_versions(feed, alerts, &plan.versions).await?;
        stored.written = plan.versions.iter().map(|version| alerts[version.0].record.last_update).collect();
    }
    point("commit.versions").await?;

    // The latest state, and what changed with it.
    let mut fresh = BTreeSet::new();
    if !plan.latest.is_empty() {
        let taken = tx.put_latest(feed, alerts, &plan.latest).await?;
        let alert = |offer: usize| alerts[plan.latest[offer].record].id();
        fresh = taken.iter().filter(|taken| taken.before.is_none()).map(|taken| alert(taken.offer)).collect();
        let events = judged::events(alerts, &plan.latest, &taken);
        if !events.is_empty() {
            tx.add_events(feed, &events).await?;
        }
    }
    point("commit.latest").await?;
    let changed: BTreeSet<_> = plan.versions.iter().map(|version| alerts[version.0].id()).filter(|id| !fresh.contains(id)).collect();
    stored.committed.new = fresh.len() as u64;
    stored.committed.updated = (plan.versions.len() as u64).saturating_sub(stored.committed.new);
    tally.missing.extend(fresh);
    tally.changed.extend(changed);
    Ok(())
}

/// A planted bug: whoever knows the id believes to know the alert.
fn pretend_known(known: &mut Known) {
    if let Some(standing) = &mut known.standing {
        known.stored = true;
        standing.same = true;
    }
}

async fn incidents<'a, T: StoreTx>(
    tx: &mut T,
    feed: Feed,
    incidents: &[Incident<'a>],
    stored: &mut Stored,
    tally: &mut Tally<'a>,
) -> Result<(), StoreError> {
    let known = tx.look_up_incidents(feed.tenant, incidents).await?;
    let plan = merge::plan(incidents, &known);
    if !plan.put.is_empty() {
        tx.put_incidents(feed.tenant, incidents, &plan.put).await?;
        stored.written.extend(plan.put.iter().map(|at| incidents[*at].record.last_update));
    }
    if !plan.turned.is_empty() {
        let ends = merge::settle(&tx.links(feed.tenant, &plan.turned).await?);
        if !ends.is_empty() {
            tx.put_ends(feed.tenant, &ends).await?;
        }
    }
    stored.committed.new += plan.new.len() as u64;
    stored.committed.updated += plan.updated.len() as u64;
    stored.committed.duplicate += plan.duplicate;
    tally.missing.extend(plan.new);
    tally.changed.extend(plan.updated);
    Ok(())
}

async fn quarantine<T: StoreTx>(
    tx: &mut T,
    feed: Feed,
    purpose: Purpose,
    sorted: &Sorted<'_>,
    stored: &mut Stored,
) -> Result<(), StoreError> {
    if !sorted.rejected.is_empty() {
        stored.committed.quarantined = tx.quarantine(feed, &sorted.rejected).await?;
    }
    let mut change = i64::try_from(stored.committed.quarantined).unwrap_or(i64::MAX);
    if matches!(purpose, Purpose::Reread { errand: Errand::Replay, .. }) {
        let alerts = sorted.alerts.iter().map(|alert| alert.record.hash);
        let understood: Vec<_> = alerts.chain(sorted.incidents.iter().map(|incident| incident.record.hash)).collect();
        let refused: Vec<_> = sorted.rejected.iter().map(|rejected| rejected.hash).collect();
        let replayed = tx.replayed(feed, &understood, &refused).await?;
        change -= i64::try_from(replayed).unwrap_or(i64::MAX);
    }
    if change != 0 {
        tx.count_quarantined(feed, change).await?;
    }
    Ok(())
}

/// What a batch says about its feed.
async fn cursor<T: StoreTx>(tx: &mut T, batch: &AlertBatch, stored: &mut Stored, tally: &Tally<'_>) -> Result<(), StoreError> {
    let (feed, gaps) = (feed(batch), batch.gaps.as_slice());
    let mut run = None;
    let mut axis = Axis::Update;
    match &batch.cursor {
        None => {}
        Some(CursorMove::Begin { live_from, history_from }) => tx.begin_feed(feed, *live_from, *history_from).await?,
        Some(CursorMove::Live { from, watermark }) => stored.committed.void = !tx.advance(feed, *from, *watermark).await?,
        Some(CursorMove::Reread(to)) => {
            axis = to.now.axis;
            run = Some(reread(tx, feed, to, gaps, stored).await?);
        }
    }
    if !gaps.is_empty() {
        stored.gaps = tx.add_gaps(feed, axis, gaps).await?;
    }
    count(tx, feed, batch.purpose, run, &mut stored.committed, tally).await?;
    if let (Some(Some(_)), Some(CursorMove::Reread(to))) = (run, &batch.cursor) {
        if let Some(comparison) = &to.comparison {
            let (missing, changed) = tx.reconcile(feed, to.now.errand, comparison).await?;
            stored.differences = Some([missing, changed, comparison.only_stored_count]);
        }
        stored.finished = to.now.finished_at.is_some().then_some(to.now.errand);
    }
    Ok(())
}

/// Moves a re-read. Returns its run, or `None` when it is void.
async fn reread<T: StoreTx>(
    tx: &mut T,
    feed: Feed,
    to: &RereadMove,
    noticed: &[Gap],
    stored: &mut Stored,
) -> Result<Option<i64>, StoreError> {
    if !tx.move_reread(feed, to.before, &to.now).await? {
        stored.committed.void = true;
        return Ok(None);
    }
    if let Some(whole) = to.whole {
        tx.heal_gaps(feed, to.now.axis, whole, noticed).await?;
    }
    Ok(Some(to.now.run))
}

/// Counts in the row of the re-read that the records were read for. `run` says what became of the move that came with
/// them, if one did: a void one counts nowhere.
async fn count<T: StoreTx>(
    tx: &mut T,
    feed: Feed,
    purpose: Purpose,
    run: Option<Option<i64>>,
    committed: &mut Committed,
    tally: &Tally<'_>,
) -> Result<(), StoreError> {
    let Purpose::Reread { errand, .. } = purpose else { return Ok(()) };
    if tally.records == 0 || run == Some(None) {
        return Ok(());
    }
    if !tx.tally(feed, errand, run.flatten(), tally).await? {
        committed.void = true;
    }
    Ok(())
}
