//! What is remembered of a feed between the turns that read it again: which re-reads there are, which one is due, and
//! the walk that is under way. The database has all of it that must last.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use domain::retry::Backoff;
use domain::{Axis, ContentHash, Errand, Reread, Ticks};
use tokio::time::Instant;
use vecmap::VecMap;

use crate::config::Ladder;
use crate::feed::FeedKey;
use crate::sizes::Sizes;
use crate::tally::Tally;
use crate::walk::Walk;

/// In this order they are worked through: what somebody waits for, what is missing for certain, what may be missing.
const ORDER: [Errand; 6] = [Errand::Replay, Errand::Reconcile, Errand::Backfill, Errand::Short, Errand::Long, Errand::Nightly];
/// The first delay after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The delay after failures grows to this.
const LONGEST_RETRY: Duration = Duration::from_secs(600);
/// What is due is looked at again after this at the latest, since the clock may have been set.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// A walk under way, and what it belongs to.
#[derive(Debug)]
pub(crate) struct Reading<L> {
    pub(crate) run: i64,
    pub(crate) axis: Axis,
    pub(crate) walk: Box<Walk<L>>,
}

/// An errand that has to wait while the others go on.
#[derive(Debug)]
struct Wait {
    until: Instant,
    backoff: Backoff,
}

/// A feed's memory for re-reading. It travels into each turn and comes back with its end.
#[derive(Debug)]
pub(crate) struct Again<L> {
    /// The latest of each errand.
    rows: VecMap<Errand, Reread>,
    /// How far each errand has come on record: its run, the axis and what is left there.
    on_record: VecMap<Errand, (i64, Axis, Ticks)>,
    /// The rows are those of the database, as far as known.
    loaded: bool,
    /// The walks under way. Each errand has its own: what one has learnt of a record that cannot be had must outlast the
    /// turns of the others.
    pub(crate) readings: VecMap<Errand, Reading<L>>,
    pub(crate) tallies: VecMap<Errand, Tally>,
    /// The run of each errand that is known to be on record as begun.
    pub(crate) opened: VecMap<Errand, i64>,
    /// What the replay under way has tried already.
    pub(crate) tried: HashSet<ContentHash>,
    pub(crate) sizes: Sizes,
    waits: VecMap<Errand, Wait>,
    /// Gaps that were alarmed already.
    gaps: BTreeSet<Ticks>,
}

impl<L> Default for Again<L> {
    fn default() -> Self {
        Self {
            rows: VecMap::new(),
            on_record: VecMap::new(),
            loaded: false,
            readings: VecMap::new(),
            tallies: VecMap::new(),
            opened: VecMap::new(),
            tried: HashSet::new(),
            sizes: Sizes::default(),
            waits: VecMap::new(),
            gaps: BTreeSet::new(),
        }
    }
}

impl<L> Again<L> {
    /// Whether the rows have to be read from the database.
    pub(crate) fn is_stale(&self) -> bool {
        !self.loaded
    }

    /// The database knows better: the rows are read again at the next turn.
    pub(crate) fn stale(&mut self) {
        self.loaded = false;
    }

    /// Takes the rows of the database. An end that was seen here is kept as it was seen, by our own clock: with a clock
    /// that is ahead of the database's, the same run would otherwise be due again and again.
    pub(crate) fn load(&mut self, rows: Vec<Reread>, now: Ticks) {
        self.on_record.clear();
        for row in rows {
            self.committed(&row);
            let known = self.rows.get(&row.errand).filter(|known| known.run == row.run).and_then(|known| known.finished_at);
            let finished_at = row.finished_at.map(|end| known.unwrap_or(end));
            self.rows.insert(row.errand, Reread { finished_at, ..row });
        }
        self.loaded = true;
        self.settle(now);
    }

    /// An end in the future is one before the clock was set back: it counts as now, or the errand would rest until then.
    pub(crate) fn settle(&mut self, now: Ticks) {
        for row in self.rows.values_mut() {
            row.finished_at = row.finished_at.map(|end| end.min(now));
        }
    }

    /// The latest re-read of this errand.
    pub(crate) fn row(&self, errand: Errand) -> Option<&Reread> {
        self.rows.get(&errand)
    }

    /// This is on record.
    pub(crate) fn committed(&mut self, row: &Reread) {
        self.on_record.insert(row.errand, (row.run, row.axis, row.left));
    }

    /// How far the run of this row has come on record. `None` while it is not there yet.
    pub(crate) fn before(&self, row: &Reread) -> Option<(Axis, Ticks)> {
        self.on_record.get(&row.errand).filter(|(run, ..)| *run == row.run).map(|(_, axis, left)| (*axis, *left))
    }

    /// This is so from now on.
    pub(crate) fn note(&mut self, row: Reread) {
        if row.finished_at.is_some() {
            self.close(row.errand);
            self.waits.remove(&row.errand);
        }
        self.rows.insert(row.errand, row);
    }

    /// Whether a gap is new here: every run that meets it reports it.
    pub(crate) fn is_new_gap(&mut self, at: Ticks) -> bool {
        const MOST: usize = 1000;
        if self.gaps.len() >= MOST {
            self.gaps.clear();
        }
        self.gaps.insert(at)
    }

