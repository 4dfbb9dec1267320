//! Why no access token was given, with its verdict.
//!
//! Microsoft's rule is to react to `error` and never to the description; so `error` (with `suberror`)
//! decides, and the AADSTS numbers, which may change at any time, only refine ([`super::codes`]). What
//! cannot be understood at all is passing trouble: a proxy's login page is no reason to mark a tenant.

use std::fmt;
use std::time::Duration;

use domain::{Audience, Ticks, Trouble, Verdict};
use reqwest::header::HeaderMap;

use super::codes::{self, Class, Meaning};
use super::maybe_ours::MaybeOurs;
use super::wire::Refusal;
use crate::error::write_details;
use crate::http::Failure;
use crate::throttle::{Wait, retry_after};

/// Without a `Retry-After`, what the endpoint usually asks for.
const USUAL_WAIT: Duration = Duration::from_secs(60);

/// No access token was given.
#[derive(Clone, Debug)]
pub struct SignInError {
    trouble: Trouble,
    dead_token: bool,
    maybe_ours: Option<MaybeOurs>,
    status: Option<u16>,
    /// Boxed: errors travel in results beside small things.
    refusal: Box<Refusal>,
}

impl SignInError {
    pub(super) fn new(verdict: Verdict, code: &str, reason: impl Into<String>, action: impl Into<String>) -> Self {
        let trouble = Trouble { verdict, reason: reason.into(), action: action.into(), code: Some(code.to_owned()), trace: None };
        Self { trouble, dead_token: false, maybe_ours: None, status: None, refusal: Box::default() }
    }

    /// Takes over what the answer is called at Microsoft.
    fn of(mut self, refusal: Refusal) -> Self {
        self.trouble.trace = refusal.trace();
        self.refusal = Box::new(refusal);
        self
    }

    /// What the sign-in page says when it sends the browser back with `error` and `error_description`. Both came through
    /// a browser and may be anybody's words: the numbers decide, and no word of the description is kept.
    pub fn of_redirect(error: &str, description: Option<&str>) -> Self {
        let refusal = Refusal::of_redirect(error, description);
        // No token was redeemed, so none is dead.
        Self { dead_token: false, ..classified(&refusal, None) }.of(refusal)
    }

    /// What a stranger in front of a browser may read. Who, why and which of our checks said no stands in
    /// [`SignInError::trouble`], for the log.
    pub fn outside(&self) -> &'static str {
        if self.trouble.verdict.needs_a_person() {
            "this sign-in could not be accepted; ask whoever sent you the link for a new one"
        } else {
            "the sign-in service does not answer now; open the link again in a few minutes"
        }
    }

    /// The failure for a scheduler and for a person.
    pub fn trouble(&self) -> Trouble {
        self.trouble.clone()
    }

    /// Whether the answer says that the refresh token is of no more use. Worth one spaced retry before
    /// it is believed: such answers have been given by mistake, and a person is about to be called.
    pub fn is_dead_token(&self) -> bool {
        self.dead_token
    }

    /// What would show that our own app is at fault and not this one tenant, where one answer cannot tell.
    pub fn maybe_ours(&self) -> Option<MaybeOurs> {
        self.maybe_ours
    }

    /// The HTTP status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// The answer's number at Microsoft, for its support.
    pub fn trace_id(&self) -> Option<&str> {
        self.refusal.trace_id.as_deref()
    }

    /// Every AADSTS number of the answer.
    pub fn codes(&self) -> &[u32] {
        &self.refusal.codes
    }
}

/// A sentence for the log: what happened, the code, and the numbers that Microsoft's support asks for.
impl fmt::Display for SignInError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.trouble.reason)?;
        let error = (!self.refusal.error.is_empty()).then_some(self.refusal.error.as_str());
        let details = [
            ("code", self.trouble.code.as_deref()),
            ("error", error),
            ("suberror", self.refusal.suberror.as_deref()),
            ("trace id", self.refusal.trace_id.as_deref()),
            ("correlation id", self.refusal.correlation_id.as_deref()),
            ("at", self.refusal.timestamp.as_deref()),
        ];
        write_details(f, details)
    }
}

impl std::error::Error for SignInError {}

const WAIT: &str = "nothing; we try again by ourselves";

/// There was no answer, or only half of one.
pub(super) fn unanswered(failure: &Failure) -> SignInError {
    let reason = format!("the sign-in service {failure}");
    match failure {
        Failure::Unreachable(_) => {
            let action = "you, if it lasts: check that this host reaches the cloud's login_url (DNS, firewall, proxy, certificates)";
            SignInError::new(Verdict::Retry, "unreachable", reason, action)
        }
        Failure::Proxy(_) => SignInError::new(Verdict::Retry, "proxy", reason, crate::http::let_through("login_url")),
        Failure::TimedOut => SignInError::new(Verdict::Retry, "timeout", reason, WAIT),
        Failure::BrokeOff(_) | Failure::TooLarge(_) => SignInError::new(Verdict::Retry, "bad-answer", reason, WAIT),
        Failure::Elsewhere => {
            let action = "you: correct login_url of this cloud in the configuration; it must begin with https://";
            SignInError::new(Verdict::OurBug, "bad-address", reason, action)
        }
        Failure::Unwritable => {
            let action = "you: check the client_id of the app and login_url of the cloud in the configuration";
            SignInError::new(Verdict::OurBug, "bad-request", reason, action)
        }
    }
}

/// The answer says 200 and holds no access token.
pub(super) fn no_tokens(status: u16) -> SignInError {
    let reason = "the sign-in service answered with something that holds no access token";
    let action =
        "you, if it lasts: check that login_url of this cloud leads to Microsoft's sign-in service and no proxy answers in its place";
    SignInError { status: Some(status), ..SignInError::new(Verdict::Retry, "bad-answer", reason, action) }
}

