//! The sink's loop: takes messages, keeps each feed in order, and shows how it fares.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use domain::health::StageStatus;
use domain::retry::Backoff;
use domain::{Clock, Refusal, SinkMessage, TenantId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::commit::{Committer, Step, Stop, Work};
use crate::config::{ASIDE, Config};
use crate::lanes::Lanes;
use crate::news::News;
use crate::store::{Feed, Item, Store};

/// Stores what the poller sends.
pub struct SinkWorker<S> {
    committer: Arc<Committer<S>>,
    inbox: mpsc::Receiver<SinkMessage>,
    status: watch::Sender<StageStatus>,
    lanes: Lanes<Work>,
    /// Feeds of which something was refused because we are stopping: nothing later of them may be stored,
    /// or its cursor would pass over what was refused (I1).
    closed: HashSet<Feed>,
    news: News,
    /// Whoever wants to know of whom something was stored.
    listener: Option<mpsc::Sender<TenantId>>,
    tasks: JoinSet<Done>,
    stop: Stop,
    flush: Flush,
}

/// When the news is written next.
struct Flush {
    due: Instant,
    running: bool,
    backoff: Backoff,
}

/// What a task of the worker came to.
enum Done {
    /// The batch of this feed is answered.
    Batch { feed: Feed, stopped: bool, stored: bool },
    /// The batch has to be tried again.
    Later { work: Box<Work>, pause: Duration, stuck: bool },
    /// The news is written, or comes back.
    Flushed { unwritten: Vec<Item>, failed: bool },
}

impl<S: Store> SinkWorker<S> {
    /// Takes its parts from the wiring; nothing runs before [`SinkWorker::run`].
    pub fn new(
        store: S,
        config: Config,
        clock: Arc<dyn Clock>,
        inbox: mpsc::Receiver<SinkMessage>,
        status: watch::Sender<StageStatus>,
    ) -> Self {
        let flush = Flush { due: Instant::now(), running: false, backoff: Backoff::new(config.progress_flush, config.max_delay) };
        Self {
            committer: Arc::new(Committer::new(store, config, clock)),
            inbox,
            status,
            lanes: Lanes::default(),
            closed: HashSet::new(),
            news: News::default(),
            listener: None,
            tasks: JoinSet::new(),
            stop: Stop::default(),
            flush,
        }
    }

    /// The same, telling of whom something was stored that had not been known. A word for which there is no room is not told.
    #[must_use]
    pub fn telling(self, listener: mpsc::Sender<TenantId>) -> Self {
        Self { listener: Some(listener), ..self }
    }

    /// Works until `stop` is cancelled or nobody can send any more. What was received by then is stored
    /// or, when the database is away or time is up, refused; the news is written; then it returns.
    ///
    /// # Errors
    /// When a task of it has died, in words; the process should end.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), String> {
        let mut beat = interval(self.committer.config.beat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut open = true;
        let mut deadline: Option<Instant> = None;
        loop {
            self.start_batches();
            let finishing = !open && self.lanes.held() == 0;
            if !self.flush.running && !self.news.is_empty() && finishing {
                self.start_flush();
            }
            if finishing && !self.flush.running {
                break;
            }
            let room = self.lanes.held() - self.lanes.aside().min(ASIDE) < self.committer.config.held();
            let pause_ends = self.lanes.next_due();
            let flush_due = self.flush.due;
            tokio::select! {
                biased;
                _ = beat.tick() => self.beat(),
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.done(done, finishing),
                    Err(error) => return Err(format!("a writer of the sink has died: {error}")),
                },
                () = stop.cancelled(), if deadline.is_none() => {
                    deadline = Some(Instant::now() + self.committer.config.stop_grace);
                    self.stop.asked.cancel();
                    self.inbox.close();
                    self.give_up_failed();
                }
                () = sleep_until(deadline.unwrap_or(flush_due)), if deadline.is_some() && !self.stop.now.is_cancelled() => {
                    tracing::warn!(count = self.lanes.held(), "no more time to store what was received; it will be read again");
                    self.stop.now.cancel();
                }
                () = sleep_until(flush_due), if !self.flush.running && !self.news.is_empty() => self.start_flush(),
                // The loop begins with those whose pause is over.
                () = sleep_until(pause_ends.unwrap_or(flush_due)), if pause_ends.is_some() => {}
                message = self.inbox.recv(), if open && room => match message {
                    Some(SinkMessage::Batch(batch)) => {
                        let work = self.committer.work(batch);
                        self.lanes.push(work.feed(), work);
                    }
                    Some(SinkMessage::Progress(news)) => self.news.add(news),
                    None => open = false,
                },
            }
        }
        self.beat();
        Ok(())
    }

    fn start_batches(&mut self) {
        self.lanes.wake(Instant::now());
        while self.lanes.busy() < self.committer.config.writers.max(1) {
            let Some((feed, mut work)) = self.lanes.start(self.committer.config.writers_for_stuck()) else { break };
            if self.closed.contains(&feed) {
                self.committer.give_up(work);
                self.lanes.finish(feed);
                continue;
            }
            let (committer, stop) = (Arc::clone(&self.committer), self.stop.clone());
            self.tasks.spawn(async move {
                match committer.batch(&mut work, &stop).await {
                    Step::Answer(outcome) => {
                        let stopped = outcome == Err(Refusal::Stopping);
                        let stored = outcome.as_ref().is_ok_and(|committed| committed.new + committed.updated > 0);
                        work.answer(outcome);
                        Done::Batch { feed, stopped, stored }
                    }
                    Step::Later { pause, stuck } => Done::Later { work: Box::new(work), pause, stuck },
                }
            });
        }
    }

    /// After a stop was asked for, what has failed is not tried again.
    fn give_up_failed(&mut self) {
        while let Some((feed, work)) = self.lanes.start_failed() {
            self.closed.insert(feed);
            self.committer.give_up(work);
            self.lanes.finish(feed);
        }
    }

    fn start_flush(&mut self) {
        self.flush.running = true;
        let items = self.news.take();
        let (committer, stop) = (Arc::clone(&self.committer), self.stop.clone());
        self.tasks.spawn(async move {
            match committer.news(&items, &stop).await {
                Ok(later) => {
                    let later: HashSet<usize> = later.into_iter().collect();
                    let unwritten = items.into_iter().enumerate().filter(|(at, _)| later.contains(at)).map(|(_, item)| item).collect();
                    Done::Flushed { unwritten, failed: false }
                }
                Err(_) => Done::Flushed { unwritten: items, failed: true },
            }
        });
    }

    fn done(&mut self, done: Done, finishing: bool) {
        match done {
            Done::Batch { feed, stopped, stored } => {
                if stopped {
                    self.closed.insert(feed);
                }
                if let Some(listener) = self.listener.as_ref().filter(|_| stored) {
                    let _ = listener.try_send(feed.tenant);
                }
                self.lanes.finish(feed);
            }
            Done::Later { work, pause, stuck } => {
                self.lanes.park(work.feed(), *work, Instant::now() + pause, stuck);
                if self.stop.asked.is_cancelled() {
                    self.give_up_failed();
                }
            }
            Done::Flushed { unwritten, failed } => {
                self.flush.running = false;
                let pause = if failed {
                    self.flush.backoff.next_delay(None)
                } else {
                    self.flush.backoff.reset();
                    self.committer.config.progress_flush
                };
                self.flush.due = Instant::now() + pause;
                // The last flush is not repeated: news is worth less than a prompt end.
                if !finishing {
                    self.news.put_back(unwritten);
                }
            }
        }
    }

    fn beat(&self) {
        let now = self.committer.clock.now();
        self.status.send_replace(match self.committer.outage.fault() {
            None => StageStatus::well(now),
            Some(fault) => StageStatus::faulty(now, fault),
        });
    }
}
