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
    status: Option<u16>,
    /// Boxed: errors travel in results beside small things.
    refusal: Box<Refusal>,
}

impl SignInError {
    pub(super) fn new(verdict: Verdict, code: &str, reason: impl Into<String>, action: impl Into<String>) -> Self {
        let trouble = Trouble { verdict, reason: reason.into(), action: action.into(), code: Some(code.to_owned()) };
        Self { trouble, dead_token: false, status: None, refusal: Box::default() }
    }

    /// What the sign-in page says when it sends the browser back with `error` and `error_description`. Both came through
    /// a browser and may be anybody's words: the numbers decide, and no word of the description is kept.
    pub fn of_redirect(error: &str, description: Option<&str>) -> Self {
        let refusal = Refusal::of_redirect(error, description);
        // No token was redeemed, so none is dead.
        Self { refusal: Box::new(refusal.clone()), dead_token: false, ..classified(&refusal, None) }
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
    let action = "you: check the tenant's directory_id, then sign in again in that very tenant and import the new refresh token \
                  (tocsin tenant import FILE --replace-token)";
    SignInError::new(Verdict::NeedsConsent, "tid-mismatch", reason, action)
}

/// The answer does not say for which tenant it is.
pub(super) fn unknown_tenant() -> SignInError {
    let reason = "the sign-in service answered with a token that does not say for which tenant it is; it was thrown away";
    let action = "you: see that the app may ask for the scope openid, then sign in again and import the new refresh token \
                  (tocsin tenant import FILE --replace-token)";
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
    error.refusal = Box::new(refusal.unwrap_or_default());
    error
}

fn throttled(wait: Wait) -> SignInError {
    let reason = format!("the sign-in service is throttling us; {}", wait.words());
    SignInError::new(Verdict::RetryAfter(wait.span), "http-429", reason, "nothing; we wait as long as we are asked to")
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
    let by_code = codes::deciding(&refusal.codes);
    let meaning = match by_code {
        Some((_, meaning)) => meaning,
        None => codes::of_error(&refusal.error, refusal.suberror.as_deref()),
    };
    let code = match (by_code, refusal.codes.first()) {
        (Some((code, _)), _) => format!("AADSTS{code}"),
        (None, Some(code)) => format!("AADSTS{code}"),
        (None, None) => refusal.error.clone(),
    };
    let asked = wait.map(|wait| wait.span);
    let verdict = match meaning.class {
        Class::Transient { least: None } => asked.map_or(Verdict::Retry, Verdict::RetryAfter),
        Class::Transient { least: Some(least) } => Verdict::RetryAfter(asked.map_or(least, |asked| asked.max(least))),
        Class::SignInAgain | Class::Consent => Verdict::NeedsConsent,
        Class::Policy | Class::Gone => Verdict::NeedsCustomer,
        Class::Ours => Verdict::Global,
        Class::Malformed => Verdict::OurBug,
    };
    let Meaning { reason, action, .. } = meaning;
    let mut error = SignInError::new(verdict, &code, *reason, *action);
    error.dead_token = verdict == Verdict::NeedsConsent && codes::may_mean_a_dead_token(&refusal.error);
    error
}

#[cfg(test)]
mod tests {
    use reqwest::header::RETRY_AFTER;

    use super::*;
    use crate::oauth::codes::every_code;

    const NOW: Ticks = Ticks(0);

    fn answer(status: u16, body: &str) -> SignInError {
        refused(status, &HeaderMap::new(), body.as_bytes(), NOW)
    }

