//! Stories of stretches that are read again.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{Axis, GapKind, Ticks};

use super::model::{Answers, Links, Model, ModelRow, NOW, every};
use super::store::{Ended, PLENTY, Store, read, read_again, rules, stretch};
use crate::walk::{Learnt, Walk};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const MONTH: Duration = Duration::from_secs(30 * 86_400);
const AXES: [Axis; 2] = [Axis::Update, Axis::Creation];
const ORDERS: [Answers; 4] = [Answers::AsAsked, Answers::NewestFirst, Answers::Scrambled, Answers::RefusingOrder];

#[test]
fn a_month_of_a_quiet_tenant_is_a_handful_of_questions() {
    for axis in AXES {
        for (count, bound) in [(0, 6), (1, 8), (20, 20)] {
            let mut model = Model::honest(every(count, DAY));
            let mut store = Store::default();
            let asked = read_again(&mut store, &mut model, &mut Learnt::default(), axis, NOW.minus(MONTH), NOW);
            assert!(asked <= bound, "{axis}: {asked} for {count}");
            assert_eq!(store.records.len(), model.rows.len());
        }
    }
}

#[test]
fn a_busy_month_costs_a_few_questions_a_page() {
    for axis in AXES {
        for answers in ORDERS {
            let mut model = Model { answers, ..Model::honest(every(20_000, MINUTE * 2)) };
            let mut store = Store::default();
            let asked = read_again(&mut store, &mut model, &mut Learnt::default(), axis, NOW.minus(MONTH), NOW);
            assert!(asked <= 90, "{axis} {answers:?}: {asked} for 20 pages");
            assert!(store.missing(&model).is_empty());
        }
    }
}

#[test]
fn what_is_newest_comes_first() {
    let mut model = Model::honest(every(20_000, MINUTE * 2));
    let mut store = Store::default();
    let mut reread = stretch(Axis::Update, NOW.minus(MONTH), NOW);
    store.reread(&mut reread, &mut model, rules(1000, 500, true), &mut Learnt::default(), 5);
    assert_eq!(store.is_kept(), Ok(()));
    let newest = NOW.minus(DAY / 2);
    assert!(model.rows.iter().filter(|row| row.stamp >= newest).all(|row| store.has(row)));
    assert!(reread.left < NOW && reread.left > reread.from, "today is done, the month is not");
}

#[test]
fn nothing_left_is_nothing_to_ask() {
    let at = NOW.minus(DAY);
    for axis in AXES {
        let mut reread = stretch(axis, at, NOW);
        reread.left = at;
        assert!(Walk::<()>::reread(&reread, rules(1000, 500, true), NOW, &Learnt::default()).is_done());
        assert!(!Walk::<()>::reread(&stretch(axis, at, NOW), rules(1000, 500, true), NOW, &Learnt::default()).is_done());
    }
}

#[test]
fn it_stays_within_its_stretch_and_asks_for_no_order() {
    let (from, to) = (NOW.minus(DAY * 3), NOW.minus(DAY));
    for axis in AXES {
        let mut model = Model { answers: Answers::RefusingOrder, ..Model::honest(every(500, MINUTE * 15)) };
        let mut store = Store::default();
        read_again(&mut store, &mut model, &mut Learnt::default(), axis, from, to);
        let inside = model.rows.iter().filter(|row| row.stamp_on(axis) >= from && row.stamp_on(axis) < to).count();
        assert_eq!(store.records.len(), inside);
    }
}

#[test]
fn by_creation_a_record_without_an_update_stamp_is_found() {
    // The source filters by a stamp that it does not show; all we are sure of is the time of creation.
    let mut lonely = ModelRow::new(7, Ticks(i64::MIN / 2));
    lonely.created = NOW.minus(DAY);
    let mut model = Model::honest(vec![lonely, ModelRow::new(8, NOW.minus(DAY))]);
    let mut store = Store::default();
    read_again(&mut store, &mut model, &mut Learnt::default(), Axis::Update, NOW.minus(MONTH), NOW);
    assert_eq!(store.records.len(), 1);
    read_again(&mut store, &mut model, &mut Learnt::default(), Axis::Creation, NOW.minus(MONTH), NOW);
    assert_eq!(store.records.len(), 2);
}

#[test]
fn what_polling_could_not_see_is_found() {
    let mut model = Model::honest(every(300, MINUTE));
    let (mut store, mut learnt) = (Store::default(), Learnt::default());
    read(&mut store, &mut model, &mut learnt);
    // It becomes visible long after the watermark has passed it, and beyond the overlap.
    model.rows.push(ModelRow::new(777, NOW.minus(MINUTE * 200)));
    read(&mut store, &mut model, &mut learnt);
    assert_eq!(store.missing(&model).len(), 1);
    read_again(&mut store, &mut model, &mut learnt, Axis::Update, NOW.minus(DAY), NOW);
    assert!(store.missing(&model).is_empty());
}

