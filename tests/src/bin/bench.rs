//! `./dev bench`: figures, one JSON object per line on stdout, measured on the real daemon, a Postgres of its
//! own with full durability and default settings, and the simulator, all sharing this machine.
//!
//! Nothing is asserted here: machines are shared and noisy. `against` says what the value should be read
//! beside.
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use e2e::harness::{Setup, World, eventually};
use e2e::measure::Spans;
use e2e::measure::handover::{Ending, takeovers};
use e2e::measure::idle::{PLACES, Place, QUICK, idle};
use e2e::measure::ingest::{Pass, Passes, ingest};
use e2e::measure::neighbours::{Neighbourhood, measure_neighbours};
use e2e::measure::pictures::pictures;
use e2e::measure::refresh::refresh_all;
use e2e::measure::start::starts;
use local_postgres::{Durability, LocalPostgres};
use serde_json::json;
use simulator::{Settings, SourceMix};
use tokio::time::Instant;

/// Measure; without a name, everything.
#[derive(Parser)]
struct Options {
    /// Only the benchmarks whose name contains this.
    name: Option<String>,
    /// Each figure is the median of so many runs.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// So many alerts in a database that is asked, instead of a million.
    #[arg(long)]
    alerts: Option<u32>,
    /// Small and soon over: to see that it works, not what it costs.
    #[arg(long)]
    quick: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match measure(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{}", json!({ "error": format!("{error:#}") }));
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> anyhow::Result<()> {
    let wanted = |name: &str| options.name.as_deref().is_none_or(|part| name.contains(part));
    if wanted("page_commit") || wanted("page_again") || wanted("page_bytes") {
        let mut first = Vec::new();
        let mut again = Vec::new();
        let mut bytes = 0.0;
        for run in 0..options.runs {
            let (seconds, repeated, size) = full_page(run as u64).await?;
            first.push(seconds);
            again.push(repeated);
            bytes = size;
        }
        print("page_bytes", &mut [bytes], "bytes", "raw bodies of the 1,000 alerts of one page");
        print("page_commit", &mut first, "s", "1,000 new alerts of one page, received to committed; goal: well under 1 s");
        print("page_again", &mut again, "s", "the same page read again after a restart, nothing new: looked up, nothing written");
    }
    if wanted("first_sync") {
        let mut rates = Vec::new();
        for run in 0..options.runs {
            rates.push(first_sync(run as u64).await?);
        }
        print(
            "first_sync",
            &mut rates,
            "alerts/s",
            "20,000 alerts of 4 tenants, from start of the daemon to the last row, simulator on the same cores",
        );
    }
    if wanted("ingest") {
        let folder = tempfile::Builder::new().prefix("tocsin-bench-").tempdir()?;
        let server = server(&folder).await?;
        let alerts = options.alerts.map_or(100_000, |alerts| alerts as usize);
        let mut seen = Vec::new();
        for run in 0..options.runs {
            seen.push(ingest(server.url(), alerts, run as u64).await?);
        }
        print_passes("ingest_first", "goal: 7.5 CPU s, 20,000 alerts/s", &seen, |passes| &passes.first);
        print_passes("ingest_again", "nothing new; goal: 2 CPU s, 70,000 alerts/s, 0 written", &seen, |passes| &passes.again);
        print_passes("ingest_changed", "a tenth changed; goal: 50,000 alerts/s", &seen, |passes| &passes.changed);
        server.stop().await?;
    }
    let places: &[Place] = if options.quick { &QUICK } else { &PLACES };
    let places: Vec<Place> = places.iter().copied().filter(|place| wanted(&place.name())).collect();
    if !places.is_empty() {
        let folder = tempfile::Builder::new().prefix("tocsin-bench-").tempdir()?;
        // When each alert was committed, Postgres knows only if it is told to remember it.
        let server = server_with(&folder, &[("track_commit_timestamp", "on")]).await?;
        idle(server.url(), &places, |line| println!("{line}")).await?;
        server.stop().await?;
    }
    if wanted("start_to_listening") {
        let folder = tempfile::Builder::new().prefix("tocsin-bench-").tempdir()?;
        let server = server(&folder).await?;
        let seen = starts(20, server.url()).await?;
        let what = "from the start of the process to its first answer to GET /livez, with a Postgres that runs already; goal: 0.1";
        print_spans("start_to_listening", &seen, what);
        server.stop().await?;
    }
    if ["planned_handover", "failover", "failover_one_machine"].into_iter().any(wanted) {
        let folder = tempfile::Builder::new().prefix("tocsin-bench-").tempdir()?;
        let server = server(&folder).await?;
        for (name, ending, worlds, goal) in [
            ("planned_handover", Ending::Asked, 3, "2 s"),
            ("failover", Ending::KilledElsewhere, 5, "p99 45 s"),
            ("failover_one_machine", Ending::Killed, 3, "none"),
        ] {
            if wanted(name) {
                let seen = takeovers(ending, worlds, 6, worlds, Some(server.url())).await?;
                let what = format!("from the end of a replica to the next poll of each of its customers, {}; goal: {goal}", seen.how);
                print_spans(name, &seen.waits, &what);
                if seen.exits.count() > 0 {
                    print_spans("planned_exit", &seen.exits, "from SIGTERM to the end of the process; goal: 10 s");
                }
            }
        }
        server.stop().await?;
    }
    if wanted("refresh_5000") {
        let folder = tempfile::Builder::new().prefix("tocsin-bench-").tempdir()?;
        let server = server(&folder).await?;
        let seen = refresh_all(5000, Some(server.url())).await?;
        let what = "5,000 customers without an access token, as after an outage, until each has one";
        print("refresh_5000", &mut [seen.took.as_secs_f64()], "s", &format!("{what}; goal: 300"));
        print("refresh_5000_busiest", &mut [seen.busiest_second as f64], "calls/s", &format!("{what}; goal: 20, at one login host"));
        print("refresh_5000_calls", &mut [seen.redemptions as f64], "calls", &format!("{what}; {} of them refused", seen.refused));
        server.stop().await?;
    }
    if wanted("dashboards") {
        let folder = tempfile::Builder::new().prefix("tocsin-bench-").tempdir()?;
        let server = server(&folder).await?;
        let (alerts, tenants) = options.alerts.map_or((1_000_000, 300), |alerts| (alerts, 300));
        let seen = pictures(server.url(), alerts, tenants, options.runs).await?;
        let mut over = 0;
        for panel in &seen {
            let slow = panel.took > Duration::from_millis(200);
            over += usize::from(slow);
            if slow || options.name.as_deref() == Some("dashboards_all") {
                let against = format!("{}; {alerts} alerts of {tenants} customers, {}; goal: 0.2", panel.panel, panel.chosen);
                print("dashboards_panel", &mut [panel.took.as_secs_f64()], "s", &against);
            }
        }
        let slowest = seen.first().map_or(0.0, |panel| panel.took.as_secs_f64());
        print(
            "dashboards",
            &mut [slowest],
            "s",
            &format!("the slowest of {} panels, {alerts} alerts; {over} over the goal of 0.2", seen.len()),
        );
        server.stop().await?;
    }
    for (name, place) in [
        ("neighbours_40", Neighbourhood { polls: 10, ..Neighbourhood::default() }),
        ("neighbours_1000", Neighbourhood { tenants: 1000, flood: 1000, interval: Duration::from_secs(15), polls: 2 }),
    ] {
        if wanted(name) {
            let folder = tempfile::Builder::new().prefix("tocsin-bench-").tempdir()?;
            let server = server(&folder).await?;
            // A figure is worth a bounded time only.
            let measured = tokio::time::timeout(NEIGHBOURS_WITHIN, measure_neighbours(place, Some(server.url()))).await;
            neighbours(name, place, &measured.map_err(|_| anyhow::anyhow!("{name}: not within {NEIGHBOURS_WITHIN:?}"))??);
            server.stop().await?;
        }
    }
    Ok(())
}

/// A measurement of neighbours ends within this, or has failed.
const NEIGHBOURS_WITHIN: Duration = Duration::from_secs(600);

/// A server that several daemons share, run as in production.
async fn server(folder: &tempfile::TempDir) -> anyhow::Result<LocalPostgres> {
    server_with(folder, &[]).await
}

/// The same with these settings besides.
async fn server_with(folder: &tempfile::TempDir, more: &[(&str, &str)]) -> anyhow::Result<LocalPostgres> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))?;
    let bindir = std::env::vars_os().find(|(name, _)| name == "PG_BINDIR").map(|(_, value)| value.into());
    let settings = [&[("max_connections", "300")], more].concat();
    let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let options = local_postgres::Options {
        folder: folder.path().to_owned(),
        purpose: "a bench".to_owned(),
        durability: Durability::Full,
        bindir,
        settings,
    };
    Ok(LocalPostgres::start(options).await?)
}

