//! Alerts, as the public view shows them.

use domain::{AlertId, TenantId, Ticks};
use serde::Serialize;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::{ours, stamp, stamp_or_null};
use crate::error::ReadError;
use crate::postgres::stamp::PgStamp;

/// Which alerts to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertFilter {
    /// Of this tenant only.
    pub tenant: Option<TenantId>,
    /// Of this severity only; case does not matter.
    pub severity: Option<String>,
    /// Stored, or stored anew, at or after this instant.
    pub since: Option<Ticks>,
    /// No more than so many.
    pub limit: u32,
}

impl Default for AlertFilter {
    fn default() -> Self {
        Self { tenant: None, severity: None, since: None, limit: 50 }
    }
}

/// A row of `dash.alert` without its body. Serialises to the column names of the view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlertRow {
    /// The customer.
    pub directory_id: TenantId,
    /// The operator's name for it.
    pub tenant: String,
    /// As the API gave it.
    pub alert_id: AlertId,
    /// The incident it belongs to.
    pub incident_id: Option<String>,
    /// Headline.
    pub title: Option<String>,
    /// `informational`, `low`, `medium`, `high`, …
    pub severity: Option<String>,
    /// `new`, `inProgress`, `resolved`, …
    pub status: Option<String>,
    /// The product that raised it.
    pub service_source: Option<String>,
    /// The detection technology.
    pub detection_source: Option<String>,
    /// The kill-chain category.
    pub category: Option<String>,
    /// When it was raised, by the source.
    #[serde(serialize_with = "stamp_or_null")]
    pub created_at: Option<Ticks>,
    /// When it last changed, by the source.
    #[serde(serialize_with = "stamp_or_null")]
    pub last_updated_at: Option<Ticks>,
    /// When we first stored it.
    #[serde(serialize_with = "stamp")]
    pub first_stored_at: Ticks,
    /// When we last stored a version of it.
    #[serde(serialize_with = "stamp")]
    pub last_stored_at: Ticks,
    /// Distinct bodies seen, at all sources.
    pub version_count: i32,
    /// Where to look at it.
    pub portal_url: Option<String>,
    /// Who works on it.
    pub assigned_to: Option<String>,
    /// What it turned out to be.
    pub classification: Option<String>,
    /// The finer word for that.
    pub determination: Option<String>,
}

#[derive(FromRow)]
pub(super) struct Columns {
    directory_id: Uuid,
    tenant: String,
    alert_id: String,
    incident_id: Option<String>,
    title: Option<String>,
    severity: Option<String>,
    status: Option<String>,
    service_source: Option<String>,
    detection_source: Option<String>,
    category: Option<String>,
    created_at: Option<PgStamp>,
    last_updated_at: Option<PgStamp>,
    first_stored_at: PgStamp,
    last_stored_at: PgStamp,
    version_count: i32,
    portal_url: Option<String>,
    assigned_to: Option<String>,
    classification: Option<String>,
    determination: Option<String>,
}

impl From<Columns> for AlertRow {
    fn from(row: Columns) -> Self {
        Self {
            directory_id: TenantId(row.directory_id),
            tenant: row.tenant,
            alert_id: AlertId::new(row.alert_id),
            incident_id: row.incident_id,
            title: row.title,
            severity: row.severity,
            status: row.status,
            service_source: row.service_source,
            detection_source: row.detection_source,
            category: row.category,
            created_at: row.created_at.and_then(PgStamp::to_ticks),
            last_updated_at: row.last_updated_at.and_then(PgStamp::to_ticks),
            first_stored_at: ours(row.first_stored_at),
            last_stored_at: ours(row.last_stored_at),
            version_count: row.version_count,
            portal_url: row.portal_url,
            assigned_to: row.assigned_to,
            classification: row.classification,
            determination: row.determination,
        }
    }
}

/// The page first, by the index on the time of storing and without the columns that cost something; then each of its
/// alerts by key out of the view. Asked of the view alone, a list would build every row there is and sort them. The
/// `limit 1` keeps the planner from joining the view as a whole.
const LIST: &str = "-- read::alerts_list
    with page as materialized (
        select a.tenant, a.alert_id, a.last_stored_at
        from tocsin.alert a join tocsin.tenant t using (tenant)
        where ($1::uuid is null or a.tenant = $1)
          and ($2::text is null or lower(a.severity) = lower($2))
          and ($3::timestamptz is null or a.last_stored_at >= $3)
        order by a.last_stored_at desc, a.tenant, a.alert_id
        limit $4
    )
    select d.*
    from page p
    cross join lateral (
        select directory_id, tenant, alert_id, incident_id, title, severity, status, service_source, detection_source, category,
               created_at, last_updated_at, first_stored_at, last_stored_at, version_count, portal_url,
               assigned_to, classification, determination
        from dash.alert d
        where d.directory_id = p.tenant and d.alert_id = p.alert_id
        limit 1
    ) d
    order by p.last_stored_at desc, p.tenant, p.alert_id";

/// The alerts stored last, newest first. Order and `since` go by when they were stored, not by what the
/// source claims: an alert stamped in the year 9999 would otherwise head every list for ever.
///
/// # Errors
/// When the database cannot be asked.
pub async fn alerts_list(pool: &PgPool, filter: &AlertFilter) -> Result<Vec<AlertRow>, ReadError> {
    let rows: Vec<Columns> = sqlx::query_as(LIST)
        .bind(filter.tenant.map(|tenant| tenant.0))
        .bind(filter.severity.as_deref())
        .bind(filter.since.and_then(PgStamp::of))
        .bind(i64::from(filter.limit))
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().map(AlertRow::from).collect())
}

#[cfg(test)]
mod tests {
    use sqlx::AssertSqlSafe;

    use super::*;

    #[sqlx::test(migrations = "../../migrations")]
    async fn a_list_of_the_newest_does_not_read_all_there_is(pool: PgPool) {
        sqlx::raw_sql(
            "insert into tocsin.tenant (tenant, name, cloud, app, sources, state)
             select md5(n::text)::uuid, n::text, 'global', 'main', '{graph-alerts}', 'active' from generate_series(1, 50) n;
             insert into tocsin.alert (tenant, alert_id, source, source_rank, hash, version_created_at, last_stored_at)
             select md5((n % 50 + 1)::text)::uuid, n::text, 'graph-alerts', 2, '', '2026-10-01', now() - n * interval '1 second'
             from generate_series(1, 20000) n;
             analyze tocsin.alert, tocsin.tenant",
        )
        .execute(&pool)
        .await
        .unwrap();
        let mut conn = pool.acquire().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("prepare list(uuid, text, timestamptz, bigint) as {LIST}"))).execute(&mut *conn).await.unwrap();
        let tenant = "'c4ca4238-a0b9-2382-0dcc-509a6f75849b'";
        for of in ["null", tenant] {
            for since in ["null", "now() - interval '1 hour'"] {
                let explain = format!("explain (costs off) execute list({of}, null, {since}, 50)");
                let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain)).persistent(false).fetch_all(&mut *conn).await.unwrap();
                let plan = plan.join("\n");
                assert!(!plan.contains("Seq Scan on alert"), "{plan}");
                assert!(plan.contains("alert_by_arrival") && plan.contains("alert_pkey"), "{plan}");
            }
        }
    }
}
