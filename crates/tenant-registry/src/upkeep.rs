//! What a daemon does for the registry beside its leases: it notices a changed key ring, goes on deleting what is left
//! of customers who have gone, ends proofs that a process left when it died, tells the log where the audit log stands, so
//! that this leaves the host with the logs, remembers it on this host as well, and compares sources that should hold the same alerts.
//!
//! Every replica does all of it: each piece is a transaction of its own that the others wait for or pass by.

use std::time::Duration;

use domain::{TenantId, metric};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::audit::{Memory, MemoryError, digest};
use crate::registry::Registry;
use crate::sight::SightChanges;
use crate::store::erasures;

/// How the upkeep behaves.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const HEADS_EVERY: Duration = Duration::from_secs(300);
const COMPARE_EVERY: Duration = Duration::from_secs(60 * 60);
/// Tenants compared at once.
const COMPARED: usize = 20;
/// What is refused is said again this often.
const REFUSAL_EVERY: Duration = Duration::from_secs(300);
/// After some pieces of deleting, for everybody else.
const BREATH: Duration = Duration::from_millis(50);
/// Pieces deleted at a stretch; then the ring is looked at again.
const PIECES: usize = 10;

/// How long a stop waits for what is remembered of it.
const FAREWELL: Duration = Duration::from_secs(1);

/// The registry's second long-lived task; see [`Upkeep::run`].
pub struct Upkeep {
    registry: Registry,
    look_every: Duration,
    refused: Option<(String, Instant)>,
    heads: Option<(String, Instant)>,
    memory: Option<Memory>,
    /// Tenants that are still to be compared.
    uncompared: Vec<TenantId>,
    compared_at: Option<Instant>,
}

impl Upkeep {
    /// Puts it together; it does nothing before [`Upkeep::run`].
    pub fn new(registry: Registry) -> Self {
        Self { registry, look_every: LOOK_EVERY, refused: None, heads: None, memory: None, uncompared: Vec::new(), compared_at: None }
    }

    /// The same, looking so often.
    #[must_use]
    pub fn looking_every(self, look_every: Duration) -> Self {
        Self { look_every, ..self }
    }

    /// The same, remembering where the audit log stands.
    #[must_use]
    pub fn remembering(self, memory: Memory) -> Self {
        Self { memory: Some(memory), ..self }
    }

