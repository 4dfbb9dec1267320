//! Sign-in: grants, rotation, the shape of tokens and of errors.

use crate::{Caller, DEFENDER, GRAPH, client, post_token, redeem};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use serde_json::Value;
use simulator::{Clock, Effect, Endpoint, ManualClock, OddToken, Rotation, Rule, Settings, Simulator, Source, Stamp};
use std::time::Duration;
use url::Url;

fn start(settings: Settings) -> Simulator {
    Simulator::start(settings).unwrap()
}

fn claims(token: &Value) -> Value {
    let token = token.as_str().unwrap();
    assert_eq!(token.split('.').count(), 3, "a JWT has three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_refresh_token_buys_tokens_of_its_own_tenant_and_a_successor() {
    let simulator = start(Settings::default());
    let tenant = &simulator.tenants()[1];
    let answer = redeem(&simulator, tenant, &tenant.refresh_token, GRAPH, StatusCode::OK).await;
    let access = claims(&answer["access_token"]);
    assert_eq!(access["tid"], tenant.directory_id.to_string());
    assert_eq!(access["aud"], "https://graph.microsoft.com");
    assert!(access["scp"].as_str().unwrap().contains("SecurityAlert.Read.All"));
    assert_eq!(claims(&answer["id_token"])["tid"], tenant.directory_id.to_string());
    assert_eq!(claims(&answer["id_token"])["aud"], simulator.client_id());
    let lifetime = answer["expires_in"].as_i64().unwrap();
    assert!((3600..=5400).contains(&lifetime), "{lifetime}");
    assert_eq!(access["exp"].as_i64().unwrap() - access["iat"].as_i64().unwrap(), lifetime);
    assert_ne!(answer["refresh_token"], tenant.refresh_token, "each redemption returns a new one");
    let other = redeem(&simulator, tenant, answer["refresh_token"].as_str().unwrap(), DEFENDER, StatusCode::OK).await;
    assert_eq!(claims(&other["access_token"])["aud"], "https://api.securitycenter.microsoft.com");
}

#[tokio::test]
async fn the_id_token_comes_only_when_openid_is_asked_for() {
    let simulator = start(Settings::default());
    let tenant = &simulator.tenants()[0];
    let answer =
        redeem(&simulator, tenant, &tenant.refresh_token, "https://graph.microsoft.com/.default offline_access", StatusCode::OK).await;
    assert_eq!(answer.get("id_token"), None);
}

#[tokio::test]
async fn old_refresh_tokens_stay_valid_as_microsoft_documents_it() {
    let simulator = start(Settings::default());
    let tenant = &simulator.tenants()[0];
    for _ in 0..3 {
        redeem(&simulator, tenant, &tenant.refresh_token, GRAPH, StatusCode::OK).await;
    }
}

#[tokio::test]
async fn a_strict_server_takes_reuse_for_theft_and_revokes_the_family() {
    let simulator = start(Settings { rotation: Rotation::Strict, ..Settings::default() });
    let tenant = &simulator.tenants()[0];
    let answer = redeem(&simulator, tenant, &tenant.refresh_token, GRAPH, StatusCode::OK).await;
    let newest = answer["refresh_token"].as_str().unwrap();
    let refused = redeem(&simulator, tenant, &tenant.refresh_token, GRAPH, StatusCode::BAD_REQUEST).await;
    assert_eq!((&refused["error"], &refused["error_codes"][0]), (&"invalid_grant".into(), &70000.into()));
    let dead = redeem(&simulator, tenant, newest, GRAPH, StatusCode::BAD_REQUEST).await;
    assert_eq!(dead["error_codes"][0], 50173, "the successor died with it");
    let fresh = simulator.issue_refresh_token(tenant.directory_id).unwrap();
    redeem(&simulator, tenant, &fresh, GRAPH, StatusCode::OK).await;
}

#[tokio::test]
async fn a_token_of_one_customer_is_worthless_at_another_unless_one_account_is_everywhere() {
    let simulator = start(Settings::default());
    let tenants = simulator.tenants();
    let refused = redeem(&simulator, &tenants[1], &tenants[0].refresh_token, GRAPH, StatusCode::BAD_REQUEST).await;
    assert_eq!(refused["error_codes"][0], 50020);
    let simulator = start(Settings { one_account_everywhere: true, ..Settings::default() });
    let answer = redeem(&simulator, &tenants[1], &tenants[0].refresh_token, GRAPH, StatusCode::OK).await;
    assert_eq!(claims(&answer["access_token"])["tid"], tenants[1].directory_id.to_string(), "the trap every client must check for");
}

#[tokio::test]
async fn refusals_have_exactly_the_shape_of_the_real_ones() {
    let clock = ManualClock::at(Stamp::parse("2016-01-09T02:02:12Z").unwrap());
    let simulator = start(Settings { clock: Clock::Manual(clock), ..Settings::default() });
    let tenant = &simulator.tenants()[0];
    simulator.revoke(tenant.directory_id, 70043).unwrap();
    let body = redeem(&simulator, tenant, &tenant.refresh_token, GRAPH, StatusCode::BAD_REQUEST).await;
    assert_eq!(body["error"], "invalid_grant");
    assert_eq!(body["suberror"], "bad_token");
    assert_eq!(body["error_codes"], serde_json::json!([70043]));
    assert_eq!(body["timestamp"], "2016-01-09 02:02:12Z");
    let expected = format!(
        "\r\nTrace ID: {}\r\nCorrelation ID: {}\r\nTimestamp: 2016-01-09 02:02:12Z",
        body["trace_id"].as_str().unwrap(),
        body["correlation_id"].as_str().unwrap()
    );
    let description = body["error_description"].as_str().unwrap();
    assert!(description.starts_with("AADSTS70043: ") && description.ends_with(&expected), "{description}");
}

#[tokio::test]
async fn wrong_requests_are_refused_by_number() {
    let simulator = start(Settings::default());
    let tenant = &simulator.tenants()[0];
    let id = tenant.directory_id.to_string();
    let token = tenant.refresh_token.as_str();
    let whole = [("grant_type", "refresh_token"), ("refresh_token", token)];
    for (path, fields, status, error, code) in [
        ("00000000-0000-0000-0000-00000000dead", &whole[..], 400, "invalid_request", 90002),
        (&id, &[][..], 400, "invalid_request", 900144),
        (&id, &whole[..1], 400, "invalid_request", 900144),
        (&id, &[("grant_type", "password")], 400, "unsupported_grant_type", 70003),
        (&id, &[("grant_type", "refresh_token"), ("refresh_token", &token[..token.len() - 4])], 400, "invalid_grant", 70000),
        (&id, &[whole[0], whole[1], ("resource", "https://graph.microsoft.com")], 400, "invalid_request", 901002),
        (&id, &[whole[0], whole[1], ("scope", "https://unknown.example/.default")], 400, "invalid_resource", 500011),
        (&id, &[("grant_type", "client_credentials"), ("scope", "https://graph.microsoft.com/User.Read")], 400, "invalid_scope", 70011),
        (
            "common",
            &[("grant_type", "client_credentials"), ("scope", "https://graph.microsoft.com/.default")],
            400,
            "invalid_request",
            9001023,
        ),
        (&id, &[whole[0], whole[1], ("client_secret", "wrong")], 401, "invalid_client", 7000215),
        (&id, &[whole[0], whole[1], ("client_secret", "")], 401, "invalid_client", 7000218),
        (&id, &[whole[0], whole[1], ("client_id", "00000000-0000-0000-0000-000000000001")], 400, "unauthorized_client", 700016),
    ] {
        let answer = post_token(&simulator, path, fields).await;
        assert_eq!(answer.status().as_u16(), status, "{code}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!((body["error"].as_str().unwrap(), body["error_codes"][0].as_i64().unwrap()), (error, code));
    }
}

#[tokio::test]
async fn an_app_may_act_for_itself_with_its_secret_in_the_form_or_in_the_header() {
    let simulator = start(Settings::default());
    let tenant = &simulator.tenants()[0];
    let fields = [("grant_type", "client_credentials"), ("scope", "https://graph.microsoft.com/.default")];
    let by_form: Value = post_token(&simulator, &tenant.domain, &fields).await.json().await.unwrap();
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let request = client().post(format!("{}/{}/oauth2/v2.0/token", simulator.base_url(), tenant.directory_id));
    let by_header: Value = request
        .basic_auth(simulator.client_id(), Some(encode(simulator.client_secret())))
        .form(&fields)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    for answer in [by_form, by_header] {
        assert_eq!(answer.get("refresh_token"), None, "an app gets no refresh token");
        assert_eq!(claims(&answer["access_token"])["roles"][0], "SecurityAlert.Read.All");
        assert_eq!(claims(&answer["access_token"])["tid"], tenant.directory_id.to_string());
    }
}

#[tokio::test]
async fn the_old_protocol_speaks_of_resources_and_writes_numbers_as_text() {
    let simulator = start(Settings::default());
    let tenant = &simulator.tenants()[0];
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", &simulator.client_id()),
        ("client_secret", simulator.client_secret()),
        ("refresh_token", &tenant.refresh_token),
        ("resource", "https://api.securitycenter.microsoft.com/"),
    ];
    let answer: Value = client()
        .post(format!("{}/{}/oauth2/token", simulator.base_url(), tenant.directory_id))
        .form(&form)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    for name in ["expires_in", "expires_on", "not_before"] {
        answer[name].as_str().unwrap_or_else(|| panic!("{name} is a text")).parse::<i64>().unwrap();
    }
    assert_eq!(answer["resource"], "https://api.securitycenter.microsoft.com");
    assert!(answer["refresh_token"].is_string());
}

/// Goes through the page where people sign in, and returns where the browser is sent.
async fn authorize(simulator: &Simulator, tenant: &str, more: &[(&str, &str)]) -> Url {
    let mut url = Url::parse(&format!("{}/{tenant}/oauth2/v2.0/authorize", simulator.base_url())).unwrap();
    url.query_pairs_mut()
        .append_pair("client_id", &simulator.client_id())
        .append_pair("response_type", "code")
        .append_pair("redirect_uri", "http://localhost:8080/enrol")
        .append_pair("scope", "openid offline_access https://graph.microsoft.com/.default")
        .append_pair("state", "s+ & t")
        .extend_pairs(more);
    let answer = client().get(url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FOUND);
    Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap()
}

fn parameter(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

#[tokio::test]
async fn a_person_consents_and_the_code_is_good_once_for_the_one_who_knows_the_verifier() {
    let simulator = start(Settings::default());
    let tenant = &simulator.tenants()[2];
    let id = tenant.directory_id.to_string();
    // The verifier and challenge of RFC 7636, appendix B.
    let (verifier, challenge) = ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    let back = authorize(&simulator, &id, &[("code_challenge", challenge), ("code_challenge_method", "S256")]).await;
    assert_eq!((back.host_str(), back.path()), (Some("localhost"), "/enrol"));
    assert_eq!(parameter(&back, "state"), "s+ & t");
    let code = parameter(&back, "code");
    let redeem = |verifier: &'static str| {
        let code = code.clone();
        let (simulator, id) = (&simulator, &id);
        async move {
            let fields = [
                ("grant_type", "authorization_code"),
                ("code", code.as_str()),
                ("redirect_uri", "http://localhost:8080/enrol"),
                ("code_verifier", verifier),
            ];
            post_token(simulator, id, &fields).await.json::<Value>().await.unwrap()
        }
    };
    assert_eq!(redeem("a guess").await["error_codes"][0], 501481);
    let answer = redeem(verifier).await;
    assert_eq!(claims(&answer["id_token"])["tid"], id);
    assert_eq!(redeem(verifier).await["error_codes"][0], 54005, "a code is good once");
    crate::redeem(&simulator, tenant, answer["refresh_token"].as_str().unwrap(), GRAPH, StatusCode::OK).await;
}

#[tokio::test]
async fn a_refusal_to_consent_is_sent_back_to_the_app() {
    let simulator = start(Settings::default());
    let id = simulator.tenants()[0].directory_id;
    simulator.script(
        Rule::new(Effect::SignInError { code: 65004, error: None, suberror: None, status: None }).endpoint(Endpoint::Authorize).tenant(id),
    );
    let back = authorize(&simulator, &id.to_string(), &[]).await;
    assert_eq!(parameter(&back, "error"), "access_denied");
    assert!(parameter(&back, "error_description").starts_with("AADSTS65004: "));
    assert_eq!(parameter(&back, "code"), "");
}

#[tokio::test]
async fn tokens_can_be_odd_on_request() {
    let simulator = start(Settings::default());
    let tenant = &simulator.tenants()[0];
    let mut answers = Vec::new();
    for odd in [OddToken::WrongTenant, OddToken::Opaque, OddToken::NoRefreshToken, OddToken::NoIdToken, OddToken::NoPermissions] {
        simulator.script(Rule::new(Effect::OddToken(odd)).times(1));
        answers.push(redeem(&simulator, tenant, &tenant.refresh_token, GRAPH, StatusCode::OK).await);
    }
    assert_ne!(claims(&answers[0]["access_token"])["tid"], tenant.directory_id.to_string());
    let alerts = format!("{}/v1.0/security/alerts_v2", simulator.base_url());
    let opaque = answers[1]["access_token"].as_str().unwrap();
    assert!(!opaque.contains('.'));
    assert_eq!(client().get(&alerts).bearer_auth(opaque).send().await.unwrap().status(), StatusCode::OK, "unreadable but good");
    assert_eq!(answers[2].get("refresh_token"), None);
    assert_eq!(answers[3].get("id_token"), None);
    let powerless = answers[4]["access_token"].as_str().unwrap();
    assert_eq!(client().get(&alerts).bearer_auth(powerless).send().await.unwrap().status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_access_token_ends_when_it_said_it_would_and_is_for_one_api_only() {
    let clock = ManualClock::at(Stamp::parse("2025-06-01T08:00:00Z").unwrap());
    let lifetime = Duration::from_secs(20);
    let simulator = start(Settings {
        clock: Clock::Manual(clock.clone()),
        access_lifetime: (lifetime, lifetime),
        sources: simulator::SourceMix::Both,
        ..Settings::default()
    });
    let tenant = &simulator.tenants()[0];
    let caller = Caller::of(&simulator, tenant, Source::GraphAlerts).await;
    clock.advance(Duration::from_secs(19));
    caller.page(&[]).await;
    clock.advance(Duration::from_secs(1));
    let answer = caller.send(&[]).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert!(answer.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer "));
    assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], "InvalidAuthenticationToken");
    let wrong = Caller { token: Caller::of(&simulator, tenant, Source::MdeAlerts).await.token, ..caller };
    assert_eq!(wrong.refused(&[]).await.0, 401, "made for another audience");
    assert_eq!(client().get(&wrong.base).send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "no token at all");
}

#[tokio::test]
async fn every_token_and_secret_carries_the_marker() {
    let simulator = start(Settings { marker: Some("LEAK-ME_7".to_owned()), ..Settings::default() });
    let tenant = &simulator.tenants()[0];
    let answer = redeem(&simulator, tenant, &tenant.refresh_token, GRAPH, StatusCode::OK).await;
    for secret in [
        simulator.client_secret(),
        &tenant.refresh_token,
        answer["access_token"].as_str().unwrap(),
        answer["refresh_token"].as_str().unwrap(),
    ] {
        assert!(secret.contains("LEAK-ME_7"), "{secret}");
    }
    assert_eq!(claims(&answer["id_token"])["rh"], "LEAK-ME_7", "a real signature leaves room for it among the claims only");
    assert!(!format!("{:?}", simulator.journal()).contains("LEAK-ME_7"), "the journal knows tokens by name only");
    assert!(Simulator::start(Settings { marker: Some("a b".to_owned()), ..Settings::default() }).is_err());
}

#[tokio::test]
async fn a_simulator_started_again_knows_the_tokens_it_gave_out_before() {
    let first = start(Settings::default());
    let tenant = first.tenants()[0].clone();
    let answer = redeem(&first, &tenant, &tenant.refresh_token, GRAPH, StatusCode::OK).await;
    first.stop();
    let second = start(Settings::default());
    redeem(&second, &tenant, answer["refresh_token"].as_str().unwrap(), GRAPH, StatusCode::OK).await;
}

#[tokio::test]
async fn discovery_tells_where_the_endpoints_are() {
    let simulator = start(Settings::default());
    let tenant = &simulator.tenants()[0];
    let url = |tenant: &str| format!("{}/{tenant}/v2.0/.well-known/openid-configuration", simulator.base_url());
    let body: Value = client().get(url(&tenant.directory_id.to_string())).send().await.unwrap().json().await.unwrap();
    assert_eq!(body["token_endpoint"], format!("{}/{}/oauth2/v2.0/token", simulator.base_url(), tenant.directory_id));
    assert_eq!(client().get(url("no-such.example")).send().await.unwrap().status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_account_has_a_role_or_none_or_its_tokens_do_not_say() {
    let simulator = start(Settings::default());
    let tenant = &simulator.tenants()[0];
    let roles = async || {
        let answer = redeem(&simulator, tenant, &tenant.refresh_token, GRAPH, StatusCode::OK).await;
        claims(&answer["access_token"])["wids"].clone()
    };
    let (reader, ordinary) = ("5d6b6bb7-de71-4623-b4af-96380a352509", "b79fbf4d-3ef9-4689-8143-76b194e85509");
    assert_eq!(roles().await, serde_json::json!([reader, ordinary]));
    for (odd, expected) in [(OddToken::NoRole, serde_json::json!([ordinary])), (OddToken::RolesUnsaid, Value::Null)] {
        simulator.script(Rule::new(Effect::OddToken(odd)).tenant(tenant.directory_id).times(1));
        assert_eq!(roles().await, expected, "{odd:?}");
    }
}
