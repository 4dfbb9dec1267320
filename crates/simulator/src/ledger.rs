//! What was published: every version of every record that a caller could have seen. A live view, so that a
//! count is cheap and bodies are only rendered for those who ask.

use crate::settings::Source;
use crate::shelf::{Row, Version};
use crate::stamp::Stamp;
use crate::world::{Tenant, World};
use bytes::Bytes;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

/// A live view of everything that was published.
#[derive(Clone, Debug)]
pub struct Ledger {
    world: Arc<World>,
}

/// One version of one record.
#[derive(Clone, Debug)]
pub struct LedgerRow {
    /// Whose it is.
    pub tenant: Uuid,
    /// Through which API it can be seen.
    pub source: Source,
    /// Its id, exactly; absent for records that have none.
    pub alert_id: Option<String>,
    /// Counts the versions of this record at this source, from 1.
    pub version: usize,
    /// Whether nothing has replaced it: what the source shows now.
    pub latest: bool,
    /// Whether no version has a later last update; of equal ones, the one published last. A source that shows an
    /// older version after a newer one makes this differ from `latest`.
    pub newest: bool,
    /// The last-update text as it stands in the body.
    pub last_update: Option<String>,
    /// When it became visible, by the simulator's clock.
    pub visible_at: Stamp,
    /// In how many undamaged answers it was given out.
    pub served: u32,
    /// When that happened first.
    pub first_served: Option<Stamp>,
    /// The record exactly as it is served: by Graph to callers who ask for unknown enum members, by Defender for
    /// Endpoint to callers who expand the evidence.
    pub body: Bytes,
}

impl LedgerRow {
    /// SHA-256 of the body in hexadecimal digits, which `encode(sha256(…), 'hex')` of Postgres gives as well.
    pub fn sha256(&self) -> String {
        hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.body))
    }
}

/// One version of one incident.
#[derive(Clone, Debug)]
pub struct IncidentRow {
    /// Whose it is.
    pub tenant: Uuid,
    /// Its id; absent for records that have none.
    pub incident_id: Option<String>,
    /// Counts its versions, from 1.
    pub version: usize,
    /// Whether nothing has replaced it.
    pub latest: bool,
    /// The last-update text as it stands in the body.
    pub last_update: Option<String>,
    /// The incident it was merged into, as its body says.
    pub redirect: Option<String>,
    /// When it became visible, by the simulator's clock.
    pub visible_at: Stamp,
    /// In how many undamaged answers it was given out.
    pub served: u32,
    /// The record exactly as it is served to callers who expand nothing.
    pub body: Bytes,
}

impl IncidentRow {
    /// SHA-256 of the body in hexadecimal digits.
    pub fn sha256(&self) -> String {
        hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.body))
    }
}

/// How many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SourceCount {
    /// Records with an id, by that id.
    pub alerts: usize,
    /// Versions of those.
    pub versions: usize,
    /// Versions of those that were given out in an undamaged answer.
    pub versions_served: usize,
    /// Records without an id, which nobody can store as an alert.
    pub without_id: usize,
}

/// What one tenant has.
#[derive(Clone, Debug, Serialize)]
pub struct TenantCount {
    /// Whose it is.
    pub directory_id: Uuid,
    /// The company's name.
    pub name: String,
    /// Different alert ids over the sources this tenant is watched through.
    pub alerts: usize,
    /// Versions over the same sources.
    pub versions: usize,
    /// Incidents, where the tenant is watched through them as well.
    pub incidents: usize,
    /// Each of those sources by itself.
    pub sources: BTreeMap<&'static str, SourceCount>,
}

impl Ledger {
    pub(crate) fn new(world: Arc<World>) -> Ledger {
        Ledger { world }
    }

    /// Counts per tenant, over the sources the tenant is watched through.
    pub fn counts(&self) -> Vec<TenantCount> {
        self.world
            .tenants
            .iter()
            .map(|tenant| {
                let state = tenant.lock();
                let mut ids = BTreeSet::new();
                let mut sources = BTreeMap::new();
                for source in alert_sources(tenant) {
                    let mut count = SourceCount::default();
                    for row in &state.shelf(*source).rows {
                        let Some(id) = &row.id else {
                            count.without_id += 1;
                            continue;
                        };
                        ids.insert(id.clone());
                        count.alerts += 1;
                        count.versions += row.versions.len();
                        count.versions_served += row.versions.iter().filter(|version| version.served > 0).count();
                    }
                    sources.insert(source.name(), count);
                }
                let watched = tenant.sources.contains(&Source::GraphIncidents);
                TenantCount {
                    directory_id: tenant.face.directory_id,
                    name: tenant.face.name.clone(),
                    alerts: ids.len(),
                    incidents: if watched { state.shelf(Source::GraphIncidents).rows.len() } else { 0 },
                    versions: sources.values().map(|count| count.versions).sum(),
                    sources,
                }
            })
            .collect()
    }

