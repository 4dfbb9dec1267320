//! The SQL: who has something to derive ([`look`]), how far one has come ([`place`]), what there is to read ([`read`]), and what
//! is written ([`write`](mod@write): rows of one alert, [`counts`]: rows that alerts share).

pub(crate) mod counts;
pub(crate) mod look;
pub(crate) mod place;
pub(crate) mod read;
pub(crate) mod write;

use sqlx::PgConnection;

/// Sets limits and the planner's choices until the end of the transaction. What is derived can wait; nobody may wait for it:
/// a transaction of ours that stands still would hold up a claim of the lease and every derivation after it. Look-ups go by
/// key whatever the planner believes of the tables.
pub(crate) async fn prepare(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- store::prepare
         select set_config('statement_timeout', '8s', true),
                set_config('lock_timeout', '3s', true),
                set_config('idle_in_transaction_session_timeout', '8s', true),
                set_config('enable_seqscan', 'off', true),
                set_config('jit', 'off', true)",
    )
    .execute(conn)
    .await
    .map(drop)
}
