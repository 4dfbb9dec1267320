//! Faults of answers: throttling, outages, pages and tokens that are not what they should be.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::{Audience, Source, Verdict};
use microsoft::{ApiError, ApiErrorKind, HttpSettings, Page, PageQuery, Redeemed, SignInError};
use secrecy::ExposeSecret;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::common::{RawServer, TENANT, access_token, alerts, answer, app, jwt, lab, read_request, refresh_token, usual, window};
use crate::gzip;

async fn fetch(url: &str, query: &PageQuery) -> Result<Page, ApiError> {
    usual().1.fetch(&lab(url), Source::GraphAlerts, &access_token("t"), query).await
}

async fn redeem(url: &str) -> Result<Redeemed, SignInError> {
    usual().0.redeem(&lab(url), &app(), TENANT, Audience::Graph, &refresh_token("old"), None).await
}

fn ok(body: &str) -> Vec<u8> {
    answer("200 OK", "", body)
}

/// A page with one alert and a link to this path of the same server.
fn linked(path: &str) -> Vec<u8> {
    ok(&format!(r#"{{"value":[{{"id":"1"}}],"@odata.nextLink":"{path}"}}"#))
}

#[tokio::test]
async fn fault_12_a_bomb_without_end_is_cut_off_where_it_exceeds_the_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n").await.unwrap();
        let endless = gzip::Endless::new();
        stream.write_all(&endless.start).await.unwrap();
        while stream.write_all(&endless.again).await.is_ok() {
            count.fetch_add(endless.again.len(), Ordering::SeqCst);
        }
    });
    let api = alerts(HttpSettings { max_body: 8_000_000, page_timeout: Duration::from_secs(20), ..HttpSettings::default() });
    let error = api.fetch(&lab(&url), Source::GraphAlerts, &access_token("t"), &window()).await.unwrap_err();
    assert_eq!(error.kind(), ApiErrorKind::TooLarge);
    serving.await.unwrap();
    // A thousandth of what it would unfold to has been taken off the wire; the rest are buffers of the machine.
    assert!(sent.load(Ordering::SeqCst) < 16_000_000, "{sent:?}");
}

/// `Retry-After`, in every form that was ever seen, and the seconds we then wait.
const WAITS: &[(&str, f64)] = &[
    ("Retry-After: 41\r\n", 41.0),
    ("Retry-After: 2.128\r\n", 2.128),
    ("Retry-After: 0\r\n", 1.0),
    ("Retry-After: 315360000\r\n", 3600.0),
    ("Retry-After: Sat, 21 Nov 2026 12:00:30 GMT\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\n", 30.0),
    ("Retry-After: Sat, 21 Nov 2026 11:00:00 GMT\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\n", 1.0),
    ("Retry-After: Fri, 21 Nov 2036 12:00:00 GMT\r\n", 3600.0),
];

/// Forms that say nothing: then we wait as long as we would have without.
const NO_WAITS: &[&str] = &["", "Retry-After: -5\r\n", "Retry-After: soon\r\n", "Retry-After: \r\n"];

#[tokio::test]
async fn fault_14_15_a_429_is_obeyed_in_every_form_and_never_for_longer_than_an_hour() {
    let cases = WAITS.iter().copied().chain(NO_WAITS.iter().map(|headers| (*headers, 30.0)));
    for (headers, seconds) in cases {
        let server = RawServer::answering(answer("429 Too Many Requests", headers, "Too Many Requests")).await;
        let wait = Duration::from_secs_f64(seconds);
        let error = fetch(&server.url, &window()).await.unwrap_err();
        assert_eq!((error.kind(), error.trouble().verdict), (ApiErrorKind::Throttled(wait), Verdict::RetryAfter(wait)), "{headers}");
        let error = redeem(&server.url).await.unwrap_err();
        let wait = if NO_WAITS.contains(&headers) { Duration::from_secs(60) } else { wait };
        assert_eq!((error.trouble().verdict, error.is_dead_token()), (Verdict::RetryAfter(wait), false), "{headers}");
    }
}

