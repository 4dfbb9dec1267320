//! What one pass over all alerts came to, whoever made it, and the meter that it is read from.

use std::time::Duration;

use anyhow::Context;
use simulator::{Endpoint, Simulator, Stamp};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::time::Instant;

use crate::harness::proc_stats;
use crate::measure::postmaster;

/// So many alerts of each customer become visible late …
const LATE: u32 = 5;
/// … by as much, twice as much and so on before the newest, …
const LATE_BY: Duration = Duration::from_secs(600);
/// … and so many with exactly the stamp of the newest.
const TIED: usize = 3;

/// What one pass over all alerts came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass {
    /// From the start of the program until all was read and committed.
    pub wall: Duration,
    /// CPU seconds of the program that reads and stores, its children included.
    pub program_cpu: f64,
    /// CPU seconds of all processes of Postgres meanwhile.
    pub postgres_cpu: f64,
    /// Bytes that Postgres has written to its log meanwhile.
    pub logged: f64,
    /// Bytes that it has read because its own memory did not hold them; up to a second of that may be missing.
    pub fetched: f64,
    /// CPU seconds of the simulator meanwhile: part of no figure, but spent on the same cores.
    pub simulator_cpu: f64,
    /// CPU seconds of the program after that, until everything was derived from what was stored.
    pub derived_program_cpu: f64,
    /// CPU seconds of all processes of Postgres in that time.
    pub derived_postgres_cpu: f64,
    /// The most memory that the program ever held, bytes.
    pub peak_rss: u64,
    /// Alerts that there are, each of which had to be read.
    pub alerts: f64,
    /// Records that were read: more where some were read twice.
    pub read: f64,
    /// Records, or versions of them, that were written.
    pub written: f64,
    /// How many of those nothing asked for: they were there already.
    pub beyond: f64,
    /// Published and not stored, or stored in an old state.
    pub lost: usize,
    /// Stored twice, or never published.
    pub doubled: usize,
}

impl Pass {
    /// Alerts read in a second; what was read twice counts once.
    pub fn rate(&self) -> f64 {
        self.alerts / self.wall.as_secs_f64()
    }

    /// CPU seconds of program and Postgres.
    pub fn cpu(&self) -> f64 {
        self.program_cpu + self.postgres_cpu
    }

    /// CPU seconds of both after that, until everything was derived.
    pub fn derived_cpu(&self) -> f64 {
        self.derived_program_cpu + self.derived_postgres_cpu
    }

    /// CPU seconds of program and Postgres for 100,000 alerts.
    pub fn cpu_per_100_000(&self) -> f64 {
        self.cpu() / self.alerts * 100_000.0
    }
}

/// The three passes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passes {
    /// Nothing was stored before.
    pub first: Pass,
    /// Nothing is new.
    pub again: Pass,
    /// Every tenth alert has changed, and a few came late.
    pub changed: Pass,
}

impl Passes {
    /// All of them, in their order.
    pub fn all(&self) -> [&Pass; 3] {
        [&self.first, &self.again, &self.changed]
    }
}

/// What all that are compared stand on: one pretend Microsoft and one server.
pub struct Ground<'a> {
    /// Where the alerts come from.
    pub cloud: &'a Simulator,
    /// Where a database for each is made.
    pub server: &'a str,
    pool: PgPool,
    postmaster: u32,
}

