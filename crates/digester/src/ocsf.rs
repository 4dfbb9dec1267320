//! An alert as an OCSF event of class Detection Finding (2004), version 1.3.0 of the schema, <https://schema.ocsf.io/1.3.0>.
//!
//! Made from the columns of the alert and the facts of its body, never in SQL. Words that the schema does not know are told
//! as they are, under the number for "other".

mod event;

use domain::Ticks;
use microsoft::evidence::Facts;

/// The version of the schema that the events follow.
pub const VERSION: &str = "1.3.0";

const OTHER: u32 = 99;

/// The columns of an alert that an event is made of.
#[derive(Clone, Debug)]
pub(crate) struct Columns<'a> {
    pub(crate) directory_id: &'a str,
    pub(crate) alert_id: &'a str,
    pub(crate) title: &'a str,
    pub(crate) severity: &'a str,
    pub(crate) status: &'a str,
    pub(crate) service_source: &'a str,
    pub(crate) detection_source: &'a str,
    pub(crate) category: &'a str,
    pub(crate) created: Option<Ticks>,
    pub(crate) updated: Option<Ticks>,
    pub(crate) stored: Ticks,
    pub(crate) versions: i32,
}

/// Number and caption of a severity in Microsoft's words.
fn severity(word: &str) -> (u32, &str) {
    match word {
        "" | "unknown" => (0, "Unknown"),
        "informational" => (1, "Informational"),
        "low" => (2, "Low"),
        "medium" => (3, "Medium"),
        "high" => (4, "High"),
        "critical" => (5, "Critical"),
        other => (OTHER, other),
    }
}

/// The same for a status.
fn status(word: &str) -> (u32, &str) {
    match word {
        "" | "unknown" => (0, "Unknown"),
        "new" => (1, "New"),
        "inProgress" => (2, "In Progress"),
        "resolved" => (4, "Resolved"),
        other => (OTHER, other),
    }
}

/// What the latest state of an alert did to the finding.
fn activity(alert: &Columns<'_>) -> (u32, &'static str) {
    match (alert.status, alert.versions) {
        ("resolved", _) => (3, "Close"),
        (_, ..=1) => (1, "Create"),
        _ => (2, "Update"),
    }
}

fn said(word: &str) -> Option<&str> {
    (!word.is_empty()).then_some(word)
}

