//! Putting one tenant into the registry, or bringing it up to date: deciding first, then doing, in one
//! transaction.

use std::fmt;

use domain::{RefreshToken, TenantId, TenantState};

use crate::admin::AdminError;
use crate::audit;
use crate::keyring::KeyId;
use crate::registry::Registry;
use crate::rules::{ImportRules, TenantDraft, Wanted};
use crate::store::secrets::NewToken;
use crate::store::tenants::StoredTenant;
use crate::store::{self, candidates, leases, replicas, secrets, tenants, troubles};
use crate::vault::{DataKey, Place, Vault};

/// What became of one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// What was done with its row.
    pub kind: EnrolKind,
    /// Where it stands now (needs are not looked at).
    pub state: TenantState,
    /// Whether a refresh token was stored.
    pub token_stored: bool,
}

/// What was done with a tenant's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrolKind {
    /// It is new.
    Added,
    /// It was there; something changed.
    Updated,
    /// It was there exactly like this.
    Unchanged,
    /// It had been removed and is back.
    Revived,
}

impl EnrolKind {
    /// Its name in the audit log.
    fn action(self) -> &'static str {
        match self {
            Self::Added => "tenant.add",
            Self::Updated | Self::Unchanged => "tenant.update",
            Self::Revived => "tenant.revive",
        }
    }
}

impl fmt::Display for Enrolled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            EnrolKind::Added => "added",
            EnrolKind::Updated => "updated",
            EnrolKind::Unchanged => "unchanged",
            EnrolKind::Revived => "added again",
        };
        write!(f, "{kind}, {}{}", self.state, if self.token_stored { ", refresh token stored" } else { "" })
    }
}

/// What is to be done with a tenant that is there.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    kind: EnrolKind,
    state: TenantState,
    store_token: bool,
    new_credential: bool,
}

/// What the decision must know of the token that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// There is none.
    None,
    /// There is one; nothing was given to compare it with.
    Unasked,
    /// The one last imported is the one given now.
    Same { same_app: bool },
    /// The one last imported is another one.
    Other,
}

/// Decides what an import does with a tenant that is there. Pure.
fn decide(stored: &StoredTenant, wanted: &Wanted, standing: Standing, replace_token: bool) -> Result<Plan, String> {
    if stored.state == TenantState::Offboarding {
        return Err("this tenant is being removed".to_owned());
    }
    let moves_cloud = stored.facts.cloud != wanted.facts.cloud;
    let revived = stored.state == TenantState::Removed;
    let store_token = match (&wanted.token, standing) {
        // A token never travels to another cloud by the edit of a word: it would be sent to strangers.
        (None, Standing::Unasked) if moves_cloud => {
            return Err(format!(
                "this tenant has a refresh token from cloud {}: to move it to cloud {}, give its refresh token there, or remove it first",
                stored.facts.cloud, wanted.facts.cloud
            ));
        }
        (None, _) => false,
        (Some(_), Standing::Other) if !replace_token => {
            return Err(
                "this tenant has another refresh token already: leave the column empty to keep it, or type --replace-token".to_owned()
            );
        }
        // The same token again changes nothing, unless it was sealed for another app or cloud.
        (Some(_), Standing::Same { same_app }) => !same_app || moves_cloud,
        (Some(_), _) => true,
    };
    let has_token = store_token || standing != Standing::None;
    let state = match stored.state {
        TenantState::Paused => TenantState::Paused,
        _ if has_token || !wanted.app.uses_refresh_token => TenantState::Active,
        _ => TenantState::AwaitingConsent,
    };
    let new_credential = store_token || revived || moves_cloud || stored.facts.app != wanted.facts.app;
    let kind = if revived {
        EnrolKind::Revived
    } else if store_token || state != stored.state || stored.facts != wanted.facts {
        EnrolKind::Updated
    } else {
        EnrolKind::Unchanged
    };
    Ok(Plan { kind, state, store_token, new_credential })
}

