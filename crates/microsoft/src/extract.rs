//! One raw record to an alert, or to poison.
//!
//! Nothing about an alert is required but an id and a body that Postgres can cast to `json`. Whatever
//! else is missing, new, or of a type that was never documented is simply absent from the columns of
//! the dashboard; the raw body has it. What fails even that is poison: kept raw, told apart by its
//! reason, and never in the way of its neighbours (I6).

mod words;

use bytes::Bytes;
use domain::{AlertFacts, AlertId, AlertRecord, ContentHash, Poison, Record, Source, Ticks};
use serde_json::value::RawValue;

use crate::members::{lenient_text, members, text};

/// Deeper is not cast to `json` with Postgres' default stack, some way on; no alert comes near it.
const MAX_DEPTH: usize = 100;
/// A record above this is no alert.
const MAX_RECORD: usize = 20_000_000;
/// An id is part of an index key, and Postgres bounds those.
const MAX_ID: usize = 1024;
/// A column of the dashboard holds this much; the raw body holds the rest.
const MAX_WORD: usize = 256;
/// The same for the headline.
const MAX_TITLE: usize = 4096;
/// A text longer than this is no stamp.
const MAX_STAMP: usize = 256;

/// What the two APIs call the same two stamps.
struct Names {
    last_update: &'static str,
    created: &'static str,
}

/// Reads one record as a source delivered it. Never fails: what is no alert is poison.
pub fn record(source: Source, raw: Bytes) -> Record {
    match read(source, &raw) {
        Ok(known) => Record::Alert(AlertRecord {
            id: known.id,
            hash: ContentHash::of(&raw),
            last_update_text: known.last_update_text,
            last_update: known.last_update,
            created: known.created,
            facts: known.facts,
            raw,
        }),
        Err(reason) => Record::Poison(Poison::new(reason, raw)),
    }
}

/// What is read out of a record.
struct Known {
    id: AlertId,
    last_update_text: Option<String>,
    last_update: Option<Ticks>,
    created: Option<Ticks>,
    facts: AlertFacts,
}

fn read(source: Source, raw: &[u8]) -> Result<Known, &'static str> {
    if raw.len() > MAX_RECORD {
        return Err("larger than 20 MB");
    }
    let json = std::str::from_utf8(raw).map_err(|_| "not valid UTF-8")?;
    if !json.trim_ascii_start().starts_with('{') {
        return Err("not a JSON object");
    }
    check_shape(raw)?;
    let names = match source {
        Source::MdeAlerts => Names { last_update: "lastUpdateTime", created: "alertCreationTime" },
        Source::GraphAlerts | Source::GraphIncidents => Names { last_update: "lastUpdateDateTime", created: "createdDateTime" },
    };
    let [id, last_update, created, incident, title, severity, status, service, detection, category] = members(
        json,
        [
            "id",
            names.last_update,
            names.created,
            "incidentId",
            "title",
            "severity",
            "status",
            "serviceSource",
            "detectionSource",
            "category",
        ],
    )
    .map_err(|_| "not valid JSON")?;
    let last_update_text = lenient_text(last_update).filter(|text| text.len() <= MAX_STAMP);
    let service_source = match source {
        // This API has one product and does not name it.
        Source::MdeAlerts => Some(words::ENDPOINT.to_owned()),
        Source::GraphAlerts | Source::GraphIncidents => word(service).map(words::service_source),
    };
    Ok(Known {
        id: read_id(id)?,
        last_update: last_update_text.as_deref().and_then(Ticks::parse),
        last_update_text,
        created: lenient_text(created).as_deref().and_then(Ticks::parse),
        facts: AlertFacts {
            incident_id: word(incident).or_else(|| number(incident)).filter(|id| !id.is_empty()),
            title: lenient_text(title).map(|text| cut(text, MAX_TITLE)),
            severity: word(severity).map(|text| words::severity(source, text)),
            status: word(status).map(|text| words::status(source, text)),
            service_source,
            detection_source: word(detection).map(|text| words::detection_source(source, text)),
            category: word(category),
        },
    })
}

/// An id is taken exactly or not at all: a patched one could be another alert's.
fn read_id(member: Option<&RawValue>) -> Result<AlertId, &'static str> {
    let member = member.ok_or("has no id")?;
    if !member.get().starts_with('"') {
        return Err("its id is not a text");
    }
    let id = text(Some(member)).ok_or("its id holds a lone surrogate")?;
    match id.as_ref() {
        "" => Err("its id is empty"),
        id if id.contains('\0') => Err("its id holds a NUL"),
        id if id.len() > MAX_ID => Err("its id is longer than 1024 bytes"),
        id => Ok(AlertId::new(id)),
    }
}

fn word(member: Option<&RawValue>) -> Option<String> {
    lenient_text(member).map(|text| cut(text, MAX_WORD))
}

/// A number as it is written. Endpoint numbers its incidents, Graph spells the same number as text.
fn number(member: Option<&RawValue>) -> Option<String> {
    let text = member?.get();
    let starts_like_one = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    (starts_like_one && text.len() <= MAX_WORD).then(|| text.to_owned())
}

/// At most `limit` bytes, at a letter's border, with an ellipsis where something is missing.
fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit - '…'.len_utf8()));
        text.push('…');
    }
    text
}

