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
    /// What the script did to it.
    pub effects: Vec<String>,
}

/// How many requests there were, by endpoint and status.
pub type Totals = BTreeMap<(Endpoint, u16), u64>;

#[derive(Debug)]
struct Kept {
    entries: VecDeque<JournalEntry>,
    totals: Totals,
}

/// The bounded list of requests.
#[derive(Debug)]
pub(crate) struct Journal {
    limit: usize,
    kept: Mutex<Kept>,
}

impl Journal {
    pub(crate) fn new(limit: usize) -> Journal {
        Journal { limit: limit.max(1), kept: Mutex::new(Kept { entries: VecDeque::new(), totals: Totals::new() }) }
    }

    pub(crate) fn note(&self, entry: JournalEntry) {
        let mut kept = self.lock();
        *kept.totals.entry((entry.endpoint, entry.status)).or_default() += 1;
        if kept.entries.len() == self.limit {
            kept.entries.pop_front();
        }
        kept.entries.push_back(entry);
    }

    pub(crate) fn entries(&self) -> Vec<JournalEntry> {
        self.lock().entries.iter().cloned().collect()
    }

    pub(crate) fn totals(&self) -> Totals {
        self.lock().totals.clone()
    }

    pub(crate) fn clear(&self) {
        let mut kept = self.lock();
        kept.entries.clear();
        kept.totals.clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
