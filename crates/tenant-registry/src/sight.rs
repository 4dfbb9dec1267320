//! Does the account that reads a customer see all of it?
//!
//! Defender for Endpoint shows a user only the devices of his own device groups, and says nothing of the others: a token
//! works, every page is read, and alerts are missing all the same. Graph shows the same alerts, so where a tenant is
//! read through both, what `graph-alerts` holds of Defender for Endpoint and `mde-alerts` never delivered tells. Nothing
//! is asked of Microsoft for this: what is stored is compared, some tenants at a time.
//!
//! One source may be a little ahead of the other, and a re-read finds what was shown late, so that only what both have
//! had time for is compared; and only what was made while `mde-alerts` was read without a hole. A warning is no trouble: no
//! state changes.

use std::time::Duration;

use domain::TenantId;
use jiff::Timestamp;
use serde::Serialize;

use crate::admin::AdminError;
use crate::registry::Registry;
use crate::store::{self, sights};

/// Alerts made this long ago are compared; what is mended shows within as much.
const REACH: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Both sources have had this much time for an alert: a little more than the ladder takes to find one shown late.
const SETTLED: Duration = Duration::from_secs(2 * 60 * 60);

/// A tenant whose account probably sees only part of it, as `dash.partial_sight` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartialSight {
    /// When this was noticed.
    pub since: Timestamp,
    /// Alerts of Defender for Endpoint of the last week that were compared.
    pub compared: i64,
    /// Those of them that only `graph-alerts` delivered.
    pub missing: i64,
    /// When the newest of these was made.
    pub newest_at: Timestamp,
    /// What this means, who must do what.
    pub words: String,
}

/// What a comparison of one tenant came to.
#[derive(Clone, Debug)]
pub(crate) struct Compared {
    pub(crate) tenant: TenantId,
    pub(crate) compared: i64,
    pub(crate) missing: i64,
    pub(crate) newest_at: Option<Timestamp>,
    /// What was noted before no longer holds unless something is missing now.
    pub(crate) over: bool,
}

/// What has changed with a comparison; told once, by the replica whose transaction it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SightChanges {
    /// Tenants newly found to be seen in part: missing, compared.
    pub narrowed: Vec<(TenantId, i64, i64)>,
    /// Tenants that are seen wholly again.
    pub widened: Vec<TenantId>,
}

impl Registry {
    /// What is known of a tenant whose account probably sees only part of it.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn partial_sight(&self, tenant: TenantId) -> Result<Option<PartialSight>, AdminError> {
        Ok(sights::of(&self.pool, tenant).await?)
    }

    /// The tenants that [`Registry::compare_sources`] can say something of: active, read by an account, through
    /// `graph-alerts` and `mde-alerts`. What was noted of others is forgotten.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn comparable_tenants(&self) -> Result<Vec<TenantId>, sqlx::Error> {
        let mut tx = store::begin(&self.pool).await?;
        let tenants = sights::comparable(&mut tx).await?;
        tx.commit().await?;
        Ok(tenants)
    }

    /// Compares what the sources of these tenants delivered of Defender for Endpoint, and notes which see less than there
    /// is. Idempotent; a few dozen tenants at a time keep the transaction short.
    ///
    /// # Errors
    /// When the database refuses, or it takes longer than a statement may.
    pub async fn compare_sources(&self, tenants: &[TenantId]) -> Result<SightChanges, sqlx::Error> {
        let mut tx = store::begin(&self.pool).await?;
        let compared = sights::compare(&mut tx, tenants, REACH, SETTLED).await?;
        let (partial, whole): (Vec<_>, Vec<_>) = compared.iter().partition(|compared| compared.missing > 0);
        let fresh = sights::note(&mut tx, &partial).await?;
        let over: Vec<_> = whole.iter().filter(|compared| compared.over).map(|compared| compared.tenant).collect();
        let widened = sights::forget(&mut tx, &over).await?;
        tx.commit().await?;
        let narrowed = partial.into_iter().filter(|compared| fresh.contains(&compared.tenant));
        Ok(SightChanges { narrowed: narrowed.map(|it| (it.tenant, it.missing, it.compared)).collect(), widened })
    }

    /// How many tenants are probably seen in part only.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn count_partial_sights(&self) -> Result<i64, sqlx::Error> {
        sights::count(&self.pool).await
    }
}
