//! The published state: which tenants there are and what each of them shows through each API. Publishing is
//! the only way in, and all that is published stays known, so that a ledger can be read from it.

use crate::alerts::face::Face;
use crate::alerts::{self, Alert};
use crate::dice::Dice;
use crate::facts::{self, Facts};
use crate::scenario::Script;
use crate::settings::{Settings, Source, SourceMix};
use crate::shelf::{Content, Shelf, Version};
use crate::stamp::{Clock, Stamp};
use anyhow::{Context as _, bail};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// An alert is changed at most so often by the passing of time.
const MOST_VERSIONS: usize = 14;

/// All tenants and the rules in force.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) started: Stamp,
    pub(crate) script: Script,
    pub(crate) tenants: Vec<Tenant>,
    by_directory: HashMap<Uuid, usize>,
}

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
    alerts: Vec<Alert>,
    graph: Shelf,
    endpoint: Shelf,
    incident: u32,
    last_stamp: Stamp,
    /// How many more bytes of rendered bodies may be kept; shared by all tenants.
    cache: Arc<AtomicUsize>,
}

impl World {
    pub(crate) fn new(settings: Settings) -> World {
        let started = settings.clock.now();
        let cache = Arc::new(AtomicUsize::new(settings.cache_bytes));
        let tenants: Vec<Tenant> = (0..settings.tenants).map(|index| Tenant::new(&settings, index, started, cache.clone())).collect();
        let by_directory = tenants.iter().enumerate().map(|(index, tenant)| (tenant.face.directory_id, index)).collect();
        World { clock: settings.clock.clone(), started, script: Script::default(), tenants, by_directory, settings }
    }

    pub(crate) fn find(&self, directory_id: Uuid) -> Option<&Tenant> {
        self.by_directory.get(&directory_id).map(|index| &self.tenants[*index])
    }

    pub(crate) fn tenant(&self, directory_id: Uuid) -> anyhow::Result<&Tenant> {
        self.find(directory_id).with_context(|| format!("the simulator has no tenant {directory_id}"))
    }

    /// Publishes so many new alerts now; their stamps are spread over the time since the last publication, never
    /// beyond the present, and some are equal.
    pub(crate) fn publish_new(&self, tenant: &Tenant, count: usize) -> Vec<String> {
        let now = self.clock.now();
        let mut state = tenant.lock();
        let earliest = now.minus(Duration::from_millis(33).saturating_mul(count as u32)).max(state.last_stamp.min(now));
        let step = (now.ticks() - earliest.ticks()) / count.max(1) as i64;
        (0..count)
            .map(|number| {
                let stamp = Stamp::from_ticks(now.ticks() - step * (count - 1 - number) as i64);
                self.publish_one(tenant, &mut state, stamp, now)
            })
            .collect()
    }

    /// Publishes one new alert with a stamp of now, or earlier when the script says so.
    pub(crate) fn publish_one(&self, tenant: &Tenant, state: &mut TenantState, stamp: Stamp, visible_at: Stamp) -> String {
        let late = self.script.take_late(tenant.face.directory_id).map_or(Duration::ZERO, Duration::from_secs);
        state.last_stamp = state.last_stamp.max(stamp.on_grid());
        state.appear(&tenant.face, stamp.minus(late).on_grid(), visible_at)
    }

    /// Changes an alert now; its last update moves to the present. Without an id, time picks one of the younger.
    pub(crate) fn publish_update(&self, tenant: &Tenant, id: Option<&str>) -> anyhow::Result<String> {
        let now = self.clock.now();
        let mut state = tenant.lock();
        let number = match id {
            Some(id) => state.numbered(id)?,
            None => state.young_alert().with_context(|| format!("tenant {} has no alert to change", tenant.face.directory_id))?,
        };
        let stamp = now.on_grid();
        let previous = *state.alerts[number].stamps.last().unwrap_or(&stamp);
        let stamp = if stamp > previous { stamp } else { previous.next_on_grid() };
        Ok(state.change(&tenant.face, number, stamp, now))
    }

    /// Publishes with exactly this last-update stamp: a new alert, or a change of the one with that id.
    pub(crate) fn publish_at(&self, tenant: &Tenant, stamp: Stamp, id: Option<&str>) -> anyhow::Result<String> {
        let now = self.clock.now();
        let mut state = tenant.lock();
        match id {
            None => Ok(state.appear(&tenant.face, stamp, now)),
            Some(id) => {
                let number = state.numbered(id)?;
                Ok(state.change(&tenant.face, number, stamp, now))
            }
        }
    }

    /// Publishes a record given as bytes, and returns its id if it has one. `stands_at` overrides where it stands
    /// in the order of last updates.
    pub(crate) fn publish_raw(&self, tenant: &Tenant, source: Source, record: Bytes, stands_at: Option<Stamp>) -> Option<String> {
        let now = self.clock.now();
        let mut probed = facts::probe(&record, now);
        if let Some(stamp) = stands_at {
            probed.facts.updated = stamp;
        }
        let version = Version { content: Content::Raw(record), last_update: probed.last_update, visible_at: now, served: 0 };
        tenant.lock().put(source, probed.id.as_deref().map(Arc::from), probed.facts, version);
        probed.id
    }

