//! Every command: one file each, and here the steps they share.

mod alerts;
mod asking;
mod audit;
mod backfill;
mod completions;
mod config;
mod connect;
mod db;
mod doctor;
mod healthcheck;
mod invite;
mod key;
mod man;
mod notify;
mod quarantine;
mod reader;
mod reconcile;
mod reload;
mod removal;
mod report;
mod schema;
mod serve;
mod tail;
mod tenant;
mod top;
mod verify;

use tenant_registry::Registry;

use crate::cli::{Cli, Command};
use crate::config::{Config, Sources};
use crate::database::{Database, Purpose, Reached};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::telemetry::{self, Level};

/// What every command starts with.
struct Setting {
    config: Config,
    /// What it was read from.
    sources: Sources,
    /// The filter of the log.
    level: Level,
    output: Output,
    /// Who types, for the audit log.
    actor: String,
}

impl Setting {
    /// The database for a command that ends soon.
    async fn database(&self, name: &'static str) -> Result<Database, Failure> {
        Reached::reach(&self.config, Purpose::Command(name)).await?.open(false, 3).await
    }

    /// The registry for a command that opens no token, acting for whoever types.
    fn registry(&self, database: &Database) -> Registry {
        Registry::without_keys(database.pool.clone()).acting_as(self.actor.as_str())
    }
}

/// Runs a parsed command line.
///
/// # Errors
/// The sentence and exit code with which the process ends.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let output = Output::new(cli.json);
    match &cli.command {
        // They are about the program alone, and work before there is a configuration.
        Command::Completions(options) => return completions::run(output, options),
        Command::Man(options) => return man::run(output, options),
        Command::Schema(options) => return schema::run(output, options),
        _ => {}
    }
    let environment: Vec<(String, String)> =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    let variable =
        |wanted: &str| environment.iter().find(|(name, value)| name == wanted && !value.is_empty()).map(|(_, value)| value.clone());
    let file = cli.config.or_else(|| variable("TOCSIN_CONFIG_FILE").map(Into::into));
    let rust_log = variable("RUST_LOG");
    let actor = audit::actor(variable("SUDO_USER"));
    let main_pid = variable("MAINPID");
    let sources = Sources::new(file, environment);
    let config = match sources.load() {
        Ok(config) => config,
        Err(error) => match &cli.command {
            Command::Doctor(_) => return doctor::without_config(Output::new(cli.json), &error),
            _ => return Err(error.into()),
        },
    };
    let level = if matches!(cli.command, Command::Serve(_)) {
        telemetry::init(&config.log, rust_log.as_deref())?
    } else {
        // A command speaks by its output; only what somebody should act on is logged beside it.
        let quiet = crate::config::LogConfig { level: "warn".into(), format: config.log.format };
        telemetry::init(&quiet, rust_log.as_deref())?
    };
    let setting = Setting { config, sources, level, output: Output::new(cli.json), actor };
    match cli.command {
        Command::Serve(options) => serve::run(setting, &options).await,
        Command::Db(command) => db::run(&setting, command).await,
        Command::Key(command) => key::run(&setting, command).await,
        Command::Tenant(command) => tenant::run(&setting, command).await,
        Command::Reader(command) => reader::run(&setting, command).await,
        Command::Alerts(command) => alerts::run(&setting, command).await,
        Command::Reconcile(options) => reconcile::run(&setting, &options).await,
        Command::Backfill(command) => backfill::run(&setting, command).await,
        Command::Quarantine(command) => quarantine::run(&setting, command).await,
        Command::Notify(command) => notify::run(&setting, &command).await,
        Command::Config(command) => config::run(&setting, &command),
        Command::Healthcheck(options) => healthcheck::run(&setting, &options).await,
        Command::Audit(command) => audit::run(&setting, command).await,
        Command::Doctor(options) => doctor::run(&setting, &options).await,
        Command::Top(options) => top::run(&setting, &options).await,
        Command::Report(options) => report::run(&setting, &options).await,
        Command::Reload => reload::run(&setting, main_pid.as_deref()).await,
        // Done before.
        Command::Completions(_) | Command::Man(_) | Command::Schema(_) => Ok(()),
    }
}

/// A question that must be answered by typing the name, unless `--yes` was given.
fn confirm(name: &str, yes: bool, question: &str) -> Result<(), Failure> {
    use std::io::{BufRead, IsTerminal};
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            Exit::Usage,
            format!("{question} Standard input is no terminal to ask on; add --yes if that is what you want"),
        ));
    }
    Output::new(false).note(&format!("{question} Type {name} to go on:"));
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot read the answer: {error}")))?;
    if answer.trim_end_matches(['\n', '\r']) == name {
        Ok(())
    } else {
        Err(Failure::new(Exit::Failed, "that is not the name; nothing was changed"))
    }
}
