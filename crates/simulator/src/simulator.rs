//! The simulator as a library: start it, publish, script, look at what happened, stop it.

use crate::identity::tokens::Families;
use crate::identity::{Identity, Region};
use crate::in_flight::InFlight;
use crate::journal::{Journal, JournalEntry, Totals};
use crate::ledger::Ledger;
use crate::line::Door;
use crate::pace::Pace;
use crate::samples::{self, SampleReport};
use crate::scenario::{Poison, Rule};
use crate::server::{self, App};
use crate::settings::{Settings, Source};
use crate::stamp::{Clock, Stamp};
use crate::world::World;
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};
use uuid::Uuid;

/// How often the world is given the chance to go on.
const TICK: Duration = Duration::from_millis(50);

/// A running pretend Microsoft.
///
/// It brings its own threads, so it answers also while a test holds its own runtime or has paused its clock, and
/// stopping it tears off every connection at once, as a real outage would.
#[derive(Debug)]
pub struct Simulator {
    app: Arc<App>,
    samples: SampleReport,
    /// Held for its end: dropping it stops the server.
    _threads: Threads,
}

/// One customer, with what a line of the import file needs.
#[derive(Clone, Debug)]
pub struct SimTenant {
    /// The directory id, which is the tenant id of the tokens.
    pub directory_id: Uuid,
    /// The company's name, unique among the tenants.
    pub name: String,
    /// The company's mail domain; the sign-in addresses accept it in place of the id.
    pub domain: String,
    /// Through which APIs it is to be watched.
    pub sources: Vec<Source>,
    /// The refresh token from its first consent.
    pub refresh_token: String,
}

