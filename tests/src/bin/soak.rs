//! `./dev soak`: the whole system through the catalogue of faults; one line of JSON on stdout, progress on stderr.
#![expect(clippy::print_stdout, reason = "the line is the output")]

use std::process::ExitCode;

use clap::Parser;
use e2e::soak::{self, Wish};
use tokio::signal::unix::{SignalKind, signal};

/// Drive two replicas through every fault of the catalogue, and count what is stored.
#[derive(Parser)]
struct Options {
    /// For how many seconds faults are fired; all of them fire at least once, however long that takes.
    #[arg(default_value_t = 600, value_parser = clap::value_parser!(u64).range(90..=86_400))]
    seconds: u64,
    /// Only print the table of docs/faults.md.
    #[arg(long)]
    table: bool,
    /// Decides the order of the faults and what is published.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Plant a known bug (their names are in crates/domain/src/rehearsal.rs): the run has to fail.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(domain::rehearsal::BUGS))]
    bug: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    if options.table {
        print!("{}", soak::catalogue::markdown());
        return ExitCode::SUCCESS;
    }
    match until_the_end(&Wish { seconds: options.seconds, seed: options.seed, bug: options.bug }).await {
        Ok(Some(report)) => {
            report.tell();
            println!("{}", report.line());
            if report.good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Ok(None) => ExitCode::from(130),
        Err(error) => {
            soak::say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs until it is over, or until Ctrl-C: whatever was started ends when it is dropped.
async fn until_the_end(wish: &Wish) -> anyhow::Result<Option<soak::report::Report>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        report = soak::run(wish) => report.map(Some),
        _ = interrupt.recv() => Ok(None),
        _ = terminate.recv() => Ok(None),
    }
}
