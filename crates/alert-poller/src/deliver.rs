//! Handing a page to the sink: in slices, one after the other, each acknowledged before the next.
//!
//! The cursor and the gaps travel with the last slice only. When the process dies in between, the cursor stands
//! before the page, and what was stored already is recognised when it is read again (I1, I3).

use domain::rehearsal::{bug, point};
use domain::{AlertBatch, Committed, CursorMove, Fence, Gap, Purpose, Record, Refusal, SinkMessage, Source};
use tokio::sync::{mpsc, oneshot};

/// A slice is one transaction; one larger record is one alone.
const SLICE_BYTES: usize = 3_000_000;

/// The page did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undelivered {
    /// Another replica holds the tenant, or the daemon is stopping: nothing known here counts any more.
    Refused,
    /// The sink is gone.
    SinkGone,
}

/// Where to, in whose name, and what for.
pub(crate) struct Address<'a> {
    pub(crate) sink: &'a mpsc::Sender<SinkMessage>,
    pub(crate) fence: Fence,
    pub(crate) source: Source,
    pub(crate) purpose: Purpose,
}

/// What is written with the last slice of a page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail {
    pub(crate) cursor: Option<CursorMove>,
    pub(crate) gaps: Vec<Gap>,
}

/// Sends the records of an answer and waits until all are durable. Nothing at all is not sent.
pub(crate) async fn deliver(address: &Address<'_>, records: Vec<Record>, tail: Tail) -> Result<Committed, Undelivered> {
    let mut total = Committed::default();
    let mut tail = Some(tail);
    let mut slices = cut(kept(records), SLICE_BYTES);
    if slices.is_empty() && tail.as_ref().is_some_and(|tail| tail.cursor.is_some() || !tail.gaps.is_empty()) {
        slices.push(Vec::new());
    }
    let count = slices.len();
    for (index, records) in slices.into_iter().enumerate() {
        let Tail { cursor, gaps } = if index + 1 == count { tail.take().unwrap_or_default() } else { Tail::default() };
        rehearse("deliver.before-slice").await?;
        let (ack, acknowledged) = oneshot::channel();
        let batch = AlertBatch { fence: address.fence, source: address.source, records, cursor, gaps, purpose: address.purpose, ack };
        address.sink.send(SinkMessage::Batch(batch)).await.map_err(|_| Undelivered::SinkGone)?;
        match acknowledged.await {
            Ok(Ok(committed)) => add(&mut total, committed),
            Ok(Err(Refusal::LeaseLost | Refusal::Stopping)) => return Err(Undelivered::Refused),
            Err(_) => return Err(Undelivered::SinkGone),
        }
        rehearse("deliver.acknowledged").await?;
    }
    Ok(total)
}

/// A rehearsed failure here looks like a refusal: what is remembered counts no more, and is read again.
async fn rehearse(name: &'static str) -> Result<(), Undelivered> {
    point(name).await.map_err(|_| Undelivered::Refused)
}

/// All of them, always: one record that nobody understands never stops its neighbours.
fn kept(records: Vec<Record>) -> Vec<Record> {
    let poisoned = || records.iter().any(|record| matches!(record, Record::Poison(_)));
    if bug("poison-drops-page") && poisoned() { Vec::new() } else { records }
}

/// Cuts records into slices of at most so many bytes and at least one record.
fn cut(records: Vec<Record>, max: usize) -> Vec<Vec<Record>> {
    let mut slices: Vec<Vec<Record>> = Vec::new();
    let mut size = 0;
    for record in records {
        size += record.len();
        match slices.last_mut() {
            Some(slice) if size <= max => slice.push(record),
            _ => {
                size = record.len();
                slices.push(vec![record]);
            }
        }
    }
    slices
}

