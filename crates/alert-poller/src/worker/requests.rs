//! What operators ask for: rows of `tocsin.reread` that a command has written. One question for all tenants, every
//! few seconds; what is new is started at the next opportunity.

use std::sync::Arc;

use domain::ports::StoreUnavailable;
use domain::{Errand, Source, TenantId};
use tokio::time::Instant;

use super::Poller;
use crate::feed::{FeedKey, Job, Work};
use crate::source::AlertSource;

/// Open requests, each with its run.
pub(super) type Answer = Result<Vec<(TenantId, Source, Errand, i64)>, StoreUnavailable>;

impl<S: AlertSource> Poller<S> {
    /// Asks, unless there is no use in it.
    pub(super) fn ask(&mut self) {
        if self.entries.is_empty() || !self.asking.is_empty() || self.hindrance().is_some() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        self.asking.spawn(async move { shared.cursors.asked_for().await });
    }

    /// Sees to it that what is new is begun.
    pub(super) fn take_requests(&mut self, answer: Answer) {
        let requests = match answer {
            Ok(requests) => requests,
            Err(error) => {
                tracing::debug!(%error, "cannot ask for requests");
                return;
            }
        };
        let now = Instant::now();
        for (tenant, source, errand, run) in requests {
            let feed = FeedKey { tenant, source };
            // Somebody else's.
            let Some(entry) = self.entries.get_mut(&feed) else { continue };
            if entry.rereading.told.insert(errand, run) == Some(run) {
                continue;
            }
            tracing::info!(tenant.id = %tenant, %source, %errand, "a re-read is asked for");
            match &mut entry.rereading.memory {
                Some(memory) => memory.stale(),
                None => entry.rereading.stale = true,
            }
            self.schedule.hasten(Job { feed, work: Work::Again }, now, now);
        }
    }
}
