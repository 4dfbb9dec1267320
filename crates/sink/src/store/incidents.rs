//! What crosses the seam about incidents.

use domain::{ContentHash, IncidentRecord, Ticks};

use super::alerts::deciding;
use crate::postgres::stamp::PgStamp;

/// An incident as it will be stored.
#[derive(Clone, Copy, Debug)]
pub struct Incident<'a> {
    /// As received.
    pub record: &'a IncidentRecord,
    /// The body; not a copy.
    pub raw: &'a str,
    ticks: i64,
}

impl<'a> Incident<'a> {
    /// Checks what storing it relies on. `now` is our clock.
    ///
    /// # Errors
    /// The reason, in words, why it cannot be stored.
    pub fn new(record: &'a IncidentRecord, now: Ticks) -> Result<Self, &'static str> {
        let redirect = record.redirect.as_ref().map_or("", |id| id.as_str());
        if record.id.as_str().contains('\0') || redirect.contains('\0') {
            return Err("the id of an incident holds a NUL character, which Postgres cannot keep");
        }
        Ok(Self { record, raw: &record.raw, ticks: deciding(record.last_update, now) })
    }

    /// As the API gave it.
    pub fn id(&self) -> &'a str {
        self.record.id.as_str()
    }

    /// The incident that has taken this one's place.
    pub fn redirect(&self) -> Option<&'a str> {
        self.record.redirect.as_ref().map(|id| id.as_str())
    }

    /// The stamp that decides which state is the latest, as [`super::Alert::ticks`].
    pub fn ticks(&self) -> i64 {
        self.ticks
    }

    pub(crate) fn created(&self) -> Option<PgStamp> {
        self.record.created.and_then(PgStamp::of)
    }

    pub(crate) fn last_updated(&self) -> Option<PgStamp> {
        self.record.last_update.and_then(PgStamp::of)
    }
}

/// The latest state of an incident, as far as it decides anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingIncident {
    /// Of its body.
    pub hash: ContentHash,
    /// [`Incident::ticks`] of it.
    pub ticks: i64,
    /// [`Incident::redirect`] of it.
    pub redirect: Option<String>,
}

/// Where an incident leads, directly and in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Which incident.
    pub id: String,
    /// The redirect of its latest state, if it is stored and has one.
    pub redirect: Option<String>,
    /// The end that is on record for it ([`super::StoreTx::put_ends`]).
    pub end: Option<String>,
    /// The end that is on record for what it redirects to.
    pub beyond: Option<String>,
}