fn add(total: &mut Committed, more: Committed) {
    total.new += more.new;
    total.updated += more.updated;
    total.duplicate += more.duplicate;
    total.quarantined += more.quarantined;
    total.late += more.late;
    total.void |= more.void;
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use domain::rehearsal::{Action, Rehearsal};
    use domain::{Epoch, GapKind, Poison, TenantId, Ticks};

    use super::*;

    fn record(bytes: usize) -> Record {
        Record::Poison(Poison::new("a test", Bytes::from(vec![b'x'; bytes])))
    }

    fn address(sink: &mpsc::Sender<SinkMessage>) -> Address<'_> {
        let fence = Fence { tenant: TenantId(uuid::Uuid::nil()), epoch: Epoch(1) };
        Address { sink, fence, source: Source::GraphAlerts, purpose: Purpose::Live { fresh: false } }
    }

    fn tail() -> Tail {
        let gap = Gap { from: Ticks(1), to: Ticks(1), kind: GapKind::Ties, reason: "a test".to_owned() };
        Tail { cursor: Some(CursorMove::Live { from: Ticks(1), watermark: Ticks(7) }), gaps: vec![gap] }
    }

    #[test]
    fn slices_are_small_keep_the_order_and_hold_at_least_one_record() {
        for (sizes, expected) in [
            (vec![], vec![]),
            (vec![10], vec![vec![10]]),
            (vec![1000], vec![vec![1000]]),
            (vec![60, 40, 1], vec![vec![60, 40], vec![1]]),
            (vec![1, 1000, 2, 3], vec![vec![1], vec![1000], vec![2, 3]]),
        ] {
            let slices = cut(sizes.into_iter().map(record).collect(), 100);
            let lengths: Vec<Vec<usize>> = slices.iter().map(|slice| slice.iter().map(Record::len).collect()).collect();
            assert_eq!(lengths, expected);
        }
    }

    #[tokio::test]
    async fn the_cursor_travels_with_the_last_slice_and_only_after_the_others_are_durable() {
        let (sink, mut inbox) = mpsc::channel(8);
        let records: Vec<_> = (0..3).map(|_| record(2_000_000)).collect();
        let delivering = tokio::spawn(async move { deliver(&address(&sink), records, tail()).await });
        for last in [false, false, true] {
            let Some(SinkMessage::Batch(batch)) = inbox.recv().await else { panic!("a batch is expected") };
            assert!(inbox.try_recv().is_err(), "nothing is sent before the acknowledgement");
            assert_eq!(batch.cursor.is_some(), last);
            assert_eq!(batch.gaps.len(), usize::from(last));
            batch.ack.send(Ok(Committed { new: 1, ..Committed::default() })).expect("somebody waits");
        }
        assert_eq!(delivering.await.expect("no panic").expect("delivered").new, 3);
    }

    #[tokio::test]
    async fn a_cursor_without_records_is_sent_and_nothing_at_all_is_not() {
        let (sink, mut inbox) = mpsc::channel(8);
        assert!(deliver(&address(&sink), Vec::new(), Tail::default()).await.is_ok());
        assert!(inbox.try_recv().is_err());
        let delivering = tokio::spawn(async move { deliver(&address(&sink), Vec::new(), tail()).await });
        let Some(SinkMessage::Batch(batch)) = inbox.recv().await else { panic!("a batch is expected") };
        batch.ack.send(Err(Refusal::LeaseLost)).expect("somebody waits");
        assert_eq!(delivering.await.expect("no panic"), Err(Undelivered::Refused));
    }

    #[tokio::test]
    async fn a_void_move_is_told_and_what_was_late_is_added_up() {
        let (sink, mut inbox) = mpsc::channel(8);
        let records: Vec<_> = (0..2).map(|_| record(2_000_000)).collect();
        let delivering = tokio::spawn(async move { deliver(&address(&sink), records, tail()).await });
        for void in [false, true] {
            let Some(SinkMessage::Batch(batch)) = inbox.recv().await else { panic!("a batch is expected") };
            batch.ack.send(Ok(Committed { late: 2, void, ..Committed::default() })).expect("somebody waits");
        }
        let total = delivering.await.expect("no panic").expect("delivered");
        assert_eq!((total.late, total.void), (4, true));
    }

    #[tokio::test]
    async fn rehearsed_failures_come_before_anything_is_sent_and_after_it_is_stored() {
        for (name, sent) in [("deliver.before-slice", false), ("deliver.acknowledged", true)] {
            Rehearsal::default().at(name, Action::Error, Some(1)).begin();
            let (sink, mut inbox) = mpsc::channel(8);
            let address = address(&sink);
            let (delivered, seen) = tokio::join!(deliver(&address, vec![record(1)], tail()), async {
                match tokio::time::timeout(std::time::Duration::from_millis(1), inbox.recv()).await {
                    Ok(Some(SinkMessage::Batch(batch))) => batch.ack.send(Ok(Committed::default())).is_ok(),
                    _ => false,
                }
            });
            Rehearsal::end();
            assert_eq!((delivered, seen), (Err(Undelivered::Refused), sent), "{name}");
        }
    }

    #[tokio::test]
    async fn the_planted_bug_drops_the_neighbours_of_poison() {
        for (planted, expected) in [(false, 1), (true, 0)] {
            let rehearsal = Rehearsal::default();
            if planted { rehearsal.bug("poison-drops-page") } else { rehearsal }.begin();
            let left = kept(vec![record(1)]).len();
            Rehearsal::end();
            assert_eq!(left, expected);
        }
    }
}
