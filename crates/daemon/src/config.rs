//! The configuration: built-in defaults < file < environment, checked before anything starts.
//!
//! Every key that exists stands, with its comment, in `config/default.toml`; that file is also the
//! list against which unknown keys are found. Each room defines its own settings; this module only
//! reads, checks and hands them over. Secrets are not part of it: it knows the names of their files.

mod apps;
mod clocks;
mod console;
mod files;
mod keys;
mod ladder;
mod notify;
mod poll;
mod raw;
mod retention;
mod rooms;
mod secret_file;
mod separation;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::{AppName, CloudName};
use microsoft::Cloud;

pub(crate) use apps::{AppConfig, CredentialFiles};
pub(crate) use console::ConsoleConfig;
pub(crate) use files::Found;
pub(crate) use keys::{APP_KEYS, CLOUD_KEYS, DEFAULTS, Origin};
pub(crate) use notify::NotifyConfig;
pub(crate) use secret_file::{read_secret_file, shared_with_group};

/// The configuration, checked.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where the daemon keeps what it needs between starts.
    pub(crate) state_dir: PathBuf,
    /// Which Postgres.
    pub(crate) database: DatabaseConfig,
    /// Where PostgreSQL's programs are, when `PG_BINDIR` says so.
    pub(crate) pg_bindir: Option<PathBuf>,
    /// The key ring file.
    pub(crate) key_file: PathBuf,
    /// Refuse to start when key ring and app credential lie in one folder.
    pub(crate) require_separation: bool,
    /// Whether they do.
    pub(crate) kept_together: bool,
    /// Logging.
    pub(crate) log: LogConfig,
    /// Address of the ops endpoint.
    pub(crate) ops_listen: SocketAddr,
    /// The pages that customers see.
    pub(crate) console: ConsoleConfig,
    /// Clouds, built in and configured.
    pub(crate) clouds: BTreeMap<CloudName, Cloud>,
    /// App registrations.
    pub(crate) apps: BTreeMap<AppName, AppConfig>,
    /// Polling.
    pub(crate) poll: PollConfig,
    /// What is read again by the clock.
    pub(crate) ladder: alert_poller::Ladder,
    /// How long is kept what grows.
    pub(crate) retention: sink::Retention,
    /// Call budgets.
    pub(crate) budget: BudgetConfig,
    /// The webhook, if there is one.
    pub(crate) notify: Option<NotifyConfig>,
    /// Each key with its printable value and where it came from, for `config show`.
    pub(crate) shown: Vec<(String, String, Origin)>,
    /// Files that are named by a relative path, and what was taken for each.
    pub(crate) found: Vec<Found>,
    /// What is allowed but unwise, in sentences.
    pub(crate) warnings: Vec<String>,
}

/// Which Postgres to use.
#[derive(Debug, Clone)]
pub(crate) struct DatabaseConfig {
    /// A URL, or the file that holds it; `None` runs a server of our own.
    pub(crate) url: Option<UrlSource>,
    /// The owner's login for migrations.
    pub(crate) migrate_url_file: Option<PathBuf>,
}

impl DatabaseConfig {
    /// The file that holds the URL, if one does.
    fn url_file(&self) -> Option<&Path> {
        if let Some(UrlSource::File(file)) = &self.url { Some(file) } else { None }
    }
}

/// Where a database URL is written.
#[derive(Debug, Clone)]
pub(crate) enum UrlSource {
    /// In the configuration itself.
    Inline(String),
    /// In a file of its own, since it holds a password.
    File(PathBuf),
}

/// Logging.
#[derive(Debug, Clone)]
pub(crate) struct LogConfig {
    /// A filter as `tracing-subscriber` reads it.
    pub(crate) level: String,
    /// Form of a line.
    pub(crate) format: LogFormat,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Pretty,
    /// One object a line.
    Json,
}

/// `[poll]`.
#[derive(Debug, Clone)]
pub(crate) struct PollConfig {
    /// Per tenant and source.
    pub(crate) interval: Duration,
    /// The same at most, of a tenant at which nothing happens. Zero: no other.
    pub(crate) quiet_interval: Duration,
    /// Read again before the watermark.
    pub(crate) overlap: Duration,
    /// How far back the first contact reads.
    pub(crate) first_sync: Duration,
    /// How long Microsoft keeps alerts.
    pub(crate) source_keeps: Duration,
    /// Alerts asked for at once.
    pub(crate) page_size: u32,
}

