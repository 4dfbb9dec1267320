//! The passing of time: things happen by themselves, at moments that follow from the seed and not from how often
//! somebody looked at the clock.

use crate::dice::Dice;
use crate::stamp::Stamp;
use crate::world::World;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug)]
struct Beat {
    dice: Dice,
    rate: f64,
    updates: f64,
    /// When the next thing happens; `None` while nothing does.
    next: Option<Stamp>,
}

/// How often something happens.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<Beat>);

impl Pace {
    pub(crate) fn new(seed: u64, rate: f64, updates: f64, now: Stamp) -> Pace {
        let mut beat = Beat { dice: Dice::of(&[seed, 0x9ACE]), rate, updates, next: None };
        beat.next = beat.after(now);
        Pace(Mutex::new(beat))
    }

    /// Changes the rate from now on; 0 stops the world.
    pub(crate) fn set_rate(&self, rate: f64, now: Stamp) {
        let mut beat = self.lock();
        beat.rate = rate;
        beat.next = beat.after(now);
    }

    pub(crate) fn rate(&self) -> f64 {
        self.lock().rate
    }

    /// Lets everything happen that is due; returns how much it was.
    pub(crate) fn tick(&self, world: &World) -> usize {
        let now = world.clock.now();
        let mut beat = self.lock();
        let mut happened = 0;
        while let Some(due) = beat.next.filter(|due| *due <= now) {
            let updates = beat.updates;
            world.something_happens(&mut beat.dice, updates, due);
            beat.next = beat.after(due);
            happened += 1;
        }
        happened
    }

    fn lock(&self) -> MutexGuard<'_, Beat> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beat {
    /// The moment of the next thing: gaps vary as those between independent events do.
    fn after(&mut self, moment: Stamp) -> Option<Stamp> {
        if self.rate <= 0.0 || !self.rate.is_finite() {
            return None;
        }
        let gap = -(1.0 - self.dice.unit()).ln() / self.rate;
        Some(moment.plus(Duration::from_secs_f64(gap.min(86_400.0))))
    }
}
