//! One raw record to an alert or an incident, or to poison.
//!
//! Nothing about a record is required but an id and a body that Postgres can cast to `json`. Whatever
//! else is missing, new, or of a type that was never documented is simply absent from the columns of
//! the dashboard; the raw body has it. What fails even that is poison: kept raw, told apart by its
//! reason, and never in the way of its neighbours (I6).

mod shape;
mod words;

use bytes::Bytes;
use bytestring::ByteString;
use domain::rehearsal::bug;
use domain::{AlertFacts, AlertId, AlertRecord, ContentHash, IncidentId, IncidentRecord, Poison, Record, Source, Ticks};
use serde_json::value::RawValue;

use crate::members::{Found, lenient_text, members, text};
use crate::split::{Split, split};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use shape::MAX_DEPTH;

/// A record above this is no alert.
pub(crate) const MAX_RECORD: usize = 20_000_000;
/// An id is part of an index key, and Postgres bounds those.
pub(crate) const MAX_ID: usize = 1024;
/// A column of the dashboard holds this much; the raw body holds the rest.
pub(crate) const MAX_WORD: usize = 256;
/// The same for the headline.
pub(crate) const MAX_TITLE: usize = 4096;
/// A text longer than this is no stamp.
pub(crate) const MAX_STAMP: usize = 256;

/// The members of an alert that matter, by the names that an API has for them.
fn names(source: Source) -> [&'static str; 13] {
    // What the two APIs call the same two stamps.
    let (updated, created) = match source {
        Source::MdeAlerts => ("lastUpdateTime", "alertCreationTime"),
        Source::GraphAlerts | Source::GraphIncidents => ("lastUpdateDateTime", "createdDateTime"),
    };
    [
        "id",
        updated,
        created,
        "incidentId",
        "title",
        "severity",
        "status",
        "serviceSource",
        "detectionSource",
        "category",
        "assignedTo",
        "classification",
        "determination",
    ]
}

/// Those of an incident.
const INCIDENT: [&str; 7] = ["id", "lastUpdateDateTime", "createdDateTime", "displayName", "severity", "status", "redirectIncidentId"];

/// Reads a page as a source delivered it: its records in order. `None` when it is no page.
pub(crate) fn page(source: Source, page: &Bytes) -> Option<Split<Record>> {
    match source {
        Source::GraphIncidents => split(page, INCIDENT, |raw, found| or_poison(incident(&raw, found), raw)),
        Source::GraphAlerts | Source::MdeAlerts => split(page, names(source), |raw, found| or_poison(alert(source, &raw, found), raw)),
    }
}

/// Reads one record as a source delivered it. Never fails: what is no record of its kind is poison.
pub fn record(source: Source, raw: Bytes) -> Record {
    let read = match source {
        Source::GraphIncidents => incident(&raw, None),
        Source::GraphAlerts | Source::MdeAlerts => alert(source, &raw, None),
    };
    or_poison(read, raw)
}

fn or_poison(read: Result<Record, &'static str>, raw: Bytes) -> Record {
    read.unwrap_or_else(|reason| Record::Poison(Poison::new(reason, raw)))
}

