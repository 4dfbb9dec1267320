//! When a login host may be asked next by one of so many replicas (I12): never more often in a second than its part of the
//! rate, wherever the second begins.
//!
//! A host that was at rest, and has given a token lately, is asked by all who come at once, up to the part of a second. Everybody
//! else keeps an even distance: while nobody knows what the host answers, after a second that was full, and after the parts have
//! changed. So what is wrong with everybody is found out by a few, and of a long queue no two seconds run into each other on
//! their way.
//!
//! What a replica that has gone asked just before counts against those who get its part: they use it a second after they have
//! learnt of it. A process knows nothing of what was asked by the one before it, within a second of its own first question.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A host that was not asked for so long, and a pause, was at rest.
const REST: Duration = Duration::from_secs(2);

/// A pause is rounded up.
const ROUNDED: Duration = Duration::from_nanos(1);

/// What one of so many replicas may ask. Shares are rounded down, so that together they stay within the rate; more replicas
/// than turns in a second take one each in as many seconds as that makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// So many turns in any second; none when a turn takes longer than that.
    share: usize,
    /// Between two turns that keep an even distance.
    pause: Duration,
    /// Somebody else asks as well.
    shared: bool,
}

impl Rate {
    /// The part of each of so many replicas.
    pub(super) fn of(per_second: NonZeroU32, replicas: NonZeroU32) -> Self {
        let (share, pause) = match NonZeroU32::new(per_second.get() / replicas) {
            None => (0, SECOND * replicas.get() / per_second.get()),
            Some(share) => (share.get() as usize, SECOND / share.get()),
        };
        Self { share, pause: pause + ROUNDED, shared: replicas.get() > 1 }
    }
}

/// When a host was asked, and at what rate.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Instant>,
    /// All turns of the last second and one pause, the oldest first.
    lately: VecDeque<Instant>,
    /// Turns keep a distance until the host was at rest.
    evenly: bool,
    /// What is gone by.
    rate: Option<Rate>,
    /// What more there could be, and since when.
    more: Option<(Rate, Instant)>,
}

impl Pace {
    /// Takes a turn, or says when there may be one. `gives`: the host has given a token lately.
    pub(super) fn turn(&mut self, now: Instant, offered: Rate, gives: bool) -> Result<(), Instant> {
        // Who waits for a second to end comes at its end, and has not found the host at rest.
        self.evenly &= self.last.is_some_and(|last| last + REST + offered.pause > now);
        let rate = self.rate(now, offered);
        let kept = SECOND + rate.pause;
        while self.lately.front().is_some_and(|turn| *turn + kept <= now) {
            self.lately.pop_front();
        }
        // Those who go at once are not all as fast on their way: a pause more for those who come after them.
        let counted = if self.evenly { SECOND } else { kept };
        let nth_last = self.lately.len().checked_sub(rate.share).and_then(|index| self.lately.get(index));
        let full_until = nth_last.map(|turn| *turn + counted).filter(|until| *until > now);
        self.evenly |= full_until.is_some();
        let even = self.last.filter(|_| self.evenly || !gives || rate.share == 0).map(|last| last + rate.pause);
        match full_until.max(even) {
            Some(next) if next > now => Err(next),
            _ => {
                self.last = Some(now);
                self.lately.push_back(now);
                Ok(())
            }
        }
    }

