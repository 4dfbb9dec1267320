//! Whether a proof goes on: who proves says so every few seconds, and looks whether it is still wanted.
//!
//! A process that dies amid a proof leaves a customer who waits in front of a page, an operator who waits in front of a
//! terminal, and a sealed token that nobody vouches for. Within a minute the upkeep of any daemon ends such a proof: the
//! checklist says so, the audit has it, and the token is gone. A proof that was ended so cannot go on, should its
//! process only have slept.

use std::time::Duration;

use domain::TenantId;
use serde_json::json;
use uuid::Uuid;

use crate::admin::AdminError;
use crate::audit;
use crate::links::{Accepted, Step, StepResult};
use crate::registry::Registry;
use crate::store::{candidates, proofs};

/// Of whom nothing was heard for so long, that one is dead. It says so every ten seconds.
const SILENT: Duration = Duration::from_secs(45);

impl Registry {
    /// Sees that a proof may go on.
    ///
    /// # Errors
    /// [`AdminError::Conflict`] when its link has ended, whatever ended it, or the proof was given up.
    pub async fn still_wanted(&self, accepted: &Accepted) -> Result<(), AdminError> {
        if proofs::is_wanted(&self.pool, accepted.invited.tenant, accepted.sign_in).await? { Ok(()) } else { Err(not_wanted()) }
    }

    /// Says that a proof goes on.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn still_proving(&self, accepted: &Accepted) -> Result<(), AdminError> {
        Ok(proofs::goes_on(&self.pool, accepted.invited.tenant, accepted.sign_in).await?)
    }

    /// Ends a proof that failed. What the sign-in brought is thrown away.
    ///
    /// # Errors
    /// When the database refuses; the upkeep does it then.
    pub async fn end_proof(&self, accepted: &Accepted) -> Result<(), AdminError> {
        let (tenant, sign_in) = (accepted.invited.tenant, accepted.sign_in);
        let (mut tx, _) = self.lock(tenant).await?;
        proofs::end(&mut tx, tenant, sign_in).await?;
        candidates::forget(&mut *tx, tenant, sign_in).await?;
        Ok(tx.commit().await?)
    }

    /// Ends the proofs of processes that have died, of any tenant; whose they were.
    pub(crate) async fn end_abandoned_proofs(&self) -> Result<Vec<TenantId>, AdminError> {
        let mut ended = Vec::new();
        for (tenant, sign_in) in proofs::silent(&self.pool, SILENT).await? {
            if self.abandon(tenant, sign_in).await? {
                ended.push(tenant);
            }
        }
        Ok(ended)
    }

    async fn abandon(&self, tenant: TenantId, sign_in: Uuid) -> Result<bool, AdminError> {
        let (mut tx, _) = self.lock(tenant).await?;
        // Another replica may have been here, or the process may have come back.
        if !proofs::is_silent(&mut *tx, tenant, sign_in, SILENT).await? {
            return Ok(false);
        }
        proofs::end(&mut tx, tenant, sign_in).await?;
        candidates::forget(&mut *tx, tenant, sign_in).await?;
        let words = "the check was interrupted: the process that made it has ended; next: open the link again".to_owned();
        let step = Step { step: "interrupted".to_owned(), result: StepResult::Fail, words, outside: None };
        proofs::add_last_step(&mut tx, tenant, sign_in, &step).await?;
        audit::append(&mut tx, tenant, self.actor(), "sign-in.interrupted", &json!({ "sign_in": sign_in })).await?;
        tx.commit().await?;
        Ok(true)
    }
}

pub(crate) fn not_wanted() -> AdminError {
    let words = "the link has ended meanwhile: it was called back, another sign-in was first, or the tenant was removed";
    AdminError::Conflict(words.to_owned())
}
