//! Single pages and first syncs, by the wall: what a commit of one full page takes, and how soon a few customers are read.

use std::time::Duration;

use simulator::{Settings, SourceMix};
use tokio::time::Instant;

use crate::harness::{Setup, World, eventually};

/// What one full page came to.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Seconds to commit its 1,000 alerts.
    pub commit: f64,
    /// Seconds to recognise them in another life of the daemon.
    pub again: f64,
    /// Bytes of their bodies.
    pub bytes: f64,
}

/// One customer with exactly one full page, read by two lives of a daemon with a Postgres of its own.
///
/// # Errors
/// When the page is not stored, or not read again, within a minute.
pub async fn full_page(seed: u64) -> anyhow::Result<Page> {
    let cloud = Settings { seed, tenants: 1, history: 1000, history_days: 1, sources: SourceMix::GraphOnly, ..Settings::default() };
    let config = "[poll]\ninterval = \"1h\"\noverlap = \"2d\"\n".to_owned();
    let world = World::with_tenants(Setup { cloud, config, embedded: true }).await?;
    let mut daemon = world.serve()?;
    settled(&world, Duration::from_secs(60)).await?;
    let commit = daemon.metric("tocsin_commit_seconds_sum", "").await?;
    let pool = world.pool().await?;
    let bytes: i64 = sqlx::query_scalar("select sum(octet_length(raw::text)) from dash.alert_version").fetch_one(&pool).await?;
    pool.close().await;
    daemon.terminate().await?;

    // The overlap covers the whole history, so a second life reads the page once more.
    let mut daemon = world.serve()?;
    eventually("the page is read again", Duration::from_secs(60), async || {
        match daemon.metric("tocsin_alerts_duplicate_total", "").await {
            Ok(known) if known >= 1000.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let again = daemon.metric("tocsin_commit_seconds_sum", "").await?;
    daemon.terminate().await?;
    Ok(Page { commit, again, bytes: bytes as f64 })
}

/// Alerts per second of a first sync of 20,000 alerts of four customers.
///
/// # Errors
/// When they are not stored within five minutes.
pub async fn first_sync(seed: u64) -> anyhow::Result<f64> {
    const ALERTS: usize = 20_000;
    let cloud = Settings { seed, tenants: 4, history: ALERTS / 4, sources: SourceMix::GraphOnly, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, embedded: true, ..Setup::default() }).await?;
    // Puts every body into the simulator's cache, so that its own work is not in the figure.
    super::drain::drain(&world.cloud).await?;
    let started = Instant::now();
    let mut daemon = world.serve()?;
    let seconds = eventually("all alerts are stored", Duration::from_secs(300), async || {
        match daemon.metric("tocsin_alerts_stored_total", "").await {
            Ok(stored) if stored >= ALERTS as f64 => Ok(started.elapsed().as_secs_f64()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    settled(&world, Duration::from_secs(60)).await?;
    daemon.terminate().await?;
    Ok(ALERTS as f64 / seconds)
}

/// Waits until everything is stored by a daemon that brings its own Postgres up first.
///
/// # Errors
/// When that does not come true in time.
pub async fn settled(world: &World, limit: Duration) -> anyhow::Result<()> {
    eventually("the daemon's Postgres answers", limit, async || world.pool().await.map(|_| ()).map_err(|error| error.to_string())).await?;
    world.settled(limit).await?;
    Ok(())
}
