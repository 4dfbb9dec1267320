//! The published schemas: whatever a command prints with `--json` is held to the one of its name.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::Value;

/// These print one document a line; all others print one.
const LINES: [&str; 3] = ["alerts-tail", "tenant-connect", "tenant-invite"];

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/schemas"))
}

/// The schema that these arguments call for: the words of the command with `-` between them.
pub fn schema_of(arguments: &[&str]) -> Option<String> {
    let at = arguments.iter().position(|word| !word.starts_with('-'))?;
    let words = &arguments[at..];
    (1..=2).filter_map(|count| Some(words.get(..count)?.join("-"))).find(|name| folder().join(format!("{name}.json")).is_file())
}

/// Holds what a command printed with `--json` to its schema.
///
/// # Errors
/// When it does not fit, with the first place.
pub fn fits(arguments: &[&str], stdout: &str) -> anyhow::Result<()> {
    // A document that was printed elsewhere, or nothing after a mistake, is not looked at; nor is `schema NAME`, which is none.
    let Some(name) = schema_of(arguments).filter(|_| arguments.contains(&"--json") && !stdout.trim().is_empty()) else { return Ok(()) };
    if name == "schema" && arguments.iter().filter(|word| !word.starts_with('-')).count() > 1 {
        return Ok(());
    }
    let text = std::fs::read_to_string(folder().join(format!("{name}.json")))?;
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&serde_json::from_str(&text)?)
        .with_context(|| format!("{name}.json is no schema"))?;
    let documents: Vec<Value> = if LINES.contains(&name.as_str()) || arguments.contains(&"--watch") {
        serde_json::Deserializer::from_str(stdout)
            .into_iter()
            .collect::<Result<_, _>>()
            .with_context(|| format!("{arguments:?}: {stdout}"))?
    } else {
        vec![serde_json::from_str(stdout).with_context(|| format!("{arguments:?}: {stdout}"))?]
    };
    for document in documents {
        if let Some(error) = validator.iter_errors(&document).next() {
            ensure!(false, "what {arguments:?} prints is not as {name}.json says: {error}, at {}\n{document:#}", error.instance_path());
        }
    }
    Ok(())
}
