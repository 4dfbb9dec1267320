//! What an API's refusal means.
//!
//! The table of this file, top to bottom: no answer · 401 · 403 · 400 · 429 and 503 · other 5xx · the
//! rest. Two refusals are told apart by words of the answer because there is nothing else to tell
//! them by: a 400 that names `$orderby`, and a 403 for want of a licence.

mod said;
#[cfg(test)]
mod tests;

use std::time::Duration;

use domain::rehearsal::Rehearsed;
use domain::{Audience, Source, Ticks, Trace, Verdict};
use reqwest::header::{DATE, HeaderMap, WWW_AUTHENTICATE};

use crate::error::{ApiError, ApiErrorKind, harmless};
use crate::http::Failure;
use crate::query::PageQuery;
use crate::throttle::{Wait, read_http_date, retry_after};
use said::Said;

/// Graph leaves `Retry-After` out at times, and a call that is refused counts like one that is not.
const USUAL_WAIT: Duration = Duration::from_secs(30);

const WAIT: &str = "nothing; we try again by ourselves";

/// An answer that is no page.
pub(super) struct Refused<'a> {
    pub(super) source: Source,
    pub(super) query: &'a PageQuery,
    pub(super) status: u16,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
    pub(super) now: Ticks,
}

impl Refused<'_> {
    /// The error for this answer, with the request's number at Microsoft.
    pub(super) fn classify(&self) -> ApiError {
        let said = Said::read(self.body);
        let mut error = self.by_status(&said);
        error.numbers.request_id = self.request_id().or(said.request_id);
        let trace = Trace { id: error.numbers.request_id.clone(), at: self.answered_at() };
        error.trouble.trace = (trace != Trace::default()).then(|| Box::new(trace));
        error
    }

    fn by_status(&self, said: &Said) -> ApiError {
        let (api, status) = (name(self.source), self.status);
        let code = format!("http-{status}");
        let error = |kind, verdict, reason: String, action: &str| ApiError::new(kind, verdict, reason, action, Some(&code));
        match status {
            401 => self.unauthorized(&code),
            402 | 403 => self.forbidden(said, &code),
            400 if self.asked_for_order() && self.body_names_the_order() => {
                let reason = format!("{api} does not sort by time; it is read by time windows instead");
                error(ApiErrorKind::OrderRefused, Verdict::Retry, reason, "nothing")
            }
            400 | 410 if matches!(self.query, PageQuery::Next(_)) => {
                let reason = format!("{api} no longer knows the next page of a list; the list is read again");
                error(ApiErrorKind::SkipExpired, Verdict::Retry, reason, "nothing")
            }
            429 | 503 | 504 | 509 => self.throttled(&code),
            206 => {
                let reason = format!("{api} answered with a part of the page only, which is thrown away");
                error(ApiErrorKind::Unavailable, Verdict::Retry, reason, WAIT)
            }
            408 | 425 | 500.. => error(ApiErrorKind::Unavailable, Verdict::Retry, format!("{api} is out of order (HTTP {status})"), WAIT),
            300..400 => {
                let reason = format!("{api} answered with a redirect (HTTP {status}), which is never followed");
                error(ApiErrorKind::BadAnswer, Verdict::Retry, reason, &check_address(self.source))
            }
            404 => {
                let reason = format!("{api} is not at the configured address (HTTP 404)");
                error(ApiErrorKind::Refused, Verdict::OurBug, reason, &check_address(self.source))
            }
            400..500 => {
                let words = said.code.as_deref().unwrap_or("no code");
                let reason = format!("{api} refused what we asked for (HTTP {status}, {words})");
                let action = "the makers of tocsin: report this with the log line; meanwhile the alerts wait at Microsoft";
                error(ApiErrorKind::Refused, Verdict::OurBug, reason, action)
            }
            _ => bad_page(self.source),
        }
    }

    fn unauthorized(&self, code: &str) -> ApiError {
        let api = name(self.source);
        if self.wants_claims() {
            let reason = format!("{api} wants the user to sign in again (continuous access evaluation)");
            return ApiError::new(ApiErrorKind::Unauthorized, Verdict::NeedsConsent, reason, SIGN_IN_AGAIN, Some("insufficient_claims"));
        }
        let reason = format!("{api} does not accept the access token");
        let action = format!(
            "you, if it lasts: check this machine's clock, and that {0}_scope and {0}_url of the cloud belong together",
            self.source.audience()
        );
        ApiError::new(ApiErrorKind::Unauthorized, Verdict::Retry, reason, action, Some(code))
    }

    fn forbidden(&self, said: &Said, code: &str) -> ApiError {
        let api = name(self.source);
        if self.wants_claims() || said.says("insufficient_claims") {
            let reason = format!("{api} wants the user to sign in again (conditional access)");
            return ApiError::new(ApiErrorKind::Forbidden, Verdict::NeedsConsent, reason, SIGN_IN_AGAIN, Some("insufficient_claims"));
        }
        let unlicensed = self.status == 402 || said.names("licens") || said.names("licenc") || said.names("subscri");
        if said.says("DisabledFeature") || unlicensed {
            let (reason, action) = (
                format!("{api} is not part of what this customer has: the feature is off or the licence is missing"),
                "the customer's administrator: switch the feature on or renew the Defender licence; or you: take this source from the tenant",
            );
            let code = if said.says("DisabledFeature") { "DisabledFeature" } else { code };
            return ApiError::new(ApiErrorKind::Forbidden, Verdict::NeedsCustomer, reason, action, Some(code));
        }
        let (what, permission, role) = match self.source {
            Source::GraphAlerts => ("alerts", "SecurityAlert.Read.All", "the role Security Reader"),
            Source::GraphIncidents => ("incidents", "SecurityIncident.Read.All", "the role Security Reader"),
            Source::MdeAlerts => ("alerts", "Alert.Read.All (for a user's token: Alert.Read)", "the Defender permission View Data"),
        };
        let reason = format!("{api} does not let us read {what}: a permission or a role is missing or was taken away");
        let action = format!(
            "the customer's administrator: consent to {permission} for our app, and give {role} to the account that reads, if it is a user; \
             you make the consent link with: tocsin tenant invite {{tenant}}"
        );
        ApiError::new(ApiErrorKind::Forbidden, Verdict::NeedsConsent, reason, action, Some(code))
    }

    fn throttled(&self, code: &str) -> ApiError {
        let (api, status) = (name(self.source), self.status);
        let asked = retry_after(self.headers, self.now);
        let wait = match (status, asked) {
            (_, Some(wait)) => wait,
            (429 | 509, None) => Wait { span: USUAL_WAIT, shortened: false },
            // An outage that names no time is simply an outage.
            (_, None) => {
                let reason = format!("{api} is out of order (HTTP {status})");
                return ApiError::new(ApiErrorKind::Unavailable, Verdict::Retry, reason, WAIT, Some(code));
            }
        };
        let reason = format!("{api} asks us to slow down (HTTP {status}); {}", wait.words());
        let action = "nothing; we wait as long as we are asked to";
        ApiError::new(ApiErrorKind::Throttled(wait.span), Verdict::RetryAfter(wait.span), reason, action, Some(code))
    }

    /// Whether the query asked for an order. A link may carry the order of the first page.
    fn asked_for_order(&self) -> bool {
        match self.query {
            PageQuery::Window(window) => window.ordered,
            PageQuery::Next(_) => true,
        }
    }

    /// Anywhere in the body: it may be JSON or a line of text. At worst an order is given up that was
    /// not refused, which is always safe.
    fn body_names_the_order(&self) -> bool {
        const WORD: &[u8] = b"orderby";
        self.body.windows(WORD.len()).any(|window| window.eq_ignore_ascii_case(WORD))
    }

    fn wants_claims(&self) -> bool {
        let challenges = self.headers.get_all(WWW_AUTHENTICATE).into_iter().filter_map(|value| value.to_str().ok());
        challenges.into_iter().any(|challenge| challenge.contains("insufficient_claims"))
    }

    fn answered_at(&self) -> Option<Ticks> {
        read_http_date(self.headers.get(DATE)?.to_str().ok()?)
    }

    fn request_id(&self) -> Option<String> {
        ["request-id", "x-ms-request-id", "x-request-id"].into_iter().find_map(|name| harmless(self.headers.get(name)?.to_str().ok()?))
    }
}

