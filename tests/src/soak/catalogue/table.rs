//! The catalogue as a page for people.

use std::fmt::Write as _;

use super::{Entry, FAULTS, INVARIANTS, Place};

const HEAD: &str = "\
# Which fault is exercised where

Written by `cargo run -p e2e --bin soak -- --table` from `tests/src/soak/catalogue`, and held against it by a test; every test
named here exists, which a test sees to as well.

- **soak**: `./dev soak [SECONDS]` does it to real processes, a real Postgres and the pretend Microsoft, in every run; a run that
  leaves one of them out fails.
- **simulation**: the real rooms on a paused clock, seed after seed (`tests/simulation`).
- **test**: a test of its own, with its file and name.
- **later**: belongs to a capability that does not exist yet.
- **skipped**: what a machine like this cannot do, with the reason; `./dev soak` prints it in every run.
";

/// The page.
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    section(&mut page, "Faults", "", FAULTS);
    section(&mut page, "Invariants", "I", INVARIANTS);
    page
}

fn section(page: &mut String, title: &str, letter: &str, entries: &[Entry]) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "\n## {title}\n\n| | What | Where |\n| --- | --- | --- |");
    for entry in entries {
        let places: Vec<String> = entry.places.iter().map(words).collect();
        let _ = writeln!(page, "| {letter}{} | {} | {} |", entry.id, entry.name, places.join("; "));
    }
}

fn words(place: &Place) -> String {
    match place {
        Place::Process => "**soak**".to_owned(),
        Place::Simulation(word) => format!("**simulation**: `{word}`"),
        Place::Test(file, name) => format!("**test**: `{name}` in `{file}`"),
        Place::Later(what) => format!("**later**: {what}"),
        Place::Skipped(reason) => format!("**skipped**: {reason}"),
    }
}
