//! Tells the poller where a feed stands when it begins.

use std::time::Duration;

use async_trait::async_trait;
use domain::ports::{Cursors, StoreUnavailable};
use domain::{FeedState, Source, TenantId};
use sqlx::PgPool;

use crate::error::words;
use crate::store::feeds;

/// The question is one row by its key; an answer that takes longer is no answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads cursors out of `tocsin.feed`.
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

#[async_trait]
impl Cursors for CursorStore {
    async fn feed_state(&self, tenant: TenantId, source: Source) -> Result<FeedState, StoreUnavailable> {
        match tokio::time::timeout(PATIENCE, feeds::state(&self.pool, tenant, source)).await {
            Ok(Ok(state)) => Ok(state.unwrap_or_default()),
            Ok(Err(error)) => Err(StoreUnavailable(words(&error))),
            Err(_) => Err(StoreUnavailable(format!("no answer within {} seconds", PATIENCE.as_secs()))),
        }
    }
}
