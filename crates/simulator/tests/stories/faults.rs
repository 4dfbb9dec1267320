//! The script: each effect as the caller feels it.

use crate::{Caller, GRAPH, client, column, post_token, redeem};
use reqwest::StatusCode;
use serde_json::Value;
use simulator::{Clock, Effect, Endpoint, ManualClock, Outage, Poison, RetryAfter, Rule, Settings, Simulator, Source, Stamp, Truncate};
use std::time::Duration;

async fn world() -> (Simulator, Caller) {
    let clock = ManualClock::at(Stamp::parse("2025-06-01T12:00:00Z").unwrap());
    let simulator = Simulator::start(Settings { history: 12, clock: Clock::Manual(clock), ..Settings::default() }).unwrap();
    let caller = Caller::of(&simulator, &simulator.tenants()[0], Source::GraphAlerts).await;
    (simulator, caller)
}

fn throttle(retry_after: RetryAfter) -> Rule {
    Rule::new(Effect::Throttle { status: 429, retry_after }).times(1)
}

#[tokio::test]
async fn throttling_comes_with_every_form_of_retry_after() {
    let (simulator, caller) = world().await;
    for (form, header) in [
        (RetryAfter::Seconds(41), Some("41")),
        (RetryAfter::Decimal(2.128), Some("2.128")),
        (RetryAfter::HttpDate(90), Some("Sun, 01 Jun 2025 12:01:30 GMT")),
        (RetryAfter::Missing, None),
        (RetryAfter::Absurd, Some("99999999999999999999")),
        (RetryAfter::Text("soon".to_owned()), Some("soon")),
    ] {
        simulator.script(throttle(form));
        let answer = caller.send(&[]).await.unwrap();
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.headers().get("retry-after").map(|value| value.to_str().unwrap()), header);
        assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], "TooManyRequests");
    }
    caller.page(&[]).await;
}

#[tokio::test]
async fn the_token_endpoint_throttles_in_plain_text() {
    let (simulator, _) = world().await;
    simulator.script(throttle(RetryAfter::Seconds(60)).endpoint(Endpoint::Token));
    let answer = post_token(&simulator, "common", &[]).await;
    assert_eq!((answer.status(), answer.headers()["retry-after"].to_str().unwrap()), (StatusCode::TOO_MANY_REQUESTS, "60"));
    assert_eq!(answer.text().await.unwrap(), "Too Many Requests");
}

#[tokio::test]
async fn refusals_of_sign_in_come_by_number() {
    let (simulator, _) = world().await;
    let tenant = &simulator.tenants()[0];
    let custom = Effect::SignInError {
        code: 50076,
        error: Some("invalid_grant".to_owned()),
        suberror: Some("basic_action".to_owned()),
        status: None,
    };
    for (effect, status, error, code) in [
        (Effect::Revoke { code: 50173 }, 400, "invalid_grant", 50173),
        (Effect::Revoke { code: 700082 }, 400, "invalid_grant", 700082),
        (Effect::ConsentMissing, 400, "invalid_grant", 65001),
        (Effect::SecretExpired, 401, "invalid_client", 7000222),
        (custom, 400, "invalid_grant", 50076),
        (Effect::Revoke { code: 123_456 }, 400, "invalid_grant", 123_456),
    ] {
        simulator.script(Rule::new(effect).tenant(tenant.directory_id).times(1));
        let body = redeem(&simulator, tenant, &tenant.refresh_token, GRAPH, StatusCode::from_u16(status).unwrap()).await;
        assert_eq!((body["error"].as_str().unwrap(), body["error_codes"][0].as_u64().unwrap()), (error, code));
    }
    redeem(&simulator, tenant, &tenant.refresh_token, GRAPH, StatusCode::OK).await;
}

#[tokio::test]
async fn connections_are_reset_and_services_fail() {
    let (simulator, caller) = world().await;
    simulator.script(Rule::new(Effect::Outage(Outage::Reset)).times(1));
    let error = caller.send(&[]).await.unwrap_err();
    assert!(!error.is_timeout() && error.status().is_none(), "{error:?}");
    for (outage, status) in [(Outage::InternalError, 500), (Outage::Unavailable, 503)] {
        simulator.script(Rule::new(Effect::Outage(outage)).times(1));
        assert_eq!(caller.refused(&[]).await.0, status);
    }
    caller.page(&[]).await;
    assert_eq!(simulator.journal_totals()[&(Endpoint::Graph, 0)], 1);
}

#[tokio::test]
async fn a_hanging_request_gets_no_answer_while_others_do() {
    let (simulator, caller) = world().await;
    simulator.script(Rule::new(Effect::Hang).times(1));
    let hanging = client().get(&caller.base).bearer_auth(&caller.token).timeout(Duration::from_millis(300)).send();
    assert!(hanging.await.unwrap_err().is_timeout());
    caller.page(&[]).await;
}

