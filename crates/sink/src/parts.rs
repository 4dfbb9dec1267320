//! Cutting a batch down to the record that the database refuses.
//!
//! Usually a batch is one part. When its data is refused it is cut in halves, which are committed one
//! after the other; a single record that is still refused goes to quarantine. What the batch says about
//! the feed, its cursor and gaps, is then a part of its own at the very end, so that no cursor passes a
//! record that is not committed (I1).

use std::collections::BTreeMap;
use std::ops::Range;

use domain::{AlertBatch, Record, Ticks};

use crate::store::{Alert, Incident, Rejected};

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

/// The records of a part, sorted by what becomes of them.
#[derive(Debug, Default)]
pub(crate) struct Sorted<'a> {
    pub(crate) alerts: Vec<Alert<'a>>,
    pub(crate) incidents: Vec<Incident<'a>>,
    pub(crate) rejected: Vec<Rejected<'a>>,
}

/// Sorts the records of a part. Ids are checked again here, since storing them relies on it.
pub(crate) fn sort<'a>(batch: &'a AlertBatch, part: &Part, refused: &'a BTreeMap<usize, String>, now: Ticks) -> Sorted<'a> {
    let mut sorted = Sorted::default();
    for (at, record) in part.records.clone().zip(&batch.records[part.records.clone()]) {
        let refused = refused.get(&at).map(String::as_str);
        let (hash, raw, reason) = match record {
            Record::Poison(poison) => (poison.hash, &poison.raw, poison.reason.as_str()),
            Record::Alert(record) => match refused.map_or_else(|| Alert::new(record, now), Err) {
                Ok(alert) => {
                    sorted.alerts.push(alert);
                    continue;
                }
                Err(reason) => (record.hash, record.raw.as_bytes(), reason),
            },
            Record::Incident(record) => match refused.map_or_else(|| Incident::new(record, now), Err) {
                Ok(incident) => {
                    sorted.incidents.push(incident);
                    continue;
                }
                Err(reason) => (record.hash, record.raw.as_bytes(), reason),
            },
        };
        sorted.rejected.push(Rejected { reason, hash, raw });
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
