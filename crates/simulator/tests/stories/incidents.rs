//! Incidents: what alerts add up to, merges and moves, and the limits of the API.

use crate::{Caller, column};
use serde_json::Value;
use simulator::{Clock, Effect, Endpoint, ManualClock, OrderBy, Outage, Rule, Settings, SimTenant, Simulator, Source, SourceMix, Stamp};
use std::collections::BTreeSet;
use std::time::Duration;

fn start(settings: Settings) -> (Simulator, ManualClock, SimTenant) {
    let clock = ManualClock::at(Stamp::parse("2025-06-01T12:00:00Z").unwrap());
    let settings = Settings { clock: Clock::Manual(clock.clone()), sources: SourceMix::All, ..settings };
    let simulator = Simulator::start(settings).unwrap();
    let tenant = simulator.tenants()[0].clone();
    (simulator, clock, tenant)
}

async fn caller(simulator: &Simulator) -> Caller {
    Caller::of(simulator, &simulator.tenants()[0], Source::GraphIncidents).await
}

/// The latest body of every incident, by its id.
fn latest(simulator: &Simulator, tenant: &SimTenant) -> std::collections::BTreeMap<String, Value> {
    let rows = simulator.ledger().incidents(tenant.directory_id).into_iter().filter(|row| row.latest);
    rows.map(|row| (row.incident_id.clone().unwrap(), serde_json::from_slice(&row.body).unwrap())).collect()
}

async fn every_page(caller: &Caller, query: &[(&str, &str)]) -> Vec<Value> {
    let mut page = caller.page(query).await;
    let mut records = Vec::new();
    loop {
        records.extend(page["value"].as_array().unwrap().iter().cloned());
        let Some(link) = page["@odata.nextLink"].as_str() else { return records };
        page = caller.follow(link).await;
    }
}

#[tokio::test]
async fn incidents_gather_the_alerts_of_a_tenant() {
    let (simulator, _, tenant) = start(Settings { history: 120, ..Settings::default() });
    let caller = caller(&simulator).await;
    let incidents = every_page(&caller, &[("$expand", "alerts")]).await;
    let inside: BTreeSet<String> = incidents
        .iter()
        .flat_map(|incident| incident["alerts"].as_array().unwrap())
        .map(|alert| alert["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(inside, simulator.ledger().alert_ids(tenant.directory_id));
    assert!(incidents.iter().any(|incident| incident["redirectIncidentId"].is_string() && incident["status"] == "redirected"));
    let resolved = caller.page(&[("$filter", "status eq 'resolved'"), ("$top", "3")]).await;
    assert!(column(&resolved, "status").iter().all(|status| status == "resolved"));
    assert_eq!(caller.refused(&[("$filter", "serviceSource eq 'microsoftSentinel'")]).await.0, 400);
    let one: Value = caller.follow(&format!("{}/{}", caller.base, incidents[0]["id"].as_str().unwrap())).await;
    assert_eq!((&one["id"], one.get("alerts")), (&incidents[0]["id"], None));
    let counts = &simulator.ledger().counts()[0];
    assert_eq!((counts.alerts, counts.incidents), (120, incidents.len()), "incidents are no alerts");
}

#[tokio::test]
async fn what_the_ledger_says_of_incidents_is_what_callers_get() {
    let (simulator, clock, tenant) = start(Settings { history: 60, ..Settings::default() });
    clock.advance(Duration::from_secs(5));
    simulator.publish_new(tenant.directory_id, 5).unwrap();
    let caller = caller(&simulator).await;
    let text = caller.send(&[]).await.unwrap().text().await.unwrap();
    let rows = simulator.ledger().incidents(tenant.directory_id);
    let shown: Vec<_> = rows.iter().filter(|row| row.latest && row.served > 0).collect();
    assert!(shown.len() >= 30 && shown.iter().all(|row| text.contains(std::str::from_utf8(&row.body).unwrap())));
    for row in &rows {
        let body: Value = serde_json::from_slice(&row.body).unwrap();
        assert_eq!(row.last_update.as_deref(), body["lastUpdateDateTime"].as_str());
        assert_eq!(row.redirect.as_deref(), body["redirectIncidentId"].as_str());
        assert!(row.last_update.as_deref().unwrap().parse::<Stamp>().unwrap() <= simulator.now());
    }
    assert!(simulator.ledger().rows(tenant.directory_id).iter().all(|row| row.source != Source::GraphIncidents));
}

#[tokio::test]
async fn a_change_of_an_alert_is_a_change_of_its_incident() {
    let (simulator, clock, tenant) = start(Settings { history: 1, ..Settings::default() });
    let alert = simulator.ledger().alert_ids(tenant.directory_id).into_iter().next().unwrap();
    let incident = simulator.ledger().incident_of(tenant.directory_id, &alert).unwrap();
    let before = latest(&simulator, &tenant)[&incident].clone();
    clock.advance(Duration::from_secs(60));
    simulator.publish_update_of(tenant.directory_id, &alert).unwrap();
    let after = latest(&simulator, &tenant)[&incident].clone();
    assert!(after["lastUpdateDateTime"].as_str() > before["lastUpdateDateTime"].as_str(), "{before} {after}");
}

#[tokio::test]
async fn merges_chain_and_an_alert_is_where_they_end() {
    let (simulator, clock, tenant) = start(Settings { history: 40, ..Settings::default() });
    let id = tenant.directory_id;
    let free = |simulator: &Simulator| -> Vec<String> {
        let bodies = latest(simulator, &tenant);
        let targets: BTreeSet<String> = bodies.values().filter_map(|body| body["redirectIncidentId"].as_str().map(str::to_owned)).collect();
        bodies
            .into_iter()
            .filter(|(name, body)| body["redirectIncidentId"].is_null() && !targets.contains(name))
            .map(|(name, _)| name)
            .collect()
    };
    let [first, second, third] = [0, 1, 2].map(|at| free(&simulator)[at].clone());
    let alerts = simulator.ledger().alert_ids(id);
    let alert = alerts.iter().find(|alert| simulator.ledger().incident_of(id, alert).as_ref() == Some(&first)).unwrap();
    clock.advance(Duration::from_secs(10));
    simulator.merge_incidents(id, &first, &second).unwrap();
    assert_eq!(simulator.ledger().incident_of(id, alert).unwrap(), second);
    clock.advance(Duration::from_secs(10));
    simulator.merge_incidents(id, &second, &third).unwrap();
    assert_eq!(simulator.ledger().incident_of(id, alert).unwrap(), third);
    let body = &latest(&simulator, &tenant)[&first];
    assert_eq!((&body["redirectIncidentId"], &body["status"]), (&Value::from(second.clone()), &Value::from("redirected")));
    let record = simulator.ledger().rows(id).into_iter().find(|row| row.alert_id.as_ref() == Some(alert) && row.latest).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&record.body).unwrap()["incidentId"], first, "the alert itself has not changed");
    simulator.merge_incidents(id, &third, &first).unwrap();
    assert_eq!(simulator.ledger().incident_of(id, alert).unwrap(), first, "a circle leads nowhere");
    assert!(simulator.merge_incidents(id, "1", &first).is_err());
}

