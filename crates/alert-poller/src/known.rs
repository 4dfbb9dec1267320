//! What the last poll saw and knows to be stored. Pure.
//!
//! Every poll reads a little before the watermark again, so that the newest alerts come with each of its answers. Handing
//! them to the sink would cost a transaction per poll, to be told each time that they are there. So a poll keeps to itself what the
//! poll before it saw in the same state. Only the poll before: what goes to and fro between two states is handed on each time.
//!
//! Now and then a walk ends with a question that measures how long answers may be, and shows alerts from long before the
//! watermark. Those are remembered from one measuring to the next, as long as no poll has anything to hand on.
//!
//! The database may lose its last commits without anybody noticing here. So after a while everything is handed on again.

use std::time::Duration;

use domain::{ContentHash, Record};
use tokio::time::Instant;

/// More than this is not remembered: so much in the overlap is no idle feed.
const MOST: usize = 256;
/// After this, everything is handed on again.
const BELIEVED_FOR: Duration = Duration::from_secs(10 * 60);

/// See above.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// What the last walk saw to its end, in order.
    last: Vec<ContentHash>,
    /// What the walk under way has seen so far; one more than is remembered when it was too much.
    walk: Option<Vec<ContentHash>>,
    /// What the last measuring saw, in order.
    measured: Vec<ContentHash>,
    /// What the measuring of the walk under way has seen.
    measuring: Option<Vec<ContentHash>>,
    /// When everything was last handed on.
    asked: Option<Instant>,
}

impl Known {
    /// A walk begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        let nothing = self.last.is_empty() && self.measured.is_empty();
        if nothing || self.asked.is_none_or(|asked| now - asked >= BELIEVED_FOR) {
            (self.last, self.measured) = (Vec::new(), Vec::new());
            self.asked = Some(now);
        }
        (self.walk, self.measuring) = (Some(Vec::new()), None);
    }

    /// Takes out what is known, and says how many that were. What is left must be stored, or all of this forgotten.
    pub(crate) fn keep(&mut self, records: &mut Vec<Record>, measures: bool) -> usize {
        let seen = if measures { self.measuring.get_or_insert_default() } else { self.walk.get_or_insert_default() };
        let room = (MOST + 1).saturating_sub(seen.len());
        seen.extend(records.iter().filter_map(hash).take(room));
        let before = records.len();
        let measured: &[ContentHash] = if measures { &self.measured } else { &[] };
        let is_known = |hash: ContentHash| self.last.binary_search(&hash).is_ok() || measured.binary_search(&hash).is_ok();
        records.retain(|record| hash(record).is_none_or(|hash| !is_known(hash)));
        if !measures && !records.is_empty() {
            self.measured = Vec::new();
        }
        before - records.len()
    }

    /// The walk has come to its end, and all of it is stored.
    pub(crate) fn end(&mut self) {
        self.last = in_order(self.walk.take().unwrap_or_default());
        if let Some(measured) = self.measuring.take() {
            self.measured = in_order(measured);
        }
    }
}

/// To be searched; nothing when it is too much to be remembered.
fn in_order(mut seen: Vec<ContentHash>) -> Vec<ContentHash> {
    if seen.len() > MOST {
        return Vec::new();
    }
    seen.sort_unstable();
    seen.shrink_to_fit();
    seen
}

