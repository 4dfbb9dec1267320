//! `tocsin alerts` and `tocsin top`: looking at what is stored, and at whom we see.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

/// `tocsin alerts …`
#[derive(Debug, Subcommand)]
pub(crate) enum Alerts {
    /// List stored alerts, newest arrivals last.
    #[command(after_help = "Examples:\n\
        \x20 tocsin alerts list --since 24h --severity high\n\
        \x20 tocsin alerts list --tenant contoso -n 500 --json")]
    List(AlertFilter),
    /// Print alerts as they are stored, until Ctrl-C.
    ///
    /// First what was stored before, at most -n of it; then each change once, in the order of the transactions that stored
    /// them, however late one of these is committed. With --state, or with --after and the cursor that each line of --json
    /// has, another tail goes on where this one stopped: nothing is missed, and what came last may come again.
    #[command(after_help = "Examples:\n\
        \x20 tocsin alerts tail --severity high\n\
        \x20 tocsin alerts tail --tenant contoso --since 7d --no-follow --json\n\
        \x20 tocsin alerts tail --json --state /var/lib/forwarder/tocsin.state\n\
        \x20 tocsin alerts tail --json --after 68d3c40e5f1a2b07-48213 --no-follow")]
    Tail(Tail),
}

/// `tocsin alerts tail`
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Which alerts.
    #[command(flatten)]
    pub(crate) filter: AlertFilter,
    /// Print what is there and end.
    #[arg(long)]
    pub(crate) no_follow: bool,
    /// Go on after the line that had this cursor, instead of listing what was stored before.
    #[arg(long, value_name = "CURSOR", conflicts_with_all = ["since", "limit"])]
    pub(crate) after: Option<sink::read::Place>,
    /// Remember in this file how far was printed, and go on from there the next time. What a reader lost out of the pipe it
    /// does not know: where that counts, keep the cursor of the last line you have dealt with, and use --after.
    #[arg(long, value_name = "FILE", conflicts_with = "after")]
    pub(crate) state: Option<PathBuf>,
}

/// Which alerts.
#[derive(Debug, Args)]
pub(crate) struct AlertFilter {
    /// Only this tenant (directory id or name).
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Only this severity.
    #[arg(long, ignore_case = true, value_parser = ["unknown", "informational", "low", "medium", "high"])]
    pub(crate) severity: Option<String>,
    /// Only what was stored in the last 30m, 24h, 7d …
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) since: Option<Duration>,
    /// At most this many of the newest.
    #[arg(long, short = 'n', default_value_t = 50)]
    pub(crate) limit: u32,
}

/// `tocsin top`
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Print one table and end; so does --json, with one document.
    #[arg(long)]
    pub(crate) once: bool,
    /// How often to look.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = at_least_a_second)]
    pub(crate) every: Duration,
}

fn at_least_a_second(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if span < Duration::from_secs(1) { Err("write 1s or more".to_owned()) } else { Ok(span) }
}
