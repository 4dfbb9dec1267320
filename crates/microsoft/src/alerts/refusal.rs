//! What an API's refusal means.
//!
//! The table of this file, top to bottom: no answer · 401 · 403 · 400 · 429 and 503 · other 5xx · the
//! rest. Two refusals are told apart by words of the answer because there is nothing else to tell
//! them by: a 400 that names `$orderby`, and a 403 for want of a licence.

use std::time::Duration;

use domain::rehearsal::Rehearsed;
use domain::{Audience, Source, Ticks, Verdict};
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use serde_json::value::RawValue;

use crate::error::{ApiError, ApiErrorKind, harmless};
use crate::http::Failure;
use crate::members::{lenient_text, members, text};
use crate::query::PageQuery;
use crate::throttle::{Wait, retry_after};

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
                "the customer: an administrator switches the feature on or renews the Defender licence; or you: take this source from the tenant",
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
            "the customer: an administrator consents to {permission} for our app, and gives {role} to the account that reads, if it is a user"
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

    fn request_id(&self) -> Option<String> {
        ["request-id", "x-ms-request-id", "x-request-id"].into_iter().find_map(|name| harmless(self.headers.get(name)?.to_str().ok()?))
    }
}

const SIGN_IN_AGAIN: &str = "you: sign in again with the account that reads this tenant and import the new refresh token (tocsin tenant import FILE --replace-token)";

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

/// What an error body says, as far as it is looked at.
#[derive(Debug, Default)]
struct Said {
    /// From the outside in; the innermost is the most specific.
    codes: Vec<String>,
    /// The outermost that is fit for a log.
    code: Option<String>,
    /// Looked into for two words and dropped.
    message: String,
    request_id: Option<String>,
}

