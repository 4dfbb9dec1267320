//! `tocsin reader …`: who reads schema `dash`, and which customers each of them sees.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `tocsin reader …`
#[derive(Debug, Subcommand)]
pub(crate) enum Reader {
    /// Make a database role that reads schema dash and sees these customers, or all of them.
    #[command(after_help = "Examples:\n\
        \x20 tocsin reader create contoso_soc --tenants contoso --password-file /root/contoso_soc.password\n\
        \x20 tocsin reader create nordic --tenants \"contoso,Fabrikam A/S,6f1c2f6e-3f0e-4a52-9a51-0c2f8f1f6f10\"\n\
        \x20 tocsin reader create grafana --all --password-file /etc/grafana/tocsin.password")]
    Create {
        /// The role to make: small letters, digits and _.
        name: String,
        /// Which customers it sees.
        #[command(flatten)]
        sight: Sight,
        /// The file with its password; where there is no such file yet, it is made, with a password of 192 random bits.
        /// Without this the role has no password, for logins by certificate or by the operating system.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// List who reads schema dash, which customers each sees, and what he may do that he should not.
    List,
    /// Let a reader see more customers.
    #[command(after_help = "Examples:\n\
        \x20 tocsin reader grant nordic --tenants fabrikam\n\
        \x20 tocsin reader grant nordic --tenants fabrikam,contoso")]
    Grant(Change),
    /// Take customers from a reader; what it asks from now on no longer shows them.
    #[command(after_help = "Examples:\n\
        \x20 tocsin reader revoke nordic --tenants contoso\n\
        \x20 tocsin reader revoke nordic --tenants fabrikam,contoso")]
    Revoke(Change),
    /// Take everything from a reader and drop its role.
    #[command(after_help = "Examples:\n\
        \x20 tocsin reader drop nordic\n\
        \x20 tocsin reader drop nordic --yes")]
    Drop {
        /// Which reader.
        name: String,
        /// Do not ask for the reader's name.
        #[arg(long)]
        yes: bool,
    },
}

/// Which customers a reader sees.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Sight {
    /// These (directory ids or names, with commas between them; may be repeated).
    #[arg(long, value_name = "TENANTS")]
    pub(crate) tenants: Vec<String>,
    /// Every customer, and those that come later.
    #[arg(long)]
    pub(crate) all: bool,
}

/// Customers given to a reader, or taken from it.
#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Which reader.
    pub(crate) name: String,
    /// Which customers (directory ids or names, with commas between them; may be repeated).
    #[arg(long, value_name = "TENANTS", required = true)]
    pub(crate) tenants: Vec<String>,
}
