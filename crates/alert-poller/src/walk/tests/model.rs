//! A pretend source in memory, honest or nasty in every way that we know of.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use bytestring::ByteString;
use domain::{AlertFacts, AlertId, AlertRecord, Axis, ContentHash, Poison, Record, Ticks};
use microsoft::{ApiErrorKind, Facet, FacetField, WindowQuery};

use crate::source::Query;
use crate::walk::divide::Facets;

pub(super) const NOW: Ticks = Ticks(17_500_000_000_000_000);

/// What the source can be divided by.
pub(super) const FACETS: Facets = &[
    (FacetField::Severity, &["low", "high"]),
    (FacetField::Status, &["new", "resolved"]),
    (FacetField::ServiceSource, &["endpoint", "office"]),
];

/// Words that a record may have: two known ones, one that is not, and none.
pub(super) const WORDS: [[Option<&str>; 4]; 3] = [
    [Some("low"), Some("high"), Some("odd"), None],
    [Some("new"), Some("resolved"), Some("odd"), None],
    [Some("endpoint"), Some("office"), Some("odd"), None],
];

/// One alert as the source has it now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ModelRow {
    pub(super) id: u32,
    pub(super) stamp: Ticks,
    pub(super) created: Ticks,
    /// The source knows the stamps; we cannot read what it sends.
    pub(super) unreadable: bool,
    /// Its severity, status and product; known words, others, or none.
    pub(super) words: [Option<&'static str>; 3],
    /// It has been there like this since before the question of this number.
    pub(super) since: usize,
}

impl std::fmt::Debug for ModelRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, stamp, created, unreadable, words, since } = self;
        write!(f, "{id} at {stamp} created {created} {words:?} unreadable: {unreadable} since {since}")
    }
}

impl ModelRow {
    pub(super) fn new(id: u32, stamp: Ticks) -> Self {
        let created = stamp.minus(Duration::from_secs(600));
        Self { id, stamp, created, unreadable: false, words: [None; 3], since: 0 }
    }

    pub(super) fn stamp_on(&self, axis: Axis) -> Ticks {
        match axis {
            Axis::Update => self.stamp,
            Axis::Creation => self.created,
        }
    }

    fn record(&self) -> Record {
        let raw = ByteString::from(format!("{} {}", self.id, self.stamp.0));
        if self.unreadable && self.id.is_multiple_of(2) {
            return Record::Poison(Poison::new("a test", raw.into_bytes()));
        }
        Record::Alert(AlertRecord {
            id: AlertId::new(self.id.to_string()),
            hash: ContentHash::of(raw.as_bytes()),
            raw,
            last_update_text: None,
            last_update: (!self.unreadable).then_some(self.stamp),
            created: (!self.unreadable).then_some(self.created),
            facts: AlertFacts::default(),
        })
    }
}

/// In which order it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    /// Oldest first when asked to, else newest first.
    AsAsked,
    /// Whatever is asked. By last update, also in a window of creation.
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
    /// They are there, and the source fails when they are followed.
    Failing,
}

/// What it makes of a filter by words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dividing {
    Heeded,
    Refused,
    Ignored,
    /// A record without a word is in no part.
    LosesWordless,
}

/// Which pages are too much for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooMuch {
    Never,
    /// Those asked for with a greater `$top`.
    Asked(u32),
    /// Those that would hold more records.
    Held(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) rows: Vec<ModelRow>,
    pub(super) answers: Answers,
    pub(super) links: Links,
    pub(super) dividing: Dividing,
    /// Records per page, whatever is asked for.
    pub(super) clamp: usize,
    pub(super) heeds_skip: bool,
    /// Before the question of this number, this row is updated to a stamp after `NOW`, and to other words.
    pub(super) updates: BTreeMap<usize, usize>,
    /// Before the question of this number, this row becomes visible.
    pub(super) arrivals: BTreeMap<usize, ModelRow>,
    /// How updated rows stood before.
    pub(super) past: Vec<ModelRow>,
    /// A page that has a link may be of any length.
    pub(super) ragged: bool,
    /// Records with these ids are too large for any page.
    pub(super) giants: BTreeSet<u32>,
    /// Pages with records of these ids fail.
    pub(super) failing: BTreeSet<u32>,
    pub(super) too_much: TooMuch,
    /// Questions of these numbers fail, whatever they are.
    pub(super) outages: Vec<Range<usize>>,
    /// From the question of this number on, every one is refused.
    pub(super) refuses_all_from: Option<usize>,
    pub(super) max_skip: u32,
    pub(super) asked: usize,
}

/// A link is a question with a place in its answer.
pub(super) type Link = (WindowQuery, usize);

/// A page.
pub(super) struct Answer {
    pub(super) records: Vec<Record>,
    pub(super) next: Option<Link>,
    pub(super) rows: Vec<ModelRow>,
}

impl Model {
    pub(super) fn honest(rows: Vec<ModelRow>) -> Self {
        Self {
            rows,
            answers: Answers::AsAsked,
            links: Links::None,
            dividing: Dividing::Heeded,
            clamp: 1000,
            heeds_skip: true,
            updates: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            past: Vec::new(),
            ragged: false,
            giants: BTreeSet::new(),
            failing: BTreeSet::new(),
            too_much: TooMuch::Never,
            outages: Vec::new(),
            refuses_all_from: None,
            max_skip: 500,
            asked: 0,
        }
    }

