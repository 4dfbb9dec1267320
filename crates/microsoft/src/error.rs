//! Why a page could not be read, with its verdict.
//!
//! Status and code decide; the text of a message only refines two cases where the API offers nothing
//! better (a refused `$orderby`, a missing licence). No error ever holds a body, a link or a token.

use std::fmt;
use std::time::Duration;

use domain::{Trouble, Verdict};

/// A page that could not be read.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub(crate) kind: ApiErrorKind,
    pub(crate) trouble: Trouble,
    /// Boxed: errors travel in results beside small things.
    pub(crate) numbers: Box<Numbers>,
}

/// What a request is called, for Microsoft's support.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    /// By them, if the answer says so.
    pub(crate) request_id: Option<String>,
    /// By us.
    pub(crate) client_request_id: Option<String>,
}

/// What a reader of pages does differently for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiErrorKind {
    /// 400 naming `$orderby`: read by windows instead.
    OrderRefused,
    /// 401: drop the token, get a new one, try once more.
    Unauthorized,
    /// 403: permission, role or licence is missing.
    Forbidden,
    /// 429, or 503 with a time to wait.
    Throttled(Duration),
    /// The page is larger than we accept: ask for less.
    TooLarge,
    /// A link to a next page was to be followed to another origin. It was not.
    ForeignNextLink,
    /// The link to the next page is no longer good: walk again.
    SkipExpired,
    /// Not reachable, too slow, or 5xx.
    Unavailable,
    /// An answer that is no page.
    BadAnswer,
    /// Any other refusal: we asked for something wrong.
    Refused,
    /// This cloud has no such source, or an address that must not be called. Nothing was asked.
    Unsupported,
}

impl ApiError {
    pub(crate) fn new(
        kind: ApiErrorKind,
        verdict: Verdict,
        reason: impl Into<String>,
        action: impl Into<String>,
        code: Option<&str>,
    ) -> Self {
        let trouble = Trouble { verdict, reason: reason.into(), action: action.into(), code: code.map(str::to_owned), trace: None };
        Self { kind, trouble, numbers: Box::default() }
    }

    /// The failure for a scheduler and for a person.
    pub fn trouble(&self) -> Trouble {
        self.trouble.clone()
    }

    /// What a reader of pages does about it.
    pub fn kind(&self) -> ApiErrorKind {
        self.kind.clone()
    }

    /// The request's number at Microsoft, if the answer had one.
    pub fn request_id(&self) -> Option<&str> {
        self.numbers.request_id.as_deref()
    }
}

/// A sentence for the log: what happened, the code, and the numbers that Microsoft's support asks for.
impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.trouble.reason)?;
        let Numbers { request_id, client_request_id } = &*self.numbers;
        let details = [("code", &self.trouble.code), ("request-id", request_id), ("client-request-id", client_request_id)];
        write_details(f, details.map(|(name, value)| (name, value.as_deref())))
    }
}

impl std::error::Error for ApiError {}

/// Writes ` (name value, …)` for what is there.
pub(crate) fn write_details<const N: usize>(f: &mut fmt::Formatter<'_>, details: [(&str, Option<&str>); N]) -> fmt::Result {
    let known: Vec<_> = details.into_iter().filter_map(|(name, value)| value.map(|value| format!("{name} {value}"))).collect();
    if known.is_empty() { Ok(()) } else { write!(f, " ({})", known.join(", ")) }
}

/// A word that another machine chose, fit for our logs: short, and of harmless letters only.
pub(crate) fn harmless(text: &str) -> Option<String> {
    let fits = !text.is_empty() && text.len() <= 64;
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    (fits && plain).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_a_sentence_with_its_numbers_at_the_end() {
        let mut error = ApiError::new(ApiErrorKind::Unavailable, Verdict::Retry, "the API is out of order", "nothing", Some("http-503"));
        assert_eq!(error.to_string(), "the API is out of order (code http-503)");
        error.numbers.request_id = Some("a-1".to_owned());
        assert_eq!(error.to_string(), "the API is out of order (code http-503, request-id a-1)");
        error.trouble.code = None;
        error.numbers.request_id = None;
        assert_eq!(error.to_string(), "the API is out of order");
    }

    #[test]
    fn what_another_machine_chose_does_not_write_our_log_lines() {
        assert_eq!(harmless("3939d04c-d7ba-42bf-9cb7-1e5854cdce9e").as_deref(), Some("3939d04c-d7ba-42bf-9cb7-1e5854cdce9e"));
        for text in ["", "a b", "line\nline", "ı", &"x".repeat(65), "a\u{1b}[2J", "<b>"] {
            assert_eq!(harmless(text), None, "{text:?}");
        }
    }
}
