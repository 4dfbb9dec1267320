//! Whether a connection is a session of its own.
//!
//! The daemon takes a role and prepares statements once per connection. A pooler in transaction mode lends one session
//! to many connections by turns: a role would leak, and a statement prepared here would be unknown, or another's, there.
//! So that is found out at the start instead of being met as a riddle later.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};

/// `false` when what one connection sets is seen by another, or forgotten.
///
/// # Errors
/// When the server cannot be reached or asked.
pub(super) async fn are_our_own(options: &PgConnectOptions) -> Result<bool, sqlx::Error> {
    let (mut mine, mut other) = (options.connect().await?, options.connect().await?);
    // Simple queries: a prepared statement is among the things that may be mixed up.
    let marker = uuid::Uuid::new_v4().to_string();
    sqlx::raw_sql(AssertSqlSafe(format!("select set_config('tocsin.session', '{marker}', false)"))).execute(&mut mine).await?;
    let leaks = is_marked(&mut other, &marker).await?;
    let keeps = is_marked(&mut mine, &marker).await?;
    mine.close().await?;
    other.close().await?;
    Ok(keeps && !leaks)
}

async fn is_marked(connection: &mut PgConnection, marker: &str) -> Result<bool, sqlx::Error> {
    let row = sqlx::raw_sql("select coalesce(current_setting('tocsin.session', true), '')").fetch_one(connection).await?;
    Ok(row.try_get::<String, _>(0)? == marker)
}
