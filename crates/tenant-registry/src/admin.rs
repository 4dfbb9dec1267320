//! What an operator does with tenants that are there: list, find, pause, resume. How they go stands in `offboard`.

use domain::{AppName, CloudName, Source, TenantId, TenantState};
use jiff::Timestamp;
use serde::Serialize;
use sqlx::PgTransaction;
use uuid::Uuid;

use crate::audit::{self, Unaudited};
use crate::keyring::KeyRing;
use crate::registry::{NoKeys, Registry};
use crate::rules;
use crate::store::tenants::StoredTenant;
use crate::store::{self, replicas, secrets, tenants, troubles};
use crate::vault::VaultError;

/// A tenant as `tocsin tenant list` and `show` print it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TenantSummary {
    /// Directory id.
    #[serde(rename = "directory_id")]
    pub id: TenantId,
    /// The operator's name for it.
    pub name: String,
    /// Where it lives.
    pub cloud: CloudName,
    /// The app registration it is reached with.
    pub app: AppName,
    /// What is read.
    pub sources: Vec<Source>,
    /// As in `dash.tenant_health`.
    pub state: TenantState,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// What happened, in words.
    pub reason: Option<String>,
    /// What to do, and who must do it.
    pub action: Option<String>,
    /// The code that Microsoft gave.
    pub error_code: Option<String>,
    /// The number that Microsoft gave the request, for its support.
    pub trace_id: Option<String>,
    /// When Microsoft answered it.
    pub answered_at: Option<Timestamp>,
    /// Estimated end of the refresh token.
    pub token_expires_at: Option<Timestamp>,
    /// When it was last redeemed.
    pub last_refresh_at: Option<Timestamp>,
    /// When it was first imported.
    pub created_at: Timestamp,
}

/// One key of the ring or of the database, as `tocsin key status` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyStatus {
    /// The id of the key.
    pub id: String,
    /// Whether it seals.
    pub active: bool,
    /// Whether a rotation will make it the one that seals, once every replica has it.
    pub next: bool,
    /// Whether the ring has it; if not, its tenants cannot be opened.
    pub in_ring: bool,
    /// How many tenants are sealed under it.
    pub tenants: i64,
    /// How many running daemons have it.
    pub daemons: usize,
}

/// Whether anybody works for a tenant now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Daemons that were seen in the last ten seconds.
    pub daemons: i64,
    /// One of them looks after this tenant.
    pub looked_after: bool,
}

/// What an operation changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The state before.
    pub before: TenantState,
    /// The state now.
    pub after: TenantState,
}

impl StateChange {
    /// Whether the state is another one now.
    pub fn happened(self) -> bool {
        self.before != self.after
    }
}

