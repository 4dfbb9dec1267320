//! A store as the sink would keep it, and a driver that lets walks loose on a [`Model`] and holds them to their
//! promises.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::{Axis, Errand, FeedState, GapKind, Order, Reread, Ticks};

use super::model::{Answer, FACETS, Link, Model, ModelRow, NOW};
use crate::source::Manner;
use crate::walk::{Learnt, Reaction, Rules, Step, Walk};

/// More questions than any story needs.
pub(super) const PLENTY: usize = 20_000;
/// Between two polls.
const INTERVAL: Duration = Duration::from_secs(30);

pub(super) fn rules(page_size: u32, max_skip: u32, can_order: bool) -> Rules {
    Rules {
        manner: Manner { max_page: 1000, max_skip, can_order, facets: FACETS },
        page_size,
        overlap: Duration::from_secs(15 * 60),
        first_sync: Duration::from_secs(30 * 86_400),
    }
}

/// What is stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) state: FeedState,
    pub(super) records: BTreeSet<(u32, Ticks)>,
    pub(super) gaps: BTreeMap<Ticks, GapKind>,
    /// How long after `NOW` it is, by both clocks.
    pub(super) later: Duration,
    /// How many failures in a walk are waited out.
    pub(super) patience: usize,
    /// Promises that were broken.
    pub(super) broken: Vec<String>,
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    GaveUp,
    /// After as many questions as were allowed.
    Interrupted,
}

impl Store {
    /// One that finds a feed that was read by windows.
    pub(super) fn by_windows() -> Self {
        Self { state: FeedState { order: Order::Windows, ..FeedState::default() }, ..Self::default() }
    }

    /// Polls once, checking at every step that the cursor passes nothing that is not stored (I1).
    pub(super) fn walk(&mut self, model: &mut Model, rules: Rules, learnt: &mut Learnt, questions: usize) -> Ended {
        let mut walk = Walk::new(&self.state, rules, NOW.plus(self.later), learnt);
        let (start, began) = (walk.start, model.asked);
        self.drive(&mut walk, model, learnt, questions, |store, step, model| store.commit_poll(step, model, start, began))
    }

    /// Reads again, on the axis on which it stands, checking at every step that nothing is passed over.
    pub(super) fn reread(&mut self, reread: &mut Reread, model: &mut Model, rules: Rules, learnt: &mut Learnt, questions: usize) -> Ended {
        let mut walk = Walk::reread(reread, rules, NOW.plus(self.later), learnt);
        if walk.is_done() {
            return Ended::Done;
        }
        let mut began = model.asked;
        self.drive(&mut walk, model, learnt, questions, |store, step, model| {
            if store.commit_reread(step, model, reread, began) {
                began = model.asked;
            }
        })
    }

    fn drive(
        &mut self,
        walk: &mut Walk<Link>,
        model: &mut Model,
        learnt: &mut Learnt,
        questions: usize,
        mut commit: impl FnMut(&mut Self, &Step, &Model),
    ) -> Ended {
        let last = model.asked + questions;
        let mut failures = 0;
        while model.asked < last {
            let now = NOW.plus(self.later);
            let query = walk.query(learnt);
            let step = match model.answer(&query) {
                Ok(Answer { records, next, rows }) => {
                    self.records.extend(rows.iter().map(|row| (row.id, row.stamp)));
                    walk.answer(&records, next, Some(now), now, learnt)
                }
                Err(kind) => match walk.failed(&kind, now, learnt) {
                    Reaction::Adapted(step) => step,
                    Reaction::GiveUp if failures < self.patience => {
                        failures += 1;
                        self.later += INTERVAL;
                        continue;
                    }
                    Reaction::GiveUp => return Ended::GaveUp,
                },
            };
            if walk.live {
                self.state.order = walk.order();
            }
            self.gaps.extend(step.gaps.iter().map(|gap| (gap.from, gap.kind)));
            commit(self, &step, model);
            if step.done {
                return Ended::Done;
            }
        }
        Ended::Interrupted
    }

