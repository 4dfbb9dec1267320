//! [`Registry`]: the handle through which everybody else reaches tenants and their secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::{CloudName, TenantId};
use sqlx::PgPool;
use uuid::Uuid;

use crate::keyring::KeyRing;
use crate::store::{self, secrets, tenants};
use crate::vault::{Vault, VaultError};

/// Tenants, their states and their sealed secrets. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(crate) pool: PgPool,
    vault: Option<Arc<Vault>>,
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
        let vault = Vault::new(ring);
        let known: Vec<String> = vault.ring().ids().iter().map(ToString::to_string).collect();
        if let Some((key_id, tenants)) = secrets::count_by_key(&pool).await?.into_iter().find(|(id, _)| !known.contains(id)) {
            return Err(OpenError::MissingKey { key_id, tenants });
        }
        check_data_keys(&pool, &vault).await?;
        Ok(Self { pool, vault: Some(Arc::new(vault)) })
    }

    /// The registry for commands that seal and open nothing.
    pub fn without_keys(pool: PgPool) -> Self {
        Self { pool, vault: None }
    }

    pub(crate) fn vault(&self) -> Result<&Vault, NoKeys> {
        self.vault.as_deref().ok_or(NoKeys)
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
            let opened = crate::vault::key_of(&row.wrapped)
                .and_then(|id| if id.to_string() == row.key_id { Ok(()) } else { Err(VaultError::OtherKey(id)) })
                .and_then(|()| vault.unwrap(tenant, &row.wrapped));
            if let Err(reason) = opened {
                return Err(OpenError::Unreadable { tenant, reason });
            }
        }
    }
}
