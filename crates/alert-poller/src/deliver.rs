//! Handing a page to the sink: in slices, one after the other, each acknowledged before the next.
//!
//! The cursor and the gaps travel with the last slice only. When the process dies in between, the cursor stands
//! before the page, and what was stored already is recognised when it is read again (I1, I3).

use domain::{AlertBatch, Committed, Fence, Record, Refusal, SinkMessage, Source};
use tokio::sync::{mpsc, oneshot};

use crate::walk::Step;

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

/// Where to, and in whose name.
pub(crate) struct Address<'a> {
    pub(crate) sink: &'a mpsc::Sender<SinkMessage>,
    pub(crate) fence: Fence,
    pub(crate) source: Source,
    /// The feed was up to date before this poll.
    pub(crate) live: bool,
}

/// Sends the records of an answer and waits until all are durable.
pub(crate) async fn deliver(address: &Address<'_>, records: Vec<Record>, step: &Step) -> Result<Committed, Undelivered> {
    let mut total = Committed::default();
    let mut slices = cut(records, SLICE_BYTES);
    if slices.is_empty() && (step.cursor.is_some() || !step.gaps.is_empty()) {
        slices.push(Vec::new());
    }
    let count = slices.len();
    for (index, records) in slices.into_iter().enumerate() {
        let last = index + 1 == count;
        let (ack, acknowledged) = oneshot::channel();
        let batch = AlertBatch {
            fence: address.fence,
            source: address.source,
            records,
            cursor: step.cursor.clone().filter(|_| last),
            gaps: if last { step.gaps.clone() } else { Vec::new() },
            live: address.live,
            ack,
        };
        address.sink.send(SinkMessage::Batch(batch)).await.map_err(|_| Undelivered::SinkGone)?;
        match acknowledged.await {
            Ok(Ok(committed)) => add(&mut total, committed),
            Ok(Err(Refusal::LeaseLost | Refusal::Stopping)) => return Err(Undelivered::Refused),
            Err(_) => return Err(Undelivered::SinkGone),
        }
    }
    Ok(total)
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
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use domain::{CursorMove, Epoch, Gap, Poison, TenantId, Ticks};

    use super::*;

    fn record(bytes: usize) -> Record {
        Record::Poison(Poison::new("a test", Bytes::from(vec![b'x'; bytes])))
    }

    fn address(sink: &mpsc::Sender<SinkMessage>) -> Address<'_> {
        let fence = Fence { tenant: TenantId(uuid::Uuid::nil()), epoch: Epoch(1) };
        Address { sink, fence, source: Source::GraphAlerts, live: false }
    }

    fn step() -> Step {
        let gap = Gap { from: Ticks(1), to: Ticks(1), reason: "a test".to_owned() };
        Step { cursor: Some(CursorMove { watermark: Ticks(7) }), gaps: vec![gap], done: false }
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
        let delivering = tokio::spawn(async move { deliver(&address(&sink), records, &step()).await });
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
        assert!(deliver(&address(&sink), Vec::new(), &Step::default()).await.is_ok());
        assert!(inbox.try_recv().is_err());
        let delivering = tokio::spawn(async move { deliver(&address(&sink), Vec::new(), &step()).await });
        let Some(SinkMessage::Batch(batch)) = inbox.recv().await else { panic!("a batch is expected") };
        batch.ack.send(Err(Refusal::LeaseLost)).expect("somebody waits");
        assert_eq!(delivering.await.expect("no panic"), Err(Undelivered::Refused));
    }
}
