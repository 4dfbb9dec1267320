//! What the stories share: a registry with its ring, tenants out of a file, workers, and waiting.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use domain::health::StageStatus;
use domain::ports::InFlight;
use domain::{
    AppName, CloudName, Epoch, Fence, HeldTenant, RefreshToken, ReplicaId, Report, SeededChance, SystemClock, TenantId, TenantSet, Ticks,
};
use sqlx::PgPool;
use tempfile::TempDir;
use tenant_registry::{AppRule, Config, ImportReport, ImportRules, KeyRing, Registry, RegistryWorker};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;
use uuid::Uuid;

pub(crate) const HEADER: &str = "directory_id,name,cloud,app,sources,refresh_token";
pub(crate) const CLIENT: &str = "11111111-1111-1111-1111-111111111111";
/// Longer than a lease: who could not give his back in time, since the disk was busy, is followed when it ends.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) pool: PgPool,
    pub(crate) registry: Registry,
    pub(crate) ring_path: PathBuf,
    _folder: TempDir,
}

pub(crate) async fn world(pool: PgPool) -> World {
    let folder = tempfile::tempdir().unwrap();
    let ring_path = folder.path().join("ring");
    let registry = Registry::open(pool.clone(), KeyRing::init(&ring_path).unwrap()).await.unwrap();
    World { pool, registry, ring_path, _folder: folder }
}

/// Apps `main` and `other` use refresh tokens, `direct` its own credential.
pub(crate) fn rules() -> ImportRules {
    let app = |client_id: &str, uses_refresh_token| AppRule { client_id: client_id.to_owned(), uses_refresh_token };
    ImportRules {
        clouds: [("global", "https://security.microsoft.com"), ("china", "")]
            .map(|(name, portal)| (CloudName::new(name), portal.to_owned()))
            .into(),
        apps: [
            (AppName::new("main"), app(CLIENT, true)),
            (AppName::new("other"), app("22222222-2222-2222-2222-222222222222", true)),
            (AppName::new("direct"), app("33333333-3333-3333-3333-333333333333", false)),
        ]
        .into(),
        replace_token: false,
    }
}

pub(crate) fn id(number: u128) -> TenantId {
    TenantId(Uuid::from_u128(number))
}

pub(crate) fn token(text: &str) -> RefreshToken {
    RefreshToken::new(text).unwrap()
}

impl World {
    pub(crate) async fn import(&self, lines: &[String]) -> ImportReport {
        self.import_by(lines, &rules()).await
    }

    pub(crate) async fn import_by(&self, lines: &[String], rules: &ImportRules) -> ImportReport {
        let file = format!("{HEADER}\n{}\n", lines.join("\n"));
        self.registry.import_csv(file.as_bytes(), rules).await.unwrap()
    }

    /// Imports tenants 1 to `count`, each with a token.
    pub(crate) async fn with_tenants(self, count: u128) -> Self {
        let lines: Vec<String> = (1..=count).map(|n| format!("{},tenant {n},global,main,graph-alerts,token-{n}", id(n))).collect();
        assert_eq!(self.import(&lines).await.failures().count(), 0);
        self
    }

    /// Makes some replica hold the tenant, without any worker; returns the fence.
    pub(crate) async fn hold(&self, tenant: TenantId) -> Fence {
        let epoch: i64 = sqlx::query_scalar(
            "update tocsin.lease set holder = gen_random_uuid(), epoch = epoch + 1, expires_at = now() + interval '1 hour' where tenant = $1 returning epoch",
        )
        .bind(tenant.0)
        .fetch_one(&self.pool)
        .await
        .unwrap();
        Fence { tenant, epoch: Epoch(epoch) }
    }

    /// `state`, `reason`, `action`, `error_code` out of the public view.
    pub(crate) async fn health(&self, tenant: TenantId) -> (String, Option<String>, Option<String>, Option<String>) {
        sqlx::query_as("select state, reason, action, error_code from dash.tenant_health where directory_id = $1")
            .bind(tenant.0)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    pub(crate) async fn state(&self, tenant: TenantId) -> String {
        self.health(tenant).await.0
    }

    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap()
    }

    /// When each replica last looked round.
    pub(crate) async fn looks(&self) -> Vec<String> {
        sqlx::query_scalar("select seen_at::text from tocsin.replica order by replica").fetch_all(&self.pool).await.unwrap()
    }

