//! What one would have instead of the daemon: a plain script, and dlt. Each is a program of Python that does the same job as a
//! daemon that polls every customer once, and is told all it needs as one JSON object on its standard input.
//!
//! They run in a virtual environment that `./dev bench` makes. Where there is none, it is said why, and no figure is given.

mod child;
pub mod copy;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use simulator::Stamp;
use sqlx::PgPool;
use uuid::Uuid;

use super::ingest::{Ground, Pass, Passes};
use crate::harness::TestDatabase;
use child::{Ran, run};

/// The overlap of the daemon's polls in seconds, given to all: everybody reads everything in each pass. Without it they would
/// read less the second time, and miss what becomes visible late.
const OVERLAP: u64 = 2 * 24 * 3600;

/// A stamp of Microsoft's has ticks of 100 ns, one of Postgres microseconds.
const CLOSE: i64 = 10;

/// A competitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// aiohttp, asyncpg, COPY into a temporary table, merge.
    Script,
    /// dlt, with nesting off.
    Dlt,
}

/// How a competitor did.
#[derive(Debug)]
pub enum Outcome {
    /// What it came to.
    Measured(Box<Passes>),
    /// Why it could not be started.
    Skipped(String),
    /// Why it gave up.
    Failed(String),
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Script, Self::Dlt];

    /// In the names of figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Dlt => "dlt",
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::Script => "script.py",
            Self::Dlt => "dlt_peer.py",
        }
    }

    /// What it cannot do without.
    const fn imports(self) -> &'static str {
        match self {
            Self::Script => "import aiohttp, asyncpg, orjson",
            Self::Dlt => "import dlt, psycopg2",
        }
    }

    /// What it has stored: customer, id and last update as a text.
    const fn stored(self) -> &'static str {
        match self {
            Self::Script => "select tenant, id, updated from alert",
            Self::Dlt => {
                "select tenant::uuid, id, to_char(last_update_date_time at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from peer.alert"
            }
        }
    }
}

/// Lets a competitor read everything three times, in a database of its own, with this folder for what it has to remember.
pub async fn peer(which: Peer, ground: &Ground<'_>, folder: &Path) -> Outcome {
    if let Err(why) = can_run(which).await {
        return Outcome::Skipped(format!("{why:#}"));
    }
    match measured(which, ground, folder).await {
        Ok(passes) => Outcome::Measured(Box::new(passes)),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}

/// Python with the packages, as `./dev bench` installs them.
fn python() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.dev/peers-venv/bin/python3"))
}

async fn can_run(which: Peer) -> anyhow::Result<()> {
    let python = python();
    ensure!(python.exists(), "there is no virtual environment in .dev/peers-venv: python3 with venv, pip or the network is missing");
    let home = tempfile::tempdir()?;
    run(&python, &["-c", which.imports()], home.path(), "").await.context("its packages are not installed in .dev/peers-venv")?;
    Ok(())
}

async fn measured(which: Peer, ground: &Ground<'_>, folder: &Path) -> anyhow::Result<Passes> {
    std::fs::create_dir_all(folder)?;
    let database = TestDatabase::create_on(ground.server).await?;
    let job = job(ground, &database.url_by_query(), folder);
    let first = pass(which, ground, &database.pool, folder, &job).await?;
    let again = pass(which, ground, &database.pool, folder, &job).await?;
    ground.go_on()?;
    let changed = pass(which, ground, &database.pool, folder, &job).await?;
    database.drop_now().await?;
    Ok(Passes { first, again, changed })
}

/// All that a competitor is told.
fn job(ground: &Ground<'_>, database_url: &str, folder: &Path) -> String {
    let cloud = ground.cloud;
    let tenants: Vec<Value> = cloud
        .tenants()
        .iter()
        .map(|tenant| json!({ "directory_id": tenant.directory_id, "refresh_token": tenant.refresh_token }))
        .collect();
    json!({
        "token_url": format!("{}/{{tenant}}/oauth2/v2.0/token", cloud.base_url()),
        "graph_url": cloud.base_url(),
        "scope": "https://graph.microsoft.com/.default offline_access",
        "client_id": cloud.client_id(),
        "client_secret": cloud.client_secret(),
        "tenants": tenants,
        "database_url": database_url,
        "page_size": 1000,
        "first_since": cloud.now().minus(Duration::from_secs(2 * OVERLAP)).to_string(),
        "overlap_seconds": OVERLAP,
        "work_folder": folder,
    })
    .to_string()
}