    fn commit_poll(&mut self, step: &Step, model: &Model, start: Ticks, began: usize) {
        let Some(watermark) = step.watermark else { return };
        if self.state.watermark >= Some(watermark) {
            self.broken.push(format!("the cursor fell to {watermark}"));
        }
        if watermark > NOW.plus(self.later + Duration::from_secs(1)) {
            self.broken.push(format!("the cursor passed the ceiling: {watermark}"));
        }
        if step.left.is_some() || step.whole.is_some() {
            self.broken.push("a poll is no re-read".to_owned());
        }
        self.state.watermark = Some(watermark);
        // What became visible in the middle of the walk, behind it, is for the next one.
        let passed = |row: &&ModelRow| row.since <= began && row.stamp >= start && row.stamp < watermark;
        for row in model.rows.iter().filter(passed).filter(|row| !self.has(row)).collect::<Vec<_>>() {
            self.broken.push(format!("the cursor passed {row:?}, which is neither stored nor in a gap"));
        }
    }

    /// Whether it has moved.
    fn commit_reread(&mut self, step: &Step, model: &Model, reread: &mut Reread, began: usize) -> bool {
        let before = reread.left;
        if step.watermark.is_some() {
            self.broken.push("a re-read moves no cursor".to_owned());
        }
        let Some(left) = step.left else {
            if step.whole.is_some() || (step.done && before != reread.from) {
                self.broken.push(format!("{step:?} with {reread:?}"));
            }
            return false;
        };
        reread.left = left;
        if left >= before || left < reread.from || (step.done != (left == reread.from)) {
            self.broken.push(format!("from {before} to {left} in {reread:?}, done: {}", step.done));
        }
        if step.whole.is_some_and(|whole| whole != (left, before)) {
            self.broken.push(format!("{:?} is not what was read before {before}", step.whole));
        }
        if let Some((from, to)) = step.whole {
            self.gaps.retain(|at, kind| *at < from || *at >= to || *kind == GapKind::Expired);
        }
        // What changed or became visible while this window was being read is for polling.
        let inside = |row: &&ModelRow| row.since <= began && row.stamp_on(reread.axis) >= left && row.stamp_on(reread.axis) < before;
        for row in model.rows.iter().filter(inside) {
            let in_gap = self.gaps.contains_key(&row.stamp_on(reread.axis));
            if !self.records.contains(&(row.id, row.stamp)) && !in_gap {
                self.broken.push(format!("{before} to {left} on {} left out {row:?}", reread.axis));
            }
        }
        true
    }

    /// Whether the row is accounted for.
    pub(super) fn has(&self, row: &ModelRow) -> bool {
        self.records.contains(&(row.id, row.stamp)) || self.gaps.contains_key(&row.stamp)
    }

    /// The rows at the source that are not accounted for.
    pub(super) fn missing(&self, model: &Model) -> Vec<ModelRow> {
        model.rows.iter().filter(|row| !self.has(row)).copied().collect()
    }

    /// Whether every promise was kept.
    pub(super) fn is_kept(&self) -> Result<(), String> {
        if self.broken.is_empty() { Ok(()) } else { Err(self.broken.join("; ")) }
    }
}

/// A re-read of `[from, to)`.
pub(super) fn stretch(axis: Axis, from: Ticks, to: Ticks) -> Reread {
    Reread { errand: Errand::Backfill, run: 1, axis, from, to, left: to, polled_before: to, finished_at: None }
}

/// Polls to the end and says how many questions it took.
pub(super) fn read(store: &mut Store, model: &mut Model, learnt: &mut Learnt) -> usize {
    let before = model.asked;
    assert_eq!(store.walk(model, rules(1000, model.max_skip, true), learnt, PLENTY), Ended::Done);
    assert_eq!(store.is_kept(), Ok(()));
    model.asked - before
}

/// Reads again to the end and says how many questions it took.
pub(super) fn read_again(store: &mut Store, model: &mut Model, learnt: &mut Learnt, axis: Axis, from: Ticks, to: Ticks) -> usize {
    let before = model.asked;
    let mut reread = stretch(axis, from, to);
    assert_eq!(store.reread(&mut reread, model, rules(1000, model.max_skip, true), learnt, PLENTY), Ended::Done);
    assert_eq!(store.is_kept(), Ok(()));
    assert_eq!(reread.left, from);
    model.asked - before
}
