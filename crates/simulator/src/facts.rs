//! The few facts of a record that a caller can filter and sort by, and how they are read out of a record that
//! somebody else wrote. The record itself is never touched.

use crate::alerts::face::Face;
use crate::alerts::products::endpoint_detection;
use crate::alerts::state::State;
use crate::alerts::{Alert, products::Template};
use crate::incidents::Incident;
use crate::stamp::Stamp;
use crate::vocabulary::endpoint_word;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

type Word = Option<Cow<'static, str>>;

/// What a record can be filtered by, in the spelling of the API that shows it.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Where it stands in the order of last updates.
    pub(crate) updated: Stamp,
    /// The body says `null` for its last update: no filter on it matches.
    pub(crate) never_updated: bool,
    pub(crate) created: Option<Stamp>,
    last_event: Option<Stamp>,
    severity: Word,
    status: Word,
    service_source: Word,
    detection_source: Word,
    category: Word,
    assigned_to: Word,
    classification: Word,
    determination: Word,
    pub(crate) incident: Option<i64>,
    investigation: Option<i64>,
}

/// A fact by name, independent of how an API calls it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Field {
    Id,
    Updated,
    Created,
    LastEvent,
    Severity,
    Status,
    ServiceSource,
    DetectionSource,
    Category,
    AssignedTo,
    Classification,
    Determination,
    Incident,
    Investigation,
}

/// A fact as a filter compares it.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(crate) enum Value<'a> {
    Null,
    Time(Stamp),
    Text(&'a str),
    Number(i64),
}

impl Facts {
    pub(crate) fn get(&self, field: Field) -> Value<'_> {
        fn word(word: &Word) -> Value<'_> {
            word.as_deref().map_or(Value::Null, Value::Text)
        }
        match field {
            Field::Id => Value::Null,
            Field::Updated if self.never_updated => Value::Null,
            Field::Updated => Value::Time(self.updated),
            Field::Created => self.created.map_or(Value::Null, Value::Time),
            Field::LastEvent => self.last_event.map_or(Value::Null, Value::Time),
            Field::Severity => word(&self.severity),
            Field::Status => word(&self.status),
            Field::ServiceSource => word(&self.service_source),
            Field::DetectionSource => word(&self.detection_source),
            Field::Category => word(&self.category),
            Field::AssignedTo => word(&self.assigned_to),
            Field::Classification => word(&self.classification),
            Field::Determination => word(&self.determination),
            Field::Incident => self.incident.map_or(Value::Null, Value::Number),
            Field::Investigation => self.investigation.map_or(Value::Null, Value::Number),
        }
    }

    /// What Graph's caller can filter an alert of ours by.
    pub(crate) fn graph(face: &Face, alert: &Alert) -> Facts {
        let state = State::after(face, alert, alert.versions());
        let template = alert.template(face);
        let unset = face.index.is_multiple_of(2).then_some(Cow::Borrowed("unknown"));
        Facts {
            severity: Some(state.severity.into()),
            status: Some(state.status.into()),
            detection_source: Some(template.detection.into()),
            classification: state.classification.map(Cow::Borrowed).or_else(|| unset.clone()),
            determination: state.determination.map(Cow::Borrowed).or(unset),
            ..Facts::common(alert, state, template)
        }
    }

    /// What the caller of Defender for Endpoint can filter the same alert by.
    pub(crate) fn endpoint(face: &Face, alert: &Alert) -> Facts {
        let state = State::after(face, alert, alert.versions());
        let template = alert.template(face);
        Facts {
            severity: Some(endpoint_word(state.severity).into()),
            status: Some(endpoint_word(state.status).into()),
            detection_source: Some(endpoint_detection(template.detection).into()),
            classification: state.classification.map(|word| endpoint_word(word).into()),
            determination: state.determination.map(|word| endpoint_word(word).into()),
            ..Facts::common(alert, state, template)
        }
    }

    /// What the caller can filter an incident by.
    pub(crate) fn incident(incident: &Incident) -> Facts {
        Facts {
            updated: incident.updated,
            never_updated: false,
            created: Some(incident.created),
            last_event: None,
            severity: Some(incident.severity.into()),
            status: Some(incident.status.into()),
            service_source: None,
            detection_source: None,
            category: None,
            assigned_to: incident.assigned_to.clone().map(Cow::Owned),
            classification: Some(incident.classification.into()),
            determination: Some(incident.determination.into()),
            incident: Some(i64::from(incident.number)),
            investigation: None,
        }
    }

    fn common(alert: &Alert, state: State, template: &Template) -> Facts {
        Facts {
            updated: state.updated,
            never_updated: false,
            created: Some(alert.created),
            last_event: Some(alert.created),
            severity: None,
            status: None,
            service_source: Some(template.service.into()),
            detection_source: None,
            category: Some(template.category.into()),
            assigned_to: state.assigned_to.map(Cow::Owned),
            classification: None,
            determination: None,
            incident: Some(i64::from(state.incident)),
            investigation: state.investigation_id,
        }
    }
}

