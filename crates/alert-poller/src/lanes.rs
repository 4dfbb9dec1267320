//! Who may run now, so that nobody holds up the others.
//!
//! There are three lanes, each with its own places and its own memory for pages. A poll that waits for an answer for
//! longer than a moment leaves the main lane: if the slow lane has room it goes on waiting there, otherwise it gives up
//! and is queued for the slow lane. So a place of the main lane is never held for long by a tenant that does not answer,
//! however many of them there are. Re-reads have a lane of their own, which they never leave: whatever they do, no poll
//! waits for it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::config::Config;

/// Which lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Lane {
    /// For feeds that answer.
    Main,
    /// For feeds that were slow to answer the last time.
    Slow,
    /// For reading again.
    Again,
}

impl Lane {
    pub(crate) const ALL: [Self; 3] = [Self::Main, Self::Slow, Self::Again];
}

/// Memory is counted in these, since a semaphore counts only to 2^32 at a time.
const UNIT: usize = 1024;

#[derive(Debug)]
struct Room {
    polls: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    units: u32,
}

impl Room {
    fn new(polls: usize, memory: usize) -> Self {
        let units = (memory / UNIT).clamp(1, Semaphore::MAX_PERMITS.min(1 << 30));
        Self {
            polls: Arc::new(Semaphore::new(polls.max(1))),
            memory: Arc::new(Semaphore::new(units)),
            units: u32::try_from(units).unwrap_or(u32::MAX),
        }
    }

    /// Never more than there is: a page larger than all of the memory is read alone.
    fn units(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.units)
    }
}

/// All lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    main: Room,
    slow: Room,
    again: Room,
}

impl Lanes {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            main: Room::new(config.polls_at_once, config.page_memory),
            slow: Room::new(config.slow_polls_at_once, config.memory_beside()),
            again: Room::new(config.rereads_at_once, config.memory_beside()),
        })
    }

    /// A place, if one is free.
    pub(crate) fn try_enter(self: &Arc<Self>, lane: Lane) -> Option<Pass> {
        let place = Arc::clone(&self.room(lane).polls).try_acquire_owned().ok()?;
        Some(Pass { lanes: Arc::clone(self), lane, place, memory: None, was_slow: false })
    }

    /// Whether a place is free.
    pub(crate) fn has_room(&self, lane: Lane) -> bool {
        self.room(lane).polls.available_permits() > 0
    }

    fn room(&self, lane: Lane) -> &Room {
        match lane {
            Lane::Main => &self.main,
            Lane::Slow => &self.slow,
            Lane::Again => &self.again,
        }
    }
}

/// A place in a lane, with the memory for one page.
#[derive(Debug)]
pub(crate) struct Pass {
    lanes: Arc<Lanes>,
    lane: Lane,
    place: OwnedSemaphorePermit,
    memory: Option<OwnedSemaphorePermit>,
    was_slow: bool,
}

/// Nothing came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// Not within a moment, and the slow lane is full.
    Crowded,
    /// Not within the time that an answer may take.
    TooLong,
}

impl Pass {
    /// Whether some answer took so long that the next poll belongs into the slow lane.
    pub(crate) fn was_slow(&self) -> bool {
        self.was_slow
    }

    /// Sets memory aside for a page that is about to be asked for, waiting for others to finish theirs.
    pub(crate) async fn reserve(&mut self, bytes: usize) {
        self.memory = None;
        let room = self.lanes.room(self.lane);
        self.memory = Arc::clone(&room.memory).acquire_many_owned(room.units(bytes)).await.ok();
    }

    /// The page has this size: gives back what was too much. What was too little is taken if it is there; the page is in
    /// memory anyway, and the next one waits for it.
    pub(crate) fn settle(&mut self, bytes: usize) {
        let room = self.lanes.room(self.lane);
        let needed = room.units(bytes);
        let Some(held) = &mut self.memory else { return };
        let count = u32::try_from(held.num_permits()).unwrap_or(u32::MAX);
        if count > needed {
            drop(held.split(held.num_permits() - usize::try_from(needed).unwrap_or(0)));
        } else if count < needed
            && let Ok(extra) = Arc::clone(&room.memory).try_acquire_many_owned(needed - count)
        {
            held.merge(extra);
        }
    }

    /// The page is gone.
    pub(crate) fn release(&mut self) {
        self.memory = None;
    }

