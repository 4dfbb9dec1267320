//! The end of a turn, and when the feed is due again.

use std::time::Duration;

use domain::Source;
use domain::retry::Backoff;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::{Ended, Entry, Outcome, Poller};
use crate::again::Again;
use crate::end::End;
use crate::feed::{Feed, FeedKey, Job, Work};
use crate::lanes::Lane;
use crate::pace::Polled;
use crate::source::AlertSource;

/// The first delay after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The delay after failures grows to this, or to the interval if that is longer.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// A source that this version does not read is mentioned this often.
const UNSUPPORTED: Duration = Duration::from_secs(3600);
/// Nobody takes alerts.
const SINK_GONE: &str = "nobody takes alerts any more";

/// Why polling makes no sense any more.
pub(super) enum Fatal {
    /// Somebody is gone.
    Gone(&'static str),
    /// A turn has died.
    Died(JoinError),
}

impl<S: AlertSource> Poller<S> {
    /// Takes the end of a turn, and of all that have ended since.
    pub(super) fn take_ends(&mut self, first: Result<Ended<S::Link>, JoinError>) -> Result<(), Fatal> {
        let mut next = Some(first);
        while let Some(ended) = next {
            self.take_end(ended.map_err(Fatal::Died)?).map_err(Fatal::Gone)?;
            next = self.running.try_join_next();
        }
        Ok(())
    }

    /// Says when the feed is due again.
    fn take_end(&mut self, ended: Ended<S::Link>) -> Result<(), &'static str> {
        let Ended { feed: key, generation, due, started, result } = ended;
        if self.entries.get(&key).is_none_or(|entry| entry.generation != generation) {
            return Ok(());
        }
        match result {
            None => Ok(()),
            Some(Outcome::Polled(feed, was_slow, end)) => self.take_poll(key, feed, was_slow, end, (due, started)),
            Some(Outcome::Reread(again, end)) => self.take_reread(key, again, end, started),
        }
    }