const SIGN_IN_AGAIN: &str =
    "the owner of the account that reads this tenant: sign in again through a new link; you make it with: tocsin tenant invite {tenant}";

/// There was no answer, or only half of one.
pub(super) fn unanswered(source: Source, query: &PageQuery, failure: &Failure) -> ApiError {
    let reason = format!("{} {failure}", name(source));
    let error = |kind, verdict, action: &str, code| ApiError::new(kind, verdict, reason.as_str(), action, Some(code));
    match failure {
        Failure::Unreachable(_) => error(ApiErrorKind::Unavailable, Verdict::Retry, &check_network(source), "unreachable"),
        Failure::Proxy(_) => {
            let url = format!("{}_url", source.audience());
            error(ApiErrorKind::Unavailable, Verdict::Retry, &crate::http::let_through(&url), "proxy")
        }
        Failure::TimedOut => error(ApiErrorKind::Unavailable, Verdict::Retry, WAIT, "timeout"),
        Failure::BrokeOff(_) => error(ApiErrorKind::Unavailable, Verdict::Retry, WAIT, "broke-off"),
        Failure::TooLarge(_) => error(ApiErrorKind::TooLarge, Verdict::Retry, "nothing; smaller pages are asked for", "too-large"),
        Failure::Elsewhere if matches!(query, PageQuery::Next(_)) => foreign_link(source),
        Failure::Elsewhere => {
            let action = format!("you: correct {}_url of this cloud in the configuration; it must begin with https://", source.audience());
            error(ApiErrorKind::Unsupported, Verdict::OurBug, &action, "bad-address")
        }
        Failure::Unwritable => error(ApiErrorKind::BadAnswer, Verdict::Retry, WAIT, "bad-request"),
    }
}

