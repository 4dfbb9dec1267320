//! What is stored takes room: tables with their indices and what lies beside them.

use sqlx::PgPool;

/// Bytes, after whatever has happened to the rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk {
    /// Of one version: its row, its body and its indices.
    pub version: f64,
    /// Of the latest states, for each version.
    pub share_of_latest: f64,
    /// Of all that was derived from one alert: evidence, finding, what it was counted as.
    pub derived: f64,
}

impl Disk {
    /// Asks a database that holds alerts.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn of(pool: &PgPool) -> anyhow::Result<Self> {
        let (version, share_of_latest, derived) = sqlx::query_as(
            "with sizes as (
                 select sum(pg_total_relation_size(c.oid)) filter (where c.relname like 'alert\\_version%') as versions,
                     sum(pg_total_relation_size(c.oid)) filter (where c.relname = 'alert') as latest,
                     sum(pg_total_relation_size(c.oid)) filter (where c.relname in ('evidence', 'finding', 'digested')) as derived
                 from pg_class c where c.relnamespace = 'tocsin'::regnamespace and c.relkind = 'r'
             )
             select (versions / kept)::float8, (latest / kept)::float8, (derived / alerts)::float8
             from sizes, (select count(*) as alerts from tocsin.alert) a, (select count(*) as kept from tocsin.alert_version) v",
        )
        .fetch_one(pool)
        .await?;
        Ok(Self { version, share_of_latest, derived })
    }
}