/// `[budget]`.
#[derive(Debug, Clone)]
pub(crate) struct BudgetConfig {
    /// Graph calls per tenant and minute.
    pub(crate) graph_per_minute: u32,
    /// Defender calls per tenant and minute.
    pub(crate) defender_per_minute: u32,
    /// Defender calls per tenant and hour.
    pub(crate) defender_per_hour: u32,
    /// Graph calls per app and ten seconds, of all tenants and replicas. Zero: no limit.
    pub(crate) app_graph_per_10s: u32,
    /// Defender calls per app and minute, of all tenants and replicas. Zero: no limit.
    pub(crate) app_defender_per_minute: u32,
    /// Redemptions per second and sign-in host.
    pub(crate) token_per_second: u32,
}

/// What the configuration is read from, kept to read it again.
pub(crate) struct Sources {
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Sources {
    /// This file, if any, under these variables.
    pub(crate) fn new(file: Option<PathBuf>, environment: Vec<(String, String)>) -> Self {
        Self { file, environment }
    }

    /// Loads and checks it, as it is now.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub(crate) fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.file.as_deref(), self.environment.clone())
    }
}

/// A configuration that cannot be used: one sentence with what, where and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub String);

impl Config {
    /// Loads and checks the configuration.
    ///
    /// `file` is what the command line or `TOCSIN_CONFIG_FILE` named; without it the defaults and the
    /// environment make up the whole.
    ///
    /// # Errors
    /// One sentence, naming the key and the file or variable it came from.
    pub(crate) fn load(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let environment: Vec<_> = environment.into_iter().collect();
        let pg_bindir = environment.iter().find(|(name, value)| name == "PG_BINDIR" && !value.is_empty()).map(|(_, value)| value.into());
        let credentials: Option<PathBuf> =
            environment.iter().find(|(name, value)| name == "CREDENTIALS_DIRECTORY" && !value.is_empty()).map(|(_, value)| value.into());
        let layers = keys::Layers::read(file, environment)?;
        let mut raw = layers.deserialize()?;
        let beside = file.map(|file| file.parent().unwrap_or(Path::new("")));
        let found = files::Folders { credentials: credentials.as_deref(), beside }.settle(&mut raw);
        let mut warnings = Vec::new();

        let database = check_database(&raw.database, &mut warnings)?;
        let clouds = merge_clouds(raw.clouds)?;
        let apps = raw
            .apps
            .into_iter()
            .map(|(name, app)| apps::check(&name, app).map(|app| (AppName::new(name), app)))
            .collect::<Result<BTreeMap<_, _>, _>>()?;
        let ops_listen = raw
            .ops
            .listen
            .parse()
            .map_err(|_| ConfigError(format!("ops.listen = \"{}\" is no address; write it like 127.0.0.1:9464", raw.ops.listen)))?;
        crate::telemetry::filter(&raw.log.level, "log.level").map_err(|failure| ConfigError(failure.message))?;
        let poll = poll::check(&raw.poll, &mut warnings)?;
        let ladder = ladder::check(&raw.ladder, &raw.poll, &mut warnings)?;
        let retention = retention::check(&raw.retention, &raw.poll, &mut warnings)?;
        for (key, value) in [
            ("graph_per_minute", raw.budget.graph_per_minute),
            ("defender_per_minute", raw.budget.defender_per_minute),
            ("defender_per_hour", raw.budget.defender_per_hour),
            ("token_per_second", raw.budget.token_per_second),
        ] {
            if value == 0 {
                return Err(ConfigError(format!("budget.{key} = 0 would never call anybody; use at least 1")));
            }
        }

        let config = Self {
            state_dir: raw.state_dir,
            database,
            pg_bindir,
            key_file: raw.vault.key_file,
            require_separation: raw.vault.require_separation,
            kept_together: false,
            log: LogConfig { level: raw.log.level, format: raw.log.format },
            ops_listen,
            console: console::check(raw.console)?,
            clouds,
            apps,
            poll,
            ladder,
            retention,
            budget: BudgetConfig {
                graph_per_minute: raw.budget.graph_per_minute,
                defender_per_minute: raw.budget.defender_per_minute,
                defender_per_hour: raw.budget.defender_per_hour,
                app_graph_per_10s: raw.budget.app_graph_per_10s,
                app_defender_per_minute: raw.budget.app_defender_per_minute,
                token_per_second: raw.budget.token_per_second,
            },
            notify: notify::check(&raw.notify)?,
            shown: layers.shown(),
            found,
            warnings,
        };
        config.check_separation(credentials.as_deref())
    }

