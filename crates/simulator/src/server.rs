//! The web server around the pretend services: routes, one pass for every request (delay, fault, answer,
//! journal, delivery), and connections that can be torn off.

use crate::answer::Answer;
use crate::faults::{self, Fate};
use crate::identity::{Form, Identity, Protocol};
use crate::in_flight::InFlight;
use crate::journal::{Journal, JournalEntry};
use crate::line::{Cable, Door};
use crate::pace::Pace;
use crate::scenario::{Effect, Effects, Endpoint};
use crate::stamp::Stamp;
use crate::world::World;
use crate::{control, defender, graph, incidents};
use axum::Router;
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::{StreamExt as _, stream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// Everything a request can touch.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) world: Arc<World>,
    pub(crate) identity: Identity,
    pub(crate) journal: Journal,
    pub(crate) pace: Pace,
    /// Where this simulator can be reached, without a slash at the end.
    pub(crate) base_url: String,
    pub(crate) requests: AtomicU64,
    pub(crate) redeeming: InFlight,
}

/// One request on its way to an answer.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) endpoint: Endpoint,
    pub(crate) tenant: Option<Uuid>,
    pub(crate) path: String,
    pub(crate) query: String,
    /// The simulator's name for the token that was used.
    pub(crate) token: Option<String>,
    pub(crate) effects: Effects,
    pub(crate) at: Stamp,
    pub(crate) request_id: Uuid,
    pub(crate) client_request_id: String,
    /// How the caller reached us: links to further pages lead to the same place.
    pub(crate) base_url: String,
}

impl App {
    /// Opens the books for one request and asks the script what it has to suffer.
    pub(crate) fn call(&self, endpoint: Endpoint, tenant: Option<Uuid>, uri: &Uri, headers: &HeaderMap) -> Call {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let request_id = crate::dice::Dice::of(&[self.world.settings.seed, 0x4EC, number]).uuid();
        let given = headers.get("client-request-id").and_then(|id| id.to_str().ok());
        Call {
            endpoint,
            tenant,
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            token: None,
            effects: self.world.script.take(tenant, endpoint, &decoded(uri.query().unwrap_or_default())),
            at: self.world.clock.now(),
            request_id,
            base_url: headers
                .get("host")
                .and_then(|host| host.to_str().ok())
                .map_or_else(|| self.base_url.clone(), |host| format!("http://{host}")),
            client_request_id: given.map_or_else(|| request_id.to_string(), str::to_owned),
        }
    }

    /// Takes a request through: delay, fault or answer, journal, delivery.
    pub(crate) async fn conclude(&self, mut call: Call, cable: Cable, answer: impl FnOnce(&mut Call) -> Answer) -> Response {
        let redemption = call.tenant.filter(|_| call.endpoint == Endpoint::Token).map(|tenant| self.redeeming.begin(tenant));
        if let Some(ms) = call.effects.find(|effect| if let Effect::Slow { ms } = effect { Some(*ms) } else { None }) {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        let fate = faults::fate(&call);
        let answer = match fate {
            Fate::Normal => answer(&mut call),
            Fate::Answer(instead) => *instead,
            Fate::Reset | Fate::Hang => Answer::text(0, "", ""),
        };
        self.journal.note(JournalEntry {
            number: 0,
            at: call.at.to_string(),
            tenant: call.tenant,
            endpoint: call.endpoint,
            path: call.path.clone(),
            query: call.query.clone(),
            status: answer.status,
            token: call.token.clone(),
            records: answer.records,
            bytes: answer.body.len(),
            overlapping: redemption.as_ref().map_or(0, |redemption| redemption.others),
            effects: call.effects.felt.iter().map(|effect| serde_json::to_string(effect).unwrap_or_default()).collect(),
        });
        let response = faults::deliver(&call, answer, cable, self.world.clock.now()).await;
        match redemption {
            Some(redemption) => lasting(response, redemption),
            None => response,
        }
    }
}

/// The same answer, holding something until its last byte is handed over or nobody wants it any more.
fn lasting<T: Send + 'static>(response: Response, held: T) -> Response {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts.headers.insert("content-length", length.into());
    }
    let pieces = stream::unfold((body.into_data_stream(), held), |(mut pieces, held)| async move {
        let piece = pieces.next().await?;
        Some((piece, (pieces, held)))
    });
    Response::from_parts(parts, Body::from_stream(pieces))
}

/// A query as a person would write it.
fn decoded(query: &str) -> String {
    url::form_urlencoded::parse(query.as_bytes()).map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// The token of a request, as it stands in the header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ").filter(|token| !token.is_empty())
}

