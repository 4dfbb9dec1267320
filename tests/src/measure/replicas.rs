//! What several processes of the daemon on one Postgres come to: how fast they read together what one reads alone, what that
//! costs, and how they share the customers.
//!
//! All of them are there before the customers are, who then come all at once: so each has its share from the first poll on.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use simulator::{Endpoint, Stamp};
use sqlx::PgPool;

use super::drain::drain;
use super::empty_world_on;
use super::figures::{Figures, rounded};
use super::ingest::{Ground, Pass, cloud, daemon, of_passes};
use crate::harness::{Daemon, Setup, Usage, World, eventually, proc_stats};

/// Customers; can be shared evenly by each of the numbers of processes.
const TENANTS: usize = 24;
/// Processes that are compared.
pub const PROCESSES: [usize; 3] = [1, 2, 4];

/// What some processes came to.
#[derive(Clone, Debug)]
pub struct Shared {
    /// How many there were.
    pub processes: usize,
    /// All of them together; the memory is that of the largest.
    pub pass: Pass,
    /// Customers that each process held in the end.
    pub held: Vec<f64>,
}

/// Lets so many processes read so many alerts together, in a database on this server.
///
/// # Errors
/// When they do not end within their time.
pub async fn replicas(server: &str, processes: usize, alerts: usize, seed: u64) -> anyhow::Result<Shared> {
    let cloud = cloud(seed, TENANTS, (alerts / TENANTS).max(1));
    let world = empty_world_on(Some(server), Setup { cloud, config: daemon::config(None), ..Setup::default() }).await?;
    drain(&world.cloud).await?;
    let pool = world.pool().await?;
    let ground = Ground::new(&world.cloud, server).await?;
    let mut daemons: Vec<Daemon> = (0..processes).map(|_| world.serve()).collect::<anyhow::Result<_>>()?;
    they_know_each_other(&pool, processes).await.with_context(|| daemons[0].last_words())?;

    let outside = daemon::keep_digester_outside(&pool).await?;
    let before = cpu(&daemons)?;
    let meter = ground.meter().await?;
    world.import_all().await?;
    let due = world.cloud.ledger().total_alerts();
    let (read, written) = daemon::everything_is_read(&ground, &daemons, due).await?;
    let beyond = written - due as f64;
    let wall = since_first_request(&world)?;
    let seen = Pass { wall, program_cpu: cpu(&daemons)? - before, read, written, beyond, ..meter.so_far().await? };
    let mut held = Vec::new();
    for daemon in &daemons {
        held.push(daemon.metric("tocsin_lease_held", "").await?);
    }
    ensure!(held.iter().sum::<f64>() == TENANTS as f64, "{held:?} customers are held, of {TENANTS}");
    outside.rollback().await?;
    daemon::derived(&pool).await?;
    let derived_program_cpu = cpu(&daemons)? - before - seen.program_cpu;
    let derived_postgres_cpu = meter.so_far().await?.postgres_cpu - seen.postgres_cpu;
    let mut peak_rss = 0;
    for daemon in &mut daemons {
        peak_rss = Usage::of(daemon.pid()?)?.peak_rss.max(peak_rss);
        daemon.terminate().await?;
    }
    let (lost, doubled) = daemon::lost_and_doubled(&world.tally().await?);
    drop((ground, pool));
    world.end().await?;
    let pass = Pass { derived_program_cpu, derived_postgres_cpu, peak_rss, lost, doubled, ..seen };
    Ok(Shared { processes, pass, held })
}

/// Waits until each process has looked round since the last of them came.
async fn they_know_each_other(pool: &PgPool, processes: usize) -> anyhow::Result<()> {
    eventually("the processes know each other", Duration::from_secs(60), async || {
        let sql = "select count(*) from tocsin.replica where seen_at > (select max(started_at) from tocsin.replica)";
        let count: i64 = sqlx::query_scalar(sql).fetch_one(pool).await.map_err(|error| error.to_string())?;
        let all = usize::try_from(count).is_ok_and(|count| count == processes);
        if all { Ok(()) } else { Err(format!("{count} of {processes}")) }
    })
    .await
}

/// CPU seconds of all of them so far.
fn cpu(daemons: &[Daemon]) -> anyhow::Result<f64> {
    daemons.iter().map(|daemon| proc_stats::cpu(daemon.pid()?)).sum()
}

/// How long ago somebody asked for alerts first: before that the customers were being imported.
fn since_first_request(world: &World) -> anyhow::Result<Duration> {
    let now = world.cloud.now();
    let first = world.cloud.journal().into_iter().find(|entry| entry.endpoint == Endpoint::Graph).context("nobody has asked for alerts")?;
    let ticks = now.ticks() - Stamp::parse(&first.at).context("the journal's time cannot be read")?.ticks();
    Ok(Duration::from_nanos(u64::try_from(ticks)? * 100))
}

/// One line for each number of processes, with the medians of its runs and how many times those of the fewest processes they are.
pub fn lines(runs: &[Vec<Shared>]) -> Vec<Value> {
    let numbers: Vec<usize> = runs.first().map_or(Vec::new(), |run| run.iter().map(|shared| shared.processes).collect());
    let lines = numbers.into_iter().enumerate().map(|(place, processes)| {
        let against = format!(
            "CPU of all processes and Postgres, {TENANTS} customers who came at once, shared by {processes} on the cores of this one machine"
        );
        let passes: Vec<&Pass> = runs.iter().map(|run| &run[place].pass).collect();
        let mut line = of_passes(&format!("replicas_{processes}"), &against, &passes);
        let times = |figure: fn(&Pass) -> f64| {
            json!(rounded(Figures::of(runs, |run| figure(&run[place].pass) / figure(&run[0].pass)).median()))
        };
        let held = || runs.iter().flat_map(|run| run[place].held.iter().copied());
        line["tenants_least"] = json!(held().fold(f64::INFINITY, f64::min));
        line["tenants_most"] = json!(held().fold(0.0, f64::max));
        line["times_the_cpu_of_the_fewest"] = times(Pass::cpu_per_100_000);
        line["times_the_rate_of_the_fewest"] = times(Pass::rate);
        line
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_processes_are_set_beside_the_fewest_of_the_same_run() {
        let shared = |processes: usize, cpu: f64, seconds: u64, held: &[f64]| Shared {
            processes,
            pass: Pass { wall: Duration::from_secs(seconds), program_cpu: cpu, alerts: 1000.0, ..Pass::default() },
            held: held.to_vec(),
        };
        let runs = [1.0, 2.0, 4.0].map(|slow| vec![shared(1, slow, 4, &[24.0]), shared(2, slow * 1.5, 2, &[13.0, 11.0])]);
        let lines = lines(&runs);
        assert_eq!((&lines[0]["bench"], &lines[1]["bench"]), (&json!("replicas_1"), &json!("replicas_2")));
        assert_eq!((&lines[1]["value"], &lines[1]["range"]), (&json!(300.0), &json!([150.0, 600.0])));
        assert_eq!((&lines[1]["times_the_cpu_of_the_fewest"], &lines[1]["times_the_rate_of_the_fewest"]), (&json!(1.5), &json!(2.0)));
        assert_eq!((&lines[1]["tenants_least"], &lines[1]["tenants_most"]), (&json!(11.0), &json!(13.0)));
    }
}
