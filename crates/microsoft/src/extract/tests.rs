//! Records as they come, and as they should never come.

use super::*;
use domain::rehearsal::Rehearsal;

fn alert(source: Source, json: &str) -> AlertRecord {
    match record(source, Bytes::copy_from_slice(json.as_bytes())) {
        Record::Alert(alert) => alert,
        other => panic!("{other:?}: {json}"),
    }
}

fn incident(json: &str) -> IncidentRecord {
    match record(Source::GraphIncidents, Bytes::copy_from_slice(json.as_bytes())) {
        Record::Incident(incident) => incident,
        other => panic!("{other:?}: {json}"),
    }
}

fn graph(json: &str) -> AlertRecord {
    alert(Source::GraphAlerts, json)
}

fn reason(raw: impl AsRef<[u8]>) -> String {
    reason_from(Source::GraphAlerts, raw)
}

fn reason_from(source: Source, raw: impl AsRef<[u8]>) -> String {
    match record(source, Bytes::copy_from_slice(raw.as_ref())) {
        Record::Poison(poison) => {
            assert_eq!((poison.raw.as_ref(), poison.hash), (raw.as_ref(), ContentHash::of(raw.as_ref())));
            poison.reason
        }
        other => panic!("{other:?} should be poison"),
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn an_alert_of_graph_is_read_as_it_is_written() {
    let json = r##"{"@odata.type":"#microsoft.graph.security.alert","id":"daABC_1","incidentId":"28282","status":"new","severity":"low",
        "serviceSource":"microsoftDefenderForEndpoint","detectionSource":"antivirus","title":"Şüpheli ıslık – mistænkelig fil","category":"DefenseEvasion",
            "assignedTo":"analyst@contoso.test","classification":"truePositive","determination":"malware",
        "createdDateTime":"2021-04-27T12:19:27.7211305Z","lastUpdateDateTime":"2021-05-02T14:19:01.3266667Z","evidence":[{"id":"not this"}]}"##;
    let alert = graph(json);
    assert_eq!(alert.id.as_str(), "daABC_1");
    assert_eq!((&*alert.raw, alert.hash), (json, ContentHash::of(json.as_bytes())));
    assert_eq!(alert.last_update_text, some("2021-05-02T14:19:01.3266667Z"));
    assert_eq!(alert.last_update, Ticks::parse("2021-05-02T14:19:01.3266667Z"));
    assert_eq!(alert.created, Ticks::parse("2021-04-27T12:19:27.7211305Z"));
    let facts = AlertFacts {
        incident_id: some("28282"),
        title: some("Şüpheli ıslık – mistænkelig fil"),
        severity: some("low"),
        status: some("new"),
        service_source: some("microsoftDefenderForEndpoint"),
        detection_source: some("antivirus"),
        category: some("DefenseEvasion"),
        assigned_to: some("analyst@contoso.test"),
        classification: some("truePositive"),
        determination: some("malware"),
    };
    assert!(alert.facts == facts);
}

#[test]
fn an_alert_of_endpoint_is_told_in_graphs_words() {
    let alert = alert(
        Source::MdeAlerts,
        r#"{"id":"da637308392288907382_-880718168","incidentId":7587,"severity":"UnSpecified","status":"InProgress","detectionSource":"WindowsDefenderAv",
           "category":"SuspiciousActivity","title":"t","assignedTo":"Automation","classification":"Informational, expected activity",
           "determination":"ConfirmedUserActivity","alertCreationTime":"2020-07-20T10:53:48.7657932Z","lastUpdateTime":"2020-07-20T10:53:50.19Z",
           "createdDateTime":"1999-01-01T00:00:00Z"}"#,
    );
    assert_eq!(alert.last_update, Ticks::parse("2020-07-20T10:53:50.19Z"));
    assert_eq!(alert.created, Ticks::parse("2020-07-20T10:53:48.7657932Z"));
    let facts = AlertFacts {
        incident_id: some("7587"),
        title: some("t"),
        severity: some("unknown"),
        status: some("inProgress"),
        service_source: some("microsoftDefenderForEndpoint"),
        detection_source: some("antivirus"),
        category: some("SuspiciousActivity"),
        assigned_to: some("Automation"),
        classification: some("informationalExpectedActivity"),
        determination: some("confirmedActivity"),
    };
    assert!(alert.facts == facts);
}