    /// One thing that happens by itself: a new alert, or a change of one.
    pub(crate) fn something_happens(&self, dice: &mut Dice, updates: f64, at: Stamp) {
        if self.tenants.is_empty() {
            return;
        }
        let now = self.clock.now();
        let tenant = &self.tenants[dice.below(self.tenants.len())];
        let wants_update = dice.chance(updates);
        let mut state = tenant.lock();
        let number = if wants_update { state.young_alert() } else { None };
        match number {
            Some(number) => {
                let previous = *state.alerts[number].stamps.last().unwrap_or(&at);
                let stamp = at.on_grid().max(previous.next_on_grid());
                state.change(&tenant.face, number, stamp, now);
            }
            None => {
                self.publish_one(tenant, &mut state, at, now);
            }
        }
    }
}

impl Tenant {
    fn new(settings: &Settings, index: usize, now: Stamp, cache: Arc<AtomicUsize>) -> Tenant {
        let face = Face::of(settings.seed, index);
        let both = match settings.sources {
            SourceMix::GraphOnly => false,
            SourceMix::Both => true,
            SourceMix::Mixed => index % 3 == 1 || settings.tenants == 1,
        };
        let sources = if both { vec![Source::GraphAlerts, Source::MdeAlerts] } else { vec![Source::GraphAlerts] };
        let mut state = TenantState {
            dice: face.dice(100, 0),
            alerts: Vec::new(),
            graph: Shelf::default(),
            endpoint: Shelf::default(),
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
            self.show(face, number, now);
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

    /// Shows the present state of an alert through the APIs that have it.
    fn show(&mut self, face: &Face, number: usize, visible_at: Stamp) {
        let alert = &self.alerts[number];
        let id = alert.id.clone();
        let version = || Version {
            content: Content::Made { alert: number, versions: alert.versions() },
            last_update: alert.stamps.last().map(Stamp::to_string),
            visible_at,
            served: 0,
        };
        let of_graph = (Facts::graph(face, alert), version());
        let of_endpoint = alert.is_endpoint(face).then(|| (Facts::endpoint(face, alert), version()));
        self.put(Source::GraphAlerts, Some(id.clone()), of_graph.0, of_graph.1);
        if let Some((facts, version)) = of_endpoint {
            self.put(Source::MdeAlerts, Some(id), facts, version);
        }
    }

    fn put(&mut self, source: Source, id: Option<Arc<str>>, facts: Facts, version: Version) {
        let freed = self.shelf_mut(source).put(id, facts, version);
        self.cache.fetch_add(freed, Ordering::Relaxed);
    }

    pub(crate) fn appear(&mut self, face: &Face, updated: Stamp, visible_at: Stamp) -> String {
        let number = self.make(face, updated);
        self.show(face, number, visible_at);
        self.alerts[number].id.to_string()
    }

    fn change(&mut self, face: &Face, number: usize, updated: Stamp, visible_at: Stamp) -> String {
        self.alerts[number].stamps.push(updated);
        self.last_stamp = self.last_stamp.max(updated);
        self.show(face, number, visible_at);
        self.alerts[number].id.to_string()
    }

    fn numbered(&self, id: &str) -> anyhow::Result<usize> {
        match self.alerts.iter().position(|alert| &*alert.id == id) {
            Some(number) => Ok(number),
            None => bail!("no alert of the simulator's own making has the id {id}"),
        }
    }

    /// One of the younger alerts that has not been changed too often yet.
    fn young_alert(&mut self) -> Option<usize> {
        let young = self.alerts.len().saturating_sub(60);
        let range = young..self.alerts.len();
        let candidates: Vec<usize> = range.filter(|number| self.alerts[*number].versions() < MOST_VERSIONS).collect();
        if candidates.is_empty() { None } else { Some(self.dice.pick(&candidates)) }
    }

    pub(crate) fn shelf(&self, source: Source) -> &Shelf {
        match source {
            Source::GraphAlerts => &self.graph,
            Source::MdeAlerts => &self.endpoint,
        }
    }

    pub(crate) fn shelf_mut(&mut self, source: Source) -> &mut Shelf {
        match source {
            Source::GraphAlerts => &mut self.graph,
            Source::MdeAlerts => &mut self.endpoint,
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
            Content::Made { alert, versions } => {
                let alert = &self.alerts[*alert];
                match source {
                    Source::GraphAlerts => alerts::render_graph(face, alert, *versions, everything).into(),
                    Source::MdeAlerts => alerts::render_endpoint(face, alert, *versions, everything).into(),
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
    pub(crate) fn mark_served(&mut self, source: Source, rows: &[usize]) {
        for number in rows {
            if let Some(version) = self.shelf_mut(source).rows[*number].versions.last_mut() {
                version.served += 1;
            }
        }
    }
}
