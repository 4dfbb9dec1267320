//! `tocsin completions`: what a shell has to know to complete commands and options.

use clap::CommandFactory as _;

use crate::cli::{Cli, Completions};
use crate::failure::Failure;
use crate::output::Output;

/// Prints the script.
pub(super) fn run(output: Output, options: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "tocsin", &mut script);
    output.line(String::from_utf8_lossy(&script).trim_end())
}
