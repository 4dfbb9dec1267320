//! A pretend vault with the rules of the real one: fenced, versioned, and with answers that get lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use async_trait::async_trait;
use domain::{Epoch, Fence, RefreshToken, TenantId, Ticks};
use secrecy::ExposeSecret;
use token_refresher::{OpenedToken, RotateError, TokenVault, VaultError};

use crate::world::{Event, Journal};

/// How the next commit goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mishap {
    /// The database is away.
    Away,
    /// It is written, but nobody hears of it.
    AnswerLost,
    /// Another replica claims the tenant just then.
    Overtaken,
    /// The process dies before anything is written.
    Crash,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) version: i64,
    pub(crate) token: String,
    pub(crate) previous: Option<String>,
    pub(crate) last_refresh_at: Option<Ticks>,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<TenantId, Row>,
    epochs: BTreeMap<TenantId, Epoch>,
    mishaps: VecDeque<Mishap>,
    away: bool,
    unreadable: bool,
}

pub(crate) struct PretendVault {
    journal: Journal,
    state: Mutex<State>,
}

impl PretendVault {
    pub(crate) fn new(journal: Journal) -> Self {
        Self { journal, state: Mutex::default() }
    }

    /// Stores a token, as an import does.
    pub(crate) fn import(&self, tenant: TenantId, token: &str) {
        let mut state = self.state.lock().unwrap();
        let version = state.rows.get(&tenant).map_or(1, |row| row.version + 1);
        state.rows.insert(tenant, Row { version, token: token.to_owned(), previous: None, last_refresh_at: None });
        state.epochs.entry(tenant).or_insert(Epoch(1));
    }

    /// Keeps this token as the one before the current one.
    pub(crate) fn set_previous(&self, tenant: TenantId, token: &str) {
        self.state.lock().unwrap().rows.get_mut(&tenant).unwrap().previous = Some(token.to_owned());
    }

    /// Lets another replica claim the tenant.
    pub(crate) fn claim(&self, tenant: TenantId, epoch: Epoch) {
        self.state.lock().unwrap().epochs.insert(tenant, epoch);
    }

    pub(crate) fn mishap(&self, mishap: Mishap) {
        self.state.lock().unwrap().mishaps.push_back(mishap);
    }

    /// Lets the database be away until told otherwise.
    pub(crate) fn away(&self, away: bool) {
        self.state.lock().unwrap().away = away;
    }

    pub(crate) fn make_unreadable(&self) {
        self.state.lock().unwrap().unreadable = true;
    }

    pub(crate) fn row(&self, tenant: TenantId) -> Row {
        self.state.lock().unwrap().rows[&tenant].clone()
    }
}

#[async_trait]
impl TokenVault for PretendVault {
    async fn open(&self, tenant: TenantId, _: &str) -> Result<Option<OpenedToken>, VaultError> {
        let state = self.state.lock().unwrap();
        if state.away {
            return Err(VaultError::Database("connection refused".to_owned()));
        }
        if state.unreadable {
            return Err(VaultError::Unreadable("the sealed token does not open".to_owned()));
        }
        Ok(state.rows.get(&tenant).map(|row| OpenedToken { token: RefreshToken::new(&*row.token).unwrap(), version: row.version }))
    }

    async fn open_previous(&self, tenant: TenantId, _: &str) -> Result<Option<RefreshToken>, VaultError> {
        Ok(self.state.lock().unwrap().rows.get(&tenant).and_then(|row| row.previous.as_deref()).and_then(RefreshToken::new))
    }

    async fn commit_rotation(&self, fence: Fence, version: i64, _: &str, token: &RefreshToken) -> Result<i64, RotateError> {
        let mishap = {
            let mut state = self.state.lock().unwrap();
            if state.away { Some(Mishap::Away) } else { state.mishaps.pop_front() }
        };
        match mishap {
            Some(Mishap::Crash) => std::future::pending().await,
            Some(Mishap::Away) => return Err(RotateError::Database("connection refused".to_owned())),
            Some(Mishap::Overtaken) => return Err(RotateError::LeaseLost),
            Some(Mishap::AnswerLost) | None => {}
        }
        let mut state = self.state.lock().unwrap();
        if state.epochs.get(&fence.tenant) != Some(&fence.epoch) {
            return Err(RotateError::LeaseLost);
        }
        let row = state.rows.get_mut(&fence.tenant).unwrap();
        let token = token.expose_secret();
        if row.version == version {
            row.previous = Some(std::mem::replace(&mut row.token, token.to_owned()));
            row.version += 1;
            self.journal.note(Event::Committed { tenant: fence.tenant, token: token.to_owned() });
        } else if row.version != version + 1 || row.token != token {
            return Err(RotateError::Moved);
        }
        if matches!(mishap, Some(Mishap::AnswerLost)) {
            return Err(RotateError::Database("connection reset".to_owned()));
        }
        Ok(version + 1)
    }

    async fn worked(&self, fence: Fence, version: i64, now: Ticks) -> Result<(), RotateError> {
        let mut state = self.state.lock().unwrap();
        if state.away {
            return Err(RotateError::Database("connection refused".to_owned()));
        }
        if state.epochs.get(&fence.tenant) != Some(&fence.epoch) {
            return Err(RotateError::LeaseLost);
        }
        let row = state.rows.get_mut(&fence.tenant).unwrap();
        row.last_refresh_at = Some(now);
        if row.version == version {
            row.previous = None;
        }
        Ok(())
    }

    async fn app_worked(&self, fence: Fence, _: Ticks) -> Result<(), RotateError> {
        let state = self.state.lock().unwrap();
        if state.epochs.get(&fence.tenant) == Some(&fence.epoch) { Ok(()) } else { Err(RotateError::LeaseLost) }
    }
}
