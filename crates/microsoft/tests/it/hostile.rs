//! I19, T7: many ways to say "go elsewhere", in the link to the next page and in redirects, of every API and of the
//! sign-in service. Under every name but ours an evil listener answers, with a certificate that our client trusts, so that
//! nothing keeps a token from it but the check of the address. It must never even be called; and every page and every call
//! must end in something that is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use domain::rehearsal::Rehearsal;
use domain::{AccessToken, Audience, Source};
use microsoft::{AlertsApi, ApiErrorKind, Cloud, HttpSettings, PageQuery, SignIn};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::common::{TENANT, access_token, alerts, answer, app, lab, read_request, refresh_token, sign_in, window};
use crate::tls::{Authority, PhoneBook};

/// A text, and whether it means an address of ours after all. `{home}` is the host of the API that was asked, `{sibling}`
/// that of another API of the same cloud, `{login}` that of its sign-in service, `{port}` the port at which evil listens.
const TRICKS: &[(&str, bool)] = &[
    // Another host, plainly.
    ("https://evil.test/v1.0/security/alerts_v2?$skiptoken=1", false),
    ("https://evil.test:{port}/x", false),
    ("//evil.test/x", false),
    ("///evil.test/x", false),
    ("////evil.test/x", false),
    ("\\\\evil.test\\x", false),
    ("/\\evil.test/x", false),
    ("\\/evil.test/x", false),
    ("https:evil.test/x", true),
    ("https:\\\\evil.test\\x", false),
    ("https:///evil.test/x", false),
    ("hTTpS://EVIL.TEST/x", false),
    // Hosts that resemble ours.
    ("https://{home}.evil.test/x", false),
    ("https://evil.test.{home}/x", false),
    ("https://evil{home}/x", false),
    ("https://{home}evil.test/x", false),
    ("https://{home}./x", false),
    ("https://{home}../x", false),
    ("https://www.{home}/x", false),
    ("https://example.test/x", false),
    ("https://gr\u{0430}ph.example.test/x", false),
    ("https://xn--grph-63d.example.test/x", false),
    ("https://{home}\u{3002}evil.test/x", false),
    ("https://{home}\u{ff0f}evil.test/x", false),
    ("https://{home}\u{2044}evil.test/x", false),
    // Other hosts of the same cloud: the token is for one API.
    ("https://{sibling}/x", false),
    ("https://{login}/x", false),
    ("https://{login}/{tenant}/oauth2/v2.0/token", false),
    // User names and passwords.
    ("https://{home}@evil.test/x", false),
    ("https://{home}:443@evil.test/x", false),
    ("https://{home}%40evil.test/x", false),
    ("https://{home}:pass@evil.test:{port}/x", false),
    ("https://evil.test@{home}/x", false),
    ("https://user:secret@{home}/x", false),
    ("https://@evil.test/x", false),
    ("https://evil.test#@{home}/x", false),
    ("https://evil.test?@{home}/x", false),
    ("https://evil.test\\@{home}/x", false),
    ("https://{home}\\@evil.test/x", true),
    ("https://{home}#@evil.test/x", true),
    ("https://{home}?@evil.test/x", true),
    // Ports.
    ("https://{home}:{port}/x", false),
    ("https://{home}:80/x", false),
    ("https://{home}:443/x", true),
    ("https://{home}:65979/x", false),
    ("https://{home}:443:{port}/x", false),
    // Encodings, blanks and control characters.
    ("https://%65vil.test/x", false),
    ("https://{home}%2eevil.test/x", false),
    ("https://{home}%00.evil.test/x", false),
    ("https://{home}%2f@evil.test/x", false),
    ("https://{home}%23@evil.test/x", false),
    ("https://{home}\u{0}.evil.test/x", false),
    ("https://{home}\t.evil.test/x", false),
    ("https://{home}\n.evil.test/x", false),
    ("https://{home} .evil.test/x", false),
    (" \u{b}https://evil.test/x", false),
    // A page's reader takes this letter for an unknown one, with which no address begins: it is a path, at home.
    ("\u{0}https://evil.test/x", true),
    ("https://evil.test/x\r\nAuthorization: Bearer x", false),
    // Addresses.
    ("https://127.0.0.1:{port}/x", false),
    ("https://127.1:{port}/x", false),
    ("https://2130706433:{port}/x", false),
    ("https://0x7f.1:{port}/x", false),
    ("https://017700000001:{port}/x", false),
    ("https://[::1]:{port}/x", false),
    ("https://[::ffff:127.0.0.1]:{port}/x", false),
    ("https://[fe80::1%25lo]:{port}/x", false),
    ("https://localhost:{port}/x", false),
    // Other schemes.
    ("http://{home}/x", false),
    ("http://{home}:443/x", false),
    ("http://127.0.0.1:{port}/x", false),
    ("ftp://{home}/x", false),
    ("ws://{home}/x", false),
    ("file:///etc/passwd", false),
    ("javascript:fetch('https://evil.test')", false),
    ("data:text/plain,https://evil.test", false),
    ("blob:https://{home}/x", false),
    // What would be a redirect elsewhere if anybody followed one, and paths: all of it stays at home.
    ("https://{home}/redirect?url=https://evil.test/x", true),
    ("https://{home}//evil.test/x", true),
    ("https://{home}/https://evil.test/x", true),
    ("https://{home}/../../evil.test/x", true),
    ("https://{home}/%2e%2e/%2e%2e/api/alerts", true),
    ("https://{home}/00000000-0000-0000-0000-000000000007/other-tenant", true),
    ("?$skiptoken=//evil.test", true),
    ("/v1.0/next", true),
    // No address at all.
    ("https://", false),
    ("https://?", false),
    ("https://[/x", false),
];

