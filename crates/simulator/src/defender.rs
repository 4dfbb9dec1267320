//! Defender for Endpoint `/api/alerts`: the same alerts as Graph has for this product, in their older shape.

use crate::answer::Answer;
use crate::facts::Field;
use crate::faults;
use crate::filter::{Kind, Property};
use crate::graph::{api, envelope, page_size, single};
use crate::line::Cable;
use crate::odata::Options;
use crate::scenario::Endpoint;
use crate::server::{App, Call};
use crate::settings::Source;
use crate::shelf::{SortBy, Want};
use crate::vocabulary::{ENDPOINT_SEVERITY, ENDPOINT_STATUS};
use crate::world::Tenant;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use bytes::Bytes;
use std::sync::Arc;

const OPTIONS: &[&str] = &["$filter", "$top", "$skip", "$expand"];

const PROPERTIES: &[Property] = &[
    Property { name: "alertCreationTime", field: Field::Created, kind: Kind::Time },
    Property { name: "lastUpdateTime", field: Field::Updated, kind: Kind::Time },
    Property { name: "lastEventTime", field: Field::LastEvent, kind: Kind::Time },
    Property { name: "incidentId", field: Field::Incident, kind: Kind::Number },
    Property { name: "investigationId", field: Field::Investigation, kind: Kind::Number },
    // The page on this API writes it with a capital letter.
    Property { name: "InvestigationId", field: Field::Investigation, kind: Kind::Number },
    Property { name: "id", field: Field::Id, kind: Kind::Text },
    Property { name: "assignedTo", field: Field::AssignedTo, kind: Kind::Text },
    Property { name: "detectionSource", field: Field::DetectionSource, kind: Kind::Text },
    Property { name: "category", field: Field::Category, kind: Kind::Text },
    Property { name: "status", field: Field::Status, kind: Kind::Word(&ENDPOINT_STATUS) },
    Property { name: "severity", field: Field::Severity, kind: Kind::Word(&ENDPOINT_SEVERITY) },
];

pub(crate) async fn list(State(app): State<Arc<App>>, ConnectInfo(cable): ConnectInfo<Cable>, uri: Uri, headers: HeaderMap) -> Response {
    api(&app, Endpoint::Defender, cable, &uri, &headers, |call, tenant| page(&app, call, tenant)).await
}

pub(crate) async fn one(
    State(app): State<Arc<App>>,
    ConnectInfo(cable): ConnectInfo<Cable>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    api(&app, Endpoint::Defender, cable, &uri, &headers, |call, tenant| {
        single(call, tenant, Source::MdeAlerts, &id, true, "https://api.securitycenter.microsoft.com/api/$metadata#Alerts/$entity")
    })
    .await
}

fn page(app: &App, call: &Call, tenant: &Tenant) -> Result<Answer, String> {
    let most = app.world.settings.defender_max_top;
    let options = Options::read(&call.query, OPTIONS)?;
    let filter = options.filter(PROPERTIES)?;
    let asked = options.number("$top")?;
    if asked.is_some_and(|top| top > most) {
        return Err(format!(
            "The limit of '{most}' for Top query has been exceeded. The value from the incoming request is '{}'.",
            asked.unwrap_or_default()
        ));
    }
    let with_evidence = match options.get("$expand") {
        None => false,
        Some("evidence") => true,
        Some(other) => return Err(format!("Could not find a property named '{other}' to expand.")),
    };
    let want = Want {
        filter: filter.as_ref(),
        sort: SortBy::Updated,
        ascending: false,
        after: None,
        skip: options.number("$skip")?.unwrap_or(0),
        top: page_size(call, asked, most, most),
    };

    let mut state = tenant.lock();
    let found = state.shelf(Source::MdeAlerts).find(&want);
    if let Some(broken) = faults::broken(call, state.shelf(Source::MdeAlerts), &found.rows) {
        return Ok(broken);
    }
    let mut rows: Vec<Bytes> =
        found.rows.iter().map(|row| state.latest_body(&tenant.face, Source::MdeAlerts, *row, with_evidence)).collect();
    if !call.effects.damage_delivery() {
        state.mark_served(Source::MdeAlerts, &found.rows, call.at);
    }
    drop(state);

    faults::disturb_rows(call, Source::MdeAlerts, &mut rows);
    // This API has never been seen to link to a next page; only the script makes it do so.
    let link = faults::bend_link(call, None);
    Ok(envelope("https://api.securitycenter.microsoft.com/api/$metadata#Alerts", None, link.as_deref(), &rows))
}
