//! The world around the refresher: tenants, clock, channels and the journal.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::health::StageStatus;
use domain::ports::{AccessTokens, AppCredentials, NoToken, SecretUnreadable};
use domain::{
    AccessToken, AppCredential, AppName, Audience, ClientSecret, Clock, CloudName, Epoch, HeldTenant, Report, SeededChance, Source,
    TenantId, TenantSet, TenantState, Ticks, Verdict,
};
use microsoft::{App, Cloud, Grant};
use secrecy::ExposeSecret;
use token_refresher::{Config, Deps, Lanes, TokenSource, Worker, start};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::sign_in::{PretendSignIn, Rotation};
use crate::vault::PretendVault;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// What happened, in order and with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Asked { tenant: TenantId, audience: Audience, token: Option<String> },
    Committed { tenant: TenantId, token: String },
    GivenOut { tenant: TenantId },
}

#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Vec<(Instant, Event)>>>);

impl Journal {
    pub(crate) fn note(&self, event: Event) {
        self.0.lock().unwrap().push((Instant::now(), event));
    }

    pub(crate) fn all(&self) -> Vec<(Instant, Event)> {
        self.0.lock().unwrap().clone()
    }

    /// When the sign-in service was asked.
    pub(crate) fn asked(&self) -> Vec<Instant> {
        self.all().into_iter().filter(|(_, event)| matches!(event, Event::Asked { .. })).map(|(at, _)| at).collect()
    }

    /// Which refresh tokens it was asked with.
    pub(crate) fn presented(&self) -> Vec<String> {
        let token = |(_, event)| if let Event::Asked { token, .. } = event { token } else { None };
        self.all().into_iter().filter_map(token).collect()
    }
}

/// A wall clock that goes with tokio's, unless it is set.
pub(crate) struct WallClock {
    start: Instant,
    /// How far it was set, in ticks.
    set: AtomicI64,
}

impl WallClock {
    fn new() -> Self {
        Self { start: Instant::now(), set: AtomicI64::new(0) }
    }

    pub(crate) fn now(&self) -> Ticks {
        Ticks(Ticks(17_900_000_000_000_000).plus(self.start.elapsed()).0 + self.set.load(Ordering::SeqCst))
    }

    /// Sets it forward, as a suspended machine finds it when it wakes.
    pub(crate) fn forward(&self, span: Duration) {
        self.set.fetch_add(Ticks(0).plus(span).0, Ordering::SeqCst);
    }

    /// Sets it back.
    pub(crate) fn back(&self, span: Duration) {
        self.set.fetch_sub(Ticks(0).plus(span).0, Ordering::SeqCst);
    }
}

impl Clock for WallClock {
    fn now(&self) -> Ticks {
        self.now()
    }
}

struct Secrets;

impl AppCredentials for Secrets {
    fn credential(&self, app: &AppName) -> Result<Option<AppCredential>, SecretUnreadable> {
        let unreadable = |reason: &str, passing| Err(SecretUnreadable { reason: reason.to_owned(), passing });
        match app.as_str() {
            "lost" => unreadable("/etc/tocsin/apps/lost.secret: no such file", false),
            "crowded" => unreadable("/etc/tocsin/apps/crowded.secret: too many open files", true),
            _ => Ok(ClientSecret::new("secret").map(AppCredential::Secret)),
        }
    }
}

pub(crate) struct World {
    pub(crate) source: TokenSource,
    pub(crate) sign_in: Arc<PretendSignIn>,
    pub(crate) vault: Arc<PretendVault>,
    pub(crate) journal: Journal,
    pub(crate) clock: Arc<WallClock>,
    pub(crate) status: watch::Receiver<StageStatus>,
    pub(crate) stop: CancellationToken,
    reports: mpsc::Receiver<Report>,
    tenants: watch::Sender<Arc<TenantSet>>,
    worker: Option<Worker>,
}

/// What is usual: an hour of life, lenient rotation.
pub(crate) fn world() -> World {
    World::new(Rotation::Lenient, HOUR, Config::default())
}

pub(crate) fn id(number: u128) -> TenantId {
    TenantId(uuid::Uuid::from_u128(number))
}

pub(crate) fn bearer(token: &AccessToken) -> &str {
    token.bearer.expose_secret()
}

impl World {
    pub(crate) fn new(rotation: Rotation, life: Duration, config: Config) -> Self {
        let clock = Arc::new(WallClock::new());
        let journal = Journal::default();
        let sign_in = Arc::new(PretendSignIn::new(rotation, life, Arc::clone(&clock) as _, journal.clone()));
        let vault = Arc::new(PretendVault::new(journal.clone()));
        Self::around(sign_in, vault, journal, clock, config)
    }

    /// A second process beside the same sign-in service and vault.
    pub(crate) fn restarted(&self) -> Self {
        let (sign_in, vault) = (Arc::clone(&self.sign_in), Arc::clone(&self.vault));
        let world = Self::around(sign_in, vault, self.journal.clone(), Arc::clone(&self.clock), Config::default());
        world.tenants.send_replace(Arc::clone(&self.tenants.borrow()));
        world
    }

    /// Another replica beside the same sign-in service and vault, with a clock of its own. It holds nobody yet.
    pub(crate) fn replica(&self) -> Self {
        let (sign_in, vault) = (Arc::clone(&self.sign_in), Arc::clone(&self.vault));
        Self::around(sign_in, vault, self.journal.clone(), Arc::new(WallClock::new()), Config::default())
    }