impl<'a> Ground<'a> {
    /// On a server of this machine, of which the URL names an administrator.
    ///
    /// # Errors
    /// When the server cannot be reached, or runs elsewhere.
    pub async fn new(cloud: &'a Simulator, server: &'a str) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new().max_connections(1).connect(server).await?;
        let postmaster = postmaster(&pool).await?;
        Ok(Self { cloud, server, pool, postmaster })
    }

    /// Starts to count. Nobody pays for the pages that somebody before has left to be written out, nor for what the
    /// journal remembers.
    ///
    /// # Errors
    /// When server or processes cannot be asked.
    pub async fn meter(&self) -> anyhow::Result<Meter<'_>> {
        sqlx::query("checkpoint").execute(&self.pool).await?;
        self.cloud.clear_journal();
        let (postgres, simulator) = (proc_stats::family_cpu(self.postmaster)?, proc_stats::threads_cpu("simulator")?);
        Ok(Meter { ground: self, begun: Instant::now(), postgres, simulator, moved: self.moved().await? })
    }

    /// Bytes that the server has written to its log since it is there, and fetched into its memory.
    async fn moved(&self) -> anyhow::Result<(f64, f64)> {
        let sql = "select (pg_current_wal_insert_lsn() - '0/0')::float8,
                       (select sum(blks_read)::float8 from pg_stat_database) * current_setting('block_size')::float8";
        Ok(sqlx::query_as(sql).fetch_one(&self.pool).await?)
    }

    /// Records that Graph has given out since the last meter was started.
    pub fn served(&self) -> usize {
        self.cloud
            .journal()
            .iter()
            .filter(|entry| entry.endpoint == Endpoint::Graph && entry.status == 200)
            .map(|entry| entry.records)
            .sum()
    }

    /// Lets time go on for each customer: every tenth alert changes, some become visible late, some have exactly the newest
    /// stamp there was, and the newest alert changes by 100 ns, which a stamp in microseconds does not show. Gives how many
    /// records that makes.
    ///
    /// # Errors
    /// When the simulator refuses.
    pub fn go_on(&self) -> anyhow::Result<usize> {
        let mut made = 0;
        for tenant in self.cloud.tenants() {
            let tenant = tenant.directory_id;
            let rows = self.cloud.ledger().rows(tenant).into_iter().filter(|row| row.latest);
            let alerts: Vec<(String, Stamp)> =
                rows.filter_map(|row| Some((row.alert_id?, Stamp::parse(row.last_update.as_deref()?)?))).collect();
            let (newest, at) = alerts.iter().max_by_key(|(_, at)| *at).context("a customer without alerts")?;
            for number in 1..=LATE {
                self.cloud.publish_at(tenant, at.minus(LATE_BY * number))?;
            }
            self.cloud.publish_tied(tenant, *at, TIED)?;
            self.cloud.publish_update_at(tenant, newest, Stamp::from_ticks(at.ticks() + 1))?;
            made += LATE as usize + TIED + 1;
            for (id, _) in alerts.iter().filter(|(id, _)| id != newest).step_by(10) {
                self.cloud.publish_update_of(tenant, id)?;
                made += 1;
            }
        }
        Ok(made)
    }
}

/// Counts from a moment on.
pub struct Meter<'a> {
    ground: &'a Ground<'a>,
    begun: Instant,
    postgres: f64,
    simulator: f64,
    moved: (f64, f64),
}

impl Meter<'_> {
    /// A pass with what is known so far: time, CPU and bytes of Postgres, CPU of the simulator, and how many alerts there are.
    ///
    /// # Errors
    /// When a process or the server cannot be asked.
    pub async fn so_far(&self) -> anyhow::Result<Pass> {
        let (wall, postgres_cpu) = (self.begun.elapsed(), proc_stats::family_cpu(self.ground.postmaster)? - self.postgres);
        let moved = self.ground.moved().await?;
        Ok(Pass {
            wall,
            postgres_cpu,
            logged: moved.0 - self.moved.0,
            fetched: moved.1 - self.moved.1,
            simulator_cpu: proc_stats::threads_cpu("simulator")? - self.simulator,
            alerts: self.ground.cloud.ledger().total_alerts() as f64,
            ..Pass::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use simulator::Settings;
    use sqlx::{Connection, PgConnection};

    use super::*;

    #[tokio::test]
    async fn a_connection_that_has_ended_is_still_counted() {
        let (_, server) = std::env::vars().find(|(name, _)| name == "DATABASE_URL").expect("run this through ./dev test");
        let cloud = Simulator::start(Settings::default()).unwrap();
        let ground = Ground::new(&cloud, &server).await.unwrap();
        let meter = ground.meter().await.unwrap();
        let mut connection = PgConnection::connect(&server).await.unwrap();
        let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut connection).await.unwrap();
        sqlx::query("select count(*) from generate_series(1, 3000000)").execute(&mut connection).await.unwrap();
        let spent = proc_stats::cpu(u32::try_from(pid).unwrap()).unwrap();
        connection.close().await.unwrap();
        crate::harness::eventually("its process is gone", Duration::from_secs(10), async || {
            proc_stats::cpu(u32::try_from(pid).unwrap()).map_or(Ok(()), Err)
        })
        .await
        .unwrap();
        let counted = meter.so_far().await.unwrap().postgres_cpu;
        // The time of each process is cut to whole ticks, and that of all who have ended once.
        assert!(spent >= 0.1 && counted >= spent - 0.05, "{spent} of {counted}");
    }
}
