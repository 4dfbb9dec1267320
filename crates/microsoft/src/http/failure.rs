//! Why there is no answer, in words that hold no address and no secret.

use std::error::Error;

/// Why there is no answer, or only half of one. Made of words that hold no address and no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    #[error("cannot be reached: the proxy of this host {0}")]
    Proxy(String),
    #[error("did not answer in time")]
    TimedOut,
    #[error("broke off in the middle of its answer: {0}")]
    BrokeOff(String),
    #[error("sent an answer of more than {0} bytes")]
    TooLarge(usize),
    #[error("was not asked: the address is not one of those that were configured")]
    Elsewhere,
    #[error("was not asked: the request cannot be written down")]
    Unwritable,
}

/// What to do about a proxy that does not let us through to an address of the configuration.
pub(crate) fn let_through(key: &str) -> String {
    format!("you: let the proxy that HTTPS_PROXY names pass connections to the cloud's {key}, or leave its host out with NO_PROXY")
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if let Some(refusal) = refusal_of_a_proxy(&error) {
            Self::Proxy(refusal)
        } else if error.is_timeout() {
            Self::TimedOut
        } else if error.is_builder() {
            Self::Unwritable
        } else if error.is_body() || error.is_decode() {
            Self::BrokeOff(innermost(&error))
        } else {
            Self::Unreachable(innermost(&error))
        }
    }
}

/// The last word of a chain of errors, which is the one that says what happened ("connection
/// refused", "certificate expired"). Cut short, on one line, and without the names that a wrong certificate
/// holds: those were chosen by whoever answers in Microsoft's place.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let last = chain(error).last().unwrap_or(error);
    let words = last.to_string();
    let words = words.split_once(" not valid for name ").map_or(words.clone(), |(what, _)| format!("{what} not valid for this name"));
    words.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(160).collect()
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (**error).source())
}

/// What a proxy between us and the host did, in words, if it is to blame.
///
/// The error of the library is of a type that cannot be named; its first words can, and a story holds them
/// (`fault_72`). Whether a proxy is used is decided by the environment, and only by it.
fn refusal_of_a_proxy(error: &(dyn Error + 'static)) -> Option<String> {
    let tunnel = chain(error).map(ToString::to_string).find_map(|words| words.strip_prefix("tunnel error: ").map(str::to_owned))?;
    Some(match tunnel.as_str() {
        "proxy authorization required" => "wants a user name and a password (HTTP 407)".to_owned(),
        "unsuccessful" => "refuses to connect us".to_owned(),
        "failed to create underlying connection" => format!("cannot be reached itself: {}", innermost(error)),
        _ => format!("broke off: {}", innermost(error)),
    })
}
