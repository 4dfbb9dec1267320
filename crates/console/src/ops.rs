//! The ops endpoint: liveness, readiness, start-up and metrics.
//!
//! It runs on a listener of its own that is never public, so it knows no users and no sessions. It
//! must answer while everything else is in trouble, so it touches no database and takes no lock that
//! another task holds for long.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use domain::Clock;
use domain::health::{Stage, StageStatus};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::{Judged, judge};

/// How long a client that is still reading may hold up the stop.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the handlers may reach. Cheap to clone.
#[derive(Clone)]
pub struct OpsState {
    stages: Arc<[(Stage, watch::Receiver<StageStatus>)]>,
    clock: Arc<dyn Clock>,
    metrics: PrometheusHandle,
    started: Arc<AtomicBool>,
    configuration: Option<watch::Receiver<Configuration>>,
}

/// Which configuration is in force, for whoever has changed it and waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Counts the configurations that were in force; the one of the start is 1.
    pub generation: u64,
    /// Counts how often it was read, the start included: also when it was refused.
    pub read: u64,
    /// Why the one that was read last is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What was changed since the start and waits for the next one, by keys.
    pub waits_for_restart: Vec<String>,
}

impl OpsState {
    /// Watches these stages, in the order in which they are to be listed.
    pub fn new(stages: Vec<(Stage, watch::Receiver<StageStatus>)>, clock: Arc<dyn Clock>, metrics: PrometheusHandle) -> Self {
        Self { stages: stages.into(), clock, metrics, started: Arc::new(AtomicBool::new(false)), configuration: None }
    }

    /// Also says which configuration is in force.
    #[must_use]
    pub fn showing(mut self, configuration: watch::Receiver<Configuration>) -> Self {
        self.configuration = Some(configuration);
        self
    }

    /// The stages that give no sign of life, by name.
    pub fn stuck(&self) -> Vec<&'static str> {
        self.judged().iter().filter(|stage| !stage.alive).map(|stage| stage.stage).collect()
    }

    fn answer(&self, form: &Form, ok: bool, state: &'static str, stages: Vec<Judged>) -> Response {
        let configuration = self.configuration.as_ref().map(|configuration| configuration.borrow().clone());
        form.answer(ok, Answer { ok, state, stages, pid: std::process::id(), configuration })
    }

    fn judged(&self) -> Vec<Judged> {
        // A stage that was only made has never said anything. Whether its first words were good ones is not asked here.
        if self.stages.iter().all(|(_, status)| status.has_changed().is_ok_and(|spoke| spoke)) {
            self.started.store(true, Ordering::Relaxed);
        }
        let now = self.clock.now();
        self.stages.iter().map(|(stage, status)| judge(*stage, &status.borrow(), status.has_changed().is_err(), now)).collect()
    }
}

/// `/livez`, `/readyz`, `/startupz` and `/metrics`; anything else is a 404 that lists them.
pub fn ops_router(state: OpsState) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/startupz", get(startupz))
        .route("/metrics", get(metrics))
        .fallback(unknown_path)
        .with_state(state)
}

/// Serves the router until `stop`, then gives clients a second to finish reading.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned()).into_future();
    let farewell = async {
        stop.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        ended = serving => ended,
        () = farewell => {
            tracing::debug!("a client of the ops endpoint was still reading when the daemon stopped");
            Ok(())
        }
    }
}

async fn livez(State(state): State<OpsState>, form: Form) -> Response {
    let judged = state.judged();
    let alive = judged.iter().all(|stage| stage.alive);
    state.answer(&form, alive, if alive { "alive" } else { "stuck" }, judged)
}

async fn readyz(State(state): State<OpsState>, form: Form) -> Response {
    let judged = state.judged();
    let ready = judged.iter().all(|stage| stage.ready);
    state.answer(&form, ready, if ready { "ready" } else { "not ready" }, judged)
}

async fn startupz(State(state): State<OpsState>, form: Form) -> Response {
    let judged = state.judged();
    let started = state.started.load(Ordering::Relaxed);
    state.answer(&form, started, if started { "started" } else { "starting" }, judged)
}

async fn metrics(State(state): State<OpsState>) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (headers, state.metrics.render()).into_response()
}

async fn unknown_path(uri: Uri) -> Response {
    // The path comes from outside: it is cut before it is said back.
    let path: String = uri.path().chars().take(100).collect();
    (StatusCode::NOT_FOUND, format!("there is nothing at {path}; this listener serves /livez, /readyz, /startupz and /metrics\n"))
        .into_response()
}

/// The form in which the caller wants the answer.
enum Form {
    Lines,
    Json,
}

#[derive(Deserialize)]
struct Wanted {
    format: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    ok: bool,
    state: &'static str,
    stages: Vec<Judged>,
    /// Who answers: for whoever wants to send a signal.
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<Configuration>,
}

impl Form {
    fn answer(&self, ok: bool, answer: Answer) -> Response {
        let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let uncached = [(header::CACHE_CONTROL, "no-store")];
        match self {
            Self::Json => (status, uncached, Json(answer)).into_response(),
            Self::Lines => {
                let mut text = format!("{}\n", answer.state);
                for stage in &answer.stages {
                    text.push_str(&stage.line());
                    text.push('\n');
                }
                (status, uncached, text).into_response()
            }
        }
    }
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Form {
    // A probe must never fail for the way it asks: what is not understood means plain lines.
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        let by_query = Query::<Wanted>::try_from_uri(&parts.uri).ok().and_then(|wanted| wanted.0.format);
        Ok(match by_query.as_deref() {
            Some("json") => Self::Json,
            Some(_) => Self::Lines,
            None if accepts_json(&parts.headers) => Self::Json,
            None => Self::Lines,
        })
    }
}

fn accepts_json(headers: &HeaderMap) -> bool {
    let mut kinds = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    kinds.any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")))
}
