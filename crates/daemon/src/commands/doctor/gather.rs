//! Gathering the facts, each once. Nothing here judges, and nothing changes what it looks at.

use domain::{Clock as _, SystemClock};
use sink::Retention;
use sqlx::PgPool;
use tenant_registry::{KeyRing, LostChain, Memory, OpenError, Registry, TenantSummary, WentBack};

use super::facts::{AppFacts, ConfigFacts, DatabaseFacts, Facts, KeyFacts, ReaderFacts, WentBackFacts};
use super::names::Names;
use super::{database, network};
use crate::commands::{Setting, tenant};
use crate::config::Config;
use crate::database::{Purpose, Reached, SchemaState, state};
use crate::failure::{Exit, Failure};
use crate::secrets::read_credential;

/// Looks at everything; `only` names one tenant.
///
/// # Errors
/// When the tenant that was named does not exist. All else that goes wrong is a fact.
pub(super) async fn gather(setting: &Setting, only: Option<&str>) -> Result<(Facts, Names), Failure> {
    let config = &setting.config;
    let mut names = Names::of(config.apps.keys(), config.clouds.keys());
    let now = SystemClock.now();
    let (keys, ring) = key_ring(config);
    let mut facts = Facts {
        now,
        config: configuration(config, ring.as_ref()),
        keys,
        apps: apps(config, &names, now),
        database: DatabaseFacts::NotMade,
        daemon: network::daemon(config.ops_listen).await,
        hosts: Vec::new(),
        tenants: Vec::new(),
        deep: None,
    };
    let mut clouds = Vec::new();
    // Asked for first, so that an embedded server that is not there is not made for the sake of looking at it.
    if config.database.url.is_some() || config.postgres_folder().exists() {
        match open(config).await {
            Ok(database) => {
                let looked = look(&database.pool, config, &mut facts, &mut names, ring, only).await;
                facts.database = match looked {
                    Ok((server, used)) => {
                        clouds = used;
                        DatabaseFacts::There(Box::new(server))
                    }
                    Err(failure) if failure.exit == Exit::NotFound => {
                        database.close().await;
                        return Err(failure);
                    }
                    Err(failure) => away(&failure),
                };
                database.close().await;
            }
            Err(facts_instead) => facts.database = facts_instead,
        }
    }
    if clouds.is_empty() && only.is_none() {
        // Nobody is read yet: what is configured besides the built-in ones will be.
        let built_in = microsoft::built_in();
        clouds = config.clouds.keys().filter(|name| !built_in.contains_key(*name)).cloned().collect();
    }
    let used = config.clouds.iter().filter(|(name, _)| clouds.contains(name));
    facts.hosts = network::hosts(used, &names).await;
    Ok((facts, names))
}

fn configuration(config: &Config, ring: Option<&KeyRing>) -> ConfigFacts {
    let shared = ring.map(|ring| config.shared_files(ring)).unwrap_or_default();
    let mut private_warnings = config.warnings.clone();
    private_warnings.extend(shared);
    let private_webhook = config.notify.as_ref().map(|notify| notify.endpoint().map(drop));
    ConfigFacts { private_warnings, together: config.kept_together, private_webhook }
}

fn key_ring(config: &Config) -> (KeyFacts, Option<KeyRing>) {
    match KeyRing::load(&config.key_file) {
        Ok(ring) => {
            let facts = KeyFacts { keys: ring.ids().len(), shared_with_group: ring.warning().is_some(), ..KeyFacts::default() };
            (facts, Some(ring))
        }
        Err(error) => (KeyFacts { private_unusable: Some(error.to_string()), ..KeyFacts::default() }, None),
    }
}

fn apps(config: &Config, names: &Names, now: domain::Ticks) -> Vec<AppFacts> {
    let clocks = config.app_clocks();
    let days_left = |name: &domain::AppName| {
        let end = clocks.iter().find(|clock| clock.app == *name)?.ends_at;
        Some((end.0 - now.0).div_euclid(864_000_000_000))
    };
    config
        .apps
        .iter()
        .map(|(name, app)| {
            let read = read_credential(&app.credential);
            AppFacts {
                app: names.alias("app", name.as_str()),
                has_credential: !matches!(read, Ok(None)),
                private_unreadable: read.err().map(|error| error.to_string()),
                days_left: days_left(name),
                fault: None,
                tenants: 0,
            }
        })
        .collect()
}

