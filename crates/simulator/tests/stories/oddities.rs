//! What the catalogue of faults needs beyond plain failures: broken and absurd records, odd orders and links,
//! answers that are torn off or blow up, odd tokens, late and tied alerts.

use crate::{Caller, GRAPH, client, column, post_token, redeem};
use reqwest::StatusCode;
use serde_json::Value;
use simulator::{
    Clock, Effect, Endpoint, ManualClock, NextLink, OddToken, OrderBy, Poison, Rule, Settings, SimTenant, Simulator, Source, Stamp,
};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

fn noon() -> Stamp {
    Stamp::parse("2025-06-01T12:00:00Z").unwrap()
}

async fn world(settings: Settings) -> (Simulator, ManualClock, SimTenant, Caller) {
    let clock = ManualClock::at(noon());
    let simulator = Simulator::start(Settings { clock: Clock::Manual(clock.clone()), ..settings }).unwrap();
    let tenant = simulator.tenants()[0].clone();
    let caller = Caller::of(&simulator, &tenant, Source::GraphAlerts).await;
    (simulator, clock, tenant, caller)
}

fn twenty() -> Settings {
    Settings { history: 20, ..Settings::default() }
}

#[tokio::test]
async fn a_broken_record_fails_every_page_it_is_on() {
    let (simulator, _, tenant, caller) = world(twenty()).await;
    let ids = column(&caller.page(&[]).await, "id");
    simulator.script(Rule::new(Effect::Broken { id: ids[5].clone() }).tenant(tenant.directory_id));
    for query in [&[("$top", "20")][..], &[("$top", "1"), ("$skip", "5")]] {
        assert_eq!(caller.refused(query).await.0, 500);
    }
    let neighbours = column(&caller.page(&[("$top", "5")]).await, "id");
    assert_eq!(neighbours, ids[..5]);
    let served =
        |id: &String| simulator.ledger().rows(tenant.directory_id).iter().find(|row| row.alert_id.as_ref() == Some(id)).unwrap().served;
    assert_eq!((served(&ids[5]), served(&ids[4])), (1, 2), "a page that fails serves nothing");
}

#[tokio::test]
async fn orders_and_links_can_differ_by_tenant() {
    let (simulator, _, tenant, caller) = world(Settings { history: 200, ..Settings::default() }).await;
    let ascending = [("$orderby", "lastUpdateDateTime asc"), ("$top", "50")];
    for (order, sorted) in [(OrderBy::Ignored, false), (OrderBy::Accepted, true)] {
        simulator.script(Rule::new(Effect::OrderBy(order)).tenant(tenant.directory_id).times(1));
        assert_eq!(column(&caller.page(&ascending).await, "lastUpdateDateTime").is_sorted(), sorted, "{order:?}");
    }
    simulator.script(Rule::new(Effect::OrderBy(OrderBy::Refused)).times(1));
    assert_eq!(caller.refused(&ascending).await.0, 400);
    simulator.script(Rule::new(Effect::NextLink(NextLink::Absent)).times(1));
    assert_eq!(caller.page(&ascending).await.get("@odata.nextLink"), None);
    let link = caller.page(&ascending).await["@odata.nextLink"].as_str().unwrap().to_owned();
    simulator.script(Rule::new(Effect::ExpiredSkipToken { status: 410 }).times(1));
    caller.page(&ascending).await;
    assert_eq!(client().get(&link).bearer_auth(&caller.token).send().await.unwrap().status(), StatusCode::GONE);
    caller.follow(&link).await;
}

#[tokio::test]
async fn a_row_that_moves_away_under_a_counting_link_hides_another() {
    let (simulator, clock, _, caller) = world(twenty()).await;
    clock.advance(Duration::from_secs(1));
    simulator.script(Rule::new(Effect::NextLink(NextLink::CountingSkipToken)));
    simulator.script(Rule::new(Effect::Shift).times(1));
    let mut page = caller.page(&[("$orderby", "lastUpdateDateTime asc"), ("$top", "10")]).await;
    let mut seen = column(&page, "id");
    let first = seen[0].clone();
    while let Some(link) = page["@odata.nextLink"].as_str() {
        page = caller.follow(link).await;
        seen.extend(column(&page, "id"));
    }
    assert_eq!(seen.iter().filter(|id| **id == first).count(), 2, "it came again at the end");
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 19, "and one was never shown");
}

