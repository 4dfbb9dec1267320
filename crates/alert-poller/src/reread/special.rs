//! What is not just reading: the conclusion of a comparison, and quarantine tried again.

use bytes::Bytes;
use domain::{ContentHash, Record, Reread};
use tokio::time::Instant;

use super::{Progress, Rereading};
use crate::call::Caller;
use crate::end::End;
use crate::source::AlertSource;

/// Bodies from quarantine that are tried at once: one may have 20 MB.
const REPLAYED_AT_ONCE: u32 = 8;

impl<S: AlertSource> Rereading<S> {
    /// Source and store are compared, once polling has brought everything up to date that was read.
    pub(super) async fn conclude(&mut self, row: Reread) -> Result<(), End> {
        let Caller { shared, tenant, source, .. } = &self.caller;
        let Some(tally) = self.again.tallies.get(&row.errand) else { return Ok(()) };
        if !tally.is_settled_by(self.common.caught_up()) {
            self.again.rests(row.errand, Instant::now());
            return Err(End::AwaitsPoll);
        }
        let (from, to) = (tally.from, tally.to);
        let stored = match shared.cursors.stored_between(tenant.id, *source, from, to).await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(tenant.id = %tenant.id, %source, %error, "cannot ask what is stored; the comparison waits");
                return Err(self.unanswered(&row));
            }
        };
        let comparison = tally.compare(&stored);
        tracing::info!(
            tenant.id = %tenant.id, %source, errand = %row.errand, at_source = comparison.at_source, stored = comparison.stored,
            only_stored = comparison.only_stored_count, "source and store have been compared"
        );
        let finished_at = Some(shared.clock.now());
        self.end(Reread { from, to, left: from, finished_at, ..row }, Some(comparison)).await
    }

    /// One portion of what is in quarantine and to be tried again. What is still not understood stays there.
    pub(super) async fn replay(&mut self, row: Reread) -> Result<(), End> {
        let Caller { shared, tenant, source, .. } = &self.caller;
        let source = *source;
        let bodies: Vec<Bytes> = match shared.cursors.to_replay(tenant.id, source, REPLAYED_AT_ONCE).await {
            Ok(bodies) => bodies,
            Err(error) => {
                tracing::warn!(tenant.id = %tenant.id, %source, %error, "cannot ask what is to be tried again");
                return Err(self.unanswered(&row));
            }
        };
        let records: Vec<_> = bodies.into_iter().map(|raw| shared.source.reread(source, raw)).collect();
        let tried = &mut self.again.tried;
        let fresh = records.iter().filter(|record| tried.insert(hash(record))).count();
        if fresh == 0 {
            let finished_at = Some(shared.clock.now());
            return self.end(Reread { left: row.from, finished_at, ..row }, None).await;
        }
        self.write(row, Progress { records, ..Progress::default() }).await
    }

    /// The store does not answer this errand's question. It may be that question alone: the other errands go on.
    fn unanswered(&mut self, row: &Reread) -> End {
        self.again.failed(row.errand, Instant::now());
        End::Failed { outcome: End::StoreAway.outcome(), retry_after: None }
    }
}

fn hash(record: &Record) -> ContentHash {
    match record {
        Record::Alert(alert) => alert.hash,
        Record::Incident(incident) => incident.hash,
        Record::Poison(poison) => poison.hash,
    }
}
