//! What happens once per customer, against the pretend Microsoft: found by a domain, signed in by a browser, by an
//! administrator's consent or by a short code; and the ways in which our app proves itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{AppCredential, Audience, ClientAssertion, ClientSecret, CloudName, LinkKind, RefreshToken, SystemClock, TenantId, Verdict};
use microsoft::{
    App, Ask, Cloud, Code, Desk, DevicePoll, Directory, Endpoint, Grant, Http, HttpSettings, Returned, Said, SignIn, SignInError, SignedIn,
    Turns, certificates,
};
use secrecy::ExposeSecret;
use simulator::{Effect, Endpoint as At, OddToken, Region, Rule, Settings, SimTenant, Simulator};
use url::Url;

use crate::common::lab;

const REDIRECT: &str = "http://localhost:8080/connect/callback";
/// The verifier and challenge of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const NONCE: &str = "n-0S6_WzA2Mj";

/// A pretend Microsoft and our side of it.
struct Lab {
    simulator: Simulator,
    cloud: Cloud,
    app: App,
    sign_in: SignIn,
    tenant: SimTenant,
    secret: AppCredential,
}

impl Lab {
    fn new(settings: Settings) -> Self {
        let simulator = Simulator::start(settings).unwrap();
        let cloud = lab(simulator.base_url());
        let app = App::new(simulator.client_id(), Grant::RefreshToken);
        let sign_in = SignIn::new(Http::new(HttpSettings::default()).unwrap(), Arc::new(SystemClock));
        let tenant = simulator.tenants()[0].clone();
        let secret = AppCredential::Secret(ClientSecret::new(simulator.client_secret()).unwrap());
        Self { simulator, cloud, app, sign_in, tenant, secret }
    }

    fn id(&self) -> TenantId {
        TenantId(self.tenant.directory_id)
    }

    async fn directory(&self) -> Directory {
        self.sign_in.discover(&self.cloud, &self.tenant.directory_id.to_string()).await.unwrap()
    }

    /// Goes through the sign-in page as a browser would, and returns what it brings back.
    async fn agree(&self, nonce: &str) -> String {
        let audiences = [Audience::Graph, Audience::Defender];
        let ask = Ask { redirect_uri: REDIRECT, state: "s", nonce, code_challenge: CHALLENGE, login_hint: None, audiences: &audiences };
        let url = self.sign_in.authorize_url(&self.cloud, &self.app, self.id(), &ask).unwrap();
        let back = browse(&url).await;
        assert_eq!(parameter(&back, "state"), "s");
        parameter(&back, "code")
    }

    async fn redeem(&self, directory: &Directory, code: &str) -> Result<SignedIn, SignInError> {
        let code = Code { code, redirect_uri: REDIRECT, verifier: VERIFIER, nonce: NONCE };
        let at = Desk { cloud: &self.cloud, app: &self.app, tenant: self.id(), directory };
        self.sign_in.redeem_code(&at, Audience::Graph, &code, Some(&self.secret)).await
    }

    async fn refresh(&self, app: &App, credential: &AppCredential) -> Result<microsoft::Redeemed, SignInError> {
        let token = RefreshToken::new(self.tenant.refresh_token.as_str()).unwrap();
        self.sign_in.redeem(&self.cloud, app, self.id(), Audience::Defender, &token, Some(credential)).await
    }

    /// How many requests of this status the token endpoint has answered.
    fn answered(&self, status: u16) -> u64 {
        self.simulator.journal_totals().get(&(At::Token, status)).copied().unwrap_or_default()
    }
}

/// Opens an address as a browser that follows nothing by itself, and tells where it is sent.
async fn browse(url: &Url) -> Url {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let answer = client.get(url.clone()).send().await.unwrap();
    assert_eq!(answer.status(), 302, "{}", answer.text().await.unwrap_or_default());
    Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap()
}