/// Speaks TLS under any name, keeps what it hears, and answers as it is told.
struct Ear {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    /// Connections, whether or not anything was said on them.
    calls: Arc<Mutex<usize>>,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Ear {
    async fn listening(config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ear = Self { address, heard: Arc::default(), calls: Arc::default(), answer: Arc::default() };
        let (heard, calls, answer, acceptor) = (ear.heard.clone(), ear.calls.clone(), ear.answer.clone(), TlsAcceptor::from(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *calls.lock().unwrap() += 1;
                let (heard, answer, acceptor) = (heard.clone(), answer.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let request = read_request(&mut stream).await;
                    heard.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
                    let answer = answer.lock().unwrap().clone();
                    let _ = stream.write_all(&answer).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        ear
    }

    fn answers(&self, answer: Vec<u8>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    fn calls(&self) -> usize {
        *self.calls.lock().unwrap()
    }

    /// How many access tokens it was shown.
    fn tokens(&self) -> usize {
        self.heard().iter().filter(|request| request.to_ascii_lowercase().contains("\r\nauthorization:")).count()
    }
}

struct World {
    home: Ear,
    evil: Ear,
    cloud: Cloud,
    alerts: AlertsApi,
    sign_in: SignIn,
    token: AccessToken,
}

const GRAPH: &str = "graph.example.test";
const DEFENDER: &str = "defender.example.test";
const LOGIN: &str = "login.example.test";

impl World {
    async fn new() -> Self {
        let (config, root) = Authority::new().for_every_name();
        let config = Arc::new(config);
        let (home, evil) = (Ear::listening(config.clone()).await, Ear::listening(config).await);
        let names = PhoneBook::default();
        for name in [GRAPH, DEFENDER, LOGIN] {
            names.write(name, home.address);
        }
        names.all_others(evil.address);
        let settings = HttpSettings { extra_roots: vec![root], pool_max_idle_per_host: 0, ..names.settings() };
        let url = |host: &str| format!("https://{host}").parse().unwrap();
        let cloud = Cloud { defender_url: Some(url(DEFENDER)), login_url: url(LOGIN), ..lab(&format!("https://{GRAPH}")) };
        let (alerts, sign_in) = (alerts(settings.clone()), sign_in(settings));
        Self { home, evil, cloud, alerts, sign_in, token: access_token("the-token") }
    }

    /// The text of a trick as it is told to whoever asked `host`.
    fn text(&self, trick: &str, host: &str) -> String {
        let sibling = if host == DEFENDER { GRAPH } else { DEFENDER };
        [("{home}", host), ("{sibling}", sibling), ("{login}", LOGIN), ("{tenant}", &TENANT.to_string())]
            .iter()
            .fold(trick.replace("{port}", &self.evil.address.port().to_string()), |text, (word, means)| text.replace(word, means))
    }

    async fn fetch(&self, source: Source, query: &PageQuery) -> Result<microsoft::Page, microsoft::ApiError> {
        self.alerts.fetch(&self.cloud, source, &self.token, query).await
    }

    fn nobody_was_lured(&self, trick: &str) {
        assert_eq!((self.evil.calls(), self.evil.tokens()), (0, 0), "{trick:?} led to {:?}", self.evil.heard());
    }
}

fn host_of(source: Source) -> &'static str {
    if source == Source::MdeAlerts { DEFENDER } else { GRAPH }
}

fn page_with_link(link: &str) -> Vec<u8> {
    let link = serde_json::to_string(link).unwrap();
    answer("200 OK", "", format!(r#"{{"value":[{{"id":"1"}}],"@odata.nextLink":{link}}}"#))
}

const SOURCES: [Source; 3] = [Source::GraphAlerts, Source::MdeAlerts, Source::GraphIncidents];

#[tokio::test]
async fn no_link_to_a_next_page_takes_a_token_to_a_stranger_i19() {
    assert!(TRICKS.len() >= 80);
    let world = World::new().await;
    let mut calls = 0;
    for source in SOURCES {
        for (trick, stays) in TRICKS {
            world.home.answers(page_with_link(&world.text(trick, host_of(source))));
            let page = world.fetch(source, &window()).await.unwrap_or_else(|error| panic!("{trick:?}: {error}"));
            calls += 1;
            // What came with the link is as good as ever; and that there may be more is told, or followed up at home.
            assert_eq!(page.records.len(), 1, "{trick:?}");
            assert_eq!((page.next.is_some(), page.foreign_next), (*stays, !*stays), "{trick:?}");
            if let Some(next) = page.next {
                world.home.answers(answer("200 OK", "", r#"{"value":[{"id":"2"}]}"#));
                let page = world.fetch(source, &PageQuery::Next(next)).await.unwrap_or_else(|error| panic!("{trick:?}: {error}"));
                calls += 1;
                assert_eq!(page.records.len(), 1, "{trick:?}");
                let heard = world.home.heard();
                let host = format!("\r\nhost: {}\r\n", host_of(source));
                assert!(heard.last().unwrap().to_ascii_lowercase().contains(&host), "{trick:?}: {heard:?}");
            }
            world.nobody_was_lured(trick);
        }
    }
    assert_eq!((world.home.heard().len(), world.home.tokens()), (calls, calls), "every call was made, with its token, at home");
}

#[tokio::test]
async fn no_redirect_of_an_api_or_of_the_sign_in_service_is_followed_i19() {
    let world = World::new().await;
    let refresh = refresh_token("the-refresh-token");
    for (number, (trick, _)) in TRICKS.iter().enumerate() {
        let status = ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"][number % 5];
        for source in SOURCES {
            let location = world.text(trick, host_of(source));
            world.home.answers(answer(status, &format!("Location: {location}\r\nRefresh: 0; url={location}\r\n"), ""));
            let error = world.fetch(source, &window()).await.expect_err(trick);
            // What cannot stand in a header is no answer at all.
            assert!(matches!(error.kind(), ApiErrorKind::BadAnswer | ApiErrorKind::Unavailable), "{trick:?}: {error}");
            assert!(!error.trouble().reason.is_empty() && !error.trouble().action.is_empty(), "{trick:?}");
            assert!(!format!("{error} {:?}", error.trouble()).contains("evil"), "{trick:?}: {error}");
        }
        let location = world.text(trick, LOGIN);
        world.home.answers(answer(status, &format!("Location: {location}\r\n"), ""));
        let error = world.sign_in.redeem(&world.cloud, &app(), TENANT, Audience::Graph, &refresh, None).await.expect_err(trick);
        assert!(!error.is_dead_token(), "{trick:?}: a redirect says nothing about the token");
        assert!(!error.trouble().reason.is_empty() && !error.trouble().action.is_empty(), "{trick:?}");
        world.nobody_was_lured(trick);
    }
    let heard = world.home.heard();
    assert_eq!(heard.len(), TRICKS.len() * 4, "one call each: no redirect is followed, not even to ourselves");
    assert_eq!(world.home.tokens(), TRICKS.len() * 3);
}

#[tokio::test]
async fn the_evil_listener_hears_a_token_where_the_check_is_broken() {
    let world = World::new().await;
    world.home.answers(page_with_link("https://evil.test/x"));
    world.evil.answers(answer("200 OK", "", r#"{"value":[]}"#));
    Rehearsal::default().bug("foreign-link-followed").begin();
    let page = world.fetch(Source::GraphAlerts, &window()).await.unwrap();
    let followed = world.fetch(Source::GraphAlerts, &PageQuery::Next(page.next.expect("the bug accepts the link"))).await;
    Rehearsal::end();
    followed.unwrap();
    assert_eq!((world.evil.calls(), world.evil.tokens()), (1, 1));
    assert!(world.evil.heard()[0].contains("the-token"));
}

#[tokio::test]
async fn a_token_that_would_add_a_header_is_sent_nowhere() {
    for text in ["a\r\nHost: evil.test", "a\nb", "a\0b"] {
        let world = World { token: access_token(text), ..World::new().await };
        let error = world.fetch(Source::GraphAlerts, &window()).await.unwrap_err();
        assert_eq!(error.kind(), ApiErrorKind::BadAnswer, "{error}");
        assert_eq!((world.home.calls(), world.evil.calls()), (0, 0), "{text:?}");
    }
}
