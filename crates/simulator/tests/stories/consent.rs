//! What a browser and a stranger see of sign-in: pages with buttons, an administrator's consent, discovery, short codes;
//! and the ways in which an app proves itself besides its secret.

use crate::{GRAPH, client};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use serde_json::{Value, json};
use simulator::{Clock, Effect, Endpoint, ManualClock, Region, Rule, Settings, Simulator, Stamp};
use url::Url;

fn start(settings: Settings) -> Simulator {
    Simulator::start(settings).unwrap()
}

async fn get(url: &str) -> (StatusCode, String, String) {
    let answer = client().get(url).send().await.unwrap();
    let location = answer.headers().get("location").map(|to| to.to_str().unwrap().to_owned()).unwrap_or_default();
    (answer.status(), location, answer.text().await.unwrap())
}

async fn document(url: &str) -> Value {
    serde_json::from_str(&get(url).await.2).unwrap()
}

fn authorize(simulator: &Simulator, more: &str) -> String {
    let tenant = simulator.tenants()[0].directory_id;
    format!(
        "{}/{tenant}/oauth2/v2.0/authorize?client_id={}&response_type=code&redirect_uri=http%3A%2F%2Flocalhost%3A8080%2Fx&scope=openid&state=s%22%3C{more}",
        simulator.base_url(),
        simulator.client_id()
    )
}

#[tokio::test]
async fn a_person_in_front_of_a_real_browser_is_asked_and_may_decline() {
    let simulator = start(Settings { interactive: true, ..Settings::default() });
    let (status, _, page) = get(&authorize(&simulator, "")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("id=\"accept\"") && page.contains("id=\"decline\""), "{page}");
    assert!(page.contains("value=\"s&quot;&lt;\""), "what the caller wrote is not a part of the page: {page}");
    let (status, to, _) = get(&authorize(&simulator, "&sim_answer=accept")).await;
    assert_eq!(status, StatusCode::FOUND);
    assert!(to.contains("code=1.A") && to.contains("state="), "{to}");
    let (_, to, _) = get(&authorize(&simulator, "&sim_answer=decline")).await;
    assert!(to.contains("error=access_denied") && !to.contains("code="), "{to}");
}

#[tokio::test]
async fn an_administrator_agrees_and_even_a_refusal_says_true() {
    let simulator = start(Settings::default());
    let tenant = simulator.tenants()[0].directory_id;
    let url = format!(
        "{}/{tenant}/v2.0/adminconsent?client_id={}&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default&redirect_uri=http%3A%2F%2Flocalhost%2Fx&state=s",
        simulator.base_url(),
        simulator.client_id()
    );
    let back = |to: &str| -> Vec<(String, String)> { Url::parse(to).unwrap().query_pairs().into_owned().collect() };
    let fields = back(&get(&url).await.1);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert!(fields.contains(&pair("admin_consent", "True")) && fields.contains(&pair("tenant", &tenant.to_string())), "{fields:?}");
    assert!(fields.contains(&pair("state", "s")) && !fields.iter().any(|(name, _)| name == "code"));
    simulator.script(Rule::new(Effect::ConsentMissing).endpoint(Endpoint::Authorize).times(1));
    let fields = back(&get(&url).await.1);
    assert!(fields.contains(&pair("admin_consent", "True")) && fields.iter().any(|(name, _)| name == "error"), "{fields:?}");
    let (status, to, _) = get(&url.replace("/v2.0/adminconsent", "/adminconsent")).await;
    assert_eq!((status, to.contains("scope=")), (StatusCode::FOUND, false), "the old page says nothing of scopes");
    assert_eq!(get(&url.replace("client_id=", "client_id=x")).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_tenant_describes_itself_under_each_of_its_names() {
    let simulator = start(Settings::default());
    let tenant = &simulator.tenants()[1];
    simulator.add_domain(tenant.directory_id, "Further.example").unwrap();
    let at = |name: &str| format!("{}/{name}/v2.0/.well-known/openid-configuration", simulator.base_url());
    let by_id = document(&at(&tenant.directory_id.to_string())).await;
    assert_eq!(by_id["issuer"], format!("{}/{}/v2.0", simulator.base_url(), tenant.directory_id));
    assert_eq!(document(&at(&tenant.domain)).await, by_id);
    assert_eq!(document(&at("further.EXAMPLE")).await, by_id);
    assert!(document(&at("organizations")).await["issuer"].as_str().unwrap().contains("{tenantid}"));
    let (status, _, body) = get(&at("nobody.example")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("AADSTS90002") && body.contains("invalid_tenant"), "{body}");
    let region = Region {
        scope: "USGov".to_owned(),
        sub_scope: Some("DODCON".to_owned()),
        instance: "microsoftonline.us".to_owned(),
        graph_host: None,
    };
    simulator.set_region(tenant.directory_id, region).unwrap();
    let moved = document(&at(&tenant.domain)).await;
    assert_eq!((&moved["tenant_region_sub_scope"], &moved["cloud_instance_name"]), (&json!("DODCON"), &json!("microsoftonline.us")));
}

#[tokio::test]
async fn keys_are_published_and_can_be_missing() {
    let simulator = start(Settings::default());
    let tenant = simulator.tenants()[0].directory_id;
    let url = format!("{}/{tenant}/discovery/v2.0/keys", simulator.base_url());
    let names = |keys: &Value| keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].to_string()).collect::<Vec<_>>();
    let before = names(&document(&url).await);
    simulator.change_signing_key();
    let after = names(&document(&url).await);
    assert_eq!((before.len(), after.len()), (1, 2), "that of yesterday is still shown");
    assert_eq!(after[0], before[0]);
    simulator.script(Rule::new(Effect::MissingKeys).times(1));
    assert!(names(&document(&url).await).is_empty());
}

