//! Logs: one subscriber, two forms, to standard error.
//!
//! The filter comes from `[log] level`, or from `RUST_LOG` when that is set. Whatever it says, other
//! people's crates have a ceiling: an HTTP library that is asked for TRACE prints headers and frames,
//! and a token would be among them (I13).

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, FilterFn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{LogConfig, LogFormat};
use crate::failure::{Exit, Failure};

/// Crates whose lines we write ourselves and therefore answer for at every level.
const OURS: &[&str] = &[
    "domain",
    "microsoft",
    "tenant_registry",
    "token_refresher",
    "alert_poller",
    "sink",
    "console",
    "local_postgres",
    "daemon",
    "tocsin",
    "simulator",
];

/// The filter of a log that is being written.
pub(crate) struct Level {
    filter: reload::Handle<EnvFilter, Registry>,
    /// `RUST_LOG` has said it, for as long as the process lives.
    fixed: bool,
}

impl Level {
    /// Goes on with this filter, which was checked with the configuration.
    pub(crate) fn set(&self, directives: &str) {
        if self.fixed {
            return;
        }
        let set = filter(directives, "log.level").map(|filter| self.filter.reload(filter));
        if !matches!(set, Ok(Ok(()))) {
            tracing::warn!("the level of the log could not be changed");
        }
    }
}

/// Starts logging.
///
/// # Errors
/// Exit 78 when the filter cannot be read.
pub(crate) fn init(config: &LogConfig, rust_log: Option<&str>) -> Result<Level, Failure> {
    let (directives, key) = match rust_log {
        Some(text) if !text.is_empty() => (text, "RUST_LOG"),
        _ => (config.level.as_str(), "log.level"),
    };
    let (filter, handle) = reload::Layer::new(filter(directives, key)?);
    let filter = filter.and(FilterFn::new(within_ceiling));
    let registry = tracing_subscriber::registry();
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let subscriber: Box<dyn Subscriber + Send + Sync> = match config.format {
        LogFormat::Pretty => Box::new(registry.with(lines.with_ansi(io::stderr().is_terminal()).with_filter(filter))),
        LogFormat::Json => Box::new(registry.with(lines.json().flatten_event(true).with_filter(filter))),
    };
    // A second start in one process (tests) keeps the first subscriber.
    let _ = tracing::subscriber::set_global_default(subscriber);
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line())).unwrap_or_default();
        // The message may quote data, so only the place is told.
        tracing::error!(place, "a task panicked; this is a bug in tocsin");
    }));
    Ok(Level { filter: handle, fixed: key == "RUST_LOG" })
}

/// Reads a filter; `key` says where it was written.
///
/// # Errors
/// Exit 78 when it cannot be read.
pub(crate) fn filter(directives: &str, key: &str) -> Result<EnvFilter, Failure> {
    EnvFilter::try_new(directives).map_err(|error| {
        Failure::new(
            Exit::Config,
            format!("{key} = \"{directives}\" is no filter ({error}); write it like info or info,alert_poller=trace"),
        )
    })
}

/// Whether a line may be written at all, whatever the filter says.
fn within_ceiling(metadata: &Metadata<'_>) -> bool {
    let krate = metadata.target().split("::").next().unwrap_or_default();
    let ceiling = match krate {
        ours if OURS.contains(&ours) => LevelFilter::TRACE,
        // It repeats whole statements; what matters of them our own lines say.
        "sqlx" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    };
    *metadata.level() <= ceiling
}
