//! "Look now": hears when a tenant was changed elsewhere. A hint only: when nothing is ever heard, as when
//! listening is refused, everything still works, a second later.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::store::TENANT_CHANNEL;

/// Listening takes a connection out of the pool for good; the others need some too.
const FEWEST_CONNECTIONS: u32 = 3;

/// Listens until dropped.
pub(super) struct Hint {
    heard: Arc<Notify>,
    task: Option<JoinHandle<()>>,
}

impl Hint {
    pub(super) fn listen(pool: &PgPool) -> Self {
        let heard = Arc::new(Notify::new());
        let enough = pool.options().get_max_connections() >= FEWEST_CONNECTIONS;
        let task = enough.then(|| tokio::spawn(listen(pool.clone(), Arc::clone(&heard))));
        Self { heard, task }
    }

    /// Resolves once something was heard.
    pub(super) async fn heard(&self) {
        self.heard.notified().await;
    }
}

impl Drop for Hint {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn listen(pool: PgPool, heard: Arc<Notify>) {
    loop {
        if let Err(error) = listen_once(&pool, &heard).await {
            tracing::debug!(%error, "not listening for changes; looking once a second instead");
        }
        sleep(Duration::from_secs(5)).await;
    }
}

async fn listen_once(pool: &PgPool, heard: &Notify) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(TENANT_CHANNEL).await?;
    loop {
        listener.recv().await?;
        heard.notify_one();
    }
}
