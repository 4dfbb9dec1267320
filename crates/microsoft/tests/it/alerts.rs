//! Reading pages, against a server that answers as the alert APIs do, or should not.

use std::time::Duration;

use crate::common::{RawServer, access_token, alerts, answer, impatient, lab, since_2026, window};
use crate::gzip;
use domain::{Axis, IncidentId, Record, Source, Ticks, Verdict};
use microsoft::{ApiError, ApiErrorKind, Facet, FacetField, HttpSettings, Page, PageQuery, WindowQuery};
use wiremock::matchers::{method, path, query_param, query_param_is_missing};
use wiremock::{Mock, MockServer, ResponseTemplate};

const GRAPH_PAGE: &str = "/v1.0/security/alerts_v2";

async fn fetch(url: &str) -> Result<Page, ApiError> {
    fetch_within(HttpSettings::default(), url).await
}

async fn fetch_within(settings: HttpSettings, url: &str) -> Result<Page, ApiError> {
    alerts(settings).fetch(&lab(url), Source::GraphAlerts, &access_token("a.b.c"), &window()).await
}

async fn fetch_raw(answer: Vec<u8>) -> Result<Page, ApiError> {
    fetch(&RawServer::answering(answer).await.url).await
}

fn kinds(page: &Page) -> Vec<Result<&str, &str>> {
    fn kind(record: &Record) -> Result<&str, &str> {
        match record {
            Record::Alert(alert) => Ok(alert.id.as_str()),
            Record::Incident(incident) => Ok(incident.id.as_str()),
            Record::Poison(poison) => Err(poison.reason.as_str()),
        }
    }
    page.records.iter().map(kind).collect()
}

