//! What was asked: one line per request, the newest kept, with totals that survive the forgetting. No token is
//! ever written down, only the short name the simulator gave it.

use crate::scenario::Endpoint;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// One request as it was answered.
#[derive(Clone, Debug, Serialize)]
pub struct JournalEntry {
    /// Counts the requests from 0, whatever was forgotten since.
    pub number: u64,
    /// When it came in, by the simulator's clock.
    pub at: String,
    /// The tenant it was about, as far as it could be told.
    pub tenant: Option<Uuid>,
    /// What it was addressed to.
    pub endpoint: Endpoint,
    /// The path as it came.
    pub path: String,
    /// The query as it came; for the token endpoint, grant type and scope of the form.
    pub query: String,
    /// The status of the answer; 0 when there was none.
    pub status: u16,
    /// The simulator's name for the token that was used: never the token.
    pub token: Option<String>,
    /// How many records the answer held.
    pub records: usize,
    /// How many bytes the answer's body was meant to have.
    pub bytes: usize,
    /// For the token endpoint: how many other requests about the same tenant were under way.
    pub overlapping: u32,
    /// What the script did to it.
    pub effects: Vec<String>,
}

/// How many requests there were, by endpoint and status.
pub type Totals = BTreeMap<(Endpoint, u16), u64>;

#[derive(Debug)]
struct Kept {
    entries: VecDeque<JournalEntry>,
    totals: Totals,
    /// By tenant and name of the effect.
    felt: BTreeMap<(Option<Uuid>, String), u64>,
    next: u64,
}

/// The bounded list of requests.
#[derive(Debug)]
pub(crate) struct Journal {
    limit: usize,
    kept: Mutex<Kept>,
}

impl Journal {
    pub(crate) fn new(limit: usize) -> Journal {
        Journal {
            limit: limit.max(1),
            kept: Mutex::new(Kept { entries: VecDeque::new(), totals: Totals::new(), felt: BTreeMap::new(), next: 0 }),
        }
    }

    /// Notes a request; its number is given here.
    pub(crate) fn note(&self, mut entry: JournalEntry) {
        let mut kept = self.lock();
        entry.number = kept.next;
        kept.next += 1;
        for effect in &entry.effects {
            *kept.felt.entry((entry.tenant, name_of(effect))).or_default() += 1;
        }
        *kept.totals.entry((entry.endpoint, entry.status)).or_default() += 1;
        if kept.entries.len() == self.limit {
            kept.entries.pop_front();
        }
        kept.entries.push_back(entry);
    }

    pub(crate) fn entries(&self) -> Vec<JournalEntry> {
        self.lock().entries.iter().cloned().collect()
    }

    /// The requests from this number on, as far as they are remembered.
    pub(crate) fn entries_from(&self, number: u64) -> Vec<JournalEntry> {
        let kept = self.lock();
        let first = kept.next - kept.entries.len() as u64;
        kept.entries.iter().skip(usize::try_from(number.saturating_sub(first)).unwrap_or(usize::MAX)).cloned().collect()
    }

    /// How many requests felt an effect of this name; of all tenants when none is named.
    pub(crate) fn felt(&self, tenant: Option<Uuid>, effect: &str) -> u64 {
        let kept = self.lock();
        let hits = kept.felt.iter().filter(|((whose, name), _)| name == effect && tenant.is_none_or(|wanted| *whose == Some(wanted)));
        hits.map(|(_, count)| count).sum()
    }

    pub(crate) fn totals(&self) -> Totals {
        self.lock().totals.clone()
    }

    pub(crate) fn clear(&self) {
        let mut kept = self.lock();
        kept.entries.clear();
        kept.totals.clear();
        kept.felt.clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of an effect in the notation of the script: `hang` of `"hang"`, `slow` of `{"slow":{"ms":5}}`.
fn name_of(effect: &str) -> String {
    effect.trim_start_matches(['{', '"']).split('"').next().unwrap_or_default().to_owned()
}
