//! An alert on its way from a source to the database: the body as received, and the few facts read
//! out of it.

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;

use crate::ids::{AlertId, IncidentId};
use crate::stamp::Ticks;

/// blake3 over the bytes of one record as received. Two bodies with one hash are one version; a
/// collision would take 2^128 tries by a tenant who chooses the text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// Hashes the raw body.
    pub fn of(raw: &[u8]) -> Self {
        Self(*blake3::hash(raw).as_bytes())
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({})", blake3::Hash::from_bytes(self.0).to_hex())
    }
}

/// One record of a page: an alert, an incident, or something that could not be understood as either.
#[derive(Clone, Debug)]
pub enum Record {
    /// Has an id and a body that Postgres can cast to `json`.
    Alert(AlertRecord),
    /// The same, for a group of alerts. Only `graph-incidents` delivers them.
    Incident(IncidentRecord),
    /// Kept raw in quarantine; it never stops its neighbours.
    Poison(Poison),
}

impl Record {
    /// Bytes of the raw body.
    pub fn len(&self) -> usize {
        match self {
            Self::Alert(alert) => alert.raw.len(),
            Self::Incident(incident) => incident.raw.len(),
            Self::Poison(poison) => poison.raw.len(),
        }
    }

    /// Whether the raw body is empty, which no source should ever send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An alert as one source delivered it.
#[derive(Clone)]
pub struct AlertRecord {
    /// As the API gave it; case matters.
    pub id: AlertId,
    /// Over `raw`.
    pub hash: ContentHash,
    /// The object as received: valid JSON, at most 100 levels deep. A slice of the page.
    pub raw: ByteString,
    /// The source's last-update stamp exactly as received, if there was a text.
    pub last_update_text: Option<String>,
    /// The same as an instant, if it could be read.
    pub last_update: Option<Ticks>,
    /// The alert's own creation time, which never changes. Decides its partition.
    pub created: Option<Ticks>,
    /// What the dashboards show.
    pub facts: AlertFacts,
}

impl fmt::Debug for AlertRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Alert text may hold personal data: it is never printed.
        f.debug_struct("AlertRecord")
            .field("id", &self.id)
            .field("hash", &self.hash)
            .field("last_update", &self.last_update)
            .finish_non_exhaustive()
    }
}

/// Columns of `dash.alert`, in Graph's words (camelCase) whichever source delivered the alert.
/// Each is absent when the source left it out, sent null, or sent something that is no text or number.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AlertFacts {
    /// The incident this alert belongs to now; changes when incidents are merged.
    pub incident_id: Option<String>,
    /// Headline.
    pub title: Option<String>,
    /// `informational`, `low`, `medium`, `high`, or whatever new word the source uses.
    pub severity: Option<String>,
    /// `new`, `inProgress`, `resolved`, …
    pub status: Option<String>,
    /// The product that raised it.
    pub service_source: Option<String>,
    /// The detection technology.
    pub detection_source: Option<String>,
    /// The kill-chain category.
    pub category: Option<String>,
    /// Who works on it: a user name, or `Automation`. Personal data of the customer.
    pub assigned_to: Option<String>,
    /// What it turned out to be: `truePositive`, `falsePositive`, `informationalExpectedActivity`.
    pub classification: Option<String>,
    /// The finer word for that, such as `malware` or `securityTesting`.
    pub determination: Option<String>,
}

/// An incident as Graph delivered it: a group of alerts, which may have been merged into another one.
#[derive(Clone)]
pub struct IncidentRecord {
    /// As the API gave it.
    pub id: IncidentId,
    /// Over `raw`.
    pub hash: ContentHash,
    /// The object as received. Postgres can cast it to `json`.
    pub raw: ByteString,
    /// The source's last-update stamp, if it could be read.
    pub last_update: Option<Ticks>,
    /// Its creation time.
    pub created: Option<Ticks>,
    /// Headline.
    pub title: Option<String>,
    /// In Graph's words.
    pub severity: Option<String>,
    /// In Graph's words; `redirected` after a merge.
    pub status: Option<String>,
    /// The incident that has taken this one's place.
    pub redirect: Option<IncidentId>,
}

impl fmt::Debug for IncidentRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncidentRecord")
            .field("id", &self.id)
            .field("hash", &self.hash)
            .field("last_update", &self.last_update)
            .field("redirect", &self.redirect)
            .finish_non_exhaustive()
    }
}

/// A record that cannot be stored as an alert, with the reason in words.
#[derive(Clone)]
pub struct Poison {
    /// What is wrong with it, for a person.
    pub reason: String,
    /// Over `raw`; the same poison read again is one row.
    pub hash: ContentHash,
    /// The bytes as received, whatever they are.
    pub raw: Bytes,
}

impl Poison {
    /// Wraps bytes that could not be understood.
    pub fn new(reason: impl Into<String>, raw: Bytes) -> Self {
        Self { reason: reason.into(), hash: ContentHash::of(&raw), raw }
    }
}

impl fmt::Debug for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poison").field("reason", &self.reason).field("bytes", &self.raw.len()).finish()
    }
}
