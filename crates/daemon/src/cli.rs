//! The command line: what can be typed, and which file does it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use domain::Source;

use crate::moment::{End, Moment};

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
    List {
        /// Only this tenant (directory id or name).
        #[arg(long)]
        tenant: Option<String>,
        /// At most this many of the newest.
        #[arg(long, short = 'n', default_value_t = 50)]
        limit: u32,
    },
    /// Look whether the audit log is as it was written: exit 0 if so, 3 if anything was altered, taken out or cut off.
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

/// `tocsin tenant …`
#[derive(Debug, Subcommand)]
pub(crate) enum Tenant {
    /// Import tenants from CSV: directory_id,name,cloud,app,sources,refresh_token
    Import {
        /// The file, or - for standard input.
        file: PathBuf,
        /// Let a different refresh token replace the one a tenant has.
        #[arg(long)]
        replace_token: bool,
    },
    /// Add one tenant. Its refresh token, if it has one, comes by standard input and never as an argument.
    Add {
        /// What you call this customer.
        name: String,
        /// The directory id (GUID) of its Entra tenant.
        #[arg(long, value_name = "GUID")]
        tenant: String,
        /// A key of the section `clouds`.
        #[arg(long, default_value = "global")]
        cloud: String,
        /// A key of the section `apps`.
        #[arg(long, default_value = "main")]
        app: String,
        /// What to read; may be repeated.
        #[arg(long = "source", value_name = "SOURCE", default_value = "graph-alerts")]
        sources: Vec<String>,
        /// Read the refresh token from standard input.
        #[arg(long)]
        refresh_token_stdin: bool,
        /// Let a different refresh token replace the one the tenant has.
        #[arg(long)]
        replace_token: bool,
    },
    /// List tenants with their state.
    List,
    /// Show one tenant: state, reason, next step, and its sources.
    Show(Named),
    /// Note what Microsoft does not tell about a tenant.
    Set {
        /// Which tenant.
        #[command(flatten)]
        named: Named,
        /// When our access to it (access package or partner relationship) ends: a date such as 2027-03-01, or "never".
        #[arg(long, value_name = "DATE")]
        access_expires: End,
    },
    /// Stop reading a tenant; its token is kept alive.
    Pause(Named),
    /// Read a paused tenant again, or try one in trouble at once.
    Resume(Named),
    /// Make a link by which a customer connects his tenant, and wait until he has. While it waits, --json prints an
    /// event a line: the link first, and `connected` last.
    Invite(Invite),
    /// Connect a tenant by signing in at this machine, for hosts that no customer's browser reaches. --json prints an
    /// event a line: the link or code first, and `connected` last.
    Connect(Connect),
    /// Try the connection of a tenant now: exit 0 if it works, 3 if not.
    Verify {
        /// Which tenant.
        #[command(flatten)]
        named: Named,
        /// How long to wait for the daemon.
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Stop reading a tenant and destroy its token and data key. Its alerts stay, unless you say otherwise.
    Remove {
        /// Which tenant.
        #[command(flatten)]
        named: Named,
        /// Delete everything that is stored of it too. What was begun can be gone on with, and not called off.
        #[arg(long, conflicts_with = "keep_alerts")]
        delete_alerts: bool,
        /// Keep its alerts; so it is when you say nothing.
        #[arg(long)]
        keep_alerts: bool,
        /// Do not ask for the name.
        #[arg(long)]
        yes: bool,
    },
}

/// A tenant that may be new.
#[derive(Debug, Args)]
pub(crate) struct MaybeNew {
    /// What you call this customer.
    pub(crate) name: String,
    /// The directory of a customer that is not here yet: its id (GUID) or one of its domains.
    #[arg(long, value_name = "GUID|DOMAIN")]
    pub(crate) tenant: Option<String>,
    /// A key of the section `clouds`; for a new tenant, which lives in global when you say nothing.
    #[arg(long, requires = "tenant")]
    pub(crate) cloud: Option<String>,
    /// A key of the section `apps`; for a new tenant, which is read by main when you say nothing.
    #[arg(long, requires = "tenant")]
    pub(crate) app: Option<String>,
    /// What to read; may be repeated; for a new tenant, of which graph-alerts are read when you say nothing.
    #[arg(long = "source", value_name = "SOURCE", requires = "tenant")]
    pub(crate) sources: Vec<String>,
    /// Do not ask whether the directory of a domain is the right one.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Let the new connection replace one that works, once it is proved.
    #[arg(long)]
    pub(crate) relink: bool,
}

/// `tocsin tenant invite`
///
/// Examples:
///   tocsin tenant invite contoso --tenant contoso.com
///   tocsin tenant invite contoso --no-wait --json
#[derive(Debug, Args)]
pub(crate) struct Invite {
    /// Whom to invite.
    #[command(flatten)]
    pub(crate) who: MaybeNew,
    /// How long the link is good.
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = humantime::parse_duration)]
    pub(crate) expires: Duration,
    /// Print the link and end.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Wait no longer than this; the link stays good.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Draw the link as a QR code, too.
    #[arg(long)]
    pub(crate) qr: bool,
    /// Call the open link back instead of making one.
    #[arg(long, conflicts_with_all = ["tenant", "qr", "relink"])]
    pub(crate) cancel: bool,
}

