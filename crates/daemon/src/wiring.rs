//! The one screen: every channel between the rooms, and every long-lived task, is made here.
//!
//! ```text
//! registry ──tenants──► refresher, poller        poller ──inbox──► sink ──(oneshot)──► poller
//! refresher, poller ──reports──► registry        every stage ──status──► ops endpoint
//! refresher ──(is a redemption in flight?)──► registry        registry ──tenants──► digest ◄──stored── sink
//! ```

use std::sync::Arc;

use alert_poller::{MicrosoftSource, Poller};
use console::{Configuration, ConsentState, OpsState, consent_router, ops_router, serve, serve_consent_at};
use digester::DigestWorker;
use domain::health::{Headline, Stage, StageStatus};
use domain::{Chance, Clock, ReplicaId, SystemChance, SystemClock, TenantSet};
use microsoft::{AlertsApi, Http, HttpSettings, SignIn};
use notifier::{Client, Notifier};
use sink::{CursorStore, Keeper, PgStore, SinkWorker};
use sqlx::PgPool;
use tenant_registry::{Memory, Registry, RegistryWorker, Upkeep};
use token_refresher::{Enrol, EnrolDeps};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use uuid::Uuid;

use crate::config::Config;
use crate::database;
use crate::failure::{Exit, Failure};
use crate::lifecycle::Stages;
use crate::reload::{Destinations, Reload, Reloader};
use crate::service_manager;

