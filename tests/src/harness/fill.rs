//! A database as months of reading would leave it, written by SQL: pictures of it can be drawn and counted again.

use anyhow::Context;
use sqlx::{AssertSqlSafe, PgPool};

/// Writes so many alerts of so many customers into a migrated database, as its administrator.
///
/// # Errors
/// When the database refuses.
pub async fn fill(pool: &PgPool, alerts: u32, tenants: u32) -> anyhow::Result<()> {
    let sql = include_str!("fill.sql").replace(":alerts", &alerts.to_string()).replace(":tenants", &tenants.to_string());
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.context("the database cannot be filled")?;
    Ok(())
}