    /// Every version of every alert at the sources the tenant is watched through, in order of publication per record.
    /// An unknown tenant has none.
    pub fn rows(&self, tenant: Uuid) -> Vec<LedgerRow> {
        let Some(tenant) = self.world.find(tenant) else { return Vec::new() };
        let state = tenant.lock();
        let mut rows = Vec::new();
        for source in alert_sources(tenant) {
            for row in &state.shelf(*source).rows {
                let newest = newest(row);
                for (number, version) in row.versions.iter().enumerate() {
                    rows.push(LedgerRow {
                        tenant: tenant.face.directory_id,
                        source: *source,
                        alert_id: row.id.as_deref().map(str::to_owned),
                        version: number + 1,
                        latest: number + 1 == row.versions.len(),
                        newest: number == newest,
                        last_update: version.last_update.clone(),
                        visible_at: version.visible_at,
                        served: version.served,
                        first_served: version.first_served,
                        body: state.body_of(&tenant.face, *source, &version.content),
                    });
                }
            }
        }
        rows
    }

    /// Every version of every incident, in order of publication per incident. An unknown tenant has none.
    pub fn incidents(&self, tenant: Uuid) -> Vec<IncidentRow> {
        let Some(tenant) = self.world.find(tenant) else { return Vec::new() };
        let state = tenant.lock();
        let row_of = |row: &Row, number: usize, version: &Version| {
            let body = state.body_of(&tenant.face, Source::GraphIncidents, &version.content);
            IncidentRow {
                tenant: tenant.face.directory_id,
                incident_id: row.id.as_deref().map(str::to_owned),
                version: number + 1,
                latest: number + 1 == row.versions.len(),
                last_update: version.last_update.clone(),
                redirect: crate::facts::redirect(&body),
                visible_at: version.visible_at,
                served: version.served,
                body,
            }
        };
        let rows = &state.shelf(Source::GraphIncidents).rows;
        rows.iter().flat_map(|row| row.versions.iter().enumerate().map(|(number, version)| row_of(row, number, version))).collect()
    }

    /// The incident an alert belongs to now, merges followed to their end.
    pub fn incident_of(&self, tenant: Uuid, alert_id: &str) -> Option<String> {
        let tenant = self.world.find(tenant)?;
        let state = tenant.lock();
        let mut places = alert_sources(tenant).map(|source| state.shelf(*source));
        let number = places.find_map(|shelf| shelf.rows[shelf.position(alert_id)?].facts.incident)?;
        let number = u32::try_from(number).map_or(number, |number| i64::from(state.end_of_incident(number)));
        Some(number.to_string())
    }

    /// Every version of every tenant.
    pub fn all_rows(&self) -> Vec<LedgerRow> {
        self.world.tenants.iter().flat_map(|tenant| self.rows(tenant.face.directory_id)).collect()
    }

    /// The ids of the alerts of a tenant, over the sources it is watched through.
    pub fn alert_ids(&self, tenant: Uuid) -> BTreeSet<String> {
        let Some(tenant) = self.world.find(tenant) else { return BTreeSet::new() };
        let state = tenant.lock();
        alert_sources(tenant).flat_map(|source| &state.shelf(*source).rows).filter_map(|row| row.id.as_deref().map(str::to_owned)).collect()
    }

    /// Different alert ids over all tenants.
    pub fn total_alerts(&self) -> usize {
        self.counts().iter().map(|count| count.alerts).sum()
    }
}

/// The APIs through which the alerts of a tenant are watched.
fn alert_sources(tenant: &Tenant) -> impl Iterator<Item = &Source> {
    tenant.sources.iter().filter(|source| **source != Source::GraphIncidents)
}

/// The version with the latest last update; of equal ones, the one published last.
fn newest(row: &Row) -> usize {
    let stamp = |version: &Version| version.last_update.as_deref().and_then(Stamp::parse);
    row.versions.iter().enumerate().max_by_key(|(number, version)| (stamp(version), *number)).map_or(0, |(number, _)| number)
}