fn parameter(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn code_of<T>(outcome: Result<T, SignInError>) -> String {
    outcome.err().expect("it is refused").trouble().code.unwrap()
}

#[tokio::test]
async fn a_tenant_is_found_by_its_id_and_by_any_of_its_domains() {
    let lab = Lab::new(Settings::default());
    lab.simulator.add_domain(lab.tenant.directory_id, "kunde.example").unwrap();
    let by_id = lab.directory().await;
    assert_eq!(by_id.id, lab.id());
    for domain in [lab.tenant.domain.as_str(), "kunde.example", "KUNDE.example", " kunde.example "] {
        assert_eq!(lab.sign_in.discover(&lab.cloud, domain).await.unwrap(), by_id, "{domain}");
    }
    assert_eq!(by_id.fits(&CloudName::new("lab"), &lab.cloud), Ok(()));
    assert_eq!(code_of(lab.sign_in.discover(&lab.cloud, "nobody.example").await), "AADSTS90002");
    assert_eq!(code_of(lab.sign_in.discover(&lab.cloud, "common").await), "bad-directory");
}

#[tokio::test]
async fn a_tenant_of_another_cloud_is_told_by_its_discovery_document() {
    let lab = Lab::new(Settings::default());
    let region = Region { scope: "NA".to_owned(), sub_scope: Some("GCC".to_owned()), ..Region::default() };
    lab.simulator.set_region(lab.tenant.directory_id, region).unwrap();
    let sentence = lab.directory().await.fits(&CloudName::new("global"), &lab.cloud).unwrap_err();
    assert!(sentence.contains("the cloud gcc") && sentence.contains("GCC"), "{sentence}");
    let region = Region { graph_host: Some("graph.microsoft.us".to_owned()), ..Region::default() };
    lab.simulator.set_region(lab.tenant.directory_id, region).unwrap();
    assert!(lab.directory().await.fits(&CloudName::new("lab"), &lab.cloud).unwrap_err().contains("gcc-high"));
}

#[tokio::test]
async fn a_person_signs_in_and_every_check_passes() {
    let lab = Lab::new(Settings::default());
    let directory = lab.directory().await;
    let signed_in = lab.redeem(&directory, &lab.agree(NONCE).await).await.unwrap();
    assert!(signed_in.user.oid.is_some(), "{:?}", signed_in.user);
    assert_eq!(signed_in.user.name.as_deref(), Some("mssp-reader@bekci.example"));
    assert_eq!(signed_in.redeemed.granted.unwrap(), ["SecurityAlert.Read.All", "SecurityIncident.Read.All"]);
    assert_eq!(signed_in.redeemed.roles.as_deref().and_then(domain::consent::reading_role), Some("Security Reader"));
    let token = signed_in.redeemed.refresh.unwrap();
    let redeemed = lab.sign_in.redeem(&lab.cloud, &lab.app, lab.id(), Audience::Defender, &token, Some(&lab.secret)).await.unwrap();
    assert_eq!(redeemed.granted.unwrap(), ["Alert.Read"], "what was agreed to holds for the other API as well");
}

#[tokio::test]
async fn a_sign_in_that_is_not_the_one_we_began_is_refused() {
    let lab = Lab::new(Settings::default());
    let directory = lab.directory().await;
    let other_nonce = lab.agree("another").await;
    assert_eq!(code_of(lab.redeem(&directory, &other_nonce).await), "id-token-nonce");
    let used = lab.agree(NONCE).await;
    lab.redeem(&directory, &used).await.unwrap();
    assert_eq!(code_of(lab.redeem(&directory, &used).await), "AADSTS54005");
    lab.simulator.script(Rule::new(Effect::OddToken(OddToken::WrongTenant)).endpoint(At::Token).times(1));
    assert_eq!(code_of(lab.redeem(&directory, &lab.agree(NONCE).await).await), "tid-mismatch");
    lab.simulator.script(Rule::new(Effect::OddToken(OddToken::NoIdToken)).endpoint(At::Token).times(1));
    assert_eq!(code_of(lab.redeem(&directory, &lab.agree(NONCE).await).await), "id-token-missing");
    let foreign = Directory { issuer: "https://login.example/v2.0".to_owned(), ..directory.clone() };
    assert_eq!(code_of(lab.redeem(&foreign, &lab.agree(NONCE).await).await), "id-token-issuer");
    let elsewhere = Directory { issuer: "x".to_owned(), jwks_uri: "http://127.0.0.1:1/keys".parse().unwrap(), ..directory };
    assert_eq!(code_of(lab.redeem(&elsewhere, &lab.agree(NONCE).await).await), "foreign-keys");
}

#[tokio::test]
async fn fault_41_changed_keys_are_fetched_once_and_not_for_every_stranger() {
    let lab = Lab::new(Settings::default());
    let directory = lab.directory().await;
    let fetched = || {
        let journal = lab.simulator.journal();
        journal.iter().filter(|entry| entry.path.ends_with("/discovery/v2.0/keys")).count()
    };
    lab.redeem(&directory, &lab.agree(NONCE).await).await.unwrap();
    lab.redeem(&directory, &lab.agree(NONCE).await).await.unwrap();
    assert_eq!(fetched(), 1, "the keys are kept");
    // The clock of this sign-in service's client does not move, so a set that was fetched now never becomes half a minute old.
    lab.simulator.change_signing_key();
    assert_eq!(code_of(lab.redeem(&directory, &lab.agree(NONCE).await).await), "id-token-key");
    assert_eq!(fetched(), 1, "not more often than every half minute");

    let (clock, http) = (domain::clock::ManualClock::at(domain::Clock::now(&SystemClock)), Http::new(HttpSettings::default()).unwrap());
    let later = Lab { sign_in: SignIn::new(http, Arc::new(clock.clone())), ..lab };
    let fetched = || {
        let journal = later.simulator.journal();
        journal.iter().filter(|entry| entry.path.ends_with("/discovery/v2.0/keys")).count()
    };
    later.redeem(&directory, &later.agree(NONCE).await).await.unwrap();
    let before = fetched();
    later.simulator.script(Rule::new(Effect::ChangeKeys).endpoint(At::Token).times(1));
    clock.advance(std::time::Duration::from_secs(31));
    later.redeem(&directory, &later.agree(NONCE).await).await.unwrap();
    assert_eq!(fetched(), before + 1, "nobody who signs in notices that the keys have changed");
    later.simulator.script(Rule::new(Effect::MissingKeys).endpoint(At::Discovery));
    later.simulator.change_signing_key();
    clock.advance(std::time::Duration::from_secs(31));
    let none = later.redeem(&directory, &later.agree(NONCE).await).await.err().unwrap().trouble();
    assert_eq!((none.code.as_deref(), none.verdict), (Some("bad-answer"), Verdict::Retry), "it will pass");
    // An empty set is not kept.
    later.simulator.clear_script();
    later.redeem(&directory, &later.agree(NONCE).await).await.unwrap();
}

#[tokio::test]
async fn an_administrator_agrees_to_what_the_app_does_by_itself() {
    let lab = Lab::new(Settings { admin_consent_needed: true, ..Settings::default() });
    let app = App::new(lab.simulator.client_id(), Grant::ClientCredentials);
    let granted = || async {
        lab.sign_in.client_credentials(&lab.cloud, &app, lab.id(), Audience::Graph, &lab.secret).await.unwrap().granted.unwrap()
    };
    assert!(granted().await.is_empty(), "a token is given before anybody has agreed, and opens nothing");
    let url = lab.sign_in.admin_consent_url(&lab.cloud, &app, lab.id(), REDIRECT, "s+1").unwrap();
    assert_eq!(parameter(&url, "scope"), "https://graph.microsoft.com/.default");
    lab.simulator
        .script(Rule::new(Effect::SignInError { code: 65004, error: None, suberror: None, status: None }).endpoint(At::Authorize).times(1));
    let back = browse(&url).await;
    assert_eq!(parameter(&back, "admin_consent"), "True", "the refusal says so as well");
    let answer = Returned::read(back.query().unwrap()).unwrap();
    assert_eq!(answer.state.as_ref().map(|state| state.as_str()), Some("s+1"));
    let Said::Refused { error, description } = answer.said(LinkKind::Application).unwrap() else { panic!("it was refused") };
    let refused = SignInError::of_redirect(&error, description.as_deref());
    assert_eq!((refused.trouble().verdict, refused.trouble().code.as_deref()), (Verdict::NeedsConsent, Some("AADSTS65004")));
    assert!(granted().await.is_empty());
    let answer = Returned::read(browse(&url).await.query().unwrap()).unwrap();
    assert!(matches!(answer.said(LinkKind::Application), Ok(Said::Granted { .. })));
    assert!(granted().await.contains(&"SecurityAlert.Read.All".to_owned()));
}

#[tokio::test]
async fn a_short_code_is_waited_for_declined_or_typed() {
    let lab = Lab::new(Settings { device_interval: std::time::Duration::ZERO, ..Settings::default() });
    let directory = lab.directory().await;
    let at = Desk { cloud: &lab.cloud, app: &lab.app, tenant: lab.id(), directory: &directory };
    let begin = || async { lab.sign_in.begin_device_code(&lab.cloud, &lab.app, lab.id(), Audience::Graph).await.unwrap() };
    let device = begin().await;
    let poll = |device| lab.sign_in.poll_device_code(&at, Audience::Graph, device, None);
    assert!(matches!(poll(&device).await, Ok(DevicePoll::Pending)));
    lab.simulator.decide_device(&device.user_code, true).unwrap();
    let Ok(DevicePoll::SignedIn(signed_in)) = poll(&device).await else { panic!("somebody has typed it") };
    assert!(signed_in.redeemed.refresh.is_some());
    assert_eq!(code_of(poll(&device).await), "device-unknown", "a code is good once");
    let declined = begin().await;
    lab.simulator.decide_device(&declined.user_code, false).unwrap();
    assert_eq!(code_of(poll(&declined).await), "device-declined");
    let late = microsoft::DeviceCode { expires_at: domain::Ticks(0), ..begin().await };
    assert_eq!(code_of(poll(&late).await), "device-expired");
}

#[tokio::test]
async fn asking_too_often_for_a_short_code_slows_down() {
    let lab = Lab::new(Settings { device_interval: std::time::Duration::from_secs(3600), ..Settings::default() });
    let directory = lab.directory().await;
    let at = Desk { cloud: &lab.cloud, app: &lab.app, tenant: lab.id(), directory: &directory };
    let device = lab.sign_in.begin_device_code(&lab.cloud, &lab.app, lab.id(), Audience::Graph).await.unwrap();
    for slow in [false, true] {
        let polled = lab.sign_in.poll_device_code(&at, Audience::Graph, &device, None).await.unwrap();
        assert_eq!(matches!(polled, DevicePoll::SlowDown), slow);
    }
}

/// A certificate of these years with its key, both PEM.
fn certificate(from: i32, until: i32) -> (String, String) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["tocsin.test".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(until, 1, 1));
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn signing_with(pairs: &[&(String, String)]) -> AppCredential {
    let [certificates, keys] =
        [pairs.iter().map(|pair| pair.0.as_str()).collect::<String>(), pairs.iter().map(|pair| pair.1.as_str()).collect::<String>()];
    AppCredential::Certificates(certificates::pair(&certificates, &keys).unwrap())
}

#[tokio::test]
async fn a_certificate_proves_the_app_in_every_grant() {
    let lab = Lab::new(Settings::default());
    let known = certificate(2020, 2090);
    lab.simulator.register_certificate(&known.0).unwrap();
    let credential = signing_with(&[&known]);
    lab.refresh(&lab.app, &credential).await.unwrap();
    lab.sign_in.client_credentials(&lab.cloud, &lab.app, lab.id(), Audience::Graph, &credential).await.unwrap();
    let v1 = App { endpoint: Endpoint::V1, ..lab.app.clone() };
    lab.refresh(&v1, &credential).await.unwrap();
    let by_certificate = Lab { secret: credential, ..lab };
    let directory = by_certificate.directory().await;
    by_certificate.redeem(&directory, &by_certificate.agree(NONCE).await).await.unwrap();
}

/// Turns at a login host, counted.
#[derive(Default)]
struct Counted(AtomicUsize);

#[async_trait]
impl Turns for Counted {
    async fn turn(&self, _: &Cloud) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn certificates_are_changed_without_a_gap_in_either_order() {
    let lab = Lab::new(Settings::default());
    let (old, new) = (certificate(2020, 2090), certificate(2020, 2091));
    lab.simulator.register_certificate(&old.0).unwrap();
    let both = signing_with(&[&new, &old]);
    let turns = Arc::new(Counted::default());
    let lab = Lab { sign_in: lab.sign_in.clone().taking_turns(turns.clone()), ..lab };
    lab.refresh(&lab.app, &both).await.unwrap();
    assert_eq!(turns.0.load(Ordering::SeqCst), 1, "the first call is the caller's; the second takes a turn of its own");
    assert_eq!((lab.answered(401), lab.answered(200)), (1, 1), "the new one is not known yet; the old one is tried in the same call");
    lab.refresh(&lab.app, &both).await.unwrap();
    assert_eq!((lab.answered(401), lab.answered(200)), (1, 2), "and remembered");
    lab.simulator.forget_certificates();
    lab.simulator.register_certificate(&new.0).unwrap();
    lab.refresh(&lab.app, &both).await.unwrap();
    lab.refresh(&lab.app, &both).await.unwrap();
    assert_eq!((lab.answered(401), lab.answered(200)), (2, 4), "the old one was taken out of the registration");
    lab.simulator.forget_certificates();
    let error = lab.refresh(&lab.app, &both).await.unwrap_err();
    assert_eq!((error.trouble().verdict, error.trouble().code.as_deref()), (Verdict::Global, Some("AADSTS700027")));
    assert_eq!(lab.answered(401), 4, "each is tried once, and no tenant is marked");
    assert_eq!(turns.0.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn an_expired_certificate_asks_nobody_and_is_a_fault_of_ours() {
    let lab = Lab::new(Settings::default());
    let expired = certificate(2020, 2021);
    lab.simulator.register_certificate(&expired.0).unwrap();
    let error = lab.refresh(&lab.app, &signing_with(&[&expired])).await.unwrap_err();
    assert_eq!((error.trouble().verdict, error.trouble().code.as_deref()), (Verdict::Global, Some("certificate-expired")));
    assert!(lab.simulator.journal().is_empty());
    lab.refresh(&lab.app, &{
        let good = certificate(2020, 2090);
        lab.simulator.register_certificate(&good.0).unwrap();
        signing_with(&[&expired, &good])
    })
    .await
    .unwrap();
    assert_eq!(lab.answered(401), 0, "an expired one beside a good one is passed over");
}

#[tokio::test]
async fn a_federated_token_stands_for_the_app_where_it_is_trusted() {
    let lab = Lab::new(Settings::default());
    let now = domain::Clock::now(&SystemClock).0 / 10_000_000;
    let token = |subject: &str| {
        let encode = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let claims = serde_json::json!({ "iss": "https://oidc.cluster.example", "sub": subject, "aud": ["api://AzureADTokenExchange"], "nbf": now, "exp": now + 3600 });
        let token = format!("{}.{}.c2ln", encode(serde_json::json!({ "alg": "RS256", "kid": "k" })), encode(claims));
        AppCredential::Federated(ClientAssertion::new(token).unwrap())
    };
    let ours = token("system:serviceaccount:tocsin:tocsin");
    let error = lab.refresh(&lab.app, &ours).await.unwrap_err();
    assert_eq!((error.trouble().verdict, error.trouble().code.as_deref()), (Verdict::Retry, Some("AADSTS70021")), "it may take minutes");
    lab.simulator.trust_federated("https://oidc.cluster.example", "system:serviceaccount:tocsin:tocsin");
    lab.refresh(&lab.app, &ours).await.unwrap();
    assert_eq!(code_of(lab.refresh(&lab.app, &token("system:serviceaccount:tocsin:other")).await), "AADSTS70021");
}

#[tokio::test]
async fn an_old_app_speaks_of_resources() {
    let lab = Lab::new(Settings::default());
    let v1 = App { endpoint: Endpoint::V1, ..lab.app.clone() };
    let redeemed = lab.refresh(&v1, &lab.secret).await.unwrap();
    assert_eq!(redeemed.granted.unwrap(), ["Alert.Read"]);
    let life = redeemed.access.expires_at.since(domain::Clock::now(&SystemClock)).as_secs();
    assert!((3500..=5400).contains(&life), "numbers that are texts are read: {life}");
    let by_itself = App { grant: Grant::ClientCredentials, ..v1 };
    let redeemed = lab.sign_in.client_credentials(&lab.cloud, &by_itself, lab.id(), Audience::Graph, &lab.secret).await.unwrap();
    assert!(redeemed.refresh.is_none() && !redeemed.access.bearer.expose_secret().is_empty());
    let asked: Vec<_> = lab.simulator.journal().into_iter().map(|entry| (entry.path, entry.query)).collect();
    let path = format!("/{}/oauth2/token", lab.tenant.directory_id);
    assert!(asked.iter().all(|(asked, _)| *asked == path), "{asked:?}");
    assert!(asked[0].1.contains("resource=https://api.securitycenter.microsoft.com") && asked[0].1.contains("scope=openid"));
    assert!(asked[1].1.contains("resource=https://graph.microsoft.com") && !asked[1].1.contains("scope="));
}

#[tokio::test]
async fn the_address_of_the_sign_in_page_holds_all_that_it_must() {
    let lab = Lab::new(Settings { tenants: 1, ..Settings::default() });
    let audiences = [Audience::Graph, Audience::Defender];
    let ask = Ask {
        redirect_uri: REDIRECT,
        state: "a state & more",
        nonce: NONCE,
        code_challenge: CHALLENGE,
        login_hint: Some("reader@kunde.example"),
        audiences: &audiences,
    };
    let url = lab.sign_in.authorize_url(&lab.cloud, &lab.app, lab.id(), &ask).unwrap();
    assert_eq!(url.path(), format!("/{}/oauth2/v2.0/authorize", lab.tenant.directory_id));
    for (name, value) in [
        ("response_type", "code"),
        ("response_mode", "query"),
        ("redirect_uri", REDIRECT),
        ("scope", "https://graph.microsoft.com/.default offline_access openid"),
        ("state", "a state & more"),
        ("nonce", NONCE),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("prompt", "select_account"),
        ("login_hint", "reader@kunde.example"),
    ] {
        assert_eq!(parameter(&url, name), value);
    }
    let china = Cloud { defender_scope: None, ..lab.cloud.clone() };
    assert_eq!(code_of(lab.sign_in.authorize_url(&china, &lab.app, lab.id(), &ask)), "no-scope");
}
