//! Graph `/v1.0/security/incidents`: what the alerts of a tenant add up to. Nothing is stored; an incident is
//! worked out from its alerts whenever somebody asks, so the two can never contradict each other by accident.

use crate::alerts::face::Face;
use crate::alerts::state::State as AlertState;
use crate::answer::Answer;
use crate::facts::{Field, Value};
use crate::faults;
use crate::filter::{Kind, Property};
use crate::graph::{api, envelope, next_link, page_size};
use crate::json::Json;
use crate::line::Cable;
use crate::odata::Options;
use crate::scenario::Endpoint;
use crate::server::{App, Call};
use crate::settings::Source;
use crate::stamp::Stamp;
use crate::vocabulary::{CLASSIFICATION, DETERMINATION, INCIDENT_STATUS, SEVERITY};
use crate::world::{Tenant, TenantState};
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const OPTIONS: &[&str] = &["$filter", "$top", "$skip", "$count", "$expand"];
const USUAL_PAGE: usize = 50;
const MOST: usize = 1000;

const PROPERTIES: &[Property] = &[
    Property { name: "createdDateTime", field: Field::Created, kind: Kind::Time },
    Property { name: "lastUpdateDateTime", field: Field::Updated, kind: Kind::Time },
    Property { name: "severity", field: Field::Severity, kind: Kind::Word(&SEVERITY) },
    Property { name: "status", field: Field::Status, kind: Kind::Word(&INCIDENT_STATUS) },
    Property { name: "assignedTo", field: Field::AssignedTo, kind: Kind::Text },
    Property { name: "classification", field: Field::Classification, kind: Kind::Word(&CLASSIFICATION) },
    Property { name: "determination", field: Field::Determination, kind: Kind::Word(&DETERMINATION) },
];

/// One incident.
struct Incident {
    number: u32,
    /// The incident it was merged into, if it was.
    redirect: Option<u32>,
    created: Stamp,
    updated: Stamp,
    severity: &'static str,
    status: &'static str,
    classification: &'static str,
    determination: &'static str,
    assigned_to: Option<String>,
    categories: Vec<&'static str>,
    alerts: Vec<usize>,
}

impl Incident {
    fn get(&self, field: Field) -> Value<'_> {
        match field {
            Field::Created => Value::Time(self.created),
            Field::Updated => Value::Time(self.updated),
            Field::Severity => Value::Text(self.severity),
            Field::Status => Value::Text(self.status),
            Field::Classification => Value::Text(self.classification),
            Field::Determination => Value::Text(self.determination),
            Field::AssignedTo => self.assigned_to.as_deref().map_or(Value::Null, Value::Text),
            _ => Value::Null,
        }
    }
}

