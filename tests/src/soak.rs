//! `./dev soak`: two replicas, a Postgres of our own and the pretend Microsoft through the catalogue of faults, under
//! load; then the count of what was published against what is stored, and one line of JSON.
//!
//! [`catalogue`] says which fault and which invariant is whose. What is this program's has to be fired and
//! checked in every run, however short, or the run fails.

pub mod book;
pub mod catalogue;
pub mod dice;
pub mod faults;
pub mod lab;
pub mod load;
pub mod report;
pub mod rest;
pub mod rotations;
pub mod sampler;
pub mod witness;

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Signal;
use simulator::{Effect, Rule, SimTenant};
use tokio::time::Instant;

use dice::Dice;
use faults::{cloud, host, records};
use lab::{CROWDED, FIRST_PATIENT, LARGE, Lab, PATIENTS, STRICT};

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wish {
    /// For how long faults are fired; a run lasts longer when the faults need it.
    pub seconds: u64,
    /// Decides the order.
    pub seed: u64,
    /// A known bug that both replicas have: a run with it has to fail.
    pub bug: Option<String>,
}

/// Says something to the person who watches.
pub fn say(words: &str) {
    // With standard error gone there is nobody left to tell.
    let _ = writeln!(std::io::stderr().lock(), "soak: {words}");
}

/// A quantile (0 to 1) of some values; none of none.
pub fn quantile(values: &mut [f64], quantile: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into a list")]
    let at = (quantile * values.len().saturating_sub(1) as f64).round() as usize;
    values.get(at).copied()
}

/// How many times more work waits for this machine than it has processors; at least 1, and at most 3, for a part of that
/// work is our own. What is promised in seconds is promised of a machine that has nothing else to do.
pub fn crowding() -> f64 {
    let load = std::fs::read_to_string("/proc/loadavg").ok().and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    (load.unwrap_or(1.0) / processors).clamp(1.0, 3.0)
}

/// Runs to the end and answers the report.
///
/// # Errors
/// When the world cannot be built, or does not come to rest.
pub async fn run(wish: &Wish) -> anyhow::Result<report::Report> {
    say(&format!("{} s of faults, seed {}", wish.seconds, wish.seed));
    let begun = Instant::now();
    let (lab, mut replicas) = Lab::build(wish).await?;
    let outcome = through(&lab, &mut replicas, wish, begun).await;
    let keep = outcome.as_ref().map_or(true, |report| !report.good());
    lab.end(&mut replicas).await?;
    if keep {
        say(&format!("the logs are in {}", keep_logs(&lab)?.display()));
    }
    let mut report = outcome?;
    report.add_rotation_kills(rotations::kills(wish).await);
    Ok(report)
}

async fn through(lab: &Lab, replicas: &mut host::Replicas, wish: &Wish, begun: Instant) -> anyhow::Result<report::Report> {
    lab.cloud.script(Rule::new(Effect::StrictRotation).tenant(lab.tenants[STRICT].directory_id));
    for replica in replicas.iter_mut() {
        lab.start(replica).await?;
    }
    lab.shared(Duration::from_secs(60)).await?;
    say("two replicas share the customers");
    let samples = tokio::select! {
        done = faults_on(lab, replicas, wish) => done,
        () = load::run(lab, wish.seed) => Ok(()),
        () = sampler::run(lab) => Ok(()),
    };
    samples?;
    say("faults are off; waiting until everything is stored");
    let rest = rest::at_rest(lab, replicas, wish).await;
    report::Report::write(lab, wish, begun, rest).await
}

/// Faults that fill memory with one record, or with one answer. They come when everything else is over: beside them
/// nobody could tell what an outage of the database costs.
const FILLING: [u8; 2] = [12, 31];

/// What the sign-in service says of our app concerns all customers: beside it nobody could tell how fast a replica is.
const OF_THE_APP: [u8; 1] = [35];