#[tokio::test]
async fn a_window_of_graph_is_asked_for_with_filter_order_and_token() {
    let server = MockServer::start().await;
    let body =
        format!(r#"{{"value":[{{"id":"1"}},{{"id":"2"}}],"@odata.nextLink":"{}/v1.0/security/alerts_v2?$skiptoken=x%2By"}}"#, server.uri());
    Mock::given(method("GET"))
        .and(path(GRAPH_PAGE))
        .and(query_param("$filter", "lastUpdateDateTime ge 2026-01-01T00:00:00.0000000Z"))
        .and(query_param("$top", "100"))
        .and(query_param("$orderby", "lastUpdateDateTime asc"))
        .respond_with(ResponseTemplate::new(200).set_body_string(&body).insert_header("date", "Sat, 21 Nov 2026 12:00:00 GMT"))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .and(query_param("$skiptoken", "x+y"))
        .respond_with(ResponseTemplate::new(200).set_body_string(r#"{"value":[]}"#))
        .expect(1)
        .mount(&server)
        .await;
    let api = alerts(HttpSettings::default());
    let page = api.fetch(&lab(&server.uri()), Source::GraphAlerts, &access_token("a.b.c"), &window()).await.unwrap();
    assert_eq!(kinds(&page), [Ok("1"), Ok("2")]);
    assert_eq!((page.server_date, page.bytes), (Ticks::parse("2026-11-21T12:00:00Z"), body.len()));
    let next = PageQuery::Next(page.next.unwrap());
    let last = api.fetch(&lab(&server.uri()), Source::GraphAlerts, &access_token("a.b.c"), &next).await.unwrap();
    assert!(last.records.is_empty() && last.next.is_none());

    for request in server.received_requests().await.unwrap() {
        assert_eq!(request.headers["authorization"], "Bearer a.b.c");
        assert_eq!(request.headers["prefer"], "include-unknown-enum-members");
        assert!(request.headers.contains_key("client-request-id"));
        assert!(request.url.query().unwrap().starts_with('$'), "the dollar is sent as it is: {}", request.url);
    }
}

#[tokio::test]
async fn a_window_of_endpoint_is_asked_for_with_its_evidence() {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(path("/api/alerts"))
        .and(query_param("$filter", "lastUpdateTime ge 2026-01-01T00:00:00.0000000Z and lastUpdateTime lt 2026-01-02T00:00:00.0000000Z"))
        .and(query_param("$top", "10000"))
        .and(query_param("$expand", "evidence"))
        .respond_with(ResponseTemplate::new(200).set_body_string(r#"{"value":[{"id":"da1","incidentId":7,"severity":"High"}]}"#))
        .expect(1)
        .mount(&server)
        .await;
    let query = PageQuery::Window(WindowQuery { before: Ticks::parse("2026-01-02T00:00:00Z"), top: 99_999, ..since_2026() });
    let page = alerts(HttpSettings::default()).fetch(&lab(&server.uri()), Source::MdeAlerts, &access_token("t"), &query).await.unwrap();
    let Record::Alert(alert) = &page.records[0] else { panic!("{:?}", page.records) };
    assert_eq!((alert.facts.incident_id.as_deref(), alert.facts.severity.as_deref()), (Some("7"), Some("high")));
}

#[tokio::test]
async fn incidents_are_asked_for_without_their_alerts() {
    let server = MockServer::start().await;
    let body = r#"{"value":[{"id":"7","redirectIncidentId":"9","status":"redirected"},{"id":8},{"displayName":"no id"}]}"#;
    Mock::given(method("GET"))
        .and(path("/v1.0/security/incidents"))
        .and(query_param("$filter", "createdDateTime ge 2026-01-01T00:00:00.0000000Z and severity ne 'unknown' and severity ne 'informational' and severity ne 'low' and severity ne 'medium' and severity ne 'high' and status eq 'active'"))
        .and(query_param("$top", "50"))
        .and(query_param("$orderby", "createdDateTime asc"))
        .and(query_param_is_missing("$expand"))
        .respond_with(ResponseTemplate::new(200).set_body_string(body))
        .expect(1)
        .mount(&server)
        .await;
    let facets =
        [Some(Facet { field: FacetField::Severity, value: None }), None, Some(Facet { field: FacetField::Status, value: Some("active") })];
    let query = PageQuery::Window(WindowQuery { axis: Axis::Creation, facets, ..since_2026() });
    let page =
        alerts(HttpSettings::default()).fetch(&lab(&server.uri()), Source::GraphIncidents, &access_token("t"), &query).await.unwrap();
    assert_eq!(kinds(&page), [Ok("7"), Ok("8"), Err("has no id")]);
    let Record::Incident(merged) = &page.records[0] else { panic!("{:?}", page.records) };
    assert_eq!(merged.redirect.as_ref().map(IncidentId::as_str), Some("9"));
}

#[tokio::test]
async fn fault_29_poison_is_told_apart_and_its_neighbours_stay() {
    let body = [&br#"{"value":[{"id":"1"},{"no":"id"},{"id":"bad "#[..], b"\xff", br#""},7,{"id":"2"}]}"#].concat();
    let page = fetch_raw(answer("200 OK", "", &body)).await.unwrap();
    assert_eq!(kinds(&page), [Ok("1"), Err("has no id"), Err("not valid UTF-8"), Err("not a JSON object"), Ok("2")]);
}

#[tokio::test]
async fn a_page_of_many_alerts_comes_whole() {
    let record = |number: u32| {
        format!(r#"{{"id":"da{number}","title":"Mistænkelig ıslık {number}","evidence":[{}]}}"#, r#"{"a":"\u0000"},"#.repeat(50) + "{}")
    };
    let body = format!(r#"{{"value":[{}]}}"#, (0..1000).map(record).collect::<Vec<_>>().join(","));
    let page = fetch_raw(answer("200 OK", "", &body)).await.unwrap();
    assert_eq!(page.records.len(), 1000);
    assert!(kinds(&page).iter().all(Result::is_ok));
}

#[tokio::test]
async fn fault_13_an_answer_that_is_no_page_is_refused_whole() {
    let full = r#"{"value":[{"id":"1"},{"id":"2"}]}"#;
    for body in [
        "",
        "<html>",
        "{}",
        r#"{"value":null}"#,
        r#"{"error":{"code":"x"}}"#,
        &full[..full.len() - 3],
        r#"{"value":[],"@odata.nextLink":5}"#,
    ] {
        let error = fetch_raw(answer("200 OK", "", body)).await.unwrap_err();
        assert_eq!((error.kind(), error.trouble().verdict), (ApiErrorKind::BadAnswer, Verdict::Retry), "{body}");
    }
}

#[tokio::test]
async fn refusals_come_with_kind_verdict_and_number() {
    let headers = "request-id: 5b1e2f4c-aaaa-bbbb-cccc-0123456789ab\r\nRetry-After: 2.128\r\n";
    for (status, body, kind, verdict) in [
        ("401 Unauthorized", "", ApiErrorKind::Unauthorized, Verdict::Retry),
        ("403 Forbidden", r#"{"error":{"code":"Forbidden"}}"#, ApiErrorKind::Forbidden, Verdict::NeedsConsent),
        ("403 Forbidden", r#"{"error":{"code":"DisabledFeature"}}"#, ApiErrorKind::Forbidden, Verdict::NeedsCustomer),
        ("400 Bad Request", r#"{"error":{"code":"BadRequest","message":"$orderby"}}"#, ApiErrorKind::OrderRefused, Verdict::Retry),
        ("500 Oh", "", ApiErrorKind::Unavailable, Verdict::Retry),
        (
            "429 Too Many Requests",
            r#"{"error":{"code":"TooManyRequests"}}"#,
            ApiErrorKind::Throttled(Duration::from_millis(2128)),
            Verdict::RetryAfter(Duration::from_millis(2128)),
        ),
    ] {
        let server = RawServer::answering(answer(status, headers, body)).await;
        let error = fetch(&server.url).await.unwrap_err();
        assert_eq!((error.kind(), error.trouble().verdict), (kind, verdict), "{status} {body}");
        assert_eq!(error.request_id(), Some("5b1e2f4c-aaaa-bbbb-cccc-0123456789ab"));
        assert!(error.to_string().contains("client-request-id"), "{error}");
        assert_eq!(server.requests(), 1, "nothing is retried behind the caller's back");
    }
}

#[tokio::test]
async fn a_page_over_the_limit_is_cut_off_while_it_arrives() {
    let settings = HttpSettings { max_body: 100_000, ..HttpSettings::default() };
    let api = alerts(settings);
    let page = |size: usize| answer("200 OK", "", format!(r#"{{"value":[{{"id":"1"}}]{}}}"#, " ".repeat(size)));
    for (answer, accepted) in [(page(99_000), true), (page(100_001), false), (page(5_000_000), false)] {
        let server = RawServer::answering(answer).await;
        let fetched = api.fetch(&lab(&server.url), Source::GraphAlerts, &access_token("t"), &window()).await;
        match fetched {
            Ok(_) => assert!(accepted),
            Err(error) => assert!(!accepted && error.kind() == ApiErrorKind::TooLarge, "{error}"),
        }
    }
}

#[tokio::test]
async fn fault_12_compressed_pages_unfold_and_bombs_do_not() {
    let body = r#"{"value":[{"id":"1"}]}"#;
    let page = fetch_raw(answer("200 OK", "Content-Encoding: gzip\r\n", gzip::stored(body.as_bytes()))).await.unwrap();
    assert_eq!((kinds(&page), page.bytes), (vec![Ok("1")], body.len()));

    let bomb = gzip::zeros(50_000_000);
    assert!(bomb.len() < 400_000, "{}", bomb.len());
    let server = RawServer::answering(answer("200 OK", "Content-Encoding: gzip\r\n", bomb)).await;
    let api = alerts(HttpSettings { max_body: 1_000_000, ..HttpSettings::default() });
    let error = api.fetch(&lab(&server.url), Source::GraphAlerts, &access_token("t"), &window()).await.unwrap_err();
    assert_eq!(error.kind(), ApiErrorKind::TooLarge);

    let error = fetch_raw(answer("200 OK", "Content-Encoding: gzip\r\n", "this is no gzip")).await.unwrap_err();
    assert_eq!((error.kind(), error.trouble().verdict), (ApiErrorKind::Unavailable, Verdict::Retry));
}

#[tokio::test]
async fn fault_01_10_11_a_server_that_hangs_trickles_breaks_off_or_is_away_is_tried_again() {
    let whole = answer("200 OK", "", r#"{"value":[{"id":"1"}]}"#);
    let hanging = RawServer::trickling(&b"HTTP/1.1 200 OK\r\n"[..], 1, Duration::from_secs(60)).await;
    let trickling = RawServer::trickling(whole.clone(), 1, Duration::from_millis(20)).await;
    let broken = RawServer::answering(&whole[..whole.len() - 3]).await;
    for (url, code) in
        [(hanging.url, "timeout"), (trickling.url, "timeout"), (broken.url, "broke-off"), ("http://127.0.0.1:1".to_owned(), "unreachable")]
    {
        let error = fetch_within(impatient(), &url).await.unwrap_err();
        assert_eq!((error.kind(), error.trouble().code.as_deref()), (ApiErrorKind::Unavailable, Some(code)), "{error}");
        assert!(!error.to_string().contains("127.0.0.1"), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_not_asked_for() {
    let server = MockServer::start().await;
    let mut cloud = lab(&server.uri());
    let api = alerts(HttpSettings::default());
    cloud.defender_url = None;
    let error = api.fetch(&cloud, Source::MdeAlerts, &access_token("t"), &window()).await.unwrap_err();
    assert_eq!(error.kind(), ApiErrorKind::Unsupported);
    cloud.allow_plaintext = false;
    let error = api.fetch(&cloud, Source::GraphAlerts, &access_token("t"), &window()).await.unwrap_err();
    assert_eq!((error.kind(), error.trouble().code.as_deref()), (ApiErrorKind::Unsupported, Some("bad-address")));
    let error = api.fetch(&lab(&server.uri()), Source::GraphAlerts, &access_token("line\nline"), &window()).await.unwrap_err();
    assert!(!error.to_string().contains("line"), "{error}");
    assert!(server.received_requests().await.unwrap().is_empty());
}
