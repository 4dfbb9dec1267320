//! The audit log: who did what to which tenant, so written that a change of it shows.
//!
//! Every tenant has a chain of its own, and the installation has one (the nil UUID). An entry carries the hash of
//! the one before, so none can be altered, taken out or moved unseen; that the last ones were cut off shows by
//! the head, which is kept in a table of its own, told to the log of the daemon, and printed by `tocsin audit heads`
//! for keeping elsewhere. The database adds its part: the daemon's role can insert entries and neither change nor
//! delete one.
//!
//! [`append`] is the only way in. It is called inside of the transaction of the deed, so that what cannot be audited
//! does not happen, and what did not happen is not in the audit log. It takes the last lock of its transaction.
//!
//! # What is hashed
//!
//! SHA-256 rather than the faster BLAKE3 used elsewhere: Postgres has it as `sha256(bytea)`, and so has every tool an
//! auditor owns, who should not have to trust ours. Fields, each preceded by its length as 4 bytes, big endian:
//! `tocsin audit 1`, tenant (16 bytes), seq (8, big endian), time in microseconds since 1970 (8, big endian), actor,
//! action, details, hash of the entry before (32; zeros for the first).
//!
//! An entry never holds a token or a key; a token is told apart by its keyed hash. Of a person at a customer it holds one
//! thing: with which account a tenant was connected, since that account reads the alerts from then on and somebody must
//! be able to find who owns it.

mod memory;
mod read;
mod verify;

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use domain::TenantId;
use jiff::Timestamp;
use serde_json::Value;
use sqlx::PgTransaction;
use uuid::Uuid;

use crate::store;
use crate::store::audit::{EntryRow, lock_head};

pub use memory::{LostChain, Memory, MemoryError, WentBack};
pub(crate) use read::digest;
pub use read::{AuditEntry, AuditHead};
pub use verify::{Finding, Verified};

/// The chain of the installation: what belongs to no tenant.
pub(crate) const INSTALLATION: TenantId = TenantId(Uuid::nil());

/// An entry could not be written, so the deed is not done.
#[derive(Debug, thiserror::Error)]
#[error("it cannot be written to the audit log, so it was not done: {0}")]
pub struct Unaudited(#[source] pub(crate) sqlx::Error);

impl From<Unaudited> for sqlx::Error {
    fn from(error: Unaudited) -> Self {
        error.0
    }
}

/// Writes down what this transaction does. Nobody else appends to the chain until it has ended.
///
/// # Errors
/// When the entry cannot be written: let the transaction end without a commit then.
pub(crate) async fn append(
    tx: &mut PgTransaction<'_>,
    tenant: TenantId,
    actor: &str,
    action: &str,
    details: &Value,
) -> Result<(), Unaudited> {
    let (head, at) = lock_head(tx, tenant).await.map_err(Unaudited)?;
    let mut entry = EntryRow {
        tenant: tenant.0,
        seq: head.seq + 1,
        at: Some(at),
        actor: actor.to_owned(),
        action: action.to_owned(),
        details: details.to_string(),
        previous: head.hash,
        hash: Vec::new(),
    };
    entry.hash = hash(&entry, at).to_vec();
    store::audit::insert(tx, &entry, at).await.map_err(Unaudited)
}

/// The hash of an entry, over everything but the hash itself.
pub(crate) fn hash(entry: &EntryRow, at: Timestamp) -> [u8; 32] {
    let (seq, micros) = (entry.seq.to_be_bytes(), at.as_microsecond().to_be_bytes());
    let fields: [&[u8]; 8] = [
        b"tocsin audit 1",
        entry.tenant.as_bytes(),
        &seq,
        &micros,
        entry.actor.as_bytes(),
        entry.action.as_bytes(),
        entry.details.as_bytes(),
        &entry.previous,
    ];
    let mut context = Context::new(&SHA256);
    for field in fields {
        // Postgres holds no value that is larger.
        context.update(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
        context.update(field);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Who acts when nobody said so.
pub(crate) fn nobody_said() -> Arc<str> {
    Arc::from("tocsin")
}
