//! Which fault and which invariant is exercised where. `docs/faults.md` is written from this, the soak reads from it
//! what it has to fire and to check, and a test holds every name in it against the sources.

mod faults;
mod invariants;
mod table;

pub use faults::FAULTS;
pub use invariants::INVARIANTS;
pub use table::markdown;

use std::collections::BTreeMap;

/// Where something is exercised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// By the soak, on real processes: fired or checked in every run.
    Process,
    /// In the seeded simulation, under this name.
    Simulation(&'static str),
    /// In a test: the file, and the name of the function.
    Test(&'static str, &'static str),
    /// With a capability that does not exist yet.
    Later(&'static str),
    /// Not on a machine like this, and why.
    Skipped(&'static str),
}

impl Place {
    /// In words, for what the soak leaves to others.
    pub fn elsewhere(&self) -> Option<String> {
        match self {
            Self::Simulation(what) => Some(format!("simulation: {what}")),
            Self::Test(file, name) => Some(format!("{file}: {name}")),
            Self::Later(what) => Some(format!("with a later capability: {what}")),
            Self::Process | Self::Skipped(_) => None,
        }
    }
}

/// A fault or an invariant.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its number.
    pub id: u8,
    /// What it is.
    pub name: &'static str,
    /// Where it is exercised.
    pub places: &'static [Place],
}

/// The faults that nothing fires, with the reason.
pub fn skipped() -> BTreeMap<String, &'static str> {
    let reason = |entry: &Entry| {
        entry.places.iter().find_map(|place| match place {
            Place::Skipped(reason) => Some(*reason),
            _ => None,
        })
    };
    FAULTS.iter().filter_map(|entry| Some((entry.id.to_string(), reason(entry)?))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::soak::faults::injectors;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    #[test]
    fn every_number_is_there_once_and_is_somewhere() {
        let numbers = |entries: &[Entry]| entries.iter().map(|entry| entry.id).collect::<Vec<_>>();
        assert_eq!(numbers(FAULTS), (1..=72).collect::<Vec<_>>());
        assert_eq!(numbers(INVARIANTS), (1..=35).collect::<Vec<_>>());
        for entry in FAULTS.iter().chain(INVARIANTS) {
            assert!(!entry.places.is_empty(), "{} ({}) is nowhere", entry.id, entry.name);
        }
    }

    #[test]
    fn the_soak_can_fire_what_is_its_own_and_nothing_else() {
        for fault in FAULTS {
            assert_eq!(fault.places.contains(&Place::Process), !injectors(fault.id).is_empty(), "fault {} ({})", fault.id, fault.name);
        }
    }

    #[test]
    fn what_is_in_scope_is_exercised_or_skipped_with_a_reason() {
        let in_scope = |entry: &&Entry| entry.id != 41;
        for fault in FAULTS.iter().filter(in_scope) {
            assert!(!fault.places.iter().all(|place| matches!(place, Place::Later(_))), "fault {}", fault.id);
        }
        for id in [1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 24, 29, 30, 31, 32, 33, 35] {
            let places = INVARIANTS[id - 1].places;
            assert!(places.iter().any(|place| matches!(place, Place::Process | Place::Simulation(_))), "I{id}");
        }
    }

    #[test]
    fn every_test_that_is_named_exists() {
        for entry in FAULTS.iter().chain(INVARIANTS) {
            for place in entry.places {
                let (file, wanted) = match place {
                    Place::Test(file, name) => (*file, format!("fn {name}(")),
                    Place::Simulation(word) => ("tests/simulation/src/tally.rs", format!("        {word} = ")),
                    _ => continue,
                };
                let path = root().join(file);
                let text = if path.is_dir() { everything_in(&path) } else { std::fs::read_to_string(&path).unwrap_or_default() };
                assert!(text.contains(&wanted), "{} ({}): {file} has no \"{wanted}\"", entry.id, entry.name);
            }
        }
    }

    fn everything_in(folder: &Path) -> String {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { everything_in(&path) } else { std::fs::read_to_string(path).unwrap_or_default() }).collect()
    }

    #[test]
    fn the_table_in_the_documentation_is_this_one() {
        let written = std::fs::read_to_string(root().join("docs/faults.md")).unwrap_or_default();
        assert!(
            written == markdown(),
            "docs/faults.md is not what the catalogue says; type: cargo run -p e2e --bin soak -- --table > docs/faults.md"
        );
    }
}
