//! Writes `deploy/grafana/dashboards/*.json` from the one table of panels, or with `--check` compares them with it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for whoever changes a panel")]

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use panels::{boards, grafana};

/// Write the dashboards.
#[derive(Parser)]
struct Options {
    /// Change nothing; exit 1 if a file is not what the table of panels says.
    #[arg(long)]
    check: bool,
    /// Print each question instead, as lines of JSON.
    #[arg(long)]
    questions: bool,
    /// The folder.
    #[arg(default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/grafana/dashboards"))]
    folder: std::path::PathBuf,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("dashboards: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<bool> {
    let mut right = true;
    for board in &boards::ALL {
        if options.questions {
            for panel in board.panels {
                println!("{}", serde_json::json!({ "board": board.uid, "title": panel.title, "sql": panel.query }));
            }
            continue;
        }
        let path = options.folder.join(format!("{}.json", board.uid.trim_start_matches("tocsin-")));
        let text = format!("{:#}\n", grafana::dashboard(board));
        if options.check {
            right &= is(&path, &text)?;
        } else {
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(right)
}

/// Whether a file has this text; says so if not.
fn is(path: &Path, text: &str) -> anyhow::Result<bool> {
    let there = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    if there != text {
        eprintln!("{} is not what crates/panels says; write it anew with: cargo run -p e2e --bin dashboards", path.display());
    }
    Ok(there == text)
}