/// Bounds the depth, and finds raw control characters inside texts.
///
/// The second is for member names: they are read as bytes, where serde's own check does not look.
fn check_shape(raw: &[u8]) -> Result<(), &'static str> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in raw {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                0..=0x1F => return Err("not valid JSON"),
                _ => {}
            }
        } else {
            match byte {
                b'"' => in_text = true,
                b'{' | b'[' => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err("more than 100 levels deep");
                    }
                }
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(source: Source, json: &str) -> AlertRecord {
        match record(source, Bytes::copy_from_slice(json.as_bytes())) {
            Record::Alert(alert) => alert,
            Record::Poison(poison) => panic!("{}: {json}", poison.reason),
        }
    }

    fn graph(json: &str) -> AlertRecord {
        alert(Source::GraphAlerts, json)
    }

    fn reason(raw: impl AsRef<[u8]>) -> String {
        match record(Source::GraphAlerts, Bytes::copy_from_slice(raw.as_ref())) {
            Record::Alert(alert) => panic!("{alert:?} should be poison"),
            Record::Poison(poison) => {
                assert_eq!((poison.raw.as_ref(), poison.hash), (raw.as_ref(), ContentHash::of(raw.as_ref())));
                poison.reason
            }
        }
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn an_alert_of_graph_is_read_as_it_is_written() {
        let json = r##"{"@odata.type":"#microsoft.graph.security.alert","id":"daABC_1","incidentId":"28282","status":"new","severity":"low",
            "serviceSource":"microsoftDefenderForEndpoint","detectionSource":"antivirus","title":"Şüpheli ıslık – mistænkelig fil","category":"DefenseEvasion",
            "createdDateTime":"2021-04-27T12:19:27.7211305Z","lastUpdateDateTime":"2021-05-02T14:19:01.3266667Z","evidence":[{"id":"not this"}]}"##;
        let alert = graph(json);
        assert_eq!(alert.id.as_str(), "daABC_1");
        assert_eq!((alert.raw.as_ref(), alert.hash), (json.as_bytes(), ContentHash::of(json.as_bytes())));
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
        };
        assert!(alert.facts == facts);
    }

    #[test]
    fn an_alert_of_endpoint_is_told_in_graphs_words() {
        let alert = alert(
            Source::MdeAlerts,
            r#"{"id":"da637308392288907382_-880718168","incidentId":7587,"severity":"UnSpecified","status":"InProgress","detectionSource":"WindowsDefenderAv",
               "category":"SuspiciousActivity","title":"t","alertCreationTime":"2020-07-20T10:53:48.7657932Z","lastUpdateTime":"2020-07-20T10:53:50.19Z",
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
    fn a_type_that_was_never_documented_leaves_a_column_empty() {
        let alert = graph(
            r#"{"id":"x","title":5,"severity":["high"],"status":{"a":1},"category":null,"incidentId":true,"serviceSource":false,"detectionSource":1.5,
               "lastUpdateDateTime":1577836800,"createdDateTime":{}}"#,
        );
        assert!(alert.facts == AlertFacts::default());
        assert_eq!((alert.last_update_text, alert.last_update, alert.created), (None, None, None));
        assert_eq!(graph(r#"{"id":"x","incidentId":-12}"#).facts.incident_id, some("-12"));
        assert_eq!(graph(r#"{"id":"x","incidentId":""}"#).facts.incident_id, None);
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
    fn the_last_of_two_members_counts() {
        let alert = graph(r#"{"id":"a","id":"b","title":"one","title":"two"}"#);
        assert_eq!((alert.id.as_str(), alert.facts.title), ("b", some("two")));
    }

    #[test]
    fn text_that_postgres_cannot_hold_is_patched_in_columns_and_kept_in_the_body() {
        let json = r#"{"id":"x","title":"cmd \u0000 \ud83d end","status":"\u0000","incidentId":"\udc00","category":"\u0000a"}"#;
        let alert = graph(json);
        assert_eq!(alert.raw, json.as_bytes());
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
    fn ids_that_differ_in_case_are_two_ids() {
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
        }
        assert_eq!(reason(format!(r#"{{"id":"{}"}}"#, "ı".repeat(513))), "its id is longer than 1024 bytes");
        assert_eq!(reason(b"{\"id\":\"x\",\"s\":\"\xff\"}"), "not valid UTF-8");
        assert_eq!(reason(b"{\"id\":\"x\",\"s\":\"\xed\xa0\x80\"}"), "not valid UTF-8");
        assert_eq!(reason(format!(r#"{{"id":"x","s":"{}"}}"#, "y".repeat(MAX_RECORD))), "larger than 20 MB");
    }

    #[test]
    fn depth_is_counted_in_brackets_outside_of_texts() {
        let nested = |levels: usize| format!(r#"{{"id":"x","a":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
        assert_eq!(graph(&nested(MAX_DEPTH - 1)).id.as_str(), "x");
        assert_eq!(reason(nested(MAX_DEPTH)), "more than 100 levels deep");
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
                let kept = match &found { Record::Alert(alert) => &alert.raw, Record::Poison(poison) => &poison.raw };
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
}
