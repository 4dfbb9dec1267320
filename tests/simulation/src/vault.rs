//! Where refresh tokens are kept, in memory: the rules of the registry's own vault, without the sealing.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use domain::{Fence, RefreshToken, TenantId, Ticks};
use secrecy::ExposeSecret;
use token_refresher::{OpenedToken, RotateError, TokenVault, VaultError};

use crate::identity::{Serial, refresh_token, serial_of};
use crate::process::Process;
use crate::store::{Obstacle, Statement, Surroundings};
use crate::tally::Invariant;

#[derive(Debug)]
struct Row {
    token: String,
    version: i64,
    previous: Option<String>,
}

/// All refresh tokens.
#[derive(Debug, Default)]
pub(crate) struct Vault {
    rows: BTreeMap<TenantId, Row>,
    /// Counts what operators have imported, by tenant.
    credentials: BTreeMap<TenantId, i64>,
}

impl Vault {
    /// An operator imports a refresh token.
    pub(crate) fn import(&mut self, tenant: TenantId, serial: Serial) {
        let version = self.rows.get(&tenant).map_or(0, |row| row.version) + 1;
        self.rows.insert(tenant, Row { token: refresh_token(tenant, serial), version, previous: None });
        *self.credentials.entry(tenant).or_default() += 1;
    }

    /// Which refresh token is stored.
    pub(crate) fn current(&self, tenant: TenantId) -> Option<Serial> {
        serial_of(&self.rows.get(&tenant)?.token)
    }

    /// How often a credential was imported.
    pub(crate) fn credential_version(&self, tenant: TenantId) -> i64 {
        self.credentials.get(&tenant).copied().unwrap_or(0)
    }
}

/// The vault, as one process reaches it.
pub(crate) struct VaultDoor {
    pub(crate) process: Arc<Process>,
}

fn words(obstacle: &Obstacle) -> String {
    format!("simulated: {obstacle:?}")
}

impl VaultDoor {
    /// Writes under a fence: the change is made even when its answer gets lost.
    async fn write<T>(&self, fence: Fence, change: impl FnOnce(&mut Row) -> Result<T, RotateError> + Send) -> Result<T, RotateError> {
        let process = &self.process;
        let passed = process.pass(Statement::Commit).await;
        match &passed {
            Ok(()) | Err(Obstacle::AnswerLost) => {}
            Err(obstacle) => return Err(RotateError::Database(words(obstacle))),
        }
        let memory = process.run.memory();
        let mut state = process.run.state();
        let state = &mut *state;
        if !memory.stands(fence) {
            return Err(RotateError::LeaseLost);
        }
        state.tally.checked(Invariant::I7, 1);
        let claimed_by = memory.leases.get(&fence.tenant).map(|lease| lease.claimed_by);
        if claimed_by != Some(process.serial) {
            let what = format!("process {} writes to the vault, {claimed_by:?} has the lease", process.serial);
            state.checker.broken(Invariant::I7, process.now(), what);
        }
        let row = state.vault.rows.get_mut(&fence.tenant).ok_or(RotateError::Moved)?;
        let outcome = change(row)?;
        state.trace.event(process.now(), "vault", &[row.version], || format!("process {} {}", process.serial, row.token));
        passed.map(|()| outcome).map_err(|obstacle| RotateError::Database(words(&obstacle)))
    }
}

#[async_trait]
impl TokenVault for VaultDoor {
    async fn open(&self, tenant: TenantId, _: &str) -> Result<Option<OpenedToken>, VaultError> {
        self.process.pass(Statement::Read).await.map_err(|obstacle| VaultError::Database(words(&obstacle)))?;
        let state = self.process.run.state();
        let row = state.vault.rows.get(&tenant);
        Ok(row.and_then(|row| Some(OpenedToken { token: RefreshToken::new(row.token.as_str())?, version: row.version })))
    }

    async fn open_previous(&self, tenant: TenantId, _: &str) -> Result<Option<RefreshToken>, VaultError> {
        self.process.pass(Statement::Read).await.map_err(|obstacle| VaultError::Database(words(&obstacle)))?;
        let state = self.process.run.state();
        Ok(state.vault.rows.get(&tenant).and_then(|row| row.previous.clone()).and_then(RefreshToken::new))
    }

    async fn commit_rotation(&self, fence: Fence, version: i64, _: &str, token: &RefreshToken) -> Result<i64, RotateError> {
        let token = token.expose_secret().to_owned();
        self.write(fence, move |row| {
            if row.version == version + 1 && row.token == token {
                return Ok(row.version);
            }
            if row.version != version {
                return Err(RotateError::Moved);
            }
            row.previous = Some(std::mem::replace(&mut row.token, token));
            row.version += 1;
            Ok(row.version)
        })
        .await
    }

    async fn worked(&self, fence: Fence, version: i64, _: Ticks) -> Result<(), RotateError> {
        self.write(fence, move |row| {
            if row.version == version {
                row.previous = None;
            }
            Ok(())
        })
        .await
    }

    async fn app_worked(&self, fence: Fence, _: Ticks) -> Result<(), RotateError> {
        self.write(fence, |_| Ok(())).await
    }
}