    fn answer_after(status: u16, retry_after: &str, body: &str) -> SignInError {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, retry_after.parse().unwrap())]);
        refused(status, &headers, body.as_bytes(), NOW)
    }

    fn body(error: &str, codes: &[u32]) -> String {
        format!(r#"{{"error":"{error}","error_description":"AADSTS{codes:?}: text for people","error_codes":{codes:?},"trace_id":"t-1"}}"#)
    }

    #[test]
    fn every_code_becomes_its_verdict_whatever_error_stands_beside_it() {
        for (code, meaning) in every_code() {
            for error in ["invalid_grant", "invalid_client", "a_word_of_tomorrow"] {
                let found = answer(400, &body(error, &[code]));
                let verdict = match meaning.class {
                    Class::Transient { least: None } => Verdict::Retry,
                    Class::Transient { least: Some(least) } => Verdict::RetryAfter(least),
                    Class::SignInAgain | Class::Consent => Verdict::NeedsConsent,
                    Class::Policy | Class::Gone => Verdict::NeedsCustomer,
                    Class::Ours => Verdict::Global,
                    Class::Malformed => Verdict::OurBug,
                };
                let trouble = found.trouble();
                assert_eq!(trouble.verdict, verdict, "{code} {error}");
                assert_eq!(trouble.code, Some(format!("AADSTS{code}")));
                assert_eq!((trouble.reason.as_str(), trouble.action.as_str()), (meaning.reason, meaning.action));
                assert_eq!(found.is_dead_token(), verdict == Verdict::NeedsConsent && error == "invalid_grant", "{code} {error}");
                assert_eq!((found.trace_id(), found.codes(), found.status()), (Some("t-1"), &[code][..], Some(400)));
            }
        }
    }

    #[test]
    fn a_loop_that_they_believe_in_is_throttling_and_no_dead_token() {
        let error = answer(400, &body("invalid_grant", &[50196]));
        assert_eq!(error.trouble().verdict, Verdict::RetryAfter(Duration::from_secs(300)));
        assert!(!error.is_dead_token());
        let longer = answer_after(400, "600", &body("invalid_grant", &[50196]));
        assert_eq!(longer.trouble().verdict, Verdict::RetryAfter(Duration::from_secs(600)));
        let shorter = answer_after(400, "1", &body("invalid_grant", &[50196]));
        assert_eq!(shorter.trouble().verdict, Verdict::RetryAfter(Duration::from_secs(300)), "never sooner than helps");
    }

    #[test]
    fn a_dead_token_is_said_by_error_and_code_together() {
        for (error, codes, dead) in [
            ("invalid_grant", &[70008][..], true),
            ("invalid_grant", &[70002, 70008], true),
            ("invalid_grant", &[], true),
            ("invalid_grant", &[424_242], true),
            ("interaction_required", &[50076], true),
            ("consent_required", &[65001], true),
            ("login_required", &[], true),
            ("invalid_grant", &[53003], false),
            ("invalid_grant", &[50057], false),
            ("invalid_grant", &[70021], false),
            ("invalid_client", &[7_000_222], false),
            ("invalid_resource", &[500_011], false),
            ("temporarily_unavailable", &[], false),
        ] {
            assert_eq!(answer(400, &body(error, codes)).is_dead_token(), dead, "{error} {codes:?}");
        }
    }

    #[test]
    fn an_unknown_code_is_named_and_error_decides() {
        let trouble = answer(400, &body("invalid_client", &[424_242])).trouble();
        assert_eq!((trouble.verdict, trouble.code.as_deref()), (Verdict::Global, Some("AADSTS424242")));
        let trouble = answer(401, &body("invalid_client", &[])).trouble();
        assert_eq!((trouble.verdict, trouble.code.as_deref()), (Verdict::Global, Some("invalid_client")));
    }

    #[test]
    fn fault_14_15_throttling_is_believed_in_any_dress() {
        for (retry_after, text, seconds) in [
            (Some("60"), "Too Many Requests", 60),
            (Some("2.128"), "", 3),
            (None, "Too Many Requests", 60),
            (Some("-1"), "", 60),
            (Some("999999"), "", 3600),
            (Some("5"), r#"{"error":"invalid_grant","error_codes":[70008]}"#, 5),
        ] {
            let error = match retry_after {
                Some(wait) => answer_after(429, wait, text),
                None => answer(429, text),
            };
            let Verdict::RetryAfter(wait) = error.trouble().verdict else { panic!("{error}") };
            assert_eq!(wait.as_secs_f64().ceil(), f64::from(seconds), "{retry_after:?}");
            assert!(!error.is_dead_token());
        }
        assert!(answer_after(429, "999999", "").to_string().contains("more than an hour"));
    }

    #[test]
    fn fault_13_16_42_what_is_not_understood_is_tried_again_and_marks_nobody() {
        for (status, text) in [
            (400, ""),
            (400, "<html><body>Sign in to the wireless network</body></html>"),
            (400, r#"{"error":"invalid_grant","error_des"#),
            (400, r#"{"error":{"code":"invalid_grant"}}"#),
            (400, "\u{0}\u{0}"),
            (403, "<html>blocked by the proxy</html>"),
            (404, "not found"),
            (302, ""),
            (204, ""),
            (500, r#"{"error":"invalid_grant","error_codes":[70008]}"#),
            (502, "<html>"),
            (503, r#"{"error":"temporarily_unavailable"}"#),
            (408, ""),
        ] {
            let error = answer(status, text);
            assert_eq!(error.trouble().verdict, Verdict::Retry, "{status} {text}");
            assert!(!error.is_dead_token());
            assert_eq!(error.trouble().code, Some(format!("http-{status}")));
        }
        let trouble = answer_after(503, "7", "").trouble();
        assert_eq!(trouble.verdict, Verdict::RetryAfter(Duration::from_secs(7)));
    }

    #[test]
    fn a_refusal_that_came_through_the_browser_is_judged_by_its_numbers() {
        for (error, description, verdict, code) in [
            (
                "access_denied",
                Some("AADSTS65004: declined.\r\nTrace ID: 3939d04c-d7ba\r\nTimestamp: x"),
                Verdict::NeedsConsent,
                "AADSTS65004",
            ),
            ("consent_required", Some("AADSTS90094: an administrator"), Verdict::NeedsConsent, "AADSTS90094"),
            ("access_denied", None, Verdict::NeedsConsent, "access_denied"),
            ("temporarily_unavailable", None, Verdict::Retry, "temporarily_unavailable"),
            ("<script>", Some("<script>"), Verdict::Retry, "unknown"),
        ] {
            let error = SignInError::of_redirect(error, description);
            let trouble = error.trouble();
            assert_eq!((trouble.verdict, trouble.code.as_deref()), (verdict, Some(code)));
            assert!(!error.is_dead_token() && !error.to_string().contains("script"));
            assert!(!error.outside().contains(code));
        }
        assert_eq!(SignInError::of_redirect("x", Some("AADSTS65004: y Trace ID: 3939d04c-d7ba z")).trace_id(), Some("3939d04c-d7ba"));
    }

    #[test]
    fn the_log_line_has_what_support_asks_for_and_no_description() {
        let error = answer(
            400,
            r#"{"error":"invalid_grant","error_description":"AADSTS700082: jo@contoso.test","error_codes":[700082],"suberror":"token_expired",
                "timestamp":"2026-01-09 02:02:12Z","trace_id":"tr-1","correlation_id":"co-1"}"#,
        );
        assert_eq!(
            error.to_string(),
            "the refresh token has expired because it was not used for 90 days (code AADSTS700082, error invalid_grant, suberror token_expired, \
             trace id tr-1, correlation id co-1, at 2026-01-09T02:02:12Z)"
        );
        assert!(!format!("{error:?}").contains("contoso"));
    }
}
