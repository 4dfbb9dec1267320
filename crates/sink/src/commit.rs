//! One batch, from received to committed or refused for good, however often the database has to be asked
//! and whoever has the writer in between.

use std::sync::Arc;
use std::time::Duration;

use domain::retry::Backoff;
use domain::{AlertBatch, Clock, Committed, Refusal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::metering;
use crate::outage::{Outage, Waiter, loggable};
use crate::parts::{Parts, sort};
use crate::store::{Feed, Item, Store, StoreError};
use crate::transaction;

/// Stores batches and news; shared by all writers.
pub(crate) struct Committer<S> {
    pub(crate) store: S,
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) outage: Outage,
}

/// How far a stop has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    /// What was received is still tried, but not again after a failure.
    pub(crate) asked: CancellationToken,
    /// Time is up: what is not committed is dropped.
    pub(crate) now: CancellationToken,
}

/// A batch and how far it has come.
#[derive(Debug)]
pub(crate) struct Work {
    batch: AlertBatch,
    parts: Parts,
    whole: Committed,
    backoff: Backoff,
    received: Instant,
}

impl Work {
    pub(crate) fn feed(&self) -> Feed {
        Feed { tenant: self.batch.fence.tenant, source: self.batch.source }
    }

    /// Tells the poller what became of it.
    pub(crate) fn answer(self, outcome: Result<Committed, Refusal>) {
        if outcome.is_ok() {
            metering::batch(self.received.elapsed());
        }
        // The poller may have given up waiting; then it reads the page again.
        let _ = self.batch.ack.send(outcome);
    }
}

/// What is to be done with a batch after it had a writer.
#[derive(Debug)]
pub(crate) enum Step {
    /// It is committed, or refused: [`Refusal::LeaseLost`] or [`Refusal::Stopping`]. When it is refused the
    /// cursor has not moved; parts of a batch that had to be cut may be stored all the same, and are
    /// duplicates when they come again.
    Answer(Result<Committed, Refusal>),
    /// It has to be tried again after a pause.
    Later {
        pause: Duration,
        /// The reason lies with this feed alone.
        stuck: bool,
    },
}

impl<S: Store> Committer<S> {
    pub(crate) fn new(store: S, config: Config, clock: Arc<dyn Clock>) -> Self {
        Self { store, config, clock, outage: Outage::default() }
    }

    /// Stores what is left of a batch until it is done or an attempt fails.
    ///
    /// It never sleeps: a batch that has to wait must not keep a writer from the other feeds.
    pub(crate) async fn batch(&self, work: &mut Work, stop: &Stop) -> Step {
        let feed = work.feed();
        let waiter = Waiter::Batch(feed);
        let outcome = loop {
            let Some(part) = work.parts.current().cloned() else { break Ok(std::mem::take(&mut work.whole)) };
            let sorted = sort(&work.batch, &part, work.parts.refused(), self.clock.now());
            // Who tries again takes nobody's word: what was in the way may be something that the short question does not see.
            let thorough = work.batch.purpose.is_thorough() || work.backoff.failures() > 0;
            let attempt = transaction::store(&self.store, &work.batch, &part, &sorted, self.clock.now(), thorough);
            let error = match self.bounded(stop, attempt).await {
                Ok(stored) => {
                    self.outage.served(waiter, self.clock.now());
                    work.backoff.reset();
                    metering::stored(&work.batch, &stored, self.clock.now());
                    add(&mut work.whole, stored.committed);
                    work.parts.stored();
                    continue;
                }
                Err(StoreError::LeaseLost) => break Err(Refusal::LeaseLost),
                Err(_) if stop.now.is_cancelled() => break Err(Refusal::Stopping),
                Err(error) => error,
            };
            if let StoreError::Data { code, message } = &error {
                let single = part.records.len() == 1;
                if work.parts.cut(&format!("the database refuses it ({code}): {message}")) {
                    if single {
                        tracing::warn!(tenant.id = %feed.tenant, source = %feed.source, error = %code, "the database refuses an alert; it goes to quarantine");
                    }
                    continue;
                }
            }
            tracing::debug!(tenant.id = %feed.tenant, source = %feed.source, error = %loggable(&error), "a batch could not be stored yet");
            if stop.asked.is_cancelled() {
                break Err(Refusal::Stopping);
            }
            self.outage.kept_waiting(waiter, &error, self.clock.now());
            return Step::Later { pause: work.backoff.next_delay(None), stuck: !error.concerns_everybody() };
        };
        match outcome {
            Err(Refusal::Stopping) => self.outage.given_up(waiter),
            _ => self.outage.served(waiter, self.clock.now()),
        }
        Step::Answer(outcome)
    }

    /// Begins with a batch that has just come in.
    pub(crate) fn work(&self, batch: AlertBatch) -> Work {
        Work {
            parts: Parts::whole(batch.records.len()),
            whole: Committed::default(),
            backoff: Backoff::new(self.config.first_delay, self.config.max_delay),
            received: Instant::now(),
            batch,
        }
    }

    /// A batch will not be tried any more.
    pub(crate) fn give_up(&self, work: Work) {
        self.outage.given_up(Waiter::Batch(work.feed()));
        work.answer(Err(Refusal::Stopping));
    }

    /// Writes news of feeds once, and says which of it has to be written later because somebody holds the row of its
    /// feed. The caller keeps all of it when this fails.
    ///
    /// # Errors
    /// Any [`StoreError`] but a lost lease: news of a lost lease is silently left out.
    pub(crate) async fn news(&self, items: &[Item], stop: &Stop) -> Result<Vec<usize>, StoreError> {
        match self.bounded(stop, self.store.note(items)).await {
            Ok(noted) => {
                self.outage.served(Waiter::News, self.clock.now());
                let passed_over = (items.len() as u64).saturating_sub(noted.written).saturating_sub(noted.later.len() as u64);
                if passed_over > 0 {
                    tracing::debug!(count = passed_over, "news of feeds whose lease is lost was passed over");
                }
                if !noted.later.is_empty() {
                    tracing::debug!(count = noted.later.len(), "news of feeds whose row somebody holds is written later");
                }
                Ok(noted.later)
            }
            // It would be refused every time, and with it the news of all other feeds.
            Err(StoreError::Data { code, .. }) => {
                tracing::error!(count = items.len(), error = %code, "the database refuses news of feeds; it is dropped");
                Ok(Vec::new())
            }
            Err(error) => {
                if !stop.now.is_cancelled() {
                    self.outage.kept_waiting(Waiter::News, &error, self.clock.now());
                }
                Err(error)
            }
        }
    }

    /// Ends an attempt that the database does not answer, or that a stop has no more time for.
    async fn bounded<T>(&self, stop: &Stop, attempt: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let limit = self.config.attempt_timeout();
        tokio::select! {
            biased;
            () = stop.now.cancelled() => Err(StoreError::Away("the daemon is stopping".into())),
            outcome = tokio::time::timeout(limit, attempt) => {
                outcome.unwrap_or_else(|_| Err(StoreError::Away(format!("no answer within {} seconds", limit.as_secs_f32()))))
            }
        }
    }
}

fn add(whole: &mut Committed, part: Committed) {
    whole.new += part.new;
    whole.updated += part.updated;
    whole.duplicate += part.duplicate;
    whole.quarantined += part.quarantined;
    whole.late += part.late;
    whole.void |= part.void;
}