#[tokio::test]
async fn windows_of_creation_find_what_windows_of_updates_do_not() {
    let (simulator, _, tenant, caller) = world(twenty()).await;
    simulator.publish_poison(tenant.directory_id, Source::GraphAlerts, Poison::NullStamp, "danull_1").unwrap();
    let ids = async |filter: &str| column(&caller.page(&[("$filter", filter)]).await, "id");
    assert!(!ids("lastUpdateDateTime ge 2020-01-01T00:00:00Z").await.contains(&"danull_1".to_owned()));
    let window = "createdDateTime ge 2025-06-01T11:00:00Z and createdDateTime lt 2025-06-01T13:00:00Z and severity eq 'high' and status ne 'resolved'";
    assert!(ids(window).await.contains(&"danull_1".to_owned()));
    assert!(ids("createdDateTime lt 2025-05-01T00:00:00Z and createdDateTime ge 2025-05-02T00:00:00Z").await.is_empty());
    let row = simulator.ledger().rows(tenant.directory_id).into_iter().find(|row| row.alert_id.as_deref() == Some("danull_1")).unwrap();
    assert_eq!((row.last_update, row.served), (None, 1));
}

#[tokio::test]
async fn absurd_records_are_served_as_they_are() {
    let (simulator, _, tenant, caller) = world(Settings::default()).await;
    for (number, kind) in [Poison::Huge, Poison::LongId, Poison::DuplicateKeys, Poison::Sparse, Poison::UnknownType].into_iter().enumerate()
    {
        simulator.publish_poison(tenant.directory_id, Source::GraphAlerts, kind, &format!("da{number}_1")).unwrap();
    }
    let text = caller.send(&[]).await.unwrap().text().await.unwrap();
    let rows = simulator.ledger().rows(tenant.directory_id);
    assert!(rows.iter().all(|row| text.contains(std::str::from_utf8(&row.body).unwrap())));
    let size = |kind: usize| (rows[kind].body.len(), rows[kind].alert_id.as_ref().unwrap().len());
    assert!(size(0).0 > 20 << 20, "{:?}", size(0));
    assert_eq!(size(1).1, 10_240);
    assert_eq!(std::str::from_utf8(&rows[2].body).unwrap().matches("\"title\"").count(), 2);
    assert!(serde_json::from_slice::<Value>(&rows[3].body).unwrap()["status"].is_null());
    for source in [Source::MdeAlerts, Source::GraphIncidents] {
        simulator.publish_poison(tenant.directory_id, source, Poison::UnknownType, "7").unwrap();
    }
    let incident = simulator.ledger().incidents(tenant.directory_id).pop().unwrap();
    assert!(incident.incident_id.as_deref() == Some("7") && incident.body.starts_with(b"{\"@odata.type\""));
}

#[tokio::test]
async fn thousands_of_equal_stamps_and_a_version_that_goes_back() {
    let (simulator, _, tenant, caller) = world(Settings::default()).await;
    let tie: Stamp = "2025-06-01T11:00:00.1133333Z".parse().unwrap();
    let ids = simulator.publish_tied(tenant.directory_id, tie, 5_000).unwrap();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 5_000);
    let filter = format!("lastUpdateDateTime eq {tie}");
    assert_eq!(caller.page(&[("$filter", &filter), ("$count", "true"), ("$top", "1")]).await["@odata.count"], 5_000);
    simulator.publish_update_at(tenant.directory_id, &ids[7], "2025-06-01T10:59:00Z".parse().unwrap()).unwrap();
    let rows = simulator.ledger().rows(tenant.directory_id);
    let of_it: Vec<_> = rows.iter().filter(|row| row.alert_id.as_ref() == Some(&ids[7])).map(|row| (row.latest, row.newest)).collect();
    assert_eq!(of_it, [(false, true), (true, false)]);
}

#[tokio::test]
async fn answers_are_torn_off_where_the_script_says() {
    let (simulator, _, tenant, caller) = world(twenty()).await;
    for (bytes, headers_arrive) in [(0, false), (40, false), (3_000, true)] {
        simulator.script(Rule::new(Effect::ResetAfter { bytes }).endpoint(Endpoint::Graph).times(1));
        let answer = caller.send(&[]).await;
        assert_eq!(answer.is_ok(), headers_arrive, "after {bytes} bytes");
        if let Ok(answer) = answer {
            assert!(answer.bytes().await.is_err());
        }
    }
    assert!(simulator.ledger().rows(tenant.directory_id).iter().all(|row| row.served == 0));
    caller.page(&[]).await;
}

