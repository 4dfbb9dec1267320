//! Getting to a Postgres that is ours to use: the embedded one or the configured one, with its schema.
//!
//! Without a URL a private server runs under `state_dir`, started by whoever comes first: the daemon, or
//! a short command while no daemon runs. Whoever comes second uses the server that is running, except a
//! second daemon, which is refused. With a URL that server is used as it is, and its schema is changed
//! only by `tocsin db migrate` or `serve --migrate`.

mod schema;
mod sessions;
mod turn;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use local_postgres::{Durability, LocalPostgres, StartError};
use sink::Retention;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};

use crate::config::{Config, UrlSource, read_secret_file};
use crate::failure::{Exit, Failure};

pub(crate) use schema::{SchemaState, migrate, migration_rows, rehearse as rehearse_migration, state};

/// How long another process may need to let go of the embedded server, or to prepare its schema.
const PATIENCE: Duration = Duration::from_secs(15);

/// Who wants the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The daemon: the embedded server must be its own.
    Serve,
    /// A command that ends soon: it may use the server that a daemon runs.
    Command(&'static str),
}

impl Purpose {
    fn words(self) -> String {
        match self {
            Self::Serve => "tocsin serve".into(),
            Self::Command(name) => format!("tocsin {name}"),
        }
    }
}

/// A database to work with, and the server behind it if we run it.
pub(crate) struct Database {
    /// Connections as role `tocsin_ingest`, where that exists.
    pub(crate) pool: PgPool,
    /// The embedded server, if this process started it.
    pub(crate) server: Option<LocalPostgres>,
    /// What to say of it: never a password.
    pub(crate) described: String,
}

/// A server that answers, before its schema was looked at.
pub(crate) struct Reached {
    /// How to connect as the configured login.
    pub(crate) options: PgConnectOptions,
    /// The file with the owner's login, if there is one.
    migrate_url_file: Option<PathBuf>,
    /// Whether it is our embedded one, whose schema is ours to change.
    pub(crate) embedded: bool,
    /// The embedded server, if this process started it.
    pub(crate) server: Option<LocalPostgres>,
    /// What may be forgotten, for whoever changes the schema.
    pub(crate) retention: Retention,
    described: String,
}

impl Reached {
    /// Finds or starts the server.
    ///
    /// # Errors
    /// Exit 5 when another daemon owns the embedded server, 69 when the server cannot be reached or no
    /// server programs are installed, 77 when it refuses the login, 78 when the URL cannot be used.
    pub(crate) async fn reach(config: &Config, purpose: Purpose) -> Result<Self, Failure> {
        let (url, server, embedded) = match &config.database.url {
            Some(UrlSource::Inline(url)) => (url.clone(), None, false),
            Some(UrlSource::File(path)) => (url_from(path)?, None, false),
            None => {
                let (url, server) = embedded_server(config, purpose).await?;
                (url, server, true)
            }
        };
        let options = parse(&url)?;
        let described =
            if embedded { format!("the embedded server in {}", config.postgres_folder().display()) } else { describe(&options) };
        let migrate_url_file = config.database.migrate_url_file.clone().filter(|_| !embedded);
        let reached = Self { options, migrate_url_file, embedded, server, retention: config.retention, described };
        // It is asked now, so that a wrong address is one sentence at once and not a retry loop.
        match tokio::time::timeout(Duration::from_secs(10), sessions::are_our_own(&reached.options)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => {
                return Err(Failure::new(
                    Exit::Config,
                    format!(
                        "{} is behind a connection pooler in transaction mode, and tocsin needs sessions of its own; give [database] url a direct connection or a pool in session mode",
                        reached.described
                    ),
                ));
            }
            Ok(Err(error)) => return Err(unreachable(&reached.described, &error, config.database.url.as_ref())),
            Err(_) => {
                return Err(Failure::new(
                    Exit::Unavailable,
                    format!("{} did not answer within 10 s; check [database] url and that the server runs", reached.described),
                ));
            }
        }
        Ok(reached)
    }

