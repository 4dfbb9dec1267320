//! Ten thousand simulated hours in every run: nothing is lost, nothing is stored twice, whatever goes wrong, and
//! everything that can go wrong does.
//!
//! `SIM_SEEDS` and `SIM_FIRST` run more, fewer or other seeds; with fewer than 2,000 it is not asked whether every fault
//! fired and every promise was held against something. Every seed that ever failed is in `regressions.txt` and comes
//! first.

use simulation::{Options, Outcome, campaign, run};

/// So many seeds by themselves.
const SEEDS: u64 = 10_000;
/// In a run of so many everything has to happen at least once.
const EVERYTHING: u64 = 2_000;

fn number(name: &str, otherwise: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "what to run is said by whoever runs the tests")]
    let text = std::env::var(name);
    text.map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// The seeds that ever failed.
fn regressions() -> Vec<u64> {
    let lines = include_str!("regressions.txt").lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(|line| line.parse().expect("a seed is a number")).collect()
}

#[expect(clippy::print_stdout, reason = "the one line of the run, and how to repeat what failed")]
fn tell(outcome: &Outcome) {
    for broken in &outcome.broken {
        let (seed, invariant) = (outcome.seed, broken.invariant.as_str());
        println!("seed {seed}: {invariant} is broken at {} ms: {}", broken.at, broken.what);
    }
    println!("again: cargo run -p simulation --bin simulate -- --seed {} --trace", outcome.seed);
}

#[test]
#[expect(clippy::print_stdout, reason = "the one line of the run")]
fn nothing_is_lost_in_any_simulated_hour() {
    let first = number("SIM_FIRST", 1);
    let count = number("SIM_SEEDS", SEEDS);
    let seeds: Vec<u64> = regressions().into_iter().chain(first..first + count).collect();
    let campaign = campaign(&seeds, &Options::default(), 20);
    campaign.failed.iter().for_each(tell);
    println!("{}", campaign.json());
    assert!(campaign.failed.is_empty(), "{} seeds failed", campaign.failed.len());
    // A run of a few seeds is for finding out, not for proving.
    if count >= EVERYTHING {
        assert_eq!(campaign.tally.never(), Vec::<&str>::new(), "in scope, and never happened");
    }
}

#[test]
fn a_seed_repeats_itself_to_the_last_event() {
    for seed in 1..=30 {
        let [one, other] = [run(seed, &Options::default()), run(seed, &Options::default())];
        assert_eq!(one.fingerprint, other.fingerprint, "seed {seed}");
        assert_ne!(one.fingerprint, run(seed + 1000, &Options::default()).fingerprint, "seed {seed}");
    }
}

#[test]
fn the_log_of_a_seed_is_there_to_be_read_and_changes_nothing() {
    let read = run(3, &Options { trace: true, ..Options::default() });
    assert_eq!(read.fingerprint, run(3, &Options::default()).fingerprint);
    assert!(read.lines.iter().any(|line| line.contains("fetch")) && read.lines.iter().any(|line| line.contains("commit")));
}
