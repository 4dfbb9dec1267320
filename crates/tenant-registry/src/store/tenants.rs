//! `tocsin.tenant`: who our customers are.

use domain::{AppName, CloudName, Source, TenantId, TenantState};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgExecutor, PgTransaction, Row as _};
use uuid::Uuid;

use crate::admin::TenantSummary;
use crate::store::exactly_one;

/// What an operator says about a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) cloud: CloudName,
    pub(crate) app: AppName,
    pub(crate) sources: Vec<Source>,
    pub(crate) portal_url: String,
}

/// A tenant row, with what belongs to it and is needed to change it.
pub(crate) struct StoredTenant {
    pub(crate) facts: Facts,
    pub(crate) state: TenantState,
    pub(crate) wrapped_key: Option<Vec<u8>>,
    pub(crate) secret: Option<StoredSecret>,
}

/// What is known of a stored secret without opening it.
pub(crate) struct StoredSecret {
    pub(crate) version: i64,
    pub(crate) client_id: String,
    pub(crate) import_mac: Option<Vec<u8>>,
}

/// A word in a column of ours that this version of tocsin does not know.
pub(crate) fn unknown_word(column: &str, error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(error) }
}

pub(crate) fn state_of(row: &PgRow) -> Result<TenantState, sqlx::Error> {
    row.try_get::<String, _>("state")?.parse().map_err(|error| unknown_word("state", error))
}

/// The sources of a row. A word that a later version wrote is passed over: the others are still read.
pub(crate) fn sources_of(row: &PgRow) -> Result<Vec<Source>, sqlx::Error> {
    Ok(row.try_get::<Vec<String>, _>("sources")?.iter().filter_map(|word| word.parse().ok()).collect())
}

fn timestamp(row: &PgRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<jiff_sqlx::Timestamp>, _>(column)?.map(jiff_sqlx::Timestamp::to_jiff))
}

fn words(sources: &[Source]) -> Vec<&'static str> {
    sources.iter().map(|source| source.as_str()).collect()
}

impl FromRow<'_, PgRow> for StoredTenant {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let facts = Facts {
            name: row.try_get("name")?,
            cloud: CloudName::new(row.try_get::<String, _>("cloud")?),
            app: AppName::new(row.try_get::<String, _>("app")?),
            sources: sources_of(row)?,
            portal_url: row.try_get("portal_url")?,
        };
        let secret = match row.try_get::<Option<i64>, _>("version")? {
            Some(version) => Some(StoredSecret { version, client_id: row.try_get("client_id")?, import_mac: row.try_get("import_mac")? }),
            None => None,
        };
        Ok(Self { facts, state: state_of(row)?, wrapped_key: row.try_get("wrapped")?, secret })
    }
}

impl FromRow<'_, PgRow> for TenantSummary {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: TenantId(row.try_get("tenant")?),
            name: row.try_get("name")?,
            cloud: CloudName::new(row.try_get::<String, _>("cloud")?),
            app: AppName::new(row.try_get::<String, _>("app")?),
            sources: sources_of(row)?,
            state: state_of(row)?,
            since: row.try_get::<jiff_sqlx::Timestamp, _>("since")?.to_jiff(),
            reason: row.try_get("reason")?,
            action: row.try_get("action")?,
            error_code: row.try_get("error_code")?,
            trace_id: row.try_get("trace_id")?,
            answered_at: timestamp(row, "answered_at")?,
            token_expires_at: timestamp(row, "token_expires_at")?,
            last_refresh_at: timestamp(row, "last_refresh_at")?,
            created_at: row.try_get::<jiff_sqlx::Timestamp, _>("created_at")?.to_jiff(),
        })
    }
}

/// Reads a tenant and keeps others from changing it until the end of the transaction. Rows that merely
/// refer to it (an alert's gap, a trouble) can still be written meanwhile.
pub(crate) async fn lock(tx: &mut PgTransaction<'_>, tenant: TenantId) -> Result<Option<StoredTenant>, sqlx::Error> {
    sqlx::query_as(
        "-- tenants::lock
         select t.name, t.cloud, t.app, t.sources, t.portal_url, t.state, k.wrapped, s.version, s.client_id, s.import_mac
         from tocsin.tenant t
         left join tocsin.tenant_key k using (tenant)
         left join tocsin.tenant_secret s on s.tenant = t.tenant and s.kind = $2
         where t.tenant = $1
         for no key update of t",
    )
    .bind(tenant.0)
    .bind(crate::vault::REFRESH_TOKEN)
    .fetch_optional(&mut **tx)
    .await
}