    /// How to connect for migrations. The owner's login is read here only: a daemon that does not migrate never has it.
    ///
    /// # Errors
    /// Exit 78 when its file or the URL in it cannot be used.
    pub(crate) fn owner(&self) -> Result<PgConnectOptions, Failure> {
        match &self.migrate_url_file {
            Some(path) => parse(&url_from(path)?),
            None => Ok(self.options.clone()),
        }
    }

    /// Opens the pool, once the schema is what this program expects.
    ///
    /// # Errors
    /// Exit 3 when migrations are pending (and neither the server is ours nor `migrate` is set), or when
    /// the schema is newer than this program.
    pub(crate) async fn open(self, migrate_now: bool, connections: u32) -> Result<Database, Failure> {
        self.bring_up_to_date(migrate_now).await?;
        let works_as = schema::working_role(&self.options).await?;
        if works_as.is_none() {
            tracing::warn!(
                "this login cannot take the role tocsin_ingest and works with all of its own rights; an administrator can grant it that role"
            );
        }
        let pool = pool_as(self.options, works_as, connections).await?;
        Ok(Database { pool, server: self.server, described: self.described })
    }

    /// Opens a pool that works as the owner of the schemas, for what the daemon's role may not.
    ///
    /// # Errors
    /// As [`Reached::open`], and exit 77 when the login is not the owner's.
    pub(crate) async fn open_as_owner(self) -> Result<Database, Failure> {
        self.bring_up_to_date(false).await?;
        let owner = self.owner()?;
        let works_as = schema::owning_role(&owner).await?;
        let pool = pool_as(owner, Some(works_as), 2).await?;
        Ok(Database { pool, server: self.server, described: self.described })
    }

    async fn bring_up_to_date(&self, migrate_now: bool) -> Result<(), Failure> {
        let may_change = migrate_now || (self.embedded && self.server.is_some());
        match self.settled_state().await? {
            SchemaState::Current if may_change => schema::allow(&self.owner()?, &self.retention).await?,
            SchemaState::Current => {}
            SchemaState::Pending(_) if may_change => {
                for note in migrate(&self.owner()?, &self.retention).await? {
                    tracing::info!("{note}");
                }
            }
            SchemaState::Pending(pending) => {
                let names = pending.iter().map(|row| row.name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(Failure::new(
                    Exit::ConditionTrue,
                    format!("{} needs {} migration(s) first ({names}); type: tocsin db migrate", self.described, pending.len()),
                ));
            }
            SchemaState::Ahead(version) => {
                return Err(Failure::new(
                    Exit::ConditionTrue,
                    format!("{} has migration {version}, which this tocsin does not know; install the newer tocsin", self.described),
                ));
            }
        }
        Ok(())
    }

    /// The state of the schema. On the embedded server of another process, whoever started it is
    /// bringing the schema up to date: that is waited for.
    async fn settled_state(&self) -> Result<SchemaState, Failure> {
        let give_up = tokio::time::Instant::now() + PATIENCE;
        loop {
            match state(&self.options).await? {
                SchemaState::Pending(_) if self.embedded && self.server.is_none() && tokio::time::Instant::now() < give_up => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                state => return Ok(state),
            }
        }
    }

    /// What to say of this server: never a password.
    pub(crate) fn described(&self) -> &str {
        &self.described
    }
}

impl Database {
    /// Closes the connections and stops the server, if it is ours.
    pub(crate) async fn close(self) {
        // Bounded: a connection that hangs must not hold up the end.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.pool.close()).await;
        let Some(server) = self.server else { return };
        // What takes longer goes on without us: the server shuts down when this process is gone.
        match tokio::time::timeout(Duration::from_secs(2), server.stop()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %error, "the embedded server did not stop cleanly"),
            Err(_) => tracing::warn!("the embedded server takes long to stop; it goes on by itself"),
        }
    }
}

/// So many connections besides those of this pool, made like them when they are needed. Whoever else is busy keeps nobody waiting who
/// has these; and a connection never gives back the memory that its largest statement took, so a batch of alerts should not
/// go over all of them in turn.
pub(crate) fn apart(pool: &PgPool, connections: u32) -> PgPool {
    pool.options().clone().max_connections(connections).connect_lazy_with(pool.connect_options().as_ref().clone())
}

