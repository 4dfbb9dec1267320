//! How it is with the customers, in three numbers, for whoever has one line to show.

use domain::health::Headline;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Poller;
use crate::source::AlertSource;

impl<S: AlertSource> Poller<S> {
    /// Says with every beat how it is with the customers.
    #[must_use]
    pub fn telling(mut self, headline: watch::Sender<Headline>) -> Self {
        self.headline = Some(headline);
        self
    }

    pub(super) fn say_headline(&self) {
        let Some(out) = &self.headline else { return };
        let now = Instant::now();
        // Entries are in order of tenants.
        let mut unreadable: Vec<_> = self.entries.iter().filter(|(_, entry)| entry.polling.tried && !entry.polling.works).collect();
        unreadable.dedup_by_key(|(key, _)| key.tenant);
        let read = self.entries.values().filter_map(|entry| entry.common.caught_up());
        out.send_replace(Headline {
            tenants: self.tenants.borrow().tenants.len(),
            unreadable: unreadable.len(),
            worst_lag: read.min().map(|began| now - began),
        });
    }
}