pub(crate) async fn insert(tx: &mut PgTransaction<'_>, tenant: TenantId, facts: &Facts, state: TenantState) -> Result<(), sqlx::Error> {
    let result = sqlx::query(
        "-- tenants::insert
         insert into tocsin.tenant (tenant, name, cloud, app, sources, portal_url, state) values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(tenant.0)
    .bind(&facts.name)
    .bind(facts.cloud.as_str())
    .bind(facts.app.as_str())
    .bind(words(&facts.sources))
    .bind(&facts.portal_url)
    .bind(state.as_str())
    .execute(&mut **tx)
    .await?;
    exactly_one(&result)
}

pub(crate) async fn update(
    tx: &mut PgTransaction<'_>,
    tenant: TenantId,
    facts: &Facts,
    state: TenantState,
    new_credential: bool,
) -> Result<(), sqlx::Error> {
    let result = sqlx::query(
        "-- tenants::update
         update tocsin.tenant set name = $2, cloud = $3, app = $4, sources = $5, portal_url = $6,
             state_since = case when state = $7 then state_since else now() end, state = $7,
             credential_version = credential_version + $8::int,
             token_expires_at = case when $8::int = 0 then token_expires_at end
         where tenant = $1",
    )
    .bind(tenant.0)
    .bind(&facts.name)
    .bind(facts.cloud.as_str())
    .bind(facts.app.as_str())
    .bind(words(&facts.sources))
    .bind(&facts.portal_url)
    .bind(state.as_str())
    .bind(i32::from(new_credential))
    .execute(&mut **tx)
    .await?;
    exactly_one(&result)
}

/// Moves a tenant to another state; `retry_now` makes every replica try its credential at once.
pub(crate) async fn set_state(
    tx: &mut PgTransaction<'_>,
    tenant: TenantId,
    state: TenantState,
    retry_now: bool,
) -> Result<(), sqlx::Error> {
    let result = sqlx::query(
        "-- tenants::set_state
         update tocsin.tenant set state_since = case when state = $2 then state_since else now() end, state = $2,
             credential_version = credential_version + $3::int,
             token_expires_at = case when $2 = 'removed' then null else token_expires_at end
         where tenant = $1",
    )
    .bind(tenant.0)
    .bind(state.as_str())
    .bind(i32::from(retry_now))
    .execute(&mut **tx)
    .await?;
    exactly_one(&result)
}

/// Notes that the refresh token was redeemed, and until when that keeps it alive.
pub(crate) async fn note_refresh(
    tx: &mut PgTransaction<'_>,
    tenant: TenantId,
    at: Timestamp,
    token_expires_at: Option<Timestamp>,
) -> Result<(), sqlx::Error> {
    let result = sqlx::query(
        "-- tenants::note_refresh
         update tocsin.tenant set last_refresh_at = $2, token_expires_at = $3 where tenant = $1",
    )
    .bind(tenant.0)
    .bind(at.to_sqlx())
    .bind(token_expires_at.map(|at| at.to_sqlx()))
    .execute(&mut **tx)
    .await?;
    exactly_one(&result)
}

/// Where a tenant stands as `dash.tenant_health` shows it, needs included.
pub(crate) async fn state_shown(tx: &mut PgTransaction<'_>, tenant: TenantId) -> Result<TenantState, sqlx::Error> {
    let statement = sqlx::query("-- tenants::state_shown\nselect state from dash.tenant_health where directory_id = $1").bind(tenant.0);
    state_of(&statement.fetch_one(&mut **tx).await?)
}

const SUMMARY: &str = "select t.tenant, t.name, t.cloud, t.app, t.sources, h.state, h.since, h.reason, h.action, h.error_code, h.trace_id,
        h.answered_at, t.token_expires_at, t.last_refresh_at, t.created_at
    from tocsin.tenant t join dash.tenant_health h on h.directory_id = t.tenant";

fn summary(name: &str, rest: &str) -> sqlx::AssertSqlSafe<String> {
    // Both parts are literals of this file.
    sqlx::AssertSqlSafe(format!("-- tenants::{name}\n{SUMMARY} {rest}"))
}

pub(crate) async fn all(db: impl PgExecutor<'_>, with_removed: bool) -> Result<Vec<TenantSummary>, sqlx::Error> {
    let statement = summary("all", "where $1 or t.state <> 'removed' order by t.name, t.tenant");
    sqlx::query_as(statement).bind(with_removed).fetch_all(db).await
}

pub(crate) async fn by_id(db: impl PgExecutor<'_>, tenant: Uuid) -> Result<Option<TenantSummary>, sqlx::Error> {
    sqlx::query_as(summary("by_id", "where t.tenant = $1")).bind(tenant).fetch_optional(db).await
}

/// The living tenant of this name, or the last one removed under it.
pub(crate) async fn by_name(db: impl PgExecutor<'_>, name: &str) -> Result<Option<TenantSummary>, sqlx::Error> {
    let statement = summary("by_name", "where t.name = $1 order by t.state = 'removed', t.state_since desc limit 1");
    sqlx::query_as(statement).bind(name).fetch_optional(db).await
}

pub(crate) async fn names(db: impl PgExecutor<'_>) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("-- tenants::names\nselect name from tocsin.tenant where state <> 'removed' order by name").fetch_all(db).await
}

/// Copies the portal address of each configured cloud to its tenants; how many changed.
pub(crate) async fn set_portals(tx: &mut PgTransaction<'_>, clouds: &[String], portals: &[String]) -> Result<u64, sqlx::Error> {
    let result = sqlx::query(
        "-- tenants::set_portals
         update tocsin.tenant t set portal_url = c.portal_url
         from unnest($1::text[], $2::text[]) as c (cloud, portal_url)
         where t.cloud = c.cloud and t.portal_url <> c.portal_url",
    )
    .bind(clouds)
    .bind(portals)
    .execute(&mut **tx)
    .await?;
    Ok(result.rows_affected())
}

/// How many tenants are in each state, as the operator sees it.
pub(crate) async fn count_by_state(db: impl PgExecutor<'_>) -> Result<Vec<(String, i64)>, sqlx::Error> {
    sqlx::query_as("-- tenants::count_by_state\nselect state, count(*) from dash.tenant_health group by state").fetch_all(db).await
}
