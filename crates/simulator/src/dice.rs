//! A small generator of pseudo-random numbers whose sequence is part of our promise: the same seed gives the
//! same alerts on every machine and with every version of every library. (SplitMix64: one addition, two
//! multiplications, good enough for a play.)

use uuid::Uuid;

/// A stream of pseudo-random values that depends on nothing but its seed.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

impl Dice {
    /// Dice for one purpose: the parts name it, such as seed, tenant and number of the alert.
    pub(crate) fn of(parts: &[u64]) -> Dice {
        let mut state = 0x243F_6A88_85A3_08D3;
        for part in parts {
            state = mix(state ^ part.wrapping_add(STEP));
        }
        Dice(state)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A value from 0 up to, not including, `limit`; 0 when the limit is 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { (self.next() % limit as u64) as usize }
    }

    /// A value from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1).max(1) as u64) as i64
    }

    /// From 0 up to, not including, 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True in this share of cases.
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// One of these, of which there must be at least one.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(crate) fn hex(&mut self, digits: usize) -> String {
        let mut text = String::with_capacity(digits + 16);
        while text.len() < digits {
            text.push_str(&format!("{:016x}", self.next()));
        }
        text.truncate(digits);
        text
    }

    pub(crate) fn uuid(&mut self) -> Uuid {
        let high = u128::from(self.next());
        uuid::Builder::from_random_bytes(((high << 64) | u128::from(self.next())).to_be_bytes()).into_uuid()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_be_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_fixed_for_ever() {
        let mut dice = Dice::of(&[1, 2, 3]);
        let mut again = Dice::of(&[1, 2, 3]);
        let first: Vec<u64> = (0..4).map(|_| dice.next()).collect();
        assert_eq!(first, (0..4).map(|_| again.next()).collect::<Vec<_>>());
        assert_ne!(Dice::of(&[1, 2, 4]).next(), first[0]);
        assert_ne!(Dice::of(&[0, 1]).next(), Dice::of(&[1, 0]).next(), "the order of the parts counts");
    }
}
