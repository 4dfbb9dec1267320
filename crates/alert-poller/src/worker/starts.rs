//! What is due, and starting it while there is room.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Ended, Outcome, Poller};
use crate::call::Caller;
use crate::feed::{FeedKey, Job, Work};
use crate::lanes::{Lane, Pass};
use crate::metrics;
use crate::poll::Poll;
use crate::reread::Rereading;
use crate::source::AlertSource;

/// While polls wait for a place, re-reads wait, too; but not for longer than this.
const POLLS_FIRST: Duration = Duration::from_secs(5 * 60);

impl<S: AlertSource> Poller<S> {
    /// When the first of a lane may begin: polls that wait for a place go before re-reads.
    fn first(&self, lane: Lane, now: Instant) -> Option<Instant> {
        let due = self.schedule.first(lane)?;
        let polls_wait = || !self.shared.lanes.has_room(Lane::Main) && self.schedule.first(Lane::Main).is_some_and(|due| due <= now);
        Some(if lane == Lane::Again && polls_wait() { due + POLLS_FIRST } else { due })
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        if self.hindrance().is_some() {
            return None; // A watch or the next beat will wake us.
        }
        let now = Instant::now();
        let with_room = Lane::ALL.into_iter().filter(|lane| self.shared.lanes.has_room(*lane));
        with_room.filter_map(|lane| self.first(lane, now)).min()
    }

    pub(super) fn start_due(&mut self) {
        let now = Instant::now();
        if self.hindrance().is_some() {
            return;
        }
        for lane in Lane::ALL {
            while self.first(lane, now).is_some_and(|due| due <= now) {
                let Some(pass) = self.shared.lanes.try_enter(lane) else { break };
                let Some((due, job)) = self.schedule.pop(lane, now) else { break };
                match job.work {
                    Work::Live => self.start_poll(job.feed, pass, due, now),
                    Work::Again => self.start_reread(job.feed, pass, due, now),
                }
            }
        }
    }

    fn start_poll(&mut self, key: FeedKey, pass: Pass, due: Instant, now: Instant) {
        let Some(caller) = self.caller(key, Work::Live, pass) else { return };
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let Some(feed) = entry.polling.feed.take() else { return };
        entry.polling.held_back = false;
        metrics::lateness(now - due);
        let poll = Poll { caller, feed, common: Arc::clone(&entry.common), began: self.shared.clock.now() };
        let (cancel, generation) = (entry.cancel.clone(), entry.generation);
        self.running.spawn(async move {
            let result = cancel.run_until_cancelled(poll.run()).await.map(|(feed, slow, end)| Outcome::Polled(feed, slow, end));
            Ended { feed: key, generation, due, started: now, result }
        });
    }

    fn start_reread(&mut self, key: FeedKey, pass: Pass, due: Instant, now: Instant) {
        let Some(caller) = self.caller(key, Work::Again, pass) else { return };
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let Some(mut memory) = entry.rereading.memory.take() else { return };
        let reachable = entry.polling.works;
        let (ladder, wall) = (&self.shared.config.ladder, self.shared.clock.now());
        memory.settle(wall);
        if !memory.is_stale() && memory.pick(ladder, key, wall, now, reachable).is_none() {
            let again = memory.look_again(ladder, key, wall, now);
            entry.rereading.memory = Some(memory);
            self.schedule.set(Job { feed: key, work: Work::Again }, Lane::Again, again, now);
            return;
        }
        let turn = Rereading { caller, again: memory, common: Arc::clone(&entry.common), reachable };
        let (cancel, generation) = (entry.cancel.clone(), entry.generation);
        self.running.spawn(async move {
            let result = cancel.run_until_cancelled(turn.run()).await.map(|(again, end)| Outcome::Reread(again, end));
            Ended { feed: key, generation, due, started: now, result }
        });
    }

    fn caller(&mut self, key: FeedKey, work: Work, pass: Pass) -> Option<Caller<S>> {
        let entry = self.entries.get(&key)?;
        let allowance = self.allowances.entry(key.tenant).or_default();
        let budgets = (Arc::clone(allowance), self.apps.of(&entry.tenant, &self.tenants));
        Some(Caller::new(Arc::clone(&self.shared), Arc::clone(&entry.tenant), key.source, work, pass, budgets))
    }
}
