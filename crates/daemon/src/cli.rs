//! The command line: what can be typed. The larger families of commands have a file of their own; what each command does
//! stands in the file of its name under `commands`.

mod again;
mod tenant;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::moment::Moment;

pub(crate) use again::{Backfill, Quarantine, Reconcile};
pub(crate) use tenant::{Connect, Invite, MaybeNew, Named, Tenant};

/// Streams Microsoft Defender alerts of many customer tenants into Postgres, each exactly once.
#[derive(Debug, Parser)]
#[command(name = "tocsin", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    /// The configuration file.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,

    /// Print data as JSON; stdout then holds nothing else.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon.
    Serve(Serve),
    /// The schema of the database.
    #[command(subcommand)]
    Db(Db),
    /// The key ring that seals refresh tokens.
    #[command(subcommand)]
    Key(Key),
    /// Customers.
    #[command(subcommand)]
    Tenant(Tenant),
    /// What is stored.
    #[command(subcommand)]
    Alerts(Alerts),
    /// Compare what is at the source with what is stored, and store what is missing: exit 0 if nothing differed,
    /// 3 if something did, 75 if no daemon has done it in time.
    #[command(after_help = "Examples:\n\
        \x20 tocsin reconcile --tenant contoso\n\
        \x20 tocsin reconcile --tenant contoso --source graph-alerts --since 7d --until 24h\n\
        \x20 tocsin reconcile --tenant contoso --since 2026-11-20T08:00:00Z --timeout 30m --json")]
    Reconcile(Reconcile),
    /// Read the past of a tenant back, beside the polling.
    #[command(subcommand)]
    Backfill(Backfill),
    /// Records that could not be understood, kept as they came.
    #[command(subcommand)]
    Quarantine(Quarantine),
    /// The configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Ask the running daemon whether it does its job: exit 0 if so, 3 if not, 69 if nobody answers.
    Healthcheck(Healthcheck),
    /// Who did what to which tenant, in chains that show every change.
    #[command(subcommand)]
    Audit(Audit),
    /// Look at everything and say what is wrong, why it matters and how to mend it: exit 0 if nothing fails, 3 if
    /// something does.
    #[command(after_help = "Examples:\n  tocsin doctor --tenant contoso\n  tocsin doctor --bundle ticket.tar.gz")]
    Doctor(Doctor),
    /// The pictures of the dashboards as one HTML file that needs nothing else, or their figures as JSON.
    #[command(after_help = "Examples:\n\
        \x20 tocsin report --out report.html\n\
        \x20 tocsin report --since 30d --tenant contoso --tenant fabrikam --out contoso.html\n\
        \x20 tocsin report --since 2026-11-01 --until 2026-12-01 --out -\n\
        \x20 tocsin report --since 24h --json --out -")]
    Report(Report),
}

/// `tocsin report`
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// From when on: how long ago (24h, 7d), or when (2026-11-20).
    #[arg(long, default_value = "7d")]
    pub(crate) since: Moment,
    /// Until when; now, if nothing is said.
    #[arg(long)]
    pub(crate) until: Option<Moment>,
    /// Only this tenant (directory id or name); may be given again. What cannot be told apart by tenant is left out then.
    #[arg(long)]
    pub(crate) tenant: Vec<String>,
    /// The file to write, readable by its owner only; - for standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// `tocsin serve`
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Apply pending migrations to a configured database first (the embedded one is always migrated).
    #[arg(long)]
    pub(crate) migrate: bool,
}

/// `tocsin db …`
#[derive(Debug, Subcommand)]
pub(crate) enum Db {
    /// Apply pending migrations, make the roles and repeat the grants.
    Migrate,
    /// List migrations; exit 3 when some are pending or the schema is newer than this program.
    Status,
}