/// Opens the database as it is: no schema is changed for a diagnosis.
async fn open(config: &Config) -> Result<crate::database::Database, DatabaseFacts> {
    let unusable = |failure: Failure| away(&failure);
    let reached = Reached::reach(config, Purpose::Command("doctor")).await.map_err(unusable)?;
    let server_of_ours = async |mut reached: Reached, facts| {
        if let Some(server) = reached.server.take() {
            // What does not stop in time is stopped with this process.
            let _ = server.stop().await;
        }
        facts
    };
    match state(&reached.options).await {
        Ok(SchemaState::Current) => reached.open(false, 3).await.map_err(unusable),
        Ok(SchemaState::Pending(pending)) => Err(server_of_ours(reached, DatabaseFacts::OtherSchema { pending: pending.len() }).await),
        Ok(SchemaState::Ahead(_)) => Err(server_of_ours(reached, DatabaseFacts::OtherSchema { pending: 0 }).await),
        Err(failure) => Err(server_of_ours(reached, away(&failure)).await),
    }
}

fn away(failure: &Failure) -> DatabaseFacts {
    DatabaseFacts::Away { exit: failure.exit as u8, private_reason: failure.message.clone() }
}

/// Everything that the database tells; also the clouds that tenants live in.
async fn look(
    pool: &PgPool,
    config: &Config,
    facts: &mut Facts,
    names: &mut Names,
    ring: Option<KeyRing>,
    only: Option<&str>,
) -> Result<(super::facts::ServerFacts, Vec<domain::CloudName>), Failure> {
    let registry = Registry::without_keys(pool.clone());
    let one: Option<TenantSummary> = match only {
        Some(named) => Some(registry.find(named).await.map_err(tenant::failure)?),
        None => None,
    };
    let mut server = database::server(pool, config.database.url.is_none()).await?;
    server.retention_differs = Retention::allowed(pool).await? != config.retention;
    let walked = registry.verify_audit(one.as_ref().map(|tenant| tenant.id), &[]).await.map_err(tenant::failure)?;
    (server.audit_entries, server.audit_problems) = (walked.entries, walked.problems);
    server.went_back = went_back(&registry, config).await?;
    let readers = registry.readers().await.map_err(tenant::failure)?;
    let sentence = |reader: &tenant_registry::Reader| match (reader.gone, reader.excess.as_slice()) {
        (true, _) => Some(format!("{} is gone", reader.name)),
        (_, []) => None,
        (_, excess) => Some(format!("{} {}", reader.name, excess.join(" and "))),
    };
    server.readers = Box::new(ReaderFacts {
        count: readers.len(),
        gone: readers.iter().filter(|reader| reader.gone).count(),
        exceed: readers.iter().filter(|reader| !reader.excess.is_empty()).count(),
        private_sentences: readers.iter().filter_map(sentence).collect(),
        leaks: registry.reader_leaks().await.map_err(tenant::failure)?,
    });
    let (tenants, clouds) = database::tenants(pool, one.as_ref().map(|tenant| tenant.id), names).await?;
    facts.tenants = tenants;
    database::apps(pool, &mut facts.apps, names).await?;
    if let Some(ring) = ring {
        for key in registry.key_status(&ring).await.map_err(tenant::failure)? {
            let place = if !key.in_ring { 2 } else { usize::from(!key.active) };
            facts.keys.sealed[place] += key.tenants;
        }
        facts.keys.opens_all = Some(match Registry::open(pool.clone(), ring).await {
            Ok(_) => Ok(()),
            Err(OpenError::Database(error)) => return Err(error.into()),
            Err(error) => Err(error.to_string()),
        });
    }
    if let Some(one) = &one {
        facts.deep = Some(database::deep(pool, &registry, one).await?);
    }
    Ok((server, clouds))
}

/// What this host has seen and the database lacks; and what a daemon found lacking within a month and nobody decided again.
async fn went_back(registry: &Registry, config: &Config) -> Result<Option<WentBackFacts>, Failure> {
    let memory = Memory::in_folder(&config.state_dir);
    // What cannot be read here was said by the daemon.
    let now = registry.went_back(&memory).await.ok().flatten();
    let lost = match now {
        Some(went_back) => Some(went_back),
        None => registry.still_undone(30).await.map_err(tenant::failure)?,
    };
    let Some(WentBack { lost, .. }) = lost else { return Ok(None) };
    let customers = lost.iter().filter(|chain| !chain.tenant.0.is_nil());
    Ok(Some(WentBackFacts {
        customers: customers.clone().count(),
        removed: customers.filter(|chain| matches!(chain.last.as_str(), "tenant.remove" | "tenant.erased")).count(),
        private_sentences: lost.iter().map(undone).collect(),
    }))
}

fn undone(chain: &LostChain) -> String {
    let whom = if chain.tenant.0.is_nil() { "the installation".to_owned() } else { chain.tenant.to_string() };
    format!("undone for {whom}, the last deed of the time since: {}", chain.last)
}