impl Registry {
    /// Adds one tenant.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] when the draft does not fit the rules, [`AdminError::Conflict`] when the
    /// tenant is there already or its name is taken.
    pub async fn add(&self, draft: TenantDraft, rules: &ImportRules) -> Result<Enrolled, AdminError> {
        let wanted = draft.check(rules).map_err(AdminError::Invalid)?;
        self.enrol(&wanted, rules.replace_token, Existing::Refused).await
    }

    /// Adds one tenant that waits for its consent, whatever its app: it is active once a link has connected it.
    ///
    /// # Errors
    /// As [`Registry::add`].
    pub async fn add_invited(&self, draft: TenantDraft, rules: &ImportRules) -> Result<Enrolled, AdminError> {
        let mut wanted = draft.check(rules).map_err(AdminError::Invalid)?;
        // Permissions of the app itself have not been granted yet either.
        wanted.app.uses_refresh_token = true;
        self.enrol(&wanted, false, Existing::Refused).await
    }

    /// Adds a tenant or brings it up to date.
    pub(crate) async fn enrol(&self, wanted: &Wanted, replace_token: bool, existing: Existing) -> Result<Enrolled, AdminError> {
        let outcome = self.try_enrol(wanted, replace_token, existing).await;
        match outcome {
            Err(AdminError::Database(error)) => match store::violated(&error) {
                Some("tenant_name_once") => Err(AdminError::Conflict(self.name_is_taken(wanted).await?)),
                // Somebody else added the same tenant in this very moment.
                Some("tenant_pkey") => Err(AdminError::Busy),
                _ => Err(AdminError::Database(error)),
            },
            outcome => outcome,
        }
    }

    async fn try_enrol(&self, wanted: &Wanted, replace_token: bool, existing: Existing) -> Result<Enrolled, AdminError> {
        let vault = self.vault()?;
        // An import may take long, and nothing must be sealed under a key that has been retired meanwhile.
        if let Err(refusal) = self.reload_ring().await? {
            tracing::warn!(reason = refusal, "the changed key ring is not taken into use");
        }
        let mut tx = store::begin(&self.pool).await?;
        let stored = tenants::lock(&mut tx, wanted.id).await?;
        if existing == Existing::Refused
            && let Some(stored) = stored.as_ref().filter(|stored| stored.state != TenantState::Removed)
        {
            return Err(AdminError::Conflict(format!("tenant {} is there already, as {:?}", wanted.id, stored.facts.name)));
        }
        let mut opened = OpenedKey::of(vault, wanted.id, stored.as_ref()).await?;
        let plan = match &stored {
            None => Plan {
                kind: EnrolKind::Added,
                state: if wanted.token.is_some() || !wanted.app.uses_refresh_token {
                    TenantState::Active
                } else {
                    TenantState::AwaitingConsent
                },
                store_token: wanted.token.is_some(),
                new_credential: false,
            },
            Some(stored) => decide(stored, wanted, opened.standing(stored, wanted), replace_token).map_err(AdminError::Conflict)?,
        };
        if plan.store_token && opened.fresh.is_none() {
            // A key of its own for every token that arrives: who got hold of the key before learns nothing of it. What a
            // sign-in is bringing meanwhile was sealed under that one, and is brought again.
            opened = OpenedKey::fresh(vault, wanted.id).await?;
            candidates::forget_all(&mut tx, wanted.id).await?;
        }
        let enrolled = Enrolled { kind: plan.kind, state: plan.state, token_stored: plan.store_token };
        match plan.kind {
            EnrolKind::Unchanged => return Ok(enrolled),
            EnrolKind::Added => {
                tenants::insert(&mut tx, wanted.id, &wanted.facts, plan.state).await?;
                leases::create(&mut tx, wanted.id).await?;
            }
            EnrolKind::Updated | EnrolKind::Revived => {
                tenants::update(&mut tx, wanted.id, &wanted.facts, plan.state, plan.new_credential).await?;
            }
        }
        let mut details = serde_json::json!({
            "name": wanted.facts.name, "cloud": wanted.facts.cloud.as_str(), "app": wanted.facts.app.as_str(),
            "sources": wanted.facts.sources.iter().map(|source| source.as_str()).collect::<Vec<_>>(), "state": plan.state.as_str(),
        });
        if let Some(wrapped) = &opened.fresh {
            every_daemon_has(&mut tx, wrapped.key_id).await?;
            secrets::put_key(&mut tx, wanted.id, wrapped).await?;
        }
        if let Some(token) = wanted.token.as_ref().filter(|_| plan.store_token) {
            let before = stored.and_then(|stored| stored.secret).map(|secret| secret.version);
            let version = before.map_or(1, |version| version + 1);
            let sealed = opened.key.seal(&Place::of_refresh_token(wanted.id, &wanted.app.client_id, version), token)?;
            let import_mac = opened.key.import_mac(token);
            let new = NewToken { version, client_id: &wanted.app.client_id, sealed: &sealed, import_mac: &import_mac };
            secrets::put_imported(&mut tx, wanted.id, &new).await?;
            details["token"] = if before.is_some() { "replaced" } else { "stored" }.into();
            details["token_version"] = version.into();
            details["token_mac"] = hex::encode(import_mac).into();
        }
        troubles::forget_unread(&mut tx, wanted.id).await?;
        audit::append(&mut tx, wanted.id, self.actor(), plan.kind.action(), &details).await?;
        store::announce_change(&mut tx).await?;
        tx.commit().await?;
        Ok(enrolled)
    }