#[tokio::test]
async fn a_bomb_inflates_to_what_it_promises() {
    let (simulator, _, _, caller) = world(twenty()).await;
    simulator.script(Rule::new(Effect::GzipBomb { megabytes: 3 }).times(1));
    let answer = caller.send(&[]).await.unwrap();
    assert_eq!(answer.headers().get("content-encoding").map(|value| value.as_bytes()), None, "the client has unpacked it");
    let body = answer.bytes().await.unwrap();
    assert!(body.len() > (3 << 20) - 300 && body.iter().all(|byte| *byte == b' '), "{} bytes", body.len());
}

#[tokio::test]
async fn an_answer_that_is_lost_after_rotation_costs_the_family() {
    let (simulator, _, tenant, _) = world(Settings::default()).await;
    simulator.script(Rule::new(Effect::StrictRotation).tenant(tenant.directory_id));
    let fresh = simulator.issue_refresh_token(tenant.directory_id).unwrap();
    simulator.script(Rule::new(Effect::ResetAfter { bytes: 0 }).endpoint(Endpoint::Token).times(1));
    let fields = [("grant_type", "refresh_token"), ("refresh_token", fresh.as_str()), ("scope", GRAPH)];
    let url = format!("{}/{}/oauth2/v2.0/token", simulator.base_url(), tenant.directory_id);
    let mut form = vec![("client_id", simulator.client_id()), ("client_secret", simulator.client_secret().to_owned())];
    form.extend(fields.iter().map(|(name, value)| (*name, (*value).to_owned())));
    assert!(client().post(url).form(&form).send().await.is_err());
    let refused = post_token(&simulator, &tenant.directory_id.to_string(), &fields).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "it had been exchanged, so this is reuse");
    assert_eq!((simulator.felt(Some(tenant.directory_id), "reset_after"), simulator.felt(None, "hang")), (1, 0));
    assert_eq!(simulator.journal_from(simulator.journal().len() as u64 - 1).len(), 1);
    simulator.clear_script_of(tenant.directory_id);
    assert!(simulator.rules().is_empty());
}

#[tokio::test]
async fn tokens_live_oddly_and_may_not_read_alerts() {
    let (simulator, _, tenant, _) = world(twenty()).await;
    for json in ["0", "-5", "\"soon\"", "1e300"] {
        simulator.script(Rule::new(Effect::ExpiresIn { json: json.to_owned() }).times(1));
        let answer = redeem(&simulator, &tenant, &tenant.refresh_token, GRAPH, StatusCode::OK).await;
        assert_eq!(answer["expires_in"], serde_json::from_str::<Value>(json).unwrap());
    }
    simulator.script(Rule::new(Effect::OddToken(OddToken::FewerPermissions)).times(2));
    let alerts = Caller::of(&simulator, &tenant, Source::GraphAlerts).await;
    assert_eq!(alerts.refused(&[]).await.0, 403);
    Caller::of(&simulator, &tenant, Source::GraphIncidents).await.page(&[]).await;
}

#[tokio::test]
async fn redemptions_that_overlap_are_counted() {
    let (simulator, _, tenant, _) = world(Settings::default()).await;
    assert_eq!(simulator.overlapping_redemptions(), 0);
    simulator.script(Rule::new(Effect::Trickle { bytes: 500, every_ms: 40 }).endpoint(Endpoint::Token));
    let one = || redeem(&simulator, &tenant, &tenant.refresh_token, GRAPH, StatusCode::OK);
    one().await;
    one().await;
    assert_eq!(simulator.overlapping_redemptions(), 0, "one after the other is as it should be");
    tokio::join!(one(), one());
    assert_eq!(simulator.overlapping_redemptions(), 1);
    assert_eq!(simulator.journal().iter().filter(|entry| entry.overlapping > 0).count(), 1);
}

#[tokio::test]
async fn a_hundred_thousand_alerts_of_one_tenant_are_served_page_by_page() {
    let (_simulator, _, _, caller) = world(Settings { tenants: 1, history: 100_000, ..Settings::default() }).await;
    let query = [
        ("$filter", "lastUpdateDateTime ge 2025-05-20T00:00:00Z and lastUpdateDateTime lt 2025-05-21T00:00:00Z"),
        ("$orderby", "lastUpdateDateTime asc"),
        ("$top", "1000"),
    ];
    let by_creation = [
        ("$filter", "createdDateTime ge 2025-05-20T00:00:00Z and createdDateTime lt 2025-05-21T00:00:00Z"),
        ("$orderby", "createdDateTime asc"),
        ("$top", "1000"),
    ];
    for query in [query, by_creation] {
        let began = Instant::now();
        let bytes = caller.send(&query).await.unwrap().bytes().await.unwrap();
        assert!(bytes.len() > 4 << 20);
        // Some ten times what it takes on an idle machine: a scan of everything would take seconds.
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}
