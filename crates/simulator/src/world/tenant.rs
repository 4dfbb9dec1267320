//! One customer: its alerts and incidents, and how they come to stand on its shelves.

use crate::alerts::face::Face;
use crate::alerts::state::State;
use crate::alerts::{self, Alert};
use crate::dice::Dice;
use crate::facts::Facts;
use crate::incidents::{self, Book};
use crate::settings::{Settings, Source, SourceMix};
use crate::shelf::{Content, Shelf, Version, Want};
use crate::stamp::Stamp;
use anyhow::bail;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// An alert is changed at most so often by the passing of time.
const MOST_VERSIONS: usize = 14;

/// One customer.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) face: Face,
    pub(crate) sources: Vec<Source>,
    state: Mutex<TenantState>,
}

/// What changes about a customer.
#[derive(Debug)]
pub(crate) struct TenantState {
    dice: Dice,
    pub(super) alerts: Vec<Alert>,
    graph: Shelf,
    endpoint: Shelf,
    incidents: Shelf,
    pub(super) book: Book,
    /// The number of the youngest incident.
    incident: u32,
    pub(super) last_stamp: Stamp,
    /// How many more bytes of rendered bodies may be kept; shared by all tenants.
    cache: Arc<AtomicUsize>,
}

impl Tenant {
    pub(super) fn new(settings: &Settings, index: usize, now: Stamp, cache: Arc<AtomicUsize>) -> Tenant {
        let face = Face::of(settings.seed, index);
        let both = match settings.sources {
            SourceMix::GraphOnly => false,
            SourceMix::Both | SourceMix::All => true,
            SourceMix::Assorted => index % 3 != 1,
            SourceMix::Mixed => index % 3 == 1 || settings.tenants == 1,
        };
        let mut sources = vec![Source::GraphAlerts];
        sources.extend(both.then_some(Source::MdeAlerts));
        let incidents = settings.sources == SourceMix::All || settings.sources == SourceMix::Assorted && !index.is_multiple_of(3);
        sources.extend(incidents.then_some(Source::GraphIncidents));
        let mut state = TenantState {
            dice: face.dice(100, 0),
            alerts: Vec::new(),
            graph: Shelf::default(),
            endpoint: Shelf::default(),
            incidents: Shelf::default(),
            book: Book::default(),
            incident: 2_000 + 10_000 * index as u32,
            last_stamp: Stamp::from_ticks(i64::MIN),
            cache,
        };
        state.remember(&face, settings, now);
        Tenant { face, sources, state: Mutex::new(state) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, TenantState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TenantState {
    /// What was there before the simulator started.
    fn remember(&mut self, face: &Face, settings: &Settings, now: Stamp) {
        let mut dice = face.dice(101, 0);
        let span = i64::from(settings.history_days) * 86_400 * 10_000_000;
        let mut days: Vec<i64> = (0..settings.history).map(|_| dice.between(0, span)).collect();
        days.sort_unstable();
        for ago in days.into_iter().rev() {
            let first = Stamp::from_ticks(now.ticks() - ago).on_grid();
            let number = self.make(face, first);
            let changes = if dice.chance(0.5) { 1 + dice.below(4) } else { 0 };
            for _ in 0..changes {
                let alert = &mut self.alerts[number];
                let last = *alert.stamps.last().unwrap_or(&first);
                // Changes come minutes to days later, and some of them in one go for many alerts.
                let later = last.plus(Duration::from_secs(dice.between(30, 200_000) as u64));
                let later = if dice.chance(0.2) { Stamp::from_unix_seconds(later.unix_seconds() / 3600 * 3600) } else { later };
                if later.on_grid() > last && later <= now {
                    alert.stamps.push(later.on_grid());
                }
            }
            self.show_alert(face, number, now);
        }
        let mut touched: BTreeMap<u32, Stamp> = BTreeMap::new();
        for number in 0..self.alerts.len() {
            let incident = self.incident_of(face, number);
            self.book.settle(number, incident);
            let updated = *self.alerts[number].stamps.last().unwrap_or(&now);
            let latest = touched.entry(incident).or_insert(updated);
            *latest = updated.max(*latest);
        }
        // Now and then two are merged: the older one points to its successor.
        let numbers = self.book.numbers();
        for pair in numbers.windows(2).filter(|pair| pair[0].is_multiple_of(13)) {
            self.book.redirect(pair[0], pair[1]);
        }
        for (incident, updated) in touched {
            self.write_incident(face, incident, updated, now);
        }
    }

    /// Makes an alert without showing it.
    fn make(&mut self, face: &Face, updated: Stamp) -> usize {
        let number = self.alerts.len();
        if self.dice.chance(0.6) {
            self.incident += 1 + self.dice.below(3) as u32;
        }
        let seconds = if self.dice.chance(0.05) { self.dice.between(60, 1_200) } else { 0 };
        let age = Duration::from_secs(seconds as u64) + Duration::from_nanos(100 * self.dice.between(11_000_000, 18_000_000) as u64);
        self.alerts.push(Alert::new(face, number as u64, self.incident, updated.minus(age), updated));
        number
    }

    /// Shows the present state of an alert through the APIs that have it, and what it does to its incident.
    fn show(&mut self, face: &Face, number: usize, visible_at: Stamp) {
        self.show_alert(face, number, visible_at);
        let stamp = *self.alerts[number].stamps.last().unwrap_or(&visible_at);
        let incident = self.incident_of(face, number);
        for touched in self.book.settle(number, incident) {
            self.write_incident(face, touched, stamp, visible_at);
        }
    }

    fn incident_of(&self, face: &Face, number: usize) -> u32 {
        let alert = &self.alerts[number];
        State::after(face, alert, alert.versions()).incident
    }

    fn write_incident(&mut self, face: &Face, number: u32, stamp: Stamp, visible_at: Stamp) {
        let incident = self.book.write(face, &self.alerts, number, stamp);
        let version = Version::new(Content::Incident(Arc::new(incident)), None, visible_at);
        let Content::Incident(incident) = &version.content else { return };
        let (facts, last_update) = (Facts::incident(incident), Some(incident.updated.to_string()));
        let version = Version { last_update, ..version };
        self.put(Source::GraphIncidents, Some(Arc::from(number.to_string())), facts, version);
    }

    fn show_alert(&mut self, face: &Face, number: usize, visible_at: Stamp) {
        let alert = &self.alerts[number];
        let id = alert.id.clone();
        let version = || {
            Version::new(Content::Made { alert: number, versions: alert.versions() }, alert.stamps.last().map(Stamp::to_string), visible_at)
        };
        let of_graph = (Facts::graph(face, alert), version());
        let of_endpoint = alert.is_endpoint(face).then(|| (Facts::endpoint(face, alert), version()));
        self.put(Source::GraphAlerts, Some(id.clone()), of_graph.0, of_graph.1);
        if let Some((facts, version)) = of_endpoint {
            self.put(Source::MdeAlerts, Some(id), facts, version);
        }
    }

    pub(super) fn put(&mut self, source: Source, id: Option<Arc<str>>, facts: Facts, version: Version) {
        let freed = self.shelf_mut(source).put(id, facts, version);
        self.cache.fetch_add(freed, Ordering::Relaxed);
    }

    pub(crate) fn appear(&mut self, face: &Face, updated: Stamp, visible_at: Stamp) -> String {
        let number = self.make(face, updated);
        self.show(face, number, visible_at);
        self.alerts[number].id.to_string()
    }

    pub(super) fn change(&mut self, face: &Face, number: usize, updated: Stamp, visible_at: Stamp) -> String {
        self.alerts[number].stamps.push(updated);
        self.last_stamp = self.last_stamp.max(updated);
        self.show(face, number, visible_at);
        self.alerts[number].id.to_string()
    }

    pub(super) fn numbered(&self, id: &str) -> anyhow::Result<usize> {
        let row = self.graph.position(id).map(|row| &self.graph.rows[row]);
        match row.map(|row| &row.latest().content) {
            Some(Content::Made { alert, .. }) => Ok(*alert),
            _ => bail!("no alert of the simulator's own making has the id {id}"),
        }
    }

    /// Puts an alert into another incident: a change of the alert, and of both incidents.
    pub(super) fn move_alert(&mut self, face: &Face, number: usize, incident: u32, now: Stamp) {
        let version = self.alerts[number].versions();
        self.alerts[number].moves.push((version, incident));
        self.change_now(face, number, now);
    }

    pub(super) fn merge(&mut self, face: &Face, from: u32, into: u32, now: Stamp) {
        self.book.redirect(from, into);
        self.write_incident(face, from, now.on_grid(), now);
        self.write_incident(face, into, now.on_grid(), now);
    }

    /// An update of the first row that the caller has already passed: it moves away, and those behind it move up.
    pub(crate) fn shift(&mut self, face: &Face, source: Source, want: &Want<'_>, now: Stamp) {
        let passed = self.shelf(source).find(&Want { filter: want.filter, after: None, skip: 0, top: 1, ..*want }).rows;
        if let Some(Content::Made { alert, .. }) = passed.first().map(|row| self.shelf(source).rows[*row].latest().content.clone()) {
            self.change_now(face, alert, now);
        }
    }

    /// A change of an alert at this moment, or right after the one before.
    pub(super) fn change_now(&mut self, face: &Face, number: usize, now: Stamp) -> String {
        let stamp = now.on_grid();
        let previous = *self.alerts[number].stamps.last().unwrap_or(&stamp);
        let stamp = if stamp > previous { stamp } else { previous.next_on_grid() };
        self.change(face, number, stamp, now)
    }

    /// The alerts of the incident in this row, as Graph shows them.
    pub(crate) fn alerts_of_incident(&self, face: &Face, row: usize) -> Vec<Bytes> {
        let Content::Incident(incident) = &self.incidents.rows[row].latest().content else { return Vec::new() };
        let rows = incident.alerts.iter().filter_map(|alert| self.graph.position(&self.alerts[*alert].id));
        rows.map(|row| self.latest_body(face, Source::GraphAlerts, row, true)).collect()
    }

    /// Where the incident of this number leads in the end.
    pub(crate) fn end_of_incident(&self, number: u32) -> u32 {
        self.book.end_of(number)
    }

    /// One of the younger alerts that has not been changed too often yet.
    pub(super) fn young_alert(&mut self) -> Option<usize> {
        let young = self.alerts.len().saturating_sub(60);
        let range = young..self.alerts.len();
        let candidates: Vec<usize> = range.filter(|number| self.alerts[*number].versions() < MOST_VERSIONS).collect();
        if candidates.is_empty() { None } else { Some(self.dice.pick(&candidates)) }
    }

    pub(crate) fn shelf(&self, source: Source) -> &Shelf {
        match source {
            Source::GraphAlerts => &self.graph,
            Source::MdeAlerts => &self.endpoint,
            Source::GraphIncidents => &self.incidents,
        }
    }

    pub(crate) fn shelf_mut(&mut self, source: Source) -> &mut Shelf {
        match source {
            Source::GraphAlerts => &mut self.graph,
            Source::MdeAlerts => &mut self.endpoint,
            Source::GraphIncidents => &mut self.incidents,
        }
    }

    /// The alerts of our own making.
    pub(crate) fn alerts(&self) -> &[Alert] {
        &self.alerts
    }

    /// A version as it is served to a caller who asks for everything.
    pub(crate) fn body_of(&self, face: &Face, source: Source, content: &Content) -> Bytes {
        self.render(face, source, content, true)
    }

    fn render(&self, face: &Face, source: Source, content: &Content, everything: bool) -> Bytes {
        match content {
            Content::Raw(bytes) => bytes.clone(),
            Content::Incident(incident) => incidents::render(face, incident).into(),
            Content::Made { alert, versions } => {
                let alert = &self.alerts[*alert];
                match source {
                    Source::MdeAlerts => alerts::render_endpoint(face, alert, *versions, everything).into(),
                    Source::GraphAlerts | Source::GraphIncidents => alerts::render_graph(face, alert, *versions, everything).into(),
                }
            }
        }
    }

    /// The latest body of a row; `everything` is what the caller asked for (all enum members, or the evidence).
    pub(crate) fn latest_body(&self, face: &Face, source: Source, row: usize, everything: bool) -> Bytes {
        let row = &self.shelf(source).rows[row];
        let content = &row.latest().content;
        if !everything || matches!(content, Content::Raw(_)) {
            return self.render(face, source, content, everything);
        }
        if let Some(body) = row.body.get() {
            return body.clone();
        }
        let body = self.render(face, source, content, true);
        if self.cache.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(body.len())).is_ok() {
            let _ = row.body.set(body.clone());
        }
        body
    }

    /// Notes that these rows were given out in an undamaged answer.
    pub(crate) fn mark_served(&mut self, source: Source, rows: &[usize], now: Stamp) {
        for number in rows {
            if let Some(version) = self.shelf_mut(source).rows[*number].versions.last_mut() {
                version.served += 1;
                version.first_served.get_or_insert(now);
            }
        }
    }
}
