//! What is counted here. Alerts and gaps are counted where they are stored, and so is what is found there already.

use std::time::Duration;

use domain::{Errand, Source, metric};

/// A poll has ended like this.
pub(crate) fn poll(source: Source, outcome: &'static str) {
    metrics::counter!(metric::POLLS, "source" => source.as_str(), "outcome" => outcome).increment(1);
}

/// A poll has begun so long after it was due.
pub(crate) fn lateness(late: Duration) {
    metrics::histogram!(metric::POLL_LATENESS).record(late.as_secs_f64());
}

/// So many records of an answer were stored already, as is known here. The others are counted where they are stored.
pub(crate) fn known(source: Source, records: usize) {
    if records > 0 {
        metrics::counter!(metric::ALERTS_DUPLICATE, "source" => source.as_str()).increment(records as u64);
    }
}

/// A re-read has come to its end.
pub(crate) fn reread(errand: Errand) {
    metrics::counter!(metric::REREADS, "errand" => errand.as_str()).increment(1);
}
