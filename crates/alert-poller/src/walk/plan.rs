//! The windows of one walk through a source that promises no order: frozen, and cut until they come back whole.
//!
//! Polling reads them upwards, so that the cursor may move after each; the last one has no upper end, so that an
//! alert stamped in the year 9999 is seen as well. A re-read goes downwards, so that what is newest comes first,
//! and what it has read is always one piece. A window that comes back full, or not at all, is cut and its parts
//! are read instead, in the same direction.

use domain::Ticks;

use super::learnt::Unread;
use super::spans::Span;

const TICKS_PER_SECOND: i64 = 10_000_000;
const DAY: i64 = 86_400 * TICKS_PER_SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// To the horizon (about now) and beyond.
    Up,
    /// To the start of the stretch.
    Down,
}

/// The windows still to be read, and the frontier from which new ones are made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    direction: Direction,
    /// The next to be read is the last. Each begins where the one after it ends, or the other way round.
    pending: Vec<Span>,
    frontier: Option<Ticks>,
    limit: Ticks,
    /// Width of the next window, in ticks.
    step: i64,
    /// Records in windows since the last one was made, and whether any was so full that it had to be cut.
    yielded: usize,
    was_full: bool,
    /// The other half of what did not come back, while the first is being read; and how often it may still be halved
    /// without being asked for.
    suspect: Option<(Span, u32)>,
    /// Instants that get a window of their own or, when they are to be left alone, none.
    unread: Vec<Unread>,
}

impl Plan {
    /// Reads from `start` upwards to beyond `horizon`, with windows of a day to begin with: a month of
    /// a quiet tenant is a handful of calls, and the cursor moves while a large one is read.
    pub(crate) fn up(start: Ticks, horizon: Ticks, unread: Vec<Unread>) -> Self {
        Self::new(Direction::Up, start, horizon, unread)
    }

    /// Reads `[from, left)` downwards. Looks at everything, also at what could not be read before.
    pub(crate) fn down(from: Ticks, left: Ticks, unread: Vec<Unread>) -> Self {
        let unread = unread.into_iter().map(|unread| Unread { again: true, ..unread }).collect();
        Self::new(Direction::Down, left, from, unread)
    }

    fn new(direction: Direction, frontier: Ticks, limit: Ticks, unread: Vec<Unread>) -> Self {
        let frontier = (direction == Direction::Up || frontier > limit).then_some(frontier);
        let mut plan =
            Self { direction, pending: Vec::new(), frontier, limit, step: DAY, yielded: 0, was_full: false, suspect: None, unread };
        plan.refill();
        plan
    }

    /// The window to read now, or `None` when all have been read.
    pub(crate) fn current(&self) -> Option<Span> {
        self.pending.last().copied()
    }

    /// The current window has been read whole and held so many records; a quarter of `top` or less makes the next
    /// window wider. So does a half, when that many could not be told from a cut answer: one longer answer spares all
    /// the others that doubt.
    pub(crate) fn read(&mut self, records: usize, top: u32, doubted: bool) {
        self.pending.pop();
        self.yielded = self.yielded.saturating_add(records);
        if self.pending.is_empty() {
            let few = if doubted { top / 2 } else { top / 4 };
            if self.was_full {
                self.step = (self.step / 2).max(TICKS_PER_SECOND);
            } else if self.yielded < usize::try_from(few).unwrap_or(0).max(1) {
                self.step = self.step.saturating_mul(2);
            }
            self.refill();
        } else if let (Some((suspect, unasked)), 0, Some(current)) = (self.suspect, records, self.current())
            && suspect == current
            && unasked > 0
            && !current.is_tick()
        {
            // Nothing lies in the first half of what did not come back: the other half would not come either.
            self.halve_unasked(unasked - 1);
        }
    }

