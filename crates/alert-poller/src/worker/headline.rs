//! How it is with the customers, in three numbers, for whoever has one line to show.

use std::time::Duration;

use domain::health::Headline;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Poller;
use crate::source::AlertSource;

/// Every customer is looked at for it, and nobody reads a line more often.
const SAID_EVERY: Duration = Duration::from_secs(5);

impl<S: AlertSource> Poller<S> {
    /// Says every few seconds how it is with the customers.
    #[must_use]
    pub fn telling(mut self, headline: watch::Sender<Headline>) -> Self {
        self.headline = Some((headline, None));
        self
    }

    pub(super) fn say_headline(&mut self) {
        let now = Instant::now();
        let Some((out, said_at)) = &mut self.headline else { return };
        let tenants = self.tenants.borrow().tenants.len();
        // Who has just come is told of at once.
        if said_at.is_some_and(|said_at| now - said_at < SAID_EVERY) && out.borrow().tenants == tenants {
            return;
        }
        *said_at = Some(now);
        let (mut unreadable, mut last, mut longest_ago) = (0, None, None);
        // They are in order of tenants.
        for (key, entry) in &self.entries {
            if entry.polling.tried && !entry.polling.works && last != Some(key.tenant) {
                (unreadable, last) = (unreadable + 1, Some(key.tenant));
            }
            longest_ago = longest_ago.into_iter().chain(entry.common.caught_up()).min();
        }
        out.send_replace(Headline { tenants, unreadable, worst_lag: longest_ago.map(|began| now - began) });
    }
}
