//! The world of a soak: the pretend Microsoft, a Postgres of our own, and two replicas, each of which reaches both
//! through doors of its own and works under a login of its own, so that the database itself can tell who writes.

mod replica;

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;
use simulator::{Settings, SimTenant, Simulator, SourceMix};
use sqlx::PgPool;
use uuid::Uuid;

pub use replica::{Face, Replica};

use super::Wish;
use super::book::Book;
use super::sampler::Samples;
use crate::harness::{OwnPostgres, Proxy, eventually, process};

/// Customers that no fault is ever aimed at.
pub const HEALTHY: usize = 4;
/// Customers that are sick all at once, in one act.
pub const NEIGHBOURS: usize = 4;
/// Where the customers begin at which faults are aimed one after the other.
pub const FIRST_PATIENT: usize = HEALTHY + NEIGHBOURS;
/// The one of these with the largest record.
pub const LARGE: usize = FIRST_PATIENT;
/// How many of these there are.
pub const PATIENTS: usize = 8;
/// The one whose refresh tokens rotate strictly.
pub const STRICT: usize = FIRST_PATIENT + PATIENTS;
/// The one for ties and for crowds of alerts.
pub const CROWDED: usize = STRICT + 1;
/// How many there are.
pub const TENANTS: usize = CROWDED + 1;

/// Exit codes with which a command asks to be run again.
const UNAVAILABLE: i32 = 69;
const TRY_AGAIN: i32 = 75;
/// How long an operator does that.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often each feed is polled.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// How Postgres is run: nothing is forced to disk, for nobody pulls the plug, but what was committed has left the process.
const SETTINGS: [(&str, &str); 3] = [("max_connections", "80"), ("max_wal_size", "256MB"), ("synchronous_commit", "on")];

/// How long a lease lasts.
pub const LEASE: Duration = Duration::from_secs(30);
/// Redemptions per second that all replicas together may make.
pub const REDEMPTIONS_PER_SECOND: u64 = 5;

/// The world.
pub struct Lab {
    /// The pretend Microsoft.
    pub cloud: Simulator,
    /// The customers.
    pub tenants: Vec<SimTenant>,
    /// What was seen so far.
    pub book: Book,
    /// What the processes looked like so far.
    pub samples: Samples,
    /// Alerts are published and changed while this holds.
    pub publishing: AtomicBool,
    /// Stretches of time (ticks) of which the database forgot what it had committed: the ladder has to find that again.
    pub forgotten: Mutex<Vec<(i64, i64)>>,
    /// Stored alerts are changed while this holds.
    pub changing: AtomicBool,
    postgres: tokio::sync::Mutex<Option<OwnPostgres>>,
    pool: Mutex<PgPool>,
    faces: Mutex<[Option<Face>; 2]>,
    /// A known bug, in the notation of rehearsals.
    bug: Option<String>,
    folder: tempfile::TempDir,
    lives: AtomicU32,
}

