//! Reading a source that promises no order: frozen windows, cut small enough to come back whole.
//!
//! A window `[from, before)` of last-update time is frozen: what happens later is stamped later. Windows
//! are read in ascending order, so that the cursor may move after each; one that comes back full is cut
//! and its parts are read instead. The last window of a walk has no upper end, so that an alert stamped
//! in the year 9999 is seen as well.

use domain::Ticks;

/// One tick past the last instant that a filter can name.
const END: Ticks = Ticks(2_534_023_008_000_000_000);
const TICKS_PER_SECOND: i64 = 10_000_000;

/// A stretch of last-update time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Inclusive.
    pub(crate) from: Ticks,
    /// Exclusive; open-ended without.
    pub(crate) before: Option<Ticks>,
}

impl Span {
    /// Everything from here on.
    pub(crate) fn open(from: Ticks) -> Self {
        Self { from, before: None }
    }

    /// The narrowest span.
    pub(crate) fn tick(at: Ticks) -> Self {
        Self { from: at, before: Some(at.next()) }
    }

    /// Whether it cannot be cut.
    pub(crate) fn is_tick(self) -> bool {
        self.end().0 <= self.from.0.saturating_add(1)
    }

    /// Whether no instant is inside.
    pub(crate) fn is_empty(self) -> bool {
        self.width() <= 0
    }

    /// Whether the instant is inside.
    pub(crate) fn holds(self, at: Ticks) -> bool {
        self.from <= at && self.before.is_none_or(|before| at < before)
    }

    fn end(self) -> Ticks {
        self.before.unwrap_or(END)
    }

    fn width(self) -> i64 {
        self.end().0.saturating_sub(self.from.0)
    }

    /// Cuts it, ascending, given the stamps that a full answer has shown. The parts cover it exactly, and
    /// each is narrower.
    pub(crate) fn cut(self, hull: Option<(Ticks, Ticks)>) -> Vec<Self> {
        // Alerts come in bursts: when all that was seen sits in a small part of the span, that part is
        // cut out at once rather than by halving again and again.
        const SMALL: i64 = 64;
        if let Some((first, last)) = hull
            && self.holds(first)
            && self.holds(last)
        {
            let burst = Self { from: first, before: Some(last.next()) };
            if burst.width().saturating_mul(SMALL) < self.width() {
                let left = Self { from: self.from, before: Some(first) };
                let right = Self { from: last.next(), before: self.before };
                return [left, burst, right].into_iter().filter(|part| !part.is_empty()).collect();
            }
        }
        let middle = Ticks(self.from.0 + self.width() / 2);
        vec![Self { from: self.from, before: Some(middle) }, Self { from: middle, before: self.before }]
    }
}

/// The windows of one walk: those still to be read, and the frontier from which new ones are made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The next to be read is the last.
    pending: Vec<Span>,
    frontier: Option<Ticks>,
    horizon: Ticks,
    /// Width of the next window, in ticks.
    step: i64,
    /// Records in windows since the last one was made, and whether any had to be cut.
    yielded: usize,
    was_cut: bool,
}

impl Plan {
    /// Reads from `start` to beyond `horizon` (about now), with windows of a day to begin with: a month of
    /// a quiet tenant is a handful of calls, and the cursor moves while a large one is read.
    pub(crate) fn new(start: Ticks, horizon: Ticks) -> Self {
        const DAY: i64 = 86_400 * TICKS_PER_SECOND;
        let mut plan = Self { pending: Vec::new(), frontier: Some(start), horizon, step: DAY, yielded: 0, was_cut: false };
        plan.refill();
        plan
    }

    /// The window to read now, or `None` when all have been read.
    pub(crate) fn current(&self) -> Option<Span> {
        self.pending.last().copied()
    }

    /// The current window has been read whole and held so many records; a quarter of `top` or less
    /// makes the next window wider.
    pub(crate) fn read(&mut self, records: usize, top: u32) {
        self.pending.pop();
        self.yielded = self.yielded.saturating_add(records);
        if self.pending.is_empty() {
            if self.was_cut {
                self.step = (self.step / 2).max(TICKS_PER_SECOND);
            } else if self.yielded < usize::try_from(top / 4).unwrap_or(0).max(1) {
                self.step = self.step.saturating_mul(2);
            }
            self.refill();
        }
    }

