//! A world for one story: a pretend Microsoft, a database, a configuration, and daemons in it.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use simulator::{Settings, SimTenant, Simulator};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::time::Instant;

use super::postgres::TestDatabase;
use super::process::{Daemon, run};
use super::{Proxy, Tally, eventually};

/// What a story wants.
pub struct Setup {
    /// How the pretend Microsoft is.
    pub cloud: Settings,
    /// Lines added to the configuration.
    pub config: String,
    /// A Postgres of the daemon's own instead of a database on the shared server.
    pub embedded: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { cloud: Settings { tenants: 3, history: 20, ..Settings::default() }, config: String::new(), embedded: false }
    }
}

/// The world.
pub struct World {
    /// The pretend Microsoft.
    pub cloud: Simulator,
    /// The database, unless the daemon runs its own.
    pub database: Option<TestDatabase>,
    /// The configuration file.
    pub config: PathBuf,
    folder: tempfile::TempDir,
    daemons: AtomicU32,
}

impl World {
    /// Builds it: the cloud runs, the schema is migrated, the key ring is made; no tenant is imported.
    ///
    /// # Errors
    /// When a part cannot be made.
    pub async fn build(setup: Setup) -> anyhow::Result<Self> {
        let database = if setup.embedded { None } else { Some(TestDatabase::create().await?) };
        Self::build_on(setup, database).await
    }

    /// The same on this database.
    ///
    /// # Errors
    /// When a part cannot be made.
    pub async fn build_on(setup: Setup, database: Option<TestDatabase>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("tocsin-").tempdir()?;
        // An embedded Postgres of root runs as another user, who must get through.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))?;
        let cloud = Simulator::start(setup.cloud)?;
        let config = folder.path().join("tocsin.toml");
        let world = Self { cloud, database, config, folder, daemons: AtomicU32::new(0) };
        world.write_private("app.secret", world.cloud.client_secret())?;
        std::fs::write(&world.config, world.toml(&setup.config))?;
        world.run(&["key", "init"]).await?.ok()?;
        if world.database.is_some() {
            world.run(&["db", "migrate"]).await?.ok()?;
        }
        Ok(world)
    }

    /// The usual beginning: built, and every tenant of the cloud imported.
    ///
    /// # Errors
    /// As [`World::build`], or when the import refuses.
    pub async fn with_tenants(setup: Setup) -> anyhow::Result<Self> {
        let world = Self::build(setup).await?;
        world.import_all().await?;
        Ok(world)
    }

    /// Imports every tenant of the cloud, as an operator would.
    ///
    /// # Errors
    /// When the import refuses.
    pub async fn import_all(&self) -> anyhow::Result<()> {
        // A command ends within a minute, also where there are very many.
        for part in self.cloud.tenants().chunks(2500) {
            let csv = self.write_private("tenants.csv", &self.csv(part))?;
            self.run(&["tenant", "import", &csv.display().to_string()]).await?.ok()?;
        }
        Ok(())
    }

    /// The configuration of this world, with these lines at its end. Poll sections belong into `extra`
    /// only if they do not repeat the interval.
    pub fn toml(&self, extra: &str) -> String {
        let (folder, url) = (self.folder.path().display(), self.cloud.base_url());
        let database = self.database.as_ref().map(|database| format!("[database]\nurl = \"{}\"\n", database.url())).unwrap_or_default();
        let console = if extra.contains("[console]") { "" } else { "[console]\nlisten = \"127.0.0.1:0\"\n" };
        let poll = if extra.contains("[poll]") { "" } else { "[poll]\ninterval = \"1s\"\n" };
        format!(
            "state_dir = \"{folder}/state\"\n{database}[vault]\nkey_file = \"{folder}/keys/ring\"\n[ops]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n\
             [clouds.lab]\nlogin_url = \"{url}\"\ngraph_url = \"{url}\"\ndefender_url = \"{url}\"\nportal_url = \"{url}/portal\"\nallow_plaintext = true\n\
             [apps.main]\nclient_id = \"{}\"\nclient_secret_file = \"{folder}/app.secret\"\n{console}{poll}{extra}\n",
            self.cloud.client_id(),
        )
    }

    /// The import file for these tenants.
    pub fn csv(&self, tenants: &[SimTenant]) -> String {
        let mut csv = "directory_id,name,cloud,app,sources,refresh_token\n".to_owned();
        for tenant in tenants {
            let sources = tenant.sources.iter().map(|source| source.name()).collect::<Vec<_>>().join(";");
            // Writing to a String cannot fail.
            let _ = writeln!(csv, "{},\"{}\",lab,main,{sources},{}", tenant.directory_id, tenant.name, tenant.refresh_token);
        }
        csv
    }

