//! A refresh token that has arrived and is not trusted yet.
//!
//! It is sealed at once, like any other, but under the sign-in that brought it, beside whatever the tenant has. It is
//! redeemed from there until everything has been proved, and only then takes the place of the tenant's token, in one
//! transaction with the state. Until then a live connection goes on as if nothing had happened, and a proof that fails
//! or a process that dies leaves it alone (I18).
//!
//! When the link ends, because it was called back, another sign-in was first or the tenant was removed, all that its
//! sign-ins brought is gone at once, and nothing is sealed for them any more: whoever is still proving finds that out
//! before the next request ([`crate::proofs`]).

use domain::consent::Account;
use domain::{RefreshToken, TenantState, Ticks};
use serde_json::json;

use crate::admin::{AdminError, StateChange};
use crate::audit;
use crate::credentials::{Opened, TOKEN_LIFE};
use crate::enrol::every_daemon_has;
use crate::links::{Accepted, is_live};
use crate::proofs::not_wanted;
use crate::registry::Registry;
use crate::store::secrets::NewToken;
use crate::store::{self, candidates, links, proofs, secrets, tenants, troubles};
use crate::vault::Place;

impl Registry {
    /// Seals a candidate: the first one of a sign-in, or the successor of one that was redeemed. Answers its version.
    ///
    /// # Errors
    /// [`AdminError::Conflict`] when the link has ended; when it cannot be sealed, or the database refuses.
    pub async fn seal_candidate(&self, accepted: &Accepted, client_id: &str, token: &RefreshToken) -> Result<i64, AdminError> {
        let vault = self.vault()?;
        let (tenant, sign_in) = (accepted.invited.tenant, accepted.sign_in);
        let (mut tx, stored) = self.lock(tenant).await?;
        // Under the lock that a removal takes: no key is made for a tenant that is gone.
        if !proofs::is_wanted(&mut *tx, tenant, sign_in).await? {
            return Err(not_wanted());
        }
        let key = match &stored.wrapped_key {
            Some(wrapped) => vault.unwrap(tenant, wrapped).await?,
            None => {
                let (key, wrapped) = vault.new_data_key(tenant).await?;
                secrets::put_key(&mut tx, tenant, &wrapped).await?;
                key
            }
        };
        let version = candidates::find(&mut *tx, tenant, sign_in).await?.map_or(1, |standing| standing.version + 1);
        let sealed = key.seal(&Place::of_candidate(tenant, &sign_in.to_string(), client_id, version), token)?;
        candidates::put(&mut tx, tenant, sign_in, version, client_id, &sealed).await?;
        tx.commit().await?;
        Ok(version)
    }

    /// Opens what a sign-in brought.
    ///
    /// # Errors
    /// [`AdminError::Conflict`] when there is nothing of it for this app, or the link has ended.
    pub async fn open_candidate(&self, accepted: &Accepted, client_id: &str) -> Result<Opened, AdminError> {
        let vault = self.vault()?;
        let (tenant, sign_in) = (accepted.invited.tenant, accepted.sign_in);
        let found = candidates::find(&self.pool, tenant, sign_in).await?;
        let stored = found.filter(|stored| stored.client_id == client_id).ok_or_else(not_wanted)?;
        let key = vault.unwrap(tenant, &stored.wrapped).await?;
        let token = key.open(&Place::of_candidate(tenant, &sign_in.to_string(), client_id, stored.version), &stored.sealed)?;
        Ok(Opened { token, version: stored.version })
    }

