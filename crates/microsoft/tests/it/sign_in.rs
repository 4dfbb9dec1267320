//! Getting access tokens, against a server that answers as the sign-in service does, or should not.

use std::time::Duration;

use crate::common::{NOW, RawServer, TENANT, answer, app, client_secret, impatient, jwt, lab, now, refresh_token, sign_in};
use domain::{Audience, TenantId, Verdict};
use microsoft::{HttpSettings, Redeemed, SignInError};
use secrecy::ExposeSecret;
use uuid::Uuid;
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const OTHER: TenantId = TenantId(Uuid::from_u128(0xbad));

fn token_answer(access: &str, rest: &str) -> String {
    format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{access}"{rest}}}"#)
}

async fn server(template: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path(format!("/{TENANT}/oauth2/v2.0/token")))
        .and(header("content-type", "application/x-www-form-urlencoded"))
        .respond_with(template)
        .mount(&server)
        .await;
    server
}

async fn redeem(url: &str) -> Result<Redeemed, SignInError> {
    redeem_within(HttpSettings::default(), url).await
}

async fn redeem_within(settings: HttpSettings, url: &str) -> Result<Redeemed, SignInError> {
    sign_in(settings).redeem(&lab(url), &app(), TENANT, Audience::Graph, &refresh_token("old"), Some(&client_secret("s+/="))).await
}

async fn redeem_from(body: impl Into<String>) -> Result<Redeemed, SignInError> {
    let server = server(ResponseTemplate::new(200).set_body_string(body.into())).await;
    redeem(&server.uri()).await
}