    /// A smaller part counts at once, a larger one a second after it was learnt that somebody has gone.
    fn rate(&mut self, now: Instant, offered: Rate) -> Rate {
        let rate = match self.rate {
            Some(known) if offered.pause < known.pause => {
                let since = self.more.filter(|(before, _)| before.pause <= offered.pause).map_or(now, |(_, since)| since);
                self.more = Some((offered, since));
                if now < since + SECOND { known } else { offered }
            }
            _ => offered,
        };
        if self.rate.map_or(rate.shared, |known| known != rate) {
            self.evenly = true;
        }
        if rate == offered {
            self.more = None;
        }
        self.rate = Some(rate);
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(replicas: u32) -> Rate {
        Rate::of(NonZeroU32::new(20).unwrap(), NonZeroU32::new(replicas).unwrap())
    }

    /// Takes so many turns as soon as there are any; when each was.
    fn turns(pace: &mut Pace, from: Instant, replicas: u32, gives: bool, count: usize) -> Vec<Instant> {
        let (mut now, mut taken) = (from, Vec::new());
        while taken.len() < count {
            match pace.turn(now, rate(replicas), gives) {
                Ok(()) => taken.push(now),
                Err(next) => {
                    assert!(next > now, "a turn is later, or now");
                    now = next;
                }
            }
        }
        taken
    }

    fn busiest_second(mut asked: Vec<Instant>) -> usize {
        asked.sort();
        let within = |start: &Instant| asked.iter().filter(|at| (*start..*start + SECOND).contains(at)).count();
        asked.iter().map(within).max().unwrap_or_default()
    }

    #[test]
    fn shares_together_stay_within_the_rate_and_none_is_nothing() {
        for (per_second, replicas, millis) in [(20, 1, 50), (20, 2, 100), (20, 3, 166), (20, 20, 1000), (20, 30, 1500), (1, 3, 3000)] {
            let rate = Rate::of(NonZeroU32::new(per_second).unwrap(), NonZeroU32::new(replicas).unwrap());
            assert_eq!(rate.pause.as_millis(), millis, "{per_second} per second, {replicas} replicas");
            assert_eq!(rate.share, (per_second / replicas) as usize);
        }
    }

    #[test]
    fn who_finds_the_host_at_rest_goes_at_once_and_whoever_comes_after_a_full_second_keeps_a_distance_i12() {
        let begun = Instant::now();
        for replicas in [1, 2, 3, 7, 20, 30] {
            let mut pace = Pace::default();
            let Rate { share, pause, .. } = rate(replicas);
            let first = turns(&mut pace, begun, replicas, true, 1 + share);
            assert_eq!(first[share.max(1) - 1] == begun, replicas == 1 || share <= 1, "{replicas}: a newcomer among others goes evenly");
            let rested = first[share] + REST + pause * 2;
            let then = turns(&mut pace, rested, replicas, true, share * 4 + 1);
            assert!(then[..share].iter().all(|at| *at == rested), "{replicas}: {then:?}");
            assert!(then[share..].windows(2).all(|pair| pair[1] - pair[0] >= pause), "{replicas}: {then:?}");
            assert!(share == 0 || then[share] >= rested + SECOND + pause, "{replicas}: a moment for those who are slow on their way");
            assert!(busiest_second(then) <= share.max(1), "{replicas}");
        }
    }

    #[test]
    fn while_nobody_knows_what_the_host_answers_everybody_keeps_a_distance() {
        let all = turns(&mut Pace::default(), Instant::now(), 1, false, 50);
        assert!(all.windows(2).all(|pair| pair[1] - pair[0] >= rate(1).pause), "{all:?}");
    }

    #[test]
    fn what_is_left_of_a_second_goes_at_once_too_and_a_moment_is_no_rest() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        turns(&mut pace, begun, 1, true, 15);
        let later = begun + SECOND / 2;
        assert_eq!(turns(&mut pace, later, 1, true, 5), [later; 5]);
        let then = turns(&mut pace, later, 1, true, 2);
        assert_eq!(then[0], begun + SECOND + rate(1).pause);
        let not_at_once = turns(&mut pace, then[1] + REST, 1, true, 2);
        assert!(not_at_once[1] - not_at_once[0] >= rate(1).pause, "it was asked a moment ago");
    }

    #[test]
    fn one_that_leaves_is_still_counted_for_a_second_i12() {
        let (mut three, begun) = ([Pace::default(), Pace::default(), Pace::default()], Instant::now());
        for pace in &mut three {
            turns(pace, begun, 3, true, 1);
        }
        let rested = begun + SECOND * 3;
        let mut asked: Vec<_> = three.iter_mut().flat_map(|pace| turns(pace, rested, 3, true, 6)).collect();
        for pace in &mut three[1..] {
            asked.extend(turns(pace, rested + SECOND / 3, 2, true, 40));
        }
        let last = *asked.iter().max().unwrap();
        assert!(busiest_second(asked) <= 20);
        assert!(last - rested < SECOND * 6, "and the part of the one who left is used: {:?}", last - rested);
    }

    #[test]
    fn those_who_leave_one_after_the_other_are_each_counted_for_a_second_i12() {
        let (mut three, begun) = ([Pace::default(), Pace::default(), Pace::default()], Instant::now());
        for pace in &mut three {
            turns(pace, begun, 3, true, 1);
        }
        // One has gone; the second asks for all it may, and goes as well.
        let gone = begun + SECOND * 3;
        let [stays, leaves, _] = &mut three;
        assert!(stays.turn(gone, rate(2), true).is_ok());
        let (asks, learnt) = (gone + SECOND * 17 / 20, gone + SECOND * 9 / 10);
        let mut asked = vec![gone];
        asked.extend(turns(leaves, asks, 3, true, 6));
        assert_eq!(asked[6], asks);
        asked.extend(turns(stays, learnt, 1, true, 60));
        assert!(busiest_second(asked) <= 20);
    }

    #[test]
    fn one_that_joins_goes_evenly_and_the_other_halves_its_part_at_once_i12() {
        let ([mut here, mut joins], begun) = ([Pace::default(), Pace::default()], Instant::now());
        let mut asked = turns(&mut here, begun, 1, true, 20);
        let seen = begun + SECOND / 3;
        asked.extend(turns(&mut here, seen, 2, true, 20));
        assert!(asked[20] >= begun + SECOND, "{:?}", asked[20] - begun);
        let its = turns(&mut joins, seen, 2, true, 20);
        assert!(its.windows(2).all(|pair| pair[1] - pair[0] >= rate(2).pause));
        asked.retain(|at| *at >= begun + SECOND);
        asked.extend(its.iter().filter(|at| **at >= begun + SECOND));
        assert!(busiest_second(asked) <= 20);
    }
}