    pub(crate) fn worker(&self) -> Running {
        self.worker_with(quick())
    }

    pub(crate) fn worker_with(&self, config: Config) -> Running {
        self.worker_over(self.registry.clone(), config)
    }

    /// A worker with connections of its own.
    #[expect(clippy::unused_self, reason = "it belongs to this world by its database")]
    pub(crate) fn worker_over(&self, registry: Registry, config: Config) -> Running {
        let replica = ReplicaId(Uuid::new_v4());
        let (tenants, held) = watch::channel(Arc::new(TenantSet::empty(Instant::now())));
        let (reports, inbox) = mpsc::channel(64);
        let (beat, status) = watch::channel(StageStatus::well(Ticks(0)));
        let chance = Arc::new(SeededChance::new(1));
        let redeeming = Redeeming::default();
        let in_flight = Arc::new(redeeming.clone());
        let worker = RegistryWorker::new(registry, config, replica, Arc::new(SystemClock), chance, in_flight, tenants, inbox, beat);
        let stop = CancellationToken::new();
        let task = tokio::spawn(worker.run(stop.clone()));
        Running { held, reports, status, redeeming, stop, task }
    }
}

/// Everything a hundred times faster than in production, but for the lease, which stays long.
pub(crate) fn quick() -> Config {
    Config {
        tick: Duration::from_millis(30),
        renew_every: Duration::from_millis(100),
        full_read_every: Duration::from_millis(200),
        count_every: Duration::from_millis(200),
        ..Config::default()
    }
}

/// For whom a token is being redeemed.
#[derive(Clone, Default)]
pub(crate) struct Redeeming(Arc<Mutex<BTreeSet<TenantId>>>);

impl Redeeming {
    pub(crate) fn begin(&self, tenants: impl IntoIterator<Item = TenantId>) {
        self.0.lock().unwrap().extend(tenants);
    }

    pub(crate) fn end(&self, tenant: TenantId) {
        assert!(self.0.lock().unwrap().remove(&tenant));
    }
}

impl InFlight for Redeeming {
    fn redeeming(&self, tenant: TenantId) -> bool {
        self.0.lock().unwrap().contains(&tenant)
    }
}

pub(crate) struct Running {
    pub(crate) held: watch::Receiver<Arc<TenantSet>>,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) status: watch::Receiver<StageStatus>,
    pub(crate) redeeming: Redeeming,
    stop: CancellationToken,
    task: JoinHandle<Result<(), String>>,
}

impl Running {
    /// Waits until the published set is as described.
    pub(crate) async fn until(&mut self, what: &str, mut condition: impl FnMut(&TenantSet) -> bool) -> Arc<TenantSet> {
        let set = timeout(PATIENCE, self.held.wait_for(|set| condition(set))).await;
        Arc::clone(&set.unwrap_or_else(|_| panic!("never came: {what}")).unwrap())
    }

    pub(crate) async fn holding(&mut self, count: usize) -> Arc<TenantSet> {
        self.until(&format!("{count} tenants"), |set| set.tenants.len() == count).await
    }

    pub(crate) async fn tenant(&mut self, tenant: TenantId) -> Arc<HeldTenant> {
        Arc::clone(&self.until("the tenant", |set| set.tenants.contains_key(&tenant)).await.tenants[&tenant])
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }

    /// Waits for it to end by itself.
    pub(crate) async fn ended(self) -> Result<(), String> {
        timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }

    /// As a kill would: nothing is given back.
    pub(crate) async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// Asks until the answer is as wanted.
pub(crate) async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F, mut wanted: impl FnMut(&T) -> bool) -> T
where
    T: std::fmt::Debug,
    F: Future<Output = T>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask().await;
        if wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "never came: {what}; last: {answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What was logged.
#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// Takes down everything logged on this thread until the guard is dropped.
    pub(crate) fn listen(&self, level: tracing::Level) -> tracing::subscriber::DefaultGuard {
        // While there is one subscriber only, tracing asks the thread that first comes to a line whether anybody wants
        // it, and that may be the thread of another story. A second one that hears nothing makes it ask all.
        static ANOTHER: OnceLock<tracing::Dispatch> = OnceLock::new();
        ANOTHER.get_or_init(|| {
            tracing::Dispatch::new(tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(io::sink).finish())
        });
        let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(self.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
