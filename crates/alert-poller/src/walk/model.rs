//! A pretend source in memory, honest or nasty in every way that we know of, and a driver that lets a walk
//! loose on it and holds it to its promises.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use domain::{AlertFacts, AlertId, AlertRecord, ContentHash, FeedState, Order, Poison, Record, Ticks};
use microsoft::{ApiErrorKind, WindowQuery};

use super::{Learnt, Reaction, Rules, Step, Walk};
use crate::source::{Manner, Query};

pub(super) const NOW: Ticks = Ticks(17_500_000_000_000_000);

/// One alert as the source has it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ModelRow {
    pub(super) id: u32,
    pub(super) stamp: Ticks,
    /// The source knows the stamp; we cannot read what it sends.
    pub(super) unreadable: bool,
}

/// In which order it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    /// Oldest first when asked to, else newest first.
    AsAsked,
    /// Whatever is asked.
    NewestFirst,
    /// In no order, the same each time.
    Scrambled,
    /// 400 to `$orderby`.
    RefusingOrder,
}

/// What it says about further pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    None,
    Honest,
    /// There is always one; after the last page it leads to empty ones.
    Always,
    /// There is always one, and it leads back to the same page.
    Circle,
    /// They are there, and dead when followed.
    Expired,
    /// There is always one, and it leads to another host.
    Foreign,
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) rows: Vec<ModelRow>,
    pub(super) answers: Answers,
    pub(super) links: Links,
    /// Records per page, whatever is asked for.
    pub(super) clamp: usize,
    pub(super) heeds_skip: bool,
    /// Before the question of this number, this row is updated to a stamp after `NOW`.
    pub(super) updates: BTreeMap<usize, usize>,
    /// How updated rows stood before.
    pub(super) past: Vec<ModelRow>,
    /// A page that has a link may be of any length.
    pub(super) ragged: bool,
    /// Records with these ids are too large for any page.
    pub(super) giants: BTreeSet<u32>,
    pub(super) max_skip: u32,
    pub(super) asked: usize,
}

/// A link is a question with a place in its answer.
pub(super) type Link = (WindowQuery, usize);

impl Model {
    pub(super) fn honest(rows: Vec<ModelRow>) -> Self {
        Self {
            rows,
            answers: Answers::AsAsked,
            links: Links::None,
            clamp: 1000,
            heeds_skip: true,
            updates: BTreeMap::new(),
            past: Vec::new(),
            ragged: false,
            giants: BTreeSet::new(),
            max_skip: 500,
            asked: 0,
        }
    }

    fn answer(&mut self, query: &Query<Link>) -> Result<(Vec<ModelRow>, Option<Link>), ApiErrorKind> {
        self.asked += 1;
        if let Some(row) = self.updates.remove(&self.asked)
            && let Some(row) = self.rows.get_mut(row)
        {
            self.past.push(*row);
            row.stamp = NOW.plus(Duration::from_secs(u64::try_from(self.asked).unwrap_or(0)));
        }
        let (window, place) = match query {
            Query::Next(_) if self.links == Links::Expired => return Err(ApiErrorKind::SkipExpired),
            Query::Next(_) if self.links == Links::Foreign => return Err(ApiErrorKind::ForeignNextLink),
            Query::Next((window, place)) => (*window, *place),
            Query::Window(window) if window.ordered && self.answers == Answers::RefusingOrder => return Err(ApiErrorKind::OrderRefused),
            Query::Window(window) if window.skip > self.max_skip => return Err(ApiErrorKind::Refused),
            Query::Window(window) => {
                let skip = if self.heeds_skip { window.skip } else { 0 };
                (*window, usize::try_from(skip).unwrap_or(0))
            }
        };
        let mut rows: Vec<_> = self
            .rows
            .iter()
            .copied()
            .filter(|row| row.stamp >= window.from && window.before.is_none_or(|before| row.stamp < before))
            .collect();
        match self.answers {
            Answers::AsAsked if window.ordered => rows.sort_by_key(|row| (row.stamp, row.id)),
            Answers::Scrambled => rows.sort_by_key(|row| ContentHash::of(&row.id.to_be_bytes()).0),
            _ => rows.sort_by_key(|row| (std::cmp::Reverse(row.stamp), row.id)),
        }
        let mut size = self.clamp.min(usize::try_from(window.top).unwrap_or(usize::MAX));
        if self.ragged {
            let dice = ContentHash::of(format!("{window:?} {place}").as_bytes()).0[0];
            size = 1 + usize::from(dice) % size;
        }
        let page: Vec<_> = rows.iter().copied().skip(place).take(size).collect();
        if page.iter().any(|row| self.giants.contains(&row.id)) {
            return Err(ApiErrorKind::TooLarge);
        }
        let end = place + page.len();
        let more = end < rows.len();
        let next = match self.links {
            Links::None => None,
            Links::Honest | Links::Expired => more.then_some((window, end)),
            Links::Always | Links::Foreign => Some((window, end)),
            Links::Circle => Some((window, place)),
        };
        Ok((page, next))
    }
}

