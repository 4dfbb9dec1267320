//! Tells the poller where a feed and its re-reads stand.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::ports::{Cursors, StoreUnavailable, StoredId};
use domain::rehearsal::point;
use domain::{Errand, FeedState, Reread, Source, TenantId, Ticks};
use sqlx::PgPool;

use crate::error::words;
use crate::postgres::{feeds, quarantine, rereads};

/// A question that takes longer has no answer. Most are a row by its key; the longest list is a tenant's week.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads cursors out of `tocsin.feed` and `tocsin.reread`.
#[derive(Clone, Debug)]
pub struct CursorStore {
    pool: PgPool,
}

impl CursorStore {
    /// Asks through this pool.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

async fn ask<T>(question: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreUnavailable> {
    match tokio::time::timeout(PATIENCE, question).await {
        Ok(answer) => answer.map_err(|error| StoreUnavailable(words(&error))),
        Err(_) => Err(StoreUnavailable(format!("no answer within {} seconds", PATIENCE.as_secs()))),
    }
}

#[async_trait]
impl Cursors for CursorStore {
    async fn feed_state(&self, tenant: TenantId, source: Source) -> Result<FeedState, StoreUnavailable> {
        point("cursor.read").await.map_err(|error| StoreUnavailable(error.to_string()))?;
        Ok(ask(feeds::state(&self.pool, tenant, source)).await?.unwrap_or_default())
    }

    async fn rereads(&self, tenant: TenantId, source: Source) -> Result<Vec<Reread>, StoreUnavailable> {
        ask(rereads::of_feed(&self.pool, tenant, source)).await
    }

    async fn asked_for(&self) -> Result<Vec<(TenantId, Source, Errand, i64)>, StoreUnavailable> {
        ask(rereads::asked_for(&self.pool)).await
    }

    async fn stored_between(&self, tenant: TenantId, source: Source, from: Ticks, to: Ticks) -> Result<Vec<StoredId>, StoreUnavailable> {
        ask(rereads::stored_between(&self.pool, tenant, source, from, to)).await
    }

    async fn to_replay(&self, tenant: TenantId, source: Source, limit: u32) -> Result<Vec<Bytes>, StoreUnavailable> {
        let bodies = ask(quarantine::to_replay(&self.pool, tenant, source, limit)).await?;
        Ok(bodies.into_iter().map(Bytes::from).collect())
    }
}