/// Posts to the token endpoint without any credential but these fields.
async fn token(simulator: &Simulator, fields: &[(&str, &str)]) -> (u16, Value) {
    let tenant = simulator.tenants()[0].directory_id;
    let answer = client().post(format!("{}/{tenant}/oauth2/v2.0/token", simulator.base_url())).form(fields).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn a_short_code_waits_for_whoever_types_it() {
    let simulator = start(Settings { device_interval: std::time::Duration::ZERO, ..Settings::default() });
    let tenant = simulator.tenants()[0].directory_id;
    let id = simulator.client_id();
    let url = format!("{}/{tenant}/oauth2/v2.0/devicecode", simulator.base_url());
    let device: Value =
        client().post(url).form(&[("client_id", id.as_str()), ("scope", GRAPH)]).send().await.unwrap().json().await.unwrap();
    let code = device["device_code"].as_str().unwrap();
    let fields = [("client_id", id.as_str()), ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", code)];
    assert_eq!(token(&simulator, &fields).await.1["error"], "authorization_pending");
    let typed = json!({ "user_code": device["user_code"], "agrees": true });
    client().post(format!("{}/sim/device", simulator.base_url())).json(&typed).send().await.unwrap().error_for_status().unwrap();
    let (status, answer) = token(&simulator, &fields).await;
    assert!(status == 200 && answer["refresh_token"].is_string() && answer["id_token"].is_string(), "{answer}");
    assert_eq!(token(&simulator, &fields).await.1["error"], "bad_verification_code");
}

#[tokio::test]
async fn an_assertion_is_looked_at_from_every_side() {
    let clock = ManualClock::at(Stamp::parse("2026-11-21T12:00:00Z").unwrap());
    let simulator = start(Settings { clock: Clock::Manual(clock), ..Settings::default() });
    let id = simulator.client_id();
    let now = simulator.now().unix_seconds();
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let claims = json!({ "iss": "https://issuer.example", "sub": "us", "aud": "api://AzureADTokenExchange", "nbf": now, "exp": now + 600 });
    let token_of = |header: Value, claims: &Value| format!("{}.{}.AAAA", part(&header), part(claims));
    let with = |name: &str, value: Value| {
        let mut changed = claims.clone();
        changed[name] = value;
        changed
    };
    let federated = json!({ "alg": "RS256", "kid": "k" });
    simulator.trust_federated("https://issuer.example", "us");
    for (assertion, status, code) in [
        (token_of(federated.clone(), &claims), 200, 0),
        (token_of(federated.clone(), &with("sub", json!("them"))), 400, 70021),
        (token_of(federated.clone(), &with("aud", json!("api://else"))), 400, 70021),
        (token_of(federated.clone(), &with("exp", json!(now - 301))), 401, 500133),
        (token_of(federated.clone(), &with("nbf", json!(now + 301))), 401, 500133),
        (token_of(federated.clone(), &with("exp", json!(now + 7200))), 401, 500133),
        (token_of(federated, &with("exp", json!("soon"))), 401, 50013),
        (token_of(json!({ "alg": "PS256", "x5t#S256": "nobody's" }), &claims), 401, 700027),
        (token_of(json!({ "alg": "RS256", "x5t#S256": "nobody's" }), &claims), 401, 50013),
        ("garbage".to_owned(), 401, 50013),
        ("a.b.c".to_owned(), 401, 50013),
    ] {
        let fields = [
            ("client_id", id.as_str()),
            ("grant_type", "client_credentials"),
            ("scope", "https://graph.microsoft.com/.default"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &assertion),
        ];
        let (found, answer) = token(&simulator, &fields).await;
        assert_eq!((found, answer["error_codes"][0].as_u64().unwrap_or_default()), (status, code), "{answer}");
    }
}
