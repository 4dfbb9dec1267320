//! Graph `/v1.0/security/incidents`: what the alerts of a tenant add up to, with merges. At most fifty on a page,
//! and `$expand=alerts` fails for ever where a customer has many alerts, as the field reports.

mod book;

use crate::alerts::face::Face;
use crate::answer::Answer;
use crate::facts::Field;
use crate::filter::{Kind, Property};
use crate::graph::{Listing, api, page, single};
use crate::json::Json;
use crate::line::Cable;
use crate::odata::Options;
use crate::scenario::Endpoint;
use crate::server::App;
use crate::settings::Source;
use crate::stamp::Stamp;
use crate::vocabulary::{CLASSIFICATION, DETERMINATION, INCIDENT_STATUS, SEVERITY};
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use bytes::Bytes;
use std::sync::Arc;

pub(crate) use book::Book;

const OPTIONS: &[&str] = &["$filter", "$top", "$skip", "$count", "$expand", "$orderby", "$skiptoken"];

const PROPERTIES: &[Property] = &[
    Property { name: "createdDateTime", field: Field::Created, kind: Kind::Time },
    Property { name: "lastUpdateDateTime", field: Field::Updated, kind: Kind::Time },
    Property { name: "severity", field: Field::Severity, kind: Kind::Word(&SEVERITY) },
    Property { name: "status", field: Field::Status, kind: Kind::Word(&INCIDENT_STATUS) },
    Property { name: "assignedTo", field: Field::AssignedTo, kind: Kind::Text },
    Property { name: "classification", field: Field::Classification, kind: Kind::Word(&CLASSIFICATION) },
    Property { name: "determination", field: Field::Determination, kind: Kind::Word(&DETERMINATION) },
];

/// One incident as it was at one time.
#[derive(Debug)]
pub(crate) struct Incident {
    pub(crate) number: u32,
    /// The incident it was merged into, if it was.
    pub(crate) redirect: Option<u32>,
    pub(crate) created: Stamp,
    pub(crate) updated: Stamp,
    pub(crate) severity: &'static str,
    pub(crate) priority: usize,
    pub(crate) status: &'static str,
    pub(crate) classification: &'static str,
    pub(crate) determination: &'static str,
    pub(crate) assigned_to: Option<String>,
    pub(crate) categories: Vec<&'static str>,
    /// Numbers of its alerts.
    pub(crate) alerts: Vec<usize>,
}

pub(crate) async fn list(State(app): State<Arc<App>>, ConnectInfo(cable): ConnectInfo<Cable>, uri: Uri, headers: HeaderMap) -> Response {
    api(&app, Endpoint::Incidents, cable, &uri, &headers, |call, tenant| {
        let most = app.world.settings.incidents_max_top;
        let listing =
            Listing { source: Source::GraphIncidents, path: "incidents", options: OPTIONS, properties: PROPERTIES, usual: most, most };
        let options = Options::read(&call.query, OPTIONS)?;
        if !expands(&options)? {
            return page(&app, call, tenant, &listing, |state, row| state.latest_body(&tenant.face, Source::GraphIncidents, row, true));
        }
        if tenant.lock().alerts().len() > app.world.settings.expand_limit {
            return Ok(Answer::error(call, 500, "generalException", "An internal server error occurred."));
        }
        page(&app, call, tenant, &listing, |state, row| {
            let body = state.latest_body(&tenant.face, Source::GraphIncidents, row, true);
            let alerts: Vec<Bytes> = state.alerts_of_incident(&tenant.face, row);
            with_alerts(&body, &alerts)
        })
    })
    .await
}

pub(crate) async fn one(
    State(app): State<Arc<App>>,
    ConnectInfo(cable): ConnectInfo<Cable>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    api(&app, Endpoint::Incidents, cable, &uri, &headers, |call, tenant| {
        let expand = expands(&Options::read(&call.query, &["$expand"])?)?;
        let context = format!("{}/v1.0/$metadata#security/incidents/$entity", call.base_url);
        let mut answer = single(call, tenant, Source::GraphIncidents, &id, true, &context)?;
        let state = tenant.lock();
        if let Some(row) = state.shelf(Source::GraphIncidents).position(&id).filter(|_| expand) {
            answer.body = with_alerts(&answer.body, &state.alerts_of_incident(&tenant.face, row));
        }
        Ok(answer)
    })
    .await
}

fn expands(options: &Options) -> Result<bool, String> {
    match options.get("$expand") {
        None => Ok(false),
        Some("alerts") => Ok(true),
        Some(other) => Err(format!("Could not find a property named '{other}' to expand.")),
    }
}

/// The body of an incident with its alerts as one more member.
fn with_alerts(body: &Bytes, alerts: &[Bytes]) -> Bytes {
    let Some(open) = body.strip_suffix(b"}") else { return body.clone() };
    let mut whole = open.to_vec();
    whole.extend_from_slice(b",\"alerts\":[");
    whole.extend_from_slice(&alerts.join(&b','));
    whole.extend_from_slice(b"]}");
    whole.into()
}

/// The incident as Graph shows it without its alerts.
pub(crate) fn render(face: &Face, incident: &Incident) -> String {
    let number = incident.number.to_string();
    Json::render(1200, |json| {
        json.str("id", &number);
        json.uuid("tenantId", face.directory_id);
        json.str("status", incident.status);
        json.str("incidentWebUrl", &format!("https://security.microsoft.com/incidents/{number}?tid={}", face.directory_id));
        json.maybe("redirectIncidentId", incident.redirect.map(|to| to.to_string()).as_deref());
        json.str(
            "displayName",
            &format!("Multi-stage incident involving {} on {} alerts", incident.categories.join(" & "), incident.alerts.len()),
        );
        json.stamp("createdDateTime", incident.created);
        json.stamp("lastUpdateDateTime", incident.updated);
        json.maybe("assignedTo", incident.assigned_to.as_deref());
        json.str("classification", incident.classification);
        json.str("determination", incident.determination);
        json.str("severity", incident.severity);
        json.strings("customTags", &[] as &[&str]);
        json.strings("systemTags", &[] as &[&str]);
        json.null("description");
        json.null("summary");
        json.null("resolvingComment");
        json.null("lastModifiedBy");
        json.num("priorityScore", incident.priority);
        json.array("comments", |_| ());
    })
}