/// Over the whole body, so that it stands for one state of one record. What is put into quarantine has none.
fn hash(record: &Record) -> Option<ContentHash> {
    match record {
        Record::Alert(alert) => Some(alert.hash),
        Record::Incident(incident) => Some(incident.hash),
        Record::Poison(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use bytestring::ByteString;
    use domain::{IncidentId, IncidentRecord, Poison};

    use super::*;

    fn record(text: &str) -> Record {
        Record::Incident(IncidentRecord {
            id: IncidentId::new("1".to_owned()),
            hash: ContentHash::of(text.as_bytes()),
            raw: ByteString::from(text),
            last_update: None,
            created: None,
            title: None,
            severity: None,
            status: None,
            redirect: None,
        })
    }

    /// One walk with these states; how many of them are handed on.
    fn walk(known: &mut Known, states: &[&str]) -> usize {
        known.begin(Instant::now());
        let mut records: Vec<Record> = states.iter().map(|state| record(state)).collect();
        known.keep(&mut records, false);
        known.end();
        records.len()
    }

    /// The same, with a measuring at its end that shows these states; how many of those are handed on.
    fn measure(known: &mut Known, states: &[&str], shown: &[&str]) -> usize {
        known.begin(Instant::now());
        known.keep(&mut states.iter().map(|state| record(state)).collect(), false);
        let mut records: Vec<Record> = shown.iter().map(|state| record(state)).collect();
        known.keep(&mut records, true);
        known.end();
        records.len()
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_poll_before_saw_is_not_handed_on_again() {
        let mut known = Known::default();
        assert_eq!(walk(&mut known, &["a", "b"]), 2);
        assert_eq!(walk(&mut known, &["b", "a"]), 0);
        assert_eq!(walk(&mut known, &["a", "c"]), 1);
        assert_eq!(walk(&mut known, &["b", "c"]), 1, "it went to another state and came back");
        assert_eq!(walk(&mut known, &[]), 0);
        assert_eq!(walk(&mut known, &["c"]), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_measuring_shows_is_known_to_the_next_until_something_happens() {
        let mut known = Known::default();
        assert_eq!(walk(&mut known, &["c"]), 1);
        assert_eq!(measure(&mut known, &["c"], &["a", "b", "c"]), 2);
        assert_eq!(walk(&mut known, &["c"]), 0);
        assert_eq!(measure(&mut known, &["c"], &["a", "b", "c"]), 0);
        assert_eq!(walk(&mut known, &["a", "c"]), 1, "what only a measuring has seen says nothing to a poll");
        assert_eq!(measure(&mut known, &["c"], &["a", "b"]), 1, "something was handed on, and the poll before has seen one of them");
        tokio::time::advance(BELIEVED_FOR).await;
        assert_eq!(measure(&mut known, &[], &["a", "b"]), 2);
        tokio::time::advance(BELIEVED_FOR / 2).await;
        assert_eq!(measure(&mut known, &[], &["a", "b"]), 0);
        tokio::time::advance(BELIEVED_FOR / 2).await;
        assert_eq!(measure(&mut known, &[], &["a", "b"]), 2, "after a while everything is handed on again");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_while_everything_is_handed_on_again() {
        let mut known = Known::default();
        assert_eq!(walk(&mut known, &["a"]), 1);
        tokio::time::advance(BELIEVED_FOR - Duration::from_secs(1)).await;
        assert_eq!(walk(&mut known, &["a"]), 0);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(walk(&mut known, &["a"]), 1);
        assert_eq!(walk(&mut known, &["a"]), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_quarantine_and_what_is_too_much_is_handed_on_each_time() {
        let mut known = Known::default();
        for _ in 0..2 {
            known.begin(Instant::now());
            let mut records = vec![Record::Poison(Poison::new("a test", Bytes::from_static(b"x")))];
            assert_eq!((known.keep(&mut records, false), records.len()), (0, 1));
            known.end();
        }
        let many: Vec<String> = (0..=MOST).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(walk(&mut known, &many), MOST + 1);
        assert_eq!(walk(&mut known, &many), MOST + 1);
        assert_eq!((walk(&mut known, &many[..MOST]), walk(&mut known, &many[..MOST])), (MOST, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_walk_that_did_not_end_leaves_nothing_behind() {
        let mut known = Known::default();
        known.begin(Instant::now());
        known.keep(&mut vec![record("a")], false);
        assert_eq!(walk(&mut known, &["a"]), 1);
    }
}
