//! Who may be stored next: each feed strictly in order, different feeds at the same time.
//!
//! The order within a feed is what makes a cursor safe: its move travels with the last slice of a page
//! and must not be committed before the slices in front of it (I1). So work that did not succeed goes back
//! to the head of its lane, and waits there without keeping a writer from anybody else (I10).

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};

use tokio::time::Instant;

use crate::store::Feed;

/// Work waiting and being done, by feed.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    lanes: HashMap<Feed, Lane<T>>,
    /// Feeds with work and nobody at it, the longest waiting first.
    ready: VecDeque<Feed>,
    /// Stuck feeds whose pause is over, the longest waiting first. They queue apart, because each of
    /// them may well take a writer for as long as a lock wait lasts.
    stuck: VecDeque<Feed>,
    /// Feeds that pause after a failure, by the end of their pause.
    parked: BTreeSet<(Instant, Feed)>,
    held: usize,
    aside: usize,
    busy: usize,
    stuck_busy: usize,
    /// Whether the last one started was stuck: they take turns with the others.
    stuck_last: bool,
}

#[derive(Debug)]
struct Lane<T> {
    waiting: VecDeque<T>,
    busy: bool,
    /// The first work in line failed for a reason of this feed alone.
    stuck: bool,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self {
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            stuck: VecDeque::new(),
            parked: BTreeSet::new(),
            held: 0,
            aside: 0,
            busy: 0,
            stuck_busy: 0,
            stuck_last: false,
        }
    }
}

impl<T> Lanes<T> {
    /// Puts work at the end of its lane.
    pub(crate) fn push(&mut self, feed: Feed, work: T) {
        self.held += 1;
        match self.lanes.entry(feed) {
            Entry::Vacant(place) => {
                place.insert(Lane { waiting: VecDeque::from([work]), busy: false, stuck: false });
                self.ready.push_back(feed);
            }
            Entry::Occupied(mut lane) => {
                let lane = lane.get_mut();
                lane.waiting.push_back(work);
                self.aside += usize::from(lane.stuck && !lane.busy);
            }
        }
    }

    /// Takes the next work whose feed is free, and makes the feed busy. No more than `most_stuck` feeds
    /// that are stuck are busy at a time.
    pub(crate) fn start(&mut self, most_stuck: usize) -> Option<(Feed, T)> {
        let turn = self.stuck_busy < most_stuck && (self.ready.is_empty() || !self.stuck_last);
        let feed = if turn { self.stuck.pop_front().or_else(|| self.ready.pop_front()) } else { self.ready.pop_front() }?;
        self.begin(feed)
    }

    /// Takes work that waits for another attempt, whatever is left of its pause, and makes its feed busy.
    pub(crate) fn start_failed(&mut self) -> Option<(Feed, T)> {
        let feed = self.parked.pop_first().map(|(_, feed)| feed).or_else(|| self.stuck.pop_front())?;
        self.begin(feed)
    }

    fn begin(&mut self, feed: Feed) -> Option<(Feed, T)> {
        let lane = self.lanes.get_mut(&feed)?;
        if lane.stuck {
            self.aside -= lane.waiting.len();
            self.stuck_busy += 1;
        }
        let work = lane.waiting.pop_front()?;
        lane.busy = true;
        self.busy += 1;
        self.stuck_last = lane.stuck;
        Some((feed, work))
    }

    /// The work last started of this feed is done.
    pub(crate) fn finish(&mut self, feed: Feed) {
        let Some(lane) = self.lanes.get_mut(&feed).filter(|lane| lane.busy) else { return };
        lane.busy = false;
        self.busy -= 1;
        self.held -= 1;
        self.stuck_busy -= usize::from(std::mem::take(&mut lane.stuck));
        if lane.waiting.is_empty() {
            self.lanes.remove(&feed);
        } else {
            self.ready.push_back(feed);
        }
    }

    /// The work last started of this feed has to be done again, not before `due` and before anything else
    /// of the feed. `stuck` says that the reason lies with this feed alone.
    pub(crate) fn park(&mut self, feed: Feed, work: T, due: Instant, stuck: bool) {
        let Some(lane) = self.lanes.get_mut(&feed).filter(|lane| lane.busy) else { return };
        lane.busy = false;
        self.busy -= 1;
        self.stuck_busy -= usize::from(lane.stuck);
        lane.stuck = stuck;
        lane.waiting.push_front(work);
        if stuck {
            self.aside += lane.waiting.len();
        }
        self.parked.insert((due, feed));
    }

    /// When the next pause ends.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.parked.first().map(|(due, _)| *due)
    }

    /// Ends the pauses that are over.
    pub(crate) fn wake(&mut self, now: Instant) {
        while let Some((_, feed)) = self.parked.first().copied().filter(|(due, _)| *due <= now) {
            self.parked.pop_first();
            let stuck = self.lanes.get(&feed).is_some_and(|lane| lane.stuck);
            if stuck { &mut self.stuck } else { &mut self.ready }.push_back(feed);
        }
    }

    /// Work waiting and being done.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// How much of what is held waits behind a stuck feed's own trouble.
    pub(crate) fn aside(&self) -> usize {
        self.aside
    }

    /// Work being done.
    pub(crate) fn busy(&self) -> usize {
        self.busy
    }
}