    /// It has been cancelled, or begun anew by somebody else. The rows are read again.
    pub(crate) fn cancelled(&mut self, errand: Errand, now: Instant) {
        self.close(errand);
        self.loaded = false;
        // Whatever the rows say, this is no reason for haste.
        self.waits.insert(errand, Wait { until: now + FIRST_RETRY, backoff: backoff() });
    }

    fn close(&mut self, errand: Errand) {
        self.readings.remove(&errand);
        self.tallies.remove(&errand);
        if errand == Errand::Replay {
            self.tried.clear();
        }
    }

    /// It cannot go on now: the others may, and it later.
    pub(crate) fn failed(&mut self, errand: Errand, now: Instant) -> u32 {
        let wait = self.waits.entry(errand).or_insert_with(|| Wait { until: now, backoff: backoff() });
        wait.until = now + wait.backoff.next_delay(None);
        wait.backoff.failures()
    }

    /// How often it has failed in a row.
    pub(crate) fn failures(&self, errand: Errand) -> u32 {
        self.waits.get(&errand).map_or(0, |wait| wait.backoff.failures())
    }

    /// It goes on again.
    pub(crate) fn works(&mut self, errand: Errand) {
        self.waits.remove(&errand);
    }

    /// It has to wait for something of ours.
    pub(crate) fn rests(&mut self, errand: Errand, now: Instant) {
        self.waits.insert(errand, Wait { until: now + FIRST_RETRY, backoff: backoff() });
    }

    /// When an errand is due: now while it is open, otherwise when the clock says so. `None`: not by itself.
    fn due(&self, errand: Errand, ladder: &Ladder, feed: FeedKey, now: Ticks) -> Option<Ticks> {
        let of_the_clock = ladder.reach(errand).is_some();
        match self.rows.get(&errand) {
            Some(row) => match row.finished_at {
                None => (of_the_clock || !is_rung_or_nightly(errand)).then_some(now),
                Some(end) => ladder.due(errand, feed, end),
            },
            // Its clock is set going.
            None => of_the_clock.then_some(now),
        }
    }

    /// What is to be done now. While the source does not answer, only what needs no source.
    pub(crate) fn pick(&self, ladder: &Ladder, feed: FeedKey, now: Ticks, at: Instant, reachable: bool) -> Option<Errand> {
        ORDER.into_iter().filter(|errand| reachable || *errand == Errand::Replay).find(|errand| {
            self.due(*errand, ladder, feed, now).is_some_and(|due| due <= now) && self.waits.get(errand).is_none_or(|wait| wait.until <= at)
        })
    }

    /// When [`Again::pick`] is worth asking again, if it says no.
    pub(crate) fn look_again(&self, ladder: &Ladder, feed: FeedKey, now: Ticks, at: Instant) -> Instant {
        let due = ORDER.into_iter().filter_map(|errand| {
            let due = at + self.due(errand, ladder, feed, now)?.since(now).min(LOOK_AGAIN);
            Some(self.waits.get(&errand).map_or(due, |wait| due.max(wait.until)))
        });
        // What is due and yet not picked has to wait for something else.
        due.filter(|due| *due > at).min().unwrap_or(at + LOOK_AGAIN).min(at + LOOK_AGAIN)
    }
}

fn is_rung_or_nightly(errand: Errand) -> bool {
    errand.is_rung() || errand == Errand::Nightly
}

fn backoff() -> Backoff {
    Backoff::new(FIRST_RETRY, LONGEST_RETRY)
}

#[cfg(test)]
mod tests {
    use domain::{Source, TenantId};
    use proptest::prelude::*;

    use super::*;

