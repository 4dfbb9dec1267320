//! `tocsin schema`: what the JSON of each command looks like.
//!
//! The schemas are files of the documentation and part of the program, so that they are there where it is. A story runs
//! each command against its own; here it is held that none is missing.

use clap::{Command, CommandFactory as _};
use serde::Serialize;

use crate::cli::{Cli, Schema};
use crate::failure::{Exit, Failure};
use crate::output::Output;

macro_rules! published {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../../../docs/reference/schemas/", $name, ".json")))),*]
    };
}

/// Each with its text, by name: the words of the command with `-` between them.
const PUBLISHED: &[(&str, &str)] = published![
    "alerts-list" "alerts-tail" "audit-heads" "audit-list" "audit-verify" "backfill-cancel" "backfill-start" "backfill-status"
    "config-check" "config-show" "db-migrate" "db-partitions" "db-rebuild" "db-status" "doctor" "healthcheck"
    "key-init" "key-retire" "key-rotate" "key-status" "notify-test" "quarantine-list" "quarantine-replay" "quarantine-show"
    "reader-create" "reader-drop" "reader-grant" "reader-list" "reader-revoke" "reconcile" "reload" "report" "schema"
    "tenant-add" "tenant-connect" "tenant-import" "tenant-invite" "tenant-list" "tenant-pause" "tenant-remove" "tenant-resume"
    "tenant-set" "tenant-show" "tenant-verify" "top"
];

/// One that there is.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    command: String,
}

/// Prints one, or lists them.
pub(super) fn run(output: Output, options: &Schema) -> Result<(), Failure> {
    if options.name.is_empty() {
        let rows: Vec<_> = commands()
            .into_iter()
            .filter_map(|(name, command)| PUBLISHED.iter().find(|(known, _)| *known == name).map(|(name, _)| Listed { name, command }))
            .collect();
        return output.rows(&["SCHEMA", "OF"], &rows, |row| vec![row.name.to_owned(), row.command.clone()]);
    }
    let name = options.name.join("-");
    match PUBLISHED.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => output.line(text.trim_end()),
        None => Err(Failure::new(Exit::NotFound, format!("there is no schema {name:?}; `tocsin schema` lists them"))),
    }
}

/// Every command that does something: its words with `-` between them, and as it is typed.
fn commands() -> Vec<(String, String)> {
    fn leaves(command: &Command, words: &[&str], found: &mut Vec<(String, String)>) {
        if command.get_subcommands().next().is_none() {
            found.push((words.join("-"), format!("tocsin {} --json", words.join(" "))));
        }
        for below in command.get_subcommands() {
            leaves(below, &[words, &[below.get_name()]].concat(), found);
        }
    }
    let mut found = Vec::new();
    leaves(&Cli::command(), &[], &mut found);
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// They print no data.
    const WITHOUT: [&str; 3] = ["completions", "man", "serve"];

    #[test]
    fn every_command_that_prints_data_has_a_schema_and_every_file_is_part_of_the_program() {
        let published: BTreeSet<_> = PUBLISHED.iter().map(|(name, _)| (*name).to_owned()).collect();
        let commands: BTreeSet<_> = commands().into_iter().map(|(name, _)| name).filter(|name| !WITHOUT.contains(&name.as_str())).collect();
        assert_eq!(published, commands);
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/schemas");
        let files: BTreeSet<_> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".json")?.to_owned()))
            .collect();
        assert_eq!(files, published);
    }

    #[test]
    fn a_schema_says_whose_it_is_and_leaves_nothing_open() {
        fn closed(name: &str, value: &serde_json::Value) {
            if value["type"] == "object" {
                assert_eq!(value["additionalProperties"], false, "{name}: {value}");
            }
            match value {
                serde_json::Value::Object(members) => members.values().for_each(|below| closed(name, below)),
                serde_json::Value::Array(items) => items.iter().for_each(|below| closed(name, below)),
                _ => {}
            }
        }
        let commands = commands();
        for (name, text) in PUBLISHED {
            let schema: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
            assert_eq!(schema["$id"], format!("urn:tocsin:schema:{name}"));
            assert!(commands.iter().any(|(of, command)| of == name && schema["title"] == **command), "{name}: {}", schema["title"]);
            assert!(schema["description"].as_str().is_some_and(|words| words.len() > 10), "{name}");
            closed(name, &schema);
        }
    }
}
