//! Defender for Endpoint: its own words, numbers and limits, about the same alerts.

use crate::{Caller, column};
use serde_json::Value;
use simulator::{Settings, Simulator, Source, SourceMix};
use std::collections::BTreeSet;

async fn both(settings: Settings) -> (Simulator, Caller, Caller) {
    let simulator = Simulator::start(Settings { sources: SourceMix::Both, ..settings }).unwrap();
    let tenant = &simulator.tenants()[0];
    let graph = Caller::of(&simulator, tenant, Source::GraphAlerts).await;
    let defender = Caller::of(&simulator, tenant, Source::MdeAlerts).await;
    (simulator, graph, defender)
}

#[tokio::test]
async fn it_shows_the_endpoint_alerts_of_graph_under_the_same_ids() {
    let (_simulator, graph, defender) = both(Settings { history: 200, ..Settings::default() }).await;
    let of_graph = graph.page(&[("$top", "1000"), ("$filter", "serviceSource eq 'microsoftDefenderForEndpoint'")]).await;
    let of_defender = defender.page(&[]).await;
    let ids = |page: &Value| column(page, "id").into_iter().collect::<BTreeSet<_>>();
    assert!(ids(&of_graph).len() > 50);
    assert_eq!(ids(&of_graph), ids(&of_defender));
    assert!(of_defender["value"].as_array().unwrap().iter().all(|alert| alert["incidentId"].is_i64()), "a number, not a text");
    assert!(
        column(&of_defender, "lastUpdateTime").iter().map(|text| text.parse::<simulator::Stamp>().unwrap()).is_sorted_by(|a, b| a >= b)
    );
}

#[tokio::test]
async fn evidence_comes_only_when_expanded() {
    let (_simulator, _, defender) = both(Settings { history: 60, ..Settings::default() }).await;
    let plain = defender.page(&[]).await;
    assert!(plain["value"].as_array().unwrap().iter().all(|alert| alert["evidence"] == serde_json::json!([])));
    let expanded = defender.page(&[("$expand", "evidence")]).await;
    let evidence: Vec<&Value> =
        expanded["value"].as_array().unwrap().iter().flat_map(|alert| alert["evidence"].as_array().unwrap()).collect();
    assert!(evidence.iter().any(|item| item["entityType"] == "Process" && item["processCommandLine"].is_string()));
    assert!(evidence.iter().all(|item| item.as_object().unwrap().len() == 25), "every key is always there");
}

#[tokio::test]
async fn its_filters_and_limits_are_its_own() {
    let (_simulator, _, defender) = both(Settings { history: 120, ..Settings::default() }).await;
    let high = defender.page(&[("$filter", "severity eq 'High' and status ne 'Unknown'")]).await;
    assert!(!column(&high, "severity").is_empty() && column(&high, "severity").iter().all(|word| word == "High"));
    let id = column(&high, "id")[0].clone();
    assert_eq!(column(&defender.page(&[("$filter", &format!("id eq '{id}'"))]).await, "id"), [id]);
    let all = defender.page(&[]).await["value"].as_array().unwrap().len();
    assert_eq!(defender.page(&[("$skip", "3"), ("$top", "10000")]).await["value"].as_array().unwrap().len(), all - 3);
    for query in [
        ("$top", "10001"),
        ("$filter", "severity eq 'high'"),
        ("$filter", "serviceSource eq 'x'"),
        ("$filter", "lastUpdateTime ge yesterday"),
        ("$orderby", "lastUpdateTime"),
        ("$expand", "machine"),
    ] {
        let (status, body) = defender.refused(&[query]).await;
        assert_eq!(status, 400, "{query:?}");
        assert!(body["error"]["target"].is_string() && body["error"].get("innerError").is_none(), "its errors have a target");
    }
}
