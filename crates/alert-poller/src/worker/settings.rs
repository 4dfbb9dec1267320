//! Other settings while the poller runs.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Poller;
use crate::config::Config;
use crate::feed::{FeedKey, Job, Work};
use crate::source::AlertSource;

/// Resolves when there are other settings; never when nobody gives any, or any more.
pub(super) async fn next(settings: &mut Option<watch::Receiver<Config>>) {
    let changed = match settings {
        Some(settings) => settings.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        pending().await
    }
}

impl<S: AlertSource> Poller<S> {
    /// Takes over whatever settings come this way while it runs: what the operator can set, that is. How many turns may be in
    /// flight and how much memory they may use stays as it was at the start.
    #[must_use]
    pub fn following(mut self, settings: watch::Receiver<Config>) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Turns in flight end as they began; each next one is by the new settings.
    pub(super) fn take_settings(&mut self) {
        let Some(settings) = &mut self.settings else { return };
        let config = settings.borrow_and_update().clone();
        let before = &self.shared.config;
        let sooner = config.interval < before.interval || config.longest_interval() < before.longest_interval();
        let limits = |config: &Config| {
            let &Config { graph_per_minute, defender_per_minute, defender_per_hour, app_graph_per_10s, app_defender_per_minute, .. } =
                config;
            [graph_per_minute, defender_per_minute, defender_per_hour, app_graph_per_10s, app_defender_per_minute]
        };
        if limits(&config) != limits(before) {
            self.renew_budgets(&config);
        }
        self.shared = Arc::new(self.shared.with(config));
        if sooner {
            // Who waits was told a time by the old interval.
            let (now, interval) = (Instant::now(), self.shared.config.interval);
            for (feed, entry) in self.entries.iter().filter(|(_, entry)| !entry.polling.held_back) {
                let due = now + self.chance.between(interval / 10, interval);
                if entry.polling.works {
                    self.schedule.hasten(Job { feed: *feed, work: Work::Live }, due, now);
                }
            }
        }
    }

    /// Other limits count from the next call on. Whoever waits for his turn was told a time by the old ones, and asks again.
    fn renew_budgets(&mut self, config: &Config) {
        let (now, spread) = (Instant::now(), self.spread(self.entries.len()));
        self.limits_since = now;
        self.apps = self.apps.renewed(config);
        for (tenant, allowance) in &mut self.allowances {
            for (source, work) in allowance.waiting() {
                let due = now + self.chance.between(Duration::ZERO, spread);
                self.schedule.hasten(Job { feed: FeedKey { tenant: *tenant, source }, work }, due, now);
            }
            *allowance = Arc::new(allowance.renewed(config));
        }
    }
}
