//! The metrics recorder: descriptions and buckets for every metric that the contract names.
//!
//! Code anywhere in the daemon counts through the `metrics` facade; what comes of it is decided here
//! once. There is no second listener: the text is rendered on demand at `/metrics`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::metric;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// A poll starts late by milliseconds, or by minutes when we are overloaded.
const LATENESS_SECONDS: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Work on one machine: a commit takes milliseconds, and ten seconds is the limit of a statement.
const WORK_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How often the recorder folds what was observed; without this its histograms only grow.
const UPKEEP: Duration = Duration::from_secs(5);

/// The recorder cannot be made or installed.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The bucket lists above are wrong.
    #[error("the metrics recorder cannot be built")]
    Build(#[from] BuildError),
    /// Somebody else in this process records metrics already.
    #[error("another metrics recorder is installed in this process already")]
    Taken,
}

/// Installs the recorder for the whole process, describes every metric, and says which version runs.
///
/// A daemon started a second time in one process, as tests do, gets the recorder that is there.
///
/// # Errors
/// [`MetricsError`] when a foreign recorder is installed already.
pub fn install_metrics() -> Result<PrometheusHandle, MetricsError> {
    // The facade allows one recorder per process and for good, so this one is remembered alike.
    static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let recorder = recorder()?;
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Taken)?;
    describe();
    *installed = Some(handle.clone());
    Ok(handle)
}

/// The recorder alone, with our buckets, for those who install it locally.
///
/// # Errors
/// [`MetricsError::Build`] when a bucket list is empty.
pub fn recorder() -> Result<PrometheusRecorder, MetricsError> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(metric::INGEST_LAG.to_owned()), metric::LAG_SECONDS)?
        .set_buckets_for_metric(Matcher::Full(metric::POLL_LATENESS.to_owned()), LATENESS_SECONDS)?
        // Any other histogram counts seconds of work as well; without buckets it would become a summary.
        .set_buckets(WORK_SECONDS)?;
    Ok(builder.build_recorder())
}

/// Keeps the recorder tidy until `stop`.
pub async fn upkeep(handle: PrometheusHandle, stop: CancellationToken) {
    let mut tick = tokio::time::interval(UPKEEP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => handle.run_upkeep(),
        }
    }
}