/// Connections that work as this role, given as the statement that takes it.
async fn pool_as(options: PgConnectOptions, works_as: Option<String>, connections: u32) -> Result<PgPool, Failure> {
    let pool =
        PgPoolOptions::new().max_connections(connections).acquire_timeout(Duration::from_secs(10)).after_connect(move |connection, _| {
            let works_as = works_as.clone();
            Box::pin(async move {
                if let Some(statement) = works_as {
                    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
                }
                Ok(())
            })
        });
    Ok(pool.connect_with(options).await?)
}

async fn embedded_server(config: &Config, purpose: Purpose) -> Result<(String, Option<LocalPostgres>), Failure> {
    let folder = config.postgres_folder();
    let give_up = tokio::time::Instant::now() + PATIENCE;
    loop {
        let options = local_postgres::Options {
            folder: folder.clone(),
            purpose: purpose.words(),
            durability: Durability::Full,
            bindir: config.pg_bindir.clone(),
            // Compiling queries takes longer than ours run, and a service may forbid memory that is both
            // writable and executable.
            settings: vec![("jit".into(), "off".into())],
        };
        match LocalPostgres::start(options).await {
            Ok(server) => return Ok((server.url().to_owned(), Some(server))),
            Err(StartError::Held { pid, purpose: holder }) => {
                // Only a daemon's server stays: that of another command ends with it.
                if purpose != Purpose::Serve
                    && holder == Purpose::Serve.words()
                    && let Ok(Some(running)) = local_postgres::attach(&folder)
                {
                    return Ok((running.url, None));
                }
                // A short command lets go by itself; another daemon does not.
                if holder == Purpose::Serve.words() && purpose == Purpose::Serve || tokio::time::Instant::now() >= give_up {
                    return Err(Failure::new(
                        Exit::Conflict,
                        format!(
                            "{} is in use by \"{holder}\" (process {pid}); stop that first, or give this one another state_dir",
                            config.state_dir.display()
                        ),
                    ));
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(StartError::NotFound(missing)) => {
                return Err(Failure::new(
                    Exit::Unavailable,
                    format!("[database] url is empty, so tocsin would run a Postgres of its own, and {missing}"),
                ));
            }
            Err(error) => return Err(Failure::new(Exit::Unavailable, error.to_string())),
        }
    }
}

fn url_from(path: &Path) -> Result<String, Failure> {
    read_secret_file(path, "a database URL").map(|url| url.to_string()).map_err(|error| Failure::new(Exit::Config, error.to_string()))
}

fn parse(url: &str) -> Result<PgConnectOptions, Failure> {
    let options = PgConnectOptions::from_str(url).map_err(|_| {
        Failure::new(Exit::Config, "the database URL cannot be read; write it like postgres://user@host:5432/name?sslmode=verify-full")
    })?;
    Ok(options.application_name("tocsin"))
}

fn describe(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or(options.get_username());
    match options.get_socket() {
        Some(socket) => format!("the database {database} at {}", socket.display()),
        None => format!("the database {database} at {}:{}", options.get_host(), options.get_port()),
    }
}

fn unreachable(described: &str, error: &sqlx::Error, from: Option<&UrlSource>) -> Failure {
    match error {
        sqlx::Error::Database(database) => match database.code().as_deref() {
            Some("28P01" | "28000" | "42501") => {
                let place = match from {
                    Some(UrlSource::File(path)) => format!("in {}", path.display()),
                    _ => "in [database] url".to_owned(),
                };
                let why = database.message();
                Failure::new(Exit::NoPermission, format!("{described} refuses the login: {why}; check user and password {place}"))
            }
            Some("3D000") => Failure::new(Exit::Unavailable, format!("{described} does not exist; create it with: createdb")),
            _ => Failure::new(Exit::Unavailable, format!("{described} does not accept connections now: {}", database.message())),
        },
        sqlx::Error::Io(cause) => {
            Failure::new(Exit::Unavailable, format!("cannot reach {described}: {cause}; check [database] url and that the server runs"))
        }
        other => Failure::new(Exit::Unavailable, format!("cannot use {described}: {other}; check [database] url")),
    }
}