/// The event as JSON. What is absent has no member at all.
pub(crate) fn finding(alert: &Columns<'_>, facts: &Facts) -> String {
    // Nothing that is written here can fail to be: texts, numbers, and lists of them.
    serde_json::to_string(&event::Event::of(alert, facts)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use microsoft::evidence::{Kind, Thing};
    use serde_json::{Value, json};

    use super::*;

    /// What the schema requires of this class and of the objects in it: where, and of which type. `[]` is every item.
    const REQUIRED: &[(&str, char)] = &[
        ("activity_id", 'n'),
        ("category_uid", 'n'),
        ("class_uid", 'n'),
        ("finding_info.title", 't'),
        ("finding_info.uid", 't'),
        ("finding_info.analytic.type_id", 'n'),
        ("finding_info.attacks.[].technique.uid", 't'),
        ("metadata.product.vendor_name", 't'),
        ("metadata.version", 't'),
        ("severity_id", 'n'),
        ("time", 'n'),
        ("type_uid", 'n'),
        ("observables.[].name", 't'),
        ("observables.[].type_id", 'n'),
    ];

    fn at<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
        path.split('.').fold(vec![value], |found, name| match name {
            "[]" => found.into_iter().flat_map(|value| value.as_array().into_iter().flatten()).collect(),
            name => found.into_iter().map(|value| &value[name]).collect(),
        })
    }

    fn thing(kind: Kind, value: &str) -> Thing {
        Thing { kind, value: value.into(), roles: vec!["attacked".into()], verdict: Some("malicious".into()), file_name: None }
    }

    fn finding(alert: &Columns<'_>, facts: &Facts) -> Value {
        serde_json::from_str(&super::finding(alert, facts)).unwrap()
    }

    const KINDS: [Kind; 7] = [Kind::Device, Kind::User, Kind::Ip, Kind::FileHash, Kind::Url, Kind::Mailbox, Kind::Process];

    fn facts() -> Facts {
        Facts {
            things: KINDS.into_iter().map(|kind| thing(kind, "v")).collect(),
            techniques: vec!["T1059".into(), "T1564.001".into()],
            description: Some("what happened".into()),
            detector: Some("d-1".into()),
            product: None,
            active: (Ticks::parse("2026-11-20T06:00:00Z"), None),
        }
    }

    /// An alert of which only the id is known.
    fn sparse() -> Columns<'static> {
        Columns {
            directory_id: "dir",
            alert_id: "da1",
            title: "",
            severity: "",
            status: "",
            service_source: "",
            detection_source: "",
            category: "",
            created: None,
            updated: None,
            stored: Ticks::parse("2026-11-20T07:01:00Z").unwrap(),
            versions: 1,
        }
    }

    fn alert() -> Columns<'static> {
        let created = Ticks::parse("2026-11-20T07:00:00.1234567Z");
        Columns { title: "t", severity: "high", status: "new", created, ..sparse() }
    }

    #[test]
    fn every_required_attribute_is_there_and_of_its_type() {
        for (told, event) in [("full", finding(&alert(), &facts())), ("sparse", finding(&sparse(), &Facts::default()))] {
            for (path, kind) in REQUIRED {
                let found = at(&event, path);
                // What is required of an object is required where there is the object.
                let optional = path.contains("[]") || path.contains("analytic");
                assert!(!found.is_empty() || optional, "{told}: {path}");
                for value in found {
                    let fits =
                        if *kind == 'n' { value.is_i64() || value.is_u64() } else { value.as_str().is_some_and(|text| !text.is_empty()) };
                    assert!(fits || (optional && told == "sparse" && value.is_null()), "{told}: {path} is {value}");
                }
            }
            assert_eq!((&event["class_uid"], &event["category_uid"]), (&json!(2004), &json!(2)));
            assert_eq!(event["type_uid"], json!(200_400 + event["activity_id"].as_u64().unwrap()));
            assert_eq!(event["metadata"]["version"], VERSION);
        }
    }

    #[test]
    fn every_kind_of_thing_is_an_artifact_and_an_observable_that_points_to_it() {
        let event = finding(&alert(), &facts());
        let evidences = event["evidences"].as_array().unwrap();
        assert_eq!(evidences.len(), KINDS.len());
        // An artifact needs at least one of these members.
        let members = ["device", "user", "src_endpoint", "file", "url", "process"];
        assert!(evidences.iter().all(|artifact| members.iter().any(|member| artifact[member].is_object())), "{evidences:?}");
        assert_eq!(evidences[0]["data"], json!({ "verdict": "malicious", "roles": ["attacked"] }));
        for observable in event["observables"].as_array().unwrap() {
            let pointer = format!("/{}", observable["name"].as_str().unwrap().replace(['.', '['], "/").replace(']', ""));
            assert_eq!(event.pointer(&pointer), Some(&observable["value"]), "{pointer}");
        }
        let hash = "a".repeat(64);
        let named = Thing { file_name: Some("x.exe".into()), ..thing(Kind::FileHash, &hash) };
        let file = &finding(&alert(), &Facts { things: vec![named], ..facts() })["evidences"][0]["file"];
        assert_eq!((&file["name"], &file["hashes"][0]["algorithm_id"]), (&json!("x.exe"), &json!(3)));
        assert_eq!(
            event["finding_info"]["attacks"][1],
            json!({ "technique": { "uid": "T1564" }, "sub_technique": { "uid": "T1564.001" } })
        );
    }

    #[test]
    fn words_are_numbers_of_the_schema_and_unknown_ones_are_told_as_they_are() {
        for (word, id, caption) in [("", 0, "Unknown"), ("informational", 1, "Informational"), ("high", 4, "High"), ("dire", 99, "dire")] {
            assert_eq!(severity(word), (id, caption));
        }
        for (word, id, caption) in
            [("new", 1, "New"), ("inProgress", 2, "In Progress"), ("resolved", 4, "Resolved"), ("onHold", 99, "onHold")]
        {
            assert_eq!(status(word), (id, caption));
        }
        for (status, versions, is) in [("new", 1, 1), ("new", 2, 2), ("resolved", 1, 3), ("resolved", 9, 3)] {
            assert_eq!(activity(&Columns { status, versions, ..alert() }).0, is, "{status} {versions}");
        }
    }

    #[test]
    fn times_are_milliseconds_and_the_event_is_as_old_as_the_last_change() {
        let event = finding(&alert(), &facts());
        assert_eq!(event["time"], json!(1_795_158_000_123_i64));
        assert_eq!(event["metadata"]["logged_time"], json!(1_795_158_060_000_i64));
        assert_eq!(event["finding_info"]["first_seen_time"], json!(1_795_154_400_000_i64));
        assert!(event["finding_info"].get("last_seen_time").is_none(), "what is absent has no member");
    }
}
