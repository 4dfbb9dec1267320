//! Whether the database takes our writes: said once when it stops, once when it does again, and shown
//! in the status in between.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use domain::Ticks;

use crate::error::StoreError;
use crate::lanes::Feed;

/// Who is kept waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Waiter {
    /// A batch of this feed.
    Batch(Feed),
    /// The news of all feeds.
    News,
}

/// The outage, if there is one. It begins with the first who is kept waiting and ends when nobody is.
#[derive(Debug, Default)]
pub(crate) struct Outage(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiters: BTreeSet<Waiter>,
    since: Option<Ticks>,
    fault: Option<String>,
}

impl Outage {
    /// An attempt failed and will be made again.
    pub(crate) fn kept_waiting(&self, who: Waiter, error: &StoreError, now: Ticks) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = state.waiters.is_empty();
        state.waiters.insert(who);
        let since = *state.since.get_or_insert(now);
        state.fault = Some(match error {
            StoreError::Away(reason) => format!("the database cannot be reached since {since}: {reason}"),
            StoreError::Data { code, .. } => format!("the database refuses since {since} what is no fault of a record: SQLSTATE {code}"),
            other => format!("nothing could be stored for some feeds since {since}: {other}"),
        });
        if begins {
            tracing::warn!(error = loggable(error), "storing has stopped; what was received is kept and tried again until it works");
        }
    }

    /// It worked, or is not tried any more.
    pub(crate) fn served(&self, who: Waiter, now: Ticks) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waiters.remove(&who) && state.waiters.is_empty() {
            let lasted = state.since.take().map(|since| now.since(since));
            state.fault = None;
            tracing::info!(duration_ms = lasted.map(|lasted| lasted.as_millis()), "storing goes on");
        }
    }

    /// What the status says about it.
    pub(crate) fn fault(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fault.clone()
    }
}

/// What may be written to a log: never the database's words about data, which may quote it.
pub(crate) fn loggable(error: &StoreError) -> String {
    match error {
        StoreError::Data { code, .. } => format!("the database refuses the data ({code})"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use domain::{Source, TenantId};
    use uuid::Uuid;

    use super::*;

    fn waiter(number: u128) -> Waiter {
        Waiter::Batch(Feed { tenant: TenantId(Uuid::from_u128(number)), source: Source::GraphAlerts })
    }

    fn away() -> StoreError {
        StoreError::Away("connection refused".into())
    }

    #[test]
    fn an_outage_lasts_from_the_first_kept_waiting_to_the_last_served() {
        let outage = Outage::default();
        assert_eq!(outage.fault(), None);
        outage.kept_waiting(waiter(1), &away(), Ticks(0));
        outage.kept_waiting(Waiter::News, &away(), Ticks(10_000_000));
        outage.served(waiter(1), Ticks(20_000_000));
        outage.served(waiter(2), Ticks(20_000_000));
        let fault = outage.fault().unwrap();
        assert_eq!(fault, "the database cannot be reached since 1970-01-01T00:00:00.0000000Z: connection refused");
        outage.served(Waiter::News, Ticks(30_000_000));
        assert_eq!(outage.fault(), None);
    }

    /// Counts what is logged, by level.
    #[derive(Clone, Default)]
    struct Log(std::sync::Arc<Mutex<Vec<tracing::Level>>>);

    impl tracing::Subscriber for Log {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            self.0.lock().unwrap().push(*event.metadata().level());
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    #[test]
    fn an_outage_is_logged_once_and_so_is_its_end_however_many_attempts_it_takes() {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            let outage = Outage::default();
            for round in 0..50 {
                outage.kept_waiting(waiter(round % 3), &away(), Ticks(0));
            }
            for round in 0..50 {
                outage.served(waiter(round % 3), Ticks(1));
            }
        });
        assert_eq!(*log.0.lock().unwrap(), [tracing::Level::WARN, tracing::Level::INFO]);
    }

    #[test]
    fn words_about_data_stay_out_of_logs_and_status() {
        let error = StoreError::Data { code: "22021".into(), message: "secret body".into() };
        assert!(!loggable(&error).contains("secret"));
        let outage = Outage::default();
        outage.kept_waiting(waiter(1), &error, Ticks(0));
        assert!(!outage.fault().unwrap().contains("secret"));
    }
}
