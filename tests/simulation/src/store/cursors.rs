//! What the poller asks the database.

use async_trait::async_trait;
use bytes::Bytes;
use domain::ports::{Cursors, StoreUnavailable, StoredId};
use domain::rehearsal::point;
use domain::{AlertId, Errand, FeedState, Reread, Source, TenantId, Ticks};

use super::memory::{MemoryStore, Statement};
use super::rows::{AlertRow, RereadRow};
use crate::time::ticks;

/// Reads how far feeds have come.
pub(crate) struct Reader {
    pub(crate) store: MemoryStore,
    /// Told of every cursor that is read.
    pub(crate) reads: Box<dyn Fn(TenantId, Source, Option<Ticks>) + Send + Sync>,
}

impl Reader {
    async fn ask(&self) -> Result<(), StoreUnavailable> {
        self.store.around.pass(Statement::Read).await.map_err(|obstacle| StoreUnavailable(format!("simulated: {obstacle:?}")))
    }
}

fn as_it_stands(row: &RereadRow) -> Reread {
    Reread { finished_at: row.finished_at.map(ticks), ..row.now.clone() }
}

#[async_trait]
impl Cursors for Reader {
    async fn feed_state(&self, tenant: TenantId, source: Source) -> Result<FeedState, StoreUnavailable> {
        point("cursor.read").await.map_err(|error| StoreUnavailable(error.to_string()))?;
        self.ask().await?;
        let row = self.store.memory().tenants.get(&tenant).and_then(|tables| tables.feeds.get(&source)).cloned().unwrap_or_default();
        (self.reads)(tenant, source, row.watermark);
        Ok(FeedState {
            watermark: row.watermark,
            caught_up: row.news.caught_up,
            order: row.news.order,
            throttled_until: row.news.throttled_until,
        })
    }

    async fn rereads(&self, tenant: TenantId, source: Source) -> Result<Vec<Reread>, StoreUnavailable> {
        self.ask().await?;
        let memory = self.store.memory();
        let Some(tables) = memory.tenants.get(&tenant) else { return Ok(Vec::new()) };
        Ok(tables.rereads.iter().filter(|((at, _), _)| *at == source).map(|(_, row)| as_it_stands(row)).collect())
    }

    async fn asked_for(&self) -> Result<Vec<(TenantId, Source, Errand, i64)>, StoreUnavailable> {
        self.ask().await?;
        let memory = self.store.memory();
        let open = |(tenant, tables): (&TenantId, &super::Tables)| {
            let asked = tables.rereads.iter().filter(|(_, row)| row.asked_at.is_some() && row.finished_at.is_none());
            asked.map(|((source, errand), row)| (*tenant, *source, *errand, row.now.run)).collect::<Vec<_>>()
        };
        Ok(memory.tenants.iter().flat_map(open).collect())
    }

    async fn stored_between(&self, tenant: TenantId, source: Source, from: Ticks, to: Ticks) -> Result<Vec<StoredId>, StoreUnavailable> {
        self.ask().await?;
        let memory = self.store.memory();
        let Some(tables) = memory.tenants.get(&tenant) else { return Ok(Vec::new()) };
        let since = |ticks: i64| ticks != i64::MIN && ticks >= from.0;
        let stored = |id: &String, due: bool| StoredId { id: AlertId::new(id.as_str()), due };
        Ok(match source {
            Source::GraphIncidents => {
                let rows = tables.incidents.iter().filter(|(_, row)| since(row.ticks));
                rows.map(|(id, row)| stored(id, row.ticks < to.0)).collect()
            }
            Source::GraphAlerts | Source::MdeAlerts => {
                let shown = |id: &String, row: &AlertRow| row.source == source || !tables.versions_of(source, id).is_empty();
                let rows = tables.alerts.iter().filter(|(id, row)| since(row.rank.0) && shown(id, row));
                rows.map(|(id, row)| stored(id, row.source == source && row.rank.0 < to.0)).collect()
            }
        })
    }

    async fn to_replay(&self, tenant: TenantId, source: Source, limit: u32) -> Result<Vec<Bytes>, StoreUnavailable> {
        self.ask().await?;
        let memory = self.store.memory();
        let Some(tables) = memory.tenants.get(&tenant) else { return Ok(Vec::new()) };
        let mut rows: Vec<_> = tables
            .quarantine
            .iter()
            .filter(|((at, _), row)| *at == source && row.replayed_at.is_none())
            .filter(|(_, row)| row.replay_at.is_some_and(|asked| row.tried_at.is_none_or(|tried| tried < asked)))
            .map(|((_, hash), row)| (row.seen_at, *hash, &row.raw))
            .collect();
        rows.sort_unstable_by_key(|(seen_at, hash, _)| (*seen_at, *hash));
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(rows.into_iter().map(|(_, _, raw)| Bytes::from(raw.clone())).collect())
    }
}