    /// A file of this world that only its owner can read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_private(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        std::fs::write(&path, content)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// A path in the folder of this world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command of tocsin to its end.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<super::Finished> {
        run(&self.config, arguments).await
    }

    /// Runs a command that asks for a line; see [`super::process::converse`].
    ///
    /// # Errors
    /// As [`World::run`].
    pub async fn converse(
        &self,
        arguments: &[&str],
        reply: impl AsyncFnOnce(&str) -> anyhow::Result<String>,
    ) -> anyhow::Result<super::Finished> {
        super::process::converse(&self.config, arguments, reply).await
    }

    /// Starts a daemon; its log is a file of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn serve(&self) -> anyhow::Result<Daemon> {
        self.serve_with(&[])
    }

    /// The same with these environment variables.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn serve_with(&self, environment: &[(&str, &str)]) -> anyhow::Result<Daemon> {
        self.serve_config(&self.config, environment)
    }

    /// Writes another configuration, which differs in the address of the database: such as one behind a proxy.
    ///
    /// # Errors
    /// When it cannot be written, or the world has no database of its own.
    pub fn config_for(&self, name: &str, database_url: &str) -> anyhow::Result<PathBuf> {
        let direct = self.database.as_ref().context("the daemon runs its own Postgres")?.url();
        let text = std::fs::read_to_string(&self.config)?;
        anyhow::ensure!(text.contains(&direct), "the configuration does not name {direct}");
        let path = self.path(&format!("{name}.toml"));
        std::fs::write(&path, text.replace(&direct, database_url))?;
        Ok(path)
    }

    /// Starts a daemon with another configuration of this world.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn serve_config(&self, config: &Path, environment: &[(&str, &str)]) -> anyhow::Result<Daemon> {
        Daemon::start(config, &self.next_log(), environment)
    }

    /// The file for the log of the next daemon.
    pub fn next_log(&self) -> PathBuf {
        let number = self.daemons.fetch_add(1, Ordering::Relaxed);
        self.path(&format!("daemon-{number}.log"))
    }

    /// Starts a daemon that reaches database and cloud through doors of its own, where they are given.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn serve_through(
        &self,
        name: &str,
        extra: &str,
        database: Option<&Proxy>,
        cloud: Option<&Proxy>,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Daemon> {
        let mut toml = self.toml(extra);
        if let Some((own, door)) = self.database.as_ref().zip(database) {
            toml = toml.replace(&own.url(), &own.url_through(door.address()));
        }
        if let Some(door) = cloud {
            toml = toml.replace(self.cloud.base_url(), &format!("http://{}", door.address()));
        }
        let config = self.path(&format!("{name}.toml"));
        std::fs::write(&config, toml)?;
        let number = self.daemons.fetch_add(1, Ordering::Relaxed);
        Daemon::start(&config, &self.path(&format!("daemon-{number}.log")), environment)
    }

    /// The folder of the world.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Connections to where the alerts are; for an embedded server while a daemon runs.
    ///
    /// # Errors
    /// When no server runs.
    pub async fn pool(&self) -> anyhow::Result<PgPool> {
        if let Some(database) = &self.database {
            return Ok(database.pool.clone());
        }
        let running = local_postgres::attach(&self.path("state/postgres"))?.context("no embedded server runs")?;
        Ok(PgPoolOptions::new().max_connections(2).connect(&running.url).await?)
    }

    /// Counts, now.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn tally(&self) -> anyhow::Result<Tally> {
        Tally::take(&self.cloud.ledger(), &self.pool().await?).await
    }

    /// Waits until everything published is stored, once and as it came.
    ///
    /// # Errors
    /// When that does not come within `limit`; with the last count.
    pub async fn settled(&self, limit: Duration) -> anyhow::Result<Tally> {
        let give_up = Instant::now() + limit;
        // A tally reads and hashes every body. Before the numbers fit it is not worth the time, which the daemon needs.
        let numbers_fit = async || {
            let stored: i64 = sqlx::query_scalar("select count(*) from dash.alert").fetch_one(&self.pool().await.ok()?).await.ok()?;
            (usize::try_from(stored).ok()? >= self.cloud.ledger().total_alerts()).then_some(())
        };
        // If they never do, the tally says what is missing.
        let _ = eventually("as many alerts are stored as were published", limit, async || numbers_fit().await.ok_or(())).await;
        eventually("everything published is stored", give_up - Instant::now(), async || {
            let tally = self.tally().await.map_err(|error| error.to_string())?;
            if tally.agrees() { Ok(tally) } else { Err(tally.to_string()) }
        })
        .await
    }

    /// Ends the world of a story that went well.
    ///
    /// # Errors
    /// When the database cannot be dropped.
    pub async fn end(self) -> anyhow::Result<()> {
        if let Some(database) = self.database {
            database.drop_now().await?;
        }
        Ok(())
    }
}