/// The answer is for another tenant.
pub(super) fn other_tenant() -> SignInError {
    let reason = "the sign-in service answered with a token of another tenant; it was thrown away";
    let action = "the owner of the account that reads this tenant: sign in again in that very tenant; you: check its directory_id, and make the link with: \
                  tocsin tenant invite {tenant}";
    SignInError::new(Verdict::NeedsConsent, "tid-mismatch", reason, action)
}

/// The answer does not say for which tenant it is.
pub(super) fn unknown_tenant() -> SignInError {
    let reason = "the sign-in service answered with a token that does not say for which tenant it is; it was thrown away";
    let action = "you: see that the app may ask for the scope openid; then the owner of the account: sign in again through a new link, made with: \
                  tocsin tenant invite {tenant}";
    SignInError::new(Verdict::NeedsConsent, "tid-unreadable", reason, action)
}

/// The cloud has no scope for this audience.
pub(super) fn no_scope(audience: Audience) -> SignInError {
    let reason = format!("this cloud has no {audience} API, so no token can be asked for");
    let action = format!("you: take the {audience} source from this tenant, or give its cloud {audience}_url and {audience}_scope");
    SignInError::new(Verdict::OurBug, "no-scope", reason, action)
}

/// The cloud's scope names no resource that an app could ask for.
pub(super) fn no_resource(audience: Audience) -> SignInError {
    let reason = format!("{audience}_scope of this cloud names no resource");
    let action = format!("you: write {audience}_scope like https://graph.microsoft.com/.default offline_access");
    SignInError::new(Verdict::OurBug, "no-resource", reason, action)
}

/// The answer is no 200.
pub(super) fn refused(status: u16, headers: &HeaderMap, body: &[u8], now: Ticks) -> SignInError {
    let wait = retry_after(headers, now);
    let refusal = Refusal::read(body);
    let mut error = match (status, &refusal) {
        (429, _) => throttled(wait.unwrap_or(Wait { span: USUAL_WAIT, shortened: false })),
        (500.., _) | (408, _) => out_of_order(status, wait),
        (400..500, Some(refusal)) => classified(refusal, wait),
        _ => not_understood(status),
    };
    error.status = Some(status);
    error.of(refusal.unwrap_or_default())
}

/// The code of a [`SignInError`] for HTTP 429, whatever came with it.
pub const TOO_MANY_REQUESTS: &str = "http-429";

fn throttled(wait: Wait) -> SignInError {
    let reason = format!("the sign-in service is throttling us; {}", wait.words());
    SignInError::new(Verdict::RetryAfter(wait.span), TOO_MANY_REQUESTS, reason, "nothing; we wait as long as we are asked to")
}

fn out_of_order(status: u16, wait: Option<Wait>) -> SignInError {
    let verdict = wait.map_or(Verdict::Retry, |wait| Verdict::RetryAfter(wait.span));
    let reason = format!("the sign-in service is out of order (HTTP {status})");
    SignInError::new(verdict, &format!("http-{status}"), reason, WAIT)
}

fn not_understood(status: u16) -> SignInError {
    let reason = format!("the sign-in service answered HTTP {status} with something that is no answer of a sign-in service");
    let action =
        "you, if it lasts: check that login_url of this cloud leads to Microsoft's sign-in service and no proxy answers in its place";
    SignInError::new(Verdict::Retry, &format!("http-{status}"), reason, action)
}

fn classified(refusal: &Refusal, wait: Option<Wait>) -> SignInError {
    let (code, meaning) = codes::meaning(&refusal.error, refusal.suberror.as_deref(), &refusal.codes);
    let code = code.map_or_else(|| refusal.error.clone(), |code| format!("AADSTS{code}"));
    let asked = wait.map(|wait| wait.span);
    let verdict = match meaning.class {
        Class::Transient { least: None } | Class::Unsettled => asked.map_or(Verdict::Retry, Verdict::RetryAfter),
        Class::Transient { least: Some(least) } => Verdict::RetryAfter(asked.map_or(least, |asked| asked.max(least))),
        Class::SignInAgain | Class::Consent => Verdict::NeedsConsent,
        Class::Policy | Class::Gone | Class::AppGone => Verdict::NeedsCustomer,
        Class::Ours => Verdict::Global,
        Class::Malformed => Verdict::OurBug,
    };
    let Meaning { reason, action, .. } = meaning;
    let mut error = SignInError::new(verdict, &code, *reason, *action);
    error.dead_token = verdict == Verdict::NeedsConsent && codes::may_mean_a_dead_token(&refusal.error);
    error.maybe_ours = match meaning.class {
        Class::Unsettled => Some(MaybeOurs::IfItLasts),
        Class::AppGone => Some(MaybeOurs::IfSeveralSaySo),
        _ => None,
    };
    error
}

/// Every answer of the sign-in service that is known by its number or, behind those, by its word, and what is made of each
/// where it stands alone: for whoever writes it down.
pub fn known_answers() -> impl Iterator<Item = (String, Trouble)> {
    let by_code = codes::every_code().map(|(code, _)| {
        let refusal = Refusal { codes: vec![code], ..Refusal::default() };
        (format!("AADSTS{code}"), refusal)
    });
    let by_word = codes::every_word().map(|(word, sub, _)| {
        if sub {
            (format!("suberror {word}"), Refusal { suberror: Some(word.to_owned()), ..Refusal::default() })
        } else {
            (word.to_owned(), Refusal { error: word.to_owned(), ..Refusal::default() })
        }
    });
    by_code.chain(by_word).map(|(name, refusal)| (name, classified(&refusal, None).trouble))
}

#[cfg(test)]
mod tests;
