//! The pages that a customer sees when he connects his tenant by a link.
//!
//! | Address | What it is |
//! | --- | --- |
//! | `GET /consent/{link}` | who asks, for what, what is stored, how to revoke. Uses nothing up: mail scanners open links, too |
//! | `POST /consent/{link}` | off to Microsoft, with a cookie that binds the answer to this browser |
//! | `GET /consent/callback` | where Microsoft sends the browser back to |
//! | `GET /consent/progress` | the checklist of the proof |
//!
//! Whatever is wrong with an answer, the page says the same; the reason is in the log and in the audit, under a
//! reference that the page shows. No page holds a script, and nothing is loaded from anywhere else.

mod callback;
mod headers;
mod pages;
mod rate;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use domain::Clock;
use tenant_registry::{LinkRefused, Registry, Ticket};
use token_refresher::Enrol;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::ops::serve;
pub use callback::read_answer;
use rate::Rate;

/// How often an address that is taken is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(5);
/// Where Microsoft sends the browser back to, under the public address.
pub const CALLBACK_PATH: &str = "/consent/callback";
/// Bound to this very host, to https, and to the whole of it: no sibling host can set or read it.
const COOKIE: &str = "__Host-tocsin-sign-in";

/// What the pages may reach. Cheap to clone.
#[derive(Clone)]
pub struct ConsentState {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    enrol: Enrol,
    settings: ConsentSettings,
    rate: Rate,
    clock: Arc<dyn Clock>,
}

/// How the pages present themselves.
#[derive(Clone, Debug)]
pub struct ConsentSettings {
    /// The address under which customers' browsers reach this listener; no path.
    pub public_url: Url,
    /// The name of the security provider, for the customer to read.
    pub operator: String,
    /// Where each configured app may send a browser, for the content security policy.
    pub sign_in_origins: Vec<String>,
    /// The path that answers come back to. `/` for the listener of a command, which lives for one answer.
    pub callback_path: String,
}

impl ConsentSettings {
    /// Where answers have to come to; the address to be registered with the app.
    pub fn redirect_uri(&self) -> String {
        let base = self.public_url.as_str().trim_end_matches('/');
        if self.callback_path == "/" { base.to_owned() } else { format!("{base}{}", self.callback_path) }
    }
}

impl ConsentState {
    /// The registry carries the actor under which the audit names what happens here.
    pub fn new(registry: Registry, enrol: Enrol, settings: ConsentSettings, clock: Arc<dyn Clock>) -> Self {
        Self { inner: Arc::new(Inner { registry, enrol, settings, rate: Rate::default(), clock }) }
    }
}

/// The pages of the consent flow.
pub fn consent_router(state: ConsentState) -> Router {
    let callback_path = state.inner.settings.callback_path.clone();
    let (headers, bucket) = (state.clone(), state.clone());
    let router = Router::new()
        .route("/consent/{link}", get(landing).post(begin))
        .route("/consent/progress", get(callback::progress))
        .route(&callback_path, get(callback::callback))
        .route_layer(from_fn(move |request: Request, next: Next| {
            let bucket = bucket.clone();
            async move {
                let named = callback::named(request.uri(), request.headers());
                if bucket.inner.rate.admits(&bucket.inner.registry, named).await { next.run(request).await } else { too_many_requests() }
            }
        }))
        // What asks nothing of the database needs no bucket.
        .route("/assets/consent.css", get(style))
        .fallback(nothing_here);
    router
        .layer(map_response(move |response: Response| {
            let headers = headers.clone();
            async move { headers::guard(&headers.inner.settings, response) }
        }))
        .with_state(state)
}

/// Serves the pages at an address that may be taken. Alerts come first: a second daemon on one host reads its tenants without
/// pages, and serves them when the first one has gone.
///
/// # Errors
/// As [`serve`].
pub async fn serve_consent_at(address: SocketAddr, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    let mut told = false;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) if !told => {
                tracing::warn!(console.address = %address, "the pages of the consent flow are not served by this process: cannot listen ([console] listen): {error}; tried again every few seconds");
                told = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(BIND_AGAIN) => {}
        }
    };
    tracing::info!(console.address = %listener.local_addr()?, "the pages of the consent flow are served");
    serve(listener, router, stop).await
}

async fn landing(State(state): State<ConsentState>, Path(link): Path<String>) -> Response {
    let Some(ticket) = Ticket::parse(&link) else { return link_is_no_good(&state, &LinkRefused::UnknownLink, None).await };
    match state.inner.registry.look_at_link(&ticket).await {
        Ok(invited) => pages::landing(&state.inner.settings, &invited).into_response(),
        Err(refused) => link_is_no_good(&state, &refused, Some(&ticket)).await,
    }
}

async fn begin(State(state): State<ConsentState>, Path(link): Path<String>, headers: HeaderMap) -> Response {
    let inner = &state.inner;
    if !headers::from_our_own_page(&headers, &inner.settings.public_url) {
        return callback::refuse(&state, None, "the form was sent by a page of another site").await;
    }
    let Some(ticket) = Ticket::parse(&link) else { return link_is_no_good(&state, &LinkRefused::UnknownLink, None).await };
    let redirect_uri = inner.settings.redirect_uri();
    let (invited, begun) = match inner.registry.begin_sign_in(&ticket, &redirect_uri).await {
        Ok(begun) => begun,
        Err(refused) => return link_is_no_good(&state, &refused, Some(&ticket)).await,
    };
    inner.rate.begun(begun.state.id());
    match inner.enrol.address(&invited, &begun, &redirect_uri) {
        Ok(address) => {
            let cookie = format!("{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=900", *begun.browser.text());
            redirect(address.as_str(), Some(&cookie))
        }
        Err(trouble) => callback::refuse(&state, Some(&ticket), &format!("{}; next: {}", trouble.reason, trouble.action)).await,
    }
}

/// A link that opens nothing. Its end may be told, since only who has the link gets to read it; whether an unknown one
/// was ever known is not.
async fn link_is_no_good(state: &ConsentState, refused: &LinkRefused, ticket: Option<&Ticket>) -> Response {
    match refused {
        LinkRefused::Ended(why) => (StatusCode::GONE, pages::ended(&state.inner.settings, why)).into_response(),
        LinkRefused::Database(error) => {
            tracing::warn!("a consent page cannot be shown: the database refused: {error}");
            (StatusCode::SERVICE_UNAVAILABLE, pages::later(&state.inner.settings)).into_response()
        }
        LinkRefused::TooMany => too_many_requests(),
        other => callback::refuse(state, ticket, &other.to_string()).await,
    }
}

/// Turned away without a look.
fn too_many_requests() -> Response {
    callback::count("turned-away");
    too_many()
}

fn too_many() -> Response {
    (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "10")], "too many attempts; try again in a few seconds\n").into_response()
}

/// 303: whatever the method was, the browser goes on with GET.
fn redirect(to: &str, cookie: Option<&str>) -> Response {
    let Ok(location) = HeaderValue::from_str(to) else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response();
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

async fn style() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=3600")];
    (headers, include_str!("consent/consent.css")).into_response()
}

async fn nothing_here(State(state): State<ConsentState>) -> Response {
    (StatusCode::NOT_FOUND, pages::nothing(&state.inner.settings)).into_response()
}
