//! `tocsin tenant …`: customers, as they come, stay and go.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::moment::End;

/// `tocsin tenant …`
#[derive(Debug, Subcommand)]
pub(crate) enum Tenant {
    /// Import tenants from CSV: directory_id,name,cloud,app,sources,refresh_token
    #[command(after_help = "Examples:\n\
        \x20 tocsin tenant import customers.csv\n\
        \x20 tocsin tenant import --replace-token - < customers.csv")]
    Import {
        /// The file, or - for standard input.
        file: PathBuf,
        /// Let a different refresh token replace the one a tenant has.
        #[arg(long)]
        replace_token: bool,
    },
    /// Add one tenant. Its refresh token, if it has one, comes by standard input and never as an argument.
    #[command(after_help = "Examples:\n\
        \x20 tocsin tenant add \"Contoso A/S\" --tenant 6f1c2f6e-3f0e-4a52-9a51-0c2f8f1f6f10 --refresh-token-stdin < token\n\
        \x20 tocsin tenant add contoso --tenant 6f1c2f6e-3f0e-4a52-9a51-0c2f8f1f6f10 --app own --source graph-alerts --source graph-incidents")]
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
    #[command(after_help = "Examples:\n\
        \x20 tocsin tenant set contoso --access-expires 2027-03-01\n\
        \x20 tocsin tenant set contoso --access-expires never")]
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
    #[command(after_help = "Examples:\n\
        \x20 tocsin tenant invite \"Contoso A/S\" --tenant contoso.com\n\
        \x20 tocsin tenant invite contoso --tenant contoso.com --source graph-alerts --source mde-alerts --expires 2d --qr\n\
        \x20 tocsin tenant invite contoso --relink --no-wait --json\n\
        \x20 tocsin tenant invite contoso --cancel")]
    Invite(Invite),
    /// Connect a tenant by signing in at this machine, for hosts that no customer's browser reaches. --json prints an
    /// event a line: the link or code first, and `connected` last.
    #[command(after_help = "Examples:\n\
        \x20 tocsin tenant connect contoso --tenant contoso.com\n\
        \x20 tocsin tenant connect contoso --tenant contoso.com --paste\n\
        \x20 tocsin tenant connect contoso --relink --no-browser")]
    Connect(Connect),
    /// Try the connection of a tenant now: exit 0 if it works, 3 if not.
    #[command(after_help = "Examples:\n\
        \x20 tocsin tenant verify contoso\n\
        \x20 tocsin tenant verify contoso --timeout 3m --json")]
    Verify {
        /// Which tenant.
        #[command(flatten)]
        named: Named,
        /// How long to wait for the daemon.
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Stop reading a tenant and destroy its token and data key. Its alerts stay, unless you say otherwise.
    #[command(after_help = "Examples:\n\
        \x20 tocsin tenant remove contoso\n\
        \x20 tocsin tenant remove \"Contoso A/S\" --delete-alerts --yes")]
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