    const NOW: Ticks = Ticks(17_500_000_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn feed() -> FeedKey {
        FeedKey { tenant: TenantId(uuid::Uuid::from_u128(7)), source: Source::GraphAlerts }
    }

    fn row(errand: Errand, run: i64, finished_at: Option<Ticks>) -> Reread {
        let from = NOW.minus(HOUR);
        Reread { errand, run, axis: Axis::Update, from, to: NOW, left: NOW, polled_before: NOW, finished_at }
    }

    fn with(rows: Vec<Reread>) -> Again<()> {
        let mut again = Again::default();
        again.load(rows, NOW);
        again
    }

    /// What is worked through from now on, each ended as soon as it is picked.
    fn worked_through(again: &mut Again<()>, reachable: bool) -> Vec<Errand> {
        let at = Instant::now();
        let mut picked = Vec::new();
        while let Some(errand) = again.pick(&Ladder::default(), feed(), NOW, at, reachable) {
            picked.push(errand);
            again.note(row(errand, 9, Some(NOW)));
        }
        picked
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_waits_for_goes_first_and_what_is_over_rests() {
        let open: Vec<_> = Errand::ALL.iter().map(|errand| row(*errand, 1, None)).collect();
        assert_eq!(worked_through(&mut with(open.clone()), true), ORDER);
        assert_eq!(worked_through(&mut with(open), false), [Errand::Replay], "the rest needs the source");
        let over = Errand::ALL.iter().map(|errand| row(*errand, 1, Some(NOW))).collect();
        assert_eq!(worked_through(&mut with(over), true), []);
        assert_eq!(
            worked_through(&mut with(Vec::new()), true),
            [Errand::Short, Errand::Long, Errand::Nightly],
            "their clocks are set going"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_lets_the_others_go_on_and_comes_back_later_and_later() {
        let mut again = with(vec![row(Errand::Backfill, 1, None), row(Errand::Reconcile, 1, None)]);
        let pick = |again: &Again<()>, at| again.pick(&Ladder { compare: None, ..Ladder::default() }, feed(), NOW, at, true);
        let mut at = Instant::now();
        for _ in 0..20 {
            assert_eq!(pick(&again, at), Some(Errand::Reconcile));
            again.failed(Errand::Reconcile, at);
            assert_eq!(pick(&again, at), Some(Errand::Backfill));
            at += LONGEST_RETRY;
        }
        assert_eq!(again.failed(Errand::Reconcile, at), 21);
        let wait = again.waits[&Errand::Reconcile].until - at;
        assert!(wait > LONGEST_RETRY / 4 && wait <= LONGEST_RETRY, "{wait:?}");
        again.works(Errand::Reconcile);
        assert_eq!(pick(&again, at), Some(Errand::Reconcile));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_errand_is_closed_and_the_rows_are_read_again() {
        let mut again = with(vec![row(Errand::Reconcile, 3, None)]);
        again.tallies.insert(Errand::Reconcile, Tally::new(3, NOW, NOW));
        again.cancelled(Errand::Reconcile, Instant::now());
        assert!(again.is_stale() && again.tallies.is_empty());
    }

    #[test]
    fn an_end_that_was_seen_here_is_not_moved_by_the_databases_clock() {
        let mut again = with(vec![row(Errand::Short, 3, None)]);
        again.note(row(Errand::Short, 3, Some(NOW.plus(HOUR))));
        again.load(vec![row(Errand::Short, 3, Some(NOW.minus(HOUR)))], NOW.plus(HOUR));
        assert_eq!(again.rows[&Errand::Short].finished_at, Some(NOW.plus(HOUR)));
        again.settle(NOW);
        assert_eq!(again.rows[&Errand::Short].finished_at, Some(NOW), "the clock was set back");
        again.load(vec![row(Errand::Short, 4, None)], NOW);
        assert_eq!(again.rows[&Errand::Short], row(Errand::Short, 4, None), "somebody has begun it anew");
    }

    proptest! {
        /// Hours of a life, in steps of some minutes, with a clock that is set by up to two hours now and then, and with
        /// processes that begin anew and read from the database, whose clock is right.
        #[test]
        fn whatever_is_done_to_the_clock_a_rung_neither_storms_nor_falls_silent(
            events in proptest::collection::vec((1_u64..20, -7200_i64..=7200, 0_u32..40), 200..400)) {
            tokio::runtime::Builder::new_current_thread().start_paused(true).enable_time().build().expect("it starts").block_on(async {
                let ladder = Ladder { compare: None, ..Ladder::default() };
                let (mut truth, mut offset, mut steps) = (NOW, 0_i64, 0_u32);
                let mut stored: Vec<Reread> = vec![row(Errand::Long, 1, Some(NOW))];
                let mut again = with(stored.clone());
                let (mut runs, mut last_run, mut longest) = (0_u32, NOW, Duration::ZERO);
                for (minutes, step, kind) in events {
                    tokio::time::advance(Duration::from_secs(60 * minutes)).await;
                    truth = truth.plus(Duration::from_secs(60 * minutes));
                    match kind {
                        0 => {
                            offset = step * 10_000_000;
                            steps += 1;
                        }
                        1 => {
                            again = with(stored.clone());
                            steps += 1;
                        }
                        _ => {}
                    }
                    let (now, at) = (Ticks(truth.0 + offset), Instant::now());
                    again.settle(now);
                    while let Some(errand) = again.pick(&ladder, feed(), now, at, true) {
                        let run = again.row(errand).map_or(1, |row| row.run + 1);
                        again.note(row(errand, run, Some(now)));
                        stored.retain(|row| row.errand != errand);
                        stored.push(row(errand, run, Some(truth)));
                        if errand == Errand::Short && run > 1 {
                            runs += 1;
                            longest = longest.max(truth.since(last_run));
                            last_run = truth;
                        }
                    }
                    let again_at = again.look_again(&ladder, feed(), now, at);
                    assert!(again_at > at && again_at <= at + LOOK_AGAIN, "it is looked at again soon, and never at once");
                }
                let hours = u32::try_from(truth.since(NOW).as_secs() / 3600).expect("fits");
                // Each step of the clock and each new process may bring a run forward.
                assert!(runs <= hours * 2 + steps * 2 + 2, "{runs} runs in {hours} hours with {steps} steps");
                let silence = HOUR * 2 + HOUR * 4;
                assert!(longest <= silence && truth.since(last_run) <= silence, "silent for {longest:?}");
            });
        }
    }
}