impl Simulator {
    /// Starts a simulator. Fails when the address is not on loopback or cannot be listened on, when the marker
    /// holds letters a token cannot, or when the samples cannot be read.
    pub fn start(settings: Settings) -> anyhow::Result<Simulator> {
        ensure!(
            settings.listen.ip().is_loopback(),
            "the simulator hands out tokens to anybody and listens on loopback only, not on {}",
            settings.listen
        );
        let marker = settings.marker.clone();
        if let Some(marker) =
            marker.as_deref().filter(|marker| !marker.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'))
        {
            bail!("the marker {marker:?} may hold letters, digits, '-' and '_' only");
        }
        let threads = Threads(Some(
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("simulator")
                .enable_all()
                .build()
                .context("cannot start the simulator's threads")?,
        ));
        let runtime = threads.handle();
        let listener = std::net::TcpListener::bind(settings.listen).with_context(|| format!("cannot listen on {}", settings.listen))?;
        listener.set_nonblocking(true).context("cannot prepare the listening socket")?;
        let address = listener.local_addr().context("cannot ask for the listening address")?;

        let (seed, rate, updates, journal_limit) = (settings.seed, settings.rate, settings.updates, settings.journal_limit);
        let is_real = matches!(settings.clock, Clock::Real);
        let folder = settings.samples.clone();
        let world = Arc::new(World::new(settings));
        let samples = folder.map(|folder| samples::publish(&world, &folder)).transpose()?.unwrap_or_default();
        let app = Arc::new(App {
            identity: Identity::new(seed, marker.as_deref()),
            journal: Journal::new(journal_limit),
            pace: Pace::new(seed, rate, updates, world.clock.now()),
            base_url: format!("http://{address}"),
            requests: AtomicU64::new(0),
            redeeming: InFlight::default(),
            world,
        });

        let door = {
            let _inside = runtime.enter();
            Door(tokio::net::TcpListener::from_std(listener).context("cannot hand the listening socket to the simulator's threads")?)
        };
        runtime.spawn(server::serve(door, app.clone()));
        if is_real {
            let app = app.clone();
            runtime.spawn(async move {
                let mut ticks = tokio::time::interval(TICK);
                loop {
                    ticks.tick().await;
                    app.pace.tick(&app.world);
                }
            });
        }
        Ok(Simulator { app, samples, _threads: threads })
    }

    /// Where it listens, such as `http://127.0.0.1:40123`: sign-in, Graph and Defender for Endpoint alike.
    pub fn base_url(&self) -> &str {
        &self.app.base_url
    }

    /// The customers, always in the same order.
    pub fn tenants(&self) -> Vec<SimTenant> {
        let describe = |tenant: &crate::world::Tenant| SimTenant {
            directory_id: tenant.face.directory_id,
            name: tenant.face.name.clone(),
            domain: tenant.face.domain.clone(),
            sources: tenant.sources.clone(),
            refresh_token: self.app.identity.refresh_token(Families::original(tenant.face.directory_id)),
        };
        self.app.world.tenants.iter().map(describe).collect()
    }

    /// The client id of the one app that is registered.
    pub fn client_id(&self) -> String {
        self.app.identity.client_id.to_string()
    }

    /// The secret of that app.
    pub fn client_secret(&self) -> &str {
        &self.app.identity.client_secret
    }

    /// Registers a certificate (PEM) for the app, beside those that are; returns its thumbprint.
    pub fn register_certificate(&self, pem: &str) -> anyhow::Result<String> {
        self.app.identity.registered.add_certificate(pem)
    }

    /// Forgets all certificates of the app.
    pub fn forget_certificates(&self) {
        self.app.identity.registered.forget_certificates();
    }

    /// Takes tokens of this issuer for this subject, made for `api://AzureADTokenExchange`, for the app.
    pub fn trust_federated(&self, issuer: &str, subject: &str) {
        self.app.identity.registered.trust(issuer, subject);
    }

    /// From now on id tokens are signed with a key that was not published before.
    pub fn change_signing_key(&self) {
        self.app.identity.keys.change();
    }

    /// Lets a tenant live elsewhere than in the worldwide cloud, as its discovery document tells it.
    pub fn set_region(&self, tenant: Uuid, region: Region) -> anyhow::Result<()> {
        self.app.world.tenant(tenant)?;
        self.app.identity.regions.set(tenant, region);
        Ok(())
    }

    /// Gives a tenant one more domain.
    pub fn add_domain(&self, tenant: Uuid, domain: &str) -> anyhow::Result<()> {
        self.app.world.tenant(tenant)?;
        self.app.world.add_domain(tenant, domain);
        Ok(())
    }

    /// Somebody types the short code of a device, and agrees or not. Fails when no device waits with it.
    pub fn decide_device(&self, user_code: &str, agrees: bool) -> anyhow::Result<()> {
        self.app.identity.devices.decide(user_code, agrees)
    }

    /// What the samples folder held.
    pub fn samples(&self) -> &SampleReport {
        &self.samples
    }

    /// Adds a rule to those in force.
    pub fn script(&self, rule: Rule) {
        self.app.world.script.add(rule);
    }

    /// Forgets all rules.
    pub fn clear_script(&self) {
        self.app.world.script.clear();
    }

    /// Forgets the rules about this tenant.
    pub fn clear_script_of(&self, tenant: Uuid) {
        self.app.world.script.clear_of(tenant);
    }

    /// The rules in force.
    pub fn rules(&self) -> Vec<Rule> {
        self.app.world.script.rules()
    }

    /// Publishes so many new alerts now and returns their ids. Fails for an unknown tenant, as all of these do.
    pub fn publish_new(&self, tenant: Uuid, count: usize) -> anyhow::Result<Vec<String>> {
        Ok(self.app.world.publish_new(self.app.world.tenant(tenant)?, count))
    }

    /// Changes one of the younger alerts now and returns its id. Fails when the tenant has none.
    pub fn publish_update(&self, tenant: Uuid) -> anyhow::Result<String> {
        self.app.world.publish_update(self.app.world.tenant(tenant)?, None)
    }

    /// Changes the alert with this id now.
    pub fn publish_update_of(&self, tenant: Uuid, id: &str) -> anyhow::Result<()> {
        self.app.world.publish_update(self.app.world.tenant(tenant)?, Some(id)).map(drop)
    }

    /// Publishes a new alert with exactly this last-update stamp, however far back (late) or equal to another's
    /// (tied) it is, and returns its id.
    pub fn publish_at(&self, tenant: Uuid, last_update: Stamp) -> anyhow::Result<String> {
        self.app.world.publish_at(self.app.world.tenant(tenant)?, last_update, None)
    }

    /// Changes the alert with this id; the change has exactly this last-update stamp.
    pub fn publish_update_at(&self, tenant: Uuid, id: &str, last_update: Stamp) -> anyhow::Result<()> {
        self.app.world.publish_at(self.app.world.tenant(tenant)?, last_update, Some(id)).map(drop)
    }

    /// Publishes so many new alerts that all have exactly this last-update stamp; returns their ids.
    pub fn publish_tied(&self, tenant: Uuid, last_update: Stamp, count: usize) -> anyhow::Result<Vec<String>> {
        Ok(self.app.world.publish_tied(self.app.world.tenant(tenant)?, last_update, count))
    }

    /// Puts an alert into another incident, which may be one that does not exist yet: a change of the alert and of
    /// both incidents.
    pub fn move_alert(&self, tenant: Uuid, id: &str, incident: &str) -> anyhow::Result<()> {
        self.app.world.move_alert(self.app.world.tenant(tenant)?, id, incident)
    }

    /// Merges one incident into another: it says where it went, and its alerts still name it. Chains and circles are
    /// possible.
    pub fn merge_incidents(&self, tenant: Uuid, from: &str, into: &str) -> anyhow::Result<()> {
        self.app.world.merge_incidents(self.app.world.tenant(tenant)?, from, into)
    }

    /// How many redemptions began while another one of the same tenant was not answered yet.
    pub fn overlapping_redemptions(&self) -> u64 {
        self.app.redeeming.overlaps()
    }

    /// Publishes a record exactly as these bytes are. One with the id of another becomes a new version of it.
    pub fn publish_raw(&self, tenant: Uuid, source: Source, record: impl Into<Bytes>) -> anyhow::Result<()> {
        let tenant = self.app.world.tenant(tenant)?;
        self.app.world.publish_raw(tenant, source, record.into(), None);
        Ok(())
    }

    /// Publishes a record that cannot be understood, or only just; it stays, and the ledger has it.
    pub fn publish_poison(&self, tenant: Uuid, source: Source, kind: Poison, id: &str) -> anyhow::Result<()> {
        let record = crate::poison::record(kind, source, id, self.now().on_grid());
        self.publish_raw(tenant, source, record)
    }

    /// Lets everything happen that is due by the clock; returns how much it was. With the machine's clock this goes
    /// on by itself.
    pub fn tick(&self) -> usize {
        self.app.pace.tick(&self.app.world)
    }

    /// Sets how many things happen per second from now on; 0 stops the world, which a fair count needs.
    pub fn set_rate(&self, rate: f64) {
        self.tick();
        self.app.pace.set_rate(rate, self.now());
    }

    /// A refresh token from a fresh consent; it lives even when those before it were revoked.
    pub fn issue_refresh_token(&self, tenant: Uuid) -> anyhow::Result<String> {
        self.app.world.tenant(tenant)?;
        Ok(self.app.identity.refresh_token(self.app.identity.families.start(tenant)))
    }

    /// Kills every refresh token the tenant has so far, with this AADSTS number (50173 is "revoked").
    pub fn revoke(&self, tenant: Uuid, code: u32) -> anyhow::Result<()> {
        self.app.world.tenant(tenant)?;
        self.app.identity.families.revoke(tenant, code);
        Ok(())
    }

    /// What was published.
    pub fn ledger(&self) -> Ledger {
        Ledger::new(self.app.world.clone())
    }

    /// What was asked, oldest first; long runs keep the newest only.
    pub fn journal(&self) -> Vec<JournalEntry> {
        self.app.journal.entries()
    }

    /// What was asked from the request of this number on.
    pub fn journal_from(&self, number: u64) -> Vec<JournalEntry> {
        self.app.journal.entries_from(number)
    }

    /// How many requests felt an effect of this name (`throttle`, `hang`, `reset_after`); of all tenants when none is
    /// named.
    pub fn felt(&self, tenant: Option<Uuid>, effect: &str) -> u64 {
        self.app.journal.felt(tenant, effect)
    }

    /// How many requests there were since the start, by endpoint and status.
    pub fn journal_totals(&self) -> Totals {
        self.app.journal.totals()
    }

    /// Forgets what was asked.
    pub fn clear_journal(&self) {
        self.app.journal.clear();
    }

    /// What the simulator's clock shows.
    pub fn now(&self) -> Stamp {
        self.app.world.clock.now()
    }

    /// Stops at once; open connections break.
    pub fn stop(self) {
        drop(self);
    }
}

/// The threads of one simulator, which end when this is dropped.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Threads {
    fn handle(&self) -> Handle {
        // The runtime is only ever taken out by `drop`.
        self.0.as_ref().expect("the threads run until they are dropped").handle().clone()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting for the threads is not allowed inside another runtime, and nothing in there needs it.
            runtime.shutdown_background();
        }
    }
}