/// Tells the recorder of this thread what each metric is, and begins at nought what is news from the start.
pub fn describe() {
    describe_counter!(metric::ALERTS_STORED, "Alerts stored, by source and whether new or updated.");
    describe_counter!(metric::ALERTS_DUPLICATE, "Records read again that were stored already, by source.");
    describe_counter!(metric::POLLS, "Polls, by source and outcome.");
    describe_counter!(metric::TOKEN_REFRESHES, "Redemptions at the sign-in service, by outcome.");
    describe_gauge!(metric::TENANTS, "Tenants, by state.");
    describe_gauge!(metric::CLOCK_TENANTS, "Tenants of which a clock ends soon, by clock and by how soon.");
    describe_gauge!(metric::PARTIAL_SIGHTS, "Tenants whose account probably sees only part of the device groups.");
    describe_histogram!(metric::INGEST_LAG, Unit::Seconds, "From visible at the source to committed.");
    describe_histogram!(metric::POLL_LATENESS, Unit::Seconds, "From due to started.");
    describe_counter!(metric::QUARANTINED, "Records put into quarantine, by source.");
    describe_gauge!(metric::LEASES_HELD, "Tenants that this replica looks after.");
    describe_gauge!(metric::BUILD_INFO, "Always 1; the version is a label.");
    describe_counter!(metric::CONSENT_REFUSED, "Requests and answers that the pages of the consent flow refused, by outcome.");
    describe_counter!(metric::GAPS, "Stretches of a source that could not be read, by source.");
    describe_histogram!(metric::COMMIT_SECONDS, Unit::Seconds, "One batch, from received to committed.");
    describe_gauge!(
        metric::DIGEST_LAG,
        Unit::Seconds,
        "How long the oldest change of a tenant held here waits to reach evidence and roll-ups."
    );
    describe_counter!(metric::LATE_FOUND, "Alerts that a rung of the ladder found and polling had missed.");
    describe_counter!(metric::REREADS, "Re-reads that came to their end, by errand.");
    describe_counter!(metric::RECONCILE_DIFFERENCES, "Differences between source and store that comparisons found, by kind.");
    describe_gauge!(
        metric::FEED_LAST_SUCCESS,
        Unit::Seconds,
        "The oldest last success among all feeds that should be read, in seconds since 1970."
    );
    describe_gauge!(metric::BLIND_TENANTS, "Active tenants that cannot be seen in whole, by for how long at least.");
    describe_gauge!(metric::OPEN_GAPS, "Stretches that could not be read and may still be read.");
    describe_counter!(metric::LEASE_CHANGES, "Tenants that this replica took or gave up.");
    describe_gauge!(metric::DATABASE_UP, "1 while the database answers, 0 while it does not.");
    describe_histogram!(metric::DATABASE_SECONDS, Unit::Seconds, "One small transaction about once a second, from begin to commit.");
    describe_gauge!(metric::WATCHDOG_FED, Unit::Seconds, "When the watchdog of the service manager was last fed, in seconds since 1970.");
    describe_counter!(metric::NOTIFICATIONS, "Tries of the webhook by outcome, and messages that were given up.");
    describe_gauge!(
        metric::NOTIFY_FAILING_SINCE,
        Unit::Seconds,
        "Since when the webhook has failed, in seconds since 1970; 0 while it works."
    );
    counter!(metric::LEASE_CHANGES).increment(0);
    for outcome in ["delivered", "failed", "given-up"] {
        counter!(metric::NOTIFICATIONS, "outcome" => outcome).increment(0);
    }
    // Nought is news here: that nothing was missed can be seen from the start.
    for rung in domain::Errand::ALL.iter().filter(|errand| errand.is_rung()) {
        counter!(metric::LATE_FOUND, "rung" => rung.as_str()).increment(0);
    }
    for outcome in ["written", "unwritten", "turned-away"] {
        counter!(metric::CONSENT_REFUSED, "outcome" => outcome).increment(0);
    }
    for kind in ["missing", "changed", "only_stored"] {
        counter!(metric::RECONCILE_DIFFERENCES, "kind" => kind).increment(0);
    }
    gauge!(metric::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every name of `domain::metric`, read from its source, so that a new one cannot be forgotten here.
    fn all_names() -> Vec<&'static str> {
        let source = include_str!("../../domain/src/metric.rs");
        source.split('"').filter(|word| word.starts_with("tocsin_")).collect()
    }

    #[test]
    fn every_metric_is_described_and_lags_fall_into_buckets() {
        let recorder = recorder().unwrap();
        let handle = recorder.handle();
        let names = all_names();
        assert!(names.len() >= 10, "the names must be found");
        metrics::with_local_recorder(&recorder, || {
            describe();
            // A description is printed only beside a value, so each metric gets one.
            for name in &names {
                if *name == metric::BUILD_INFO {
                } else if *name == metric::DIGEST_LAG {
                    gauge!(*name).set(1.0);
                } else if name.ends_with("_total") {
                    metrics::counter!(*name).increment(1);
                } else if name.ends_with("_seconds") && !name.ends_with("_timestamp_seconds") {
                    metrics::histogram!(*name).record(0.3);
                } else {
                    gauge!(*name).set(1.0);
                }
            }
            metrics::histogram!(metric::INGEST_LAG).record(25.0);
        });
        let text = handle.render();
        for name in names {
            assert!(text.contains(&format!("# HELP {name} ")), "{name} is not described:\n{text}");
        }
        assert!(text.contains("tocsin_ingest_lag_seconds_bucket{le=\"30\"} 2"), "{text}");
        assert!(text.contains("tocsin_poll_lateness_seconds_bucket{le=\"0.25\"} 0"), "{text}");
        assert!(text.contains("tocsin_commit_seconds_bucket{le=\"0.5\"} 1"), "{text}");
        assert!(text.contains(&format!("tocsin_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))), "{text}");
    }

    #[test]
    fn installing_twice_gives_the_same_recorder() {
        let first = install_metrics().unwrap();
        let second = install_metrics().unwrap();
        metrics::counter!(metric::GAPS).increment(3);
        assert!(first.render().contains("tocsin_gap_total 3"));
        assert!(second.render().contains("tocsin_gap_total 3"));
    }
}
