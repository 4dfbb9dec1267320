//! Who is due: a queue in order of time, one entry per feed and kind of work, one queue per lane. Pure.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use tokio::time::Instant;

use crate::lanes::Lane;

/// When each waiting feed is due. A feed that is being polled is not in it.
#[derive(Debug)]
pub(crate) struct Schedule<K> {
    queues: [BTreeSet<(Instant, K)>; Lane::ALL.len()],
    entries: HashMap<K, (Lane, Instant)>,
}

impl<K: Copy + Ord + Hash> Schedule<K> {
    /// Nobody is waiting.
    pub(crate) fn new() -> Self {
        Self { queues: [const { BTreeSet::new() }; Lane::ALL.len()], entries: HashMap::new() }
    }

    /// The feed is due then, whatever was said before.
    pub(crate) fn set(&mut self, key: K, lane: Lane, due: Instant) {
        self.remove(key);
        self.entries.insert(key, (lane, due));
        self.queue(lane).insert((due, key));
    }

    /// The feed is due at this time at the latest. `false` if it is not waiting.
    pub(crate) fn hasten(&mut self, key: K, due: Instant) -> bool {
        match self.entries.get(&key).copied() {
            Some((lane, before)) => {
                self.set(key, lane, before.min(due));
                true
            }
            None => false,
        }
    }

    /// The feed waits no more.
    pub(crate) fn remove(&mut self, key: K) {
        if let Some((lane, due)) = self.entries.remove(&key) {
            self.queue(lane).remove(&(due, key));
        }
    }

    /// When the first of a lane is due.
    pub(crate) fn first(&self, lane: Lane) -> Option<Instant> {
        self.queues[lane as usize].first().map(|(due, _)| *due)
    }

    /// Takes the feed of a lane that has been due for longest, with the time it was due.
    pub(crate) fn pop(&mut self, lane: Lane, now: Instant) -> Option<(Instant, K)> {
        self.first(lane).filter(|due| *due <= now)?;
        let (due, key) = self.queue(lane).pop_first()?;
        self.entries.remove(&key);
        Some((due, key))
    }

    fn queue(&mut self, lane: Lane) -> &mut BTreeSet<(Instant, K)> {
        &mut self.queues[lane as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_has_been_due_for_longest_goes_first_and_lanes_do_not_mix() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut schedule = Schedule::new();
        schedule.set('a', Lane::Main, at(3));
        schedule.set('b', Lane::Main, at(1));
        schedule.set('c', Lane::Slow, at(0));
        schedule.set('d', Lane::Main, at(9));
        assert_eq!(schedule.first(Lane::Main), Some(at(1)));
        assert_eq!(schedule.pop(Lane::Main, at(0)), None);
        assert_eq!(schedule.pop(Lane::Main, at(5)), Some((at(1), 'b')));
        assert_eq!(schedule.pop(Lane::Main, at(5)), Some((at(3), 'a')));
        assert_eq!(schedule.pop(Lane::Main, at(5)), None);
        assert_eq!(schedule.pop(Lane::Slow, at(5)), Some((at(0), 'c')));
    }

    #[tokio::test(start_paused = true)]
    async fn a_feed_waits_once_and_can_only_be_hastened() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut schedule = Schedule::new();
        schedule.set('a', Lane::Slow, at(3));
        schedule.set('a', Lane::Main, at(5));
        assert_eq!(schedule.first(Lane::Slow), None);
        assert!(schedule.hasten('a', at(9)));
        assert_eq!(schedule.first(Lane::Main), Some(at(5)));
        assert!(schedule.hasten('a', at(2)));
        assert_eq!(schedule.pop(Lane::Main, at(2)), Some((at(2), 'a')));
        assert!(!schedule.hasten('a', at(1)), "it is being polled");
        schedule.set('a', Lane::Main, at(5));
        schedule.remove('a');
        assert_eq!(schedule.first(Lane::Main), None);
    }
}
