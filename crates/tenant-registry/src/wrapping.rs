//! What seals the data keys: the seam at which a key service (a KMS, an HSM) would take the place of the ring file.
//!
//! A data key is all that is ever sealed here, and a wrapped one is all that lies in the database. Whoever
//! implements [`KeyWrapping`] may answer over the network, so its methods are asynchronous; it names its keys by
//! [`KeyId`], which stands in clear beside every wrapped key, so that a key which is not at hand can be named.
//!
//! [`RingFile`] is the one there is. It is shared by everything in the process and can be exchanged while the process
//! runs: a rotation must not cost a restart. A ring is taken over only if it opens everything that the old one
//! opens and something still needs; otherwise the old one stays in use and the refusal is told.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use domain::TenantId;
use zeroize::Zeroizing;

use crate::keyring::{KeyId, KeyRing, KeyRingError};
use crate::vault::{Key, Place, VaultError, Wrapped, key_of};

/// Seals and opens data keys.
#[async_trait::async_trait]
pub(crate) trait KeyWrapping: Send + Sync + 'static {
    /// The keys at hand; the first one wraps, all unwrap.
    fn ids(&self) -> Vec<KeyId>;
    /// Wraps a data key for its tenant with the first key.
    async fn wrap(&self, tenant: TenantId, data_key: &[u8; 32]) -> Result<Wrapped, VaultError>;
    /// Unwraps a data key with whichever key wrapped it.
    async fn unwrap(&self, tenant: TenantId, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, VaultError>;
}

/// Tells one content of a file from the next without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// What a look at the ring file has come to.
#[derive(Debug)]
pub(crate) enum Look {
    /// It is what is in use.
    Same,
    /// There is another ring; it is not in use yet.
    Other(KeyRing),
    /// There is none that can be used.
    Bad(KeyRingError),
}

/// The key ring of a file, exchangeable while it is in use.
pub(crate) struct RingFile {
    path: PathBuf,
    ring: RwLock<Arc<KeyRing>>,
    /// Of the file when it was last found to be what is in use.
    seen: Mutex<Option<Stamp>>,
}

impl RingFile {
    /// A ring that was loaded just now.
    pub(crate) fn new(ring: KeyRing) -> Self {
        Self { path: ring.path().to_owned(), ring: RwLock::new(Arc::new(ring)), seen: Mutex::new(None) }
    }

    /// What is in use.
    pub(crate) fn current(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Takes another ring into use.
    pub(crate) fn adopt(&self, ring: KeyRing) {
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }

    /// Looks whether the file holds another ring than the one in use. A file that was not touched is not read.
    pub(crate) fn look(&self) -> Look {
        // Taken before the file is read: what is written meanwhile is seen at the next look.
        let stamp = self.stamp();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp.is_some() && *seen == stamp {
            return Look::Same;
        }
        match KeyRing::load(&self.path) {
            Ok(ring) if ring.same_as(&self.current()) => {
                *seen = stamp;
                Look::Same
            }
            Ok(ring) => Look::Other(ring),
            Err(error) => Look::Bad(error),
        }
    }

    fn stamp(&self) -> Option<Stamp> {
        let meta = fs::metadata(&self.path).ok()?;
        Some(Stamp { device: meta.dev(), inode: meta.ino(), size: meta.size(), changed: (meta.ctime(), meta.ctime_nsec()) })
    }

    /// The ring that has this key. When the one in use does not, the file may: another replica has activated a key
    /// before we looked. A ring that lacks a key of the one in use is not taken that way.
    fn holding(&self, id: KeyId) -> Option<Arc<KeyRing>> {
        let current = self.current();
        if current.get(id).is_some() {
            return Some(current);
        }
        let Look::Other(ring) = self.look() else { return None };
        let known: BTreeSet<KeyId> = ring.ids().into_iter().collect();
        if !known.contains(&id) || !current.ids().iter().all(|id| known.contains(id)) {
            return None;
        }
        tracing::info!(key.id = %id, "the key ring was read again, since this key was not in it");
        self.adopt(ring);
        Some(self.current())
    }
}

#[async_trait::async_trait]
impl KeyWrapping for RingFile {
    fn ids(&self) -> Vec<KeyId> {
        self.current().ids()
    }

    async fn wrap(&self, tenant: TenantId, data_key: &[u8; 32]) -> Result<Wrapped, VaultError> {
        let ring = self.current();
        let active = ring.active();
        let blob = Key::new(active.id, active.bytes.clone()).seal(&Place::of_data_key(tenant), data_key)?;
        Ok(Wrapped { key_id: active.id, blob })
    }

    async fn unwrap(&self, tenant: TenantId, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, VaultError> {
        let id = key_of(wrapped)?;
        let ring = self.holding(id).ok_or(VaultError::OtherKey(id))?;
        let key = ring.get(id).ok_or(VaultError::OtherKey(id))?;
        let plain = Key::new(id, key.bytes.clone()).open(&Place::of_data_key(tenant), wrapped)?;
        let bytes: [u8; 32] = plain.as_slice().try_into().map_err(|_| VaultError::NotSealed)?;
        Ok(Zeroizing::new(bytes))
    }
}
