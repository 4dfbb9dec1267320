//! What happened in a run: always as a fingerprint, which two runs of one seed must share, and as lines of text
//! when somebody wants to read it.

use crate::time::Ms;

/// The log of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    fingerprint: u64,
    events: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Keeps the lines too if asked.
    pub(crate) fn new(keep: bool) -> Self {
        Self { fingerprint: 0xCBF2_9CE4_8422_2325, events: 0, lines: keep.then(Vec::new) }
    }

    /// Something happened. `numbers` go into the fingerprint; `text` is made only for a reader.
    pub(crate) fn event(&mut self, at: Ms, what: &'static str, numbers: &[i64], text: impl FnOnce() -> String) {
        self.events += 1;
        self.mix(at.cast_unsigned());
        what.bytes().for_each(|byte| self.mix(u64::from(byte)));
        numbers.iter().for_each(|number| self.mix(number.cast_unsigned()));
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>10.3} {what} {numbers:?} {}", seconds(at), text()));
        }
    }

    fn mix(&mut self, word: u64) {
        self.fingerprint = (self.fingerprint ^ word).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23);
    }

    /// The same for the same events.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// How many there were.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// The lines, if they were kept.
    pub(crate) fn take(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default()
    }
}

#[expect(clippy::cast_precision_loss, reason = "for a reader")]
fn seconds(at: Ms) -> f64 {
    at as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_order_or_number_is_another_fingerprint() {
        let of = |events: &[(&'static str, i64)]| {
            let mut trace = Trace::new(false);
            events.iter().for_each(|(what, number)| trace.event(0, what, &[*number], String::new));
            trace.fingerprint()
        };
        assert_eq!(of(&[("a", 1), ("b", 2)]), of(&[("a", 1), ("b", 2)]));
        assert_ne!(of(&[("a", 1), ("b", 2)]), of(&[("b", 2), ("a", 1)]));
        assert_ne!(of(&[("a", 1)]), of(&[("a", 2)]));
    }
}