    /// Works until `stop`. Trouble with the database is waited for; the registry's worker tells of it.
    ///
    /// # Errors
    /// Never.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), String> {
        // A round is dropped wherever it stands: what is half-way in the database is rolled back.
        while stop.run_until_cancelled(self.round()).await.is_some() {}
        // What was decided just before the stop belongs to what is remembered.
        let _ = timeout(FAREWELL, self.remember()).await;
        Ok(())
    }

    async fn round(&mut self) {
        self.ring().await;
        self.proofs().await;
        let mut more = self.erase().await;
        self.heads().await;
        self.remember().await;
        more |= self.compare().await;
        sleep(if more { BREATH } else { self.look_every }).await;
    }

    async fn ring(&mut self) {
        match self.registry.reload_ring().await {
            Ok(Ok(changed)) => {
                self.refused = None;
                if changed && let Err(error) = self.registry.note_ring().await {
                    tracing::warn!(%error, "the keys in use could not be written to the audit log");
                }
            }
            Ok(Err(refusal)) => {
                let said = self.refused.as_ref().is_some_and(|(said, at)| *said == refusal && at.elapsed() < REFUSAL_EVERY);
                if !said {
                    tracing::error!(reason = refusal, "the changed key ring is not taken into use");
                    self.refused = Some((refusal, Instant::now()));
                }
            }
            Err(error) => tracing::debug!(%error, "the key ring could not be compared with the database"),
        }
    }

    /// Ends the proofs of processes that have died.
    async fn proofs(&self) {
        match self.registry.end_abandoned_proofs().await {
            Ok(ended) => {
                for tenant in ended {
                    tracing::warn!(
                        tenant.id = %tenant,
                        action = "the customer opens the link again",
                        "a new connection was not made: the process that proved it has ended"
                    );
                }
            }
            Err(error) => tracing::debug!(%error, "it could not be seen whether proofs were left"),
        }
    }

    /// Deletes some pieces; whether more is left.
    async fn erase(&self) -> bool {
        let tenant = match erasures::waiting(&self.registry.pool).await {
            Ok(waiting) => match waiting.first() {
                Some(tenant) => *tenant,
                None => return false,
            },
            Err(error) => {
                tracing::debug!(%error, "it could not be asked whose alerts are to be deleted");
                return false;
            }
        };
        for _ in 0..PIECES {
            match self.registry.erase_piece(tenant).await {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(tenant.id = %tenant, "all that was stored of this removed tenant is deleted");
                    break;
                }
                Err(error) => {
                    tracing::warn!(tenant.id = %tenant, %error, "deleting what was stored of a removed tenant goes on later");
                    return false;
                }
            }
        }
        true
    }

    async fn heads(&mut self) {
        if self.heads.as_ref().is_some_and(|(_, at)| at.elapsed() < HEADS_EVERY) {
            return;
        }
        match self.registry.audit_heads(None).await {
            Ok(heads) => {
                let digest = digest(&heads);
                if self.heads.as_ref().is_none_or(|(said, _)| *said != digest) {
                    let entries: i64 = heads.iter().map(|head| head.seq).sum();
                    tracing::info!(
                        audit.digest = digest,
                        audit.chains = heads.len(),
                        audit.entries = entries,
                        "where the audit log stands"
                    );
                }
                self.heads = Some((digest, Instant::now()));
            }
            Err(error) => tracing::debug!(%error, "the heads of the audit log could not be read"),
        }
    }

    async fn remember(&mut self) {
        let Some(memory) = &mut self.memory else { return };
        match self.registry.remember(memory).await {
            Ok(None) => {}
            Ok(Some(went_back)) => went_back.tell(memory),
            Err(error @ MemoryError::Database(_)) => tracing::debug!(%error, "where the audit log stands could not be remembered"),
            // Once: a folder that cannot be written now will hardly be later.
            Err(error @ MemoryError::File { .. }) => {
                tracing::info!(%error, "where the audit log stands cannot be remembered here: a database that goes back in time is not noticed");
                self.memory = None;
            }
        }
    }

    /// Compares some tenants; whether more are left.
    async fn compare(&mut self) -> bool {
        if self.uncompared.is_empty() {
            if self.compared_at.is_some_and(|at| at.elapsed() < COMPARE_EVERY) {
                return false;
            }
            self.compared_at = Some(Instant::now());
            match self.registry.comparable_tenants().await {
                Ok(tenants) => self.uncompared = tenants,
                Err(error) => tracing::debug!(%error, "it could not be asked whose sources can be compared"),
            }
        }
        let some = self.uncompared.split_off(self.uncompared.len().saturating_sub(COMPARED));
        match self.registry.compare_sources(&some).await {
            Ok(changes) => tell(&changes),
            Err(error) => {
                tracing::warn!(%error, count = some.len(), "the sources of some tenants could not be compared; the next try is in an hour")
            }
        }
        if let (true, Ok(count)) = (self.uncompared.is_empty(), self.registry.count_partial_sights().await) {
            metrics::gauge!(metric::PARTIAL_SIGHTS).set(count as f64);
        }
        !self.uncompared.is_empty()
    }
}

fn tell(changes: &SightChanges) {
    for (tenant, missing, compared) in &changes.narrowed {
        let action = "the customer's administrator: give that account all device groups, or consent to an app with permissions of its own";
        tracing::warn!(
            tenant.id = %tenant,
            missing,
            compared,
            action,
            "mde-alerts lacks alerts that graph-alerts holds: the account of this tenant probably sees only part of the device groups"
        );
    }
    for tenant in &changes.widened {
        tracing::info!(tenant.id = %tenant, "mde-alerts lacks none of the alerts that graph-alerts holds any more");
    }
}