#[test]
fn it_goes_on_where_it_stood_after_dying_at_any_question() {
    for axis in AXES {
        for answers in ORDERS {
            let whole = Model { answers, clamp: 40, ..Model::honest(every(600, MINUTE)) };
            for question in (1..60).step_by(3) {
                let mut model = whole.clone();
                let mut store = Store::default();
                let mut reread = stretch(axis, NOW.minus(DAY), NOW);
                store.reread(&mut reread, &mut model, rules(1000, 500, true), &mut Learnt::default(), question);
                let left = reread.left;
                let ended = store.reread(&mut reread, &mut model, rules(1000, 500, true), &mut Learnt::default(), PLENTY);
                assert_eq!((ended, store.is_kept()), (Ended::Done, Ok(())));
                assert!(left == reread.from || reread.left < left);
                assert!(store.missing(&model).is_empty(), "{axis} {answers:?} {question}");
            }
        }
    }
}

#[test]
fn clamps_and_links_of_every_kind_lose_nothing() {
    for axis in AXES {
        for answers in ORDERS {
            for links in [Links::None, Links::Honest, Links::Always, Links::Circle, Links::Expired, Links::Foreign] {
                for clamp in [30, 1000] {
                    let mut all = every(100, MINUTE);
                    all.extend(
                        (1_000..1_300).map(|id| ModelRow { created: NOW.minus(DAY), ..ModelRow::new(id, NOW.minus(SECOND * 3_000)) }),
                    );
                    let mut model = Model { answers, links, clamp, ..Model::honest(all) };
                    let mut store = Store::default();
                    read_again(&mut store, &mut model, &mut Learnt::default(), axis, NOW.minus(DAY * 2), NOW);
                    assert!(store.missing(&model).is_empty() && store.gaps.is_empty(), "{axis} {answers:?} {links:?} {clamp}");
                }
            }
        }
    }
}

#[test]
fn a_record_too_large_for_any_page_is_a_gap_there_too() {
    for axis in AXES {
        for answers in ORDERS {
            let mut model = Model { answers, giants: [150].into(), ..Model::honest(every(300, MINUTE)) };
            let mut store = Store::default();
            let asked = read_again(&mut store, &mut model, &mut Learnt::default(), axis, NOW.minus(DAY), NOW);
            assert_eq!(store.gaps, BTreeMap::from([(model.rows[149].stamp_on(axis), GapKind::TooLarge)]), "{axis} {answers:?}");
            assert_eq!(store.records.len(), 299);
            assert!(asked <= 80, "{axis} {answers:?}: {asked}");
        }
    }
}

#[test]
fn what_is_read_whole_heals_gaps_by_update_as_by_creation() {
    // The store heals only those that were found on the same axis.
    for axis in Axis::ALL {
        let mut model = Model::honest(every(300, MINUTE));
        let mut store = Store::default();
        store.gaps.insert(NOW.minus(MINUTE * 90), GapKind::Ties);
        store.gaps.insert(NOW.minus(DAY * 2), GapKind::Ties);
        read_again(&mut store, &mut model, &mut Learnt::default(), *axis, NOW.minus(DAY), NOW);
        assert_eq!(store.gaps, BTreeMap::from([(NOW.minus(DAY * 2), GapKind::Ties)]), "{axis}");
    }
}

#[test]
fn rows_that_jump_to_the_front_while_they_are_read_by_creation_hide_no_other() {
    // A source that answers by last update moves a changed record to where we have been; it is polling's then.
    for first in 1..40 {
        let mut all = every(10, MINUTE);
        all.extend((1_000..1_200).map(|id| ModelRow { created: NOW.minus(DAY), ..ModelRow::new(id, NOW.minus(SECOND * (4_000 - id))) }));
        let updates = (first..first + 10).zip((10..).step_by(19)).collect();
        let mut model = Model { answers: Answers::NewestFirst, clamp: 30, updates, ..Model::honest(all) };
        let mut store = Store::default();
        read_again(&mut store, &mut model, &mut Learnt::default(), Axis::Creation, NOW.minus(DAY * 2), NOW);
        let unchanged = model.rows.iter().filter(|row| row.since == 0);
        assert_eq!(unchanged.filter(|row| !store.records.contains(&(row.id, row.stamp))).count(), 0, "{first}");
    }
}
