//! Bodies as the three APIs send them, in all spellings that are known, and some that are none.

use std::fmt::Write;

use domain::{Source, Ticks};

use crate::dice::Dice;
use crate::time::{HOUR, TICKS};

/// What a body says.
pub(crate) struct Said<'a> {
    pub(crate) id: &'a str,
    pub(crate) updated: Option<Ticks>,
    pub(crate) created: Option<Ticks>,
    /// Severity, status, product.
    pub(crate) words: [Option<&'static str>; 3],
    /// Makes it unlike any other.
    pub(crate) serial: usize,
    /// The incident it belongs to, or redirects to.
    pub(crate) incident: Option<u32>,
    pub(crate) assignee: Option<&'static str>,
}

/// What makes a body one that cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    NoId,
    IdIsNumber,
    IdSurrogate,
    NotUtf8,
    TooDeep,
}

impl Broken {
    pub(crate) const ALL: [Self; 5] = [Self::NoId, Self::IdIsNumber, Self::IdSurrogate, Self::NotUtf8, Self::TooDeep];
}

/// Spells a body of this source.
pub(crate) fn spell(source: Source, said: &Said<'_>, broken: Option<Broken>, dice: &Dice) -> Vec<u8> {
    let [updated_name, created_name, title_name, incident_name] = match source {
        Source::GraphAlerts => ["lastUpdateDateTime", "createdDateTime", "title", "incidentId"],
        Source::MdeAlerts => ["lastUpdateTime", "alertCreationTime", "title", "incidentId"],
        Source::GraphIncidents => ["lastUpdateDateTime", "createdDateTime", "displayName", "redirectIncidentId"],
    };
    let mut text = String::with_capacity(420);
    let id = said.id;
    let _ = match broken {
        Some(Broken::NoId) => write!(text, "{{\"ID\":\"{id}\""),
        Some(Broken::IdIsNumber) => write!(text, "{{\"id\":-{}.5", said.serial),
        Some(Broken::IdSurrogate) => write!(text, "{{\"id\":\"\\ud800{id}\""),
        Some(Broken::NotUtf8 | Broken::TooDeep) | None => write!(text, "{{\"id\":\"{id}\""),
    };
    member(&mut text, updated_name, said.updated.map(|stamp| spell_stamp(stamp, dice)).as_deref(), dice);
    member(&mut text, created_name, said.created.map(|stamp| spell_stamp(stamp, dice)).as_deref(), dice);
    let _ = write!(text, ",\"{title_name}\":\"number {}\"", said.serial);
    for (name, word) in ["severity", "status", "serviceSource"].into_iter().zip(said.words) {
        if source == Source::GraphAlerts || name != "serviceSource" {
            member(&mut text, name, word, dice);
        }
    }
    member(&mut text, "assignedTo", said.assignee, dice);
    if let Some(incident) = said.incident {
        let _ = match source {
            Source::MdeAlerts => write!(text, ",\"{incident_name}\":{incident}"),
            Source::GraphAlerts | Source::GraphIncidents => write!(text, ",\"{incident_name}\":\"{incident}\""),
        };
    }
    if broken == Some(Broken::TooDeep) {
        let _ = write!(text, ",\"evidence\":{}{}", "[".repeat(120), "]".repeat(120));
    }
    let mut bytes = text.into_bytes();
    if broken == Some(Broken::NotUtf8) {
        bytes.extend_from_slice(b",\"comment\":\"\xFF\xFE\"");
    }
    bytes.push(b'}');
    bytes
}

/// A text, or null, or nothing at all.
fn member(text: &mut String, name: &str, value: Option<&str>, dice: &Dice) {
    let _ = match value {
        Some(value) => write!(text, ",\"{name}\":\"{value}\""),
        None if dice.chance(0.5) => write!(text, ",\"{name}\":null"),
        None => Ok(()),
    };
}

/// Microsoft's spellings of one instant.
fn spell_stamp(stamp: Ticks, dice: &Dice) -> String {
    let zulu = stamp.to_string();
    if dice.chance(0.05) {
        let east = Ticks(stamp.0.saturating_add(2 * HOUR * TICKS)).to_string();
        if let Some(local) = east.strip_suffix('Z').filter(|_| stamp.0 < 200_000_000_000_000_000) {
            return format!("{local}+02:00");
        }
    }
    match zulu.strip_suffix(".0000000Z") {
        Some(whole) => format!("{whole}Z"),
        None => zulu,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use domain::Record;

    use super::*;
    use crate::time::ticks;

    fn said() -> Said<'static> {
        Said {
            id: "7",
            updated: Some(Ticks(ticks(5).0 + 3)),
            created: Some(ticks(0)),
            words: [Some("high"), None, None],
            serial: 12,
            incident: Some(9),
            assignee: None,
        }
    }

    #[test]
    fn what_is_said_is_read_back_by_the_product_whatever_the_spelling() {
        for source in Source::ALL {
            for seed in 0..50 {
                let body = Bytes::from(spell(*source, &said(), None, &Dice::of(seed, 0)));
                let (id, updated, created) = match microsoft::extract::record(*source, body) {
                    Record::Alert(alert) => (alert.id.as_str().to_owned(), alert.last_update, alert.created),
                    Record::Incident(incident) => (incident.id.as_str().to_owned(), incident.last_update, incident.created),
                    Record::Poison(poison) => panic!("{}", poison.reason),
                };
                assert_eq!((id.as_str(), updated, created), ("7", said().updated, said().created));
            }
        }
    }

    #[test]
    fn what_is_broken_is_poison() {
        for source in Source::ALL {
            for broken in Broken::ALL {
                let body = Bytes::from(spell(*source, &said(), Some(broken), &Dice::of(1, 0)));
                assert!(matches!(microsoft::extract::record(*source, body), Record::Poison(_)), "{source} {broken:?}");
            }
        }
    }
}
