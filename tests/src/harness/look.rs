//! Looking at what the contract shows: a tenant's health, and everything that is stored, byte for byte.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::{World, eventually};

/// A row of `dash.tenant_health`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantHealth {
    /// Where the tenant stands.
    pub state: String,
    /// What happened; empty when nothing did.
    pub reason: String,
    /// What to do and who must do it.
    pub action: String,
    /// Microsoft's code.
    pub code: String,
}

impl World {
    /// How a tenant is, as `dash.tenant_health` says.
    ///
    /// # Errors
    /// When there is no such tenant, or the database cannot be asked.
    pub async fn health(&self, tenant: Uuid) -> anyhow::Result<TenantHealth> {
        let sql = "select state, coalesce(reason, ''), coalesce(action, ''), coalesce(error_code, '') from dash.tenant_health where directory_id = $1";
        let row = sqlx::query(sql).bind(tenant).fetch_one(&self.pool().await?).await?;
        Ok(TenantHealth { state: row.try_get(0)?, reason: row.try_get(1)?, action: row.try_get(2)?, code: row.try_get(3)? })
    }

    /// Waits until a tenant's health is as wanted.
    ///
    /// # Errors
    /// When it does not come to that within `limit`; with the last seen.
    pub async fn healthy_when(
        &self,
        tenant: Uuid,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&TenantHealth) -> bool,
    ) -> anyhow::Result<TenantHealth> {
        eventually(what, limit, async || {
            let health = self.health(tenant).await.map_err(|error| error.to_string())?;
            if wanted(&health) { Ok(health) } else { Err(format!("{health:?}")) }
        })
        .await
    }

    /// A single number out of the database.
    ///
    /// # Errors
    /// When the query is wrong or the database cannot be asked.
    pub async fn count(&self, query: &str) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from ({query}) as rows"))).fetch_one(&self.pool().await?).await?)
    }

    /// Waits until evidence and roll-ups are derived from all that is stored.
    ///
    /// # Errors
    /// When that does not come true in time.
    pub async fn derived(&self, limit: Duration) -> anyhow::Result<()> {
        eventually("everything is derived", limit, async || {
            let behind = "select from dash.digest_health where state <> 'current'";
            match self.count(behind).await {
                Ok(0) => Ok(()),
                seen => Err(format!("{seen:?} tenants are behind")),
            }
        })
        .await
    }

    /// Every row of every table of schema `tocsin` as text, with the transaction that wrote it: two of
    /// these are equal only if nothing was written in between, not even the same again.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn dump(&self) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
        let pool = self.pool().await?;
        let sql =
            "select 'tocsin.' || quote_ident(c.relname) from pg_class c where c.relnamespace = 'tocsin'::regnamespace and c.relkind = 'r'";
        let tables: Vec<String> = sqlx::query_scalar(sql).fetch_all(&pool).await?;
        let mut dump = BTreeMap::new();
        for table in tables {
            let sql = format!("select t.xmin::text || ' ' || t::text from {table} t order by 1");
            dump.insert(table, sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&pool).await?);
        }
        Ok(dump)
    }
}
