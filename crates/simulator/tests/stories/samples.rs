//! Records found in files: served byte by byte, spread over the tenants, counted like others.

use crate::{Caller, client};
use reqwest::StatusCode;
use serde_json::Value;
use simulator::{SampleStamps, Settings, Simulator, Source, SourceMix};
use std::fs;
use std::path::Path;

const ALERT: &str = "{\"id\" : \"da1_1\",\n  \"lastUpdateDateTime\": \"2021-05-02T14:19:01.3266667Z\", \"score\": 1.50, \"text\": \"\\u0131 \\/ \\ud83d\" }";
const SECOND_VERSION: &str = "{\"id\":\"da1_1\",\"lastUpdateDateTime\":\"2021-05-03T00:00:00Z\"}";
const NO_ALERT: &str = "{ \"error\": {\"code\": \"x\"} }";
/// No object at all; and nothing that an address or a time could contain.
const NUMBER: &str = "17171717171717";
const ENDPOINT: &str = "{\"id\":\"da2_2\",\"incidentId\":7,\"lastUpdateTime\":\"2020-07-20T10:53:50.19Z\"}";

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a-list.json", &format!("{{\"@odata.context\": \"x\", \"value\": [ {ALERT} , {NUMBER} ]}}"));
    write(folder.path(), "deeper/b.json", SECOND_VERSION);
    write(folder.path(), "deeper/error.json", NO_ALERT);
    write(folder.path(), "mde-list.json", &format!("[{ENDPOINT}]\n"));
    write(folder.path(), "broken.json", "{\"id\":\"da3_3\",}");
    write(folder.path(), "notes.md", "{}");
    folder
}

fn start(folder: &Path, settings: Settings) -> Simulator {
    Simulator::start(Settings { samples: Some(folder.to_owned()), sources: SourceMix::Both, ..settings }).unwrap()
}

/// All answers of all tenants through one API.
async fn answers(simulator: &Simulator, source: Source) -> Vec<String> {
    let mut texts = Vec::new();
    for tenant in simulator.tenants() {
        let answer = Caller::of(simulator, &tenant, source).await.send(&[]).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        texts.push(answer.text().await.unwrap());
    }
    texts
}

#[tokio::test]
async fn every_record_is_served_exactly_as_it_stands_in_its_file() {
    let folder = folder();
    let simulator = start(folder.path(), Settings::default());
    let report = simulator.samples();
    assert_eq!((report.files, report.records), (4, 5));
    assert!(report.skipped.len() == 1 && report.skipped[0].contains("broken.json"), "{:?}", report.skipped);
    let graph = answers(&simulator, Source::GraphAlerts).await;
    for record in [ALERT, SECOND_VERSION, NO_ALERT, NUMBER] {
        assert_eq!(graph.iter().filter(|text| text.contains(record)).count(), 1, "{record}");
    }
    assert!(!graph.iter().any(|text| text.contains(ALERT) && text.contains(SECOND_VERSION)), "one id, two tenants");
    let endpoint = answers(&simulator, Source::MdeAlerts).await;
    assert_eq!(endpoint.iter().filter(|text| text.contains(ENDPOINT)).count(), 1);
    let bodies: Vec<_> = simulator.ledger().all_rows().into_iter().map(|row| row.body).collect();
    assert_eq!(bodies.len(), 5, "all of them are in the ledger");
    assert!(bodies.iter().any(|body| body == ALERT.as_bytes()));
}

#[tokio::test]
async fn two_records_with_one_id_are_versions_where_there_is_one_tenant() {
    let folder = folder();
    let simulator = start(folder.path(), Settings { tenants: 1, ..Settings::default() });
    let tenant = simulator.tenants()[0].directory_id;
    let versions: Vec<_> = simulator.ledger().rows(tenant).into_iter().filter(|row| row.alert_id.as_deref() == Some("da1_1")).collect();
    assert_eq!(versions.iter().map(|row| (row.version, row.latest)).collect::<Vec<_>>(), [(1, false), (2, true)]);
    let texts = answers(&simulator, Source::GraphAlerts).await;
    assert!(texts[0].contains(SECOND_VERSION) && !texts[0].contains(ALERT), "the latest is the one that is shown");
}

#[tokio::test]
async fn samples_of_long_ago_can_stand_at_the_start_of_the_run() {
    let folder = folder();
    for (stamps, visible) in [(SampleStamps::Own, false), (SampleStamps::Start, true)] {
        let simulator = start(folder.path(), Settings { tenants: 1, sample_stamps: stamps, ..Settings::default() });
        let caller = Caller::of(&simulator, &simulator.tenants()[0], Source::GraphAlerts).await;
        let text = caller.send(&[("$filter", "lastUpdateDateTime ge 2024-01-01T00:00:00Z")]).await.unwrap().text().await.unwrap();
        assert_eq!(text.contains(SECOND_VERSION), visible, "{stamps:?}");
        assert!(text.contains(NO_ALERT), "a record without a stamp stands at the start in any case");
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_an_error_that_names_it() {
    let error = Simulator::start(Settings { samples: Some("/no/such/folder".into()), ..Settings::default() }).unwrap_err();
    assert!(format!("{error:#}").contains("/no/such/folder"));
}

#[tokio::test]
async fn the_ledger_can_be_read_over_http() {
    let folder = folder();
    let simulator = start(folder.path(), Settings { history: 4, ..Settings::default() });
    let get =
        async |path: &str| client().get(format!("{}{path}", simulator.base_url())).send().await.unwrap().json::<Value>().await.unwrap();
    let short = get("/sim/ledger").await;
    assert_eq!(short["alerts"], simulator.ledger().total_alerts());
    assert_eq!(short.get("rows"), None);
    let full = get("/sim/ledger?full=1").await;
    let rows = full["rows"].as_array().unwrap();
    assert_eq!(rows.len(), simulator.ledger().all_rows().len());
    let sample = rows.iter().find(|row| row["alert_id"] == "da1_1" && row["bytes"] == ALERT.len()).unwrap();
    assert_eq!(sample["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(sample["last_update"], "2021-05-02T14:19:01.3266667Z");
    let tenants = get("/sim/tenants").await;
    assert_eq!(tenants[0]["directory_id"], simulator.tenants()[0].directory_id.to_string());
}
