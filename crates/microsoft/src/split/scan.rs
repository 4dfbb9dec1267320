//! Finds the borders of records in a page that is not valid JSON as a whole.
//!
//! It knows quotes, escapes and brackets and nothing else, takes one pass, and holds what is left over
//! against the page: when a guess about a broken record was wrong, the rest does not add up and the
//! whole page is refused. A record may come out of here broken; it never comes out missing.

use std::ops::Range;

use super::{NEXT_LINK, VALUE};

/// Where things are in a page.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// `None` when the page has no list.
    pub(super) records: Option<Vec<Range<usize>>>,
    pub(super) next: Option<Range<usize>>,
}

/// Delimits the members of the page and the records of its list, or `None` when it does not add up.
pub(super) fn page(body: &[u8]) -> Option<Found> {
    let mut scanner = Scanner { body, at: 0 };
    let mut found = Found::default();
    scanner.blank();
    scanner.expect(b'{')?;
    loop {
        scanner.blank();
        match scanner.peek()? {
            b'}' => {
                scanner.at += 1;
                break;
            }
            b',' => scanner.at += 1,
            b'"' => scanner.member(&mut found)?,
            _ => return None,
        }
    }
    scanner.blank();
    (scanner.at == body.len()).then_some(found)
}

struct Scanner<'a> {
    body: &'a [u8],
    at: usize,
}

/// What surrounds a value, and therefore which closing bracket ends it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Object,
    List,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn blank(&mut self) {
        while self.peek().is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn member(&mut self, found: &mut Found) -> Option<()> {
        let name = self.text()?;
        let name = serde_json::from_slice::<String>(&self.body[name]).unwrap_or_default();
        self.blank();
        self.expect(b':')?;
        self.blank();
        if name == VALUE && self.peek()? == b'[' {
            return self.list(found.records.get_or_insert_default());
        }
        let value = self.value(Inside::Object)?;
        match name.as_str() {
            // A list that is none is no page, even beside one that is.
            VALUE => return None,
            NEXT_LINK => found.next = Some(value),
            _ => {}
        }
        Some(())
    }

    fn list(&mut self, records: &mut Vec<Range<usize>>) -> Option<()> {
        self.expect(b'[')?;
        loop {
            self.blank();
            match self.peek()? {
                b']' => {
                    self.at += 1;
                    return Some(());
                }
                b',' => self.at += 1,
                _ => records.push(self.value(Inside::List)?),
            }
        }
    }

    /// A text with its quotes.
    fn text(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        self.expect(b'"')?;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(start..self.at);
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
    }

    /// A value, up to the comma or bracket that belongs to its surroundings.
    ///
    /// A closing bracket that fits nothing open inside the value ends it if it fits the surroundings,
    /// and is part of its brokenness otherwise. One that fits something further out closes what was
    /// left open in between.
    fn value(&mut self, inside: Inside) -> Option<Range<usize>> {
        let start = self.at;
        let mut end = start;
        let mut open = Vec::new();
        // Counted, so that a bracket that fits nothing is known without searching: a page of thirty
        // million of them must not take a day.
        let (mut braces, mut squares) = (0_usize, 0_usize);
        loop {
            let byte = self.peek()?;
            match byte {
                b'"' => {
                    self.text()?;
                    end = self.at;
                    continue;
                }
                b'{' => {
                    open.push(byte);
                    braces += 1;
                }
                b'[' => {
                    open.push(byte);
                    squares += 1;
                }
                b'}' if braces > 0 => close(&mut open, b'{', &mut braces, &mut squares),
                b']' if squares > 0 => close(&mut open, b'[', &mut braces, &mut squares),
                b'}' if inside == Inside::Object => return Some(start..end),
                b']' if inside == Inside::List => return Some(start..end),
                b',' if open.is_empty() => return Some(start..end),
                _ => {}
            }
            self.at += 1;
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                end = self.at;
            }
        }
    }
}

/// Closes everything up to and including the innermost `bracket`.
fn close(open: &mut Vec<u8>, bracket: u8, braces: &mut usize, squares: &mut usize) {
    while let Some(innermost) = open.pop() {
        match innermost {
            b'{' => *braces -= 1,
            _ => *squares -= 1,
        }
        if innermost == bracket {
            return;
        }
    }
}
