//! The simulator's own endpoints under `/sim/`: the script, the ledger, the journal, and a hand on the world.
//! They are not part of the play and feel no effects.

use crate::ledger::Ledger;
use crate::scenario::Rule;
use crate::server::App;
use crate::settings::Source;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

type Desk = State<Arc<App>>;
type Outcome = Result<Json<Value>, (StatusCode, String)>;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/sim/script", get(show_script).post(add_to_script).delete(clear_script))
        .route("/sim/ledger", get(ledger))
        .route("/sim/journal", get(journal).delete(clear_journal))
        .route("/sim/tenants", get(tenants))
        .route("/sim/pace", post(set_pace))
        .route("/sim/publish", post(publish))
        .route("/sim/merge", post(merge))
        .route("/sim/move", post(move_alert))
        .route("/sim/revoke", post(revoke))
        .route("/sim/device", post(decide_device))
        .route("/sim/keys", post(change_keys))
}

fn refuse(error: impl std::fmt::Display) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, format!("{error}\n"))
}

async fn show_script(State(app): Desk) -> Json<Vec<Rule>> {
    Json(app.world.script.rules())
}

/// One rule, or an array of rules; they are added to those in force.
async fn add_to_script(State(app): Desk, body: String) -> Outcome {
    let rules: Vec<Rule> = if body.trim_start().starts_with('[') {
        serde_json::from_str(&body).map_err(refuse)?
    } else {
        vec![serde_json::from_str(&body).map_err(refuse)?]
    };
    for rule in &rules {
        if let Some(tenant) = rule.tenant {
            app.world.tenant(tenant).map_err(refuse)?;
        }
    }
    let added = rules.len();
    for rule in rules {
        app.world.script.add(rule);
    }
    Ok(Json(json!({ "added": added, "rules": app.world.script.rules().len() })))
}

