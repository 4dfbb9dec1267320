//! The passes of the daemon itself: three lives of it, each of which polls every customer once.

use std::time::Duration;

use anyhow::{Context, ensure};
use sqlx::PgPool;
use tokio::time::{Instant, sleep};

use super::pass::{Ground, Pass, Passes};
use crate::harness::{Metrics, Usage, World, eventually, proc_stats};

/// Nothing takes longer.
const LIMIT: Duration = Duration::from_secs(400);

/// One poll of each customer in a life of the daemon, which reaches back over all there is.
pub(super) const CONFIG: &str = "[poll]\ninterval = \"1h\"\noverlap = \"2d\"\nfirst_sync = \"1d\"\n";

/// Lets a daemon read so many alerts three times.
///
/// # Errors
/// When a pass does not end within its time.
pub(super) async fn passes(world: &World, ground: &Ground<'_>, alerts: usize) -> anyhow::Result<Passes> {
    let first = pass(world, ground, alerts, alerts).await?;
    let again = pass(world, ground, alerts, 0).await?;
    let changes = ground.change_a_tenth()?;
    let changed = pass(world, ground, alerts, changes).await?;
    Ok(Passes { first, again, changed })
}

/// One life of a daemon, until so many records are read and so many versions are written.
async fn pass(world: &World, ground: &Ground<'_>, alerts: usize, written: usize) -> anyhow::Result<Pass> {
    // The digester waits outside, so that what it costs is counted by itself and by nothing else.
    let pool = world.pool().await?;
    let mut outside = pool.begin().await?;
    sqlx::raw_sql("lock table tocsin.derivation in share row exclusive mode").execute(&mut *outside).await?;
    let meter = ground.meter().await?;
    let mut daemon = world.serve()?;
    // The daemon is left alone until the books of the simulator say that it has read everything: answering costs it CPU.
    eventually("everything is given out", LIMIT, async || {
        let served = ground.served();
        if served >= alerts { Ok(()) } else { Err(format!("{served} of {alerts}")) }
    })
    .await
    .with_context(|| daemon.last_words())?;
    let metrics = eventually("everybody was polled, and everything is written", LIMIT, async || {
        let metrics = Metrics::of(&daemon).await.map_err(|error| error.to_string())?;
        let (read, stored) = counted(&metrics);
        let polled = metrics.sum("tocsin_poll_total", &[("outcome", "ok")]);
        let all = read >= alerts as f64 && stored >= written as f64 && polled >= world.cloud.tenants().len() as f64;
        if all { Ok(metrics) } else { Err(format!("{read} of {alerts} read, {stored} of {written} stored, after {polled} polls")) }
    })
    .await
    .with_context(|| daemon.last_words())?;
    let pid = daemon.pid()?;
    let seen = Pass { program_cpu: proc_stats::cpu(pid)?, ..meter.so_far()? };
    outside.rollback().await?;
    derived(&pool).await.with_context(|| daemon.last_words())?;
    let derived_program_cpu = proc_stats::cpu(pid)? - seen.program_cpu;
    let derived_postgres_cpu = meter.so_far()?.postgres_cpu - seen.postgres_cpu;
    let peak_rss = Usage::of(pid)?.peak_rss;
    daemon.terminate().await?;
    let tally = world.tally().await?;
    let (read, written) = counted(&metrics);
    ensure!(read > 0.0, "nothing was read: {seen:?}");
    let (lost, doubled) = (tally.lost.len() + tally.stale.len(), tally.duplicated.len() + tally.unknown.len());
    Ok(Pass { derived_program_cpu, derived_postgres_cpu, peak_rss, read, written, lost, doubled, ..seen })
}

/// Waits until everything is derived. Asked seldom, since the question costs what the answer would be about.
async fn derived(pool: &PgPool) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        sleep(Duration::from_millis(500)).await;
        let behind: i64 = sqlx::query_scalar("select count(*) from dash.digest_health where state <> 'current'").fetch_one(pool).await?;
        if behind == 0 {
            return Ok(());
        }
        ensure!(begun.elapsed() < LIMIT, "{behind} customers are not derived after {LIMIT:?}");
    }
}

/// Records that were read, and versions that were stored.
fn counted(metrics: &Metrics) -> (f64, f64) {
    let stored = metrics.sum("tocsin_alerts_stored_total", &[]);
    (stored + metrics.sum("tocsin_alerts_duplicate_total", &[]), stored)
}