pub(super) fn record(row: ModelRow) -> Record {
    let raw = Bytes::from(format!("{} {}", row.id, row.stamp));
    if row.unreadable && row.id.is_multiple_of(2) {
        return Record::Poison(Poison::new("a test", raw));
    }
    Record::Alert(AlertRecord {
        id: AlertId::new(row.id.to_string()),
        hash: ContentHash::of(&raw),
        raw,
        last_update_text: None,
        last_update: (!row.unreadable).then_some(row.stamp),
        created: None,
        facts: AlertFacts::default(),
    })
}

pub(super) fn rules(page_size: u32, max_skip: u32, can_order: bool) -> Rules {
    Rules {
        manner: Manner { max_page: 1000, max_skip, can_order },
        page_size,
        overlap: Duration::from_secs(15 * 60),
        first_sync: Duration::from_secs(30 * 86_400),
    }
}

/// What is stored, as the sink would have it.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) state: FeedState,
    pub(super) records: BTreeSet<(u32, Ticks)>,
    pub(super) gaps: BTreeSet<Ticks>,
    /// How long after `NOW` it is, by both clocks.
    pub(super) later: Duration,
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
    /// Walks once, checking at every step that the cursor passes nothing that is not stored (I1).
    pub(super) fn walk(&mut self, model: &mut Model, rules: Rules, learnt: &mut Learnt, questions: usize) -> Ended {
        let now = NOW.plus(self.later);
        let mut walk = Walk::new(&self.state, rules, now, learnt);
        let start = walk.start;
        let last = model.asked + questions;
        while model.asked < last {
            let query = walk.query(learnt);
            let step = match model.answer(&query) {
                Ok((rows, next)) => {
                    let records: Vec<_> = rows.iter().copied().map(record).collect();
                    self.records.extend(rows.iter().map(|row| (row.id, row.stamp)));
                    walk.answer(&records, next, Some(now), now, learnt)
                }
                Err(kind) => match walk.failed(&kind, learnt) {
                    Reaction::Adapted(step) => step,
                    Reaction::GiveUp => return Ended::GaveUp,
                },
            };
            self.state.order = walk.order();
            self.commit(&step, model, start);
            if step.done {
                return Ended::Done;
            }
        }
        Ended::Interrupted
    }

    fn commit(&mut self, step: &Step, model: &Model, start: Ticks) {
        self.gaps.extend(step.gaps.iter().map(|gap| gap.from));
        if let Some(cursor) = &step.cursor {
            assert!(self.state.watermark < Some(cursor.watermark), "the cursor only moves forward");
            assert!(cursor.watermark <= NOW.plus(self.later + Duration::from_secs(1)), "the cursor stays below the ceiling");
            self.state.watermark = Some(cursor.watermark);
            let passed = |row: &&ModelRow| row.stamp >= start && row.stamp < cursor.watermark;
            for row in model.rows.iter().filter(passed) {
                assert!(self.has(row), "the cursor passed {row:?}, which is neither stored nor in a gap");
            }
        }
    }

    /// Whether the row is accounted for.
    pub(super) fn has(&self, row: &ModelRow) -> bool {
        self.records.contains(&(row.id, row.stamp)) || self.gaps.contains(&row.stamp)
    }

    /// The rows at the source that are not accounted for.
    pub(super) fn missing(&self, model: &Model) -> Vec<ModelRow> {
        model.rows.iter().filter(|row| !self.has(row)).copied().collect()
    }
}

/// Rows with these stamps and ids counted from 1.
pub(super) fn rows(stamps: impl IntoIterator<Item = Ticks>) -> Vec<ModelRow> {
    (1..).zip(stamps).map(|(id, stamp)| ModelRow { id, stamp, unreadable: false }).collect()
}

/// As found by a feed that is read for the first time by windows.
pub(super) fn by_windows() -> FeedState {
    FeedState { order: Order::Windows, ..FeedState::default() }
}
