//! The command line: what can be typed. The larger families of commands have a file of their own; what each command does
//! stands in the file of its name under `commands`.

mod again;
mod looking;
mod reader;
mod tenant;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::moment::Moment;

pub(crate) use again::{Backfill, Quarantine, Reconcile};
pub(crate) use looking::{AlertFilter, Alerts, Tail, Top};
pub(crate) use reader::{Change as ReaderChange, Reader, Sight};
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
    /// Database roles that read schema dash: of one customer, of several, or of all.
    #[command(subcommand)]
    Reader(Reader),
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
    /// The webhook that tells somebody.
    #[command(subcommand)]
    Notify(Notify),
    /// The configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Ask the running daemon whether it does its job: exit 0 if so, 3 if not, 69 if nobody answers.
    #[command(after_help = "Examples:\n  tocsin healthcheck\n  tocsin healthcheck --live --json")]
    Healthcheck(Healthcheck),
    /// Who did what to which tenant, in chains that show every change.
    #[command(subcommand)]
    Audit(Audit),
    /// Look at everything and say what is wrong, why it matters and how to mend it: exit 0 if nothing fails, 3 if
    /// something does.
    #[command(
        after_help = "Examples:\n  tocsin doctor --tenant contoso\n  tocsin doctor --bundle ticket.tar.gz\n  tocsin doctor --bundle - > ticket.tar.gz"
    )]
    Doctor(Doctor),
    /// All tenants at a glance, the one that is furthest behind first, until q or Ctrl-C. Where standard output is no
    /// terminal it prints once.
    #[command(after_help = "Examples:\n\
        \x20 tocsin top\n\
        \x20 tocsin top --every 10s\n\
        \x20 tocsin top --once\n\
        \x20 tocsin top --once --json")]
    Top(Top),
    /// The pictures of the dashboards as one HTML file that needs nothing else, or their figures as JSON.
    #[command(after_help = "Examples:\n\
        \x20 tocsin report --since 7d\n\
        \x20 tocsin report --since 30d --tenant contoso --tenant fabrikam --out contoso.html\n\
        \x20 tocsin report --since 2026-11-01 --until 2026-12-01 --out -\n\
        \x20 tocsin report --since 24h --json --out -")]
    Report(Report),
    /// Have the running daemon read its configuration again: exit 0 when it is in force, 78 when it is refused and the one
    /// before stays.
    #[command(after_help = "Examples:\n\
        \x20 tocsin reload\n\
        \x20 tocsin reload --config /etc/tocsin/tocsin.toml --json")]
    Reload,
    /// Print the JSON Schema of what a command prints with --json, or list the schemas.
    #[command(after_help = "Examples:\n\
        \x20 tocsin schema\n\
        \x20 tocsin schema tenant list\n\
        \x20 tocsin schema alerts-tail > alerts-tail.schema.json")]
    Schema(Schema),
    /// Print what a shell needs to complete commands and options.
    #[command(after_help = "Examples:\n\
        \x20 tocsin completions bash > /etc/bash_completion.d/tocsin\n\
        \x20 tocsin completions zsh > ~/.zfunc/_tocsin")]
    Completions(Completions),
    /// Print the manual page, or write one page per command into a folder.
    #[command(after_help = "Examples:\n\
        \x20 tocsin man > tocsin.1\n\
        \x20 tocsin man /usr/local/share/man/man1")]
    Man(Man),
}

/// `tocsin completions`
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Which shell.
    pub(crate) shell: clap_complete::Shell,
}

/// `tocsin schema`
#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Which one: the words of the command.
    #[arg(value_name = "COMMAND")]
    pub(crate) name: Vec<String>,
}

/// `tocsin man`
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The folder for the pages; it is made if it is not there.
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
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
    /// The file to write, readable by its owner only; - for standard output. Without it tocsin-report.html, or with --json
    /// standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
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
    #[command(after_help = "Examples:\n\
        \x20 tocsin db migrate --dry-run\n\
        \x20 tocsin db migrate")]
    Migrate {
        /// Do all of it in one transaction and take it back: says what would be done and how long it takes, and changes
        /// nothing. Meanwhile it holds what the migration holds, so the daemons may have to wait for so long.
        #[arg(long)]
        dry_run: bool,
    },
    /// List migrations; exit 3 when some are pending or the schema is newer than this program.
    Status,
    /// List the months of stored versions: how large each is, when `[retention]` lets it go, and which have gone.
    #[command(after_help = "Examples:\n\
        \x20 tocsin db partitions\n\
        \x20 tocsin db partitions --json")]
    Partitions,
    /// Throw away what is derived from alerts (evidence, roll-ups, findings) and have running daemons derive it again.
    ///
    /// Alerts, their versions and their history are not touched. Until it is done dashboards show less than there is;
    /// how far it has come stands in dash.digest_health and in `tocsin doctor`. Evidence and techniques of alerts whose bodies
    /// `[retention]` has let go cannot be derived again: where there are such, it has to be said that this is meant.
    #[command(after_help = "Examples:\n\
        \x20 tocsin db rebuild\n\
        \x20 tocsin db rebuild --json")]
    Rebuild {
        /// Even where evidence and techniques would be gone for good.
        #[arg(long)]
        yes: bool,
    },
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
        \x20 tocsin key rotate --write-ring /run/tocsin/ring.new\n\
        \x20 tocsin key rotate --write-ring - > ring.new")]
    Rotate {
        /// Write the changed ring to this file, for a ring that cannot be written where it is: put the file in its place
        /// for every daemon, then type the command again. With `-` it goes to standard output, and words to standard error.
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
        /// Write the changed ring to this file, or with `-` to standard output, for a ring that cannot be written where it is.
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

/// `tocsin notify …`
#[derive(Debug, Subcommand)]
pub(crate) enum Notify {
    /// Send one message that says that nothing has happened, and say what came back: exit 0 if it was taken, 1 if it
    /// was refused, 69 if nobody answered.
    #[command(after_help = "Examples:\n  tocsin notify test\n  tocsin notify test --json")]
    Test,
}

/// `tocsin config …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the configuration without starting anything.
    Check,
    /// Print every key with its value; secrets are never among them, only the files that hold them.
    #[command(after_help = "Examples:\n\
        \x20 tocsin config show\n\
        \x20 tocsin config show --origin\n\
        \x20 tocsin config show --json")]
    Show {
        /// Also where each value came from: the default, a file, or a variable of the environment. --json always says it.
        #[arg(long)]
        origin: bool,
    },
}

/// `tocsin doctor`
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Only this tenant (directory id or name), closely.
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Also write an archive (.tar.gz) that can be attached to a ticket: it holds no secret, and numbers in place of the
    /// names of customers. With `-` it goes to standard output, and the words to standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
}

/// `tocsin healthcheck`
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Healthcheck {
    /// Ask whether every stage has begun to run.
    #[arg(long)]
    pub(crate) startup: bool,
    /// Ask whether the process makes progress, not whether it does its job: only if not does a restart help.
    #[arg(long)]
    pub(crate) live: bool,
    /// Ask whether it does its job, as without any of these.
    #[arg(long)]
    pub(crate) ready: bool,
}
