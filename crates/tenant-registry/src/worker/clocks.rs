//! Looks at the clocks now and then, and warns of those that are about to end: one line per crossing, whoever says it.
//!
//! A warning is no trouble: no state changes, and nothing is done about it here but to say it.

use domain::{ReplicaId, TenantId, metric};
use sqlx::PgPool;

use crate::clocks::{Step, WARNED_AT_DAYS, due};
use crate::store;
use crate::store::clocks::{self, AppNear, Near};

/// Every clock, so that an alert rule on one never looks into a void.
const CLOCKS: [&str; 4] = ["refresh-token", "app-credential", "access", "consent"];

/// What one look came to.
#[derive(Debug, Default)]
pub(super) struct Look {
    tenants: Vec<(Near, i32)>,
    apps: Vec<(AppNear, i32)>,
    counts: Vec<(String, i32, i64)>,
}

/// Looks at the clocks of the tenants that `me` holds and of all apps, and remembers which lines were crossed. Nothing
/// is said before it is remembered: a line that is lost with the process is better than one that every start repeats.
pub(super) async fn look(pool: &PgPool, me: ReplicaId) -> Result<Look, sqlx::Error> {
    let mut look = Look::default();
    let mut tx = store::begin(pool).await?;
    for near in clocks::near(&mut tx, me).await? {
        match due(near.left_seconds, near.warned_at_days) {
            Step::Nothing => {}
            Step::Forget => clocks::forget(&mut tx, &near).await?,
            Step::Remember(line) => {
                clocks::remember(&mut tx, &near, line).await?;
            }
            Step::Warn(line) => {
                if clocks::remember(&mut tx, &near, line).await? {
                    look.tenants.push((near, line));
                }
            }
        }
    }
    for near in clocks::apps_near(&mut tx).await? {
        match due(near.left_seconds, near.warned_at_days) {
            Step::Nothing => {}
            Step::Forget => {
                clocks::remember_app(&mut tx, &near, None).await?;
            }
            Step::Remember(line) => {
                clocks::remember_app(&mut tx, &near, Some(line)).await?;
            }
            Step::Warn(line) => {
                if clocks::remember_app(&mut tx, &near, Some(line)).await? {
                    look.apps.push((near, line));
                }
            }
        }
    }
    look.counts = clocks::count_within(&mut tx, &WARNED_AT_DAYS).await?;
    tx.commit().await?;
    Ok(look)
}

impl Look {
    /// Says what was crossed, and counts.
    pub(super) fn tell(self) {
        for (near, line) in &self.tenants {
            let (tenant, clock, words) = (TenantId(near.tenant), near.clock.as_str(), near.words.as_str());
            let days_left = days(near.left_seconds);
            if *line == 0 {
                tracing::warn!(tenant.id = %tenant, clock, days_left, within_days = line, words, "a clock of the tenant has run out");
            } else {
                tracing::warn!(tenant.id = %tenant, clock, days_left, within_days = line, words, "a clock of the tenant runs out soon");
            }
        }
        for (near, line) in &self.apps {
            let (app, what, days_left) = (near.app.as_str(), near.what.as_str(), days(near.left_seconds));
            let action = "you: make a new one in the app registration and put it into its file";
            if *line == 0 {
                tracing::error!(app, what, days_left, within_days = line, action, "the credential of our app has run out");
            } else {
                tracing::warn!(app, what, days_left, within_days = line, action, "the credential of our app runs out soon");
            }
        }
        for clock in CLOCKS {
            for days in WARNED_AT_DAYS {
                let count = self.counts.iter().find(|(of, within, _)| of == clock && *within == days).map_or(0, |(_, _, count)| *count);
                metrics::gauge!(metric::CLOCK_TENANTS, "clock" => clock, "within" => within(days)).set(count as f64);
            }
        }
    }
}

fn days(seconds: f64) -> i64 {
    // Cut off beyond any date there is.
    (seconds / 86_400.0).floor() as i64
}

fn within(days: i32) -> &'static str {
    match days {
        30 => "30d",
        14 => "14d",
        3 => "3d",
        _ => "ended",
    }
}