fn neighbours(name: &str, place: Neighbourhood, seen: &e2e::measure::neighbours::Lateness) {
    let what = format!("lateness of the polls of {} healthy customers every {} s", place.tenants * 8 / 10 - 1, place.interval.as_secs());
    print_spans(&format!("{name}_alone"), &seen.alone, &format!("{what}, nobody sick"));
    print_spans(
        &format!("{name}_beside"),
        &seen.beside,
        &format!("{what}, a tenth hanging, a tenth throttled, one with {} new alerts", place.flood),
    );
    print(&format!("{name}_rise"), &mut [seen.rise().as_secs_f64()], "s", "by how much p99 rose beside the sick; goal: 2 s");
    print(&format!("{name}_flood"), &mut [seen.took.as_secs_f64()], "s", &format!("until all {} were stored, counted", seen.stored));
}

/// One line with the medians of all that was counted, and the range of what is compared.
fn print_passes(name: &str, against: &str, seen: &[Passes], which: impl Fn(&Passes) -> &Pass) {
    let sorted = |figure: &dyn Fn(&Pass) -> f64| {
        let mut values: Vec<f64> = seen.iter().map(|passes| figure(which(passes))).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let median = |figure: &dyn Fn(&Pass) -> f64| (sorted(figure)[seen.len() / 2] * 1000.0).round() / 1000.0;
    let range = |figure: &dyn Fn(&Pass) -> f64| [0, seen.len() - 1].map(|place| (sorted(figure)[place] * 1000.0).round() / 1000.0);
    println!(
        "{}",
        json!({
            "bench": name, "value": median(&Pass::cpu_per_100_000), "unit": "CPU s per 100,000 read", "against": against,
            "range": range(&Pass::cpu_per_100_000), "runs": seen.len(), "wall_s": median(&|pass| pass.wall.as_secs_f64()),
            "alerts_per_s": median(&Pass::rate), "alerts_per_s_range": range(&Pass::rate),
            "daemon_cpu_s": median(&|pass| pass.daemon_cpu), "postgres_cpu_s": median(&|pass| pass.postgres_cpu),
            "derived_later_cpu_s": median(&|pass| pass.derived_cpu), "peak_rss_mb": median(&|pass| pass.peak_rss as f64 / 1e6),
            "read": median(&|pass| pass.read), "written": median(&|pass| pass.written),
            "lost": seen.iter().map(|passes| which(passes).lost).sum::<usize>(),
            "doubled": seen.iter().map(|passes| which(passes).doubled).sum::<usize>(),
        })
    );
}

fn print_spans(name: &str, spans: &Spans, against: &str) {
    let seconds = |span: Duration| (span.as_secs_f64() * 1000.0).round() / 1000.0;
    println!(
        "{}",
        json!({ "bench": name, "value": seconds(spans.quantile(0.99)), "unit": "s", "against": against,
                "p50": seconds(spans.quantile(0.5)), "p99": seconds(spans.quantile(0.99)), "max": seconds(spans.max()), "of": spans.count() })
    );
}

fn print(name: &str, values: &mut [f64], unit: &str, against: &str) {
    values.sort_by(f64::total_cmp);
    let round = |value: f64| (value * 10_000.0).round() / 10_000.0;
    println!(
        "{}",
        json!({ "bench": name, "value": round(values[values.len() / 2]), "unit": unit, "against": against,
                "min": round(values[0]), "max": round(values[values.len() - 1]), "runs": values.len() })
    );
}

/// One tenant with exactly one full page: seconds to commit it, seconds to recognise it again, bytes of it.
async fn full_page(seed: u64) -> anyhow::Result<(f64, f64, f64)> {
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
    Ok((commit, again, bytes as f64))
}

/// Alerts per second of a first sync.
async fn first_sync(seed: u64) -> anyhow::Result<f64> {
    const ALERTS: usize = 20_000;
    let cloud = Settings { seed, tenants: 4, history: ALERTS / 4, sources: SourceMix::GraphOnly, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, embedded: true, ..Setup::default() }).await?;
    // Renders every body once, so that the simulator's own work is not in the figure.
    world.cloud.ledger().all_rows();
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

async fn settled(world: &World, limit: Duration) -> anyhow::Result<()> {
    eventually("the daemon's Postgres answers", limit, async || world.pool().await.map(|_| ()).map_err(|error| error.to_string())).await?;
    world.settled(limit).await?;
    Ok(())
}