#[tokio::test]
async fn slow_and_trickled_answers_arrive_whole() {
    let (simulator, caller) = world().await;
    let whole = caller.page(&[("$top", "1")]).await;
    simulator.script(Rule::new(Effect::Slow { ms: 60 }).times(1));
    simulator.script(Rule::new(Effect::Trickle { bytes: 512, every_ms: 2 }).times(1));
    let before = tokio::time::Instant::now();
    assert_eq!(caller.page(&[("$top", "1")]).await, whole);
    assert!(before.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn bodies_end_too_early_in_both_ways() {
    let (simulator, caller) = world().await;
    simulator.script(Rule::new(Effect::Truncate(Truncate::CutJson)).times(1));
    let text = caller.send(&[]).await.unwrap().text().await.unwrap();
    assert!(serde_json::from_str::<Value>(&text).is_err() && text.starts_with("{\"@odata.context\""));
    simulator.script(Rule::new(Effect::Truncate(Truncate::ShortBody)).times(1));
    let answer = caller.send(&[]).await.unwrap();
    let promised = answer.content_length().unwrap();
    assert!(promised > 1_000);
    assert!(answer.bytes().await.is_err(), "fewer bytes than promised");
    let served: u32 = simulator.ledger().rows(simulator.tenants()[0].directory_id).iter().map(|row| row.served).sum();
    assert_eq!(served, 0, "what never arrived was not served");
}

#[tokio::test]
async fn pages_are_disordered_doubled_and_poisoned() {
    let (simulator, caller) = world().await;
    let stamps = |page: &Value| column(page, "lastUpdateDateTime").iter().map(|text| text.parse::<Stamp>().unwrap()).collect::<Vec<_>>();
    simulator.script(Rule::new(Effect::Reorder).times(1));
    let page = caller.page(&[("$orderby", "lastUpdateDateTime asc")]).await;
    assert!(!stamps(&page).is_sorted() && !stamps(&page).is_sorted_by(|a, b| a >= b));
    assert_eq!(stamps(&page).len(), 12);
    simulator.script(Rule::new(Effect::DuplicateRecord).times(1));
    let page = caller.page(&[]).await;
    assert_eq!((page["value"].as_array().unwrap().len(), &page["value"][12]), (13, &page["value"][0]));
    simulator.script(Rule::new(Effect::PoisonRecord { kind: Poison::NotAnObject }).times(1));
    assert_eq!(caller.page(&[]).await["value"][6], 42);
}

#[tokio::test]
async fn links_lead_astray() {
    let (simulator, caller) = world().await;
    simulator.script(Rule::new(Effect::ForeignNextLink { url: "https://elsewhere.example/x".to_owned() }).times(1));
    assert_eq!(caller.page(&[]).await["@odata.nextLink"], "https://elsewhere.example/x");
    simulator.script(Rule::new(Effect::LoopingNextLink));
    let page = caller.page(&[("$top", "5")]).await;
    let again = caller.follow(page["@odata.nextLink"].as_str().unwrap()).await;
    assert_eq!((column(&page, "id"), &page["@odata.nextLink"]), (column(&again, "id"), &again["@odata.nextLink"]));
}

#[tokio::test]
async fn top_is_ignored_or_lowered_further() {
    let (simulator, caller) = world().await;
    simulator.script(Rule::new(Effect::IgnoreTop).times(1));
    assert_eq!(column(&caller.page(&[("$top", "3")]).await, "id").len(), 12);
    simulator.script(Rule::new(Effect::Clamp { top: 2 }).times(1));
    assert_eq!(column(&caller.page(&[("$top", "3")]).await, "id").len(), 2);
}

#[tokio::test]
async fn other_answers_than_expected() {
    let (simulator, caller) = world().await;
    simulator.script(Rule::new(Effect::Html { status: 200 }).times(1));
    let answer = caller.send(&[]).await.unwrap();
    assert!(answer.status().is_success() && answer.text().await.unwrap().contains("<html>"));
    simulator.script(Rule::new(Effect::Forbidden { code: None }).times(1));
    assert_eq!(caller.refused(&[]).await.1["error"]["code"], "accessDenied");
    simulator.script(Rule::new(Effect::Unauthorized { claims: true }).times(1));
    let answer = caller.send(&[]).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert!(answer.headers()["www-authenticate"].to_str().unwrap().contains("insufficient_claims"));
}

#[tokio::test]
async fn one_sick_tenant_leaves_the_others_alone() {
    let (simulator, sick) = world().await;
    let tenants = simulator.tenants();
    let healthy = Caller::of(&simulator, &tenants[1], Source::GraphAlerts).await;
    simulator.script(Rule::new(Effect::Outage(Outage::InternalError)).tenant(tenants[0].directory_id).endpoint(Endpoint::Graph));
    assert_eq!(sick.refused(&[]).await.0, 500);
    healthy.page(&[]).await;
    simulator.clear_script();
    sick.page(&[]).await;
}

#[tokio::test]
async fn the_script_can_be_written_over_http() {
    let (simulator, caller) = world().await;
    let url = format!("{}/sim/script", simulator.base_url());
    let post = async |body: String| client().post(&url).body(body).send().await.unwrap();
    let rules = r#"[{"effect":{"forbidden":{}},"endpoint":"graph","times":1},{"effect":"reorder"}]"#;
    assert_eq!(post(rules.to_owned()).await.status(), StatusCode::OK);
    assert_eq!(caller.refused(&[]).await.0, 403);
    let left: Value = client().get(&url).send().await.unwrap().json().await.unwrap();
    assert_eq!(left, serde_json::json!([{ "after": 0, "effect": "reorder" }]));
    let refused = post(r#"{"effect":"dance"}"#.to_owned()).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert!(refused.text().await.unwrap().contains("dance"));
    let stranger = format!(r#"{{"effect":"hang","tenant":"{}"}}"#, "00000000-0000-0000-0000-000000000009");
    assert_eq!(post(stranger).await.status(), StatusCode::BAD_REQUEST, "a rule for nobody would silently do nothing");
    assert_eq!(client().delete(&url).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(simulator.journal().last().unwrap().status, 403, "these requests are not part of the play");
}

#[tokio::test]
async fn stopping_breaks_every_connection() {
    let (simulator, caller) = world().await;
    simulator.stop();
    assert!(caller.send(&[]).await.is_err());
}
