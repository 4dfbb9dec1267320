//! The count that decides: what the pretend Microsoft published against what is stored.
//!
//! Bodies are compared by their SHA-256, on one side of the bytes that were served, on the other of
//! what `dash.alert_version` holds, so that a changed byte is a loss and a surprise at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use simulator::{Ledger, Source};
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

/// A body at its place: tenant, source, alert id, SHA-256 in hex.
type Place = (Uuid, &'static str, String, String);

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Different alerts that a caller could have seen.
    pub published: usize,
    /// Rows of `dash.alert`.
    pub stored: usize,
    /// Versions that were given out whole, or are the latest of their alert.
    pub versions_published: usize,
    /// Rows of `dash.alert_version`.
    pub versions_stored: usize,
    /// Published and not stored.
    pub lost: Vec<String>,
    /// Stored more than once.
    pub duplicated: Vec<String>,
    /// Stored, but never published like this.
    pub unknown: Vec<String>,
    /// The latest state shows an older version than the newest one.
    pub stale: Vec<String>,
    /// Incidents that are published and either not stored, or stored in another state than the newest.
    pub incidents_wrong: Vec<String>,
    /// Alerts that name another incident than the one where they are, merges followed.
    pub misplaced: Vec<String>,
    /// Versions of alerts that are kept in quarantine.
    pub quarantined: usize,
    /// Records without an id that are neither stored nor in quarantine.
    pub poison_lost: usize,
}

