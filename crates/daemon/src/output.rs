//! What commands print: data to stdout, as a table for people or as JSON for scripts; all else to stderr.

use std::io::{self, ErrorKind, IsTerminal as _, Write};

use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::failure::{Exit, Failure};

/// Where and how a command prints its data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// JSON instead of tables and sentences.
    pub(crate) json: bool,
    /// What is written to standard output is no text of ours; everything said goes to standard error.
    aside: bool,
}

impl Output {
    /// The usual one.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, aside: false }
    }

    /// For a command that writes something else to standard output, such as an archive.
    ///
    /// # Errors
    /// Exit 2 when there is a terminal, or JSON is to go there as well.
    pub(crate) fn aside(self, what: &str) -> Result<Self, Failure> {
        let refused = |why: &str| Err(Failure::new(Exit::Usage, format!("{what} is to go to standard output, {why}")));
        if self.json {
            return refused("where --json already puts its document: leave out one of them");
        }
        if io::stdout().is_terminal() {
            return refused("which is a terminal: redirect it into a file");
        }
        Ok(Self { aside: true, ..self })
    }

    /// Prints rows: a JSON array, or a table with these headings.
    pub(crate) fn rows<T: Serialize>(self, headings: &[&str], rows: &[T], cells: impl Fn(&T) -> Vec<String>) -> Result<(), Failure> {
        if self.json {
            return self.document(&rows);
        }
        if rows.is_empty() {
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(headings.to_vec());
        for row in rows {
            table.add_row(cells(row).iter().map(|cell| printable(cell)).collect::<Vec<_>>());
        }
        self.line(&table.trim_fmt())
    }

    /// Prints one JSON document.
    pub(crate) fn document<T: Serialize>(self, value: &T) -> Result<(), Failure> {
        let text =
            serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Failed, format!("cannot write JSON: {error}")))?;
        self.line(&text)
    }

    /// Prints one event of a command that goes on: one JSON object on a line of its own.
    pub(crate) fn event<T: Serialize>(self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::new(Exit::Failed, format!("cannot write JSON: {error}")))?;
        self.line(&text)
    }

    /// Prints one line of data. A closed pipe (`| head`) is an ordinary end.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        if self.aside {
            self.note(text);
            return Ok(());
        }
        match writeln!(io::stdout().lock(), "{text}") {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => Err(Failure::new(Exit::Failed, format!("cannot write to standard output: {error}"))),
        }
    }

    /// Tells a person something that is no data.
    pub(crate) fn note(self, text: &str) {
        // Nothing can be done about a standard error that is closed.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// The last words of a command that failed.
pub(crate) fn complain(message: &str) {
    let _ = writeln!(io::stderr().lock(), "tocsin: {message}");
}

/// One line of data, from where no [`Output`] is at hand.
pub(crate) fn datum(text: &str) {
    // A reader that went away is an ordinary end; the command notices by its own means.
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// One line for a person.
pub(crate) fn remark(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Bytes of which nothing is known, as text that does no harm: what steers a terminal or turns writing round, and
/// what is no text, is shown as an escape. Lines stay lines.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\n' || c == '\t' || !(c.is_control() || steers(c)) {
                text.push(c);
            } else {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\u{{{:x}}}", u32::from(c));
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Whether a character is invisible and changes how others are read: direction marks, line and paragraph
/// separators, joiners, tags.
fn steers(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Alert text is written by attackers: control characters must not reach a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') { '\u{fffd}' } else { c })
        .collect()
}

/// `3.5 MB`: in thousands, as disks are sold.
pub(crate) fn size(bytes: i64) -> String {
    let bytes = bytes as f64;
    match bytes {
        ..1e3 => format!("{bytes:.0} B"),
        ..1e6 => format!("{:.1} kB", bytes / 1e3),
        ..1e9 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.1} GB", bytes / 1e9),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_that_are_no_text_or_steer_are_shown_as_escapes() {
        let bytes = b"{\"a\":\"\x1b[2J\x00\xff\xe2\x80\xae\r\"}\n\tend";
        assert_eq!(super::escaped(bytes), "{\"a\":\"\\u{1b}[2J\\u{0}\\xff\\u{202e}\\u{d}\"}\n\tend");
        assert_eq!(super::escaped("\u{9b}31m\u{feff}\u{200b}".as_bytes()), "\\u{9b}31m\\u{feff}\\u{200b}");
        assert_eq!(super::escaped("Sağlık ve İş".as_bytes()), "Sağlık ve İş");
    }

    #[test]
    fn what_an_attacker_writes_cannot_steer_the_terminal() {
        assert_eq!(super::printable("a\u{1b}[2Jb\u{202e}c"), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(super::printable("Sağlık ve İş"), "Sağlık ve İş");
    }
}
