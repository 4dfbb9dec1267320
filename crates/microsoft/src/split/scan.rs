//! Finds the members of a page and the borders of the records in its list.
//!
//! A sound record is delimited by serde_json. For a broken one, and for what surrounds the list, it knows quotes, escapes and
//! brackets and nothing else, takes one pass, and holds what is left over against the page: when a guess about a broken record
//! was wrong, the rest does not add up and the whole page is refused. A record may come out of here broken; it never comes
//! out missing.

use std::ops::Range;

use super::{NEXT_LINK, VALUE};
use crate::members::{Found, leading};

/// What is in a page.
pub(super) struct Parts<T> {
    /// What was read of each. `None` when the page has no list. Two lists are read as one, so that nothing in either is lost.
    pub(super) records: Option<Vec<T>>,
    /// Where the link is.
    pub(super) next: Option<Range<usize>>,
}

/// Delimits the members of the page and the records of its list, or `None` when it does not add up. `read` is told of each
/// record where it is, and its members by these `names` if it is one object; see [`leading`] for what that leaves open.
pub(super) fn page<'a, const N: usize, T>(
    body: &'a [u8],
    names: [&str; N],
    read: impl FnMut(Range<usize>, Option<Found<'a, N>>) -> T,
) -> Option<Parts<T>> {
    let mut scanner = Scanner { body, at: 0, names, read };
    let mut parts = Parts { records: None, next: None };
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
            b'"' => scanner.member(&mut parts)?,
            _ => return None,
        }
    }
    scanner.blank();
    (scanner.at == body.len()).then_some(parts)
}

struct Scanner<'a, 'n, const N: usize, R> {
    body: &'a [u8],
    at: usize,
    names: [&'n str; N],
    read: R,
}

/// What surrounds a value, and therefore which closing bracket ends it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Object,
    List,
}

impl<'a, const N: usize, T, R: FnMut(Range<usize>, Option<Found<'a, N>>) -> T> Scanner<'a, '_, N, R> {
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

    fn member(&mut self, parts: &mut Parts<T>) -> Option<()> {
        let name = self.text()?;
        let name = serde_json::from_slice::<String>(&self.body[name]).unwrap_or_default();
        self.blank();
        self.expect(b':')?;
        self.blank();
        if name == VALUE && self.peek()? == b'[' {
            return self.list(parts.records.get_or_insert_default());
        }
        let value = self.value(Inside::Object)?;
        match name.as_str() {
            // A list that is none is no page, even beside one that is.
            VALUE => return None,
            NEXT_LINK => parts.next = Some(value),
            _ => {}
        }
        Some(())
    }

    fn list(&mut self, records: &mut Vec<T>) -> Option<()> {
        self.expect(b'[')?;
        loop {
            self.blank();
            match self.peek()? {
                b']' => {
                    self.at += 1;
                    return Some(());
                }
                b',' => self.at += 1,
                _ => {
                    let (range, found) = match self.sound() {
                        Some((range, found)) => (range, Some(found)),
                        None => (self.value(Inside::List)?, None),
                    };
                    records.push((self.read)(range, found));
                }
            }
        }
    }

    /// A record that is one valid object and followed by what may follow one; nothing is taken otherwise.
    ///
    /// serde_json gives up where [`Self::value`] finds the border, give or take some blanks, since up to there they see the same
    /// brackets: a page made of broken records is not read over and over.
    fn sound(&mut self) -> Option<(Range<usize>, Found<'a, N>)> {
        let start = self.at;
        // Of anything else, serde_json would make an error message.
        if self.peek()? != b'{' {
            return None;
        }
        let (found, length) = leading(&self.body[start..], self.names)?;
        self.at += length;
        self.blank();
        if matches!(self.peek(), Some(b',' | b']')) {
            return Some((start..start + length, found));
        }
        self.at = start;
        None
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