    fn around(sign_in: Arc<PretendSignIn>, vault: Arc<PretendVault>, journal: Journal, clock: Arc<WallClock>, config: Config) -> Self {
        let cloud = |host: &str| {
            let url: url::Url = format!("https://{host}").parse().unwrap();
            Cloud {
                login_url: url.clone(),
                graph_url: url,
                defender_url: None,
                portal_url: None,
                graph_scope: "graph".to_owned(),
                defender_scope: None,
                allow_plaintext: false,
            }
        };
        let app = |grant| App::new("client", grant);
        let apps = [
            ("main", Grant::RefreshToken),
            ("lost", Grant::RefreshToken),
            ("crowded", Grant::RefreshToken),
            ("itself", Grant::ClientCredentials),
        ];
        let set = TenantSet::empty(Instant::now() + 1000 * DAY);
        let (tenants, tenants_seen) = watch::channel(Arc::new(set));
        let (reports_sent, reports) = mpsc::channel(4096);
        let (status_sent, status) = watch::channel(StageStatus::well(clock.now()));
        let clouds = Arc::new(BTreeMap::from([(CloudName::new("global"), cloud("login.test"))]));
        let deps = Deps {
            lanes: Arc::new(Lanes::new(&clouds, NonZeroU32::new(20).unwrap(), &tenants_seen)),
            clouds,
            redeemer: Arc::clone(&sign_in) as _,
            vault: Arc::clone(&vault) as _,
            apps: Arc::new(apps.into_iter().map(|(name, grant)| (AppName::new(name), app(grant))).collect()),
            credentials: Arc::new(Secrets),
            clock: Arc::clone(&clock) as _,
            chance: Arc::new(SeededChance::new(1)),
            tenants: tenants_seen,
            reports: reports_sent,
            status: status_sent,
        };
        let (source, worker) = start(deps, config);
        let stop = CancellationToken::new();
        Self { source, sign_in, vault, journal, clock, status, stop, reports, tenants, worker: Some(worker) }
    }

    /// Adds a tenant whose refresh token is good.
    pub(crate) fn tenant(&self, number: u128) -> Arc<HeldTenant> {
        let token = format!("imported-{number}");
        self.sign_in.accept(id(number), &token);
        self.vault.import(id(number), &token);
        self.hold(HeldTenant {
            id: id(number),
            name: format!("tenant {number}"),
            cloud: CloudName::new("global"),
            app: AppName::new("main"),
            sources: vec![Source::GraphAlerts, Source::MdeAlerts],
            state: TenantState::Active,
            epoch: Epoch(1),
            credential_version: 1,
            last_refresh_at: None,
        })
    }

    /// Publishes a tenant as held, in place of what was known of it.
    pub(crate) fn hold(&self, tenant: HeldTenant) -> Arc<HeldTenant> {
        let tenant = Arc::new(tenant);
        self.change(|set| {
            Arc::make_mut(&mut set.tenants).insert(tenant.id, Arc::clone(&tenant));
        });
        tenant
    }

    pub(crate) fn lose(&self, tenant: TenantId) {
        self.change(|set| {
            Arc::make_mut(&mut set.tenants).remove(&tenant);
        });
    }

    pub(crate) fn trust_until(&self, until: Instant) {
        self.change(|set| set.trusted_until = until);
    }

    /// So many replicas are there from now on.
    pub(crate) fn beside(&self, replicas: u32) {
        self.change(|set| set.replicas = NonZeroU32::new(replicas).unwrap());
    }

    fn change(&self, with: impl FnOnce(&mut TenantSet)) {
        self.tenants.send_modify(|set| with(Arc::make_mut(set)));
    }

    /// Lets the worker run.
    pub(crate) fn run(&mut self) -> JoinHandle<Result<(), String>> {
        tokio::spawn(self.worker.take().unwrap().run(self.stop.clone()))
    }

    pub(crate) async fn ask(&self, tenant: &HeldTenant, audience: Audience) -> Result<AccessToken, NoToken> {
        let answer = self.source.access_token(tenant, audience).await;
        if answer.is_ok() {
            self.journal.note(Event::GivenOut { tenant: tenant.id });
        }
        answer
    }

    /// Asks for Graph until there is a token, as a poller does: not before it is told to.
    pub(crate) async fn ask_until_given(&self, tenant: &HeldTenant) -> AccessToken {
        loop {
            match self.ask(tenant, Audience::Graph).await {
                Ok(token) => return token,
                Err(none) => self.wait(&none).await,
            }
        }
    }

    /// Waits until there is use in asking again.
    pub(crate) async fn wait(&self, none: &NoToken) {
        let wait = none.retry_at.since(self.clock.now());
        assert!(wait > Duration::ZERO, "told to ask again at once: {none:?}");
        tokio::time::sleep(wait).await;
    }

    /// What was reported since the last time: the verdict of a trouble, or `None` for "works".
    pub(crate) fn reported(&mut self) -> Vec<Option<Verdict>> {
        let mut reported = Vec::new();
        while let Ok(report) = self.reports.try_recv() {
            reported.push(match report {
                Report::Trouble { trouble, .. } => Some(trouble.verdict),
                Report::Working { .. } => None,
            });
        }
        reported
    }
}
