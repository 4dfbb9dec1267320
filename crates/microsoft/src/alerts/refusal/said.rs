//! What an error body says: codes from the outside in, and the number of the request.

use serde_json::value::RawValue;

use crate::error::harmless;
use crate::members::{lenient_text, members, text};

/// What an error body says, as far as it is looked at.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// From the outside in; the innermost is the most specific.
    pub(super) codes: Vec<String>,
    /// The outermost that is fit for a log.
    pub(super) code: Option<String>,
    /// Looked into for two words and dropped.
    message: String,
    pub(super) request_id: Option<String>,
}

impl Said {
    pub(super) fn read(body: &[u8]) -> Self {
        let mut said = Self::default();
        let Ok(body) = std::str::from_utf8(body) else { return said };
        let Ok([error]) = members(body, ["error"]) else { return said };
        let mut level = error;
        // An inner error may hold an inner error, and a hostile one never ends.
        for _ in 0..8 {
            level = level.and_then(|error| said.take_level(error));
        }
        said.code = said.codes.iter().find_map(|code| harmless(code));
        said
    }

    /// Takes what one level says, and answers the next.
    fn take_level<'a>(&mut self, error: &'a RawValue) -> Option<&'a RawValue> {
        let names = ["code", "message", "innerError", "innererror", "request-id", "target"];
        let [code, message, inner, inner_small, request_id, target] = members(error.get(), names).ok()?;
        self.codes.extend(text(code).map(std::borrow::Cow::into_owned));
        self.message.push_str(&lenient_text(message).unwrap_or_default().to_ascii_lowercase());
        self.message.push('\n');
        // Endpoint calls the number of the request "target".
        let id = text(request_id).or_else(|| text(target)).and_then(|id| harmless(&id));
        self.request_id = self.request_id.take().or(id);
        inner.or(inner_small)
    }

    /// Whether one of the codes is this.
    pub(super) fn says(&self, code: &str) -> bool {
        self.codes.iter().any(|said| said.eq_ignore_ascii_case(code))
    }

    /// Whether a code or a message holds this word, which is in small letters.
    pub(super) fn names(&self, word: &str) -> bool {
        self.message.contains(word) || self.codes.iter().any(|code| code.to_ascii_lowercase().contains(word))
    }
}
