//! What many alerts cost, from their pages to their rows: read for the first time, read again with nothing new, and with a
//! tenth of them changed. CPU seconds of the daemon and of Postgres are counted apart from each other and from the simulator,
//! which is part of this process.

use std::time::Duration;

use anyhow::{Context, ensure};
use simulator::{Settings, SourceMix};
use sqlx::PgPool;
use tokio::time::Instant;

use super::{postmaster, world_on};
use crate::harness::{Daemon, Metrics, Setup, Usage, World, eventually, proc_stats};

/// Nothing takes longer.
const LIMIT: Duration = Duration::from_secs(400);

/// What one pass over all alerts came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass {
    /// From the start of the daemon until all was read and committed.
    pub wall: Duration,
    /// CPU seconds of the daemon until then.
    pub daemon_cpu: f64,
    /// CPU seconds of all processes of Postgres until then.
    pub postgres_cpu: f64,
    /// CPU seconds of both after that, until everything was derived from what was stored.
    pub derived_cpu: f64,
    /// The most memory that the daemon ever held, bytes.
    pub peak_rss: u64,
    /// Records that were read.
    pub read: f64,
    /// Versions that were written.
    pub written: f64,
    /// Published and not stored, or stored in an old state.
    pub lost: usize,
    /// Stored twice, or never published.
    pub doubled: usize,
}

impl Pass {
    /// Records read in a second.
    pub fn rate(&self) -> f64 {
        self.read / self.wall.as_secs_f64()
    }

    /// CPU seconds of daemon and Postgres for 100,000 records read.
    pub fn cpu_per_100_000(&self) -> f64 {
        (self.daemon_cpu + self.postgres_cpu) / self.read * 100_000.0
    }
}

/// The three passes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passes {
    /// Nothing was stored before.
    pub first: Pass,
    /// Nothing is new.
    pub again: Pass,
    /// Every tenth alert has changed.
    pub changed: Pass,
}

/// Lets a daemon on this server read so many alerts of twenty customers three times.
///
/// # Errors
/// When a pass does not end within its time.
pub async fn ingest(server: &str, alerts: usize, seed: u64) -> anyhow::Result<Passes> {
    const TENANTS: usize = 20;
    let cloud = Settings {
        seed,
        tenants: TENANTS,
        history: alerts / TENANTS,
        history_days: 1,
        sources: SourceMix::GraphOnly,
        // Every body is rendered once, before anybody asks: the simulator is never the limit.
        cache_bytes: 2 << 30,
        journal_limit: 1000,
        ..Settings::default()
    };
    // One poll of each customer in a life of the daemon, which reaches back over all there is.
    let config = "[poll]\ninterval = \"1h\"\noverlap = \"2d\"\nfirst_sync = \"1d\"\n".to_owned();
    let world = world_on(Some(server), Setup { cloud, config, ..Setup::default() }).await?;
    world.cloud.ledger().all_rows();
    let pool = world.pool().await?;
    let postmaster = postmaster(&pool).await?;
    let first = pass(&world, &pool, postmaster, alerts as f64).await?;
    let again = pass(&world, &pool, postmaster, 0.0).await?;
    let tenants = world.cloud.tenants();
    for tenant in &tenants {
        let ids = world.cloud.ledger().alert_ids(tenant.directory_id);
        for id in ids.iter().step_by(10) {
            world.cloud.publish_update_of(tenant.directory_id, id)?;
        }
    }
    let changed = pass(&world, &pool, postmaster, (alerts / 10) as f64).await?;
    pool.close().await;
    world.end().await?;
    Ok(Passes { first, again, changed })
}

/// One life of a daemon, until each customer was polled once and so many versions are written.
async fn pass(world: &World, pool: &PgPool, postmaster: u32, written: f64) -> anyhow::Result<Pass> {
    let tenants = world.cloud.tenants().len() as f64;
    let postgres_before = proc_stats::family_cpu(postmaster)?;
    let begun = Instant::now();
    let mut daemon = world.serve()?;
    let metrics = eventually("everybody was polled, and everything is written", LIMIT, async || {
        let metrics = Metrics::of(&daemon).await.map_err(|error| error.to_string())?;
        let stored = metrics.sum("tocsin_alerts_stored_total", &[]);
        let polled = metrics.sum("tocsin_poll_total", &[("outcome", "ok")]);
        if stored >= written && polled >= tenants { Ok(metrics) } else { Err(format!("{stored} of {written} after {polled} polls")) }
    })
    .await?;
    let wall = begun.elapsed();
    let pid = daemon.pid()?;
    let (daemon_cpu, postgres_cpu) = (proc_stats::cpu(pid)?, proc_stats::family_cpu(postmaster)? - postgres_before);
    derived(pool, &daemon).await?;
    let derived_cpu = proc_stats::cpu(pid)? + proc_stats::family_cpu(postmaster)? - postgres_before - daemon_cpu - postgres_cpu;
    let peak_rss = Usage::of(pid)?.peak_rss;
    daemon.terminate().await?;
    let tally = world.tally().await?;
    let stored = metrics.sum("tocsin_alerts_stored_total", &[]);
    let pass = Pass {
        wall,
        daemon_cpu,
        postgres_cpu,
        derived_cpu,
        peak_rss,
        read: stored + metrics.sum("tocsin_alerts_duplicate_total", &[]),
        written: stored,
        lost: tally.lost.len() + tally.stale.len(),
        doubled: tally.duplicated.len() + tally.unknown.len(),
    };
    ensure!(pass.read > 0.0, "nothing was read: {pass:?}");
    Ok(pass)
}

async fn derived(pool: &PgPool, daemon: &Daemon) -> anyhow::Result<()> {
    eventually("everything is derived", LIMIT, async || {
        let behind: Result<i64, _> =
            sqlx::query_scalar("select count(*) from dash.digest_health where state <> 'current'").fetch_one(pool).await;
        match behind {
            Ok(0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .with_context(|| daemon.last_words())
}
