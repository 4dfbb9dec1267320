//! What the sink counts. Only what is committed is counted; no label names a tenant.

use std::time::Duration;

use domain::{AlertBatch, Purpose, Ticks, metric};
use metrics::{counter, histogram};

use crate::transaction::Stored;

/// Counts one committed transaction.
pub(crate) fn stored(batch: &AlertBatch, stored: &Stored, now: Ticks) {
    let source = batch.source.as_str();
    let committed = stored.committed;
    counter!(metric::ALERTS_STORED, "source" => source, "kind" => "new").increment(committed.new);
    counter!(metric::ALERTS_STORED, "source" => source, "kind" => "updated").increment(committed.updated);
    counter!(metric::ALERTS_DUPLICATE, "source" => source).increment(committed.duplicate);
    counter!(metric::QUARANTINED, "source" => source).increment(committed.quarantined);
    counter!(metric::GAPS, "source" => source).increment(stored.gaps);
    match batch.purpose {
        Purpose::Live { fresh: true } => {
            for stamp in stored.written.iter().flatten() {
                histogram!(metric::INGEST_LAG).record(now.since(*stamp).as_secs_f64());
            }
        }
        Purpose::Reread { errand, .. } if errand.is_rung() => {
            counter!(metric::LATE_FOUND, "rung" => errand.as_str()).increment(committed.late);
        }
        Purpose::Live { fresh: false } | Purpose::Reread { .. } => {}
    }
    if let Some(errand) = stored.finished {
        counter!(metric::REREADS, "errand" => errand.as_str()).increment(1);
    }
    for (kind, count) in ["missing", "changed", "only_stored"].into_iter().zip(stored.differences.unwrap_or_default()) {
        counter!(metric::RECONCILE_DIFFERENCES, "kind" => kind).increment(count);
    }
}

/// Counts one batch from received to committed, however many transactions and attempts it took.
pub(crate) fn batch(took: Duration) {
    histogram!(metric::COMMIT_SECONDS).record(took.as_secs_f64());
}