    /// Nothing changes any more; what was to become visible is.
    pub(super) fn settle(&mut self) {
        self.updates.clear();
        self.rows.extend(std::mem::take(&mut self.arrivals).into_values());
    }

    pub(super) fn answer(&mut self, query: &Query<Link>) -> Result<Answer, ApiErrorKind> {
        self.asked += 1;
        self.live_on();
        if self.outages.iter().any(|outage| outage.contains(&self.asked)) {
            return Err(if self.asked.is_multiple_of(2) { ApiErrorKind::Unavailable } else { ApiErrorKind::BadAnswer });
        }
        if self.refuses_all_from.is_some_and(|from| self.asked >= from) {
            return Err(ApiErrorKind::Refused);
        }
        let (window, place) = match query {
            Query::Next(_) if self.links == Links::Expired => return Err(ApiErrorKind::SkipExpired),
            Query::Next(_) if self.links == Links::Foreign => return Err(ApiErrorKind::ForeignNextLink),
            Query::Next(_) if self.links == Links::Failing => return Err(ApiErrorKind::Unavailable),
            Query::Next((window, place)) => (*window, *place),
            Query::Window(window) if window.ordered && self.answers == Answers::RefusingOrder => return Err(ApiErrorKind::OrderRefused),
            Query::Window(window) if window.facets != [None; 3] && self.dividing == Dividing::Refused => return Err(ApiErrorKind::Refused),
            Query::Window(window) if window.skip > self.max_skip => return Err(ApiErrorKind::Refused),
            Query::Window(window) => {
                let skip = if self.heeds_skip { window.skip } else { 0 };
                (*window, usize::try_from(skip).unwrap_or(0))
            }
        };
        let rows = self.matching(&window);
        let mut size = self.clamp.min(usize::try_from(window.top).unwrap_or(usize::MAX));
        if self.ragged {
            let dice = ContentHash::of(format!("{window:?} {place}").as_bytes()).0[0];
            size = 1 + usize::from(dice) % size;
        }
        let page: Vec<_> = rows.iter().copied().skip(place).take(size).collect();
        if page.iter().any(|row| self.giants.contains(&row.id)) {
            return Err(ApiErrorKind::TooLarge);
        }
        let too_much = match self.too_much {
            TooMuch::Never => false,
            TooMuch::Asked(top) => window.top > top,
            TooMuch::Held(count) => page.len() > count,
        };
        if too_much || page.iter().any(|row| self.failing.contains(&row.id)) {
            return Err(ApiErrorKind::BadAnswer);
        }
        let end = place + page.len();
        let more = end < rows.len();
        let next = match self.links {
            Links::None => None,
            Links::Honest | Links::Expired | Links::Failing => more.then_some((window, end)),
            Links::Always | Links::Foreign => Some((window, end)),
            Links::Circle => Some((window, place)),
        };
        Ok(Answer { records: page.iter().map(ModelRow::record).collect(), next, rows: page })
    }

    /// What happens before this question.
    fn live_on(&mut self) {
        if let Some(row) = self.updates.remove(&self.asked)
            && let Some(row) = self.rows.get_mut(row)
        {
            self.past.push(*row);
            row.stamp = NOW.plus(Duration::from_secs(u64::try_from(self.asked).unwrap_or(0)));
            row.since = self.asked;
            for (nth, word) in row.words.iter_mut().enumerate() {
                *word = if *word == WORDS[nth][0] { WORDS[nth][1] } else { WORDS[nth][0] };
            }
        }
        if let Some(row) = self.arrivals.remove(&self.asked) {
            self.rows.push(ModelRow { since: self.asked, ..row });
        }
    }

    fn matching(&self, window: &WindowQuery) -> Vec<ModelRow> {
        let holds = |row: &ModelRow| {
            let stamp = row.stamp_on(window.axis);
            stamp >= window.from && window.before.is_none_or(|before| stamp < before)
        };
        let divided = |row: &ModelRow| {
            self.dividing == Dividing::Ignored || window.facets.iter().zip(row.words).all(|(facet, word)| self.is_in(*facet, word))
        };
        let mut rows: Vec<_> = self.rows.iter().copied().filter(|row| holds(row) && divided(row)).collect();
        match self.answers {
            Answers::AsAsked if window.ordered => rows.sort_by_key(|row| (row.stamp_on(window.axis), row.id)),
            Answers::Scrambled => rows.sort_by_cached_key(|row| ContentHash::of(&row.id.to_be_bytes()).0),
            _ => rows.sort_by_key(|row| (std::cmp::Reverse(row.stamp), row.id)),
        }
        rows
    }

    fn is_in(&self, facet: Option<Facet>, word: Option<&'static str>) -> bool {
        let Some(facet) = facet else { return true };
        let known = FACETS.iter().find(|(field, _)| *field == facet.field).map_or(&[][..], |(_, words)| words);
        match (facet.value, word) {
            (Some(value), word) => word == Some(value),
            (None, Some(word)) => !known.contains(&word),
            (None, None) => self.dividing != Dividing::LosesWordless,
        }
    }
}

/// Rows with these stamps and ids counted from 1.
pub(super) fn rows(stamps: impl IntoIterator<Item = Ticks>) -> Vec<ModelRow> {
    (1..).zip(stamps).map(|(id, stamp)| ModelRow::new(id, stamp)).collect()
}

/// So many rows, one every `span`, the last of them that long ago.
pub(super) fn every(count: u32, span: Duration) -> Vec<ModelRow> {
    rows((0..count).map(|index| NOW.minus(span * (count - index))))
}
