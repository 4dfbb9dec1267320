//! `./dev demo`: a pretend Microsoft, a private Postgres and the daemon, with alerts arriving before your eyes.
//!
//! Nothing in it is special: the daemon is the real one, fed by the import that a customer would use, and
//! the rows are read from the views that dashboards read. At the end the count: what was published against
//! what is stored.
#![expect(clippy::print_stdout, reason = "this program speaks to a person")]

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use comfy_table::{ContentArrangement, Table};
use e2e::harness::{Daemon, Setup, World, eventually};
use simulator::{Settings, SourceMix};
use sqlx::{PgPool, Row};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

/// Watch alerts of several customers stream into Postgres, and have them counted at the end.
#[derive(Parser)]
struct Options {
    /// End by itself after so many seconds; without it, Ctrl-C ends it. Both count at the end.
    #[arg(long)]
    seconds: Option<u64>,
    /// How many customers.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=500))]
    tenants: u16,
    /// New and changed alerts per second, over all customers.
    #[arg(long, default_value_t = 4.0)]
    rate: f64,
    /// The same seed tells the same story.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Also serve the JSON bodies in this folder as alerts.
    #[arg(long)]
    samples: Option<std::path::PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match demo(Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(options: Options) -> anyhow::Result<bool> {
    let started = Instant::now();
    let cloud = Settings {
        seed: options.seed,
        tenants: usize::from(options.tenants),
        history: 50,
        rate: options.rate,
        sources: SourceMix::Mixed,
        samples: options.samples,
        sample_stamps: simulator::SampleStamps::Start,
        ..Settings::default()
    };
    let world = World::build(Setup { cloud, embedded: true, ..Setup::default() }).await?;
    println!("a pretend Microsoft with {} customers listens on {}", options.tenants, world.cloud.base_url());
    let mut daemon = world.serve()?;
    let limit = Duration::from_secs(30);
    let pool = eventually("the daemon's Postgres answers", limit, async || {
        daemon.pid().map_err(|error| error.to_string())?;
        world.pool().await.map_err(|error| error.to_string())
    })
    .await?;
    world.import_all().await?;
    println!("the daemon runs with a Postgres of its own; look for yourself while it does:");
    println!(
        "  psql \"host={} user=tocsin dbname=tocsin\" -c 'select * from dash.tenant_health'",
        world.path("state/postgres/socket").display()
    );
    println!();

    let end = options.seconds.map(|seconds| started + Duration::from_secs(seconds));
    watch(&pool, &mut daemon, started, end).await?;

    println!("\nno more is published; waiting until all of it is stored …");
    world.cloud.set_rate(0.0);
    let tally = match world.settled(limit).await {
        Ok(tally) => tally,
        Err(_) => world.tally().await?,
    };
    println!("{tally}");
    print_lag(&pool).await?;
    pool.close().await;
    daemon.terminate().await?;
    let agrees = tally.agrees();
    println!("{}", if agrees { "they agree: nothing lost, nothing double" } else { "THEY DO NOT AGREE" });
    if !agrees {
        println!("the daemon's last words:\n{}", daemon.last_words());
    }
    Ok(agrees)
}

/// Shows what arrives until the end, or until Ctrl-C.
async fn watch(pool: &PgPool, daemon: &mut Daemon, started: Instant, end: Option<Instant>) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut view = View::new(started);
    loop {
        view.show(pool).await?;
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            () = tokio::time::sleep_until(end.unwrap_or_else(|| started + Duration::from_secs(1_000_000))) => return Ok(()),
            ended = daemon.ended(Duration::from_secs(1_000_000)) => anyhow::bail!("the daemon ended: {}\n{}", ended?, daemon.last_words()),
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
}

/// A table that is redrawn on a terminal, lines otherwise.
struct View {
    started: Instant,
    terminal: bool,
    drawn: u16,
    seen: Option<String>,
    first: bool,
}

impl View {
    fn new(started: Instant) -> Self {
        Self { started, terminal: std::io::stdout().is_terminal(), drawn: 0, seen: None, first: true }
    }

    async fn show(&mut self, pool: &PgPool) -> anyhow::Result<()> {
        if self.terminal { self.redraw(pool).await } else { self.lines(pool).await }
    }

    fn note_first(&mut self) {
        if self.first {
            self.first = false;
            println!("first alert after {:.1} s", self.started.elapsed().as_secs_f64());
        }
    }

    async fn redraw(&mut self, pool: &PgPool) -> anyhow::Result<()> {
        let rows = sqlx::query(TENANTS).fetch_all(pool).await?;
        let arrived = rows.iter().any(|row| row.try_get::<i64, _>("alerts").is_ok_and(|alerts| alerts > 0));
        let mut table = Table::new();
        table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["customer", "state", "alerts", "versions", "high", "newest alert"]);
        for row in &rows {
            table.add_row([
                row.try_get::<String, _>("tenant")?,
                row.try_get("state")?,
                row.try_get::<i64, _>("alerts")?.to_string(),
                row.try_get::<i64, _>("versions")?.to_string(),
                row.try_get::<i64, _>("high")?.to_string(),
                row.try_get::<Option<String>, _>("newest")?.unwrap_or_default(),
            ]);
        }
        let text = table.to_string();
        if self.drawn > 0 {
            print!("\x1b[{}A\x1b[J", self.drawn);
        }
        if arrived {
            self.note_first();
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}")?;
        self.drawn = u16::try_from(text.lines().count())?;
        Ok(())
    }

    async fn lines(&mut self, pool: &PgPool) -> anyhow::Result<()> {
        let rows = sqlx::query(ARRIVALS).bind(&self.seen).fetch_all(pool).await?;
        if let Some(last) = rows.last() {
            self.seen = last.try_get("stored")?;
            self.note_first();
        }
        // A first sync brings hundreds at once; a person wants to see some, and how many more.
        const SHOWN: usize = 8;
        for row in rows.iter().take(SHOWN) {
            let version: i32 = row.try_get("version_count")?;
            println!(
                "{:>6.1} s  {:34} {:13} {:10} {}{}",
                self.started.elapsed().as_secs_f64(),
                row.try_get::<String, _>("tenant")?,
                row.try_get::<Option<String>, _>("severity")?.unwrap_or_default(),
                row.try_get::<Option<String>, _>("status")?.unwrap_or_default(),
                row.try_get::<Option<String>, _>("title")?.unwrap_or_default(),
                if version > 1 { format!("  (version {version})") } else { String::new() }
            );
        }
        if rows.len() > SHOWN {
            println!("{:>6.1} s  … and {} more", self.started.elapsed().as_secs_f64(), rows.len() - SHOWN);
        }
        Ok(())
    }
}

/// How fresh the stored alerts were, as the daemon measured it itself.
async fn print_lag(pool: &PgPool) -> anyhow::Result<()> {
    let row =
        sqlx::query("select max(lag_seconds) as worst from dash.feed_health").fetch_one(pool).await.context("cannot ask for the lag")?;
    if let Some(worst) = row.try_get::<Option<f64>, _>("worst")? {
        println!("every customer was read completely at most {worst:.1} s ago");
    }
    Ok(())
}

const TENANTS: &str = "
select h.tenant, h.state, count(a.alert_id) as alerts, coalesce(sum(a.version_count), 0)::bigint as versions,
       count(*) filter (where a.severity = 'high') as high, (array_agg(a.title order by a.last_stored_at desc))[1] as newest
from dash.tenant_health h left join dash.alert a using (directory_id)
group by h.tenant, h.state order by h.tenant";

const ARRIVALS: &str = "
select tenant, severity, status, title, version_count, last_stored_at::text as stored
from dash.alert where $1::text is null or last_stored_at > $1::timestamptz order by last_stored_at, alert_id";
