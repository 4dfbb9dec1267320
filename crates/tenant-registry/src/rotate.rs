//! Rotating the key that seals the data keys, and retiring one that seals nothing any more. Online: refreshes go on.
//!
//! Two steps, because several processes read the ring: a fresh key is brought into every ring first, where it opens and
//! does not seal; only when every running daemon has said that it has it, it becomes the first. Then all data keys are
//! rewrapped, a batch at a time. What is sealed under the data keys is not touched.
//!
//! The state is in three places that a kill cannot tear apart: the ring file (`next`, and which key is first), the
//! database (which key wraps each data key), and `tocsin.key_rotation`, which says that a rotation has not come to its
//! end. Running the command again goes on from wherever that is. Audit entries are written before the file is changed:
//! a file cannot be part of a transaction, and a deed without an entry would be worse than an entry without its deed.

use std::time::Duration;

use domain::{TenantId, rehearsal};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::admin::AdminError;
use crate::audit::{self, INSTALLATION};
use crate::keyring::change::{RingChange, RingTarget};
use crate::keyring::{KeyId, KeyRing, KeyRingError};
use crate::registry::{NoKeys, Registry};
use crate::store::{self, replicas, rotations, secrets};
use crate::vault::VaultError;

/// Data keys rewrapped in one transaction.
const BATCH: i64 = 100;
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A daemon looks at its ring every two seconds, and says then what it has.
const NOTICED_WITHIN: Duration = Duration::from_secs(6);

/// Where a rotation stands, for whoever watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RotationStep {
    /// This key was brought into the ring.
    Added(KeyId),
    /// These daemons do not have the key yet.
    Waiting(Vec<String>),
    /// This key seals now.
    Activated(KeyId),
    /// So many data keys of so many were rewrapped.
    Rewrapped {
        /// Done by this run.
        done: i64,
        /// To be done by this run.
        of: i64,
    },
}

/// How a rotation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// Every data key is wrapped by the new key.
    Done {
        /// The key that seals.
        active: KeyId,
        /// Data keys that this run rewrapped.
        rewrapped: i64,
        /// Keys of the ring that seal nothing any more.
        idle: Vec<KeyId>,
    },
    /// The ring was written to another file, which has to be put in its place before the rotation can go on.
    PutInPlace {
        /// The key it is about.
        key: KeyId,
        /// Whether the key seals in that ring; otherwise it only opens.
        seals: bool,
    },
}

/// How retiring a key ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retired {
    /// The key that left the ring.
    pub key: KeyId,
    /// The key that seals.
    pub active: KeyId,
}

