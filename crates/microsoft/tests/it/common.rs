//! A laboratory: clouds that lead to servers of this test, and servers that answer with any bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::clock::ManualClock;
use domain::token::Bearer;
use domain::{AccessToken, AppCredential, Axis, ClientSecret, RefreshToken, TenantId, Ticks};
use microsoft::{AlertsApi, App, Cloud, Grant, Http, HttpSettings, PageQuery, SignIn, WindowQuery};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use url::Url;
use uuid::Uuid;

/// The customer of every test.
pub(crate) const TENANT: TenantId = TenantId(Uuid::from_u128(0xb3c1_b5fc_828c_45fa_a1e1_10d7_4f6d_6e9c));

/// What every clock of a test says.
pub(crate) const NOW: &str = "2026-11-21T12:00:00Z";

pub(crate) fn now() -> Ticks {
    Ticks::parse(NOW).unwrap()
}

/// A cloud whose every address is `url`.
pub(crate) fn lab(url: &str) -> Cloud {
    let url = Url::parse(url).unwrap();
    let cloud = Cloud {
        login_url: url.clone(),
        graph_url: url.clone(),
        defender_url: Some(url),
        portal_url: None,
        graph_scope: "https://graph.microsoft.com/.default offline_access".to_owned(),
        defender_scope: Some("https://api.securitycenter.microsoft.com/.default offline_access".to_owned()),
        allow_plaintext: true,
    };
    cloud.check().unwrap();
    cloud
}

/// Short enough that a test of a hanging server ends.
pub(crate) fn impatient() -> HttpSettings {
    HttpSettings {
        connect_timeout: Duration::from_secs(2),
        read_timeout: Duration::from_millis(300),
        sign_in_timeout: Duration::from_millis(800),
        page_timeout: Duration::from_millis(800),
        ..HttpSettings::default()
    }
}

pub(crate) fn sign_in(settings: HttpSettings) -> SignIn {
    SignIn::new(Http::new(settings).unwrap(), Arc::new(ManualClock::at(now())))
}

pub(crate) fn alerts(settings: HttpSettings) -> AlertsApi {
    AlertsApi::new(Http::new(settings).unwrap(), Arc::new(ManualClock::at(now())))
}

/// Both of them around one client with the usual settings. Making a client takes its time; each test has its thread,
/// and a thread makes one.
pub(crate) fn usual() -> (SignIn, AlertsApi) {
    thread_local! {
        static HTTP: Http = Http::new(HttpSettings::default()).unwrap();
    }
    let (http, clock) = (HTTP.with(Http::clone), Arc::new(ManualClock::at(now())));
    (SignIn::new(http.clone(), clock.clone()), AlertsApi::new(http, clock))
}

pub(crate) fn app() -> App {
    App::new("11111111-2222-3333-4444-555555555555", Grant::RefreshToken)
}

pub(crate) fn refresh_token(text: &str) -> RefreshToken {
    RefreshToken::new(text).unwrap()
}

pub(crate) fn client_secret(text: &str) -> AppCredential {
    AppCredential::Secret(ClientSecret::new(text).unwrap())
}

pub(crate) fn access_token(text: &str) -> AccessToken {
    AccessToken { bearer: Bearer::new(text).unwrap(), expires_at: now().plus(Duration::from_secs(3600)) }
}

/// Everything since the beginning of 2026.
pub(crate) fn window() -> PageQuery {
    PageQuery::Window(since_2026())
}

pub(crate) fn since_2026() -> WindowQuery {
    let from = Ticks::parse("2026-01-01T00:00:00Z").unwrap();
    WindowQuery { from, before: None, top: 100, skip: 0, ordered: true, axis: Axis::Update, facets: [None; 3] }
}

/// A token that says it is for `tenant`.
pub(crate) fn jwt(tenant: TenantId) -> String {
    let payload = format!(r#"{{"aud":"x","tid":"{tenant}"}}"#);
    format!("eyJhbGciOiJub25lIn0.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
}

/// How a server plays its part.
#[derive(Clone)]
pub(crate) struct Play {
    /// The bytes for the first request, the second, and so on; the last again for every later one.
    pub(crate) answers: Vec<Vec<u8>>,
    /// Sends so many bytes, pauses, and goes on.
    pub(crate) step: usize,
    pub(crate) pause: Duration,
    /// Ends each connection with a reset in place of an orderly end.
    pub(crate) reset: bool,
}

impl Play {
    pub(crate) fn of(answers: Vec<Vec<u8>>) -> Self {
        Self { answers, step: usize::MAX, pause: Duration::ZERO, reset: false }
    }
}

/// A server that answers with the bytes it was given, however wrong they are, and closes.
pub(crate) struct RawServer {
    pub(crate) url: String,
    pub(crate) requests: Arc<AtomicUsize>,
}

impl RawServer {
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        Self::in_turn([answer.into()]).await
    }

    pub(crate) async fn in_turn(answers: impl Into<Vec<Vec<u8>>>) -> Self {
        Self::playing(Play::of(answers.into())).await
    }

    /// Sends `step` bytes, pauses, and goes on.
    pub(crate) async fn trickling(answer: impl Into<Vec<u8>>, step: usize, pause: Duration) -> Self {
        Self::playing(Play { step, pause, ..Play::of(vec![answer.into()]) }).await
    }

    /// Sends the bytes and resets the connection.
    pub(crate) async fn resetting(answer: impl Into<Vec<u8>>) -> Self {
        Self::playing(Play { reset: true, ..Play::of(vec![answer.into()]) }).await
    }

    async fn playing(play: Play) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (requests, play) = (Arc::new(AtomicUsize::new(0)), Arc::new(play));
        let count = requests.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (play, count) = (play.clone(), count.clone());
                tokio::spawn(async move {
                    read_request(&mut stream).await;
                    let turn = count.fetch_add(1, Ordering::SeqCst);
                    let answer = &play.answers[turn.min(play.answers.len() - 1)];
                    if play.reset {
                        stream.set_zero_linger().unwrap();
                    }
                    for piece in answer.chunks(play.step.min(answer.len()).max(1)) {
                        if stream.write_all(piece).await.is_err() {
                            return;
                        }
                        tokio::time::sleep(play.pause).await;
                    }
                });
            }
        });
        Self { url, requests }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Reads the head, and the body that it announces.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let head = read.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
            let announced =
                text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse::<usize>().ok()).unwrap_or(0);
            if read.len() >= head + 4 + announced {
                return read;
            }
        }
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return read,
            Ok(count) => read.extend_from_slice(&piece[..count]),
        }
    }
}

/// A complete HTTP answer.
pub(crate) fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}
