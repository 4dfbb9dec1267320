//! Graph alerts: filters, limits, order, links.

use crate::{Caller, client, column};
use serde_json::Value;
use simulator::{Clock, ManualClock, NextLink, OrderBy, Settings, Simulator, Source, Stamp};
use std::collections::BTreeSet;
use std::time::Duration;

fn noon() -> Stamp {
    Stamp::parse("2025-06-01T12:00:00Z").unwrap()
}

fn start(settings: Settings) -> (Simulator, ManualClock) {
    let clock = ManualClock::at(noon());
    (Simulator::start(Settings { clock: Clock::Manual(clock.clone()), ..settings }).unwrap(), clock)
}

async fn caller(simulator: &Simulator, tenant: usize) -> Caller {
    Caller::of(simulator, &simulator.tenants()[tenant], Source::GraphAlerts).await
}

fn stamps(page: &Value) -> Vec<Stamp> {
    column(page, "lastUpdateDateTime").iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn newest_come_first_and_a_window_is_ascending_when_asked() {
    let (simulator, _) = start(Settings { history: 80, ..Settings::default() });
    let caller = caller(&simulator, 0).await;
    let newest = caller.page(&[("$top", "50")]).await;
    assert!(stamps(&newest).is_sorted_by(|a, b| a >= b));
    assert_eq!(newest["@odata.context"], format!("{}/v1.0/$metadata#security/alerts_v2", simulator.base_url()));
    let page = caller
        .page(&[
            ("$filter", "lastUpdateDateTime ge 2025-05-20T00:00:00Z and lastUpdateDateTime lt 2025-05-25T00:00:00Z"),
            ("$orderby", "lastUpdateDateTime asc"),
            ("$count", "true"),
        ])
        .await;
    let found = stamps(&page);
    assert!(!found.is_empty() && found.is_sorted());
    assert!(found[0] >= "2025-05-20T00:00:00Z".parse().unwrap() && found[found.len() - 1] < "2025-05-25T00:00:00Z".parse().unwrap());
    assert_eq!(page["@odata.count"], found.len());
}

#[tokio::test]
async fn every_documented_property_filters_and_others_are_refused() {
    let (simulator, _) = start(Settings { history: 200, ..Settings::default() });
    let caller = caller(&simulator, 0).await;
    let all = caller.page(&[("$top", "1000")]).await["value"].as_array().unwrap().len();
    assert_eq!(all, 200);
    for (property, value) in [
        ("severity", "high"),
        ("status", "resolved"),
        ("serviceSource", "microsoftDefenderForIdentity"),
        ("classification", "truePositive"),
        ("determination", "malware"),
        ("assignedTo", "Automation"),
    ] {
        let matching = caller.page(&[("$top", "1000"), ("$filter", &format!("{property} eq '{value}'"))]).await;
        let others = caller.page(&[("$top", "1000"), ("$filter", &format!("not({property} eq '{value}')"))]).await;
        let records = matching["value"].as_array().unwrap();
        assert!(!records.is_empty() && records.iter().all(|record| record[property] == value), "{property}");
        assert_eq!(records.len() + others["value"].as_array().unwrap().len(), all, "what is not {value} is the rest");
    }
    for filter in ["investigationState eq 'running'", "title eq 'x'", "severity eq 'High'", "createdDateTime ge '2025-01-01T00:00:00Z'"] {
        let (status, body) = caller.refused(&[("$filter", filter)]).await;
        assert_eq!((status, &body["error"]["code"]), (400, &Value::from("BadRequest")), "{filter}");
        for name in ["date", "request-id", "client-request-id"] {
            assert!(body["error"]["innerError"][name].is_string(), "{name}");
        }
    }
}

#[tokio::test]
async fn top_is_lowered_in_silence_and_skip_is_refused_aloud() {
    let (simulator, _) = start(Settings { history: 1_100, tenants: 1, ..Settings::default() });
    let caller = caller(&simulator, 0).await;
    assert_eq!(caller.page(&[("$top", "2000")]).await["value"].as_array().unwrap().len(), 1000);
    assert_eq!(caller.page(&[]).await["value"].as_array().unwrap().len(), 100);
    assert_eq!(caller.page(&[("$skip", "500"), ("$top", "10")]).await["value"].as_array().unwrap().len(), 10);
    assert_eq!(caller.refused(&[("$skip", "501")]).await.0, 400);
    for query in [("$top", "-1"), ("$top", "many"), ("$select", "id"), ("$count", "yes"), ("$skiptoken", "nonsense")] {
        assert_eq!(caller.refused(&[query]).await.0, 400, "{query:?}");
    }
    assert_eq!(caller.refused(&[("$top", "1"), ("$top", "1")]).await.0, 400);
}

#[tokio::test]
async fn links_lead_through_all_rows_in_each_of_their_forms() {
    for form in [NextLink::SkipToken, NextLink::CountingSkipToken, NextLink::Skip] {
        let (simulator, _) = start(Settings { history: 250, next_link: form, ..Settings::default() });
        let caller = caller(&simulator, 0).await;
        let mut page = caller.page(&[("$top", "100"), ("$filter", "createdDateTime ge 2025-01-01T00:00:00Z")]).await;
        let mut ids = column(&page, "id");
        while let Some(link) = page["@odata.nextLink"].as_str() {
            assert!(link.starts_with(simulator.base_url()), "{link}");
            page = caller.follow(link).await;
            ids.extend(column(&page, "id"));
        }
        assert_eq!(ids.len(), 250, "{form:?}");
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 250);
    }
    let (simulator, _) = start(Settings { history: 250, next_link: NextLink::Absent, ..Settings::default() });
    let page = caller(&simulator, 0).await.page(&[("$top", "100")]).await;
    assert_eq!((page["value"].as_array().unwrap().len(), page.get("@odata.nextLink")), (100, None));
}

