//! Reading one span to its end, page by page, and being sure of it.
//!
//! This is for the two cases in which moving a time boundary does not help: more equal stamps than an
//! answer holds, and an answer that may or may not have been cut. The pages are got by the source's own
//! link where there is one, else by `$skip`.
//!
//! Both are blind to shifting: when a record that we have seen is updated, it leaves the span, all that
//! follow move up by one, and the next page begins one too far. Therefore a span is read in passes, until a
//! pass has seen again everything that the pass before it saw, unchanged. Then nothing had left in
//! between, so nothing had shifted, so the earlier pass was whole. A pass that ended because a page showed nothing
//! new may have been pushed back by a record that became visible before it, or the source pays no heed to `$skip`:
//! such a pass has to be repeated to the letter. (In a span of creation time a record that is
//! updated stays, but a source may answer in order of updates, and move it to where we have been already. Nothing
//! else is hidden by that, and the record itself has a new update stamp: polling finds it.)

mod outcome;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use domain::rehearsal::bug;
use domain::{GapKind, Ticks, cursor};
use microsoft::WindowQuery;

pub(crate) use self::outcome::{Bounds, Outcome};
use super::judge::{Row, Seen, seen};
use super::spans::Span;
use crate::source::Query;

/// Passes after which a span that keeps changing is given up.
const MAX_PASSES: u32 = 8;
/// Pages in a row without anything new after which links are no longer followed.
const MAX_IDLE: u32 = 3;
/// Pages in one pass after which they are not either: no such run of equal stamps is honest.
const MAX_PAGES: u32 = 2_000;
/// Records next to each other that cannot be had, after which the rest is not asked for one by one.
const MAX_LEFT_OUT: u32 = 16;

const BEYOND_REACH: &str = "more records share one stamp than the source lets us reach";

/// Where the next page is.
#[derive(Clone, Debug)]
enum At<L> {
    Skip(u32),
    Link(L),
}

/// Why a pass was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing followed.
    Reached,
    /// What followed was known.
    Idle,
}

/// A span being read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Exhaust<L> {
    span: Span,
    at: At<L>,
    follow_links: bool,
    pass: Seen,
    pages: u32,
    previous: Option<(Seen, End)>,
    passes: u32,
    idle: u32,
    /// A page among the idle ones was empty.
    dead_end: bool,
    /// The links being followed began at a page that was got by `$skip`.
    by_skip: bool,
    /// Why records were left out, if any were.
    left_out: Option<(GapKind, &'static str)>,
    /// At which places.
    left_out_at: BTreeSet<u32>,
    /// How many in a row.
    left_out_here: u32,
    newest: Option<Ticks>,
    first: Vec<Row>,
}

impl<L: Clone> Exhaust<L> {
    /// Reads a span from its start.
    pub(crate) fn afresh(span: Span) -> Self {
        Self {
            span,
            at: At::Skip(0),
            follow_links: true,
            pass: Seen::new(),
            pages: 0,
            previous: None,
            passes: 0,
            idle: 0,
            dead_end: false,
            by_skip: false,
            left_out: None,
            left_out_at: BTreeSet::new(),
            left_out_here: 0,
            newest: None,
            first: Vec::new(),
        }
    }