impl Said {
    fn read(body: &[u8]) -> Self {
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
    fn says(&self, code: &str) -> bool {
        self.codes.iter().any(|said| said.eq_ignore_ascii_case(code))
    }

    /// Whether a code or a message holds this word, which is in small letters.
    fn names(&self, word: &str) -> bool {
        self.message.contains(word) || self.codes.iter().any(|code| code.to_ascii_lowercase().contains(word))
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::RETRY_AFTER;
    use url::Url;

    use super::*;
    use crate::query::{NextLink, WindowQuery};

    fn window(ordered: bool) -> PageQuery {
        PageQuery::Window(WindowQuery {
            from: Ticks(0),
            before: None,
            top: 1000,
            skip: 0,
            ordered,
            axis: domain::Axis::Update,
            facets: [None; 3],
        })
    }

    fn next() -> PageQuery {
        let base = Url::parse("https://graph.test").unwrap();
        PageQuery::Next(NextLink::accept("https://graph.test/next", &base, &base).unwrap())
    }

    fn ask(source: Source, query: &PageQuery, status: u16, headers: &HeaderMap, body: &str) -> ApiError {
        Refused { source, query, status, headers, body: body.as_bytes(), now: Ticks(0) }.classify()
    }

    fn graph(status: u16, body: &str) -> ApiError {
        ask(Source::GraphAlerts, &window(true), status, &HeaderMap::new(), body)
    }

    #[test]
    fn each_refusal_has_its_kind_and_verdict() {
        use ApiErrorKind::{BadAnswer, Forbidden, OrderRefused, Refused, Throttled, Unauthorized, Unavailable};
        let half_a_minute = Duration::from_secs(30);
        let throttled = (Throttled(half_a_minute), Verdict::RetryAfter(half_a_minute));
        for (status, body, (kind, verdict)) in [
            (
                400,
                r#"{"error":{"code":"BadRequest","message":"The query option '$orderby' is not allowed."}}"#,
                (OrderRefused, Verdict::Retry),
            ),
            (
                400,
                r#"{"error":{"code":"ODataError","message":"x","innerError":{"message":"OrderBy is not supported"}}}"#,
                (OrderRefused, Verdict::Retry),
            ),
            (400, "Query parameter $OrderBy is unknown", (OrderRefused, Verdict::Retry)),
            (400, r#"{"error":{"code":"BadRequest","message":"Invalid filter clause"}}"#, (Refused, Verdict::OurBug)),
            (400, "", (Refused, Verdict::OurBug)),
            (401, r#"{"error":{"code":"InvalidAuthenticationToken","message":"expired"}}"#, (Unauthorized, Verdict::Retry)),
            (403, r#"{"error":{"code":"Forbidden","message":"Missing application roles"}}"#, (Forbidden, Verdict::NeedsConsent)),
            (403, "", (Forbidden, Verdict::NeedsConsent)),
            (403, r#"{"error":{"code":"DisabledFeature","message":"x"}}"#, (Forbidden, Verdict::NeedsCustomer)),
            (403, r#"{"error":{"code":"UnknownError","message":"Tenant has no LICENSE for this"}}"#, (Forbidden, Verdict::NeedsCustomer)),
            (403, r#"{"error":{"code":"accessDenied","innerError":{"code":"insufficient_claims"}}}"#, (Forbidden, Verdict::NeedsConsent)),
            (402, "", (Forbidden, Verdict::NeedsCustomer)),
            (
                404,
                r#"{"error":{"code":"BadRequest","message":"Resource not found for the segment 'alerts_v2'."}}"#,
                (Refused, Verdict::OurBug),
            ),
            (418, "", (Refused, Verdict::OurBug)),
            (429, r#"{"error":{"code":"TooManyRequests"}}"#, throttled.clone()),
            (509, "", throttled),
            (408, "", (Unavailable, Verdict::Retry)),
            (500, r#"{"error":{"code":"InternalServerError","message":""}}"#, (Unavailable, Verdict::Retry)),
            (502, "<html>", (Unavailable, Verdict::Retry)),
            (503, "", (Unavailable, Verdict::Retry)),
            (504, "", (Unavailable, Verdict::Retry)),
            (206, r#"{"value":[]}"#, (Unavailable, Verdict::Retry)),
            (302, "", (BadAnswer, Verdict::Retry)),
            (204, "", (BadAnswer, Verdict::Retry)),
        ] {
            let error = graph(status, body);
            assert_eq!((error.kind(), error.trouble().verdict), (kind, verdict), "{status} {body}");
            assert!(!error.trouble().reason.is_empty() && !error.trouble().action.is_empty());
        }
    }

    #[test]
    fn an_order_is_refused_only_where_one_was_asked_for() {
        let body = r#"{"error":{"code":"BadRequest","message":"the query had no $orderby"}}"#;
        let error = ask(Source::GraphAlerts, &window(false), 400, &HeaderMap::new(), body);
        assert_eq!(error.kind(), ApiErrorKind::Refused);
    }

    #[test]
    fn fault_18_a_link_that_is_no_longer_good_says_so() {
        for status in [400, 410] {
            let error = ask(Source::GraphAlerts, &next(), status, &HeaderMap::new(), r#"{"error":{"code":"InvalidSkipToken"}}"#);
            assert_eq!((error.kind(), error.trouble().verdict), (ApiErrorKind::SkipExpired, Verdict::Retry));
        }
        assert_eq!(ask(Source::GraphAlerts, &window(true), 410, &HeaderMap::new(), "").kind(), ApiErrorKind::Refused);
        assert_eq!(ask(Source::GraphAlerts, &next(), 400, &HeaderMap::new(), "no $orderby here").kind(), ApiErrorKind::OrderRefused);
    }

    #[test]
    fn fault_14_16_a_time_to_wait_is_taken_from_429_and_from_an_outage_alike() {
        for status in [429, 503, 504, 509] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, "2.128".parse().unwrap())]);
            let error = ask(Source::MdeAlerts, &window(false), status, &headers, "");
            let span = Duration::from_millis(2128);
            assert_eq!((error.kind(), error.trouble().verdict), (ApiErrorKind::Throttled(span), Verdict::RetryAfter(span)), "{status}");
        }
    }

    #[test]
    fn fault_43_a_claims_challenge_calls_for_a_person() {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, "Basic".parse().unwrap());
        headers.append(WWW_AUTHENTICATE, r#"Bearer realm="", error="insufficient_claims", claims="e30=""#.parse().unwrap());
        let error = ask(Source::GraphAlerts, &window(true), 401, &headers, "");
        assert_eq!((error.kind(), error.trouble().verdict), (ApiErrorKind::Unauthorized, Verdict::NeedsConsent));
        assert_eq!(error.trouble().code.as_deref(), Some("insufficient_claims"));
    }

    #[test]
    fn a_missing_permission_is_named() {
        assert!(graph(403, "").trouble().action.contains("SecurityAlert.Read.All"));
        let error = ask(Source::MdeAlerts, &window(false), 403, &HeaderMap::new(), "");
        assert!(error.trouble().action.contains("Alert.Read.All") && !error.trouble().action.contains("SecurityAlert"));
        let incidents = ask(Source::GraphIncidents, &window(true), 403, &HeaderMap::new(), "").trouble();
        assert!(incidents.action.contains("SecurityIncident.Read.All") && incidents.reason.contains("read incidents"));
        assert_eq!(error.trouble().code.as_deref(), Some("http-403"));
        assert_eq!(graph(403, r#"{"error":{"code":"DisabledFeature"}}"#).trouble().code.as_deref(), Some("DisabledFeature"));
    }

    #[test]
    fn the_number_for_support_is_found_wherever_it_is() {
        let headers = HeaderMap::from_iter([("request-id".parse().unwrap(), "h-1".parse().unwrap())]);
        let body = r#"{"error":{"code":"x","innerError":{"request-id":"b-1"}}}"#;
        assert_eq!(ask(Source::GraphAlerts, &window(true), 500, &headers, body).request_id(), Some("h-1"));
        assert_eq!(graph(500, body).request_id(), Some("b-1"));
        assert_eq!(graph(500, r#"{"error":{"code":"x","target":"t-1"}}"#).request_id(), Some("t-1"));
        assert_eq!(graph(500, r#"{"error":{"code":"x","target":"two words"}}"#).request_id(), None);
    }

    #[test]
    fn nothing_of_a_body_reaches_a_person() {
        let body = r#"{"error":{"code":"MARKER code with spaces","message":"MARKER","innerError":{"code":"MARKER 2","message":"MARKER"}}}"#;
        for status in [400, 401, 402, 403, 404, 418, 429, 500, 503] {
            let error = graph(status, body);
            assert!(!format!("{error} {error:?} {:?}", error.trouble()).contains("MARKER"), "{status}");
        }
    }

    #[test]
    fn a_body_that_never_ends_inwards_is_read_a_few_levels() {
        let body = format!(
            "{}{}",
            r#"{"error":"#.to_owned() + &r#"{"code":"a","innerError":"#.repeat(5000),
            "null".to_owned() + &"}".repeat(5001)
        );
        assert_eq!(Said::read(body.as_bytes()).codes.len(), 8);
    }
}