impl Lab {
    /// Builds it; no replica runs yet.
    ///
    /// # Errors
    /// When a part cannot be made.
    pub async fn build(wish: &Wish) -> anyhow::Result<(Self, [Replica; 2])> {
        let folder = tempfile::Builder::new().prefix("tocsin-soak-").tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))?;
        let cloud = Simulator::start(Settings {
            seed: wish.seed,
            tenants: TENANTS,
            history: 40,
            sources: SourceMix::Assorted,
            access_lifetime: (Duration::from_secs(20), Duration::from_secs(40)),
            journal_limit: 1_000_000,
            ..Settings::default()
        })?;
        let postgres = OwnPostgres::start(&folder.path().join("pg"), &SETTINGS).await?;
        let pool = postgres.pool(4)?;
        let lab = Self {
            tenants: cloud.tenants(),
            cloud,
            book: Book::default(),
            samples: Samples::default(),
            publishing: AtomicBool::new(true),
            changing: AtomicBool::new(true),
            forgotten: Mutex::default(),
            pool: Mutex::new(pool),
            faces: Mutex::new([None, None]),
            bug: wish.bug.as_ref().map(|bug| format!("bug:{bug}")),
            folder,
            lives: AtomicU32::new(0),
            postgres: tokio::sync::Mutex::new(Some(postgres)),
        };
        lab.prepare().await?;
        let replicas = [lab.replica("one").await?, lab.replica("two").await?];
        Ok((lab, replicas))
    }

    /// Schema, key ring, logins, the witness in the database, and the customers.
    async fn prepare(&self) -> anyhow::Result<()> {
        self.write_private("app.secret", self.cloud.client_secret())?;
        let options = self.postgres.lock().await.as_ref().context("no server")?.options()?;
        let folder = options.get_socket().context("the server has no socket")?.display().to_string().replace('/', "%2F");
        let url = format!("postgres://{}@localhost/{}?host={folder}", options.get_username(), options.get_database().unwrap_or("tocsin"));
        std::fs::write(self.path("operator.toml"), self.toml(&url, self.cloud.base_url(), "operator"))?;
        self.operator(&["key", "init"]).await?;
        self.operator(&["db", "migrate"]).await?;
        for statement in super::witness::SCHEMA {
            sqlx::query(*statement).execute(&self.pool()).await.with_context(|| format!("the witness: {statement}"))?;
        }
        let csv = self.write_private("tenants.csv", &csv(&self.tenants))?;
        self.operator(&["tenant", "import", &csv.display().to_string()]).await?;
        Ok(())
    }

    async fn replica(&self, name: &'static str) -> anyhow::Result<Replica> {
        let server = self.postgres.lock().await.as_ref().context("no server")?.target()?;
        let microsoft = self.cloud.base_url().trim_start_matches("http://").parse()?;
        let database = Proxy::to(server).await?;
        let cloud = Proxy::to(crate::harness::Target::Tcp(microsoft)).await?;
        let url = format!("postgres://soak_{name}@{}/tocsin?sslmode=disable", database.address());
        let config = self.path(&format!("{name}.toml"));
        std::fs::write(&config, self.toml(&url, &format!("http://{}", cloud.address()), name))?;
        Ok(Replica { daemon: None, database, cloud, name, config })
    }

    fn toml(&self, database: &str, microsoft: &str, name: &str) -> String {
        let folder = self.folder.path().display();
        format!(
            "state_dir = \"{folder}/state-{name}\"\n[database]\nurl = \"{database}\"\n[vault]\nkey_file = \"{folder}/keys/ring\"\n\
             [ops]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n\
             [clouds.lab]\nlogin_url = \"{microsoft}\"\ngraph_url = \"{microsoft}\"\ndefender_url = \"{microsoft}\"\nallow_plaintext = true\n\
             [apps.main]\nclient_id = \"{}\"\nclient_secret_file = \"{folder}/app.secret\"\n\
             [poll]\ninterval = \"{}s\"\noverlap = \"10s\"\n\
             [ladder]\nshort_every = \"20s\"\nlong_every = \"60s\"\n\
             [budget]\ngraph_per_minute = 100000\ndefender_per_minute = 100000\ndefender_per_hour = 1000000\n\
             token_per_second = {REDEMPTIONS_PER_SECOND}\n",
            self.cloud.client_id(),
            INTERVAL.as_secs(),
        )
    }

    /// A path in the folder of this world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file that only its owner can read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_private(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        std::fs::write(&path, content)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// Runs a command as the operator, who goes through no door, and who tries again while it tells him to: other faults go
    /// on meanwhile, and the database may be away just now.
    ///
    /// # Errors
    /// When it does not end well.
    pub async fn operator(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let ended = eventually("the database is there for a command", PATIENCE, async || {
            match process::run(&self.path("operator.toml"), arguments).await {
                Ok(ended) if [UNAVAILABLE, TRY_AGAIN].contains(&ended.code()) => Err(ended.stderr),
                other => Ok(other),
            }
        })
        .await?;
        Ok(ended?.ok()?.stdout)
    }

    /// Imports a fresh refresh token of a customer, as after a new consent.
    ///
    /// # Errors
    /// When the import is refused.
    pub async fn consent_again(&self, tenant: &SimTenant) -> anyhow::Result<()> {
        let fresh = SimTenant { refresh_token: self.cloud.issue_refresh_token(tenant.directory_id)?, ..tenant.clone() };
        let file = self.write_private(&format!("{}.csv", tenant.directory_id), &csv(&[fresh]))?;
        self.operator(&["tenant", "import", "--replace-token", &file.display().to_string()]).await?;
        Ok(())
    }

    /// Connections as the administrator.
    pub fn pool(&self) -> PgPool {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server, to do something to it. Whoever restarts it calls [`Lab::server_is_back`].
    pub async fn server(&self) -> tokio::sync::MutexGuard<'_, Option<OwnPostgres>> {
        self.postgres.lock().await
    }

    /// Connects everybody to a server that was started again.
    ///
    /// # Errors
    /// When it is not running.
    pub fn server_is_back(&self, server: &OwnPostgres, replicas: &[Replica; 2]) -> anyhow::Result<()> {
        *self.pool.lock().unwrap_or_else(PoisonError::into_inner) = server.pool(4)?;
        for replica in replicas {
            replica.database.lead_to(server.target()?);
        }
        Ok(())
    }

    /// Waits until these replicas share all customers, each having some.
    ///
    /// # Errors
    /// When that does not come within `limit`.
    pub async fn shared(&self, limit: Duration) -> anyhow::Result<()> {
        eventually("both replicas hold customers, and together all", limit, async || {
            let held = self.held().await?;
            let known: Vec<Uuid> = self.faces().iter().flatten().map(|face| face.replica).collect();
            let mine: Vec<i64> =
                known.iter().map(|id| held.iter().find(|(holder, _)| holder == id).map_or(0, |(_, count)| *count)).collect();
            let whole = mine.iter().sum::<i64>() == i64::try_from(TENANTS).unwrap_or(i64::MAX);
            if mine.len() == 2 && whole && mine.iter().all(|count| *count > 0) { Ok(()) } else { Err(format!("{mine:?}")) }
        })
        .await
    }

    /// Waits until this replica alone holds every customer.
    ///
    /// # Errors
    /// When that does not come within `limit`.
    pub async fn holds_all(&self, replica: Uuid, limit: Duration) -> anyhow::Result<()> {
        eventually("one replica holds all customers", limit, async || {
            let held = self.held().await?;
            let all = i64::try_from(TENANTS).unwrap_or(i64::MAX);
            if held == [(replica, all)] { Ok(()) } else { Err(format!("{held:?}")) }
        })
        .await
    }

    /// Those of these customers whose lease this replica holds.
    ///
    /// # Errors
    /// When it is down, or the database cannot be asked.
    pub async fn held_by(&self, replica: &Replica, tenants: &[SimTenant]) -> anyhow::Result<Vec<Uuid>> {
        let id = replica.daemon.as_ref().context("the replica is down")?.replica_id().await?;
        let ids: Vec<Uuid> = tenants.iter().map(|tenant| tenant.directory_id).collect();
        let sql = "select tenant from tocsin.lease where holder = $1 and expires_at > now() and tenant = any($2)";
        Ok(sqlx::query_scalar(sql).bind(id).bind(&ids).fetch_all(&self.pool()).await?)
    }

    /// How long a replica that takes these customers over has to ask for their access tokens, one per customer and API.
    pub fn redemptions(&self, taken_over: &[Uuid]) -> Duration {
        let of_mde = |source: &simulator::Source| source.name() == "mde-alerts";
        let tenants = self.tenants.iter().filter(|tenant| taken_over.contains(&tenant.directory_id));
        let apis = tenants.map(|tenant| usize::from(tenant.sources.iter().any(of_mde)) + usize::from(!tenant.sources.iter().all(of_mde)));
        Duration::from_secs_f64(apis.sum::<usize>() as f64 / REDEMPTIONS_PER_SECOND as f64)
    }

    /// By how much a limit in seconds is widened now; see [`super::crowding`]. It is kept for the report.
    pub fn crowding(&self) -> f64 {
        let factor = super::crowding();
        self.book.measure("crowding", factor);
        factor
    }

    async fn held(&self) -> Result<Vec<(Uuid, i64)>, String> {
        sqlx::query_as("select holder, count(*) from tocsin.lease where holder is not null and expires_at > now() group by holder")
            .fetch_all(&self.pool())
            .await
            .map_err(|error| error.to_string())
    }

    /// Ends everything that was started, by its id.
    ///
    /// # Errors
    /// When the server does not end.
    pub async fn end(&self, replicas: &mut [Replica; 2]) -> anyhow::Result<()> {
        for replica in replicas {
            if let Some(mut daemon) = replica.daemon.take() {
                // One that is stopped would not hear anything else; one that has ended needs nothing.
                let _ = daemon.signal(Signal::CONT);
                let _ = daemon.kill().await;
            }
        }
        match self.postgres.lock().await.take() {
            Some(server) => server.stop().await,
            None => Ok(()),
        }
    }

    /// The folder of the world.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn csv(tenants: &[SimTenant]) -> String {
    let mut csv = "directory_id,name,cloud,app,sources,refresh_token\n".to_owned();
    for tenant in tenants {
        let sources = tenant.sources.iter().map(|source| source.name()).collect::<Vec<_>>().join(";");
        // Writing to a String cannot fail.
        let _ = writeln!(csv, "{},\"{}\",lab,main,{sources},{}", tenant.directory_id, tenant.name, tenant.refresh_token);
    }
    csv
}
