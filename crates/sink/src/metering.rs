//! What the sink counts. Only what is committed is counted; no label names a tenant.

use std::time::Duration;

use domain::{AlertBatch, Ticks, metric};
use metrics::{counter, histogram};

use crate::parts::Sorted;
use crate::transaction::Stored;

/// Counts one committed transaction.
pub(crate) fn stored(batch: &AlertBatch, sorted: &Sorted<'_>, stored: &Stored, now: Ticks) {
    let source = batch.source.as_str();
    let committed = stored.committed;
    counter!(metric::ALERTS_STORED, "source" => source, "kind" => "new").increment(committed.new);
    counter!(metric::ALERTS_STORED, "source" => source, "kind" => "updated").increment(committed.updated);
    counter!(metric::ALERTS_DUPLICATE, "source" => source).increment(committed.duplicate);
    counter!(metric::QUARANTINED, "source" => source).increment(committed.quarantined);
    counter!(metric::GAPS, "source" => source).increment(stored.gaps);
    if batch.live {
        for stamp in stored.written.iter().filter_map(|at| sorted.alerts[*at].record.last_update) {
            histogram!(metric::INGEST_LAG).record(now.since(stamp).as_secs_f64());
        }
    }
}

/// Counts one batch from received to committed, however many transactions and attempts it took.
pub(crate) fn batch(took: Duration) {
    histogram!(metric::COMMIT_SECONDS).record(took.as_secs_f64());
}
