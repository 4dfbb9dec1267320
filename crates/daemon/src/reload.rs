//! Reading the configuration again while the daemon runs: on SIGHUP, which `tocsin reload` sends.
//!
//! What keeps the daemon from starting keeps a configuration from being taken: the old one stays in force then, and the
//! sentence is in the log and at the ops endpoint. Of one that is taken, the keys of [`LIVE`] take effect at once; every other
//! key that was changed waits for the next start, and is named. What secret files hold needs none of this: credentials of apps
//! are read anew at every use, and a changed key ring is noticed.

use std::collections::BTreeMap;
use std::time::Duration;

use console::Configuration;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError, Sources};
use crate::telemetry::Level;
use crate::{secrets, service_manager};

/// Keys that take effect at once, by how they begin.
const LIVE: &[&str] = &[
    "log.level",
    "poll.",
    "ladder.",
    "budget.graph_per_minute",
    "budget.defender_per_minute",
    "budget.defender_per_hour",
    "budget.app_graph_per_10s",
    "budget.app_defender_per_minute",
];

/// What it takes to read the configuration again.
pub(crate) struct Reload {
    /// Where it is read from.
    pub(crate) sources: Sources,
    /// The filter of the log.
    pub(crate) level: Level,
    /// SIGHUP, heard since before anything was started.
    pub(crate) hangups: Signal,
}

/// Where the parts of a new configuration go.
pub(crate) struct Destinations {
    /// To the poller.
    pub(crate) poller: watch::Sender<alert_poller::Config>,
    /// To the registry.
    pub(crate) poll_interval: watch::Sender<Duration>,
    /// To whoever asks which one is in force.
    pub(crate) told: watch::Sender<Configuration>,
}

/// The long-lived task.
pub(crate) struct Reloader {
    reload: Reload,
    to: Destinations,
    /// Every key with its value, as the daemon was started.
    started_with: BTreeMap<String, String>,
    in_force: BTreeMap<String, String>,
}

impl Reloader {
    /// The daemon was started with this configuration.
    pub(crate) fn new(reload: Reload, config: &Config, to: Destinations) -> Self {
        let keys = keys(config);
        Self { reload, to, started_with: keys.clone(), in_force: keys }
    }

    /// Reads again at every SIGHUP until `stop`.
    ///
    /// # Errors
    /// Never; the stages have one form.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), String> {
        while let Some(Some(())) = stop.run_until_cancelled(self.reload.hangups.recv()).await {
            service_manager::reloading();
            self.read_again();
            service_manager::ready();
        }
        stop.cancelled().await;
        Ok(())
    }

    fn read_again(&mut self) {
        let usable = |config: Config| match secrets::usable(&config) {
            Ok(_) => Ok(config),
            Err(failure) => Err(ConfigError(failure.message)),
        };
        match self.reload.sources.load().and_then(usable) {
            Ok(config) => self.take(&config),
            Err(ConfigError(sentence)) => {
                tracing::error!("the configuration was read again and is refused, so the one before stays in force: {sentence}");
                self.to.told.send_modify(|told| {
                    told.read += 1;
                    told.refused = Some(sentence);
                });
            }
        }
    }

    fn take(&mut self, config: &Config) {
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        self.reload.level.set(&config.log.level);
        self.to.poller.send_if_modified(|settings| std::mem::replace(settings, config.poller()) != *settings);
        self.to.poll_interval.send_replace(config.poll.interval);
        let keys = keys(config);
        let changed = differing(&self.in_force, &keys);
        let waiting: Vec<_> = differing(&self.started_with, &keys).into_iter().filter(|key| !is_live(key)).collect();
        self.in_force = keys;
        let generation = self.to.told.borrow().generation + 1;
        tracing::info!(generation, changed = changed.join(" "), "the configuration was read again and is in force");
        if !waiting.is_empty() {
            tracing::warn!(keys = waiting.join(" "), "these keys differ from what the daemon was started with, and wait for a restart");
        }
        self.to
            .told
            .send_modify(|told| *told = Configuration { generation, read: told.read + 1, refused: None, waits_for_restart: waiting });
    }
}

fn keys(config: &Config) -> BTreeMap<String, String> {
    config.shown.iter().map(|(key, value, _)| (key.clone(), value.clone())).collect()
}

/// Keys with another value, or that are only in one of the two.
fn differing(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> Vec<String> {
    let gone = one.keys().filter(|key| !other.contains_key(*key));
    let changed = other.iter().filter(|(key, value)| one.get(*key) != Some(*value)).map(|(key, _)| key);
    let mut keys: Vec<_> = gone.chain(changed).cloned().collect();
    keys.sort_unstable();
    keys
}

pub(crate) fn is_live(key: &str) -> bool {
    LIVE.iter().any(|live| if live.ends_with('.') { key.starts_with(live) } else { key == *live })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path()), []).unwrap()
    }

    #[test]
    fn what_changes_at_once_and_what_waits_is_told_apart_by_key() {
        let before = keys(&config("[apps.old]\nclient_id = \"x\"\n"));
        let after = keys(&config(
            "[poll]\ninterval = \"5s\"\n[log]\nlevel = \"debug\"\nformat = \"json\"\n[budget]\ntoken_per_second = 5\ngraph_per_minute = 7\n",
        ));
        let differing = differing(&before, &after);
        let (live, waiting): (Vec<_>, Vec<_>) = differing.iter().map(String::as_str).partition(|key| is_live(key));
        assert_eq!(live, ["budget.graph_per_minute", "log.level", "poll.interval"]);
        assert_eq!(waiting, ["apps.old.client_id", "budget.token_per_second", "log.format"]);
    }

    #[test]
    fn every_live_key_exists() {
        let keys = keys(&config(""));
        for live in LIVE {
            assert!(keys.keys().any(|key| key.starts_with(live)), "{live}");
        }
        assert!(!is_live("poller.x") && !is_live("log.levels"));
    }
}
