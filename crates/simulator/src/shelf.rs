//! One shelf holds what one API shows of one tenant: its rows in order of their last update and of their
//! creation, each with every version it ever had. Bodies of our own records are rendered when first asked for.

use crate::facts::{Facts, Field, Value};
use crate::filter::Filter;
use crate::incidents::Incident;
use crate::stamp::Stamp;
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

/// Where the bytes of a version come from.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Alert number `alert` of the tenant after its first `versions` states.
    Made { alert: usize, versions: usize },
    /// An incident as it was then.
    Incident(Arc<Incident>),
    /// Given as bytes, served as they are.
    Raw(Bytes),
}

/// One state of a record that was visible to callers.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) content: Content,
    /// The last-update text as it stands in the body.
    pub(crate) last_update: Option<String>,
    pub(crate) visible_at: Stamp,
    /// In how many undamaged answers it has been given out.
    pub(crate) served: u32,
    /// When it was first given out in an undamaged answer.
    pub(crate) first_served: Option<Stamp>,
}

impl Version {
    pub(crate) fn new(content: Content, last_update: Option<String>, visible_at: Stamp) -> Version {
        Version { content, last_update, visible_at, served: 0, first_served: None }
    }
}

/// One record.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) id: Option<Arc<str>>,
    pub(crate) facts: Facts,
    pub(crate) versions: Vec<Version>,
    /// The body of the latest version, once somebody asked for it.
    pub(crate) body: OnceLock<Bytes>,
}

impl Row {
    pub(crate) fn latest(&self) -> &Version {
        // A row is only ever made together with its first version, and versions are never removed.
        self.versions.last().expect("a row has at least one version")
    }

    fn fact(&self, field: Field) -> Value<'_> {
        match field {
            Field::Id => self.id.as_deref().map_or(Value::Null, Value::Text),
            field => self.facts.get(field),
        }
    }
}

/// By what rows are sorted.
#[derive(Copy, Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) enum SortBy {
    Updated,
    Created,
}

/// A place between two rows of one order.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Place {
    ticks: i64,
    row: u32,
}

/// Which rows a caller wants.
#[derive(Debug)]
pub(crate) struct Want<'a> {
    pub(crate) filter: Option<&'a Filter>,
    pub(crate) sort: SortBy,
    pub(crate) ascending: bool,
    pub(crate) after: Option<Place>,
    pub(crate) skip: usize,
    pub(crate) top: usize,
}

/// The rows found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) rows: Vec<usize>,
    /// The place of the last row, when more follow it.
    pub(crate) more_after: Option<Place>,
}

/// All that one API shows of one tenant.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) rows: Vec<Row>,
    by_id: HashMap<Arc<str>, usize>,
    by_update: BTreeSet<Place>,
    by_creation: BTreeSet<Place>,
}

impl Shelf {
    pub(crate) fn position(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// Puts a version on the shelf: of the row with that id, or of a new one. Returns how many bytes of a rendered
    /// body became free.
    pub(crate) fn put(&mut self, id: Option<Arc<str>>, facts: Facts, version: Version) -> usize {
        let known = id.as_deref().and_then(|id| self.position(id));
        let number = known.unwrap_or(self.rows.len());
        let mut freed = 0;
        if let Some(known) = known {
            self.by_update.remove(&place(&self.rows[known], known, SortBy::Updated));
            self.by_creation.remove(&place(&self.rows[known], known, SortBy::Created));
            let row = &mut self.rows[known];
            row.facts = facts;
            row.versions.push(version);
            freed = row.body.take().map_or(0, |body| body.len());
        } else {
            if let Some(id) = &id {
                self.by_id.insert(id.clone(), number);
            }
            self.rows.push(Row { id, facts, versions: vec![version], body: OnceLock::new() });
        }
        self.by_update.insert(place(&self.rows[number], number, SortBy::Updated));
        self.by_creation.insert(place(&self.rows[number], number, SortBy::Created));
        freed
    }

    pub(crate) fn count(&self, filter: Option<&Filter>) -> usize {
        let (order, range) = self.narrowest(SortBy::Updated, filter);
        self.within(order, range).filter(|place| passes(&self.rows[place.row as usize], filter)).count()
    }

    pub(crate) fn find(&self, want: &Want<'_>) -> Found {
        let (order, range) = self.narrowest(want.sort, want.filter);
        if order == want.sort {
            let places = self.within(order, range);
            return if want.ascending { self.pick(want, places) } else { self.pick(want, places.rev()) };
        }
        let mut places: Vec<Place> =
            self.within(order, range).map(|found| place(&self.rows[found.row as usize], found.row as usize, want.sort)).collect();
        places.sort_unstable();
        if !want.ascending {
            places.reverse();
        }
        self.pick(want, places.into_iter())
    }

    /// Along which order the fewest rows have to be looked at, and from where to where (in ticks).
    fn narrowest(&self, sort: SortBy, filter: Option<&Filter>) -> (SortBy, (i64, i64)) {
        let span = |sort| {
            let field = if sort == SortBy::Updated { Field::Updated } else { Field::Created };
            let (low, high) = filter.map_or((None, None), |filter| filter.span(field));
            (low.map_or(i64::MIN, Stamp::ticks), high.map_or(i64::MAX, Stamp::ticks))
        };
        let other = if sort == SortBy::Updated { SortBy::Created } else { SortBy::Updated };
        let everything = (i64::MIN, i64::MAX);
        if span(sort) == everything && span(other) != everything { (other, span(other)) } else { (sort, span(sort)) }
    }

    fn within(&self, order: SortBy, (low, high): (i64, i64)) -> impl DoubleEndedIterator<Item = Place> {
        let order = if order == SortBy::Updated { &self.by_update } else { &self.by_creation };
        let first = Place { ticks: low, row: 0 };
        // A range that ends before it begins holds nothing.
        let last = if high < low { first } else { after(high) };
        order.range((Bound::Included(first), Bound::Excluded(last))).copied()
    }

    fn pick(&self, want: &Want<'_>, places: impl Iterator<Item = Place>) -> Found {
        let is_past = |place: &Place| want.after.is_none_or(|after| if want.ascending { *place > after } else { *place < after });
        let mut hits = places.filter(is_past).filter(|place| passes(&self.rows[place.row as usize], want.filter)).skip(want.skip);
        let taken: Vec<Place> = hits.by_ref().take(want.top).collect();
        let more = hits.next().is_some();
        Found { more_after: taken.last().copied().filter(|_| more), rows: taken.iter().map(|place| place.row as usize).collect() }
    }
}

/// The first place behind these ticks.
fn after(ticks: i64) -> Place {
    ticks.checked_add(1).map_or(Place { ticks, row: u32::MAX }, |next| Place { ticks: next, row: 0 })
}

fn place(row: &Row, number: usize, sort: SortBy) -> Place {
    let stamp = match sort {
        SortBy::Updated => row.facts.updated,
        SortBy::Created => row.facts.created.unwrap_or(row.facts.updated),
    };
    // More than four thousand million rows do not fit into the memory of one machine anyway.
    Place { ticks: stamp.ticks(), row: u32::try_from(number).expect("a shelf holds fewer than 2^32 rows") }
}

fn passes(row: &Row, filter: Option<&Filter>) -> bool {
    filter.is_none_or(|filter| filter.matches(|field| row.fact(field)))
}