#[tokio::test]
async fn fault_16_a_burst_of_503_passes_and_leaves_nothing_behind() {
    let page = ok(r#"{"value":[{"id":"1"}]}"#);
    let server = RawServer::in_turn([
        answer("503 Service Unavailable", "", ""),
        answer("503 Service Unavailable", "Retry-After: 7\r\n", "<html>"),
        answer("503 Service Unavailable", "Retry-After: -1\r\n", "{"),
        page,
    ])
    .await;
    let (_, api) = usual();
    let mut verdicts = Vec::new();
    for _ in 0..3 {
        let error = api.fetch(&lab(&server.url), Source::GraphAlerts, &access_token("t"), &window()).await.unwrap_err();
        verdicts.push(error.trouble().verdict);
    }
    assert_eq!(verdicts, [Verdict::Retry, Verdict::RetryAfter(Duration::from_secs(7)), Verdict::Retry]);
    api.fetch(&lab(&server.url), Source::GraphAlerts, &access_token("t"), &window()).await.unwrap();
    assert_eq!(server.requests(), 4);
}

#[tokio::test]
async fn fault_17_a_page_that_fails_alone_can_be_asked_for_again() {
    let server =
        RawServer::in_turn([linked("/two"), answer("500 Oh", "", ""), answer("500 Oh", "", "<html>"), ok(r#"{"value":[]}"#)]).await;
    let next = PageQuery::Next(fetch(&server.url, &window()).await.unwrap().next.unwrap());
    for _ in 0..2 {
        let error = fetch(&server.url, &next).await.unwrap_err();
        assert_eq!((error.kind(), error.trouble().verdict), (ApiErrorKind::Unavailable, Verdict::Retry));
    }
    assert!(fetch(&server.url, &next).await.unwrap().next.is_none());
}

#[tokio::test]
async fn fault_18_a_link_that_has_expired_is_no_fault_of_ours() {
    for status in ["400 Bad Request", "410 Gone"] {
        let server = RawServer::in_turn([linked("/two"), answer(status, "", r#"{"error":{"code":"InvalidSkipToken"}}"#)]).await;
        let next = PageQuery::Next(fetch(&server.url, &window()).await.unwrap().next.unwrap());
        let error = fetch(&server.url, &next).await.unwrap_err();
        assert_eq!((error.kind(), error.trouble().verdict), (ApiErrorKind::SkipExpired, Verdict::Retry), "{status}");
    }
}

#[tokio::test]
async fn fault_20_a_link_that_was_seen_before_is_known_again_in_any_spelling() {
    let server = RawServer::in_turn([linked("/two?$skip=5"), linked("/three"), linked("/two?$skip=5#x"), linked("/../two?$skip=5")]).await;
    let mut seen = HashSet::new();
    let mut query = window();
    let mut new = Vec::new();
    for _ in 0..4 {
        let next = fetch(&server.url, &query).await.unwrap().next.unwrap();
        new.push(seen.insert(next.clone()));
        query = PageQuery::Next(next);
    }
    assert_eq!(new, [true, true, false, false], "whoever follows links can see that they go in a circle");
}

fn oauth(error: &str, codes: &[u32]) -> String {
    format!(r#"{{"error":"{error}","error_description":"AADSTS{codes:?} text","error_codes":{codes:?}}}"#)
}

/// Status, `error`, codes; and what becomes of it.
async fn refused(status: &str, error: &str, codes: &[u32]) -> (Verdict, bool) {
    let server = RawServer::answering(answer(status, "", oauth(error, codes))).await;
    let error = redeem(&server.url).await.unwrap_err();
    assert_eq!(server.requests(), 1, "nothing is retried behind the caller's back");
    assert!(!error.trouble().action.is_empty());
    (error.trouble().verdict, error.is_dead_token())
}

#[tokio::test]
async fn fault_34_a_user_who_must_act_is_asked_to() {
    for (error, code) in
        [("interaction_required", 50_076), ("invalid_grant", 50_079), ("consent_required", 65_001), ("invalid_grant", 65_001)]
    {
        assert_eq!(refused("400 Bad Request", error, &[code]).await.0, Verdict::NeedsConsent, "{error} {code}");
    }
    assert_eq!(refused("400 Bad Request", "interaction_required", &[53_000]).await, (Verdict::NeedsCustomer, false), "a policy blocks us");
}

#[tokio::test]
async fn fault_35_a_secret_that_has_expired_is_our_own_trouble_and_no_tenants() {
    for (status, code) in [("401 Unauthorized", 7_000_222), ("401 Unauthorized", 7_000_215), ("400 Bad Request", 700_027)] {
        assert_eq!(refused(status, "invalid_client", &[code]).await, (Verdict::Global, false), "{code}");
    }
    assert_eq!(refused("401 Unauthorized", "invalid_client", &[]).await, (Verdict::Global, false));
}

#[tokio::test]
async fn fault_36_an_answer_without_a_successor_leaves_the_old_token_in_use() {
    for rest in ["", r#","refresh_token":null"#, r#","refresh_token":"""#, r#","refresh_token":7"#] {
        let server = RawServer::answering(ok(&format!(r#"{{"access_token":"{}","expires_in":3599{rest}}}"#, jwt(TENANT)))).await;
        let redeemed = redeem(&server.url).await.unwrap();
        assert!(redeemed.refresh.is_none() && !redeemed.access.bearer.expose_secret().is_empty(), "{rest}");
    }
}

#[tokio::test]
async fn fault_37_an_answer_that_is_lost_after_the_rotation_is_no_verdict_on_the_old_token() {
    let body = format!(r#"{{"access_token":"{}","refresh_token":"new","expires_in":3599}}"#, jwt(TENANT));
    let whole = ok(&body);
    for lost in [&b""[..], &whole[..20], &whole[..whole.len() - 1]] {
        let server = RawServer::resetting(lost).await;
        let error = redeem(&server.url).await.unwrap_err();
        assert_eq!((error.trouble().verdict, error.is_dead_token(), server.requests()), (Verdict::Retry, false, 1), "{error}");
    }
    // Entra still takes the old one; an issuer that does not says so, and only then is a person called.
    let server = RawServer::answering(whole).await;
    assert_eq!(redeem(&server.url).await.unwrap().refresh.unwrap().expose_secret(), "new");
    assert_eq!(refused("400 Bad Request", "invalid_grant", &[70_008]).await, (Verdict::NeedsConsent, true));
}

#[tokio::test]
async fn fault_39_a_scope_that_was_cut_down_shows_as_a_missing_permission() {
    let scope = r#","scope":"https://graph.microsoft.com/User.Read""#;
    let token = ok(&format!(r#"{{"access_token":"{}","expires_in":3599{scope}}}"#, jwt(TENANT)));
    let server = RawServer::in_turn([token, answer("403 Forbidden", "", r#"{"error":{"code":"Forbidden"}}"#)]).await;
    // The token is a token; whether it suffices is for the API to say, which knows its own permissions.
    let redeemed = redeem(&server.url).await.unwrap();
    let (_, api) = usual();
    let error = api.fetch(&lab(&server.url), Source::GraphAlerts, &redeemed.access, &window()).await.unwrap_err();
    assert_eq!((error.kind(), error.trouble().verdict), (ApiErrorKind::Forbidden, Verdict::NeedsConsent));
    assert!(error.trouble().action.contains("SecurityAlert.Read.All"));
}

#[tokio::test]
async fn fault_40_a_life_in_any_form_is_a_life_between_a_minute_and_a_day_and_a_bit() {
    for (life, seconds) in [
        ("3599", 3599),
        (r#""3599""#, 3599),
        ("0", 60),
        ("-3600", 60),
        (r#""-1""#, 60),
        ("1e300", 100_800),
        ("99999999999999999999", 100_800),
        (r#""soon""#, 600),
        ("null", 600),
        ("[]", 600),
    ] {
        let server = RawServer::answering(ok(&format!(r#"{{"access_token":"{}","expires_in":{life}}}"#, jwt(TENANT)))).await;
        let redeemed = redeem(&server.url).await.unwrap();
        assert_eq!(redeemed.access.expires_at.since(crate::common::now()).as_secs(), seconds, "{life}");
    }
}

#[tokio::test]
async fn fault_42_a_service_that_is_unavailable_for_a_while_marks_nobody() {
    for (status, error, codes) in [
        ("400 Bad Request", "temporarily_unavailable", &[][..]),
        ("400 Bad Request", "temporarily_unavailable", &[90_033]),
        ("400 Bad Request", "invalid_grant", &[90_033]),
        ("503 Service Unavailable", "temporarily_unavailable", &[90_033]),
        ("500 Oh", "server_error", &[]),
    ] {
        assert_eq!(refused(status, error, codes).await, (Verdict::Retry, false), "{status} {error}");
    }
}