async fn clear_script(State(app): Desk) -> StatusCode {
    app.world.script.clear();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct LedgerQuery {
    full: Option<String>,
    tenant: Option<Uuid>,
}

/// Counts per tenant; with `?full=1` a row for every version as well.
async fn ledger(State(app): Desk, Query(query): Query<LedgerQuery>) -> Json<Value> {
    let ledger = Ledger::new(app.world.clone());
    let counts: Vec<_> =
        ledger.counts().into_iter().filter(|count| query.tenant.is_none_or(|tenant| tenant == count.directory_id)).collect();
    let mut body = json!({
        "alerts": counts.iter().map(|count| count.alerts).sum::<usize>(),
        "versions": counts.iter().map(|count| count.versions).sum::<usize>(),
        "tenants": counts,
    });
    if query.full.is_some_and(|full| full == "1" || full == "true") {
        let rows: Vec<Value> = counts
            .iter()
            .flat_map(|count| ledger.rows(count.directory_id))
            .map(|row| {
                json!({
                    "directory_id": row.tenant,
                    "source": row.source.name(),
                    "alert_id": row.alert_id,
                    "version": row.version,
                    "latest": row.latest,
                    "newest": row.newest,
                    "last_update": row.last_update,
                    "visible_at": row.visible_at.to_string(),
                    "served": row.served,
                    "bytes": row.body.len(),
                    "sha256": row.sha256(),
                })
            })
            .collect();
        body["rows"] = rows.into();
        let incidents = counts.iter().filter(|count| count.incidents > 0).flat_map(|count| ledger.incidents(count.directory_id));
        let incidents: Vec<Value> = incidents
            .map(|row| {
                json!({
                    "directory_id": row.tenant,
                    "incident_id": row.incident_id,
                    "version": row.version,
                    "latest": row.latest,
                    "last_update": row.last_update,
                    "redirect": row.redirect,
                    "visible_at": row.visible_at.to_string(),
                    "served": row.served,
                    "sha256": row.sha256(),
                })
            })
            .collect();
        body["incidents"] = incidents.into();
    }
    Json(body)
}

async fn journal(State(app): Desk) -> Json<Value> {
    let totals: Vec<Value> = app
        .journal
        .totals()
        .into_iter()
        .map(|((endpoint, status), requests)| json!({ "endpoint": endpoint, "status": status, "requests": requests }))
        .collect();
    Json(json!({ "totals": totals, "entries": app.journal.entries(), "overlapping_redemptions": app.redeeming.overlaps() }))
}

async fn clear_journal(State(app): Desk) -> StatusCode {
    app.journal.clear();
    StatusCode::NO_CONTENT
}

async fn tenants(State(app): Desk) -> Json<Vec<Value>> {
    let list = app.world.tenants.iter().map(|tenant| {
        let sources: Vec<_> = tenant.sources.iter().map(|source| source.name()).collect();
        json!({ "directory_id": tenant.face.directory_id, "name": tenant.face.name, "domain": tenant.face.domain, "sources": sources })
    });
    Json(list.collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPace {
    rate: f64,
}

/// Sets how many things happen per second; 0 stops the world.
async fn set_pace(State(app): Desk, body: String) -> Outcome {
    let pace: NewPace = serde_json::from_str(&body).map_err(refuse)?;
    app.pace.tick(&app.world);
    app.pace.set_rate(pace.rate, app.world.clock.now());
    Ok(Json(json!({ "rate": app.pace.rate() })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publication {
    tenant: Uuid,
    /// So many new alerts.
    #[serde(default)]
    new: usize,
    /// So many changes of alerts that are there.
    #[serde(default)]
    updates: usize,
    /// A record as it is, as text.
    raw: Option<String>,
    /// Through which API the raw record is shown.
    source: Option<Source>,
}

async fn publish(State(app): Desk, body: String) -> Outcome {
    let publication: Publication = serde_json::from_str(&body).map_err(refuse)?;
    let tenant = app.world.tenant(publication.tenant).map_err(refuse)?;
    let new = app.world.publish_new(tenant, publication.new);
    let mut updated = Vec::new();
    for _ in 0..publication.updates {
        updated.push(app.world.publish_update(tenant, None).map_err(refuse)?);
    }
    if let Some(raw) = publication.raw {
        app.world.publish_raw(tenant, publication.source.unwrap_or(Source::GraphAlerts), raw.into(), None);
    }
    Ok(Json(json!({ "new": new, "updated": updated })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Merger {
    tenant: Uuid,
    from: String,
    into: String,
}

/// Merges one incident into another.
async fn merge(State(app): Desk, body: String) -> Outcome {
    let merger: Merger = serde_json::from_str(&body).map_err(refuse)?;
    let tenant = app.world.tenant(merger.tenant).map_err(refuse)?;
    app.world.merge_incidents(tenant, &merger.from, &merger.into).map_err(refuse)?;
    Ok(Json(json!({ "merged": merger.from, "into": merger.into })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    tenant: Uuid,
    alert: String,
    incident: String,
}

/// Puts an alert into another incident.
async fn move_alert(State(app): Desk, body: String) -> Outcome {
    let wanted: Move = serde_json::from_str(&body).map_err(refuse)?;
    let tenant = app.world.tenant(wanted.tenant).map_err(refuse)?;
    app.world.move_alert(tenant, &wanted.alert, &wanted.incident).map_err(refuse)?;
    Ok(Json(json!({ "moved": wanted.alert, "to": wanted.incident })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revocation {
    tenant: Uuid,
    code: Option<u32>,
}

/// Kills the refresh tokens a tenant has so far.
async fn revoke(State(app): Desk, body: String) -> Outcome {
    let revocation: Revocation = serde_json::from_str(&body).map_err(refuse)?;
    app.world.tenant(revocation.tenant).map_err(refuse)?;
    app.identity.families.revoke(revocation.tenant, revocation.code.unwrap_or(50173));
    Ok(Json(json!({ "revoked": revocation.tenant })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decision {
    user_code: String,
    agrees: bool,
}

/// Types the short code of a device.
async fn decide_device(State(app): Desk, body: String) -> Outcome {
    let decision: Decision = serde_json::from_str(&body).map_err(refuse)?;
    app.identity.devices.decide(&decision.user_code, decision.agrees).map_err(refuse)?;
    Ok(Json(json!({ "user_code": decision.user_code, "agrees": decision.agrees })))
}

/// Signs id tokens with another key from now on.
async fn change_keys(State(app): Desk) -> Json<Value> {
    app.identity.keys.change();
    Json(json!({ "changed": true }))
}
