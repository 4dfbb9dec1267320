//! [`Registry`]: the handle through which everybody else reaches tenants and their secrets.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use domain::{CloudName, TenantId};
use sqlx::PgPool;
use uuid::Uuid;

use crate::audit;
use crate::keyring::KeyRing;
use crate::store::{self, secrets, tenants};
use crate::vault::{Vault, VaultError};
use crate::wrapping::{KeyWrapping, Look, RingFile};

/// Tenants, their states and their sealed secrets. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(crate) pool: PgPool,
    keys: Option<Keys>,
    actor: Arc<str>,
}

/// The vault, and the file that its keys come from.
#[derive(Clone)]
struct Keys {
    vault: Arc<Vault>,
    ring: Arc<RingFile>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.vault.fmt(f)
    }
}

/// Why the registry does not open. The database is as it was: opening never writes.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Data keys are sealed under a key that is not in the ring.
    #[error(
        "{tenants} tenants are sealed under key {key_id}, which is not in the key ring: \
         restore the ring that holds this key; nothing in the database was changed"
    )]
    MissingKey {
        /// The key that is needed.
        key_id: String,
        /// How many tenants need it.
        tenants: i64,
    },
    /// A data key does not open although its ring key is there.
    #[error("the data key of tenant {tenant} does not open: {reason}; nothing in the database was changed")]
    Unreadable {
        /// Whose.
        tenant: TenantId,
        /// Why.
        reason: VaultError,
    },
    /// The database cannot be asked.
    #[error("the tenants cannot be read from the database: {0}")]
    Database(#[from] sqlx::Error),
}

/// This command was started without a key ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this needs the key ring: set vault.key_file")]
pub struct NoKeys;

impl Registry {
    /// Opens the registry, having made sure that the ring opens every tenant. Never writes (I28).
    ///
    /// # Errors
    /// When a key is missing from the ring, a data key does not open, or the database cannot be asked.
    pub async fn open(pool: PgPool, ring: KeyRing) -> Result<Self, OpenError> {
        if let Some((key_id, tenants)) = lacking(&pool, &ring).await? {
            return Err(OpenError::MissingKey { key_id, tenants });
        }
        let ring = Arc::new(RingFile::new(ring));
        let vault = Vault::new(Arc::clone(&ring) as Arc<dyn KeyWrapping>);
        check_data_keys(&pool, &vault).await?;
        let keys = Keys { vault: Arc::new(vault), ring };
        Ok(Self { pool, keys: Some(keys), actor: audit::nobody_said() })
    }

    /// The registry for commands that seal and open nothing.
    pub fn without_keys(pool: PgPool) -> Self {
        Self { pool, keys: None, actor: audit::nobody_said() }
    }

    /// The same registry, acting for somebody: the audit log names him in what is done through it.
    #[must_use]
    pub fn acting_as(self, actor: impl Into<Arc<str>>) -> Self {
        Self { actor: actor.into(), ..self }
    }

    pub(crate) fn actor(&self) -> &str {
        &self.actor
    }

    pub(crate) fn vault(&self) -> Result<&Vault, NoKeys> {
        self.keys.as_ref().map(|keys| &*keys.vault).ok_or(NoKeys)
    }

    pub(crate) fn ring_file(&self) -> Result<&RingFile, NoKeys> {
        self.keys.as_ref().map(|keys| &*keys.ring).ok_or(NoKeys)
    }

    /// The keys at hand, the one that seals first; none without a key ring.
    pub(crate) fn key_ids(&self) -> Vec<String> {
        self.keys.iter().flat_map(|keys| keys.vault.key_ids()).map(|id| id.to_string()).collect()
    }

    /// Takes the ring of the file into use if it is another one; `true` when it was. One that cannot be used, or that
    /// lacks a key which tenants are sealed under, is refused in a sentence, and the old one stays in use.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub(crate) async fn reload_ring(&self) -> Result<Result<bool, String>, sqlx::Error> {
        let Ok(file) = self.ring_file() else { return Ok(Ok(false)) };
        let ring = match file.look() {
            Look::Same => return Ok(Ok(false)),
            Look::Bad(error) => return Ok(Err(format!("{error}; the keys that were read before stay in use"))),
            Look::Other(ring) => ring,
        };
        if let Some((key_id, tenants)) = lacking(&self.pool, &ring).await? {
            let path = ring.path().display();
            return Ok(Err(format!(
                "{tenants} tenants are sealed under key {key_id}, which is not in the key ring {path} any more: restore it; \
                 the keys that were read before stay in use"
            )));
        }
        tracing::info!(key.id = %ring.active_id(), count = ring.ids().len(), "the key ring has changed and was read again");
        file.adopt(ring);
        Ok(Ok(true))
    }

    /// Copies the portal addresses of the configuration to the tenants, from where the dashboards
    /// build their links. Returns how many tenants changed.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn set_portals(&self, portals: &BTreeMap<CloudName, String>) -> Result<u64, sqlx::Error> {
        let (clouds, portals): (Vec<_>, Vec<_>) = portals.iter().map(|(cloud, portal)| (cloud.to_string(), portal.clone())).unzip();
        let mut tx = store::begin(&self.pool).await?;
        let changed = tenants::set_portals(&mut tx, &clouds, &portals).await?;
        tx.commit().await?;
        Ok(changed)
    }
}

/// A key that tenants are sealed under and this ring does not have, with their number.
async fn lacking(pool: &PgPool, ring: &KeyRing) -> Result<Option<(String, i64)>, sqlx::Error> {
    let known: Vec<String> = ring.ids().iter().map(ToString::to_string).collect();
    Ok(secrets::count_by_key(pool).await?.into_iter().find(|(id, _)| !known.contains(id)))
}

/// Opens every data key once. Batches keep the memory flat whatever the number of tenants.
async fn check_data_keys(pool: &PgPool, vault: &Vault) -> Result<(), OpenError> {
    const BATCH: i64 = 2_000;
    let mut after: Option<Uuid> = None;
    loop {
        let batch = secrets::keys_after(pool, after, BATCH).await?;
        let Some(last) = batch.last() else { return Ok(()) };
        after = Some(last.tenant);
        for row in batch {
            let tenant = TenantId(row.tenant);
            // The column is what `key status` counts by: it must not tell another story than the blob.
            let reason = crate::vault::key_of(&row.wrapped)
                .and_then(|id| if id.to_string() == row.key_id { Ok(()) } else { Err(VaultError::OtherKey(id)) })
                .err();
            let reason = match reason {
                None => vault.unwrap(tenant, &row.wrapped).await.err(),
                reason => reason,
            };
            if let Some(reason) = reason {
                return Err(OpenError::Unreadable { tenant, reason });
            }
        }
    }
}
