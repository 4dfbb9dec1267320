//! `tocsin man`: the manual, made from what `--help` says.

use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::{Cli, Man};
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Prints the page about `tocsin` itself, or writes one page per command into a folder.
pub(super) fn run(output: Output, options: &Man) -> Result<(), Failure> {
    let command = Cli::command();
    let Some(folder) = &options.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(|error| failed(Path::new("the manual"), &error))?;
        return output.line(String::from_utf8_lossy(&page).trim_end());
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    clap_mangen::generate_to(command, folder).map_err(|error| failed(folder, &error))?;
    output.note(&format!("the manual is in {0}; read it with: man {0}/tocsin.1", folder.display()));
    Ok(())
}

fn failed(what: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write {}: {error}", what.display()))
}