    /// Puts what this sign-in brought, and was proved, in the place of the tenant's token, makes the tenant active and
    /// ends the link.
    ///
    /// A paused tenant stays paused: that was the operator's word. `account` is whose token it is, for the audit.
    ///
    /// # Errors
    /// [`AdminError::Conflict`] when the tenant was connected or removed meanwhile, or the link has ended.
    pub async fn promote_candidate(
        &self,
        accepted: &Accepted,
        client_id: &str,
        account: Option<&Account>,
        now: Ticks,
    ) -> Result<StateChange, AdminError> {
        let vault = self.vault()?;
        let (tenant, sign_in) = (accepted.invited.tenant, accepted.sign_in);
        // Proving may have taken long, and nothing must be sealed under a key that has been retired meanwhile.
        if let Err(refusal) = self.reload_ring().await? {
            tracing::warn!(reason = refusal, "the changed key ring is not taken into use");
        }
        let (mut tx, stored) = self.lock(tenant).await?;
        let wrapped = stored.wrapped_key.as_ref().ok_or_else(not_wanted)?;
        let candidate = candidates::find(&mut *tx, tenant, sign_in).await?.ok_or_else(not_wanted)?;
        let candidate_key = vault.unwrap(tenant, wrapped).await?;
        let token =
            candidate_key.open(&Place::of_candidate(tenant, &sign_in.to_string(), client_id, candidate.version), &candidate.sealed)?;
        // A key of its own: whoever got hold of the key of the connection before learns nothing of this one.
        let (key, fresh) = vault.new_data_key(tenant).await?;
        every_daemon_has(&mut tx, fresh.key_id).await?;
        secrets::put_key(&mut tx, tenant, &fresh).await?;
        let next = stored.secret.as_ref().map_or(1, |secret| secret.version + 1);
        let sealed = key.seal(&Place::of_refresh_token(tenant, client_id, next), &token)?;
        let new = NewToken { version: next, client_id, sealed: &sealed, import_mac: &key.import_mac(&token) };
        let after = self.connect(&mut tx, accepted, account, stored.state).await?;
        secrets::put_imported(&mut tx, tenant, &new).await?;
        if let Some(at) = now.to_timestamp() {
            tenants::note_refresh(&mut tx, tenant, at, now.plus(TOKEN_LIFE).to_timestamp()).await?;
        }
        store::announce_change(&mut tx).await?;
        tx.commit().await?;
        Ok(StateChange { before: stored.state, after })
    }

    /// Makes a tenant active that was proved to open to the app's own credential, and ends the link.
    ///
    /// # Errors
    /// As [`Registry::promote_candidate`].
    pub async fn promote_application(&self, accepted: &Accepted) -> Result<StateChange, AdminError> {
        let (mut tx, stored) = self.lock(accepted.invited.tenant).await?;
        let after = self.connect(&mut tx, accepted, None, stored.state).await?;
        store::announce_change(&mut tx).await?;
        tx.commit().await?;
        Ok(StateChange { before: stored.state, after })
    }

    /// `account` is nothing when the app itself was let in.
    async fn connect(
        &self,
        tx: &mut sqlx::PgTransaction<'_>,
        accepted: &Accepted,
        account: Option<&Account>,
        stored: TenantState,
    ) -> Result<TenantState, AdminError> {
        let invited = &accepted.invited;
        let shown = tenants::state_shown(tx, invited.tenant).await?;
        if matches!(shown, TenantState::Removed | TenantState::Offboarding) {
            return Err(AdminError::Conflict("the tenant was removed meanwhile".to_owned()));
        }
        if is_live(shown) && !invited.replaces {
            return Err(AdminError::Conflict("the tenant was connected meanwhile, and this link may not replace a connection".to_owned()));
        }
        let after = if stored == TenantState::Paused { TenantState::Paused } else { TenantState::Active };
        tenants::set_state(tx, invited.tenant, after, true).await?;
        troubles::clear(tx, invited.tenant).await?;
        if !links::end_this(tx, accepted).await? {
            return Err(not_wanted());
        }
        let details = json!({ "link": invited.link, "kind": invited.kind, "replaced": is_live(shown), "account": account });
        audit::append(tx, invited.tenant, self.actor(), "tenant.connected", &details).await?;
        Ok(after)
    }
}
