//! The simulator as a program: a pretend Microsoft on this machine, until it is stopped.

#![forbid(unsafe_code)]

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use simulator::{NextLink, OrderBy, Rotation, Rule, SampleStamps, Settings, Simulator, SourceMix, write_config};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// A small pretend Microsoft: sign-in, Graph alerts and incidents, Defender for Endpoint alerts.
///
/// Prints the address it listens on as one line on standard output and runs until Ctrl-C.
#[derive(Parser)]
#[command(name = "simulator", version)]
struct Args {
    /// Where to listen; loopback only, port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How many customers there are
    #[arg(long, default_value_t = 6)]
    tenants: usize,
    /// Everything that looks random follows from this number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Alerts per customer at the start, spread over the last 30 days
    #[arg(long, default_value_t = 300)]
    history: usize,
    /// New and changed alerts per second over all customers
    #[arg(long, default_value_t = 5.0)]
    rate: f64,
    /// Which share of those is changes
    #[arg(long, default_value_t = 0.4)]
    updates: f64,
    /// Through which APIs the customers are watched
    #[arg(long, value_enum, default_value_t = Sources::Mixed)]
    sources: Sources,
    /// A folder of JSON files whose records are served as alerts
    #[arg(long, value_name = "DIR")]
    samples: Option<PathBuf>,
    /// Let all samples stand at the start of the simulator in the order of updates, not where their own stamps put them
    #[arg(long)]
    samples_now: bool,
    /// Write tenants.csv, app.secret and cloud.toml for tocsin into this folder
    #[arg(long, value_name = "DIR")]
    write_config: Option<PathBuf>,
    /// A JSON file with rules to misbehave by
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// End after so many seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// Whether and how Graph links to the next page
    #[arg(long, value_enum, default_value_t = Link::SkipToken)]
    next_link: Link,
    /// Short for --next-link absent
    #[arg(long)]
    no_next_link: bool,
    /// What Graph does with $orderby
    #[arg(long, value_enum, default_value_t = Order::Accepted)]
    orderby: Order,
    /// Rows on a page of Graph when the caller does not say
    #[arg(long, default_value_t = 100)]
    default_page: usize,
    /// Refuse refresh tokens that were used before, and kill the whole family
    #[arg(long)]
    strict_rotation: bool,
    /// Life of every access token in seconds, instead of 60 to 90 minutes
    #[arg(long, value_name = "SECONDS")]
    token_lifetime: Option<u64>,
    /// A text that every token and secret carries, for leak scans
    #[arg(long)]
    marker: Option<String>,
}

#[derive(Copy, Clone, ValueEnum)]
enum Sources {
    GraphOnly,
    Mixed,
    Both,
    All,
    Assorted,
}

#[derive(Copy, Clone, ValueEnum)]
enum Link {
    SkipToken,
    CountingSkipToken,
    Skip,
    Absent,
}

#[derive(Copy, Clone, ValueEnum)]
enum Order {
    Accepted,
    Ignored,
    Refused,
}

impl Args {
    fn settings(&self) -> Settings {
        let usual = Settings::default();
        let lifetime = self.token_lifetime.map(Duration::from_secs);
        Settings {
            listen: self.listen,
            tenants: self.tenants,
            seed: self.seed,
            history: self.history,
            rate: self.rate,
            updates: self.updates,
            sources: match self.sources {
                Sources::GraphOnly => SourceMix::GraphOnly,
                Sources::Mixed => SourceMix::Mixed,
                Sources::Both => SourceMix::Both,
                Sources::All => SourceMix::All,
                Sources::Assorted => SourceMix::Assorted,
            },
            samples: self.samples.clone(),
            sample_stamps: if self.samples_now { SampleStamps::Start } else { SampleStamps::Own },
            next_link: match self.next_link {
                _ if self.no_next_link => NextLink::Absent,
                Link::SkipToken => NextLink::SkipToken,
                Link::CountingSkipToken => NextLink::CountingSkipToken,
                Link::Skip => NextLink::Skip,
                Link::Absent => NextLink::Absent,
            },
            order_by: match self.orderby {
                Order::Accepted => OrderBy::Accepted,
                Order::Ignored => OrderBy::Ignored,
                Order::Refused => OrderBy::Refused,
            },
            default_page: self.default_page,
            rotation: if self.strict_rotation { Rotation::Strict } else { Rotation::Entra },
            access_lifetime: lifetime.map_or(usual.access_lifetime, |life| (life, life)),
            marker: self.marker.clone(),
            ..usual
        }
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error gone there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "simulator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let rules = args.script.as_deref().map(read_script).transpose()?.unwrap_or_default();
    let simulator = Simulator::start(args.settings())?;
    for rule in rules {
        simulator.script(rule);
    }
    let mut stderr = std::io::stderr();
    for skipped in &simulator.samples().skipped {
        writeln!(stderr, "simulator: not JSON, skipped: {skipped}")?;
    }
    if let Some(folder) = &args.write_config {
        write_config::write_config(&simulator, folder)?;
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", simulator.base_url()).and_then(|()| stdout.flush()).context("cannot print the address")?;
    wait(args.seconds.map(Duration::from_secs))?;
    simulator.stop();
    Ok(())
}

fn read_script(file: &std::path::Path) -> anyhow::Result<Vec<Rule>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the script {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("the script {} is no array of rules", file.display()))
}

/// Waits for Ctrl-C, for SIGTERM, or until the time is up.
fn wait(limit: Option<Duration>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot wait for signals")?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for Ctrl-C")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let time_is_up = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = time_is_up => {}
        }
        Ok(())
    })
}
