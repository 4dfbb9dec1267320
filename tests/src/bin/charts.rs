//! `./dev charts FILE…`: pictures of what `./dev bench` printed into these files, for `docs/explanation`.
#![expect(clippy::print_stdout, reason = "the names of the files are the output")]

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Parser;
use e2e::measure::charts::charts;
use serde_json::Value;

/// Draw what was measured.
#[derive(Parser)]
struct Options {
    /// Lines of JSON as `./dev bench` prints them; of two lines of one name the later one counts.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Where the pictures go.
    #[arg(long, default_value = "docs/explanation")]
    into: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut lines = Vec::new();
    for file in &options.files {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        for line in text.lines().filter(|line| line.starts_with('{')) {
            lines.push(serde_json::from_str::<Value>(line).with_context(|| format!("{}: no JSON: {line}", file.display()))?);
        }
    }
    let drawn = charts(&lines);
    ensure!(!drawn.is_empty(), "nothing of which there is a picture was measured in these files");
    for chart in drawn {
        let file = Path::new(&options.into).join(format!("{}.svg", chart.name));
        std::fs::write(&file, chart.svg()).with_context(|| format!("cannot write {}", file.display()))?;
        println!("{}", file.display());
    }
    Ok(())
}