    /// Waits for an answer of a tenant's side, leaving the main lane when it takes more than a moment.
    ///
    /// # Errors
    /// [`Waited`] when nothing came. The wait is over then, and with it the request.
    pub(crate) async fn wait<F: Future>(&mut self, answer: F, config: &Config) -> Result<F::Output, Waited> {
        let mut answer = pin!(answer);
        if let Ok(output) = timeout(config.slow_after, answer.as_mut()).await {
            return Ok(output);
        }
        self.was_slow = true;
        if self.lane == Lane::Main && !self.move_over() {
            return Err(Waited::Crowded);
        }
        timeout(config.answer_timeout.saturating_sub(config.slow_after), answer).await.map_err(|_| Waited::TooLong)
    }

    fn move_over(&mut self) -> bool {
        let slow = self.lanes.room(Lane::Slow);
        let Ok(place) = Arc::clone(&slow.polls).try_acquire_owned() else { return false };
        let memory = match &self.memory {
            None => None,
            Some(held) => {
                let units = u32::try_from(held.num_permits()).unwrap_or(u32::MAX).min(slow.units);
                match Arc::clone(&slow.memory).try_acquire_many_owned(units) {
                    Ok(memory) => Some(memory),
                    Err(_) => return false,
                }
            }
        };
        self.place = place;
        self.memory = memory;
        self.lane = Lane::Slow;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;
    use crate::sizes::LEAST;

    fn config() -> Config {
        Config { polls_at_once: 2, slow_polls_at_once: 1, page_memory: 64 * 1024, ..Config::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_long_leaves_the_main_lane() {
        let config = config();
        let lanes = Lanes::new(&config);
        let mut pass = lanes.try_enter(Lane::Main).expect("there is room");
        pass.reserve(1024).await;
        let _other = lanes.try_enter(Lane::Main).expect("there is room");
        assert!(lanes.try_enter(Lane::Main).is_none());
        {
            let mut waiting = pin!(pass.wait(sleep(Duration::from_secs(10)), &config));
            assert!(timeout(Duration::from_secs(3), waiting.as_mut()).await.is_err());
            assert!(lanes.has_room(Lane::Main), "its place is free for others");
            assert!(!lanes.has_room(Lane::Slow));
            assert_eq!(waiting.await, Ok(()));
        }
        assert!(pass.was_slow());
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_slow_lane_is_full_a_slow_answer_is_given_up() {
        let config = config();
        let lanes = Lanes::new(&config);
        let _slow = lanes.try_enter(Lane::Slow).expect("there is room");
        let mut pass = lanes.try_enter(Lane::Main).expect("there is room");
        assert_eq!(pass.wait(pending::<()>(), &config).await, Err(Waited::Crowded));
        drop(pass);
        assert!(lanes.has_room(Lane::Main));
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_small_answers_as_the_slow_lane_has_places_may_be_slow_at_once() {
        let config = Config::default();
        let lanes = Lanes::new(&config);
        let mut slow = Vec::new();
        for _ in 0..config.slow_polls_at_once {
            let mut pass = lanes.try_enter(Lane::Slow).expect("there is room");
            timeout(Duration::from_secs(1), pass.reserve(LEAST)).await.expect("there is memory for each place");
            slow.push(pass);
        }
        assert!(!lanes.has_room(Lane::Slow));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_waited_for_for_ever() {
        let config = config();
        let lanes = Lanes::new(&config);
        for lane in Lane::ALL {
            let mut pass = lanes.try_enter(lane).expect("there is room");
            assert_eq!(pass.wait(pending::<()>(), &config).await, Err(Waited::TooLong));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pages_wait_for_memory_and_a_giant_one_is_read_alone() {
        let config = config();
        let lanes = Lanes::new(&config);
        let mut small = lanes.try_enter(Lane::Main).expect("there is room");
        let mut giant = lanes.try_enter(Lane::Main).expect("there is room");
        small.reserve(1).await;
        assert!(timeout(Duration::from_secs(60), giant.reserve(1 << 40)).await.is_err());
        small.release();
        giant.reserve(1 << 40).await;
        giant.settle(2 * UNIT);
        small.reserve(62 * UNIT).await;
        assert!(timeout(Duration::from_secs(60), small.reserve(63 * UNIT)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn rereads_take_neither_places_nor_memory_from_polls() {
        let config = Config { rereads_at_once: 1, ..config() };
        let lanes = Lanes::new(&config);
        let mut again = lanes.try_enter(Lane::Again).expect("there is room");
        assert!(lanes.try_enter(Lane::Again).is_none());
        again.reserve(1 << 40).await;
        assert_eq!(again.wait(pending::<()>(), &config).await, Err(Waited::TooLong), "it stays where it is");
        assert!(lanes.has_room(Lane::Slow));
        let mut polls: Vec<_> = (0..2).map(|_| lanes.try_enter(Lane::Main).expect("there is room")).collect();
        polls[0].reserve(64 * 1024).await;
    }
}