/// `tocsin key …`
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make the key ring file named by `vault.key_file`; an existing one is never overwritten.
    Init,
    /// List the keys of the ring and how many tenants are sealed under each.
    Status,
    /// Bring a fresh key into use, online: every running daemon gets it first, then all data keys are sealed under it.
    /// Typed again, it goes on where it was interrupted.
    #[command(after_help = "Examples:\n\
        \x20 tocsin key rotate\n\
        \x20 tocsin key rotate --timeout 10m\n\
        \x20 tocsin key rotate --write-ring /run/tocsin/ring.new")]
    Rotate {
        /// Write the changed ring to this file, for a ring that cannot be written where it is: put the file in its place
        /// for every daemon, then type the command again.
        #[arg(long, value_name = "FILE")]
        write_ring: Option<PathBuf>,
        /// How long to wait for daemons that do not have the key yet.
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Take a key out of the ring, for good; refused while a tenant is sealed under it.
    #[command(after_help = "Examples:\n\
        \x20 tocsin key retire 1f0c6c8e2b7a4d59\n\
        \x20 tocsin key retire 1f0c6c8e2b7a4d59 --write-ring /run/tocsin/ring.new")]
    Retire {
        /// Its id, as `tocsin key status` lists it.
        key: String,
        /// Write the changed ring to this file, for a ring that cannot be written where it is.
        #[arg(long, value_name = "FILE")]
        write_ring: Option<PathBuf>,
        /// Do not ask for the key's id.
        #[arg(long)]
        yes: bool,
    },
}

/// `tocsin audit …`
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List who did what, the newest last.
    #[command(after_help = "Examples:\n  tocsin audit list --tenant contoso\n  tocsin audit list -n 500 --json")]
    List {
        /// Only this tenant (directory id or name).
        #[arg(long)]
        tenant: Option<String>,
        /// At most this many of the newest.
        #[arg(long, short = 'n', default_value_t = 50)]
        limit: u32,
    },
    /// Look whether the audit log is as it was written: exit 0 if so, 3 if anything was altered, taken out or cut off.
    #[command(after_help = "Examples:\n\
        \x20 tocsin audit verify\n\
        \x20 tocsin audit verify --heads /mnt/elsewhere/tocsin-heads.txt\n\
        \x20 tocsin audit verify --tenant contoso --json")]
    Verify {
        /// Only this tenant (directory id or name).
        #[arg(long)]
        tenant: Option<String>,
        /// Also compare with heads that were kept elsewhere, as `tocsin audit heads` prints them: they show a tail that was
        /// cut together with its head.
        #[arg(long, value_name = "FILE")]
        heads: Option<PathBuf>,
    },
    /// Print the last entry of every chain: directory id, number, hash. Keep the output off this host.
    Heads,
}

/// `tocsin alerts …`
#[derive(Debug, Subcommand)]
pub(crate) enum Alerts {
    /// List stored alerts, newest arrivals last.
    #[command(after_help = "Examples:\n\
        \x20 tocsin alerts list --since 24h --severity high\n\
        \x20 tocsin alerts list --tenant contoso -n 500 --json")]
    List(AlertFilter),
    /// Print alerts as they are stored, until Ctrl-C.
    #[command(after_help = "Examples:\n\
        \x20 tocsin alerts tail --severity high\n\
        \x20 tocsin alerts tail --tenant contoso --since 7d --no-follow --json")]
    Tail {
        /// Which alerts.
        #[command(flatten)]
        filter: AlertFilter,
        /// Print what is there and end.
        #[arg(long)]
        no_follow: bool,
    },
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

/// `tocsin config …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the configuration without starting anything.
    Check,
    /// Print every key with its value and where it came from.
    Show,
}

/// `tocsin doctor`
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Only this tenant (directory id or name), closely.
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Also write an archive (.tar.gz) that can be attached to a ticket: it holds no secret, and numbers in place of the
    /// names of customers.
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
}

/// `tocsin healthcheck`
#[derive(Debug, Args)]
pub(crate) struct Healthcheck {
    /// Ask whether the process makes progress, not whether it does its job.
    #[arg(long)]
    pub(crate) live: bool,
}
