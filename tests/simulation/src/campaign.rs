//! Many seeds, on all cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tokio::time::Instant;

use crate::run::{Options, Outcome, run};
use crate::tally::Tally;

/// What many runs came to.
#[derive(Debug)]
pub struct Campaign {
    /// How many seeds were run.
    pub seeds: u64,
    /// Counts of all of them.
    pub tally: Tally,
    /// Those in which a promise was broken, by seed.
    pub failed: Vec<Outcome>,
    /// How long it took.
    pub seconds: f64,
}

impl Campaign {
    /// One line for whoever collects figures.
    pub fn json(&self) -> serde_json::Value {
        let mut json = self.tally.json();
        if let Some(object) = json.as_object_mut() {
            object.insert("suite".to_owned(), "simulation".into());
            object.insert("seeds".to_owned(), self.seeds.into());
            object.insert("failed".to_owned(), self.failed.iter().map(|outcome| outcome.seed).collect());
            object.insert("never".to_owned(), self.tally.never().into());
            object.insert("seconds".to_owned(), self.seconds.into());
        }
        json
    }
}

/// Runs these seeds, one thread per core, each run on one thread from its beginning to its end. Stops early when
/// `enough` runs have failed.
pub fn campaign(seeds: &[u64], options: &Options, enough: usize) -> Campaign {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let together = Mutex::new((Tally::default(), Vec::new(), 0_u64));
    let work = || {
        while let Some(seed) = seeds.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX)) {
            let outcome = run(*seed, options);
            let mut together = together.lock().expect("nobody panics with it");
            together.0.merge(&outcome.tally);
            together.2 += 1;
            if !outcome.broken.is_empty() {
                together.1.push(outcome);
            }
            if together.1.len() >= enough {
                return;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (tally, mut failed, seeds) = together.into_inner().expect("nobody panics with it");
    failed.sort_by_key(|outcome| outcome.seed);
    Campaign { seeds, tally, failed, seconds: began.elapsed().as_secs_f64() }
}
