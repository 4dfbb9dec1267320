//! The SQL of this crate, one file per aggregate, and what all of it shares.
//!
//! Who locks more than one row of a tenant does it in this order, so that two of them never wait for
//! each other: lease, tenant, tenant_key, tenant_secret, trouble, link, audit_head. The head of an audit chain is held until
//! the end of the transaction, so it comes last.

use sqlx::postgres::PgQueryResult;
use sqlx::{PgPool, PgTransaction};

pub(crate) mod audit;
pub(crate) mod candidates;
pub(crate) mod clocks;
pub(crate) mod counts;
pub(crate) mod erasures;
pub(crate) mod leases;
pub(crate) mod links;
pub(crate) mod proofs;
pub(crate) mod readers;
pub(crate) mod replicas;
pub(crate) mod rotations;
pub(crate) mod secrets;
pub(crate) mod sights;
pub(crate) mod tenants;
pub(crate) mod troubles;

/// Begins a transaction that cannot block its successor for long: a client that is frozen inside of
/// one would otherwise hide its rows from `skip locked` and hold up whoever takes over.
pub(crate) async fn begin(pool: &PgPool) -> Result<PgTransaction<'static>, sqlx::Error> {
    pool.begin_with(
        "begin; set local statement_timeout = '9s'; set local lock_timeout = '4s'; set local idle_in_transaction_session_timeout = '9s'",
    )
    .await
}

/// The channel on which changes of tenants are announced; a hint only, everything works without.
pub(crate) const TENANT_CHANNEL: &str = "tocsin_tenant";

/// Wakes the workers once this transaction is committed.
pub(crate) async fn announce_change(tx: &mut PgTransaction<'_>) -> Result<(), sqlx::Error> {
    let statement = sqlx::query("/* announce_change */ select pg_notify($1, '')").bind(TENANT_CHANNEL);
    statement.execute(&mut **tx).await.map(drop)
}

/// A mutation that must meet exactly one row did so.
pub(crate) fn exactly_one(result: &PgQueryResult) -> Result<(), sqlx::Error> {
    match result.rows_affected() {
        1 => Ok(()),
        _ => Err(sqlx::Error::RowNotFound),
    }
}

/// Whether the database refused because another row has this value already.
pub(crate) fn violated(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error().filter(|error| error.is_unique_violation()).and_then(|error| error.constraint())
}

/// Whether the database gave up waiting for somebody else's lock: trying again is the answer.
pub(crate) fn was_busy(error: &sqlx::Error) -> bool {
    // lock_not_available, query_canceled, deadlock_detected
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| matches!(code.as_ref(), "55P03" | "57014" | "40P01"))
}