async fn pass(which: Peer, ground: &Ground<'_>, pool: &PgPool, folder: &Path, job: &str) -> anyhow::Result<Pass> {
    let script = format!("{}/src/measure/peers/{}", env!("CARGO_MANIFEST_DIR"), which.file());
    let meter = ground.meter().await?;
    let Ran { stdout, cpu, peak_rss } = run(&python(), &[&script], folder, job).await?;
    let seen = meter.so_far().await?;
    let line = stdout.lines().next_back().unwrap_or_default();
    let said: Value = serde_json::from_str(line).with_context(|| format!("its last line is no JSON: {line}"))?;
    let number = |key: &str| said[key].as_f64().with_context(|| format!("no {key} in {said}"));
    let (read, written, served) = (number("read")?, number("stored")?, ground.served());
    ensure!(read == served as f64, "it says that it has read {read} alerts, and got {served}");
    let (lost, doubled) = count(which, ground, pool).await?;
    Ok(Pass { program_cpu: cpu, peak_rss, read, written, lost, doubled, ..seen })
}

/// How many alerts are not stored, or in an old state; and how many rows are stored besides one for each.
async fn count(which: Peer, ground: &Ground<'_>, pool: &PgPool) -> anyhow::Result<(usize, usize)> {
    let rows: Vec<(Uuid, String, String)> = sqlx::query_as(which.stored()).fetch_all(pool).await?;
    let ticks = |text: &str| Stamp::parse(text).map(Stamp::ticks);
    let mut stored: BTreeMap<(Uuid, String), Option<i64>> = BTreeMap::new();
    let all = rows.len();
    for (tenant, id, updated) in rows {
        let updated = ticks(&updated);
        let newest = stored.entry((tenant, id)).or_insert(updated);
        *newest = updated.max(*newest);
    }
    let (mut lost, mut found) = (0, 0);
    for row in ground.cloud.ledger().all_rows().into_iter().filter(|row| row.newest) {
        let Some(id) = row.alert_id else { continue };
        let seen = stored.get(&(row.tenant, id));
        found += usize::from(seen.is_some());
        let published = row.last_update.as_deref().and_then(ticks);
        let same =
            seen.is_some_and(|seen| seen.zip(published).is_some_and(|(seen, published)| seen.abs_diff(published) <= CLOSE.unsigned_abs()));
        lost += usize::from(!same);
    }
    Ok((lost, all - found))
}

#[cfg(test)]
mod tests {
    use simulator::{Settings, Simulator, SourceMix};
    use sqlx::AssertSqlSafe;

    use super::*;

    /// What is lost and doubled after this was done to a table in which everything is stored.
    async fn counted(which: Peer, table: &str, updated: &str, damage: &str) -> (usize, usize) {
        let (_, server) = std::env::vars().find(|(name, _)| name == "DATABASE_URL").expect("run this through ./dev test");
        let cloud = Simulator::start(Settings { tenants: 2, history: 5, sources: SourceMix::GraphOnly, ..Settings::default() }).unwrap();
        let ground = Ground::new(&cloud, &server).await.unwrap();
        let database = TestDatabase::create_on(&server).await.unwrap();
        let kind = if updated == "updated" { "text" } else { "timestamptz" };
        let make = format!("create schema peer; create table {table} (tenant uuid, id text, {updated} {kind})");
        sqlx::raw_sql(AssertSqlSafe(make)).execute(&database.pool).await.unwrap();
        for row in cloud.ledger().all_rows().into_iter().filter(|row| row.newest) {
            let insert = sqlx::query(AssertSqlSafe(format!("insert into {table} values ($1, $2, $3::{kind})")));
            insert.bind(row.tenant).bind(row.alert_id).bind(row.last_update).execute(&database.pool).await.unwrap();
        }
        sqlx::raw_sql(AssertSqlSafe(damage.replace("TABLE", table))).execute(&database.pool).await.unwrap();
        let counts = count(which, &ground, &database.pool).await.unwrap();
        database.drop_now().await.unwrap();
        counts
    }

    #[tokio::test]
    async fn what_is_lost_stale_doubled_or_made_up_is_found() {
        for (which, table, updated) in [(Peer::Script, "public.alert", "updated"), (Peer::Dlt, "peer.alert", "last_update_date_time")] {
            let counted = async |damage: &str| counted(which, table, updated, damage).await;
            let one = "where (tenant, id) = (select tenant, id from TABLE order by tenant, id limit 1)";
            assert_eq!(counted("").await, (0, 0), "{which:?}");
            assert_eq!(counted(&format!("delete from TABLE {one}")).await, (1, 0), "{which:?}");
            assert_eq!(counted(&format!("update TABLE set {updated} = '2020-01-01T00:00:00Z' {one}")).await, (1, 0), "{which:?}");
            assert_eq!(counted(&format!("insert into TABLE select * from TABLE {one}")).await, (0, 1), "{which:?}");
            assert_eq!(
                counted("insert into TABLE select tenant, 'made up', '2020-01-01T00:00:00Z' from TABLE limit 1").await,
                (0, 1),
                "{which:?}"
            );
        }
    }
}
