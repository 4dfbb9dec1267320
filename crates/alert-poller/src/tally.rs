//! What a comparison of source and store has seen at the source. It is in memory only: a comparison that is interrupted
//! begins anew.

use std::collections::HashSet;

use domain::ports::StoredId;
use domain::{Axis, Comparison, ContentHash, Record, Ticks};
use tokio::time::Instant;

use crate::walk::stamp_on;

/// More ids than this are not kept; the comparison then says only how many there are.
const MOST: usize = 500_000;
/// So many ids are named.
const NAMED: usize = 100;

/// The ids seen with a last-update stamp in a stretch.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) run: i64,
    pub(crate) from: Ticks,
    pub(crate) to: Ticks,
    /// Half of a hash each, which is as good as the text and a fraction of its size.
    ids: HashSet<u128>,
    most: usize,
    /// Seen when there were too many already; one that comes twice counts twice.
    uncounted: u64,
    /// Something in the stretch could not be read.
    blind: bool,
    /// When the stretch had been read to its end. An alert that was updated in the meantime has left the stretch, at
    /// the source: what polling has not brought up to date since cannot be compared.
    read_at: Option<Instant>,
}

impl Tally {
    pub(crate) fn new(run: i64, from: Ticks, to: Ticks) -> Self {
        Self { run, from, to, ids: HashSet::new(), most: MOST, uncounted: 0, blind: false, read_at: None }
    }

    /// Takes down what was read by last update.
    pub(crate) fn note(&mut self, records: &[Record]) {
        for record in records {
            let id = match record {
                Record::Alert(alert) => alert.id.as_str(),
                Record::Incident(incident) => incident.id.as_str(),
                Record::Poison(_) => continue,
            };
            if stamp_on(record, Axis::Update).is_none_or(|stamp| stamp < self.from || stamp >= self.to) {
                continue;
            }
            let key = key(id);
            if self.ids.len() < self.most {
                self.ids.insert(key);
            } else if !self.ids.contains(&key) {
                self.uncounted += 1;
            }
        }
    }

    /// Something in the stretch could not be read: what is stored of it is not gone from the source.
    pub(crate) fn note_gap(&mut self) {
        self.blind = true;
    }

    /// The stretch has been read to its end now, if that was not noted before.
    pub(crate) fn note_read(&mut self, now: Instant) {
        self.read_at.get_or_insert(now);
    }

    /// Whether a poll that began then has brought everything up to date that was read.
    pub(crate) fn is_settled_by(&self, poll_began: Option<Instant>) -> bool {
        self.read_at.is_some_and(|read_at| poll_began.is_some_and(|began| began >= read_at))
    }

    /// What it comes to, given what is stored with a stamp in the stretch.
    pub(crate) fn compare(&self, stored: &[StoredId]) -> Comparison {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let (seen, unseen): (Vec<_>, Vec<_>) = stored.iter().partition(|stored| self.ids.contains(&key(stored.id.as_str())));
        let unseen: Vec<_> = unseen.into_iter().filter(|stored| stored.due).collect();
        let at_source = count(self.ids.len()) + self.uncounted;
        let is_sure = self.uncounted == 0 && !self.blind;
        let only_stored = if is_sure { unseen.as_slice() } else { &[] };
        Comparison {
            at_source,
            stored: count(seen.len() + unseen.len()),
            only_stored: only_stored.iter().take(NAMED).map(|stored| stored.id.as_str().to_owned()).collect(),
            only_stored_count: count(only_stored.len()),
        }
    }
}

