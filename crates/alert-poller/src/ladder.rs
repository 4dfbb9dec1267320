//! When something is read again by the clock, and which stretch. Pure.
//!
//! Every errand of every feed has its own slots on the time line, one per period, at a phase that follows from the
//! tenant's id. So a thousand tenants that began together are spread over the whole period, and every replica comes to
//! the same answer without asking. A run is due at the first slot that is some time after the end of the last one; a
//! run that ended late therefore does not begin again at once, and slots that went by while nobody could read are not
//! made up for: the next run reads as far back as each would have.

use std::time::Duration;

use domain::{ContentHash, Errand, Ticks};

use crate::config::Ladder;
use crate::feed::FeedKey;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The nightly comparisons of all tenants begin within this.
const NIGHT: Duration = Duration::from_secs(3 * 3600);

/// The slots of one errand of one feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slots {
    every: Duration,
    phase: Duration,
    /// The least between an end and the next begin.
    least: Duration,
}

/// The stretch of an errand by last update, `[from, to)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) from: Ticks,
    pub(crate) to: Ticks,
}

impl Stretch {
    pub(crate) fn is_empty(self) -> bool {
        self.from >= self.to
    }
}

impl Ladder {
    /// How far back an errand of the clock reads; `None` when it is switched off, or not of the clock.
    pub(crate) fn reach(&self, errand: Errand) -> Option<Duration> {
        match errand {
            Errand::Short => (!self.short.every.is_zero()).then_some(self.short.reach),
            Errand::Long => (!self.long.every.is_zero()).then_some(self.long.reach),
            Errand::Nightly => self.compare.map(|compare| compare.reach),
            Errand::Backfill | Errand::Reconcile | Errand::Replay => None,
        }
    }

    fn slots(&self, errand: Errand, feed: FeedKey) -> Option<Slots> {
        let rung = |every: Duration| (!every.is_zero()).then(|| Slots { every, phase: share(every, errand, feed), least: every / 2 });
        match errand {
            Errand::Short => rung(self.short.every),
            Errand::Long => rung(self.long.every),
            // A comparison that was late may be followed by the next night's all the same.
            Errand::Nightly => {
                self.compare.map(|compare| Slots { every: DAY, phase: compare.at + share(NIGHT, errand, feed), least: DAY / 4 })
            }
            Errand::Backfill | Errand::Reconcile | Errand::Replay => None,
        }
    }

    /// When the next run is due, the last one having ended then; `None` when it is switched off, or not of the clock.
    pub(crate) fn due(&self, errand: Errand, feed: FeedKey, last_end: Ticks) -> Option<Ticks> {
        let Slots { every, phase, least } = self.slots(errand, feed)?;
        let (every, phase) = (ticks(every).max(1), ticks(phase));
        let earliest = last_end.plus(least).0.saturating_sub(phase);
        let behind = earliest.rem_euclid(every);
        let wait = if behind == 0 { 0 } else { every - behind };
        Some(Ticks(earliest.saturating_add(wait).saturating_add(phase)))
    }

    /// What a run that begins now reads by last update: as far back as it reaches, but not before what was to be read at
    /// first contact, up to where every poll reads anyway.
    pub(crate) fn stretch(&self, errand: Errand, began: Option<Ticks>, watermark: Ticks, overlap: Duration, now: Ticks) -> Option<Stretch> {
        let from = now.minus(self.reach(errand)?);
        // A beginning after the watermark is one by a clock that was wrong.
        let from = from.max(began.filter(|began| *began <= watermark).unwrap_or(from));
        let to = watermark.minus(overlap).min(now);
        Some(Stretch { from, to: to.max(from) })
    }
}

/// A share of `span` that is this feed's own.
fn share(span: Duration, errand: Errand, feed: FeedKey) -> Duration {
    let name = format!("{}/{}/{errand}", feed.tenant, feed.source);
    let ContentHash(hash) = ContentHash::of(name.as_bytes());
    let [a, b, c, d, ..] = hash;
    let unit = f64::from(u32::from_be_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0);
    span.mul_f64(unit)
}