    /// A leak of one place should not give away both the sealing keys and the credential that makes
    /// stolen tokens usable (I16).
    fn check_separation(mut self, credentials: Option<&Path>) -> Result<Self, ConfigError> {
        let keys = separation::source_of(&self.key_file, credentials);
        let together = self
            .apps
            .iter()
            .flat_map(|(name, app)| app.credential_files().into_iter().map(move |(key, file, _)| (name, key, file)))
            .find(|(_, _, file)| separation::source_of(file, credentials) == keys);
        if let Some((name, key, _)) = together {
            let place = keys.display();
            let sentence =
                format!("vault.key_file and apps.{name}.{key} both come from {place}, where one leak takes both; keep them in two places");
            self.kept_together = true;
            if self.require_separation {
                return Err(ConfigError(format!("{sentence}, or set vault.require_separation = false")));
            }
            self.warnings.push(sentence);
        }
        Ok(self)
    }

    /// Secret files that more than their owner may read, in sentences.
    pub(crate) fn shared_files(&self, ring: &tenant_registry::KeyRing) -> Vec<String> {
        let apps = self.apps.values().flat_map(AppConfig::credential_files);
        let urls = [self.database.url_file(), self.database.migrate_url_file.as_deref()];
        let apps = apps.filter_map(|(_, file, what)| shared_with_group(file, what));
        let urls = urls.into_iter().flatten().filter_map(|file| shared_with_group(file, "a database URL"));
        let webhook = self
            .notify
            .iter()
            .flat_map(|notify| [(&notify.url_file, "the webhook's address"), (&notify.secret_file, "the webhook's signing secret")]);
        let webhook = webhook.filter_map(|(file, what)| shared_with_group(file, what));
        ring.warning().map(str::to_owned).into_iter().chain(apps).chain(urls).chain(webhook).collect()
    }

    /// The folder of the embedded Postgres.
    pub(crate) fn postgres_folder(&self) -> PathBuf {
        self.state_dir.join("postgres")
    }
}

fn check_database(raw: &raw::Database, warnings: &mut Vec<String>) -> Result<DatabaseConfig, ConfigError> {
    let url = match (raw.url.as_str(), raw.url_file.as_str()) {
        ("", "") => None,
        (url, "") => {
            let parsed = url::Url::parse(url)
                .map_err(|_| ConfigError("database.url is no URL; write it like postgres://user@host:5432/name".into()))?;
            if !matches!(parsed.scheme(), "postgres" | "postgresql") {
                return Err(ConfigError("database.url does not start with postgres://".into()));
            }
            if parsed.password().is_some() {
                warnings.push("database.url holds a password; keep it in a file of its own and name that in database.url_file".into());
            }
            Some(UrlSource::Inline(url.to_owned()))
        }
        ("", file) => Some(UrlSource::File(file.into())),
        _ => return Err(ConfigError("database.url and database.url_file are both set; keep one of them".into())),
    };
    Ok(DatabaseConfig { url, migrate_url_file: (!raw.migrate_url_file.is_empty()).then(|| raw.migrate_url_file.clone().into()) })
}

fn merge_clouds(configured: BTreeMap<String, raw::Cloud>) -> Result<BTreeMap<CloudName, Cloud>, ConfigError> {
    let mut clouds = microsoft::built_in();
    for (name, over) in configured {
        let name = CloudName::new(name);
        let cloud = over.over(clouds.remove(&name)).map_err(|problem| ConfigError(format!("clouds.{name}: {problem}")))?;
        cloud.check().map_err(|problem| ConfigError(format!("clouds.{name}: {problem}")))?;
        clouds.insert(name, cloud);
    }
    Ok(clouds)
}

#[cfg(test)]
mod tests;