impl Tally {
    /// Compares ledger and database.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn take(ledger: &Ledger, pool: &PgPool) -> anyhow::Result<Self> {
        Self::take_since(ledger, pool, "-infinity").await
    }

    /// The same where other alerts were stored before the ledger began: of what is stored, only that counts which was written
    /// since this moment, in the words of Postgres.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn take_since(ledger: &Ledger, pool: &PgPool, since: &str) -> anyhow::Result<Self> {
        let mut tally = Self::default();
        // All of it at one instant: what is stored meanwhile must not be there in one list and missing in another.
        let mut at_once = pool.begin_with("begin isolation level repeatable read read only").await?;
        let mut must: BTreeSet<Place> = BTreeSet::new();
        let mut may: BTreeSet<Place> = BTreeSet::new();
        let mut newest: BTreeMap<(Uuid, String), BTreeSet<String>> = BTreeMap::new();
        let mut nameless: Vec<(Uuid, String)> = Vec::new();
        let sql = "select directory_id, encode(sha256(raw_bytes), 'hex') from dash.quarantine";
        let quarantined: BTreeSet<(Uuid, String)> = sqlx::query_as(sql).fetch_all(&mut *at_once).await?.into_iter().collect();
        for row in ledger.all_rows() {
            let hash = row.sha256();
            // A record that cannot be stored as an alert is kept as bytes, and is not lost either.
            if row.alert_id.is_some() && quarantined.contains(&(row.tenant, hash.clone())) {
                tally.quarantined += 1;
                continue;
            }
            let Some(id) = row.alert_id else {
                nameless.push((row.tenant, hash));
                continue;
            };
            if row.newest {
                newest.entry((row.tenant, id.clone())).or_default().insert(hash.clone());
            }
            let place = (row.tenant, row.source.name(), id, hash);
            if row.latest || row.served > 0 {
                must.insert(place.clone());
            }
            may.insert(place);
        }
        tally.published = newest.len();
        tally.versions_published = must.len();

        let mut stored: BTreeSet<Place> = BTreeSet::new();
        let sql = "select directory_id, source, alert_id, encode(sha256(convert_to(raw::text, 'UTF8')), 'hex')
                   from dash.alert_version where stored_at >= $1::timestamptz";
        for row in sqlx::query(sql).bind(since).fetch_all(&mut *at_once).await? {
            let source =
                if row.try_get::<&str, _>(1)? == Source::MdeAlerts.name() { Source::MdeAlerts.name() } else { Source::GraphAlerts.name() };
            let place = (row.try_get(0)?, source, row.try_get(2)?, row.try_get(3)?);
            tally.versions_stored += 1;
            if !may.contains(&place) {
                tally.unknown.push(words(&place));
            }
            if !stored.insert(place.clone()) {
                tally.duplicated.push(words(&place));
            }
        }
        tally.lost = must.difference(&stored).map(words).collect();

        let sql = "select directory_id, alert_id, encode(sha256(convert_to(raw::text, 'UTF8')), 'hex')
                   from dash.alert where last_stored_at >= $1::timestamptz";
        for row in sqlx::query(sql).bind(since).fetch_all(&mut *at_once).await? {
            let key: (Uuid, String) = (row.try_get(0)?, row.try_get(1)?);
            tally.stored += 1;
            let hash: String = row.try_get(2)?;
            if newest.get(&key).is_none_or(|bodies| !bodies.contains(&hash)) {
                tally.stale.push(format!("{} {}", key.0, key.1));
            }
        }
        tally.poison_lost = nameless.iter().filter(|record| !quarantined.contains(record)).count();
        tally.take_incidents(ledger, &mut at_once).await?;
        Ok(tally)
    }

    /// Compares incidents, and where alerts are, of the tenants that are watched through incidents as well.
    async fn take_incidents(&mut self, ledger: &Ledger, at_once: &mut PgConnection) -> anyhow::Result<()> {
        let watched: Vec<Uuid> = ledger.counts().iter().filter(|count| count.incidents > 0).map(|count| count.directory_id).collect();
        if watched.is_empty() {
            return Ok(());
        }
        let sql = "select directory_id, incident_id, encode(sha256(convert_to(raw::text, 'UTF8')), 'hex') from dash.incident";
        let rows: Vec<(Uuid, String, String)> = sqlx::query_as(sql).fetch_all(&mut *at_once).await?;
        let stored: BTreeMap<(Uuid, String), String> = rows.into_iter().map(|(tenant, id, hash)| ((tenant, id), hash)).collect();
        for row in watched.iter().flat_map(|tenant| ledger.incidents(*tenant)).filter(|row| row.latest) {
            let Some(id) = row.incident_id.clone() else { continue };
            if stored.get(&(row.tenant, id.clone())) != Some(&row.sha256()) {
                self.incidents_wrong.push(format!("{} {id}", row.tenant));
            }
        }
        let sql = "select directory_id, alert_id, incident_id from dash.alert where directory_id = any($1)";
        let rows: Vec<(Uuid, String, Option<String>)> = sqlx::query_as(sql).bind(&watched).fetch_all(&mut *at_once).await?;
        self.misplaced = rows
            .into_iter()
            .filter(|(tenant, id, incident)| ledger.incident_of(*tenant, id) != *incident)
            .map(|(tenant, id, incident)| format!("{tenant} {id} in {}", incident.unwrap_or_default()))
            .collect();
        Ok(())
    }

    /// Whether everything is there, once, as it came, and the latest state is the latest.
    pub fn agrees(&self) -> bool {
        self.published == self.stored
            && self.lost.is_empty()
            && self.duplicated.is_empty()
            && self.unknown.is_empty()
            && self.stale.is_empty()
            && self.incidents_wrong.is_empty()
            && self.misplaced.is_empty()
            && self.poison_lost == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = |rows: &[String]| if rows.is_empty() { String::new() } else { format!(" (first: {})", rows[0]) };
        writeln!(f, "published {:>7} alerts, {:>7} versions", self.published, self.versions_published)?;
        writeln!(f, "stored    {:>7} alerts, {:>7} versions", self.stored, self.versions_stored)?;
        writeln!(f, "lost      {:>7}{}", self.lost.len() + self.poison_lost, some(&self.lost))?;
        write!(f, "duplicate {:>7}{}", self.duplicated.len(), some(&self.duplicated))?;
        if !self.unknown.is_empty() || !self.stale.is_empty() {
            write!(f, "\nunknown {}{}, stale {}{}", self.unknown.len(), some(&self.unknown), self.stale.len(), some(&self.stale))?;
        }
        if !self.incidents_wrong.is_empty() || !self.misplaced.is_empty() {
            write!(
                f,
                "\nincidents wrong {}{}, alerts in the wrong incident {}{}",
                self.incidents_wrong.len(),
                some(&self.incidents_wrong),
                self.misplaced.len(),
                some(&self.misplaced)
            )?;
        }
        Ok(())
    }
}

fn words(place: &Place) -> String {
    format!("{} {} {}", place.0, place.1, place.2)
}
