//! What a service manager is told, if one listens (`Type=notify` of systemd): that everything is started, that all stages
//! still go round, how it is with the customers, that more time is needed, and that the end has begun.
//!
//! The watchdog is fed as long as every stage is *alive*, as the ops endpoint judges it. Alive is not ready: a database that
//! is away makes nothing ready, and a restart would not bring it back.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use console::OpsState;
use domain::health::Headline;
use domain::{Clock as _, SystemClock, metric};
use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the line of numbers is told, and the stages are looked at where no watchdog asks for more.
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// While something takes long at the start, more time is asked for this often …
const ASK_EVERY: Duration = Duration::from_secs(5);
/// … and so much of it.
const MORE_TIME: Duration = Duration::from_secs(30);

/// Everything is started, or a reload is over.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] follows.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        // Without the time it would be taken for a reload that failed.
        Err(error) => tracing::debug!(%error, "the service manager is not told of the reload"),
    }
}

/// Asked to stop.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Does this, and has the service manager wait for it however long it takes: a large migration, a Postgres that replays its
/// log after a crash.
pub(crate) async fn with_more_time<F: Future>(doing: &str, work: F) -> F::Output {
    let more = u32::try_from(MORE_TIME.as_micros()).unwrap_or(u32::MAX);
    let mut tick = interval(ASK_EVERY);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = tick.tick() => tell(&[NotifyState::Status(doing), NotifyState::ExtendTimeoutUsec(more)]),
        }
    }
}

/// Feeds the watchdog at a third of its time, and tells the line of numbers, until `stop`.
///
/// # Errors
/// Never; the stages have one form.
pub(crate) async fn attend(ops: OpsState, headline: watch::Receiver<Headline>, stop: CancellationToken) -> Result<(), String> {
    let watchdog = sd_notify::watchdog_enabled();
    let every = watchdog.map_or(STATUS_EVERY, |limit| (limit / 3).max(Duration::from_millis(1)));
    let (mut look, mut status) = (interval(every), interval(STATUS_EVERY));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    status.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent = BTreeSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = look.tick() => {
                let stuck = ops.stuck().into_iter().collect();
                report(&silent, &stuck, watchdog);
                if stuck.is_empty() && watchdog.is_some() {
                    tell(&[NotifyState::Watchdog]);
                    let now = SystemClock.now().to_timestamp().map_or(0, |now| now.as_second());
                    metrics::gauge!(metric::WATCHDOG_FED).set(now as f64);
                }
                silent = stuck;
            }
            _ = status.tick() => tell(&[NotifyState::Status(&line(*headline.borrow(), &silent))]),
        }
    }
}

/// Each change once, by name.
fn report(before: &BTreeSet<&'static str>, now: &BTreeSet<&'static str>, watchdog: Option<Duration>) {
    for stage in now.difference(before) {
        match watchdog {
            Some(limit) => tracing::error!(
                stage,
                watchdog_seconds = limit.as_secs(),
                "this stage gives no sign of life; the watchdog is not fed any more, and the service manager will start the daemon anew"
            ),
            None => tracing::error!(stage, "this stage gives no sign of life; restart the daemon, and keep its log"),
        }
    }
    for stage in before.difference(now) {
        tracing::info!(stage, "this stage goes round again");
    }
}

fn line(headline: Headline, silent: &BTreeSet<&'static str>) -> String {
    if silent.is_empty() {
        return headline.to_string();
    }
    let names: Vec<_> = silent.iter().copied().collect();
    format!("stuck: {}; {headline}", names.join(", "))
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_stuck_stands_before_the_numbers() {
        let headline = Headline { tenants: 3, unreadable: 1, worst_lag: Some(Duration::from_millis(4200)) };
        assert_eq!(line(headline, &BTreeSet::new()), "3 tenants, 1 not readable, worst lag 4 s");
        assert_eq!(line(headline, &["sink", "poller"].into()), "stuck: poller, sink; 3 tenants, 1 not readable, worst lag 4 s");
    }
}