/// Why an operation on a tenant did not happen. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is no such tenant.
    #[error("there is no tenant {asked:?}{}", .hint.as_ref().map(|name| format!("; did you mean {name:?}?")).unwrap_or_default())]
    NotFound {
        /// What was asked for.
        asked: String,
        /// A name that looks much the same.
        hint: Option<String>,
    },
    /// No role of this name reads schema dash.
    #[error("there is no reader {0:?}; see: tocsin reader list")]
    NoReader(String),
    /// It does not fit what is there.
    #[error("{0}")]
    Conflict(String),
    /// What was given is not usable.
    #[error("{0}")]
    Invalid(String),
    /// Somebody else was writing for this tenant.
    #[error("the tenant is busy: try again")]
    Busy,
    /// It could not be written to the audit log.
    #[error(transparent)]
    Unaudited(Unaudited),
    /// No key ring is loaded.
    #[error(transparent)]
    NoKeys(#[from] NoKeys),
    /// A key does not open, so nothing was sealed under it.
    #[error("the tenant's data key does not open: {0}")]
    Vault(#[from] VaultError),
    /// The database refused.
    #[error("the database refused: {0}")]
    Database(sqlx::Error),
}

impl From<Unaudited> for AdminError {
    fn from(error: Unaudited) -> Self {
        if store::was_busy(&error.0) { Self::Busy } else { Self::Unaudited(error) }
    }
}

impl From<sqlx::Error> for AdminError {
    fn from(error: sqlx::Error) -> Self {
        if store::was_busy(&error) { Self::Busy } else { Self::Database(error) }
    }
}

impl Registry {
    /// All tenants but the removed ones, by name.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn list(&self) -> Result<Vec<TenantSummary>, AdminError> {
        Ok(tenants::all(&self.pool, false).await?)
    }

    /// All tenants, tombstones included, by name.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn list_with_removed(&self) -> Result<Vec<TenantSummary>, AdminError> {
        Ok(tenants::all(&self.pool, true).await?)
    }

    /// The tenant with this directory id or exactly this name. A removed one is found when no living
    /// one has the name.
    ///
    /// # Errors
    /// [`AdminError::NotFound`], with the nearest name.
    pub async fn find(&self, name_or_id: &str) -> Result<TenantSummary, AdminError> {
        let asked = name_or_id.trim();
        if let Ok(id) = Uuid::try_parse(asked)
            && let Some(found) = tenants::by_id(&self.pool, id).await?
        {
            return Ok(found);
        }
        if let Some(found) = tenants::by_name(&self.pool, asked).await? {
            return Ok(found);
        }
        let names = tenants::names(&self.pool).await?;
        let hint = rules::nearest(asked, names.iter().map(String::as_str)).map(str::to_owned);
        Err(AdminError::NotFound { asked: asked.to_owned(), hint })
    }

    /// Whether anybody works for this tenant now.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn attention(&self, tenant: TenantId) -> Result<Attention, AdminError> {
        let (daemons, looked_after) = replicas::attention(&self.pool, tenant).await?;
        Ok(Attention { daemons, looked_after })
    }

    /// Stops reading a tenant; its refresh token is kept alive. Pausing a paused one changes nothing.
    ///
    /// # Errors
    /// [`AdminError::Conflict`] when there is nothing to pause.
    pub async fn pause(&self, tenant: TenantId) -> Result<StateChange, AdminError> {
        let (mut tx, stored) = self.lock(tenant).await?;
        match stored.state {
            TenantState::Paused => {}
            TenantState::Active => {
                tenants::set_state(&mut tx, tenant, TenantState::Paused, false).await?;
                self.audit_state(&mut tx, tenant, "tenant.pause", &stored).await?;
            }
            other => return Err(conflict(&stored, other, "there is nothing to pause")),
        }
        finish(tx, stored.state, TenantState::Paused).await
    }

    /// Reads a tenant again, and at once: its troubles are cleared, so that a customer who says "it is
    /// fixed" does not wait for the next slow probe. May be asked of an active tenant for that reason.
    ///
    /// # Errors
    /// [`AdminError::Conflict`] when it has no credential yet, or was removed.
    pub async fn resume(&self, tenant: TenantId) -> Result<StateChange, AdminError> {
        let (mut tx, stored) = self.lock(tenant).await?;
        match stored.state {
            TenantState::Paused | TenantState::Active => {
                tenants::set_state(&mut tx, tenant, TenantState::Active, true).await?;
                troubles::clear(&mut tx, tenant).await?;
                self.audit_state(&mut tx, tenant, "tenant.resume", &stored).await?;
            }
            other => return Err(conflict(&stored, other, "import its refresh token with `tocsin tenant import`")),
        }
        finish(tx, stored.state, TenantState::Active).await
    }

    /// Lets whoever looks after a tenant try its credential at once, of a paused one too. What is known of its troubles
    /// stays. Audited, since it is a sign-in at the customer's that somebody has caused.
    ///
    /// # Errors
    /// [`AdminError::NotFound`], or the database refuses.
    pub async fn try_now(&self, tenant: TenantId) -> Result<(), AdminError> {
        let (mut tx, stored) = self.lock(tenant).await?;
        tenants::set_state(&mut tx, tenant, stored.state, true).await?;
        self.audit_state(&mut tx, tenant, "tenant.verify", &stored).await?;
        finish(tx, stored.state, stored.state).await.map(drop)
    }

    /// Each key of the ring, and each that the database needs, with the number of tenants under it.
    /// Works without an open registry, since a missing key is what one looks for here.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn key_status(&self, ring: &KeyRing) -> Result<Vec<KeyStatus>, AdminError> {
        let mut counts: std::collections::BTreeMap<String, i64> = secrets::count_by_key(&self.pool).await?.into_iter().collect();
        let active = ring.active_id();
        let daemons = replicas::keys(&self.pool).await?;
        let having = |id: &str| daemons.iter().filter(|daemon| daemon.ring.iter().any(|key| key == id)).count();
        let mut keys: Vec<KeyStatus> = ring
            .ids()
            .into_iter()
            .map(|id| KeyStatus {
                id: id.to_string(),
                active: id == active,
                next: ring.next_id() == Some(id),
                in_ring: true,
                tenants: counts.remove(&id.to_string()).unwrap_or(0),
                daemons: having(&id.to_string()),
            })
            .collect();
        keys.extend(counts.into_iter().map(|(id, tenants)| {
            let daemons = having(&id);
            KeyStatus { id, active: false, next: false, in_ring: false, tenants, daemons }
        }));
        Ok(keys)
    }

    async fn audit_state(
        &self,
        tx: &mut PgTransaction<'_>,
        tenant: TenantId,
        action: &str,
        stored: &StoredTenant,
    ) -> Result<(), AdminError> {
        let details = serde_json::json!({ "name": stored.facts.name, "state": stored.state.as_str() });
        Ok(audit::append(tx, tenant, self.actor(), action, &details).await?)
    }

    pub(crate) async fn lock(&self, tenant: TenantId) -> Result<(PgTransaction<'static>, StoredTenant), AdminError> {
        let mut tx = store::begin(&self.pool).await?;
        let stored = tenants::lock(&mut tx, tenant).await?.ok_or_else(|| not_found(tenant))?;
        Ok((tx, stored))
    }
}

async fn finish(mut tx: PgTransaction<'_>, before: TenantState, after: TenantState) -> Result<StateChange, AdminError> {
    store::announce_change(&mut tx).await?;
    tx.commit().await?;
    Ok(StateChange { before, after })
}

pub(crate) fn not_found(tenant: TenantId) -> AdminError {
    AdminError::NotFound { asked: tenant.to_string(), hint: None }
}

pub(crate) fn conflict(stored: &StoredTenant, state: TenantState, advice: &str) -> AdminError {
    let name = &stored.facts.name;
    AdminError::Conflict(match state {
        TenantState::Removed => format!("tenant {name:?} was removed: import it again to read it"),
        TenantState::Offboarding => format!("tenant {name:?} was removed, and its alerts are being deleted"),
        state => format!("tenant {name:?} is {state}: {advice}"),
    })
}
