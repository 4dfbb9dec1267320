//! Stories of more equal stamps than a source lets one reach.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{Axis, GapKind, Ticks};

use super::model::{Answers, Dividing, Links, Model, ModelRow, NOW, WORDS, every};
use super::store::{Ended, PLENTY, Store, read, read_again, rules, stretch};
use crate::walk::Learnt;

const TIED: Ticks = Ticks(NOW.0 - 30_000_000_000);
const ORDERS: [Answers; 4] = [Answers::AsAsked, Answers::NewestFirst, Answers::Scrambled, Answers::RefusingOrder];

/// Some records, and so many that share one stamp, on both axes, with words of every kind.
fn tied(count: u32) -> Vec<ModelRow> {
    let mut all = every(300, Duration::from_secs(60));
    all.extend((0..count).map(|number| {
        let word = |nth: usize, step: u32| WORDS[nth][usize::try_from(number / step % 4).unwrap_or(0)];
        ModelRow { words: [word(0, 1), word(1, 4), word(2, 16)], created: TIED, ..ModelRow::new(1_000 + number, TIED) }
    }));
    all
}

#[test]
fn thousands_of_equal_stamps_are_read_in_parts() {
    for answers in ORDERS {
        for (count, bound) in [(1_400, 40), (3_000, 60), (9_000, 160)] {
            let mut model = Model { answers, ..Model::honest(tied(count)) };
            let mut store = Store::default();
            let asked = read(&mut store, &mut model, &mut Learnt::default());
            assert!(store.gaps.is_empty(), "{answers:?} {count}");
            assert!(store.missing(&model).is_empty(), "{answers:?} {count}");
            assert!(asked <= bound, "{answers:?} {count}: {asked}");
        }
    }
}

#[test]
fn a_re_read_does_so_on_both_axes() {
    for axis in [Axis::Update, Axis::Creation] {
        for answers in ORDERS {
            let mut model = Model { answers, ..Model::honest(tied(5_000)) };
            let mut store = Store::default();
            let asked = read_again(&mut store, &mut model, &mut Learnt::default(), axis, Ticks(TIED.0 - 1), Ticks(TIED.0 + 1));
            assert!(store.gaps.is_empty(), "{axis} {answers:?}");
            assert_eq!(store.records.len(), 5_000 + model.rows.iter().filter(|row| row.id < 1_000 && row.stamp_on(axis) == TIED).count());
            assert!(asked <= 120, "{axis} {answers:?}: {asked}");
        }
    }
}

#[test]
fn honest_links_need_no_parts() {
    let mut model = Model { links: Links::Honest, ..Model::honest(tied(5_000)) };
    let mut store = Store::default();
    let asked = read(&mut store, &mut model, &mut Learnt::default());
    assert!(store.gaps.is_empty() && store.missing(&model).is_empty());
    assert!(asked <= 25, "{asked}");
}

#[test]
fn only_what_is_out_of_reach_of_the_smallest_part_is_a_gap() {
    for answers in ORDERS {
        let mut all = tied(3_000);
        all.extend((10_000..12_000).map(|id| ModelRow { words: [Some("odd"), Some("new"), None], ..ModelRow::new(id, TIED) }));
        let mut model = Model { answers, ..Model::honest(all) };
        let mut store = Store::default();
        let asked = read(&mut store, &mut model, &mut Learnt::default());
        assert_eq!(store.gaps, BTreeMap::from([(TIED, GapKind::Ties)]));
        let smallest = |row: &&ModelRow| {
            row.stamp == TIED
                && row.words[1] == Some("new")
                && [row.words[0], row.words[2]].iter().all(|word| matches!(word, None | Some("odd")))
        };
        let missing = model.rows.iter().filter(|row| !store.records.contains(&(row.id, row.stamp))).collect::<Vec<_>>();
        assert!(missing.iter().all(smallest), "{answers:?}");
        assert!(missing.len() <= model.rows.iter().filter(smallest).count() - 1_500, "so many can be reached");
        assert!(asked <= 160, "{answers:?}: {asked}");
    }
}

#[test]
fn a_source_that_refuses_or_ignores_the_division_leaves_a_gap_after_few_questions() {
    for dividing in [Dividing::Refused, Dividing::Ignored] {
        for answers in ORDERS {
            let mut model = Model { answers, dividing, ..Model::honest(tied(3_000)) };
            let (mut store, mut learnt) = (Store::default(), Learnt::default());
            let asked = read(&mut store, &mut model, &mut learnt);
            assert_eq!(store.gaps, BTreeMap::from([(TIED, GapKind::Ties)]), "{dividing:?} {answers:?}");
            assert!(store.missing(&model).is_empty() && store.records.len() >= 1_799, "what can be reached is stored");
            assert!(asked <= 50, "{dividing:?} {answers:?}: {asked}");
            // What is known to be out of reach is not tried again by every poll.
            let asked = read(&mut store, &mut model, &mut learnt);
            assert!(asked <= 6, "{dividing:?} {answers:?}: {asked}");
        }
    }
}

