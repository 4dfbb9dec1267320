//! Alerts of a year in the database of a world, written by SQL before its daemon begins: what is stored already should not make
//! what comes any dearer.

use anyhow::{Context, ensure};
use sqlx::{AssertSqlSafe, PgPool};

/// Nothing of an archive was stored since then, and all that a daemon stores is. In the words of Postgres.
pub const ARCHIVED_BEFORE: &str = "yesterday";

/// Stores so many alerts for the customers of a database, as its administrator.
///
/// # Errors
/// When the database refuses.
pub async fn archive(pool: &PgPool, alerts: u64) -> anyhow::Result<()> {
    let sql = include_str!("archive.sql").replace(":alerts", &alerts.to_string());
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.context("no archive can be written")?;
    // What autovacuum would have done since.
    sqlx::raw_sql("vacuum analyze").execute(pool).await?;
    Ok(())
}

/// Whether an archive of so many alerts is still as it was written, and still taken for derived.
///
/// # Errors
/// When it is not, or the database cannot be asked.
pub async fn is_untouched(pool: &PgPool, alerts: u64) -> anyhow::Result<()> {
    let (latest, versions, anew): (i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from tocsin.alert where last_stored_at < $1::timestamptz),
                (select count(*) from tocsin.alert_version where stored_at < $1::timestamptz),
                (select count(*) from tocsin.derivation where begun_at >= $1::timestamptz)",
    )
    .bind(ARCHIVED_BEFORE)
    .fetch_one(pool)
    .await?;
    let kept = (u64::try_from(latest)?, u64::try_from(versions)?);
    ensure!(kept == (alerts, alerts), "of {alerts} alerts in the archive there are {latest} states and {versions} versions");
    ensure!(anew == 0, "{anew} customers were derived anew: archive.sql names another version of the digester");
    Ok(())
}