    /// The current window came back full: its parts are read instead.
    pub(crate) fn cut(&mut self, hull: Option<(Ticks, Ticks)>) {
        self.was_full = true;
        self.suspect = None;
        let horizon = self.limit;
        let reaches_beyond = hull.is_some_and(|(_, last)| last > horizon);
        self.cut_with(|span| if reaches_beyond { at_horizon(span, horizon).unwrap_or_else(|| span.cut(hull)) } else { span.cut(hull) });
    }

    /// The current window does not come back at all: what lies in one half may be at fault. That says nothing
    /// about how much there is.
    pub(crate) fn halve(&mut self) {
        // Now and then it has to be asked for, since it may have been the source and not the window.
        const UNASKED: u32 = 3;
        self.halve_unasked(UNASKED);
    }

    fn halve_unasked(&mut self, unasked: u32) {
        let horizon = self.limit;
        self.cut_with(|span| at_horizon(span, horizon).unwrap_or_else(|| span.cut(None)));
        let other = self.pending.len().checked_sub(2).and_then(|index| self.pending.get(index));
        self.suspect = other.map(|other| (*other, unasked));
    }

    fn cut_with(&mut self, cut: impl FnOnce(Span) -> Vec<Span>) {
        if let Some(span) = self.pending.pop() {
            let parts = cut(span);
            self.push(parts);
        }
    }

    /// What was at fault has been found: the halves that were made in search of it become one window again.
    pub(crate) fn mend(&mut self) {
        self.suspect = None;
        let mut whole: Vec<Span> = Vec::new();
        let mut parts = std::mem::take(&mut self.pending);
        parts.sort_by_key(|span| span.from);
        for part in parts {
            match whole.last_mut() {
                Some(last) if last.before == Some(part.from) && !self.is_apart(*last) && !self.is_apart(part) => last.before = part.before,
                _ => whole.push(part),
            }
        }
        self.push(whole);
    }

    /// Takes parts in ascending order.
    fn push(&mut self, mut parts: Vec<Span>) {
        if self.direction == Direction::Up {
            parts.reverse();
        }
        self.pending.extend(parts);
    }

    fn is_apart(&self, span: Span) -> bool {
        span.is_tick() && self.unread.iter().any(|unread| unread.at == span.from)
    }

    fn refill(&mut self) {
        self.yielded = 0;
        self.was_full = false;
        while self.pending.is_empty()
            && let Some(frontier) = self.frontier
        {
            let next = self.next(frontier);
            let parts = self.around(next);
            self.push(parts);
        }
    }

    /// The next window, beyond the frontier.
    fn next(&mut self, frontier: Ticks) -> Span {
        match self.direction {
            Direction::Up => {
                let edge = Ticks(frontier.0.saturating_add(self.step));
                self.frontier = (edge < self.limit).then_some(edge);
                Span { from: frontier, before: self.frontier }
            }
            Direction::Down => {
                let edge = Ticks(frontier.0.saturating_sub(self.step)).max(self.limit);
                self.frontier = (edge > self.limit).then_some(edge);
                Span { from: edge, before: Some(frontier) }
            }
        }
    }

    /// The window in pieces, ascending, so that what could not be read is apart, or left out.
    fn around(&self, span: Span) -> Vec<Span> {
        let mut pieces = Vec::new();
        let mut rest = span;
        for unread in self.unread.iter().filter(|unread| span.holds(unread.at)) {
            pieces.push(Span { from: rest.from, before: Some(unread.at) });
            if unread.again {
                pieces.push(Span::tick(unread.at));
            }
            rest.from = unread.at.next();
        }
        pieces.push(rest);
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }
}

/// A window without an end is cut at the horizon first: nobody searches the next eight thousand years by halves.
fn at_horizon(span: Span, horizon: Ticks) -> Option<Vec<Span>> {
    let has_both = span.before.is_none() && span.from < horizon;
    has_both.then(|| vec![Span { before: Some(horizon), ..span }, Span { from: horizon, before: None }])
}

#[cfg(test)]
mod tests;