/// What could be read from a record that was given as bytes.
pub(crate) struct Probed {
    pub(crate) id: Option<String>,
    /// The last-update text as it stands in the record, readable or not.
    pub(crate) last_update: Option<String>,
    pub(crate) facts: Facts,
}

/// Reads what it can from a record; `now` stands in for a last update that cannot be read.
pub(crate) fn probe(record: &[u8], now: Stamp) -> Probed {
    let text = String::from_utf8_lossy(record);
    let members = serde_json::from_str::<Members<'_>>(&text).map(|members| members.0).unwrap_or_default();
    let first =
        |names: &[&str]| names.iter().find_map(|name| members.get(*name)).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let word = |names: &[&str]| first(names).map(Cow::Owned);
    let number = |name: &str| members.get(name).and_then(|raw| raw.get().trim_matches('"').parse().ok());
    let stamp = |names: &[&str]| first(names).as_deref().and_then(Stamp::parse);
    let last_update = first(LAST_UPDATE);
    let never_updated = LAST_UPDATE.iter().any(|name| members.get(*name).is_some_and(|raw| raw.get() == "null"));
    Probed {
        id: first(&["id"]),
        facts: Facts {
            updated: last_update.as_deref().and_then(Stamp::parse).unwrap_or(now),
            never_updated,
            created: stamp(&["createdDateTime", "alertCreationTime"]),
            last_event: stamp(&["lastEventTime"]),
            severity: word(&["severity"]),
            status: word(&["status"]),
            service_source: word(&["serviceSource"]),
            detection_source: word(&["detectionSource"]),
            category: word(&["category"]),
            assigned_to: word(&["assignedTo"]),
            classification: word(&["classification"]),
            determination: word(&["determination"]),
            incident: number("incidentId"),
            investigation: number("investigationId"),
        },
        last_update,
    }
}

/// The incident that an incident says it was merged into.
pub(crate) fn redirect(incident: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Merged {
        #[serde(rename = "redirectIncidentId")]
        into: Option<String>,
    }
    serde_json::from_slice::<Merged>(incident).ok()?.into
}

const LAST_UPDATE: &[&str] = &["lastUpdateDateTime", "lastUpdateTime", "lastUpdatedTime"];

#[rustfmt::skip]
const WANTED: &[&str] = &["id", "lastUpdateDateTime", "lastUpdateTime", "lastUpdatedTime", "createdDateTime", "alertCreationTime", "lastEventTime",
    "severity", "status", "serviceSource", "detectionSource", "category", "assignedTo", "classification", "determination", "incidentId", "investigationId"];

/// The members we want, of an object with any others, however deep those are nested.
struct Members<'a>(HashMap<String, &'a RawValue>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = HashMap<String, &'de RawValue>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = HashMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if WANTED.contains(&name.as_str()) {
                        members.insert(name, map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Collect).map(Members)
    }
}
