//! What a flood of rubbish at the pages must not do: keep customers out, or stay unseen.

use std::collections::HashSet;

use domain::Ticks;
use serde_json::json;
use uuid::Uuid;

use super::LinkRefused;
use crate::audit;
use crate::registry::Registry;
use crate::store::{self, links};

impl Registry {
    /// The ids of all links that are open and of all sign-ins that somebody may still come back from or watch. They are
    /// random, so whoever names one has held its ticket: no proof, and enough to be let in before those who name none.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn open_tickets(&self) -> Result<HashSet<Uuid>, sqlx::Error> {
        links::open_tickets(&self.pool).await
    }

    /// Writes into the audit of the installation how many refusals came too fast to be written one by one.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn audit_unwritten(&self, count: u64, from: Ticks, until: Ticks) -> Result<(), LinkRefused> {
        let mut tx = store::begin(&self.pool).await?;
        let (from, until) = (from.to_string(), until.to_string());
        let reason = format!("{count} refusals not written between {from} and {until}");
        let details = json!({ "reason": reason, "count": count, "from": from, "until": until });
        audit::append(&mut tx, audit::INSTALLATION, self.actor(), "consent.refused-unwritten", &details).await?;
        Ok(tx.commit().await?)
    }
}
