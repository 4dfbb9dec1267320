//! The daemon and its command line: this crate wires the rooms together and does nothing else.
//!
//! Read `wiring.rs` first: it is the one screen on which every channel and every long-lived task is
//! made. `cli.rs` says what can be typed, `commands/` has one file per command, `config.rs` reads and
//! checks the configuration, `database.rs` gets to a Postgres, `lifecycle.rs` starts, stops and dies,
//! `reload.rs` reads the configuration again, `service_manager.rs` tells systemd how it is,
//! `hardening.rs` keeps the memory of the process to itself, `reference.rs` is what the reference pages are written from.

mod cli;
mod commands;
mod config;
mod database;
mod failure;
mod files;
mod hardening;
mod lifecycle;
mod moment;
mod output;
mod progress;
pub mod reference;
mod reload;
mod secrets;
mod service_manager;
mod telemetry;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

use crate::failure::{Exit, Failure};

/// Parses the command line, runs the command and turns its end into an exit code.
#[must_use]
pub fn main() -> ExitCode {
    if let Err(error) = hardening::begin() {
        output::Output::new(false).note(&format!("warning: the memory of this process cannot be kept from core files: {error}"));
    }
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with exit 0, mistakes to stderr with exit 2.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(Exit::Usage as u8) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(Failure::new(Exit::Failed, format!("cannot start the runtime: {error}")))),
    };
    let end = finish(runtime.block_on(commands::run(cli)));
    // A connection or a task that still hangs must not hold up the end.
    runtime.shutdown_background();
    end
}

fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure.message);
            ExitCode::from(failure.exit as u8)
        }
    }
}