#[test]
fn records_in_no_part_are_noticed() {
    for answers in ORDERS {
        let mut model = Model { answers, dividing: Dividing::LosesWordless, ..Model::honest(tied(3_000)) };
        let mut store = Store::default();
        read(&mut store, &mut model, &mut Learnt::default());
        assert_eq!(store.gaps, BTreeMap::from([(TIED, GapKind::Ties)]), "{answers:?}");
    }
}

#[test]
fn everything_refused_while_the_parts_are_read_is_an_outage_and_no_gap() {
    // The filter by words is refused, and then all is: nothing can be concluded from that.
    let mut model = Model { dividing: Dividing::Refused, ..Model::honest(tied(3_000)) };
    let mut store = Store::default();
    let (rules, mut learnt) = (rules(1000, 500, true), Learnt::default());
    let calm = store.clone().walk(&mut model.clone(), rules, &mut Learnt::default(), PLENTY);
    assert_eq!(calm, Ended::Done);
    model.max_skip = 0;
    model.refuses_all_from = Some(6);
    assert_eq!(store.walk(&mut model, rules, &mut learnt, PLENTY), Ended::GaveUp);
    assert!(store.gaps.is_empty(), "{:?}", store.gaps);
}

#[test]
fn ties_that_are_updated_while_they_are_read_in_parts_are_not_lost() {
    for answers in ORDERS {
        for links in [Links::None, Links::Expired] {
            for first in (2..30).step_by(9) {
                let all = tied(3_000);
                // Records go from the front of the instant, which moves the others up.
                let updates = (first..first + 12).zip((300..).step_by(7)).collect();
                let mut model = Model { answers, links, updates, ..Model::honest(all) };
                let mut store = Store::default();
                let ended = store.walk(&mut model, rules(1000, 500, true), &mut Learnt::default(), PLENTY);
                assert_eq!((ended, store.is_kept()), (Ended::Done, Ok(())));
                let unchanged = model.rows.iter().filter(|row| row.since == 0);
                let lost = unchanged.filter(|row| !store.records.contains(&(row.id, row.stamp))).count();
                assert_eq!(lost, 0, "{answers:?} {links:?} {first}");
                assert!(store.gaps.is_empty(), "{answers:?} {links:?} {first}");
            }
        }
    }
}

#[test]
fn a_record_too_large_or_at_fault_in_one_part_costs_only_itself() {
    for (giant, kind) in [(true, GapKind::TooLarge), (false, GapKind::Failing)] {
        let mut model = Model::honest(tied(3_000));
        if giant {
            model.giants.insert(2_222);
        } else {
            model.failing.insert(2_222);
        }
        let mut store = Store { patience: 100, ..Store::default() };
        let asked = read(&mut store, &mut model, &mut Learnt::default());
        assert_eq!(store.gaps, BTreeMap::from([(TIED, kind)]));
        assert_eq!(store.records.len(), 3_299, "{kind:?}");
        assert!(asked <= 260, "{kind:?}: {asked}");
    }
}

#[test]
fn records_too_large_at_the_end_of_what_can_be_left_out_hide_no_other() {
    for giants in [[1_497, 1_498, 1_499], [1_499, 1_500, 1_501]] {
        let mut model = Model { giants: giants.into(), ..Model::honest(tied(1_400)) };
        let mut store = Store::default();
        read(&mut store, &mut model, &mut Learnt::default());
        assert_eq!(store.gaps.len(), 1);
        assert_eq!(store.records.len(), 1_697, "{giants:?}");
    }
}

#[test]
fn a_source_that_refuses_sooner_than_it_says_leaves_a_gap_before_anything_is_passed_over() {
    for dividing in [Dividing::Refused, Dividing::Heeded] {
        let source = Model { dividing, max_skip: 100, ..Model::honest(tied(3_000)) };
        let (mut store, mut model) = (Store::default(), source.clone());
        assert_eq!(store.walk(&mut model, rules(1000, 500, true), &mut Learnt::default(), PLENTY), Ended::Done);
        assert_eq!((store.is_kept(), store.missing(&model)), (Ok(()), Vec::new()));
        let (mut store, mut model) = (Store::default(), source);
        let mut reread = stretch(Axis::Update, Ticks(TIED.0 - 36_000_000_000), NOW);
        assert_eq!(store.reread(&mut reread, &mut model, rules(1000, 500, true), &mut Learnt::default(), PLENTY), Ended::Done);
        assert_eq!(store.is_kept(), Ok(()));
        assert_eq!(store.gaps.contains_key(&TIED), dividing == Dividing::Refused, "{:?}", store.gaps);
    }
}

#[test]
fn a_gap_of_ties_heals_when_the_source_learns_to_divide() {
    let mut model = Model { dividing: Dividing::Refused, ..Model::honest(tied(3_000)) };
    let (mut store, mut learnt) = (Store::default(), Learnt::default());
    read(&mut store, &mut model, &mut learnt);
    let mut again = || {
        let mut reread = stretch(Axis::Update, Ticks(TIED.0 - 36_000_000_000), NOW);
        assert_eq!(store.reread(&mut reread, &mut model, rules(1000, 500, true), &mut learnt, PLENTY), Ended::Done);
        assert_eq!(store.is_kept(), Ok(()));
        model.dividing = Dividing::Heeded;
        store.gaps.len()
    };
    assert_eq!((again(), again()), (1, 0));
    assert_eq!(store.records.len(), 3_300);
}