fn form(request: &Request) -> Vec<(String, String)> {
    url::form_urlencoded::parse(&request.body).into_owned().collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_refresh_token_is_redeemed_at_its_tenant_for_one_audience() {
    let body = token_answer("opaque", &format!(r#","refresh_token":"new","id_token":"{}""#, jwt(TENANT)));
    let server = server(ResponseTemplate::new(200).set_body_string(body)).await;
    let redeemed = sign_in(HttpSettings::default())
        .redeem(&lab(&server.uri()), &app(), TENANT, Audience::Defender, &refresh_token("o+l/d="), Some(&client_secret("s+/=&%")))
        .await
        .unwrap();
    assert_eq!(redeemed.access.bearer.expose_secret(), "opaque");
    assert_eq!(redeemed.access.expires_at, now().plus(Duration::from_secs(3599)), "counted by our clock from before the call, {NOW}");
    assert_eq!(redeemed.refresh.unwrap().expose_secret(), "new");

    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len(), 1);
    let sent = pairs(&[
        ("client_id", "11111111-2222-3333-4444-555555555555"),
        ("grant_type", "refresh_token"),
        ("refresh_token", "o+l/d="),
        ("scope", "https://api.securitycenter.microsoft.com/.default offline_access openid"),
        ("client_secret", "s+/=&%"),
    ]);
    assert_eq!(form(&requests[0]), sent);
    assert!(requests[0].headers["user-agent"].to_str().unwrap().starts_with("tocsin/"));
    assert!(Uuid::parse_str(requests[0].headers["client-request-id"].to_str().unwrap()).is_ok());
    assert!(!requests[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_public_client_sends_no_secret() {
    let server = server(ResponseTemplate::new(200).set_body_string(token_answer(&jwt(TENANT), ""))).await;
    let redeemed = sign_in(HttpSettings::default())
        .redeem(&lab(&server.uri()), &app(), TENANT, Audience::Graph, &refresh_token("old"), None)
        .await
        .unwrap();
    assert!(redeemed.refresh.is_none(), "an answer without a successor leaves the old token in use");
    assert!(form(&server.received_requests().await.unwrap()[0]).iter().all(|(name, _)| name != "client_secret"));
}

#[tokio::test]
async fn an_app_asks_for_the_whole_resource_and_gets_no_refresh_token() {
    let body = token_answer(&jwt(TENANT), r#","refresh_token":"nobody's""#);
    let server = server(ResponseTemplate::new(200).set_body_string(body)).await;
    let redeemed = sign_in(HttpSettings::default())
        .client_credentials(&lab(&server.uri()), &app(), TENANT, Audience::Graph, &client_secret("s"))
        .await
        .unwrap();
    assert!(redeemed.refresh.is_none());
    let sent = pairs(&[
        ("client_id", "11111111-2222-3333-4444-555555555555"),
        ("grant_type", "client_credentials"),
        ("scope", "https://graph.microsoft.com/.default"),
        ("client_secret", "s"),
    ]);
    assert_eq!(form(&server.received_requests().await.unwrap()[0]), sent);
}

#[tokio::test]
async fn fault_38_an_answer_for_another_tenant_gives_out_nothing() {
    for (access, rest) in [
        (jwt(OTHER), String::new()),
        (jwt(OTHER), format!(r#","id_token":"{}""#, jwt(TENANT))),
        ("opaque".to_owned(), format!(r#","refresh_token":"new","id_token":"{}""#, jwt(OTHER))),
    ] {
        let error = redeem_from(token_answer(&access, &rest)).await.unwrap_err();
        assert_eq!((error.trouble().code.as_deref(), error.trouble().verdict), (Some("tid-mismatch"), Verdict::NeedsConsent));
        assert!(!error.is_dead_token(), "asking again with the same token would not help");
    }
    let error = redeem_from(token_answer("opaque", r#","refresh_token":"new""#)).await.unwrap_err();
    assert_eq!(error.trouble().code.as_deref(), Some("tid-unreadable"));
}

#[tokio::test]
async fn fault_33_a_revoked_token_is_a_dead_token() {
    let body = r#"{"error":"invalid_grant","error_description":"AADSTS70002: Error validating credentials. AADSTS70008: expired.\r\nTrace ID: 3939d04c-d7ba-42bf-9cb7-1e5854cdce9e",
        "error_codes":[70002,70008],"timestamp":"2016-04-11 18:00:12Z","trace_id":"3939d04c-d7ba-42bf-9cb7-1e5854cdce9e","correlation_id":"a8125194-2dc8-4078-90ba-7b6592a7f231"}"#;
    let server = server(ResponseTemplate::new(400).set_body_string(body)).await;
    let error = redeem(&server.uri()).await.unwrap_err();
    assert_eq!((error.trouble().verdict, error.trouble().code.as_deref()), (Verdict::NeedsConsent, Some("AADSTS70008")));
    assert!(error.is_dead_token());
    assert_eq!(error.codes(), [70002, 70008]);
    assert_eq!(error.trace_id(), Some("3939d04c-d7ba-42bf-9cb7-1e5854cdce9e"));
    assert_eq!(server.received_requests().await.unwrap().len(), 1, "nothing is retried behind the caller's back");
}

#[tokio::test]
async fn fault_14_throttling_names_the_time_to_wait() {
    let template = ResponseTemplate::new(429).insert_header("retry-after", "60").set_body_string("Too Many Requests");
    let error = redeem(&server(template).await.uri()).await.unwrap_err();
    assert_eq!(error.trouble().verdict, Verdict::RetryAfter(Duration::from_secs(60)));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = MockServer::start().await;
    for status in [301, 302, 303, 307, 308] {
        let template = ResponseTemplate::new(status).insert_header("location", format!("{}/x", elsewhere.uri()));
        let error = redeem(&server(template).await.uri()).await.unwrap_err();
        assert_eq!(error.trouble().verdict, Verdict::Retry, "{status}");
    }
    assert!(elsewhere.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn fault_13_an_answer_that_is_none_is_tried_again_and_marks_nobody() {
    for body in ["", "<html>Sign in to the wireless network</html>", "{}", r#"{"access_token":"abc"#, r#"{"access_token":null}"#, "\u{0}"] {
        let error = redeem_from(body).await.unwrap_err();
        assert_eq!((error.trouble().verdict, error.trouble().code.as_deref()), (Verdict::Retry, Some("bad-answer")), "{body}");
    }
}

#[tokio::test]
async fn fault_01_10_11_a_server_that_hangs_trickles_breaks_off_or_is_away_is_tried_again() {
    let body = token_answer(&jwt(TENANT), "");
    let whole = answer("200 OK", "", &body);
    let hanging = RawServer::trickling(&b"HTTP/1.1 200 OK\r\n"[..], 1, Duration::from_secs(60)).await;
    let trickling = RawServer::trickling(whole.clone(), 1, Duration::from_millis(20)).await;
    let broken = RawServer::answering(&whole[..whole.len() - 10]).await;
    let garbage = RawServer::answering(&b"\x16\x03\x01 not http"[..]).await;
    let huge = RawServer::answering(answer("200 OK", "", vec![b' '; 300_000])).await;
    let away = "http://127.0.0.1:1".to_owned();
    for (url, code) in [
        (hanging.url, "timeout"),
        (trickling.url, "timeout"),
        (broken.url, "bad-answer"),
        (garbage.url, "unreachable"),
        (huge.url, "bad-answer"),
        (away, "unreachable"),
    ] {
        let error = redeem_within(impatient(), &url).await.unwrap_err();
        assert_eq!((error.trouble().verdict, error.trouble().code.as_deref()), (Verdict::Retry, Some(code)), "{error}");
        assert!(!error.is_dead_token());
        assert!(!error.to_string().contains("127.0.0.1"), "{error}");
    }
}

#[tokio::test]
async fn a_secret_never_leaves_in_the_clear() {
    let server = MockServer::start().await;
    let mut cloud = lab(&server.uri());
    cloud.allow_plaintext = false;
    let error =
        sign_in(HttpSettings::default()).redeem(&cloud, &app(), TENANT, Audience::Graph, &refresh_token("old"), None).await.unwrap_err();
    assert_eq!((error.trouble().verdict, error.trouble().code.as_deref()), (Verdict::OurBug, Some("bad-address")));
    cloud.login_url = "http://login.example.test".parse().unwrap();
    cloud.allow_plaintext = true;
    let error =
        sign_in(HttpSettings::default()).redeem(&cloud, &app(), TENANT, Audience::Graph, &refresh_token("old"), None).await.unwrap_err();
    assert_eq!(error.trouble().code.as_deref(), Some("bad-address"));
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_cloud_without_the_api_is_not_asked() {
    let server = MockServer::start().await;
    let mut cloud = lab(&server.uri());
    cloud.defender_scope = None;
    let error =
        sign_in(HttpSettings::default()).redeem(&cloud, &app(), TENANT, Audience::Defender, &refresh_token("old"), None).await.unwrap_err();
    assert_eq!(error.trouble().code.as_deref(), Some("no-scope"));
    cloud.graph_scope = "offline_access".to_owned();
    let error = sign_in(HttpSettings::default())
        .client_credentials(&cloud, &app(), TENANT, Audience::Graph, &client_secret("s"))
        .await
        .unwrap_err();
    assert_eq!(error.trouble().code.as_deref(), Some("no-resource"));
    assert!(server.received_requests().await.unwrap().is_empty());
}
