//! Stretches of time, and cutting them.
//!
//! A stretch `[from, before)` of last-update time is frozen: what happens later is stamped later. One of creation
//! time is frozen in another sense: no record ever leaves it.

use domain::Ticks;

/// One tick past the last instant that a filter can name.
const END: Ticks = Ticks(2_534_023_008_000_000_000);

/// A stretch of time, on whichever axis a walk reads.
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

    /// How many ticks it is wide.
    pub(crate) fn width(self) -> i64 {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const START: Ticks = Ticks(17_000_000_000_000_000);

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
    }
}
