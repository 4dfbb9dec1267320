//! `./dev bench`: figures, one JSON object per line on stdout, measured on the real daemon, a Postgres of its
//! own with full durability and default settings, and the simulator, all sharing this machine.
//!
//! Nothing is asserted here: machines are shared and noisy. `against` says what the value should be read
//! beside.
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use e2e::measure::Spans;
use e2e::measure::growth::{self, Grown, growth};
use e2e::measure::handover::{Ending, takeovers};
use e2e::measure::idle::{PLACES, Place, QUICK, idle};
use e2e::measure::ingest::{Pass, ingest, lines};
use e2e::measure::neighbours::{Neighbourhood, measure_neighbours};
use e2e::measure::pages::{first_sync, full_page};
use e2e::measure::peers::Peer;
use e2e::measure::pictures::pictures;
use e2e::measure::refresh::refresh_all;
use e2e::measure::replicas::{self, PROCESSES, replicas};
use e2e::measure::start::starts;
use local_postgres::{Durability, LocalPostgres};
use serde_json::json;

/// Measure; without a name, everything.
#[derive(Parser)]
struct Options {
    /// Only the benchmarks whose name contains this; `ingest_alone` is `ingest` without the programs that it is compared with,
    /// and `growth_10m` is measured by this name only.
    name: Option<String>,
    /// Each figure is the median of so many runs.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// So many alerts in a database that is asked, instead of a million; or to be read, instead of what each reads by itself.
    #[arg(long)]
    alerts: Option<u32>,
    /// One run of each with few alerts: shows that it works, and says nothing about speed.
    #[arg(long)]
    quick: bool,
}

impl Options {
    fn runs(&self) -> usize {
        if self.quick { 1 } else { self.runs.max(1) }
    }
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
        let (mut first, mut again, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for run in 0..options.runs() {
            let page = full_page(run as u64).await?;
            first.push(page.commit);
            again.push(page.again);
            bytes.push(page.bytes);
        }
        print("page_bytes", &mut bytes, "bytes", "raw bodies of the 1,000 alerts of one page");
        print("page_commit", &mut first, "s", "1,000 new alerts of one page, received to committed; goal: well under 1 s");
        print("page_again", &mut again, "s", "the same page read again after a restart, nothing new: looked up, nothing written");
    }
    if wanted("first_sync") {
        let mut rates = Vec::new();
        for run in 0..options.runs() {
            rates.push(first_sync(run as u64).await?);
        }
        print(
            "first_sync",
            &mut rates,
            "alerts/s",
            "20,000 alerts of 4 tenants, from start of the daemon to the last row, simulator on the same cores",
        );
    }
    let alone = options.name.as_deref() == Some("ingest_alone");
    if wanted("ingest") || alone {
        let folder = tempfile::Builder::new().prefix("tocsin-bench-").tempdir()?;
        let server = server(&folder).await?;
        let alerts = options.alerts.unwrap_or(if options.quick { 2000 } else { 100_000 });
        let mut seen = Vec::new();
        for run in 0..options.runs() {
            let competitors: &[Peer] = if alone { &[] } else { &Peer::ALL };
            seen.push(ingest(server.url(), alerts as usize, run as u64, competitors).await?);
        }
        for line in lines(&seen) {
            println!("{line}");
        }
        server.stop().await?;
        nothing_is_wrong(seen.iter().flat_map(|run| [run.tocsin.all(), run.without_links.all()]).flatten())?;
    }
    let sizes = sizes(options);
    if !sizes.is_empty() {
        let folder = tempfile::Builder::new().prefix("tocsin-bench-").tempdir()?;
        let server = server(&folder).await?;
        let new = options.alerts.unwrap_or(if options.quick { 3000 } else { 20_000 });
        let mut seen = Vec::new();
        for stored in sizes {
            let times = if stored >= growth::VERY_MANY { 1 } else { options.runs() };
            let mut runs = Vec::new();
            for run in 0..times {
                runs.push(growth(server.url(), stored, new as usize, run as u64).await?);
            }
            seen.push(Grown { stored, runs });
        }
        for line in growth::lines(&seen) {
            println!("{line}");
        }
        server.stop().await?;
        nothing_is_wrong(seen.iter().flat_map(|size| &size.runs).flatten())?;
    }
    if wanted("replicas") {
        let folder = tempfile::Builder::new().prefix("tocsin-bench-").tempdir()?;
        let server = server(&folder).await?;
        let alerts = options.alerts.unwrap_or(if options.quick { 3000 } else { 40_000 });
        let mut seen = Vec::new();
        for run in 0..options.runs() {
            let mut shared = Vec::new();
            for processes in PROCESSES {
                shared.push(replicas(server.url(), processes, alerts as usize, run as u64).await?);
            }
            seen.push(shared);
        }
        for line in replicas::lines(&seen) {
            println!("{line}");
        }
        server.stop().await?;
        nothing_is_wrong(seen.iter().flatten().map(|shared| &shared.pass))?;
    }
    let places: &[Place] = if options.quick { &QUICK } else { &PLACES };
    let places: Vec<Place> = places.iter().copied().filter(|place| wanted(&place.name())).collect();
    if !places.is_empty() {
        let folder = tempfile::Builder::new().prefix("tocsin-bench-").tempdir()?;
        // When each alert was committed, Postgres knows only if it is told to remember it.
        let server = server_with(&folder, &[("track_commit_timestamp", "on")]).await?;
        for line in idle(server.url(), &places, options.runs()).await? {
            println!("{line}");
        }
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
        let (alerts, tenants) = (options.alerts.unwrap_or(if options.quick { 20_000 } else { 1_000_000 }), 300);
        let seen = pictures(server.url(), alerts, tenants, options.runs()).await?;
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

/// How many alerts are stored before, for each bench of growth that is wanted.
fn sizes(options: &Options) -> Vec<u64> {
    if options.name == Some(growth::name(growth::VERY_MANY)) {
        return vec![growth::STORED[0], growth::VERY_MANY];
    }
    let sizes: &[u64] = if options.quick { &growth::QUICK } else { &growth::STORED };
    let wanted = |stored: &u64| options.name.as_deref().is_none_or(|part| growth::name(*stored).contains(part));
    sizes.iter().copied().filter(wanted).collect()
}

/// A rate at which something is lost, or written once more, is no rate.
fn nothing_is_wrong<'a>(passes: impl Iterator<Item = &'a Pass>) -> anyhow::Result<()> {
    let (mut wrong, mut beyond) = (0, 0.0);
    for pass in passes {
        wrong += pass.lost + pass.doubled;
        beyond += pass.beyond;
    }
    anyhow::ensure!(wrong == 0, "tocsin has lost or doubled {wrong} alerts, see above");
    anyhow::ensure!(beyond == 0.0, "tocsin has written {beyond} versions that were there already, see above");
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
    // What Postgres has by itself: the daemon's own server keeps less of it.
    let settings = [&[("max_connections", "300"), ("max_wal_size", "1GB")], more].concat();
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