/// Why keys were not changed, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum KeyChangeError {
    /// The ring file.
    #[error(transparent)]
    Ring(#[from] KeyRingError),
    /// A data key does not open. It was left as it is.
    #[error("the data key of tenant {tenant} does not open and was left as it is: {reason}")]
    Unreadable {
        /// Whose.
        tenant: TenantId,
        /// Why.
        reason: VaultError,
    },
    /// Running daemons lack a key.
    #[error(
        "key {key} is not in use yet, since these daemons do not have it: {}; put the key ring in its place there \
         (a service that has it as a systemd credential reads it at its start), and type the same command again", .daemons.join(", ")
    )]
    Waiting {
        /// Which key.
        key: KeyId,
        /// Who lacks it.
        daemons: Vec<String>,
    },
    /// It would break something.
    #[error("{0}")]
    Refused(String),
    /// No key ring is loaded.
    #[error(transparent)]
    NoKeys(#[from] NoKeys),
    /// The database or the audit log.
    #[error(transparent)]
    Admin(#[from] AdminError),
}

impl From<sqlx::Error> for KeyChangeError {
    fn from(error: sqlx::Error) -> Self {
        Self::Admin(error.into())
    }
}

impl From<audit::Unaudited> for KeyChangeError {
    fn from(error: audit::Unaudited) -> Self {
        Self::Admin(error.into())
    }
}

impl Registry {
    /// Rotates to a fresh key, or goes on with a rotation that was interrupted. `patience` is how long running daemons
    /// are waited for.
    ///
    /// # Errors
    /// When the ring cannot be changed, a daemon does not get the key in time, or the database refuses. Whatever was done
    /// stays done, and the same command goes on from there.
    pub async fn rotate_key(
        &self,
        target: &RingTarget,
        patience: Duration,
        mut watch: impl FnMut(RotationStep),
    ) -> Result<Rotated, KeyChangeError> {
        let file = self.ring_file()?;
        let mut change = RingChange::begin(file.path())?;
        point("rotate.begin").await?;
        if change.ring().next_id().is_none() && self.needs_fresh_key(change.ring()).await? {
            let key = RingChange::fresh_key()?;
            let id = key.id;
            self.begin_rotation(id).await?;
            point("rotate.noted").await?;
            change.add_next(key, target)?;
            point("rotate.next-in-ring").await?;
            watch(RotationStep::Added(id));
            if *target != RingTarget::InPlace {
                return Ok(Rotated::PutInPlace { key: id, seals: false });
            }
        }
        let key = change.ring().next_id().unwrap_or(change.ring().active_id());
        self.begin_rotation(key).await?;
        file.adopt(KeyRing::load(file.path())?);
        self.wait_until_all_have(key, patience, &mut watch).await?;
        point("rotate.all-have-it").await?;
        if change.ring().next_id().is_some() {
            self.note_key("key.activate", key).await?;
            point("rotate.before-activation").await?;
            change.activate_next(target)?;
            point("rotate.activated").await?;
            if *target != RingTarget::InPlace {
                return Ok(Rotated::PutInPlace { key, seals: true });
            }
            file.adopt(KeyRing::load(file.path())?);
            watch(RotationStep::Activated(key));
        }
        let rewrapped = self.rewrap_all(key, &mut watch).await?;
        Ok(Rotated::Done { active: key, rewrapped, idle: change.ring().ids().into_iter().filter(|id| *id != key).collect() })
    }

    /// Takes a key out of the ring that seals nothing any more. The next key may be taken out too: that calls a rotation off.
    ///
    /// # Errors
    /// When tenants are sealed under it, it is the one that seals, or a running daemon seals with it or lacks the one that does.
    pub async fn retire_key(&self, asked: &str, target: &RingTarget) -> Result<Retired, KeyChangeError> {
        let file = self.ring_file()?;
        let mut change = RingChange::begin(file.path())?;
        let ring = change.ring();
        let active = ring.active_id();
        let Some(key) = ring.ids().into_iter().find(|id| id.to_string() == asked) else {
            return Err(KeyChangeError::Refused(format!(
                "there is no key {asked:?} in {}: `tocsin key status` lists the keys",
                ring.path().display()
            )));
        };
        if key == active {
            return Err(KeyChangeError::Refused(format!("key {key} is the one that seals: type `tocsin key rotate` first")));
        }
        let counts = secrets::count_by_key(&self.pool).await?;
        if let Some((_, tenants)) = counts.iter().find(|(id, _)| *id == key.to_string()) {
            return Err(KeyChangeError::Refused(format!(
                "{tenants} tenants are sealed under key {key}: type `tocsin key rotate` to seal them under key {active}"
            )));
        }
        self.wait_until_none_needs(key, active).await?;
        let mut tx = store::begin(&self.pool).await?;
        rotations::forget(&mut tx, &key.to_string()).await?;
        let details = json!({ "key": key.to_string(), "active": active.to_string() });
        audit::append(&mut tx, INSTALLATION, self.actor(), "key.retire", &details).await?;
        tx.commit().await?;
        point("retire.noted").await?;
        change.remove(key, target)?;
        point("retire.removed").await?;
        if *target == RingTarget::InPlace {
            file.adopt(KeyRing::load(file.path())?);
        }
        Ok(Retired { key, active })
    }

    /// Whether the ring has to get a fresh key, or what was begun is gone on with.
    async fn needs_fresh_key(&self, ring: &KeyRing) -> Result<bool, KeyChangeError> {
        let active = ring.active_id().to_string();
        if secrets::count_wrapped_by_others(&self.pool, &active).await? > 0 {
            return Ok(false);
        }
        match rotations::unfinished(&self.pool).await? {
            None => Ok(true),
            Some(key) if key == active => Ok(false),
            Some(other) => {
                let daemons = replicas::keys(&self.pool).await?;
                if let Some(daemon) = daemons.iter().find(|daemon| daemon.ring.contains(&other)) {
                    return Err(KeyChangeError::Refused(format!(
                        "a rotation to key {other} is under way, and {} is not the ring that has it: bring it here from where the daemon {} \
                         runs, and type the same command again",
                        ring.path().display(),
                        daemon.host
                    )));
                }
                // Nobody has that key and nothing is sealed under it: it got lost before it was of any use.
                let mut tx = store::begin(&self.pool).await?;
                rotations::forget(&mut tx, &other).await?;
                audit::append(&mut tx, INSTALLATION, self.actor(), "key.rotation-forgotten", &json!({ "key": other })).await?;
                tx.commit().await?;
                Ok(true)
            }
        }
    }

    async fn begin_rotation(&self, key: KeyId) -> Result<(), KeyChangeError> {
        let mut tx = store::begin(&self.pool).await?;
        if rotations::begin(&mut tx, &key.to_string()).await? {
            audit::append(&mut tx, INSTALLATION, self.actor(), "key.rotate", &json!({ "key": key.to_string() })).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn note_key(&self, action: &str, key: KeyId) -> Result<(), KeyChangeError> {
        let mut tx = store::begin(&self.pool).await?;
        audit::append(&mut tx, INSTALLATION, self.actor(), action, &json!({ "key": key.to_string() })).await?;
        Ok(tx.commit().await?)
    }

    /// Waits until no running daemon seals with this key, and all of them have the one that seals now. Right after a
    /// rotation they have not looked at the ring yet.
    async fn wait_until_none_needs(&self, key: KeyId, active: KeyId) -> Result<(), KeyChangeError> {
        let deadline = Instant::now() + NOTICED_WITHIN;
        loop {
            let daemons = replicas::keys(&self.pool).await?;
            let seals = daemons.iter().find(|daemon| daemon.ring.first().is_some_and(|first| *first == key.to_string()));
            let lacks = daemons.iter().find(|daemon| !daemon.ring.contains(&active.to_string()));
            let in_the_way = match (seals, lacks) {
                (None, None) => return Ok(()),
                (Some(daemon), _) => KeyChangeError::Refused(format!(
                    "the daemon {} still seals with key {key}: it reads its key ring from elsewhere, so put the new one in its place \
                     there and type the same command again",
                    daemon.host
                )),
                (None, Some(daemon)) => KeyChangeError::Waiting { key: active, daemons: vec![daemon.host.clone()] },
            };
            if Instant::now() >= deadline {
                return Err(in_the_way);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn wait_until_all_have(
        &self,
        key: KeyId,
        patience: Duration,
        watch: &mut impl FnMut(RotationStep),
    ) -> Result<(), KeyChangeError> {
        let deadline = Instant::now() + patience;
        let mut told = Vec::new();
        loop {
            let mut lacking: Vec<String> = replicas::keys(&self.pool)
                .await?
                .into_iter()
                .filter(|daemon| !daemon.ring.contains(&key.to_string()))
                .map(|daemon| daemon.host)
                .collect();
            lacking.dedup();
            if lacking.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(KeyChangeError::Waiting { key, daemons: lacking });
            }
            if told != lacking {
                watch(RotationStep::Waiting(lacking.clone()));
                told = lacking;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn rewrap_all(&self, key: KeyId, watch: &mut impl FnMut(RotationStep)) -> Result<i64, KeyChangeError> {
        let of = secrets::count_wrapped_by_others(&self.pool, &key.to_string()).await?;
        let mut done = 0;
        loop {
            point("rotate.before-batch").await?;
            let count = self.rewrap_some(key).await?;
            point("rotate.batch-committed").await?;
            if count == 0 {
                return Ok(done);
            }
            done += count;
            watch(RotationStep::Rewrapped { done, of: of.max(done) });
        }
    }

    /// Rewraps a batch in one transaction; how many it were. With none left, the rotation has come to its end.
    async fn rewrap_some(&self, key: KeyId) -> Result<i64, KeyChangeError> {
        let vault = self.vault()?;
        // Wrapping with another key would never come to an end.
        if vault.key_ids().first() != Some(&key) {
            return Err(KeyChangeError::Refused(format!("key {key} does not seal any more: type the same command again")));
        }
        let id = key.to_string();
        let mut tx = store::begin(&self.pool).await?;
        let batch = secrets::lock_wrapped_by_others(&mut tx, &id, BATCH).await?;
        let mut rewrapped = Vec::with_capacity(batch.len());
        for stored in batch {
            let tenant = TenantId(stored.tenant);
            let wrapped = vault.rewrap(tenant, &stored.wrapped).await.map_err(|reason| KeyChangeError::Unreadable { tenant, reason })?;
            rewrapped.push((tenant, wrapped));
        }
        point("rotate.batch-wrapped").await?;
        let count = i64::try_from(rewrapped.len()).unwrap_or(i64::MAX);
        if count == 0 {
            rotations::finish(&mut tx).await?;
            audit::append(&mut tx, INSTALLATION, self.actor(), "key.rotated", &json!({ "key": id })).await?;
        } else {
            secrets::rewrap(&mut tx, &rewrapped).await?;
            audit::append(&mut tx, INSTALLATION, self.actor(), "key.rewrap", &json!({ "key": id, "tenants": count })).await?;
        }
        point("rotate.batch-written").await?;
        tx.commit().await?;
        Ok(count)
    }
}

/// Passes a named point; a rehearsal's error looks like a database that is away.
async fn point(name: &'static str) -> Result<(), sqlx::Error> {
    rehearsal::point(name).await.map_err(|rehearsed| sqlx::Error::Io(std::io::Error::other(rehearsed)))
}