fn ticks(span: Duration) -> i64 {
    i64::try_from(span.as_nanos() / 100).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use domain::{Source, TenantId};
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Compare, Rung};

    const NOW: Ticks = Ticks(17_500_000_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);
    const OF_THE_CLOCK: [Errand; 3] = [Errand::Short, Errand::Long, Errand::Nightly];

    fn feed(number: u128) -> FeedKey {
        FeedKey { tenant: TenantId(uuid::Uuid::from_u128(number)), source: Source::GraphAlerts }
    }

    #[test]
    fn what_is_switched_off_or_asked_for_is_never_due() {
        let off = Ladder { short: Rung { every: Duration::ZERO, ..Ladder::default().short }, compare: None, ..Ladder::default() };
        for errand in [Errand::Short, Errand::Nightly, Errand::Backfill, Errand::Reconcile, Errand::Replay] {
            assert_eq!(off.due(errand, feed(1), NOW), None, "{errand}");
            assert_eq!(off.stretch(errand, None, NOW, MINUTE, NOW), None, "{errand}");
        }
        assert!(off.due(Errand::Long, feed(1), NOW).is_some());
    }

    #[test]
    fn nothing_is_looked_for_before_the_beginning() {
        let stretch = |began| Ladder::default().stretch(Errand::Short, Some(began), NOW, MINUTE, NOW).expect("it is on").from;
        assert_eq!(stretch(NOW.minus(HOUR)), NOW.minus(HOUR));
        assert_eq!(stretch(NOW.minus(DAY * 9)), NOW.minus(DAY));
        assert_eq!(stretch(NOW.plus(DAY * 365)), NOW.minus(DAY), "by a clock that was wrong");
    }

    #[test]
    fn a_thousand_tenants_that_began_together_are_spread_over_the_period() {
        let ladder = Ladder::default();
        let mut minutes = [0_u32; 60];
        for number in 0..1000 {
            let due = ladder.due(Errand::Short, feed(number), NOW).expect("it is on");
            let wait = due.since(NOW);
            assert!(wait >= HOUR / 2 && wait < HOUR * 3 / 2, "{wait:?}");
            minutes[usize::try_from(wait.as_secs() / 60 - 30).expect("fits")] += 1;
        }
        assert!(minutes.iter().all(|count| (3..40).contains(count)), "{minutes:?}");
    }

    #[test]
    fn nightly_comparisons_begin_within_three_hours_after_the_set_time() {
        let at = HOUR * 23;
        let ladder = Ladder { compare: Some(Compare { reach: DAY, at }), ..Ladder::default() };
        let mut nights = std::collections::BTreeSet::new();
        for number in 0..200 {
            let due = ladder.due(Errand::Nightly, feed(number), NOW).expect("it is on");
            let within = Duration::from_nanos(u64::try_from((due.0 - ticks(at)).rem_euclid(ticks(DAY))).expect("fits") * 100);
            assert!(within <= NIGHT, "{within:?} after the set time");
            nights.insert(within.as_secs() / 600);
        }
        assert_eq!(nights.len(), 18, "every ten minutes of the night are used: {nights:?}");
    }

    #[test]
    fn the_two_sources_of_a_tenant_do_not_begin_together() {
        let (graph, defender) = (feed(7), FeedKey { source: Source::MdeAlerts, ..feed(7) });
        assert_ne!(Ladder::default().due(Errand::Short, graph, NOW), Ladder::default().due(Errand::Short, defender, NOW));
    }

    proptest! {
        #[test]
        fn a_stretch_never_reaches_into_the_future_nor_past_what_polling_reads_and_is_never_short_otherwise(
            behind in 0_u64..20 * 24 * 3600, ahead in 0_u64..7200, overlap in 0_u64..7200, which in 0_usize..3) {
            let ladder = Ladder::default();
            let errand = OF_THE_CLOCK[which];
            let overlap = Duration::from_secs(overlap);
            // Also a watermark in the future, as after a step of the clock.
            let watermark = NOW.plus(Duration::from_secs(ahead)).minus(Duration::from_secs(behind));
            let stretch = ladder.stretch(errand, None, watermark, overlap, NOW).expect("it is on");
            prop_assert!(stretch.to <= NOW && stretch.from <= stretch.to);
            prop_assert_eq!(stretch.from, NOW.minus(ladder.reach(errand).expect("it is on")));
            // Whatever lies between the start and now is read: by this, or by every poll.
            prop_assert!(stretch.to >= watermark.minus(overlap).min(NOW), "{:?}", stretch);
            if !stretch.is_empty() {
                prop_assert!(stretch.to <= watermark.minus(overlap), "polling reads the rest");
            }
        }

        #[test]
        fn slots_are_one_period_apart_and_never_too_soon(number in 0_u128..1_000_000, late in 0_u64..4 * 24 * 3600, which in 0_usize..3) {
            let ladder = Ladder::default();
            let errand = OF_THE_CLOCK[which];
            let slots = ladder.slots(errand, feed(number)).expect("it is on");
            let first = ladder.due(errand, feed(number), NOW).expect("it is on");
            prop_assert!(first.since(NOW) >= slots.least && first.since(NOW) < slots.least + slots.every + MINUTE / 60);
            // A run that takes no time is followed by the next slot.
            prop_assert_eq!(ladder.due(errand, feed(number), first), Some(first.plus(slots.every)));
            // One that began late or took long is followed by a slot, too, with room in between.
            let end = first.plus(Duration::from_secs(late));
            let next = ladder.due(errand, feed(number), end).expect("it is on");
            prop_assert!(next.since(end) >= slots.least && next.since(end) <= slots.least + slots.every);
            prop_assert_eq!((next.0 - first.0).rem_euclid(ticks(slots.every)), 0);
        }
    }
}