    /// The current window came back full: its parts are read instead.
    pub(crate) fn cut(&mut self, hull: Option<(Ticks, Ticks)>) {
        if let Some(span) = self.pending.pop() {
            self.was_cut = true;
            self.pending.extend(span.cut(hull).into_iter().rev());
        }
    }

    fn refill(&mut self) {
        let Some(from) = self.frontier else { return };
        let edge = from.0.saturating_add(self.step);
        let open = edge >= self.horizon.0;
        self.frontier = (!open).then_some(Ticks(edge));
        self.pending.push(Span { from, before: self.frontier });
        self.yielded = 0;
        self.was_cut = false;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const START: Ticks = Ticks(17_000_000_000_000_000);

    fn seconds(span: Span) -> i64 {
        span.width() / TICKS_PER_SECOND
    }

    #[test]
    fn a_month_of_a_quiet_tenant_is_a_handful_of_windows_and_the_last_is_open() {
        let mut plan = Plan::new(START, START.plus(DAY * 30));
        let mut windows = Vec::new();
        while let Some(span) = plan.current() {
            windows.push(span);
            plan.read(0, 1000);
        }
        assert!(windows.len() <= 6, "{windows:?}");
        assert_eq!(windows.last().and_then(|span| span.before), None);
        assert_eq!(windows.iter().filter(|span| span.before.is_none()).count(), 1);
    }

    #[test]
    fn a_busy_tenant_gets_narrower_windows() {
        let mut plan = Plan::new(START, START.plus(DAY * 30));
        let first = plan.current().expect("there is a first window");
        plan.cut(None);
        plan.read(900, 1000);
        plan.read(900, 1000);
        let next = plan.current().expect("there is a next window");
        assert_eq!(seconds(next) * 2, seconds(first));
    }

    #[test]
    fn a_burst_is_cut_out_at_once() {
        let (first, last) = (START.plus(Duration::from_secs(70)), START.plus(Duration::from_secs(71)));
        let parts = Span::open(START).cut(Some((first, last)));
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[1], Span { from: first, before: Some(last.next()) });
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_parts_cover_the_whole_and_are_narrower(
            from in -600_000_000_000_000_000_i64..2_500_000_000_000_000_000, width in 2_i64..i64::from(u32::MAX),
            open in any::<bool>(), hull in proptest::option::of((0.0..1.0_f64, 0.0..1.0_f64)),
        ) {
            let span = Span { from: Ticks(from), before: (!open).then_some(Ticks(from + width)) };
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "any place will do")]
            let place = |share: f64| Ticks(from + (share * width as f64) as i64);
            let hull = hull.map(|(one, other)| (place(one.min(other)), place(one.max(other))));
            let parts = span.cut(hull);
            prop_assert!(parts.len() >= 2);
            prop_assert_eq!(parts.first().map(|part| part.from), Some(span.from));
            prop_assert_eq!(parts.last().map(|part| part.before), Some(span.before));
            for pair in parts.windows(2) {
                prop_assert_eq!(pair[0].before, Some(pair[1].from));
            }
            for part in parts {
                prop_assert!(part.width() > 0 && part.width() < span.width());
            }
        }

        #[test]
        fn whatever_is_cut_the_windows_follow_each_other_without_a_hole(cuts in proptest::collection::vec(any::<bool>(), 0..200)) {
            let mut plan = Plan::new(START, START.plus(DAY * 30));
            let mut expected = START;
            let mut cuts = cuts.into_iter();
            while let Some(span) = plan.current() {
                prop_assert_eq!(span.from, expected);
                if cuts.next().unwrap_or(false) && !span.is_tick() {
                    plan.cut(None);
                } else {
                    plan.read(500, 1000);
                    match span.before {
                        Some(before) => expected = before,
                        None => prop_assert!(plan.current().is_none()),
                    }
                }
            }
        }
    }
}