#[tokio::test]
async fn an_alert_that_is_moved_changes_itself_and_both_incidents() {
    let (simulator, clock, tenant) = start(Settings { history: 10, ..Settings::default() });
    let id = tenant.directory_id;
    let alert = simulator.ledger().alert_ids(id).into_iter().next().unwrap();
    let old = simulator.ledger().incident_of(id, &alert).unwrap();
    clock.advance(Duration::from_secs(30));
    let before = simulator.ledger().incidents(id).len();
    simulator.move_alert(id, &alert, "777").unwrap();
    assert_eq!(simulator.ledger().incident_of(id, &alert).unwrap(), "777");
    assert!(latest(&simulator, &tenant).contains_key("777") && latest(&simulator, &tenant).contains_key(&old));
    assert_eq!(simulator.ledger().incidents(id).len(), before + 2);
    for row in simulator.ledger().rows(id).iter().filter(|row| row.alert_id.as_ref() == Some(&alert) && row.latest) {
        let body: Value = serde_json::from_slice(&row.body).unwrap();
        let shown = if row.source == Source::MdeAlerts { Value::from(777) } else { Value::from("777") };
        assert_eq!((&body["incidentId"], row.version > 1), (&shown, true));
    }
}

#[tokio::test]
async fn pages_hold_fifty_and_skip_is_limited() {
    let (simulator, _, _) = start(Settings { history: 300, ..Settings::default() });
    let caller = caller(&simulator).await;
    assert_eq!(caller.page(&[("$top", "1000")]).await["value"].as_array().unwrap().len(), 50);
    assert_eq!(caller.page(&[]).await["value"].as_array().unwrap().len(), 50);
    assert_eq!(caller.refused(&[("$skip", "501")]).await.0, 400);
    let query = [
        ("$filter", "createdDateTime ge 2025-05-10T00:00:00Z and createdDateTime lt 2025-05-20T00:00:00Z and severity ne 'high'"),
        ("$orderby", "createdDateTime asc"),
    ];
    let found = column(&caller.page(&query).await, "createdDateTime");
    assert!(found.len() > 10 && found.is_sorted() && found.iter().all(|stamp| stamp.starts_with("2025-05-1")), "{found:?}");
    simulator.script(Rule::new(Effect::OrderBy(OrderBy::Refused)).endpoint(Endpoint::Incidents).times(1));
    assert_eq!(caller.refused(&query).await.0, 400);
}

#[tokio::test]
async fn expanding_the_alerts_fails_for_ever_where_there_are_many() {
    let (simulator, _, _) = start(Settings { history: 30, expand_limit: 29, ..Settings::default() });
    let caller = caller(&simulator).await;
    for top in ["50", "25", "1"] {
        assert_eq!(caller.refused(&[("$expand", "alerts"), ("$top", top)]).await.0, 500);
    }
    caller.page(&[]).await;
    simulator.script(Rule::new(Effect::Outage(Outage::Unavailable)).query("$top=7"));
    assert_eq!(caller.refused(&[("$top", "7")]).await.0, 503);
    caller.page(&[("$top", "6")]).await;
}
