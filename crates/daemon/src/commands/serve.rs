//! `tocsin serve`: gets everything ready, one step after the other, and runs until it is told to stop.

use std::collections::BTreeMap;
use std::future::pending;

use domain::CloudName;
use local_postgres::LocalPostgres;
use sink::Retention;
use tenant_registry::{KeyRing, Memory, OpenError, Registry};
use tokio::net::TcpListener;

use super::Setting;
use crate::cli::Serve;
use crate::config::Config;
use crate::database::{Database, Purpose, Reached};
use crate::failure::{Exit, Failure};
use crate::lifecycle::{self, Signals, Stages};
use crate::reload::Reload;
use crate::{secrets, service_manager, wiring};

/// Connections of the daemon besides those of the sink: registry, refresher, look-ups, what is derived, and some air.
const CONNECTIONS: u32 = 9;

/// Runs the daemon.
pub(super) async fn run(setting: Setting, options: &Serve) -> Result<(), Failure> {
    let Setting { config, sources, level, .. } = setting;
    let reload = Reload { sources, level, hangups: lifecycle::hangups()? };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "tocsin starts");
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    // No key, no start: before anything else, so that a wrong key file never touches a database.
    let ring = secrets::usable(&config)?;
    for warning in config.shared_files(&ring) {
        tracing::warn!("{warning}");
    }
    // The database first: on an embedded one, that is where a second daemon is told who is there.
    let open = async { Reached::reach(&config, Purpose::Serve).await?.open(options.migrate, CONNECTIONS).await };
    let mut database = service_manager::with_more_time("getting the database ready", open).await?;
    // Before anything listens: whoever gets an answer may ask for the end at once.
    let mut signals = Signals::listen()?;
    let started = tokio::select! {
        started = start(&config, ring, &database, reload) => started,
        name = signals.next() => {
            tracing::info!(signal = name, "stopping before anything was begun");
            database.close().await;
            return Ok(());
        }
    };
    match started {
        Ok(stages) => {
            service_manager::ready();
            let mut server = database.server.take();
            let result = lifecycle::run_until_end(stages, signals, server_died(server.as_mut())).await;
            database.server = server;
            database.close().await;
            result
        }
        Err(failure) => {
            database.close().await;
            Err(failure)
        }
    }
}

async fn start(config: &Config, ring: KeyRing, database: &Database, reload: Reload) -> Result<Stages, Failure> {
    let ops = TcpListener::bind(config.ops_listen)
        .await
        .map_err(|error| Failure::new(Exit::Conflict, format!("cannot listen on {} ([ops] listen): {error}", config.ops_listen)))?;
    let registry = Registry::open(database.pool.clone(), ring).await.map_err(|error| match error {
        OpenError::Database(error) => Failure::from(error),
        wrong_ring => Failure::new(Exit::Config, wrong_ring.to_string()),
    })?;
    let registry = registry.acting_as("daemon");
    // Before anything is added to the log.
    let mut memory = Memory::in_folder(&config.state_dir);
    if let Some(went_back) = registry.remember(&mut memory).await.ok().flatten() {
        went_back.tell(&memory);
    }
    registry.set_portals(&portals(config)).await?;
    registry.note_ring().await.map_err(super::tenant::failure)?;
    registry.set_app_clocks(&config.app_clocks()).await?;
    if Retention::allowed(&database.pool).await? != config.retention {
        tracing::warn!(
            "[retention] of the configuration is not what the database says, and the database counts; have it written down with: tocsin db migrate"
        );
    }
    tracing::info!(database = database.described, "the database is ready");
    wiring::wire(config, database.pool.clone(), registry, memory, ops, reload)
}

/// The portal of each cloud, from which the dashboards' links are built.
pub(super) fn portals(config: &Config) -> BTreeMap<CloudName, String> {
    config.clouds.iter().map(|(name, cloud)| (name.clone(), cloud.portal_url.clone().unwrap_or_default())).collect()
}

/// Resolves when the embedded server ends by itself; never, when the server is not ours.
async fn server_died(server: Option<&mut LocalPostgres>) -> String {
    match server {
        Some(server) => format!("the embedded Postgres ended: {}", server.exited().await),
        None => pending().await,
    }
}
