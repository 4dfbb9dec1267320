//! Whether the database takes our writes: said once when it stops, once when it does again, and shown
//! in the status in between.
//!
//! The status stops the polling of every tenant, so it speaks only of what concerns every tenant. A feed
//! whose rows somebody has locked, or that the database fails over, is that feed's own trouble (I10): it
//! is logged once, and everybody else goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use domain::Ticks;

use crate::store::{Feed, StoreError};

/// So many attempts may lose a race before it is worth a word: a deadlock or two is daily life.
const RACES: u32 = 3;

/// Who is kept waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Waiter {
    /// A batch of this feed.
    Batch(Feed),
    /// The news of all feeds.
    News,
}

/// The outage, if there is one. It begins with the first who is kept waiting by something that concerns
/// everybody, and ends when nobody is.
#[derive(Debug, Default)]
pub(crate) struct Outage(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiters: BTreeSet<Waiter>,
    since: Option<Ticks>,
    fault: Option<String>,
    /// Who has trouble of its own, and how many attempts it has cost.
    stuck: BTreeMap<Waiter, Trouble>,
}

#[derive(Debug, Default)]
struct Trouble {
    attempts: u32,
    told: bool,
}

impl Outage {
    /// An attempt failed and will be made again.
    pub(crate) fn kept_waiting(&self, who: Waiter, error: &StoreError, now: Ticks) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !error.concerns_everybody() {
            // This is an answer: whatever it is, the database is there.
            state.no_longer_waits(who, now);
            state.stuck.entry(who).or_default().lost(who, error);
            return;
        }
        let begins = state.waiters.is_empty();
        state.waiters.insert(who);
        let since = *state.since.get_or_insert(now);
        state.fault = Some(match error {
            StoreError::Away(reason) => format!("the database cannot be reached since {since}: {reason}"),
            other => format!("nothing can be stored since {since}: {other}"),
        });
        if begins {
            tracing::warn!(error = loggable(error), "storing has stopped; what was received is kept and tried again until it works");
        }
    }

    /// It is not tried any more because we stop. Whether the database takes it is as unknown as before.
    pub(crate) fn given_up(&self, who: Waiter) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.stuck.remove(&who);
        if state.waiters.remove(&who) && state.waiters.is_empty() {
            tracing::warn!("stopped before the database took anything again; what was not stored is read again after the next start");
        }
    }

    /// It worked, or the database gave another answer.
    pub(crate) fn served(&self, who: Waiter, now: Ticks) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.no_longer_waits(who, now);
        if state.stuck.remove(&who).is_some_and(|trouble| trouble.told) {
            match who {
                Waiter::Batch(feed) => tracing::info!(tenant.id = %feed.tenant, source = %feed.source, "this feed is no longer stuck"),
                Waiter::News => tracing::info!("news of feeds is no longer stuck"),
            }
        }
    }

    /// What the status says about it.
    pub(crate) fn fault(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fault.clone()
    }
}

impl State {
    fn no_longer_waits(&mut self, who: Waiter, now: Ticks) {
        if self.waiters.remove(&who) && self.waiters.is_empty() {
            let lasted = self.since.take().map(|since| now.since(since));
            self.fault = None;
            tracing::info!(duration_ms = lasted.map(|lasted| lasted.as_millis()), "storing goes on");
        }
    }
}

impl Trouble {
    /// Counts a lost attempt, and speaks up once when it is more than bad luck.
    fn lost(&mut self, who: Waiter, error: &StoreError) {
        self.attempts = self.attempts.saturating_add(1);
        let bad_luck = matches!(error, StoreError::Contention(_)) && self.attempts < RACES;
        if bad_luck || std::mem::replace(&mut self.told, true) {
            return;
        }
        let error = loggable(error);
        match who {
            Waiter::Batch(feed) => tracing::warn!(
                tenant.id = %feed.tenant,
                source = %feed.source,
                error,
                "what was received of this feed cannot be stored yet; it is tried again until it works, and the others go on"
            ),
            Waiter::News => tracing::warn!(error, "news of feeds cannot be written yet; it is tried again, and alerts are stored"),
        }
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
    fn a_stop_during_an_outage_ends_nothing_and_says_so() {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            let outage = Outage::default();
            outage.kept_waiting(waiter(1), &away(), Ticks(0));
            outage.kept_waiting(waiter(2), &away(), Ticks(0));
            outage.given_up(waiter(1));
            outage.given_up(waiter(2));
            assert!(outage.fault().is_some());
            Outage::default().given_up(waiter(1));
        });
        assert_eq!(*log.0.lock().unwrap(), [tracing::Level::WARN, tracing::Level::WARN], "not that storing goes on");
    }

    #[test]
    fn words_about_data_stay_out_of_logs_and_status() {
        let error = StoreError::Data { code: "22021".into(), message: "secret body".into() };
        assert!(!loggable(&error).contains("secret"));
    }

    fn locked() -> StoreError {
        StoreError::Contention("canceling statement due to lock timeout".into())
    }

    #[test]
    fn a_feeds_own_trouble_is_told_once_and_is_no_outage() {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            let outage = Outage::default();
            for _ in 0..RACES - 1 {
                outage.kept_waiting(waiter(1), &locked(), Ticks(0));
                outage.kept_waiting(waiter(3), &locked(), Ticks(0));
            }
            outage.served(waiter(3), Ticks(0));
            assert!(log.0.lock().unwrap().is_empty(), "a lost race is not worth a word");
            for _ in 0..50 {
                outage.kept_waiting(waiter(1), &locked(), Ticks(0));
                outage.kept_waiting(waiter(2), &StoreError::Data { code: "22021".into(), message: "secret body".into() }, Ticks(0));
                outage.kept_waiting(waiter(2), &StoreError::Stumbled("XX001".into()), Ticks(0));
                assert_eq!(outage.fault(), None);
            }
            outage.served(waiter(1), Ticks(1));
        });
        assert_eq!(*log.0.lock().unwrap(), [tracing::Level::WARN, tracing::Level::WARN, tracing::Level::INFO]);
    }

    #[test]
    fn an_answer_of_any_kind_ends_the_outage() {
        let outage = Outage::default();
        outage.kept_waiting(waiter(1), &away(), Ticks(0));
        assert!(outage.fault().is_some());
        outage.kept_waiting(waiter(1), &locked(), Ticks(1));
        assert_eq!(outage.fault(), None);
    }
}
