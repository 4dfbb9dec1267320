//! Runs seeds again: `cargo run -p simulation --bin simulate -- --seed 42 --trace`.

use std::io::Write;

use clap::Parser;
use simulation::{Options, Tally, run};

/// Runs one seed, or several, and says what they came to.
#[derive(Parser)]
struct Arguments {
    /// Which seed, or the first of them.
    #[arg(long)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Print the log of each.
    #[arg(long)]
    trace: bool,
    /// Print the fingerprint of each.
    #[arg(long)]
    fingerprints: bool,
    /// Plant a bug.
    #[arg(long)]
    bug: Option<String>,
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let options = Options { trace: arguments.trace, bug: arguments.bug };
    let mut out = std::io::stdout().lock();
    let mut together = Tally::default();
    for seed in arguments.seed..arguments.seed + arguments.seeds {
        let outcome = run(seed, &options);
        for line in &outcome.lines {
            writeln!(out, "{line}")?;
        }
        for broken in &outcome.broken {
            writeln!(out, "seed {seed}: {} broken at {} ms: {}", broken.invariant.as_str(), broken.at, broken.what)?;
        }
        if arguments.fingerprints || arguments.seeds == 1 {
            writeln!(out, "seed {seed}: fingerprint {:016x}", outcome.fingerprint)?;
        }
        together.merge(&outcome.tally);
    }
    writeln!(out, "{}", together.json())
}