/// `found` are its members, if somebody has looked for them already and it is one valid object.
fn alert(source: Source, raw: &Bytes, found: Option<Found<'_, 13>>) -> Result<Record, &'static str> {
    let json = check(raw)?;
    let [id, updated, created, incident, title, severity, status, service, detection, category, assignee, class, determination] =
        found.map_or_else(|| members(&json, names(source)), Ok).map_err(|_| "not valid JSON")?;
    let id = AlertId::new(read_id(id.ok_or(NO_ID)?)?);
    let last_update_text = lenient_text(updated).filter(|text| text.len() <= MAX_STAMP);
    let service_source = match source {
        // This API has one product and does not name it.
        Source::MdeAlerts => Some(words::ENDPOINT.to_owned()),
        Source::GraphAlerts | Source::GraphIncidents => word(service).map(words::service_source),
    };
    let facts = AlertFacts {
        incident_id: word(incident).or_else(|| number(incident)).filter(|id| !id.is_empty()),
        title: lenient_text(title).map(|text| cut(text, MAX_TITLE)),
        severity: word(severity).map(|text| words::severity(source, text)),
        status: word(status).map(|text| words::status(source, text)),
        service_source,
        detection_source: word(detection).map(|text| words::detection_source(source, text)),
        category: word(category),
        assigned_to: word(assignee).filter(|name| !name.is_empty()),
        classification: word(class).and_then(|text| words::classification(source, text)),
        determination: word(determination).and_then(|text| words::determination(source, text)),
    };
    Ok(Record::Alert(AlertRecord {
        id,
        hash: ContentHash::of(raw),
        last_update: last_update_text.as_deref().and_then(instant),
        last_update_text,
        created: stamp(created),
        facts,
        raw: json,
    }))
}

fn incident(raw: &Bytes, found: Option<Found<'_, 7>>) -> Result<Record, &'static str> {
    let json = check(raw)?;
    let [id, updated, created, title, severity, status, redirect] =
        found.map_or_else(|| members(&json, INCIDENT), Ok).map_err(|_| "not valid JSON")?;
    let id = id.ok_or(NO_ID)?;
    Ok(Record::Incident(IncidentRecord {
        id: IncidentId::new(whole_number(id).map_or_else(|| read_id(id), Ok)?),
        hash: ContentHash::of(raw),
        last_update: stamp(updated),
        created: stamp(created),
        title: lenient_text(title).map(|text| cut(text, MAX_TITLE)),
        severity: word(severity).map(|text| words::severity(Source::GraphIncidents, text)),
        status: word(status).map(words::incident_status),
        // A patched one could be another incident's: exactly or not at all.
        redirect: redirect.and_then(|id| whole_number(id).or_else(|| read_id(id).ok())).map(IncidentId::new),
        raw: json,
    }))
}

const NO_ID: &str = "has no id";

/// The record as text, when it is one JSON object by all appearances: of a size, a depth and letters that
/// Postgres takes.
fn check(raw: &Bytes) -> Result<ByteString, &'static str> {
    if raw.len() > MAX_RECORD {
        return Err("larger than 20 MB");
    }
    let json = ByteString::try_from(raw.clone()).map_err(|_| "not valid UTF-8")?;
    if !json.trim_ascii_start().starts_with('{') {
        return Err("not a JSON object");
    }
    shape::check(raw)?;
    Ok(json)
}

fn stamp(member: Option<&RawValue>) -> Option<Ticks> {
    lenient_text(member).as_deref().and_then(instant)
}

fn instant(text: &str) -> Option<Ticks> {
    let stamp = Ticks::parse(text)?;
    Some(if bug("microseconds-only") { whole_microseconds(stamp) } else { stamp })
}

/// The bug of whoever keeps stamps in a `timestamptz`: 100 ns are lost, and with them the order of versions.
pub(crate) fn whole_microseconds(stamp: Ticks) -> Ticks {
    Ticks(stamp.0 - stamp.0.rem_euclid(10))
}

/// An id is taken exactly or not at all: a patched one could be another alert's.
fn read_id(member: &RawValue) -> Result<String, &'static str> {
    if !member.get().starts_with('"') {
        return Err("its id is not a text");
    }
    let id = text(Some(member)).ok_or("its id holds a lone surrogate")?;
    match id.as_ref() {
        "" => Err("its id is empty"),
        id if id.contains('\0') => Err("its id holds a NUL"),
        id if id.len() > MAX_ID => Err("its id is longer than 1024 bytes"),
        id => Ok(id.to_owned()),
    }
}

/// An id that Graph spells as text everywhere and may one day send as what it is.
fn whole_number(member: &RawValue) -> Option<String> {
    let text = member.get();
    (text.len() <= MAX_WORD && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.to_owned())
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
pub(crate) fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
