//! Changing alerts without asking for the impossible.
//!
//! A version that was given out to a process which died before it stored it, and was replaced before
//! anybody asked again, cannot be had any more: the source only shows the latest. The tally would call
//! it lost. So stories with crashes and outages change only alerts that are stored, each once.

use std::collections::BTreeSet;

use simulator::SimTenant;
use uuid::Uuid;

use super::World;

/// Which alerts were changed already.
#[derive(Debug, Default)]
pub struct Changes(BTreeSet<(Uuid, String)>);

impl Changes {
    /// Changes up to `count` alerts of a tenant that are stored from each of its sources; how many it were.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn make(&mut self, world: &World, tenant: &SimTenant, count: usize) -> anyhow::Result<usize> {
        let sources = i64::try_from(tenant.sources.len())?;
        let sql = "select alert_id from dash.alert_version where directory_id = $1 group by alert_id having count(distinct source) = $2 order by alert_id";
        let stored: Vec<String> = sqlx::query_scalar(sql).bind(tenant.directory_id).bind(sources).fetch_all(&world.pool().await?).await?;
        let fresh: Vec<_> =
            stored.into_iter().map(|id| (tenant.directory_id, id)).filter(|place| !self.0.contains(place)).take(count).collect();
        for (directory_id, id) in &fresh {
            world.cloud.publish_update_of(*directory_id, id)?;
        }
        let made = fresh.len();
        self.0.extend(fresh);
        Ok(made)
    }

    /// How many were changed so far.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}
