//! All randomness of a run: a few streams, each drawn from [`SeededChance`], so that a seed repeats itself.

use domain::{Chance, SeededChance};

/// One stream of numbers.
#[derive(Debug)]
pub(crate) struct Dice(SeededChance);

impl Dice {
    /// The stream of this name in the run of this seed.
    pub(crate) fn of(seed: u64, stream: u64) -> Self {
        // Seeds are 1, 2, 3 …: the golden ratio keeps their streams apart.
        Self(SeededChance::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03)))
    }

    /// A whole number in `from..to`; `from` when that is empty.
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "spans are far below 2^52")]
    pub(crate) fn range(&self, from: i64, to: i64) -> i64 {
        if to <= from { from } else { (from + (self.0.unit() * (to - from) as f64) as i64).min(to - 1) }
    }

    /// A place in something of this length.
    pub(crate) fn below(&self, length: usize) -> usize {
        usize::try_from(self.range(0, i64::try_from(length).unwrap_or(i64::MAX))).unwrap_or(0)
    }

    /// True with this probability.
    pub(crate) fn chance(&self, share: f64) -> bool {
        self.0.unit() < share
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_repeats_itself_and_differs_from_the_others() {
        let draw = |seed, stream| {
            let dice = Dice::of(seed, stream);
            (0..8).map(|_| dice.range(0, 1_000_000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 1), draw(1, 1));
        assert_ne!(draw(1, 1), draw(1, 2));
        assert_ne!(draw(1, 1), draw(2, 1));
    }

    #[test]
    fn numbers_stay_within_their_bounds() {
        let dice = Dice::of(3, 0);
        assert!((0..1000).all(|_| (5..8).contains(&dice.range(5, 8))));
        assert_eq!((dice.range(5, 5), dice.below(1)), (5, 0));
    }
}
