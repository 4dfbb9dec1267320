//! The store on Postgres: connections, transactions, and the SQL, one file per aggregate. Nothing here decides
//! anything that is not written at [`Store`].

pub(crate) mod events;
pub(crate) mod feeds;
pub(crate) mod fence;
pub(crate) mod gaps;
pub(crate) mod incidents;
pub(crate) mod latest;
pub(crate) mod news;
pub(crate) mod partitions;
pub(crate) mod quarantine;
pub(crate) mod redirects;
pub(crate) mod rereads;
pub(crate) mod session;
pub(crate) mod stamp;
pub(crate) mod versions;

use std::sync::Arc;

use async_trait::async_trait;
use domain::{Axis, Comparison, ContentHash, Errand, Fence, Gap, Reread, TenantId, Ticks};
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};

use crate::config::Config;
use crate::store::{
    Ahead, Alert, Event, Feed, Incident, Item, Known, Link, Noted, Offer, Rejected, StandingIncident, Store, StoreError, StoreTx, Taken,
    Tally,
};
use partitions::Months;
use session::Limits;

/// Stores in Postgres, through the given pool.
#[derive(Clone, Debug)]
pub struct PgStore {
    pool: PgPool,
    limits: Limits,
    acquire: std::time::Duration,
    months: Arc<Months>,
}

impl PgStore {
    /// Takes its limits from the sink's settings.
    pub fn new(pool: PgPool, config: &Config) -> Self {
        let limits = Limits { statement: config.statement_timeout, lock: config.lock_timeout.min(config.statement_timeout) };
        Self { pool, limits, acquire: config.acquire_timeout, months: Arc::default() }
    }

    async fn borrow(&self) -> Result<Borrowed, StoreError> {
        match tokio::time::timeout(self.acquire, self.pool.acquire()).await {
            Ok(conn) => Ok(Borrowed(Some(conn?))),
            Err(_) => Err(StoreError::Away(format!("no connection within {} seconds", self.acquire.as_secs_f32()))),
        }
    }

    async fn open(&self, mut conn: Borrowed, limits: Limits) -> Result<PgTx, StoreError> {
        // Said out loud, because a database may have another default: after a wait for somebody else's row
        // each statement must see what that somebody has committed.
        session::run(conn.get(), "BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        let mut tx = PgTx { conn, tenant: None };
        match session::prepare(tx.conn(), limits).await {
            Ok(()) => Ok(tx),
            Err(error) => {
                tx.rollback().await;
                Err(error.into())
            }
        }
    }
}

#[async_trait]
impl Store for PgStore {
    type Tx = PgTx;

    async fn begin(&self, ahead: Ahead<'_>) -> Result<PgTx, StoreError> {
        let mut conn = self.borrow().await?;
        self.months.ensure(conn.get(), ahead.created.iter().copied(), ahead.now).await?;
        self.open(conn, self.limits).await
    }

    async fn note(&self, items: &[Item]) -> Result<Noted, StoreError> {
        news::write(self, items).await
    }
}

/// A transaction in Postgres. Dropped without an answer it closes its connection, and the server rolls back.
pub struct PgTx {
    conn: Borrowed,
    /// Whom it is about, once that was said.
    tenant: Option<TenantId>,
}

impl PgTx {
    fn conn(&mut self) -> &mut PgConnection {
        self.conn.get()
    }

    /// The connection for a statement about this tenant. A transaction that stores is about one tenant, so that tables
    /// which are distributed by tenant commit it on one machine.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the transaction has been about another, which is a bug of ours.
    fn about(&mut self, tenant: TenantId) -> Result<&mut PgConnection, StoreError> {
        match self.tenant.replace(tenant) {
            Some(other) if other != tenant => {
                self.tenant = Some(other);
                Err(StoreError::Refused(format!("a transaction about tenant {other} was to write about tenant {tenant}")))
            }
            _ => Ok(self.conn.get()),
        }
    }
}

#[async_trait]
impl StoreTx for PgTx {
    async fn hold(&mut self, fence: Fence) -> Result<(), StoreError> {
        fence::hold(self.about(fence.tenant)?, fence).await
    }

