//! What every transaction of ours sets for itself, since most people run Postgres with its defaults.

use std::time::Duration;

use sqlx::PgConnection;

/// How long a transaction may keep others waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// One statement, and standing idle between two.
    pub(crate) statement: Duration,
    /// Waiting for somebody else's lock. Shorter, because a lock held elsewhere says nothing about the other feeds,
    /// and the writer that waits for it is missing to them.
    pub(crate) lock: Duration,
}

/// Sets limits and the planner's choices until the end of the transaction, in one round trip.
///
/// - The three timeouts bound how long we can block others: a client frozen inside a transaction would
///   hide its lease row from its successor for ever.
/// - Our look-ups go by key, always. On tables that were never analysed the planner may believe them
///   empty and read them from end to end, and a plan made then is kept: twenty times the time.
/// - Statements over many partitions look expensive enough to be compiled, which takes longer than they do.
pub(crate) async fn prepare(conn: &mut PgConnection, limits: Limits) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- session::prepare
         select set_config('statement_timeout', $1, true),
                set_config('lock_timeout', $2, true),
                set_config('idle_in_transaction_session_timeout', $1, true),
                set_config('enable_seqscan', 'off', true),
                set_config('jit', 'off', true)",
    )
    .bind(milliseconds(limits.statement))
    .bind(milliseconds(limits.lock))
    .execute(conn)
    .await
    .map(drop)
}

fn milliseconds(span: Duration) -> String {
    format!("{}ms", span.as_millis().max(1))
}

/// Runs a command that has no parameters and no answer but its success.
pub(crate) async fn run(conn: &mut PgConnection, command: &'static str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(command).execute(conn).await.map(drop)
}