fn key(id: &str) -> u128 {
    let ContentHash(hash) = ContentHash::of(id.as_bytes());
    hash.iter().take(16).fold(0, |key, byte| key << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use bytestring::ByteString;
    use domain::{AlertFacts, AlertId, AlertRecord, IncidentId, IncidentRecord, Poison};

    use super::*;

    fn alert(id: &str, stamp: Option<i64>) -> Record {
        let raw = ByteString::from(id);
        Record::Alert(AlertRecord {
            id: AlertId::new(id),
            hash: ContentHash::of(raw.as_bytes()),
            raw,
            last_update_text: None,
            last_update: stamp.map(Ticks),
            created: None,
            facts: AlertFacts::default(),
        })
    }

    fn incident(id: &str, stamp: i64) -> Record {
        let raw = ByteString::from(id);
        let hash = ContentHash::of(raw.as_bytes());
        let last_update = Some(Ticks(stamp));
        let id = IncidentId::new(id);
        Record::Incident(IncidentRecord {
            id,
            hash,
            raw,
            last_update,
            created: None,
            title: None,
            severity: None,
            status: None,
            redirect: None,
        })
    }

    fn ids(names: &[&str]) -> Vec<StoredId> {
        names.iter().map(|name| StoredId { id: AlertId::new(*name), due: true }).collect()
    }

    #[test]
    fn what_lies_in_the_stretch_counts_once_and_what_is_only_stored_is_named() {
        let mut tally = Tally::new(1, Ticks(10), Ticks(20));
        let outside = [alert("early", Some(9)), alert("late", Some(20)), alert("unstamped", None)];
        tally.note(&outside);
        tally.note(&[alert("a", Some(10)), alert("b", Some(19)), alert("a", Some(15)), Record::Poison(Poison::new("x", Bytes::new()))]);
        tally.note(&[incident("924", 12)]);
        let comparison = tally.compare(&ids(&["a", "gone", "B", "924"]));
        assert_eq!((comparison.at_source, comparison.stored, comparison.only_stored_count), (3, 4, 2));
        assert_eq!(comparison.only_stored, ["gone", "B"], "case matters");
    }

    #[test]
    fn what_another_source_has_brought_up_to_date_is_stored_and_not_missed() {
        let mut tally = Tally::new(1, Ticks(10), Ticks(20));
        tally.note(&[alert("a", Some(12)), alert("b", Some(13))]);
        let others = ["a", "b", "left long ago"].map(|name| StoredId { id: AlertId::new(name), due: false });
        assert_eq!(tally.compare(&others), Comparison { at_source: 2, stored: 2, ..Comparison::default() });
    }

    #[test]
    fn a_comparison_that_is_too_large_gives_numbers_and_accuses_nobody() {
        let mut tally = Tally { most: 2, ..Tally::new(1, Ticks(0), Ticks(20)) };
        tally.note(&[alert("a", Some(1)), alert("b", Some(1)), alert("c", Some(1)), alert("b", Some(1))]);
        let comparison = tally.compare(&ids(&["a", "b", "c", "d"]));
        assert_eq!(comparison, Comparison { at_source: 3, stored: 4, ..Comparison::default() });
    }

    #[test]
    fn what_could_not_be_read_is_not_called_gone() {
        let mut tally = Tally::new(1, Ticks(0), Ticks(20));
        tally.note(&[alert("a", Some(1))]);
        tally.note_gap();
        assert_eq!(tally.compare(&ids(&["a", "b"])), Comparison { at_source: 1, stored: 2, ..Comparison::default() });
    }

    #[test]
    fn no_more_than_a_hundred_are_named() {
        let stored: Vec<_> = (0..150).map(|number| StoredId { id: AlertId::new(number.to_string()), due: true }).collect();
        let comparison = Tally::new(1, Ticks(0), Ticks(20)).compare(&stored);
        assert_eq!((comparison.only_stored.len(), comparison.only_stored_count), (100, 150));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_settled_by_a_poll_that_began_after_the_reading() {
        let mut tally = Tally::new(1, Ticks(0), Ticks(20));
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert!(!tally.is_settled_by(Some(now + second)), "it has not been read yet");
        tally.note_read(now);
        tally.note_read(now + second * 9);
        assert!(!tally.is_settled_by(None) && !tally.is_settled_by(Some(now - second)));
        assert!(tally.is_settled_by(Some(now)) && tally.is_settled_by(Some(now + second)));
    }
}