#[cfg(test)]
mod tests {
    use domain::{Source, TenantId};
    use uuid::Uuid;

    use super::*;

    fn feed(number: u128, source: Source) -> Feed {
        Feed { tenant: TenantId(Uuid::from_u128(number)), source }
    }

    #[test]
    fn one_feed_is_in_order_while_others_pass() {
        let (a, b) = (feed(1, Source::GraphAlerts), feed(1, Source::MdeAlerts));
        let mut lanes = Lanes::default();
        lanes.push(a, "a1");
        lanes.push(a, "a2");
        lanes.push(b, "b1");
        assert_eq!(lanes.start(1), Some((a, "a1")));
        assert_eq!(lanes.start(1), Some((b, "b1")), "another source of the tenant is another feed");
        assert_eq!(lanes.start(1), None, "a2 must wait for a1");
        assert_eq!((lanes.held(), lanes.busy()), (3, 2));
        lanes.finish(a);
        assert_eq!(lanes.start(1), Some((a, "a2")));
        lanes.finish(a);
        lanes.finish(b);
        assert_eq!((lanes.held(), lanes.busy()), (0, 0));
        assert_eq!(lanes.start(1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_waits_at_the_head_of_its_lane_while_others_pass() {
        let (a, b, c) = (feed(1, Source::GraphAlerts), feed(2, Source::GraphAlerts), feed(3, Source::GraphAlerts));
        let due = Instant::now() + std::time::Duration::from_secs(1);
        let mut lanes = Lanes::default();
        for (feed, work) in [(a, "a1"), (a, "a2"), (b, "b1")] {
            lanes.push(feed, work);
        }
        assert_eq!(lanes.start(1), Some((a, "a1")));
        lanes.park(a, "a1", due, true);
        lanes.push(a, "a3");
        assert_eq!((lanes.held(), lanes.aside(), lanes.busy()), (4, 3, 0));
        assert_eq!(lanes.start(1), Some((b, "b1")));
        lanes.park(b, "b1", due, true);
        lanes.wake(Instant::now());
        assert_eq!(lanes.start(1), None, "they pause");
        assert_eq!(lanes.next_due(), Some(due));

        lanes.wake(due);
        assert_eq!((lanes.next_due(), lanes.aside()), (None, 4), "what waits for its turn is still set aside");
        assert_eq!(lanes.start(1), Some((a, "a1")), "not a2");
        assert_eq!((lanes.aside(), lanes.busy()), (1, 1));
        assert_eq!(lanes.start(1), None, "no more than one of the stuck at a time");
        lanes.push(c, "c1");
        lanes.push(c, "c2");
        assert_eq!(lanes.start(1), Some((c, "c1")), "whoever is not stuck passes");
        lanes.finish(c);
        lanes.finish(a);
        assert_eq!(lanes.start(1), Some((b, "b1")), "they take turns");
        lanes.finish(b);
        for work in ["c2", "a2", "a3"] {
            assert_eq!(lanes.start(1).map(|it| it.1), Some(work));
            lanes.finish(if work == "c2" { c } else { a });
        }
        assert_eq!((lanes.held(), lanes.aside(), lanes.busy()), (0, 0, 0));
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_lost_reordered_or_done_twice_within_a_feed(steps in proptest::collection::vec((0_u128..4, 0_u8..6), 0..300)) {
            let mut lanes = Lanes::default();
            let mut running: Vec<(Feed, usize)> = Vec::new();
            let mut next = HashMap::<Feed, usize>::new();
            let mut given = HashMap::<Feed, usize>::new();
            let begin = |lanes: &mut Lanes<usize>, running: &mut Vec<(Feed, usize)>, next: &mut HashMap<Feed, usize>| {
                let Some((feed, work)) = lanes.start(2) else { return false };
                assert!(running.iter().all(|other| other.0 != feed), "a feed is stored by one at a time");
                assert_eq!(work, *next.entry(feed).or_default());
                running.push((feed, work));
                true
            };
            let due = Instant::now();
            for (number, step) in steps {
                let feed = feed(number, Source::GraphAlerts);
                match step {
                    0 => {
                        let count = given.entry(feed).or_default();
                        lanes.push(feed, *count);
                        *count += 1;
                    }
                    1 => { begin(&mut lanes, &mut running, &mut next); }
                    2 => lanes.wake(due),
                    _ if running.is_empty() => {}
                    3 | 4 => {
                        let (feed, work) = running.remove(0);
                        lanes.park(feed, work, due, step == 3);
                    }
                    _ => {
                        let (feed, work) = running.remove(0);
                        lanes.finish(feed);
                        next.insert(feed, work + 1);
                    }
                }
                proptest::prop_assert!(lanes.aside() + lanes.busy() <= lanes.held());
            }
            loop {
                lanes.wake(due);
                while begin(&mut lanes, &mut running, &mut next) {}
                if running.is_empty() { break }
                let (feed, work) = running.remove(0);
                lanes.finish(feed);
                next.insert(feed, work + 1);
            }
            next.retain(|_, count| *count > 0);
            proptest::prop_assert_eq!(next, given);
            proptest::prop_assert_eq!((lanes.held(), lanes.aside(), lanes.busy()), (0, 0, 0));
        }
    }
}