type Desk = State<Arc<App>>;
type Plug = ConnectInfo<Cable>;

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/{tenant}/oauth2/v2.0/token", post(token_v2))
        .route("/{tenant}/oauth2/token", post(token_v1))
        .route("/{tenant}/oauth2/v2.0/authorize", get(authorize))
        .route("/{tenant}/oauth2/authorize", get(authorize))
        .route("/{tenant}/oauth2/v2.0/devicecode", post(device_code))
        .route("/{tenant}/v2.0/adminconsent", get(admin_consent_v2))
        .route("/{tenant}/adminconsent", get(admin_consent_v1))
        .route("/{tenant}/v2.0/.well-known/openid-configuration", get(discovery))
        .route("/{tenant}/.well-known/openid-configuration", get(discovery))
        .route("/{tenant}/discovery/v2.0/keys", get(keys))
        .route("/devicelogin", get(device_login))
        .route("/v1.0/security/alerts_v2", get(graph::list))
        .route("/v1.0/security/alerts_v2/{id}", get(graph::one))
        .route("/v1.0/security/incidents", get(incidents::list))
        .route("/v1.0/security/incidents/{id}", get(incidents::one))
        .route("/api/alerts", get(defender::list))
        .route("/api/v1.0/alerts", get(defender::list))
        .route("/api/alerts/{id}", get(defender::one))
        .route("/portal/{what}/{id}", get(portal))
        .merge(control::routes())
        .with_state(app)
}

/// Serves until the runtime it runs on is shut down.
pub(crate) async fn serve(door: Door, app: Arc<App>) -> std::io::Result<()> {
    axum::serve(door, router(app).into_make_service_with_connect_info::<Cable>()).await
}

async fn token_v2(state: Desk, plug: Plug, path: Path<String>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    token(state, plug, path, uri, headers, body, Protocol::V2).await
}

async fn token_v1(state: Desk, plug: Plug, path: Path<String>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    token(state, plug, path, uri, headers, body, Protocol::V1).await
}

async fn token(
    State(app): Desk,
    ConnectInfo(cable): Plug,
    Path(tenant): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    protocol: Protocol,
) -> Response {
    let form = Form::read(&headers, &body);
    let named = crate::identity::tenant_of_path(&app.world, &tenant).ok().flatten();
    let mut call = app.call(Endpoint::Token, named, &uri, &headers);
    call.query = form.summary();
    app.conclude(call, cable, |call| app.identity.token(&app, call, &tenant, &form, protocol)).await
}

async fn authorize(
    State(app): Desk,
    ConnectInfo(cable): Plug,
    Path(tenant): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let named = crate::identity::tenant_of_path(&app.world, &tenant).ok().flatten();
    let call = app.call(Endpoint::Authorize, named, &uri, &headers);
    app.conclude(call, cable, |call| app.identity.authorize(&app, call, &tenant, &query.unwrap_or_default())).await
}

async fn admin_consent_v2(state: Desk, plug: Plug, path: Path<String>, uri: Uri, headers: HeaderMap, query: RawQuery) -> Response {
    admin_consent(state, plug, path, uri, headers, query, true).await
}

async fn admin_consent_v1(state: Desk, plug: Plug, path: Path<String>, uri: Uri, headers: HeaderMap, query: RawQuery) -> Response {
    admin_consent(state, plug, path, uri, headers, query, false).await
}

async fn admin_consent(
    State(app): Desk,
    ConnectInfo(cable): Plug,
    Path(tenant): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    is_v2: bool,
) -> Response {
    let named = crate::identity::tenant_of_path(&app.world, &tenant).ok().flatten();
    let call = app.call(Endpoint::Authorize, named, &uri, &headers);
    app.conclude(call, cable, |call| app.identity.admin_consent(&app, call, &tenant, &query.unwrap_or_default(), is_v2)).await
}

async fn device_code(
    State(app): Desk,
    ConnectInfo(cable): Plug,
    Path(tenant): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = Form::read(&headers, &body);
    let named = crate::identity::tenant_of_path(&app.world, &tenant).ok().flatten();
    let mut call = app.call(Endpoint::Authorize, named, &uri, &headers);
    call.query = form.summary();
    app.conclude(call, cable, |call| app.identity.device_code(&app, call, &tenant, &form)).await
}

/// Where the endpoints of a tenant are, and who it is.
async fn discovery(State(app): Desk, ConnectInfo(cable): Plug, Path(tenant): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let named = crate::identity::tenant_of_path(&app.world, &tenant).ok().flatten();
    let call = app.call(Endpoint::Discovery, named, &uri, &headers);
    app.conclude(call, cable, |call| app.identity.discovery(&app, call, &tenant)).await
}

/// The keys that tokens are signed with.
async fn keys(State(app): Desk, ConnectInfo(cable): Plug, Path(tenant): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let named = crate::identity::tenant_of_path(&app.world, &tenant).ok().flatten();
    let call = app.call(Endpoint::Discovery, named, &uri, &headers);
    app.conclude(call, cable, |call| app.identity.key_document(call)).await
}

/// Where people would type a short code; in here a request to `/sim/device` does it for them.
async fn device_login() -> axum::response::Html<&'static str> {
    axum::response::Html("<html><body><h1>Enter code</h1><p>POST /sim/device {\"user_code\": CODE, \"agrees\": true}</p></body></html>")
}

/// A page for the links that people click in the demo.
async fn portal(Path((what, id)): Path<(String, String)>) -> axum::response::Html<String> {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;");
    axum::response::Html(format!(
        "<html><body><h1>Pretend portal</h1><p>Here the portal would show {} {}.</p></body></html>",
        escape(&what),
        escape(&id)
    ))
}
