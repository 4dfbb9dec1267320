//! A rotated refresh token that the database has not taken yet.
//!
//! On a strict server it is the only one that still works, so it is held in memory, one per tenant, and offered
//! again until the database takes it, however long that lasts (I30). While it is held nothing is redeemed for the
//! tenant: the stored token is used up. After a long outage the lease is a new one; the version that the token
//! takes the place of says whether it still is the next one. What another replica has stored meanwhile wins.

use std::sync::Arc;
use std::time::Duration;

use domain::retry::Backoff;
use domain::{AccessToken, Audience, Epoch, Fence, RefreshToken, TenantId, Ticks, Trouble, rehearsal};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::Config;
use crate::core::{Core, Slot};
use crate::refresh::{key_ring_trouble, noted, unstored};
use crate::settle::Wish;
use crate::slot::Hold;
use crate::vault::RotateError;

/// What came back from the sign-in service and is not stored.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    /// The lease under which it is offered.
    pub(crate) fence: Fence,
    /// The version that it takes the place of.
    pub(crate) version: i64,
    /// The app registration that it works with.
    pub(crate) client_id: String,
    /// The token.
    pub(crate) refresh: RefreshToken,
    /// Whom the access token that came along is for. It is not used before the refresh token is stored.
    pub(crate) audience: Audience,
    /// That access token.
    pub(crate) access: AccessToken,
    /// When they came, by our clock.
    pub(crate) came_at: Ticks,
}

/// The same, with the reason and the time of the next offer.
#[derive(Debug)]
pub(crate) struct Unsaved {
    fresh: Fresh,
    trouble: Trouble,
    /// The next offer; `None` while the lease is known to be lost.
    offer_at: Option<Instant>,
    backoff: Backoff,
    /// Since when the database says that the tenant is not ours.
    not_ours_since: Option<Instant>,
}

impl Unsaved {
    /// Holds a token that was offered in vain at `now`.
    pub(crate) fn new(fresh: Fresh, trouble: Trouble, now: Instant, config: &Config) -> Self {
        let backoff = Backoff::new(Duration::from_millis(500), config.offer_cap);
        let mut unsaved = Self { fresh, trouble, offer_at: None, backoff, not_ours_since: None };
        unsaved.again(now);
        unsaved
    }

    /// Holds a token whose lease was lost before it could be stored: it is offered under the next lease of ours.
    pub(crate) fn without_lease(fresh: Fresh, trouble: Trouble, config: &Config) -> Self {
        let backoff = Backoff::new(Duration::from_millis(500), config.offer_cap);
        Self { fresh, trouble, offer_at: None, backoff, not_ours_since: None }
    }

    /// The registry says that the tenant is ours, under this lease.
    pub(crate) fn ours(&mut self, epoch: Epoch, now: Instant) {
        self.not_ours_since = None;
        if self.fresh.fence.epoch != epoch {
            self.fresh.fence.epoch = epoch;
            self.offer_at = Some(now);
        }
    }

    /// The database says that the tenant is not ours. Says whether to give up.
    pub(crate) fn not_ours(&mut self, now: Instant, config: &Config) -> bool {
        now - *self.not_ours_since.get_or_insert(now) >= config.give_up_after
    }

    /// When it is to be offered again.
    pub(crate) fn offer_at(&self) -> Option<Instant> {
        self.offer_at
    }

    /// What stands in the way of any redemption.
    pub(crate) fn hold(&self, now: Instant) -> Hold {
        let until = self.offer_at.unwrap_or(now).max(now + Duration::from_millis(500));
        Hold { trouble: self.trouble.clone(), until }
    }

    fn again(&mut self, now: Instant) {
        self.offer_at = Some(now + self.backoff.next_delay(None));
    }
}

impl Core {
    /// Offers the token that is held for this tenant, if there is one and its time has come. The caller has the
    /// tenant's gate.
    ///
    /// # Errors
    /// What stands in the way, while it has to be held on.
    pub(crate) async fn save_held(&self, tenant: TenantId, slot: &Slot, hurry: bool) -> Result<(), Hold> {
        let now = Instant::now();
        let fresh = match &slot.memory().unsaved {
            None => return Ok(()),
            Some(unsaved) if unsaved.offer_at.is_some_and(|at| hurry || at <= now) => unsaved.fresh.clone(),
            Some(unsaved) => return Err(unsaved.hold(now)),
        };
        let outcome = self.offer(&fresh).await;
        let now = Instant::now();
        match outcome {
            Ok(()) => {
                slot.memory().unsaved = None;
                tracing::info!(tenant.id = %tenant, "a new refresh token that had been held is stored now");
                let noted = noted(fresh.fence, self.vault.worked(fresh.fence, fresh.version, fresh.came_at).await);
                // The access token that came along is as good as ever, if the tenant is still ours.
                if let (Ok(()), Some(held)) = (noted, self.held(tenant)) {
                    self.settle_success(&held, slot, fresh.audience, Wish::Asked, fresh.access);
                }
                Ok(())
            }
            Err(RotateError::Moved) => {
                slot.memory().unsaved = None;
                tracing::warn!(tenant.id = %tenant, "a new refresh token that was held is dropped: the stored one was replaced meanwhile");
                Ok(())
            }
            Err(RotateError::LeaseLost) => {
                let mut memory = slot.memory();
                let Some(unsaved) = &mut memory.unsaved else { return Ok(()) };
                // Unless it is ours under another lease by now, somebody else may have it.
                if unsaved.fresh.fence == fresh.fence {
                    unsaved.offer_at = None;
                }
                Err(unsaved.hold(now))
            }
            Err(error @ (RotateError::Database(_) | RotateError::Unsealable(_))) => {
                let mut memory = slot.memory();
                let Some(unsaved) = &mut memory.unsaved else { return Ok(()) };
                unsaved.trouble = why(error);
                unsaved.again(now);
                Err(unsaved.hold(now))
            }
        }
    }

    /// Makes a rotated token durable, once.
    pub(crate) async fn offer(&self, fresh: &Fresh) -> Result<(), RotateError> {
        let failed = |rehearsed: rehearsal::Rehearsed| RotateError::Database(rehearsed.to_string());
        if rehearsal::bug("rotated-token-not-saved") {
            return Ok(());
        }
        rehearsal::point("refresh.before-save").await.map_err(failed)?;
        self.vault.commit_rotation(fresh.fence, fresh.version, &fresh.client_id, &fresh.refresh).await?;
        rehearsal::point("refresh.saved").await.map_err(failed)
    }

    /// One more offer of everything that is held, before the process ends.
    pub(crate) async fn save_all(self: &Arc<Self>) {
        let mut tries = JoinSet::new();
        for (tenant, slot) in self.holding() {
            let core = Arc::clone(self);
            tries.spawn(async move {
                let _alone = slot.gate.lock().await;
                // Whatever stands in the way, there is no other time.
                let _ = core.save_held(tenant, &slot, true).await;
            });
        }
        while tries.join_next().await.is_some() {}
    }

    /// Says which tokens go with the process.
    pub(crate) fn tell_unsaved(&self) {
        for (tenant, _) in self.holding() {
            tracing::error!(
                tenant.id = %tenant,
                "a new refresh token could not be stored before the end; where each works only once, this tenant needs a new one"
            );
        }
    }
}

/// Why a token is held, for whoever asks for one.
pub(crate) fn why(error: RotateError) -> Trouble {
    match error {
        RotateError::Unsealable(reason) => key_ring_trouble(reason),
        other => unstored(&other),
    }
}