pub(crate) async fn list(State(app): State<Arc<App>>, ConnectInfo(cable): ConnectInfo<Cable>, uri: Uri, headers: HeaderMap) -> Response {
    api(&app, Endpoint::Incidents, cable, &uri, &headers, page).await
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
        let state = tenant.lock();
        let incident = gather(&tenant.face, &state).into_iter().find(|incident| incident.number.to_string() == id);
        Ok(match incident {
            Some(incident) => Answer { records: 1, ..Answer::json(200, render(tenant, &state, &incident, expand)) },
            None => Answer::not_found(call, &format!("Incident {id}")),
        })
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

fn page(call: &Call, tenant: &Tenant) -> Result<Answer, String> {
    let options = Options::read(&call.query, OPTIONS)?;
    let filter = options.filter(PROPERTIES)?;
    let expand = expands(&options)?;
    let skip = options.number("$skip")?.unwrap_or(0);
    let top = page_size(call, options.number("$top")?, USUAL_PAGE, MOST);
    let count = options.flag("$count")?;

    let state = tenant.lock();
    let mut hits: Vec<Incident> = gather(&tenant.face, &state)
        .into_iter()
        .filter(|incident| filter.as_ref().is_none_or(|filter| filter.matches(|field| incident.get(field))))
        .collect();
    hits.sort_by_key(|incident| std::cmp::Reverse((incident.updated, incident.number)));
    let mut rows: Vec<Bytes> = hits.iter().skip(skip).take(top).map(|incident| render(tenant, &state, incident, expand).into()).collect();
    drop(state);

    let link = (hits.len() > skip + top).then(|| next_link(call, "$skip", &(skip + top).to_string()));
    let link = faults::bend_link(call, link);
    faults::disturb_rows(call, Source::GraphAlerts, &mut rows);
    Ok(envelope(&format!("{}/v1.0/$metadata#security/incidents", call.base_url), count.then_some(hits.len()), link.as_deref(), &rows))
}

fn rank(severity: &str) -> usize {
    ["informational", "low", "medium", "high"].iter().position(|word| *word == severity).unwrap_or(0)
}

/// All incidents of a tenant, from the alerts of our own making.
fn gather(face: &Face, state: &TenantState) -> Vec<Incident> {
    let mut incidents: BTreeMap<u32, (Incident, bool)> = BTreeMap::new();
    for (number, alert) in state.alerts().iter().enumerate() {
        let now = AlertState::after(face, alert, alert.versions());
        let template = alert.template(face);
        let (incident, all_resolved) = incidents.entry(now.incident).or_insert_with(|| {
            let new = Incident {
                number: now.incident,
                redirect: None,
                created: alert.created,
                updated: now.updated,
                severity: now.severity,
                status: "active",
                classification: "unknown",
                determination: "unknown",
                assigned_to: None,
                categories: Vec::new(),
                alerts: Vec::new(),
            };
            (new, true)
        });
        *all_resolved &= now.status == "resolved";
        incident.created = incident.created.min(alert.created);
        incident.updated = incident.updated.max(now.updated);
        if rank(now.severity) > rank(incident.severity) {
            incident.severity = now.severity;
        }
        if now.status == "inProgress" {
            incident.status = "inProgress";
        }
        incident.classification = now.classification.unwrap_or(incident.classification);
        incident.determination = now.determination.unwrap_or(incident.determination);
        incident.assigned_to = now.assigned_to.or(incident.assigned_to.take());
        if !incident.categories.contains(&template.category) {
            incident.categories.push(template.category);
        }
        incident.alerts.push(number);
    }
    let numbers: Vec<u32> = incidents.keys().copied().collect();
    incidents
        .into_values()
        .enumerate()
        .map(|(place, (mut incident, all_resolved))| {
            if all_resolved {
                incident.status = "resolved";
            }
            // Now and then two are merged: the older one points to its successor.
            if incident.number.is_multiple_of(13) && place + 1 < numbers.len() {
                incident.redirect = Some(numbers[place + 1]);
                incident.status = "redirected";
            }
            // Some incidents are written down a moment before the last of their alerts, as the field has shown.
            if incident.number.is_multiple_of(3) {
                incident.updated = incident.updated.minus(Duration::from_millis(450)).on_grid();
            }
            incident
        })
        .collect()
}

fn render(tenant: &Tenant, state: &TenantState, incident: &Incident, expand: bool) -> String {
    let face = &tenant.face;
    let number = incident.number.to_string();
    let expanded: Vec<Bytes> = if expand {
        incident
            .alerts
            .iter()
            .filter_map(|alert| state.shelf(Source::GraphAlerts).position(&state.alerts()[*alert].id))
            .map(|row| state.latest_body(face, Source::GraphAlerts, row, true))
            .collect()
    } else {
        Vec::new()
    };
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
        json.num("priorityScore", 20 * rank(incident.severity));
        json.array("comments", |_| ());
        if expand {
            let alerts: Vec<String> = expanded.iter().map(|body| String::from_utf8_lossy(body).into_owned()).collect();
            json.raw("alerts", &format!("[{}]", alerts.join(",")));
        }
    })
}