    async fn name_is_taken(&self, wanted: &Wanted) -> Result<String, AdminError> {
        let name = &wanted.facts.name;
        Ok(match tenants::by_name(&self.pool, name).await? {
            Some(other) => format!("the name {name:?} belongs to tenant {} already: names are unique", other.id),
            None => format!("the name {name:?} belongs to another tenant already: names are unique"),
        })
    }
}

/// Whether a tenant that is there already is brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    Updated,
    Refused,
}

/// Nothing is sealed under a key that a running daemon could not open it with.
pub(crate) async fn every_daemon_has(tx: &mut sqlx::PgTransaction<'_>, key: KeyId) -> Result<(), AdminError> {
    let key = key.to_string();
    match replicas::keys(&mut **tx).await?.into_iter().find(|daemon| !daemon.has(&key)) {
        None => Ok(()),
        Some(daemon) => Err(AdminError::Conflict(format!(
            "the daemon {} does not have key {key}, which seals here: put the same key ring in place there, then try again",
            daemon.host
        ))),
    }
}

/// The tenant's data key, opened or fresh.
struct OpenedKey {
    key: DataKey,
    fresh: Option<crate::vault::Wrapped>,
}

impl OpenedKey {
    /// A stored key that does not open is an error: nothing is ever sealed over what cannot be opened.
    async fn of(vault: &Vault, tenant: TenantId, stored: Option<&StoredTenant>) -> Result<Self, AdminError> {
        if let Some(wrapped) = stored.and_then(|stored| stored.wrapped_key.as_ref()) {
            return Ok(Self { key: vault.unwrap(tenant, wrapped).await?, fresh: None });
        }
        Self::fresh(vault, tenant).await
    }

    async fn fresh(vault: &Vault, tenant: TenantId) -> Result<Self, AdminError> {
        let (key, wrapped) = vault.new_data_key(tenant).await?;
        Ok(Self { key, fresh: Some(wrapped) })
    }

    fn standing(&self, stored: &StoredTenant, wanted: &Wanted) -> Standing {
        let Some(secret) = &stored.secret else { return Standing::None };
        let same_app = secret.client_id == wanted.app.client_id;
        let is_same = |token: &RefreshToken| secret.import_mac.as_ref().is_some_and(|mac| self.key.is_import(token, mac));
        match &wanted.token {
            None => Standing::Unasked,
            Some(token) if is_same(token) => Standing::Same { same_app },
            Some(_) => Standing::Other,
        }
    }
}