/// `tocsin tenant connect`
///
/// Examples:
///   tocsin tenant connect contoso --tenant contoso.com
///   tocsin tenant connect contoso --paste
#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// Whom to connect.
    #[command(flatten)]
    pub(crate) who: MaybeNew,
    /// No browser on this machine: sign in anywhere, then paste the address that the browser ends at.
    #[arg(long)]
    pub(crate) paste: bool,
    /// Sign in with a code on another device. Many customers forbid it, and a policy of theirs can end it at any time.
    #[arg(long, conflicts_with = "paste")]
    pub(crate) device_code: bool,
    /// Print the address and open no browser.
    #[arg(long)]
    pub(crate) no_browser: bool,
}

/// A tenant, by directory id or name.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The tenant's directory id or its name.
    pub(crate) tenant: String,
}

/// `tocsin alerts …`
#[derive(Debug, Subcommand)]
pub(crate) enum Alerts {
    /// List stored alerts, newest arrivals last.
    List(AlertFilter),
    /// Print alerts as they are stored, until Ctrl-C.
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

/// `tocsin reconcile`
#[derive(Debug, Args)]
pub(crate) struct Reconcile {
    /// Which tenant (directory id or name).
    #[arg(long)]
    pub(crate) tenant: String,
    /// Only this source.
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: Option<Source>,
    /// From when: how long ago (24h, 7d) or a time (2026-11-20T08:00:00Z).
    #[arg(long, value_name = "WHEN", default_value = "24h")]
    pub(crate) since: Moment,
    /// Until when; now, if not said.
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<Moment>,
    /// How long to wait for the daemon.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

/// `tocsin backfill …`
#[derive(Debug, Subcommand)]
pub(crate) enum Backfill {
    /// Ask the daemon to read a stretch of the past back, the newest first.
    Start {
        /// Which tenant.
        #[command(flatten)]
        named: Named,
        /// Only this source.
        #[arg(long, value_name = "SOURCE")]
        source: Option<Source>,
        /// From when: how long ago (90d) or a time (2026-08-01T00:00:00Z).
        #[arg(long, value_name = "WHEN")]
        since: Moment,
        /// Until when; now, if not said.
        #[arg(long, value_name = "WHEN")]
        until: Option<Moment>,
        /// Give up a backfill that is under way for this one.
        #[arg(long)]
        replace: bool,
        /// Wait for its end.
        #[arg(long)]
        wait: bool,
    },
    /// Show how far backfills have come.
    Status {
        /// Only this tenant (directory id or name).
        tenant: Option<String>,
        /// Go on until all of them have ended.
        #[arg(long)]
        watch: bool,
    },
    /// Call a backfill off. What it has stored stays.
    Cancel {
        /// Which tenant.
        #[command(flatten)]
        named: Named,
        /// Only this source.
        #[arg(long, value_name = "SOURCE")]
        source: Option<Source>,
    },
}

/// `tocsin quarantine …`
#[derive(Debug, Subcommand)]
pub(crate) enum Quarantine {
    /// List records, those seen last first.
    List {
        /// Only this tenant (directory id or name).
        #[arg(long)]
        tenant: Option<String>,
        /// Only this source.
        #[arg(long, value_name = "SOURCE")]
        source: Option<Source>,
        /// At most this many.
        #[arg(long, short = 'n', default_value_t = 50)]
        limit: u32,
        /// Also those that were understood when they were tried again.
        #[arg(long)]
        replayed: bool,
    },
    /// Show one record with its body.
    Show {
        /// Its id, or the beginning of it.
        id: String,
        /// Of this tenant (directory id or name), when several have the same record.
        #[arg(long)]
        tenant: Option<String>,
        /// Write the body as it came, and nothing else.
        #[arg(long)]
        raw: bool,
    },
    /// Let the daemon try records again, after an update of tocsin for instance.
    Replay {
        /// Their ids, or the beginnings of them.
        #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<String>,
        /// All of them.
        #[arg(long)]
        all: bool,
        /// Only of this tenant (directory id or name).
        #[arg(long)]
        tenant: Option<String>,
        /// Only of this source; with --all.
        #[arg(long, value_name = "SOURCE", requires = "all")]
        source: Option<Source>,
        /// Wait for the end; exit 3 if some are not understood this time either.
        #[arg(long)]
        wait: bool,
    },
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_tree_is_sound() {
        super::Cli::command().debug_assert();
    }
}
