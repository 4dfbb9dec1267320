//! Cutting a batch down to the record that the database refuses.
//!
//! Usually a batch is one part. When its data is refused it is cut in halves, which are committed one
//! after the other; a single record that is still refused goes to quarantine. What the batch says about
//! the feed, its cursor and gaps, is then a part of its own at the very end, so that no cursor passes a
//! record that is not committed (I1).

use std::collections::BTreeMap;
use std::ops::Range;

use domain::{AlertBatch, AlertRecord, ContentHash, Record};

use crate::store::stamp::PgStamp;

/// What goes into one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Which records of the batch.
    pub(crate) records: Range<usize>,
    /// Whether cursor and gaps go with them.
    pub(crate) tail: bool,
}

/// What is left of a batch to store.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The next one is at the end.
    stack: Vec<Part>,
    /// Records that the database refused as alerts, with the reason in words.
    refused: BTreeMap<usize, String>,
}

impl Parts {
    /// The whole batch as one part.
    pub(crate) fn whole(records: usize) -> Self {
        Self { stack: vec![Part { records: 0..records, tail: true }], refused: BTreeMap::new() }
    }

    /// The part to store now.
    pub(crate) fn current(&self) -> Option<&Part> {
        self.stack.last()
    }

    /// The reasons known so far, by record.
    pub(crate) fn refused(&self) -> &BTreeMap<usize, String> {
        &self.refused
    }

    /// The current part is committed.
    pub(crate) fn stored(&mut self) {
        self.stack.pop();
    }

    /// The database refuses the data of the current part. Returns `false` when there is nothing left to
    /// cut: then the refusal is not the fault of a record.
    pub(crate) fn cut(&mut self, reason: &str) -> bool {
        let Some(Part { records, tail }) = self.stack.pop() else { return false };
        if records.is_empty() {
            self.stack.push(Part { records, tail });
            return false;
        }
        let single = records.len() == 1;
        if single && self.refused.contains_key(&records.start) {
            self.stack.push(Part { records, tail });
            return false;
        }
        if tail {
            self.stack.push(Part { records: records.end..records.end, tail: true });
        }
        if single {
            self.refused.insert(records.start, reason.to_owned());
            self.stack.push(Part { records, tail: false });
        } else {
            let middle = records.start + records.len() / 2;
            self.stack.push(Part { records: middle..records.end, tail: false });
            self.stack.push(Part { records: records.start..middle, tail: false });
        }
        true
    }
}

/// A record as it will be bound as an alert.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alert<'a> {
    pub(crate) record: &'a AlertRecord,
    /// The body, seen to be UTF-8; not a copy.
    pub(crate) raw: &'a str,
    /// Where it is filed: the creation time, or the beginning of time without a usable one.
    pub(crate) filed: PgStamp,
}

impl Alert<'_> {
    /// The alert's creation time, if it can be named.
    pub(crate) fn created(&self) -> Option<PgStamp> {
        (self.filed != PgStamp::BEGINNING).then_some(self.filed)
    }

    /// The stamp that decides which version is the latest: the smallest number when there is none.
    pub(crate) fn ticks(&self) -> i64 {
        self.record.last_update.map_or(i64::MIN, |ticks| ticks.0)
    }
}

/// A record on its way to quarantine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rejected<'a> {
    pub(crate) reason: &'a str,
    pub(crate) hash: ContentHash,
    pub(crate) raw: &'a [u8],
}

/// The records of a part, sorted into alerts and others.
#[derive(Debug, Default)]
pub(crate) struct Sorted<'a> {
    pub(crate) alerts: Vec<Alert<'a>>,
    pub(crate) rejected: Vec<Rejected<'a>>,
}

/// Sorts the records of a part. Bodies are checked again here, since storing them relies on it.
pub(crate) fn sort<'a>(batch: &'a AlertBatch, part: &Part, refused: &'a BTreeMap<usize, String>) -> Sorted<'a> {
    let mut sorted = Sorted::default();
    for (at, record) in part.records.clone().zip(&batch.records[part.records.clone()]) {
        match record {
            Record::Poison(poison) => sorted.rejected.push(Rejected { reason: &poison.reason, hash: poison.hash, raw: &poison.raw }),
            Record::Alert(alert) => match (refused.get(&at), std::str::from_utf8(&alert.raw)) {
                (None, Ok(raw)) if !alert.id.as_str().contains('\0') => {
                    let filed = alert.created.and_then(PgStamp::of).unwrap_or(PgStamp::BEGINNING);
                    sorted.alerts.push(Alert { record: alert, raw, filed });
                }
                (Some(reason), _) => sorted.rejected.push(Rejected { reason, hash: alert.hash, raw: &alert.raw }),
                (None, Err(_)) => sorted.rejected.push(Rejected { reason: "the body is not UTF-8", hash: alert.hash, raw: &alert.raw }),
                (None, Ok(_)) => {
                    let reason = "the alert id holds a NUL character, which Postgres cannot keep";
                    sorted.rejected.push(Rejected { reason, hash: alert.hash, raw: &alert.raw });
                }
            },
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stores what does not hold a bad record, the way a database would, and says what happened in order.
    fn run(records: usize, bad: &[usize]) -> (Vec<Part>, Vec<usize>) {
        let mut parts = Parts::whole(records);
        let mut stored = Vec::new();
        while let Some(part) = parts.current().cloned() {
            if part.records.clone().any(|at| bad.contains(&at) && !parts.refused().contains_key(&at)) {
                assert!(parts.cut("bad"), "a bad record can always be cut out");
            } else {
                parts.stored();
                stored.push(part);
            }
        }
        (stored, parts.refused().keys().copied().collect())
    }

    #[test]
    fn a_good_batch_is_one_part_with_its_cursor() {
        assert_eq!(run(5, &[]), (vec![Part { records: 0..5, tail: true }], vec![]));
        assert_eq!(run(0, &[]), (vec![Part { records: 0..0, tail: true }], vec![]));
    }

    #[test]
    fn the_cursor_goes_last_even_when_the_batch_is_one_bad_record() {
        let (stored, refused) = run(1, &[0]);
        assert_eq!(stored, [Part { records: 0..1, tail: false }, Part { records: 1..1, tail: true }]);
        assert_eq!(refused, [0]);
    }

    #[test]
    fn what_is_refused_without_a_record_or_after_quarantine_cannot_be_cut() {
        let mut parts = Parts::whole(0);
        assert!(!parts.cut("bad"));
        assert_eq!(parts.current(), Some(&Part { records: 0..0, tail: true }), "it stays, to be tried again");
        let mut parts = Parts::whole(1);
        assert!(parts.cut("bad"));
        assert!(!parts.cut("still bad"));
        assert_eq!(parts.current(), Some(&Part { records: 0..1, tail: false }));
    }

    proptest::proptest! {
        #[test]
        fn every_record_is_stored_once_in_order_and_only_the_bad_are_refused(
            records in 0_usize..70, bad in proptest::collection::btree_set(0_usize..70, 0..6)) {
            let bad: Vec<_> = bad.into_iter().filter(|at| *at < records).collect();
            let (stored, refused) = run(records, &bad);
            proptest::prop_assert_eq!(stored.iter().flat_map(|part| part.records.clone()).collect::<Vec<_>>(), (0..records).collect::<Vec<_>>());
            proptest::prop_assert_eq!(refused, bad);
            let (last, others) = stored.split_last().unwrap();
            proptest::prop_assert!(last.tail && others.iter().all(|part| !part.tail));
        }
    }
}