/// Fires everything, and goes on until the time is over.
async fn faults_on(lab: &Lab, replicas: &mut host::Replicas, wish: &Wish) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(wish.seconds);
    let mut order: Vec<&cloud::Recipe> =
        cloud::RECIPES.iter().filter(|recipe| ![FILLING.as_slice(), &OF_THE_APP].concat().contains(&recipe.fault)).collect();
    Dice::of(wish.seed, 2).shuffle(&mut order);
    // Those that wait for each other's traces would only wait: each worker has customers of its own.
    let waiting: Mutex<VecDeque<(&cloud::Recipe, usize)>> = Mutex::new(order.iter().map(|recipe| (*recipe, 0)).collect());
    const WORKERS: usize = 4;
    let customers = |worker: usize| -> Vec<&SimTenant> {
        lab.tenants[FIRST_PATIENT..FIRST_PATIENT + PATIENTS].iter().skip(worker).step_by(WORKERS).collect()
    };
    tokio::try_join!(
        hosts(lab, replicas, wish, end),
        batches(lab, end),
        patients(lab, customers(0), &waiting, end),
        patients(lab, customers(1), &waiting, end),
        patients(lab, customers(2), &waiting, end),
        patients(lab, customers(3), &waiting, end),
    )?;
    fill(lab, replicas, wish).await
}

/// The largest record and the largest answer, while the replica that reads them may be killed.
async fn fill(lab: &Lab, replicas: &mut host::Replicas, wish: &Wish) -> anyhow::Result<()> {
    let (large, bombed) = (&lab.tenants[LARGE], &lab.tenants[LARGE + 1]);
    for batch in records::BATCHES.iter().filter(|batch| FILLING.contains(&batch.fault)) {
        lab.book.fired(batch.fault, (batch.publish)(lab, large)?);
    }
    for recipe in cloud::RECIPES.iter().filter(|recipe| FILLING.contains(&recipe.fault)) {
        if let Err(error) = cloud::suffer(lab, recipe, 0, bombed).await {
            lab.book.failed(recipe.fault, format!("{error:#}"));
            lab.cloud.clear_script_of(bombed.directory_id);
        }
    }
    if let Err(error) = host::kill(lab, replicas, &mut Dice::of(wish.seed, 4)).await {
        lab.book.failed(56, format!("while a large record is read: {error:#}"));
        all_well(lab, replicas).await?;
    }
    say("the largest record and the largest answer are through");
    Ok(())
}

/// Everything that is done to processes, database and network, one after the other.
async fn hosts(lab: &Lab, replicas: &mut host::Replicas, wish: &Wish, end: Instant) -> anyhow::Result<()> {
    let mut dice = Dice::of(wish.seed, 3);
    for round in 0.. {
        let mut acts: Vec<&host::Act> = host::ACTS.iter().collect();
        dice.shuffle(&mut acts);
        for act in acts {
            if round > 0 && Instant::now() >= end {
                return Ok(());
            }
            let began = Instant::now();
            let done = (act.run)(lab, replicas, &mut dice).await;
            say(&format!("{} ({:.1} s)", act.name, began.elapsed().as_secs_f64()));
            if let Err(error) = done {
                for fault in act.faults {
                    lab.book.failed(*fault, format!("{}: {error:#}", act.name));
                }
                if act.faults.is_empty() {
                    say(&format!("{}: {error:#}", act.name));
                }
                all_well(lab, replicas).await?;
            }
        }
    }
    Ok(())
}

/// Whatever was done to the replicas is over: both run and reach everything.
pub(crate) async fn all_well(lab: &Lab, replicas: &mut host::Replicas) -> anyhow::Result<()> {
    for replica in replicas.iter_mut() {
        replica.database.clear();
        replica.database.swallow_commits(0);
        replica.cloud.clear();
        replica.cloud.listen_again().await?;
        replica.database.listen_again().await?;
        if let Some(daemon) = &replica.daemon {
            let _ = daemon.signal(Signal::CONT);
        }
        let runs = match &mut replica.daemon {
            Some(daemon) => daemon.ended(Duration::from_millis(200)).await.is_err(),
            None => false,
        };
        if !runs {
            say("a replica has to be started again");
            lab.gone(replica);
            lab.start(replica).await?;
        }
    }
    lab.shared(Duration::from_secs(90)).await
}

