//! Off-boarding: a customer goes, and what becomes of everything that was stored of him.
//!
//! One transaction ends all work for the tenant and destroys its data key and its tokens: the lease is taken from
//! whoever holds it, so that whatever is in flight can write nothing any more. The row of the tenant stays as a
//! tombstone, and so does its audit log. Stored alerts are kept or deleted, as the operator says. Deleting may take
//! long, so it goes a bounded piece at a time; the tenant is `offboarding` meanwhile and `removed` when nothing is left.
//! Whoever finds such a tenant goes on with it: the command that began, the same command again, or a daemon.
//!
//! [`Registry::quiet`] answers when the replica that looked after the tenant has taken notice: from then on it sends
//! no request for it.

use std::time::Duration;

use domain::{ReplicaId, TenantId, TenantState};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::admin::{AdminError, conflict, not_found};
use crate::audit;
use crate::registry::Registry;
use crate::store::{self, candidates, clocks, erasures, leases, links, readers, replicas, secrets, sights, tenants, troubles};

pub use crate::store::erasures::Erased;

/// Rows deleted in one transaction: well under a second on a slow disk.
const PIECE: i64 = 2_000;

/// What becomes of stored alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alerts {
    /// They stay.
    Keep,
    /// They are deleted.
    Delete,
}

impl Alerts {
    fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Delete => "delete",
        }
    }
}

/// What is stored of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Alerts.
    pub alerts: i64,
    /// Versions of alerts.
    pub versions: i64,
    /// Incidents.
    pub incidents: i64,
}

/// What a removal has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The state before.
    pub before: TenantState,
    /// The state now: removed, or off-boarding while alerts are to be deleted.
    pub after: TenantState,
    /// Data keys that were destroyed.
    pub keys: u64,
    /// Tokens that were destroyed.
    pub tokens: u64,
    /// Who looked after the tenant.
    holder: Option<ReplicaId>,
}

impl Removal {
    /// Whether anything is another way now.
    pub fn happened(&self) -> bool {
        self.before != self.after || self.keys + self.tokens > 0
    }
}

impl Registry {
    /// What is stored of a tenant, to be told before it is removed.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn stored(&self, tenant: TenantId) -> Result<Stored, AdminError> {
        let (alerts, versions, incidents) = erasures::stored(&self.pool, tenant).await?;
        Ok(Stored { alerts, versions, incidents })
    }

    /// Removes a tenant: its data key and tokens are destroyed, what is in flight for it is refused, and its alerts are
    /// kept or marked for deletion, which [`Registry::erase`] does. A removed one whose alerts were kept may be removed
    /// again to have them deleted; otherwise that changes nothing.
    ///
    /// # Errors
    /// [`AdminError::Busy`] when a write for it does not end in time, [`AdminError::Conflict`] when alerts are to be
    /// kept that are being deleted already.
    pub async fn remove(&self, tenant: TenantId, alerts: Alerts) -> Result<Removal, AdminError> {
        let mut tx = store::begin(&self.pool).await?;
        let holder = match leases::revoke(&mut tx, tenant).await {
            Err(sqlx::Error::RowNotFound) => return Err(not_found(tenant)),
            done => done?,
        };
        let stored = tenants::lock(&mut tx, tenant).await?.ok_or_else(|| not_found(tenant))?;
        let after = match (stored.state, alerts) {
            (TenantState::Offboarding, Alerts::Keep) => {
                return Err(AdminError::Conflict(format!(
                    "the alerts of tenant {:?} are being deleted already: say --delete-alerts to go on with that",
                    stored.facts.name
                )));
            }
            (_, Alerts::Keep) => TenantState::Removed,
            (_, Alerts::Delete) => TenantState::Offboarding,
        };
        if stored.state != after {
            tenants::set_state(&mut tx, tenant, after, false).await?;
            if after == TenantState::Offboarding {
                erasures::begin(&mut tx, tenant).await?;
            }
        }
        let (keys, tokens) = secrets::destroy(&mut tx, tenant).await?;
        let tokens = tokens + candidates::forget_all(&mut tx, tenant).await?;
        troubles::clear(&mut tx, tenant).await?;
        clocks::clear(&mut tx, tenant).await?;
        sights::forget(&mut tx, &[tenant]).await?;
        links::end_open(&mut tx, tenant, "cancelled").await?;
        let readers = readers::forget(&mut *tx, tenant).await?;
        let removal = Removal { before: stored.state, after, keys, tokens, holder };
        if removal.happened() {
            let details = json!({
                "name": stored.facts.name, "state": stored.state.as_str(), "alerts": alerts.as_str(), "keys_destroyed": keys, "tokens_destroyed": tokens,
                "readers_ended": readers,
            });
            audit::append(&mut tx, tenant, self.actor(), "tenant.remove", &details).await?;
        }
        store::announce_change(&mut tx).await?;
        tx.commit().await?;
        Ok(removal)
    }

    /// Waits until the replica that looked after a removed tenant has taken notice, and `true` then: no request for the
    /// tenant is begun any more. `false` when it did not answer in time; it can write nothing in any case.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn quiet(&self, removal: &Removal, patience: Duration) -> Result<bool, AdminError> {
        let Some(holder) = removal.holder else { return Ok(true) };
        let deadline = Instant::now() + patience;
        let mut first = None;
        loop {
            let mut tx = store::begin(&self.pool).await?;
            let Some(looks) = replicas::looks(&mut tx, holder).await? else { return Ok(true) };
            // It need not wait for its time to come.
            store::announce_change(&mut tx).await?;
            tx.commit().await?;
            // The look that is under way now may have begun before the removal was committed. The next one has not, and
            // what it finds is published before the one after it begins.
            if looks >= *first.get_or_insert(looks) + 3 {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Deletes what is stored of a tenant that is being off-boarded, to the end, telling how far it has come after each
    /// piece. May be interrupted anywhere and called again by anybody.
    ///
    /// # Errors
    /// When the database refuses; what was deleted stays deleted.
    pub async fn erase(&self, tenant: TenantId, mut progress: impl FnMut(Erased)) -> Result<Erased, AdminError> {
        loop {
            let done = self.erase_piece(tenant).await?;
            let erased = erasures::progress(&self.pool, tenant).await?.unwrap_or_default();
            progress(erased);
            if done {
                return Ok(erased);
            }
        }
    }

    /// Deletes one piece; `true` when nothing is left and the tenant is removed.
    pub(crate) async fn erase_piece(&self, tenant: TenantId) -> Result<bool, AdminError> {
        let mut tx = store::begin(&self.pool).await?;
        let stored = tenants::lock(&mut tx, tenant).await?.ok_or_else(|| not_found(tenant))?;
        match stored.state {
            TenantState::Offboarding => {}
            // Somebody else has come to the end before us.
            TenantState::Removed => return Ok(true),
            other => return Err(conflict(&stored, other, "it is not being removed")),
        }
        if erasures::some(&mut tx, tenant, PIECE).await? > 0 {
            tx.commit().await?;
            return Ok(false);
        }
        tenants::set_state(&mut tx, tenant, TenantState::Removed, false).await?;
        erasures::finish(&mut tx, tenant).await?;
        let erased = erasures::progress(&mut *tx, tenant).await?.unwrap_or_default();
        let details = json!({ "name": stored.facts.name, "deleted": erased });
        audit::append(&mut tx, tenant, self.actor(), "tenant.erased", &details).await?;
        store::announce_change(&mut tx).await?;
        tx.commit().await?;
        Ok(true)
    }
}