/// The answer says 200 and is no page of alerts.
pub(super) fn bad_page(source: Source) -> ApiError {
    let reason = format!("{} answered with something that is no page of alerts", name(source));
    ApiError::new(ApiErrorKind::BadAnswer, Verdict::Retry, reason, check_address(source), Some("bad-answer"))
}

/// A rehearsal lets this fail. It passes, like an outage.
pub(super) fn rehearsed(source: Source, rehearsed: &Rehearsed) -> ApiError {
    ApiError::new(ApiErrorKind::Unavailable, Verdict::Retry, format!("{}: {rehearsed}", name(source)), WAIT, Some("rehearsed"))
}

/// The page names a next page at an address that our token must not go to.
pub(super) fn foreign_link(source: Source) -> ApiError {
    let reason = format!("{} named a next page at another address; it was not asked for", name(source));
    ApiError::new(ApiErrorKind::ForeignNextLink, Verdict::OurBug, reason, check_address(source), Some("foreign-address"))
}

fn check_address(source: Source) -> String {
    format!(
        "you, if it lasts: check that {}_url of this cloud leads to Microsoft's API and nothing answers in its place",
        source.audience()
    )
}

fn check_network(source: Source) -> String {
    format!("you, if it lasts: check that this host reaches the cloud's {}_url (DNS, firewall, proxy, certificates)", source.audience())
}

fn name(source: Source) -> &'static str {
    match source.audience() {
        Audience::Graph => "Microsoft Graph",
        Audience::Defender => "Defender for Endpoint",
    }
}
