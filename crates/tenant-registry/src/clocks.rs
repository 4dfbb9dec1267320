//! The four clocks of a tenant, and when somebody is to be warned of one.
//!
//! Refresh token, credential of our app, access to the customer, and consent each end some day without a word from
//! Microsoft. Deciding is a function of numbers; what was said is remembered in the database, so that a crossing is told
//! once however many replicas there are and however often they start.

use domain::{AppName, Audience, Source, TenantId, Ticks};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::admin::AdminError;
use crate::audit;
use crate::registry::Registry;
use crate::store::{self, clocks, leases, tenants};

/// The lines at which somebody is warned, in days; the last is the end itself.
pub const WARNED_AT_DAYS: [i32; 4] = [30, 14, 3, 0];

/// One clock of one tenant, as `dash.tenant_clock` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TenantClock {
    /// Directory id.
    #[serde(rename = "directory_id")]
    pub tenant: TenantId,
    /// The operator's name for it.
    #[serde(rename = "tenant")]
    pub name: String,
    /// `refresh-token`, `app-credential`, `access` or `consent`.
    pub clock: String,
    /// When it ends; nothing where nothing runs out.
    pub ends_at: Option<Timestamp>,
    /// Whole days until then; negative afterwards.
    pub days_left: Option<i32>,
    /// Microsoft does not say; this is our reckoning.
    pub estimated: bool,
    /// What ends, who must do what.
    pub words: String,
}

/// When the credential of an app registration ends. The seam for whoever knows: the configuration says it of client
/// secrets, a certificate says it itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppClock {
    /// Whose credential.
    pub app: AppName,
    /// "client secret" or "certificate".
    pub what: &'static str,
    /// Its end.
    pub ends_at: Ticks,
}

/// What to do about one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing that was not said.
    Nothing,
    /// It is far away again: forget that anybody was warned.
    Forget,
    /// It has moved away, but not far enough to be forgotten; whoever moved it knows.
    Remember(i32),
    /// A line was crossed.
    Warn(i32),
}

/// The line within which `left` lies, in days.
pub(crate) fn line(left_seconds: f64) -> Option<i32> {
    WARNED_AT_DAYS.into_iter().rev().find(|days| left_seconds <= f64::from(*days) * 86_400.0)
}

/// What is due, given what is left and the line of the last warning.
pub(crate) fn due(left_seconds: f64, warned_at: Option<i32>) -> Step {
    match (line(left_seconds), warned_at) {
        (None, None) => Step::Nothing,
        (None, Some(_)) => Step::Forget,
        (Some(line), Some(before)) if line == before => Step::Nothing,
        (Some(line), Some(before)) if line > before => Step::Remember(line),
        (Some(line), _) => Step::Warn(line),
    }
}

impl Registry {
    /// The known clocks of one tenant or of all of them, the nearest first.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn clocks(&self, tenant: Option<TenantId>) -> Result<Vec<TenantClock>, AdminError> {
        Ok(clocks::all(&self.pool, tenant).await?)
    }

    /// Takes over when the credentials of our apps end, and forgets those of apps that are not named.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn set_app_clocks(&self, apps: &[AppClock]) -> Result<(), sqlx::Error> {
        let mut tx = store::begin(&self.pool).await?;
        clocks::set_apps(&mut tx, apps).await?;
        tx.commit().await
    }

    /// Notes when our access to this tenant ends; `None` when it does not.
    ///
    /// # Errors
    /// [`AdminError::Conflict`] when the tenant was removed.
    pub async fn set_access_end(&self, tenant: TenantId, ends_at: Option<Timestamp>) -> Result<(), AdminError> {
        let mut tx = store::begin(&self.pool).await?;
        let stored = tenants::lock(&mut tx, tenant).await?;
        let Some(stored) = stored.filter(|stored| stored.state != domain::TenantState::Removed) else {
            return Err(AdminError::Conflict("the tenant was removed: import it again first".to_owned()));
        };
        clocks::set_access(&mut tx, tenant, ends_at).await?;
        let details = json!({ "name": stored.facts.name, "access_expires": ends_at });
        audit::append(&mut tx, tenant, self.actor(), "tenant.set", &details).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Notes the permissions that an access token has, and which that the tenant's sources need are missing. `false`
    /// when the lease no longer stands, and nothing was noted.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn note_granted(
        &self,
        fence: domain::Fence,
        sources: &[Source],
        audience: Audience,
        granted: &[String],
    ) -> Result<bool, sqlx::Error> {
        let missing = domain::consent::missing(sources, audience, granted);
        let mut tx = store::begin(&self.pool).await?;
        if leases::hold(&mut tx, &[fence]).await?.is_empty() {
            return Ok(false);
        }
        clocks::put_consent(&mut tx, fence.tenant, audience, granted, &missing).await?;
        tx.commit().await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: f64 = 86_400.0;

    #[test]
    fn each_line_is_crossed_once_on_the_way_down() {
        for (days, warned_at, step) in [
            (90.0, None, Step::Nothing),
            (30.1, None, Step::Nothing),
            (30.0, None, Step::Warn(30)),
            (29.9, Some(30), Step::Nothing),
            (14.1, Some(30), Step::Nothing),
            (14.0, Some(30), Step::Warn(14)),
            (13.0, Some(14), Step::Nothing),
            (3.0, Some(14), Step::Warn(3)),
            (2.0, Some(3), Step::Nothing),
            (0.0, Some(3), Step::Warn(0)),
            (-400.0, Some(0), Step::Nothing),
            // Found late: the nearest line only.
            (2.0, None, Step::Warn(3)),
            (2.0, Some(30), Step::Warn(3)),
            (-1.0, None, Step::Warn(0)),
            // Moved away.
            (20.0, Some(3), Step::Remember(30)),
            (10.0, Some(0), Step::Remember(14)),
            (31.0, Some(3), Step::Forget),
            (364.0, Some(0), Step::Forget),
        ] {
            assert_eq!(due(days * DAY, warned_at), step, "{days} days left, warned at {warned_at:?}");
        }
    }
}
