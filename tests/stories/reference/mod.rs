//! `docs/reference`: pages that are written from the code and compared with it, so that none of them can be out of date.
//!
//! `./dev reference` writes them anew. Each story renders one page from what the program itself uses: the tree of commands,
//! the built-in configuration, the described metrics, a migrated database, the table of sign-in errors, the alert rules.

mod commands;
mod configuration;
mod metrics;
mod rules;
mod sign_in_errors;
mod views;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, ensure};

/// A page that is being written.
struct Page {
    name: &'static str,
    text: String,
}

impl Page {
    /// Begins one: its file, its title, what it is written from, and what to know before reading it.
    fn new(name: &'static str, title: &str, from: &str, words: &str) -> Self {
        let text = format!("# {title}\n\n<!-- Written by ./dev reference from {from}: change that, and not this page. -->\n\n{words}\n");
        Self { name, text }
    }

    /// A heading of this depth.
    fn heading(&mut self, depth: usize, words: &str) {
        self.paragraph(&format!("{} {words}", "#".repeat(depth)));
    }

    /// Anything that stands by itself.
    fn paragraph(&mut self, words: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "\n{}\n", words.trim_end());
    }

    /// A block of this language.
    fn block(&mut self, language: &str, lines: &str) {
        self.paragraph(&format!("```{language}\n{}\n```", lines.trim_end()));
    }

    /// A table; nothing when it has no rows.
    fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        if rows.is_empty() {
            return;
        }
        let line = |cells: &[String]| {
            let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |", cells.join(" | "))
        };
        let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
        let rule = format!("|{}", " --- |".repeat(head.len()));
        let lines: Vec<_> = [line(&head), rule].into_iter().chain(rows.iter().map(|row| line(row))).collect();
        self.paragraph(&lines.join("\n"));
    }

    /// Compares the page with the one that is there, or writes it when `./dev reference` asks for that.
    fn settle(self) -> anyhow::Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference").join(self.name);
        if std::env::vars().any(|(name, _)| name == "TOCSIN_WRITE_REFERENCE") {
            return std::fs::write(&path, &self.text).with_context(|| format!("cannot write {}", path.display()));
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        let differing = || {
            let (mut there, mut now) = (there.lines(), self.text.lines());
            (1..).map(|number| (number, there.next(), now.next())).find(|(_, there, now)| there != now || there.is_none())
        };
        ensure!(
            there == self.text,
            "docs/reference/{} is not what the code says, from {:?} on; write it anew with: ./dev reference",
            self.name,
            differing()
        );
        Ok(())
    }
}

/// Plain words as they stand in a cell of a table or in a paragraph: one line, and nothing that would be a tag or emphasis.
fn plain(words: &str) -> String {
    let joined = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let pieces = joined.split('`').enumerate();
    let pieces = pieces.map(|(at, piece)| if at % 2 == 0 { piece.replace('<', "&lt;").replace('*', "\\*") } else { piece.to_owned() });
    pieces.collect::<Vec<_>>().join("`")
}

/// A sentence: a capital at the front and a full stop at the end.
fn sentence(words: &str) -> String {
    let words = plain(words);
    let mut rest = words.chars();
    let first: String = rest.next().into_iter().flat_map(char::to_uppercase).collect();
    let stop = if words.ends_with(['.', ':', '?', '!']) { "" } else { "." };
    format!("{first}{}{stop}", rest.as_str())
}
