//! Refusals as the APIs write them, and the errors they become.

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
        (400, r#"{"error":{"code":"BadRequest","message":"The query option '$orderby' is not allowed."}}"#, (OrderRefused, Verdict::Retry)),
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
        (404, r#"{"error":{"code":"BadRequest","message":"Resource not found for the segment 'alerts_v2'."}}"#, (Refused, Verdict::OurBug)),
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
    assert_eq!(graph(500, "").trouble().trace, None);
    let headers = HeaderMap::from_iter([(DATE, "Fri, 09 Jan 2026 02:02:12 GMT".parse().unwrap())]);
    let trouble = ask(Source::GraphAlerts, &window(true), 403, &headers, body).trouble();
    assert_eq!((trouble.trace_id(), trouble.answered_at()), (Some("b-1"), Ticks::parse("2026-01-09T02:02:12Z")));
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
    let body =
        format!("{}{}", r#"{"error":"#.to_owned() + &r#"{"code":"a","innerError":"#.repeat(5000), "null".to_owned() + &"}".repeat(5001));
    assert_eq!(Said::read(body.as_bytes()).codes.len(), 8);
}