/// Odd records, all kinds early, then again and again.
async fn batches(lab: &Lab, end: Instant) -> anyhow::Result<()> {
    for round in 0.. {
        for (number, batch) in records::BATCHES.iter().enumerate() {
            if round > 0 && Instant::now() >= end {
                return Ok(());
            }
            if !FILLING.contains(&batch.fault) {
                let tenant = &lab.tenants[if batch.fault == 21 { CROWDED } else { FIRST_PATIENT + (number + round) % PATIENTS }];
                let made = (batch.publish)(lab, tenant)?;
                lab.book.fired(batch.fault, made);
            }
            tokio::time::sleep(Duration::from_secs(if round == 0 { 2 } else { 6 })).await;
        }
    }
    Ok(())
}

/// One worker: takes the next fault and lets the next of its customers suffer it.
async fn patients(
    lab: &Lab,
    customers: Vec<&SimTenant>,
    waiting: &Mutex<VecDeque<(&cloud::Recipe, usize)>>,
    end: Instant,
) -> anyhow::Result<()> {
    for turn in 0.. {
        let next = waiting.lock().ok().and_then(|mut waiting| waiting.pop_front());
        let Some((recipe, times)) = next else { return Ok(()) };
        let tenant = customers[turn % customers.len()];
        if let Err(error) = cloud::suffer(lab, recipe, times, tenant).await {
            lab.book.failed(recipe.fault, format!("{error:#}"));
            lab.cloud.clear_script_of(tenant.directory_id);
            lab.consent_again(tenant).await?;
        }
        if Instant::now() < end
            && let Ok(mut waiting) = waiting.lock()
        {
            waiting.push_back((recipe, times + 1));
        }
    }
    Ok(())
}

/// The logs of a run that failed outlive it.
fn keep_logs(lab: &Lab) -> anyhow::Result<std::path::PathBuf> {
    let kept = std::env::temp_dir().join(format!("tocsin-soak-logs-{}", std::process::id()));
    std::fs::create_dir_all(&kept)?;
    for entry in std::fs::read_dir(lab.folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "log")
            && let Some(name) = path.file_name()
        {
            std::fs::copy(&path, kept.join(name))?;
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use book::Book;

    #[test]
    fn quantiles_are_values_that_occurred() {
        assert_eq!(quantile(&mut [], 0.5), None);
        assert_eq!(quantile(&mut [7.0], 0.99), Some(7.0));
        let mut hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(
            (quantile(&mut hundred, 0.0), quantile(&mut hundred, 0.99), quantile(&mut hundred, 1.0)),
            (Some(1.0), Some(99.0), Some(100.0))
        );
    }

    #[test]
    fn one_seed_gives_one_order_and_another_seed_another() {
        let order = |seed| {
            let mut order: Vec<u32> = (0..30).collect();
            Dice::of(seed, 3).shuffle(&mut order);
            order
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        assert_ne!(order(1), (0..30).collect::<Vec<_>>());
    }

    #[test]
    fn the_book_keeps_what_was_seen_and_the_first_examples() {
        let book = Book::default();
        book.fired(8, 2);
        book.fired(8, 1);
        book.shown(8, 30);
        book.shown(8, 20);
        let fault = &book.faults()[&8];
        assert_eq!((fault.times, fault.shown_after_ms), (3, Some(30)));
        book.held(4, 10);
        book.check(4, None);
        for number in 0..9 {
            book.check(4, Some(format!("broken {number}")));
        }
        let invariant = &book.invariants()[&4];
        assert_eq!((invariant.checked, invariant.broken.len()), (20, 5));
        book.measure("some", 4.0);
        assert_eq!((book.quantile("some", 0.5), book.quantile("none", 0.5)), (Some(4.0), None));
    }
}