/// Makes and starts everything. The stages are stopped in the order in which they are added here.
pub(crate) fn wire(
    config: &Config,
    pool: PgPool,
    registry: Registry,
    memory: Memory,
    ops: TcpListener,
    reload: Reload,
) -> Result<Stages, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, error.to_string());
    let metrics = console::install_metrics().map_err(|error| failed(&error))?;
    let http = Http::new(HttpSettings::default()).map_err(|error| failed(&error))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let chance: Arc<dyn Chance> = Arc::new(SystemChance);
    let clouds = Arc::new(config.clouds.clone());
    let replica = ReplicaId(Uuid::new_v4());

    // Who: only the latest set counts, so nobody can fall behind.
    let (tenants_out, tenants) = watch::channel(Arc::new(TenantSet::empty(Instant::now())));
    // What happened: slices of at most 3 MB; eight of them bound what waits here to 24 MB.
    let (inbox_out, inbox) = mpsc::channel(8);
    // Of whom something was stored: a word that finds no room costs some seconds.
    let (stored_out, stored) = mpsc::channel(1024);
    // Trouble and recovery: small and rare; room for an outage that touches a thousand tenants at once.
    let (reports_out, reports) = mpsc::channel(1024);
    // How each stage is: only the latest word counts.
    let status = || watch::channel(StageStatus::faulty(clock.now(), "starting"));
    let (registry_says, registry_status) = status();
    let (refresher_says, refresher_status) = status();
    let (poller_says, poller_status) = status();
    let (sink_says, sink_status) = status();
    let (digest_says, digest_status) = status();

    // Other settings while we run: only the latest count.
    let (poller_set, poller_settings) = watch::channel(config.poller());
    let (interval_set, poll_interval) = watch::channel(config.poll.interval);
    let (configuration_says, configuration) = watch::channel(Configuration { generation: 1, read: 1, ..Configuration::default() });
    // How it is with the customers, for the line of a service manager.
    let (headline_out, headline) = watch::channel(Headline::default());

    // How often a login host is asked: the refresher, the pages and the second certificate of an app share it.
    let lanes = Arc::new(token_refresher::Lanes::new(&clouds, config.token_per_second(), &tenants));
    let sign_in = SignIn::new(http.clone(), clock.clone()).taking_turns(lanes.clone());
    let api = AlertsApi::new(http, clock.clone());
    let apps = Arc::new(config.apps.iter().map(|(name, app)| (name.clone(), app.app.clone())).collect());
    let credentials = Arc::new(config.credentials());
    let (tokens, refresher) = token_refresher::start(
        token_refresher::Deps {
            redeemer: Arc::new(sign_in.clone()),
            vault: Arc::new(registry.clone()),
            clouds: clouds.clone(),
            lanes,
            apps: Arc::clone(&apps),
            credentials: credentials.clone(),
            clock: clock.clone(),
            chance: chance.clone(),
            tenants: tenants.clone(),
            reports: reports_out.clone(),
            status: refresher_says,
        },
        config.refresher(),
    );
    let tokens = Arc::new(tokens);
    let poller = Poller::new(
        alert_poller::Deps {
            source: Arc::new(MicrosoftSource::new(api.clone(), clouds.clone())),
            tokens: tokens.clone(),
            cursors: Arc::new(CursorStore::new(pool.clone())),
            clock: clock.clone(),
            chance: chance.clone(),
            tenants: tenants.clone(),
            sink: inbox_out,
            sink_status: sink_status.clone(),
            reports: reports_out,
            status: poller_says,
        },
        config.poller(),
    )
    .following(poller_settings)
    .telling(headline_out);
    let keeper = Keeper::new(pool.clone(), clock.clone());
    // Nobody is told unless the configuration names an address. It is read anew at every use, as secrets are.
    let webhook = match config.notify.clone() {
        Some(notify) => {
            let client = Client::new(notify.egress).map_err(|error| failed(&error))?;
            let (settings, endpoint) = (notify.settings, Arc::new(move || notify.endpoint()));
            Some(Notifier::new(pool.clone(), settings, client, endpoint, clock.clone(), chance.clone()))
        }
        None => None,
    };
    let digest =
        DigestWorker::new(digester::Deps { pool: pool.clone(), tenants, clock: clock.clone(), status: digest_says }).hearing(stored);
    let ingest = database::apart(&pool, config.sink().connections());
    let sink = SinkWorker::new(PgStore::new(ingest, &config.sink()), config.sink(), clock.clone(), inbox, sink_says).telling(stored_out);
    let enrol = Enrol::new(
        EnrolDeps { sign_in, api, registry: registry.clone(), clouds, apps, credentials, clock: clock.clone() },
        Some(tokens.as_ref().clone()),
    );
    let pages = ConsentState::new(registry.clone().acting_as("console"), enrol, config.consent_pages(), clock.clone());
    let upkeep = Upkeep::new(registry.clone()).remembering(memory);
    let registry =
        RegistryWorker::new(registry, config.registry(), replica, clock.clone(), chance, tokens, tenants_out, reports, registry_says)
            .following(poll_interval);
    let to = Destinations { poller: poller_set, poll_interval: interval_set, told: configuration_says };
    let reloader = Reloader::new(reload, config, to);

    let watched = vec![
        (Stage::Registry, registry_status),
        (Stage::Refresher, refresher_status),
        (Stage::Poller, poller_status),
        (Stage::Sink, sink_status),
        (Stage::Digest, digest_status),
    ];
    let ops_state = OpsState::new(watched, clock, metrics.clone()).showing(configuration);
    let router = ops_router(ops_state.clone());
    let address = ops.local_addr().map_err(|error| failed(&error))?;
    tracing::info!(ops.address = %address, replica.id = %replica, "the ops endpoint listens");

    let mut stages = Stages::default();
    stages.add("reload", |stop| reloader.run(stop));
    stages.add("poller", |stop| poller.run(stop));
    stages.add("sink", |stop| sink.run(stop));
    stages.add("digest", |stop| digest.run(stop));
    stages.beside("refresher", |stop| refresher.run(stop));
    stages.beside("registry's upkeep", |stop| upkeep.run(stop));
    stages.beside("retention", |stop| keeper.run(stop));
    if let Some(webhook) = webhook {
        stages.beside("webhook", |stop| webhook.run(stop));
    }
    stages.add("registry", |stop| registry.run(stop));
    stages.add("metrics upkeep", |stop| async move {
        console::upkeep(metrics, stop).await;
        Ok::<(), String>(())
    });
    let console_listen = config.console.listen;
    stages.add("consent pages", |stop| serve_consent_at(console_listen, consent_router(pages), stop));
    stages.add("ops endpoint", |stop| serve(ops, router, stop));
    stages.add("word to the service manager", |stop| service_manager::attend(ops_state, headline, stop));
    Ok(stages)
}
