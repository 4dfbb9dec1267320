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
pub mod sampler;
pub mod witness;

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;
use simulator::{Effect, Rule, SimTenant};
use tokio::time::Instant;

use crate::harness::{Tally, eventually};
use dice::Dice;
use faults::{cloud, host, records};
use lab::{CROWDED, FIRST_PATIENT, HEALTHY, Lab, PATIENTS, STRICT};

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

/// How many times more work waits for this machine than it has processors; at least 1. What is promised in seconds is
/// promised of a machine that has nothing else to do.
pub fn crowding() -> f64 {
    let load = std::fs::read_to_string("/proc/loadavg").ok().and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    (load.unwrap_or(1.0) / processors).max(1.0)
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
    outcome
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
    let rest = at_rest(lab, replicas).await;
    report::Report::write(lab, wish, begun, rest).await
}

/// Fires everything, and goes on until the time is over.
async fn faults_on(lab: &Lab, replicas: &mut host::Replicas, wish: &Wish) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(wish.seconds);
    let mut order: Vec<&cloud::Recipe> = cloud::RECIPES.iter().collect();
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
async fn all_well(lab: &Lab, replicas: &mut host::Replicas) -> anyhow::Result<()> {
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
            // Twenty megabytes are read again by every look back, so one of them is enough.
            if round == 0 || batch.fault != 31 {
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

/// What the world has come to once nothing is done to it any more.
pub struct Rest {
    /// The count.
    pub tally: Tally,
    /// Memory and descriptors of the replicas at the beginning and at the end of a calm stretch, and how long it was.
    pub calm: Vec<(sampler::Look, sampler::Look)>,
    /// What did not come to rest.
    pub troubles: Vec<String>,
}

async fn at_rest(lab: &Lab, replicas: &mut host::Replicas) -> anyhow::Result<Rest> {
    for tenant in lab.tenants.iter().enumerate().filter(|(number, _)| *number != STRICT).map(|(_, tenant)| tenant) {
        lab.cloud.clear_script_of(tenant.directory_id);
    }
    all_well(lab, replicas).await?;
    // Where an old token is taken for theft, a kill between the answer and its storing costs the sign-in, which shows.
    let sql = "select directory_id from dash.tenant_health where state = 'needs-consent'";
    let lost: Vec<uuid::Uuid> = sqlx::query_scalar(sql).fetch_all(&lab.pool()).await?;
    for tenant in lab.tenants.iter().skip(HEALTHY).filter(|tenant| lost.contains(&tenant.directory_id)) {
        lab.consent_again(tenant).await?;
    }
    let mut troubles = Vec::new();
    if let Err(error) = cloud::recovered(lab, &lab.tenants.iter().collect::<Vec<_>>()).await {
        troubles.push(format!("{error:#}"));
    }
    // Nothing was ever done to the sign-in of these, and every process that held their tokens was killed again and again.
    let healthy = cloud::recovered(lab, &lab.tenants.iter().take(HEALTHY).collect::<Vec<_>>()).await;
    lab.book.check(30, healthy.err().map(|error| format!("{error:#}")));
    settled(lab, Duration::from_secs(180)).await?;
    let calm = calm(lab).await?;
    let tally = settled(lab, Duration::from_secs(60)).await;
    Ok(Rest { tally: tally?, calm, troubles })
}

/// The count, as soon as it agrees or the time is up.
async fn settled(lab: &Lab, limit: Duration) -> anyhow::Result<Tally> {
    let agreed = eventually("the count agrees", limit, async || {
        let tally = Tally::take(&lab.cloud.ledger(), &lab.pool()).await.map_err(|error| error.to_string())?;
        if tally.agrees() { Ok(tally) } else { Err(tally.to_string()) }
    })
    .await;
    match agreed {
        Ok(tally) => Ok(tally),
        Err(error) => {
            say(&format!("{error:#}"));
            Tally::take(&lab.cloud.ledger(), &lab.pool()).await
        }
    }
}

/// Some load and no faults for a while: what grows now grows for ever.
async fn calm(lab: &Lab) -> anyhow::Result<Vec<(sampler::Look, sampler::Look)>> {
    const WARM_UP: Duration = Duration::from_secs(5);
    const SPAN: Duration = Duration::from_secs(25);
    lab.changing.store(true, Ordering::Relaxed);
    let watch = async |span: Duration| {
        let until = Instant::now() + span;
        let mut least: Vec<sampler::Look> = Vec::new();
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(500)).await;
            for look in lab.faces().iter().flatten().filter_map(|face| lab.samples.look(face)) {
                match least.iter_mut().find(|known| known.pid == look.pid) {
                    // The floor is what stays; what one page needs while it is read does not.
                    Some(known) => *known = sampler::Look { rss: known.rss.min(look.rss), fds: known.fds.min(look.fds), ..look },
                    None => least.push(look),
                }
            }
        }
        least
    };
    let stretch = async {
        watch(WARM_UP).await;
        let first = watch(SPAN / 2).await;
        let last = watch(SPAN / 2).await;
        let pairs = first.into_iter().filter_map(|look| Some((look, *last.iter().find(|later| later.pid == look.pid)?)));
        pairs.collect()
    };
    tokio::select! {
        pairs = stretch => Ok(pairs),
        () = load::run(lab, 99) => anyhow::bail!("the load ended"),
    }
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
