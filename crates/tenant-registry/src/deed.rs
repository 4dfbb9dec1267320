//! A deed that another crate does for an operator: it is committed together with its entries in the audit log, or not at all.
//!
//! What the registry itself changes is audited where it is changed. Reading again, comparing and trying quarantine again
//! are written down by the sink, which knows nothing of audit logs; this brings both into one transaction, and there is
//! no way to commit it without saying what was done.

use domain::TenantId;
use serde_json::Value;
use sqlx::{PgConnection, PgTransaction};

use crate::admin::AdminError;
use crate::audit;
use crate::registry::Registry;

/// A transaction that ends with what it did being audited. Dropped before that, it changes nothing.
#[derive(Debug)]
pub struct Deed<'r> {
    tx: PgTransaction<'static>,
    actor: &'r str,
}

impl Registry {
    /// Begins a deed of whoever this registry acts for.
    ///
    /// # Errors
    /// [`AdminError::Database`] when the database cannot be asked.
    pub async fn deed(&self) -> Result<Deed<'_>, AdminError> {
        // Marking a large quarantine may take its time; a client that is frozen in here may not.
        let tx = self.pool.begin_with("begin; set local idle_in_transaction_session_timeout = '9s'").await?;
        Ok(Deed { tx, actor: self.actor() })
    }
}

impl Deed<'_> {
    /// Where it is done.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    /// Writes down what was done to which tenants, and commits. Without an entry nothing was done, and nothing is.
    ///
    /// # Errors
    /// [`AdminError::Unaudited`] when it cannot be written to the audit log, [`AdminError::Busy`] when somebody else is
    /// writing there, or [`AdminError::Database`]. Nothing was done then.
    pub async fn done(mut self, action: &str, entries: impl IntoIterator<Item = (TenantId, Value)>) -> Result<(), AdminError> {
        let mut entries: Vec<_> = entries.into_iter().collect();
        if entries.is_empty() {
            return Ok(self.tx.rollback().await?);
        }
        // Heads are locked in one order, so that two deeds never wait for each other.
        entries.sort_by_key(|(tenant, _)| tenant.0);
        for (tenant, details) in &entries {
            audit::append(&mut self.tx, *tenant, self.actor, action, details).await?;
        }
        Ok(self.tx.commit().await?)
    }
}
