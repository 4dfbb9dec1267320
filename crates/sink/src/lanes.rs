//! Who may be stored next: each feed strictly in order, different feeds at the same time.
//!
//! The order within a feed is what makes a cursor safe: its move travels with the last slice of a page
//! and must not be committed before the slices in front of it (I1).

use std::collections::{HashMap, VecDeque};

use domain::{Source, TenantId};

/// A feed: one source of one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Feed {
    pub(crate) tenant: TenantId,
    pub(crate) source: Source,
}

/// Work waiting and being done, by feed.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    lanes: HashMap<Feed, Lane<T>>,
    /// Feeds with work and nobody at it, the longest waiting first.
    ready: VecDeque<Feed>,
    held: usize,
    busy: usize,
}

#[derive(Debug)]
struct Lane<T> {
    waiting: VecDeque<T>,
    busy: bool,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self { lanes: HashMap::new(), ready: VecDeque::new(), held: 0, busy: 0 }
    }
}

impl<T> Lanes<T> {
    /// Puts work at the end of its lane.
    pub(crate) fn push(&mut self, feed: Feed, work: T) {
        self.held += 1;
        let lane = self.lanes.entry(feed).or_insert_with(|| Lane { waiting: VecDeque::new(), busy: false });
        if !lane.busy && lane.waiting.is_empty() {
            self.ready.push_back(feed);
        }
        lane.waiting.push_back(work);
    }

    /// Takes the next work whose feed is free, and makes the feed busy.
    pub(crate) fn start(&mut self) -> Option<(Feed, T)> {
        let feed = self.ready.pop_front()?;
        let lane = self.lanes.get_mut(&feed)?;
        let work = lane.waiting.pop_front()?;
        lane.busy = true;
        self.busy += 1;
        Some((feed, work))
    }

    /// The work last started of this feed is done.
    pub(crate) fn finish(&mut self, feed: Feed) {
        let Some(lane) = self.lanes.get_mut(&feed).filter(|lane| lane.busy) else { return };
        lane.busy = false;
        self.busy -= 1;
        self.held -= 1;
        if lane.waiting.is_empty() {
            self.lanes.remove(&feed);
        } else {
            self.ready.push_back(feed);
        }
    }

    /// Work waiting and being done.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Work being done.
    pub(crate) fn busy(&self) -> usize {
        self.busy
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(lanes.start(), Some((a, "a1")));
        assert_eq!(lanes.start(), Some((b, "b1")), "another source of the tenant is another feed");
        assert_eq!(lanes.start(), None, "a2 must wait for a1");
        assert_eq!((lanes.held(), lanes.busy()), (3, 2));
        lanes.finish(a);
        assert_eq!(lanes.start(), Some((a, "a2")));
        lanes.finish(a);
        lanes.finish(b);
        assert_eq!((lanes.held(), lanes.busy()), (0, 0));
        assert_eq!(lanes.start(), None);
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_lost_reordered_or_done_twice_within_a_feed(steps in proptest::collection::vec((0_u128..4, 0_u8..3), 0..200)) {
            let mut lanes = Lanes::default();
            let mut running: Vec<Feed> = Vec::new();
            let mut next = HashMap::<Feed, usize>::new();
            let mut given = HashMap::<Feed, usize>::new();
            let mut begin = |lanes: &mut Lanes<usize>, running: &mut Vec<Feed>| {
                let Some((feed, work)) = lanes.start() else { return false };
                assert!(!running.contains(&feed), "a feed is stored by one at a time");
                let expected = next.entry(feed).or_default();
                assert_eq!(work, *expected);
                *expected += 1;
                running.push(feed);
                true
            };
            for (number, step) in steps {
                let feed = feed(number, Source::GraphAlerts);
                match step {
                    0 => {
                        let count = given.entry(feed).or_default();
                        lanes.push(feed, *count);
                        *count += 1;
                    }
                    1 => { begin(&mut lanes, &mut running); }
                    _ => if !running.is_empty() { lanes.finish(running.remove(0)) },
                }
            }
            loop {
                while begin(&mut lanes, &mut running) {}
                if running.is_empty() { break }
                lanes.finish(running.remove(0));
            }
            proptest::prop_assert_eq!(next, given);
            proptest::prop_assert_eq!(lanes.held(), 0);
        }
    }
}
