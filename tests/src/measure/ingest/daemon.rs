//! The passes of the daemon itself: three lives of it, each of which polls every customer once.

use std::time::Duration;

use anyhow::{Context, ensure};
use sqlx::{PgPool, PgTransaction};
use tokio::time::{Instant, sleep};

use super::pass::{Ground, Pass, Passes};
use crate::harness::{Daemon, Metrics, Tally, Usage, World, eventually, proc_stats};

/// Nothing takes longer.
const LIMIT: Duration = Duration::from_secs(400);

/// Since always.
const ALWAYS: &str = "-infinity";

/// One poll of each customer in a life of the daemon, which reaches back over all there is; in pages as it asks for them by
/// itself, or of so many alerts.
pub(in crate::measure) fn config(page: Option<usize>) -> String {
    let page = page.map_or_else(String::new, |page| format!("page_size = {page}\n"));
    format!("[poll]\ninterval = \"1h\"\noverlap = \"2d\"\nfirst_sync = \"1d\"\n{page}")
}

/// Lets a daemon read all alerts three times.
///
/// # Errors
/// When a pass does not end within its time.
pub(super) async fn passes(world: &World, ground: &Ground<'_>) -> anyhow::Result<Passes> {
    let [first, again] = first_and_again(world, ground, ALWAYS).await?;
    let made = ground.go_on()?;
    let changed = pass(world, ground, made, ALWAYS).await?;
    Ok(Passes { first, again, changed })
}

/// Lets a daemon read all alerts twice. Only what was stored since a moment is compared with what was published.
///
/// # Errors
/// When a pass does not end within its time.
pub(in crate::measure) async fn first_and_again(world: &World, ground: &Ground<'_>, since: &str) -> anyhow::Result<[Pass; 2]> {
    let first = pass(world, ground, world.cloud.ledger().total_alerts(), since).await?;
    Ok([first, pass(world, ground, 0, since).await?])
}

/// One life of a daemon, until everything is read and so many versions are written.
async fn pass(world: &World, ground: &Ground<'_>, due: usize, since: &str) -> anyhow::Result<Pass> {
    let pool = world.pool().await?;
    let outside = keep_digester_outside(&pool).await?;
    let meter = ground.meter().await?;
    let mut daemon = world.serve()?;
    let daemons = std::slice::from_ref(&daemon);
    let (read, written) = everything_is_read(ground, daemons, due).await?;
    let beyond = written - due as f64;
    let pid = daemon.pid()?;
    let seen = Pass { program_cpu: proc_stats::cpu(pid)?, ..meter.so_far().await? };
    outside.rollback().await?;
    derived(&pool).await.with_context(|| daemon.last_words())?;
    let derived_program_cpu = proc_stats::cpu(pid)? - seen.program_cpu;
    let derived_postgres_cpu = meter.so_far().await?.postgres_cpu - seen.postgres_cpu;
    let peak_rss = Usage::of(pid)?.peak_rss;
    daemon.terminate().await?;
    ensure!(read > 0.0, "nothing was read: {seen:?}");
    let (lost, doubled) = lost_and_doubled(&Tally::take_since(&world.cloud.ledger(), &pool, since).await?);
    Ok(Pass { derived_program_cpu, derived_postgres_cpu, peak_rss, read, written, beyond, lost, doubled, ..seen })
}

/// The digester waits outside, so that what it costs is counted by itself and by nothing else.
pub(in crate::measure) async fn keep_digester_outside(pool: &PgPool) -> anyhow::Result<PgTransaction<'static>> {
    let mut outside = pool.begin().await?;
    sqlx::raw_sql("lock table tocsin.derivation in share row exclusive mode").execute(&mut *outside).await?;
    Ok(outside)
}

/// Waits until these daemons have polled everybody, read all alerts and written so many versions. Gives how many records they
/// have read, and how many versions they have written.
pub(in crate::measure) async fn everything_is_read(ground: &Ground<'_>, daemons: &[Daemon], written: usize) -> anyhow::Result<(f64, f64)> {
    let (alerts, customers) = (ground.cloud.ledger().total_alerts(), ground.cloud.tenants().len());
    let last_words = || daemons.iter().map(Daemon::last_words).collect::<Vec<_>>().join("\n");
    // The daemon is left alone until the books of the simulator say that it has read everything: answering costs it CPU.
    eventually("everything is given out", LIMIT, async || {
        let served = ground.served();
        if served >= alerts { Ok(()) } else { Err(format!("{served} of {alerts}")) }
    })
    .await
    .with_context(last_words)?;
    eventually("everybody was polled, and everything is written", LIMIT, async || {
        let (mut read, mut stored, mut polled) = (0.0, 0.0, 0.0);
        for daemon in daemons {
            let metrics = Metrics::of(daemon).await.map_err(|error| error.to_string())?;
            stored += metrics.sum("tocsin_alerts_stored_total", &[]);
            read += metrics.sum("tocsin_alerts_stored_total", &[]) + metrics.sum("tocsin_alerts_duplicate_total", &[]);
            polled += metrics.sum("tocsin_poll_total", &[("outcome", "ok")]);
        }
        let all = read >= alerts as f64 && stored >= written as f64 && polled >= customers as f64;
        if all { Ok((read, stored)) } else { Err(format!("{read} of {alerts} read, {stored} of {written} stored, after {polled} polls")) }
    })
    .await
    .with_context(last_words)
}

/// Lost or stored in an old state; and doubled or made up.
pub(in crate::measure) fn lost_and_doubled(tally: &Tally) -> (usize, usize) {
    (tally.lost.len() + tally.stale.len(), tally.duplicated.len() + tally.unknown.len())
}

/// Waits until everything is derived. Asked seldom, since the question costs what the answer would be about.
pub(in crate::measure) async fn derived(pool: &PgPool) -> anyhow::Result<()> {
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