#[test]
fn an_id_alone_is_an_alert() {
    let alert = graph(r#"{"id":"x"}"#);
    assert!(alert.facts == AlertFacts::default());
    assert_eq!((alert.last_update_text, alert.last_update, alert.created), (None, None, None));
}

#[test]
fn fault_27_a_type_that_was_never_documented_leaves_a_column_empty() {
    let alert = graph(
        r#"{"id":"x","title":5,"severity":["high"],"status":{"a":1},"category":null,"incidentId":true,"serviceSource":false,"detectionSource":1.5,
           "assignedTo":["a"],"classification":7,"determination":{},
           "lastUpdateDateTime":1577836800,"createdDateTime":{}}"#,
    );
    assert!(alert.facts == AlertFacts::default());
    assert_eq!((alert.last_update_text, alert.last_update, alert.created), (None, None, None));
    assert_eq!(graph(r#"{"id":"x","incidentId":-12}"#).facts.incident_id, some("-12"));
    assert_eq!(graph(r#"{"id":"x","incidentId":""}"#).facts.incident_id, None);
}

#[test]
fn an_alert_read_through_two_sources_has_one_set_of_facts_and_nothing_flaps() {
    // An alert that nobody has touched: Graph fills in words where Endpoint sends null or leaves out.
    let facts = |source, json: &str| {
        let facts = alert(source, json).facts;
        (facts.assigned_to, facts.classification, facts.determination)
    };
    let untouched = (None, None, None);
    for json in [
        r#"{"id":"x","assignedTo":null,"classification":"unknown","determination":"unknown"}"#,
        r#"{"id":"x","assignedTo":"","classification":"","determination":null}"#,
        r#"{"id":"x","assignedTo":null,"classification":null,"determination":"NotAvailable"}"#,
        r#"{"id":"x"}"#,
    ] {
        assert_eq!(facts(Source::GraphAlerts, json), untouched, "{json}");
        assert_eq!(facts(Source::MdeAlerts, json), untouched, "{json}");
    }
    let judged = (some("a@b"), some("falsePositive"), some("notMalicious"));
    let by_graph = r#"{"id":"x","assignedTo":"a@b","classification":"falsePositive","determination":"notMalicious"}"#;
    let by_endpoint = r#"{"id":"x","assignedTo":"a@b","classification":"FalsePositive","determination":"Clean"}"#;
    assert_eq!(facts(Source::GraphAlerts, by_graph), judged);
    assert_eq!(facts(Source::MdeAlerts, by_endpoint), judged);
}

#[test]
fn a_type_that_appears_tomorrow_is_stored_like_any_other() {
    let alert = graph(
        r##"{"@odata.type":"#microsoft.graph.security.alertOfTheFuture","id":"zz1","severity":"apocalyptic","evidence":[{"@odata.type":"#x.y"}]}"##,
    );
    assert_eq!((alert.id.as_str(), alert.facts.severity), ("zz1", some("apocalyptic")));
    let incident = incident(r##"{"@odata.type":"#microsoft.graph.security.campaign","id":"9"}"##);
    assert_eq!(incident.id.as_str(), "9");
}

#[test]
fn an_incident_is_read_as_it_is_written() {
    let json = r##"{"@odata.type":"#microsoft.graph.security.incident","id":"2972395","redirectIncidentId":"55","displayName":"Çok aşamalı saldırı",
        "status":"Redirected","severity":"Medium","createdDateTime":"2021-08-13T08:43:35.5533333Z","lastUpdateDateTime":"2021-09-30T09:35:45.1133333Z"}"##;
    let found = incident(json);
    assert_eq!((found.id.as_str(), found.redirect.as_ref().map(IncidentId::as_str)), ("2972395", Some("55")));
    assert_eq!((&*found.raw, found.hash), (json, ContentHash::of(json.as_bytes())));
    assert_eq!(found.last_update, Ticks::parse("2021-09-30T09:35:45.1133333Z"));
    assert_eq!(found.created, Ticks::parse("2021-08-13T08:43:35.5533333Z"));
    assert_eq!((found.title, found.severity, found.status), (some("Çok aşamalı saldırı"), some("medium"), some("redirected")));
}

#[test]
fn an_incident_may_be_numbered_and_may_lack_everything_else() {
    let found = incident(r#"{"id":7,"redirectIncidentId":8}"#);
    assert_eq!((found.id.as_str(), found.redirect.as_ref().map(IncidentId::as_str)), ("7", Some("8")));
    assert_eq!((found.title, found.severity, found.status, found.last_update, found.created), (None, None, None, None, None));
    for redirect in ["null", "\"\"", "-1", "1.5", "1e3", "{}", "\"\\ud800\"", "\"\\u0000\"", "true"] {
        let found =
            incident(&format!(r#"{{"id":"7","redirectIncidentId":{redirect},"displayName":5,"status":null,"lastUpdateDateTime":1}}"#));
        assert_eq!((found.redirect, found.title, found.status, found.last_update), (None, None, None, None), "{redirect}");
    }
    for id in ["-7", "7.0", "7e1", "true"] {
        assert_eq!(reason_from(Source::GraphIncidents, format!(r#"{{"id":{id}}}"#)), "its id is not a text");
    }
    assert_eq!(reason_from(Source::GraphIncidents, format!(r#"{{"id":{}}}"#, "1".repeat(300))), "its id is not a text");
    let title = incident(&format!(r#"{{"id":"7","displayName":"{}\u0000"}}"#, "ı".repeat(5000))).title.unwrap();
    assert!(title.len() <= MAX_TITLE && title.ends_with("ı…"));
}

#[test]
fn whoever_keeps_microseconds_only_loses_the_order_of_two_versions() {
    let stamps = || {
        let stamp =
            |digit| graph(&format!(r#"{{"id":"x","lastUpdateDateTime":"2021-05-02T14:19:01.123456{digit}Z"}}"#)).last_update.unwrap();
        (stamp(6), stamp(7))
    };
    let (older, newer) = stamps();
    assert!(older < newer);
    Rehearsal::default().bug("microseconds-only").begin();
    let (older, newer) = stamps();
    Rehearsal::end();
    assert_eq!(older, newer, "the bug can be planted");
}

#[test]
fn an_absurd_stamp_is_kept_as_text_and_never_costs_an_alert() {
    for (stamp, readable) in [
        ("9999-12-31T23:59:59.9999999Z", true),
        ("0001-01-01T00:00:00Z", true),
        ("", false),
        ("yesterday", false),
        ("2021-05-02T14:19:01", false),
    ] {
        let alert = graph(&format!(r#"{{"id":"x","lastUpdateDateTime":"{stamp}","createdDateTime":"{stamp}"}}"#));
        assert_eq!(alert.last_update_text.as_deref(), Some(stamp));
        assert_eq!((alert.last_update.is_some(), alert.created.is_some()), (readable, readable), "{stamp}");
    }
    assert_eq!(graph(r#"{"id":"x","lastUpdateDateTime":"a\u0000b"}"#).last_update_text, some("a\u{fffd}b"));
    assert_eq!(graph(&format!(r#"{{"id":"x","lastUpdateDateTime":"{}"}}"#, "9".repeat(300))).last_update_text, None);
}

#[test]
fn fault_28_the_last_of_two_members_counts() {
    let alert = graph(r#"{"id":"a","id":"b","title":"one","title":"two"}"#);
    assert_eq!((alert.id.as_str(), alert.facts.title), ("b", some("two")));
}

#[test]
fn fault_29_text_that_postgres_cannot_hold_is_patched_in_columns_and_kept_in_the_body() {
    let json = r#"{"id":"x","title":"cmd \u0000 \ud83d end","status":"\u0000","incidentId":"\udc00","category":"\u0000a"}"#;
    let alert = graph(json);
    assert_eq!(&*alert.raw, json);
    assert_eq!(alert.facts.title, some("cmd \u{fffd} \u{fffd} end"));
    assert_eq!(
        (alert.facts.status, alert.facts.incident_id, alert.facts.category),
        (some("\u{fffd}"), some("\u{fffd}"), some("\u{fffd}a"))
    );
}

#[test]
fn a_column_is_cut_at_a_letter_and_says_so() {
    let alert = graph(&format!(r#"{{"id":"x","title":"{0}","status":"{0}"}}"#, "ı".repeat(5000)));
    let (title, status) = (alert.facts.title.unwrap(), alert.facts.status.unwrap());
    assert!(title.len() <= MAX_TITLE && title.len() > MAX_TITLE - 4 && title.ends_with("ı…"));
    assert!(status.len() <= MAX_WORD && status.ends_with("ı…"));
}

#[test]
fn fault_26_ids_that_differ_in_case_are_two_ids() {
    assert_eq!(graph(r#"{"id":"caD70CFEE2-İı"}"#).id.as_str(), "caD70CFEE2-İı");
    assert_ne!(graph(r#"{"id":"A"}"#).id, graph(r#"{"id":"a"}"#).id);
    assert_eq!(graph(r#"{"id":"\u0041"}"#).id.as_str(), "A");
    assert_eq!(graph(&format!(r#"{{"id":"{}"}}"#, "x".repeat(1024))).id.as_str().len(), 1024);
}

#[test]
fn what_cannot_be_an_alert_says_why() {
    for (json, expected) in [
        ("", "not a JSON object"),
        ("null", "not a JSON object"),
        ("[{\"id\":\"x\"}]", "not a JSON object"),
        ("\"id\"", "not a JSON object"),
        ("{}", "has no id"),
        (r#"{"Id":"x"}"#, "has no id"),
        (r#"{"id":null}"#, "its id is not a text"),
        (r#"{"id":5}"#, "its id is not a text"),
        (r#"{"id":["x"]}"#, "its id is not a text"),
        (r#"{"id":""}"#, "its id is empty"),
        (r#"{"id":"a\u0000"}"#, "its id holds a NUL"),
        (r#"{"id":"\ud800"}"#, "its id holds a lone surrogate"),
        (r#"{"id":"a","id":""}"#, "its id is empty"),
        (r#"{"id":"x""#, "not valid JSON"),
        (r#"{"id":"x"} {}"#, "not valid JSON"),
        (r#"{"id":"x",}"#, "not valid JSON"),
        (r#"{"id":"x","n":01}"#, "not valid JSON"),
        (r#"{"id":"x","n":1.}"#, "not valid JSON"),
        (r#"{"id":"x","n":+1}"#, "not valid JSON"),
        (r#"{"id":"x","n":0x1}"#, "not valid JSON"),
        (r#"{"id":"x","n":NaN}"#, "not valid JSON"),
        (r#"{"id":"x","s":"\x41"}"#, "not valid JSON"),
        (r#"{"id":"x","s":"\u00g0"}"#, "not valid JSON"),
        ("{\"id\":\"x\",\"s\":\"a\nb\"}", "not valid JSON"),
        ("{\"id\":\"x\",\"a\u{1}b\":1}", "not valid JSON"),
        ("{\"id\":\"x\",\"a\\\"\u{1}b\":1}", "not valid JSON"),
        ("{\"id\":\"x\"\u{a0}}", "not valid JSON"),
        ("\u{feff}{\"id\":\"x\"}", "not a JSON object"),
    ] {
        assert_eq!(reason(json), expected, "{json:?}");
        // An incident may be numbered; everything else that spoils an alert spoils an incident.
        if json != r#"{"id":5}"# {
            assert_eq!(reason_from(Source::GraphIncidents, json), expected, "{json:?}");
        }
    }
    assert_eq!(reason(b"{\"id\":\"x\",\"s\":\"\xff\"}"), "not valid UTF-8");
    assert_eq!(reason(b"{\"id\":\"x\",\"s\":\"\xed\xa0\x80\"}"), "not valid UTF-8");
}

#[test]
fn fault_31_an_alert_of_20_mb_is_an_alert_and_a_larger_one_is_poison() {
    let sized = |size: usize| {
        let json = r#"{"id":"x","s":""}"#;
        json.replace(r#""s":""#, &format!(r#""s":"{}"#, "y".repeat(size - json.len())))
    };
    let largest = sized(MAX_RECORD);
    assert_eq!(largest.len(), MAX_RECORD);
    assert_eq!(graph(&largest).raw.len(), MAX_RECORD);
    assert_eq!(reason(sized(MAX_RECORD + 1)), "larger than 20 MB");
    assert_eq!(reason_from(Source::GraphIncidents, sized(MAX_RECORD + 1)), "larger than 20 MB");
}

#[test]
fn fault_32_an_id_too_long_for_an_index_is_poison() {
    for source in Source::ALL {
        assert_eq!(reason_from(*source, format!(r#"{{"id":"{}"}}"#, "ı".repeat(513))), "its id is longer than 1024 bytes");
        assert_eq!(reason_from(*source, format!(r#"{{"id":"{}"}}"#, "x".repeat(10_000))), "its id is longer than 1024 bytes");
    }
}

#[test]
fn fault_30_depth_is_counted_in_brackets_outside_of_texts() {
    let nested = |levels: usize| format!(r#"{{"id":"x","a":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert_eq!(graph(&nested(MAX_DEPTH - 1)).id.as_str(), "x");
    assert_eq!(reason(nested(MAX_DEPTH)), "more than 100 levels deep");
    assert_eq!(reason(nested(10_000)), "more than 100 levels deep");
    assert_eq!(reason(nested(1_000_000)), "more than 100 levels deep");
    assert_eq!(graph(&format!(r#"{{"id":"x","a":"{}\"{}"}}"#, "[".repeat(500), "{".repeat(500))).id.as_str(), "x");
}

#[test]
fn numbers_and_names_of_any_size_are_the_bodys_own_business() {
    graph(r#"{"id":"x","n":1e999999,"m":-0,"k":123456789012345678901234567890.5E-400,"":1,"\ud800":2,"\u0000":3}"#);
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic_and_none_are_changed(raw in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        for source in Source::ALL {
            let found = record(*source, Bytes::from(raw.clone()));
            let kept = match &found {
                Record::Alert(alert) => alert.raw.as_bytes(),
                Record::Incident(incident) => incident.raw.as_bytes(),
                Record::Poison(poison) => &poison.raw,
            };
            proptest::prop_assert_eq!(kept.as_ref(), raw.as_slice());
        }
    }

    #[test]
    fn no_column_ever_holds_a_nul(title in "(\\\\u0000|\\\\ud8[0-9a-f]{2}|a|\\\\\\\\|\\\\\"){0,20}") {
        let json = format!(r#"{{"id":"x","title":"{title}","severity":"{title}","lastUpdateDateTime":"{title}"}}"#);
        let alert = graph(&json);
        for text in [alert.facts.title, alert.facts.severity, alert.last_update_text] {
            proptest::prop_assert!(!text.unwrap().contains('\0'));
        }
    }
}
