//! `tocsin reconcile`, `backfill` and `quarantine`: comparing, reading again, trying again.

use std::time::Duration;

use clap::{Args, Subcommand};
use domain::Source;

use super::Named;
use crate::moment::Moment;

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
    #[command(after_help = "Examples:\n\
        \x20 tocsin backfill start contoso --since 90d --wait\n\
        \x20 tocsin backfill start contoso --source mde-alerts --since 2026-08-01T00:00:00Z --until 30d --replace")]
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
    #[command(after_help = "Examples:\n  tocsin backfill status\n  tocsin backfill status contoso --watch")]
    Status {
        /// Only this tenant (directory id or name).
        tenant: Option<String>,
        /// Go on until all of them have ended.
        #[arg(long)]
        watch: bool,
    },
    /// Call a backfill off. What it has stored stays.
    #[command(after_help = "Examples:\n\
        \x20 tocsin backfill cancel contoso\n\
        \x20 tocsin backfill cancel contoso --source mde-alerts")]
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
    #[command(after_help = "Examples:\n\
        \x20 tocsin quarantine list\n\
        \x20 tocsin quarantine list --tenant contoso --source graph-alerts --replayed -n 500")]
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
    #[command(after_help = "Examples:\n\
        \x20 tocsin quarantine show 3fa9c1d2\n\
        \x20 tocsin quarantine show 3fa9c1d2 --tenant contoso --raw > record.json")]
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
    #[command(after_help = "Examples:\n\
        \x20 tocsin quarantine replay 3fa9c1d2 77b0e4aa\n\
        \x20 tocsin quarantine replay --all --tenant contoso --source graph-alerts --wait")]
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
