//! Who is due: a queue in order of time, one entry per feed and kind of work, one queue per lane. Pure.
//!
//! With thousands of feeds the wake-ups are what idling costs. So what lies in the future is due on a tick, together with
//! all else that is due between two ticks; what is due now is due now.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use crate::lanes::Lane;

/// Between two ticks.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// When each waiting feed is due. A feed that is being polled is not in it.
#[derive(Debug)]
pub(crate) struct Schedule<K> {
    /// A tick.
    origin: Instant,
    queues: [BTreeSet<(Instant, K)>; Lane::ALL.len()],
    entries: HashMap<K, (Lane, Instant)>,
}

impl<K: Copy + Ord + Hash> Schedule<K> {
    /// Nobody is waiting.
    pub(crate) fn new(origin: Instant) -> Self {
        Self { origin, queues: [const { BTreeSet::new() }; Lane::ALL.len()], entries: HashMap::new() }
    }

    /// The feed is due at the first tick from then on, or now, whatever was said before.
    pub(crate) fn set(&mut self, key: K, lane: Lane, due: Instant, now: Instant) {
        self.put(key, lane, if due <= now { due } else { self.tick(due) });
    }

    fn put(&mut self, key: K, lane: Lane, due: Instant) {
        self.remove(key);
        self.entries.insert(key, (lane, due));
        self.queue(lane).insert((due, key));
    }

    /// The feed is due at this time at the latest, or at the tick after it. `false` if it is not waiting.
    pub(crate) fn hasten(&mut self, key: K, due: Instant, now: Instant) -> bool {
        match self.entries.get(&key).copied() {
            Some((lane, before)) if before > due => self.set(key, lane, due, now),
            Some(_) => {}
            None => return false,
        }
        true
    }

    /// The first tick that is not before.
    fn tick(&self, due: Instant) -> Instant {
        let ticks = due.saturating_duration_since(self.origin).as_nanos().div_ceil(TICK.as_nanos());
        self.origin + TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
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
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_has_been_due_for_longest_goes_first_and_lanes_do_not_mix() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut schedule = Schedule::new(now);
        schedule.set('a', Lane::Main, at(3), now);
        schedule.set('b', Lane::Main, at(1), now);
        schedule.set('c', Lane::Slow, at(0), now);
        schedule.set('d', Lane::Main, at(9), now);
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
        let mut schedule = Schedule::new(now);
        schedule.set('a', Lane::Slow, at(3), now);
        schedule.set('a', Lane::Main, at(5), now);
        assert_eq!(schedule.first(Lane::Slow), None);
        assert!(schedule.hasten('a', at(9), now));
        assert_eq!(schedule.first(Lane::Main), Some(at(5)));
        assert!(schedule.hasten('a', at(2), now));
        assert_eq!(schedule.pop(Lane::Main, at(2)), Some((at(2), 'a')));
        assert!(!schedule.hasten('a', at(1), now), "it is being polled");
        schedule.set('a', Lane::Main, at(5), now);
        schedule.remove('a');
        assert_eq!(schedule.first(Lane::Main), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_between_two_ticks_is_due_together_and_never_before_its_time() {
        let origin = Instant::now();
        let at = |micros: u64| origin + Duration::from_micros(micros);
        let mut schedule = Schedule::new(origin);
        for (key, micros) in [1, 50_000, 99_999, 100_000].into_iter().enumerate() {
            schedule.set(key, Lane::Main, at(micros), origin);
        }
        schedule.set(4, Lane::Main, at(100_001), origin);
        assert_eq!((schedule.first(Lane::Main), schedule.pop(Lane::Main, at(99_999))), (Some(at(100_000)), None));
        let together: Vec<_> = std::iter::from_fn(|| schedule.pop(Lane::Main, at(100_000))).map(|(_, key)| key).collect();
        assert_eq!((together, schedule.first(Lane::Main)), (vec![0, 1, 2, 3], Some(at(200_000))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_now_waits_for_no_tick() {
        let origin = Instant::now();
        let now = origin + Duration::from_micros(150_001);
        let mut schedule = Schedule::new(origin);
        schedule.set('a', Lane::Main, now, now);
        schedule.set('b', Lane::Main, now + Duration::from_secs(9), now);
        assert!(schedule.hasten('b', now, now));
        assert_eq!((schedule.pop(Lane::Main, now), schedule.pop(Lane::Main, now)), (Some((now, 'a')), Some((now, 'b'))));
    }
}
