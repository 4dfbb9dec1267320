//! As much of Postgres' wire protocol as is needed to find the answer to a COMMIT, and what the transaction was about.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>: after the start-up message each message
//! is a letter, a length that counts itself, and a body.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The start-up message that asks for TLS, which this wire does not have.
const WANTS_TLS: u32 = 80_877_103;
/// The one that asks for an encrypted session by GSSAPI.
const WANTS_GSS: u32 = 80_877_104;

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message with a letter, header included.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        let length = self.length_at(1)?;
        self.take(length.checked_add(1)?)
    }

    /// The start-up message, which has no letter.
    pub(super) fn start_up(&mut self) -> Option<Vec<u8>> {
        let length = self.length_at(0)?;
        self.take(length)
    }

    fn length_at(&self, at: usize) -> Option<usize> {
        let bytes: [u8; 4] = self.bytes.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(bytes)).ok()
    }

    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        if self.bytes.len() < length {
            return None;
        }
        let rest = self.bytes.split_off(length);
        Some(std::mem::replace(&mut self.bytes, rest))
    }
}

/// Whether a start-up message only asks for encryption.
pub(super) fn asks_for_encryption(start_up: &[u8]) -> bool {
    let code = start_up.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    start_up.len() == 8 && matches!(code, Some(WANTS_TLS | WANTS_GSS))
}

/// Whether this is the server's word that a COMMIT was carried out (that of a failed transaction says ROLLBACK).
pub(super) fn says_committed(message: &[u8]) -> bool {
    message.first() == Some(&b'C') && message.get(5..) == Some(b"COMMIT\0")
}

/// Whether this is the server's word that it waits for the next command, outside of a transaction.
pub(super) fn says_idle(message: &[u8]) -> bool {
    message.first() == Some(&b'Z') && message.get(5) == Some(&b'I')
}

/// What the client asks for, by the texts of its statements.
#[derive(Debug, Default)]
pub(super) struct Statements {
    prepared: BTreeMap<Vec<u8>, Arc<str>>,
    /// Those of the transaction at hand.
    pub(super) current: Vec<Arc<str>>,
}

impl Statements {
    /// Takes note of a message of the client.
    pub(super) fn note(&mut self, message: &[u8]) {
        let body = message.get(5..).unwrap_or_default();
        match message.first() {
            Some(b'Q') => self.current.push(text(body).0),
            Some(b'P') => {
                let (name, rest) = name(body);
                self.prepared.insert(name.to_owned(), text(rest).0);
            }
            Some(b'B') => {
                let (_, rest) = name(body);
                let (statement, _) = name(rest);
                self.current.extend(self.prepared.get(statement).cloned());
            }
            _ => {}
        }
    }
}

fn name(body: &[u8]) -> (&[u8], &[u8]) {
    let end = body.iter().position(|byte| *byte == 0).unwrap_or(body.len());
    (&body[..end], body.get(end + 1..).unwrap_or_default())
}

fn text(body: &[u8]) -> (Arc<str>, &[u8]) {
    let (text, rest) = name(body);
    (String::from_utf8_lossy(text).into(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(letter: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[letter][..], &length, body].concat()
    }

    #[test]
    fn messages_are_found_wherever_the_stream_is_cut() {
        let whole = [message(b'C', b"COMMIT\0"), message(b'Z', b"I"), message(b'N', b"")].concat();
        for size in 1..=whole.len() {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for piece in whole.chunks(size) {
                frames.push(piece);
                found.extend(std::iter::from_fn(|| frames.next()));
            }
            assert_eq!(found.concat(), whole, "pieces of {size}");
            assert_eq!(found.len(), 3);
            assert!(says_committed(&found[0]) && says_idle(&found[1]) && !says_committed(&found[2]));
        }
        assert!(!says_committed(&message(b'C', b"ROLLBACK\0")) && !says_committed(&message(b'D', b"COMMIT\0")));
        assert!(!says_idle(&message(b'Z', b"T")));
    }

    #[test]
    fn a_bound_statement_is_known_by_the_text_it_was_prepared_with() {
        let mut statements = Statements::default();
        statements.note(&message(b'P', b"s1\0insert into alert_version\0\0\0"));
        statements.note(&message(b'P', b"s2\0select 1\0\0\0"));
        assert!(statements.current.is_empty(), "preparing is not asking");
        statements.note(&message(b'Q', b"begin\0"));
        statements.note(&message(b'B', b"\0s1\0\0\0\0\0\0\0"));
        let texts: Vec<&str> = statements.current.iter().map(|text| &**text).collect();
        assert_eq!(texts, ["begin", "insert into alert_version"]);
    }

    #[test]
    fn a_wish_for_encryption_is_told_from_a_start() {
        let wish = [8_u32.to_be_bytes(), WANTS_TLS.to_be_bytes()].concat();
        let mut frames = Frames::default();
        frames.push(&wish);
        assert!(asks_for_encryption(&frames.start_up().unwrap()));
        let start = [&12_u32.to_be_bytes()[..], &196_608_u32.to_be_bytes(), b"user"].concat();
        frames.push(&start);
        assert!(!asks_for_encryption(&frames.start_up().unwrap()));
    }
}
