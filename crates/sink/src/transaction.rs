//! The commit protocol: one transaction for one part of a batch.

use domain::{AlertBatch, Committed};
use sqlx::{Connection, PgConnection};
use std::time::Duration;

use crate::error::StoreError;
use crate::parts::{Part, Sorted};
use crate::plan::plan;
use crate::store::{feeds, fence, gaps, latest, quarantine, session, versions};

/// What a transaction came to, for the acknowledgement and the metrics.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) committed: Committed,
    /// Gaps that were not known before.
    pub(crate) gaps: u64,
    /// Which alerts (by position among the part's alerts) were new or had a new version.
    pub(crate) written: Vec<usize>,
}

/// Stores a part of a batch, or nothing.
///
/// # Errors
/// Any [`StoreError`]; the transaction is then rolled back. When the answer to COMMIT is lost the error
/// is [`StoreError::Away`] although everything may be stored: trying again finds out, and is harmless.
pub(crate) async fn store(
    conn: &mut PgConnection,
    batch: &AlertBatch,
    part: &Part,
    sorted: &Sorted<'_>,
    limit: Duration,
) -> Result<Stored, StoreError> {
    // Said out loud, because a database may have another default: after a wait for somebody else's row
    // each statement must see what that somebody has committed.
    let mut tx = conn.begin_with("begin isolation level read committed").await?;
    match write(&mut tx, batch, part, sorted, limit).await {
        Ok(stored) => {
            tx.commit().await?;
            Ok(stored)
        }
        Err(error) => {
            // If even this fails the connection is gone, and the server rolls back by itself.
            let _ = tx.rollback().await;
            Err(error)
        }
    }
}

async fn write(
    conn: &mut PgConnection,
    batch: &AlertBatch,
    part: &Part,
    sorted: &Sorted<'_>,
    limit: Duration,
) -> Result<Stored, StoreError> {
    let (tenant, source) = (batch.fence.tenant, batch.source);
    session::prepare(conn, limit).await?;

    // 1. The right to write.
    fence::hold(conn, batch.fence).await?;

    // 2. Ask before you send: a re-read page costs its ids and hashes.
    let mut stored = Stored::default();
    if !sorted.alerts.is_empty() {
        let known = versions::look_up(conn, tenant, source, &sorted.alerts).await?;
        let plan = plan(&sorted.alerts, &known, source.rank());
        stored.committed.duplicate = plan.duplicate;

        // 3. Every version not yet known, also one that is older than what stands.
        if !plan.versions.is_empty() {
            versions::insert(conn, tenant, source, &sorted.alerts, &plan.versions).await?;
            stored.written = plan.versions.iter().map(|version| version.0).collect();
        }

        // 4. The latest state.
        if !plan.latest.is_empty() {
            let taken = latest::put(conn, tenant, source, &sorted.alerts, &plan.latest).await?;
            stored.committed.new = taken.fresh;
        }
        stored.committed.updated = (plan.versions.len() as u64).saturating_sub(stored.committed.new);
    }

    // 5. Deliveries to other systems belong here: rows of an outbox, written from `plan` for every new
    //    version in this same transaction, so that an alert and its deliveries are committed together or
    //    not at all. There are none yet.

    // 6. What could not be stored or read, and at the very end the cursor that passes over all of it.
    if !sorted.rejected.is_empty() {
        stored.committed.quarantined = quarantine::add(conn, tenant, source, &sorted.rejected).await?;
    }
    let (cursor, gaps) = if part.tail { (batch.cursor.as_ref(), batch.gaps.as_slice()) } else { (None, [].as_slice()) };
    if !gaps.is_empty() {
        stored.gaps = gaps::add(conn, tenant, source, gaps).await?;
    }
    if cursor.is_some() || stored.committed.quarantined > 0 {
        feeds::advance(conn, tenant, source, cursor, stored.committed.quarantined).await?;
    }
    Ok(stored)
}