    /// Goes on after an answer that may have been cut.
    pub(crate) fn after(span: Span, rows: Vec<Row>, ceiling: Ticks) -> Self {
        let mut exhaust = Self::afresh(span);
        exhaust.note(&rows, ceiling);
        exhaust.pages = 1;
        exhaust.at = At::Skip(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        exhaust.first = rows;
        exhaust
    }

    /// Looks once more at an answer whose link led to nothing: unless it is the same again, what the
    /// link led past has moved.
    pub(crate) fn confirm(span: Span, rows: Vec<Row>, ceiling: Ticks) -> Self {
        let mut exhaust = Self::afresh(span);
        exhaust.note(&rows, ceiling);
        exhaust.previous = Some((std::mem::take(&mut exhaust.pass), End::Reached));
        exhaust.passes = 1;
        exhaust.first = rows;
        exhaust
    }

    /// What to ask for. `window` is the span from its start, perhaps only a part of what lies in it.
    pub(crate) fn query(&self, window: WindowQuery) -> Query<L> {
        match &self.at {
            At::Skip(skip) => Query::Window(WindowQuery { skip: *skip, ..window }),
            At::Link(link) => Query::Next(link.clone()),
        }
    }

    /// The span.
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    /// The newest stamp seen in it that a cursor may reach.
    pub(crate) fn newest(&self) -> Option<Ticks> {
        self.newest
    }

    /// What was seen in the last pass.
    pub(crate) fn pass(&self) -> &Seen {
        &self.pass
    }

    /// Whether the record at this place has been left out in a pass before.
    pub(crate) fn has_left_out(&self) -> bool {
        matches!(self.at, At::Skip(skip) if self.left_out_at.contains(&skip))
    }

    /// Whether a place in the span is asked for, rather than a link.
    pub(crate) fn is_by_place(&self) -> bool {
        matches!(self.at, At::Skip(_))
    }

    /// The answer it began with, if any.
    pub(crate) fn first(&self) -> &[Row] {
        &self.first
    }

    /// Takes an answer.
    pub(crate) fn answer(&mut self, rows: &[Row], link: Option<L>, bounds: Bounds) -> Outcome {
        self.pages += 1;
        self.left_out_here = 0;
        let fresh = self.note(rows, bounds.ceiling);
        if self.previous.as_ref().is_some_and(|(previous, end)| *end == End::Reached && previous.is_subset(&self.pass)) {
            return self.complete();
        }
        if let Some(link) = link.filter(|_| self.follow_links) {
            return self.follow(link, fresh, rows.is_empty());
        }
        match self.at {
            At::Link(_) => self.pass_ends(),
            At::Skip(skip) => self.skip_on(rows.len(), skip, fresh, bounds),
        }
    }

    /// The link cannot be followed: the pass starts over with `$skip`. `false` if no link was asked.
    pub(crate) fn drop_link(&mut self) -> bool {
        let by_link = matches!(self.at, At::Link(_));
        if by_link {
            self.follow_links = false;
            self.restart_pass();
        }
        by_link
    }

    /// The record at this place cannot be had even alone.
    pub(crate) fn leave_out_one(&mut self, kind: GapKind, max_skip: u32) -> Outcome {
        if !self.span.is_tick() {
            return Outcome::More;
        }
        let At::Skip(skip) = self.at else {
            self.drop_link();
            return Outcome::Continue;
        };
        let reason = match kind {
            GapKind::TooLarge => "a record there is larger than we can take in",
            _ => "the source fails whenever it is asked for a record there",
        };
        self.left_out = self.left_out.max(Some((kind, reason)));
        self.left_out_at.insert(skip);
        self.left_out_here += 1;
        if self.left_out_here >= MAX_LEFT_OUT {
            return Outcome::Gap(kind, "one record after the other there cannot be had");
        }
        if skip >= max_skip {
            return Outcome::Gap(GapKind::Ties, BEYOND_REACH);
        }
        self.at = At::Skip(skip + 1);
        self.pages += 1;
        Outcome::Continue
    }

    /// The source refuses this page. `None` when that has nothing to do with how it was asked for.
    pub(crate) fn refused(&mut self) -> Option<Outcome> {
        match self.at {
            At::Link(_) => {
                self.drop_link();
                Some(Outcome::Continue)
            }
            At::Skip(0) => None,
            At::Skip(_) if self.span.is_tick() => {
                Some(Outcome::Gap(GapKind::Ties, "the source refuses to show more of the records that share one stamp"))
            }
            At::Skip(_) => Some(Outcome::More),
        }
    }

    /// Remembers rows; whether any was new to this pass.
    fn note(&mut self, rows: &[Row], ceiling: Ticks) -> bool {
        let inside = rows.iter().map(|row| row.stamp.filter(|stamp| self.span.before.is_none_or(|before| *stamp < before)));
        self.newest = cursor::advance(self.newest, inside, ceiling);
        let before = self.pass.len();
        self.pass.extend(seen(rows));
        self.pass.len() > before
    }

    fn follow(&mut self, link: L, fresh: bool, empty: bool) -> Outcome {
        if !self.span.is_tick() {
            return Outcome::More;
        }
        self.idle = if fresh { 0 } else { self.idle + 1 };
        self.dead_end = !fresh && (self.dead_end || empty);
        self.by_skip |= matches!(self.at, At::Skip(skip) if skip > 0);
        // Empty pages are an end. Full ones with nothing new are a circle, even if it once led on: an update
        // may have shifted the page that it leads back to. Behind a page that was got by `$skip` they say
        // nothing of links: the source may pay no heed to `$skip` and show once more what it has shown.
        if self.idle >= MAX_IDLE && self.dead_end {
            return self.pass_ends();
        }
        if self.idle >= MAX_IDLE && self.by_skip {
            return self.pass_ends_idle(false);
        }
        if self.idle >= MAX_IDLE || self.pages >= MAX_PAGES {
            self.follow_links = false;
            self.restart_pass();
            return Outcome::LinksUseless;
        }
        self.at = At::Link(link);
        Outcome::Continue
    }

    fn skip_on(&mut self, len: usize, skip: u32, fresh: bool, bounds: Bounds) -> Outcome {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let full = len >= bounds.top;
        if len == 0 {
            return self.pass_ends();
        }
        // Something follows what looked complete, or the source pays no heed to $skip.
        if skip > 0 && !self.span.is_tick() && !bug("skip-on-descending-order") {
            return Outcome::More;
        }
        if !full && usize::try_from(len).is_ok_and(|len| len < bounds.longest) {
            return self.pass_ends();
        }
        if skip > 0 && !fresh {
            return self.pass_ends_idle(full);
        }
        let reach = skip.saturating_add(len);
        self.at = At::Skip(if reach <= bounds.max_skip || skip >= bounds.max_skip { reach } else { bounds.max_skip });
        if skip >= bounds.max_skip {
            return Outcome::Gap(GapKind::Ties, BEYOND_REACH);
        }
        Outcome::Continue
    }

    fn pass_ends(&mut self) -> Outcome {
        if self.pages <= 1 || bug("skip-on-descending-order") {
            return self.complete(); // One answer is one moment: nothing can have shifted within it.
        }
        self.next_pass(End::Reached)
    }

    /// A page has shown nothing that this pass had not shown before. If that happens twice in the same way, the source
    /// pays no heed to `$skip`; unless the page is full, nothing speaks for there being more then.
    fn pass_ends_idle(&mut self, full: bool) -> Outcome {
        if self.previous.as_ref().is_none_or(|(previous, end)| *end != End::Idle || *previous != self.pass) {
            return self.next_pass(End::Idle);
        }
        if full { Outcome::Gap(GapKind::Ties, "more records share one stamp than the source shows at once") } else { self.complete() }
    }

    fn next_pass(&mut self, end: End) -> Outcome {
        self.passes += 1;
        if self.passes >= MAX_PASSES {
            return if self.span.is_tick() {
                Outcome::Gap(GapKind::Ties, "records that share one stamp kept moving while they were read")
            } else {
                Outcome::More
            };
        }
        self.previous = Some((std::mem::take(&mut self.pass), end));
        self.restart_pass();
        Outcome::Continue
    }

    fn restart_pass(&mut self) {
        self.pass.clear();
        self.pages = 0;
        self.idle = 0;
        self.dead_end = false;
        self.by_skip = false;
        self.at = At::Skip(0);
    }

    fn complete(&self) -> Outcome {
        self.left_out.map_or(Outcome::Complete, |(kind, reason)| Outcome::Gap(kind, reason))
    }
}