    fn take_poll(
        &mut self,
        key: FeedKey,
        mut feed: Feed<S::Link>,
        was_slow: bool,
        end: End,
        (due, started): (Instant, Instant),
    ) -> Result<(), &'static str> {
        let news = self.news(key);
        let Some(entry) = self.entries.get_mut(&key) else { return Ok(()) };
        let doubted = std::mem::take(&mut entry.polling.doubted);
        if doubted {
            feed.doubt();
        }
        if doubted || end == End::Void {
            entry.forget_marks();
        }
        let polling = &mut entry.polling;
        polling.feed = Some(feed);
        let config = &self.shared.config;
        let now = Instant::now();
        if matches!(end, End::CaughtUp | End::More) {
            polling.backoff = None;
        }
        polling.tried = true;
        let worked = polling.works;
        polling.works = match end {
            End::CaughtUp | End::More => true,
            // Nobody asked the source, or nobody can tell yet.
            End::NotBefore(_) | End::StoreAway | End::Crowded | End::AwaitsPoll | End::Searching => polling.works,
            End::NoToken(_) | End::Failed { .. } | End::Unsupported | End::Void | End::SinkGone => false,
        };
        let longest = LONGEST_RETRY.max(config.interval);
        let mut delay = |retry_after| delay(&mut polling.backoff, longest, retry_after);
        let mut lane = if was_slow { Lane::Slow } else { Lane::Main };
        let due = match end {
            End::CaughtUp => {
                let first = !std::mem::replace(&mut polling.placed, true);
                config.next(Polled { due, started, first, news }, self.chance.as_ref()).max(now)
            }
            End::More | End::AwaitsPoll | End::Searching => now,
            End::Crowded => {
                lane = Lane::Slow;
                now
            }
            End::NotBefore(_) if started < self.limits_since => now,
            End::NotBefore(wait) => {
                polling.held_back = true;
                now + wait
            }
            // Looked at again at every interval at least: asking is cheap, the token source remembers.
            End::NoToken(wait) => now + wait.max(FIRST_RETRY).min(config.interval),
            End::Failed { retry_after, .. } => {
                polling.held_back = retry_after.is_some();
                now + delay(retry_after)
            }
            End::StoreAway => now + delay(None),
            End::Unsupported => now + UNSUPPORTED,
            // The next word about tenants takes it away, or it begins anew from what is committed.
            End::Void => now + FIRST_RETRY.max(config.interval / 10),
            End::SinkGone => return Err(SINK_GONE),
        };
        let recovered = polling.works && !worked;
        self.schedule.set(Job { feed: key, work: Work::Live }, lane, due, now);
        if recovered {
            // They rest while polling fails.
            self.schedule.hasten(Job { feed: key, work: Work::Again }, now, now);
        }
        self.begin_rereads(key, now);
        if news >= started {
            self.rouse(key, now);
        }
        Ok(())
    }

    /// When something last happened at this customer, or when it came to us.
    fn news(&self, key: FeedKey) -> Instant {
        self.feeds_of(key).filter_map(|(_, entry)| entry.common.news().max(Some(entry.since))).max().unwrap_or_else(Instant::now)
    }

    /// Something has happened at this customer: none of its feeds waits for longer than the usual interval.
    fn rouse(&mut self, key: FeedKey, now: Instant) {
        let config = &self.shared.config;
        if config.longest_interval() == config.interval {
            return;
        }
        let well: Vec<FeedKey> =
            self.feeds_of(key).filter(|(_, entry)| entry.polling.works && !entry.polling.held_back).map(|(feed, _)| *feed).collect();
        for feed in well {
            self.schedule.hasten(Job { feed, work: Work::Live }, now + self.chance.around(config.interval, 0.1), now);
        }
    }

    /// The feeds of the customer whose feed this is.
    fn feeds_of(&self, key: FeedKey) -> impl Iterator<Item = (&FeedKey, &Box<Entry<S::Link>>)> {
        Source::ALL.iter().filter_map(move |source| self.entries.get_key_value(&FeedKey { source: *source, ..key }))
    }

    /// As soon as polling has begun, there is something to read again.
    fn begin_rereads(&mut self, feed: FeedKey, now: Instant) {
        let spread = self.spread(self.entries.len());
        let Some(entry) = self.entries.get_mut(&feed) else { return };
        if !entry.rereading.begun && entry.common.watermark().is_some() {
            entry.rereading.begun = true;
            let due = now + self.chance.between(Duration::ZERO, spread);
            self.schedule.set(Job { feed, work: Work::Again }, Lane::Again, due, now);
        }
    }

    fn take_reread(&mut self, key: FeedKey, mut again: Again<S::Link>, end: End, started: Instant) -> Result<(), &'static str> {
        let Some(entry) = self.entries.get_mut(&key) else { return Ok(()) };
        let rereading = &mut entry.rereading;
        if std::mem::take(&mut rereading.stale) {
            again.stale();
        }
        let (config, now, wall) = (&self.shared.config, Instant::now(), self.shared.clock.now());
        let job = |work| Job { feed: key, work };
        if end == End::AwaitsPoll && entry.polling.works && !entry.polling.held_back {
            self.schedule.hasten(job(Work::Live), now, now);
        }
        // One errand that fails holds up none of the others. And while a turn that began without the source went on, polling may
        // have come back to it.
        let source_is_there = entry.common.watermark().is_some() && entry.polling.works;
        let goes_on = source_is_there && again.pick(&config.ladder, key, wall, now, true).is_some();
        let due = match end {
            // Something may have been asked for in the meantime.
            End::CaughtUp | End::AwaitsPoll | End::Failed { .. } if again.is_stale() || goes_on => now,
            End::CaughtUp | End::AwaitsPoll | End::Failed { .. } => again.look_again(&config.ladder, key, wall, now),
            End::More | End::Crowded | End::Searching => now,
            End::NotBefore(_) if started < self.limits_since => now,
            End::NotBefore(wait) => now + wait,
            End::NoToken(wait) => now + wait.max(FIRST_RETRY).min(config.interval),
            End::StoreAway => now + delay(&mut rereading.backoff, LONGEST_RETRY.max(config.interval), None),
            End::Unsupported => now + UNSUPPORTED,
            End::Void => now + FIRST_RETRY.max(config.interval / 10),
            End::SinkGone => return Err(SINK_GONE),
        };
        if end != End::StoreAway {
            rereading.backoff = None;
        }
        rereading.memory = Some(again);
        self.schedule.set(job(Work::Again), Lane::Again, due, now);
        if self.news(key) >= started {
            self.rouse(key, now);
        }
        Ok(())
    }
}

/// The next of growing delays.
fn delay(backoff: &mut Option<Box<Backoff>>, longest: Duration, retry_after: Option<Duration>) -> Duration {
    backoff.get_or_insert_with(|| Box::new(Backoff::new(FIRST_RETRY, longest))).next_delay(retry_after)
}