#[tokio::test]
async fn a_row_that_moves_shifts_counted_pages_but_not_remembered_ones() {
    for (form, skipped) in [(NextLink::SkipToken, false), (NextLink::CountingSkipToken, true)] {
        let (simulator, clock) = start(Settings { history: 20, next_link: form, ..Settings::default() });
        let tenant = simulator.tenants()[0].directory_id;
        let caller = caller(&simulator, 0).await;
        let first = caller.page(&[("$top", "10"), ("$orderby", "lastUpdateDateTime asc")]).await;
        let before = simulator.ledger().alert_ids(tenant);
        clock.advance(Duration::from_secs(1));
        simulator.publish_update_of(tenant, &column(&first, "id")[0]).unwrap();
        let second = caller.follow(first["@odata.nextLink"].as_str().unwrap()).await;
        let seen: BTreeSet<String> = column(&first, "id").into_iter().chain(column(&second, "id")).collect();
        assert_eq!(before.difference(&seen).count() > 0, skipped, "{form:?}");
    }
}

#[tokio::test]
async fn orderby_is_accepted_ignored_or_refused_by_switch() {
    for (switch, ascending) in [(OrderBy::Accepted, true), (OrderBy::Ignored, false)] {
        let (simulator, _) = start(Settings { history: 30, order_by: switch, ..Settings::default() });
        let page = caller(&simulator, 0).await.page(&[("$orderby", "lastUpdateDateTime asc")]).await;
        assert_eq!(stamps(&page).is_sorted(), ascending, "{switch:?}");
    }
    let (simulator, _) = start(Settings { order_by: OrderBy::Refused, ..Settings::default() });
    let (status, body) = caller(&simulator, 0).await.refused(&[("$orderby", "lastUpdateDateTime asc")]).await;
    assert_eq!(status, 400);
    assert!(body["error"]["message"].as_str().unwrap().contains("$orderby"));
}

#[tokio::test]
async fn ids_are_compared_letter_by_letter() {
    let (simulator, _) = start(Settings { history: 200, ..Settings::default() });
    let caller = caller(&simulator, 0).await;
    let ids = simulator.ledger().alert_ids(simulator.tenants()[0].directory_id);
    let twin =
        ids.iter().find(|id| ids.iter().any(|other| other != *id && other.eq_ignore_ascii_case(id))).expect("two ids differ in case alone");
    let get = async |id: &str| client().get(format!("{}/{id}", caller.base)).bearer_auth(&caller.token).send().await.unwrap();
    let body: Value = get(twin).await.json().await.unwrap();
    assert_eq!(body["id"], **twin);
    let stranger = ids.iter().find(|id| !ids.contains(&id.to_uppercase())).unwrap();
    assert_eq!(get(&stranger.to_uppercase()).await.status().as_u16(), 404);
}

#[tokio::test]
async fn members_that_came_later_are_named_to_those_who_ask() {
    let (simulator, _) = start(Settings { history: 300, ..Settings::default() });
    let caller = caller(&simulator, 0).await;
    let query = [("$filter", "serviceSource eq 'microsoftSentinel'"), ("$top", "5")];
    assert!(column(&caller.page(&query).await, "serviceSource").iter().all(|word| word == "microsoftSentinel"));
    let shy: Value = client().get(&caller.base).query(&query).bearer_auth(&caller.token).send().await.unwrap().json().await.unwrap();
    let words = column(&shy, "serviceSource");
    assert!(!words.is_empty() && words.iter().all(|word| word == "unknownFutureValue"));
}

#[tokio::test]
async fn answers_carry_the_date_of_the_service_and_an_id() {
    let (simulator, _) = start(Settings::default());
    let answer = caller(&simulator, 0).await.send(&[]).await.unwrap();
    assert_eq!(answer.headers()["date"], "Sun, 01 Jun 2025 12:00:00 GMT");
    assert!(answer.headers().contains_key("request-id"));
}