    async fn look_up(&mut self, feed: Feed, alerts: &[Alert<'_>], thorough: bool) -> Result<Vec<Known>, StoreError> {
        versions::look_up(self.about(feed.tenant)?, feed, alerts, thorough).await
    }

    async fn insert_versions(&mut self, feed: Feed, alerts: &[Alert<'_>], versions: &[(usize, i32)]) -> Result<(), StoreError> {
        versions::insert(self.about(feed.tenant)?, feed, alerts, versions).await
    }

    async fn put_latest(&mut self, feed: Feed, alerts: &[Alert<'_>], offers: &[Offer]) -> Result<Vec<Taken>, StoreError> {
        latest::put(self.about(feed.tenant)?, feed, alerts, offers).await
    }

    async fn add_events(&mut self, feed: Feed, events: &[Event<'_>]) -> Result<(), StoreError> {
        Ok(events::add(self.about(feed.tenant)?, feed, events).await?)
    }

    async fn look_up_incidents(
        &mut self,
        tenant: TenantId,
        incidents: &[Incident<'_>],
    ) -> Result<Vec<Option<StandingIncident>>, StoreError> {
        incidents::look_up(self.about(tenant)?, tenant, incidents).await
    }

    async fn put_incidents(&mut self, tenant: TenantId, incidents: &[Incident<'_>], which: &[usize]) -> Result<(), StoreError> {
        incidents::put(self.about(tenant)?, tenant, incidents, which).await
    }

    async fn links(&mut self, tenant: TenantId, turned: &[&str]) -> Result<Vec<Link>, StoreError> {
        Ok(redirects::links(self.about(tenant)?, tenant, turned).await?)
    }

    async fn put_ends(&mut self, tenant: TenantId, ends: &[(String, Option<String>)]) -> Result<(), StoreError> {
        Ok(redirects::put_ends(self.about(tenant)?, tenant, ends).await?)
    }

    async fn quarantine(&mut self, feed: Feed, rejected: &[Rejected<'_>]) -> Result<u64, StoreError> {
        Ok(quarantine::add(self.about(feed.tenant)?, feed, rejected).await?)
    }

    async fn replayed(&mut self, feed: Feed, understood: &[ContentHash], refused: &[ContentHash]) -> Result<u64, StoreError> {
        Ok(quarantine::replayed(self.about(feed.tenant)?, feed, understood, refused).await?)
    }

    async fn add_gaps(&mut self, feed: Feed, axis: Axis, gaps: &[Gap]) -> Result<u64, StoreError> {
        Ok(gaps::add(self.about(feed.tenant)?, feed, axis, gaps).await?)
    }

    async fn heal_gaps(&mut self, feed: Feed, axis: Axis, stretch: (Ticks, Ticks), but: &[Gap]) -> Result<u64, StoreError> {
        Ok(gaps::heal(self.about(feed.tenant)?, feed, axis, stretch, but).await?)
    }

    async fn advance(&mut self, feed: Feed, from: Ticks, to: Ticks) -> Result<bool, StoreError> {
        Ok(feeds::advance(self.about(feed.tenant)?, feed, from, to).await?)
    }

    async fn count_quarantined(&mut self, feed: Feed, change: i64) -> Result<(), StoreError> {
        Ok(feeds::count_quarantined(self.about(feed.tenant)?, feed, change).await?)
    }

    async fn begin_feed(&mut self, feed: Feed, live_from: Ticks, history_from: Ticks) -> Result<(), StoreError> {
        Ok(feeds::begin(self.about(feed.tenant)?, feed, live_from, history_from).await?)
    }

    async fn move_reread(&mut self, feed: Feed, before: Option<(Axis, Ticks)>, to: &Reread) -> Result<bool, StoreError> {
        Ok(rereads::step(self.about(feed.tenant)?, feed, before, to).await?)
    }

    async fn tally(&mut self, feed: Feed, errand: Errand, run: Option<i64>, tally: &Tally<'_>) -> Result<bool, StoreError> {
        Ok(rereads::tally(self.about(feed.tenant)?, feed, errand, run, tally).await?)
    }

    async fn reconcile(&mut self, feed: Feed, errand: Errand, comparison: &Comparison) -> Result<(u64, u64), StoreError> {
        Ok(rereads::reconcile(self.about(feed.tenant)?, feed, errand, comparison).await?)
    }

    async fn commit(mut self) -> Result<(), StoreError> {
        session::run(self.conn(), "COMMIT").await?;
        self.conn.give_back();
        Ok(())
    }

    async fn rollback(mut self) {
        // If even this fails the connection is gone, and the server rolls back by itself.
        if session::run(self.conn(), "ROLLBACK").await.is_ok() {
            self.conn.give_back();
        }
    }
}

/// A connection that is closed on the spot unless it is given back in order.
///
/// The pool would first ask a returned connection whether it is well, and wait for the answer: behind a
/// network that swallows everything, each failed attempt would take one place of the pool for minutes.
struct Borrowed(Option<PoolConnection<Postgres>>);

impl Borrowed {
    fn get(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("the connection is there until it is given back, which consumes the guard")
    }

    fn give_back(mut self) {
        self.0.take();
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(conn) = self.0.take() {
            drop(conn.detach());
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{Epoch, Source};

    use super::*;
    use crate::testing::PgWorld;
    use crate::testing::World;

    #[sqlx::test(migrations = "../../migrations")]
    async fn a_transaction_is_about_one_tenant(pool: PgPool) {
        let world = PgWorld::new(pool.clone());
        let (one, other) = (world.tenant().await, world.tenant().await);
        let store = world.store(&Config::default());
        let mut tx = store.begin(Ahead { created: &[], now: Ticks(0) }).await.unwrap();
        tx.hold(one).await.unwrap();
        tx.count_quarantined(Feed { tenant: one.tenant, source: Source::GraphAlerts }, 1).await.unwrap();
        for _ in 0..2 {
            let refused = tx.count_quarantined(Feed { tenant: other.tenant, source: Source::GraphAlerts }, 1).await;
            assert!(matches!(&refused, Err(StoreError::Refused(words)) if words.contains(&other.tenant.to_string())), "{refused:?}");
        }
        let stale = tx.hold(Fence { epoch: Epoch(7), ..other }).await;
        assert!(matches!(stale, Err(StoreError::Refused(_))), "it is not even asked: {stale:?}");
        tx.commit().await.unwrap();
        let counted: Vec<(uuid::Uuid, i64)> =
            sqlx::query_as("select tenant, quarantined::bigint from tocsin.feed where quarantined > 0").fetch_all(&pool).await.unwrap();
        assert_eq!(counted, [(one.tenant.0, 1)]);
    }
}
