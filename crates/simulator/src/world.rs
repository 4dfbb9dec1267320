//! The published state: which tenants there are and what each of them shows through each API. Publishing is
//! the only way in, and all that is published stays known, so that a ledger can be read from it.

mod tenant;

use crate::dice::Dice;
use crate::facts;
use crate::scenario::Script;
use crate::settings::{Settings, Source};
use crate::shelf::{Content, Version};
use crate::stamp::{Clock, Stamp};
use anyhow::{Context as _, bail};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use uuid::Uuid;

pub(crate) use tenant::{Tenant, TenantState};

/// All tenants and the rules in force.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) started: Stamp,
    pub(crate) script: Script,
    pub(crate) tenants: Vec<Tenant>,
    by_directory: HashMap<Uuid, usize>,
    /// Further domains of tenants, in small letters.
    domains: Mutex<HashMap<String, Uuid>>,
}

impl World {
    pub(crate) fn new(settings: Settings) -> World {
        let started = settings.clock.now();
        let cache = Arc::new(AtomicUsize::new(settings.cache_bytes));
        let tenants: Vec<Tenant> = (0..settings.tenants).map(|index| Tenant::new(&settings, index, started, cache.clone())).collect();
        let by_directory = tenants.iter().enumerate().map(|(index, tenant)| (tenant.face.directory_id, index)).collect();
        World {
            clock: settings.clock.clone(),
            started,
            script: Script::default(),
            tenants,
            by_directory,
            domains: Mutex::default(),
            settings,
        }
    }

    pub(crate) fn find(&self, directory_id: Uuid) -> Option<&Tenant> {
        self.by_directory.get(&directory_id).map(|index| &self.tenants[*index])
    }

    /// The tenant that owns a domain. Domains have no case.
    pub(crate) fn by_domain(&self, domain: &str) -> Option<&Tenant> {
        let domain = domain.to_ascii_lowercase();
        let further = self.domains.lock().unwrap_or_else(PoisonError::into_inner).get(&domain).copied();
        further.and_then(|id| self.find(id)).or_else(|| self.tenants.iter().find(|tenant| tenant.face.domain == domain))
    }

    /// Gives a tenant one more domain.
    pub(crate) fn add_domain(&self, tenant: Uuid, domain: &str) {
        self.domains.lock().unwrap_or_else(PoisonError::into_inner).insert(domain.to_ascii_lowercase(), tenant);
    }

    pub(crate) fn tenant(&self, directory_id: Uuid) -> anyhow::Result<&Tenant> {
        self.find(directory_id).with_context(|| format!("the simulator has no tenant {directory_id}"))
    }

    /// Publishes so many new alerts now; their stamps are spread over the time since the last publication, never
    /// beyond the present, and some are equal.
    pub(crate) fn publish_new(&self, tenant: &Tenant, count: usize) -> Vec<String> {
        let mut state = tenant.lock();
        let now = self.clock.now();
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
        let mut state = tenant.lock();
        let now = self.clock.now();
        let number = match id {
            Some(id) => state.numbered(id)?,
            None => state.young_alert().with_context(|| format!("tenant {} has no alert to change", tenant.face.directory_id))?,
        };
        Ok(state.change_now(&tenant.face, number, now))
    }

    /// Publishes so many new alerts that all have exactly this last-update stamp.
    pub(crate) fn publish_tied(&self, tenant: &Tenant, stamp: Stamp, count: usize) -> Vec<String> {
        let mut state = tenant.lock();
        let now = self.clock.now();
        (0..count).map(|_| state.appear(&tenant.face, stamp, now)).collect()
    }

    /// Puts an alert into another incident, which may be one that does not exist yet.
    pub(crate) fn move_alert(&self, tenant: &Tenant, id: &str, incident: &str) -> anyhow::Result<()> {
        let mut state = tenant.lock();
        let number = state.numbered(id)?;
        let incident = incident.parse().with_context(|| format!("{incident} is no number of an incident"))?;
        state.move_alert(&tenant.face, number, incident, self.clock.now());
        Ok(())
    }

    /// Merges one incident into another.
    pub(crate) fn merge_incidents(&self, tenant: &Tenant, from: &str, into: &str) -> anyhow::Result<()> {
        let mut state = tenant.lock();
        let number = |text: &str| text.parse().ok().filter(|number| state.book.knows(*number));
        let (Some(from), Some(into)) = (number(from), number(into)) else {
            bail!("tenant {} has no incidents {from} and {into}", tenant.face.directory_id)
        };
        state.merge(&tenant.face, from, into, self.clock.now());
        Ok(())
    }

    /// Publishes with exactly this last-update stamp: a new alert, or a change of the one with that id.
    pub(crate) fn publish_at(&self, tenant: &Tenant, stamp: Stamp, id: Option<&str>) -> anyhow::Result<String> {
        let mut state = tenant.lock();
        let now = self.clock.now();
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
        let mut probed = facts::probe(&record, self.clock.now());
        if let Some(stamp) = stands_at {
            probed.facts.updated = stamp;
        }
        let mut state = tenant.lock();
        let version = Version::new(Content::Raw(record), probed.last_update, self.clock.now());
        state.put(source, probed.id.as_deref().map(Arc::from), probed.facts, version);
        probed.id
    }

    /// One thing that happens by itself: a new alert, or a change of one.
    pub(crate) fn something_happens(&self, dice: &mut Dice, updates: f64, at: Stamp) {
        if self.tenants.is_empty() {
            return;
        }
        let tenant = &self.tenants[dice.below(self.tenants.len())];
        let wants_update = dice.chance(updates);
        let mut state = tenant.lock();
        let now = self.clock.now();
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
