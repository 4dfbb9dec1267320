//! Stories and properties of walks, against a pretend source.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::{ContentHash, FeedState, Order, Ticks};
use proptest::prelude::*;

use super::judge::Row;
use super::model::{Answers, Ended, Links, Model, ModelRow, NOW, Store, by_windows, rows, rules};
use super::spans::Span;
use super::{Learnt, newest};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const PLENTY: usize = 20_000;

fn every(count: u32, span: Duration) -> Vec<ModelRow> {
    rows((0..count).map(|index| NOW.minus(span * (count - index))))
}

/// Reads to the end and says how many questions it took.
fn read(store: &mut Store, model: &mut Model, learnt: &mut Learnt) -> usize {
    let before = model.asked;
    let can_order = true;
    assert_eq!(store.walk(model, rules(1000, model.max_skip, can_order), learnt, PLENTY), Ended::Done);
    model.asked - before
}

#[test]
fn a_first_sync_reads_everything_and_ends_at_the_newest_stamp() {
    let (mut store, mut learnt) = (Store::default(), Learnt::default());
    let mut model = Model::honest(every(5_000, SECOND * 60));
    let asked = read(&mut store, &mut model, &mut learnt);
    assert!(store.missing(&model).is_empty());
    assert_eq!(store.state.watermark, Some(NOW.minus(SECOND * 60)));
    assert_eq!(store.state.order, Order::Ascending);
    assert!(asked <= 8, "{asked} questions for 5,000 alerts");
}

#[test]
fn an_idle_feed_costs_one_question_a_poll_and_by_windows_three() {
    for links in [Links::None, Links::Honest] {
        for (state, idle) in [(FeedState::default(), 1), (by_windows(), 3)] {
            let mut store = Store { state, ..Store::default() };
            let mut learnt = Learnt::default();
            let mut model = Model { links, ..Model::honest(every(3_000, SECOND * 600)) };
            read(&mut store, &mut model, &mut learnt);
            assert_eq!(read(&mut store, &mut model, &mut learnt), idle);
            // After a restart, what was learnt is learnt again, once.
            let mut learnt = Learnt::default();
            assert!(read(&mut store, &mut model, &mut learnt) <= 4);
            assert_eq!(read(&mut store, &mut model, &mut learnt), idle);
        }
    }
}

#[test]
fn a_feed_with_a_single_alert_costs_three_questions_a_poll_at_most() {
    for state in [FeedState::default(), by_windows()] {
        let mut store = Store { state, ..Store::default() };
        let mut learnt = Learnt::default();
        let mut model = Model::honest(every(1, SECOND * 600));
        read(&mut store, &mut model, &mut learnt);
        let asked = read(&mut store, &mut model, &mut learnt);
        assert!(asked <= 3, "{asked}");
        assert!(store.missing(&model).is_empty());
    }
}

#[test]
fn a_month_of_a_quiet_tenant_is_a_handful_of_questions_by_windows() {
    let mut store = Store { state: by_windows(), ..Store::default() };
    let mut model = Model::honest(every(20, DAY));
    let asked = read(&mut store, &mut model, &mut Learnt::default());
    assert!(asked <= 24, "{asked}");
    assert!(store.missing(&model).is_empty());
}

#[test]
fn a_silent_clamp_loses_nothing() {
    // Asked for 1000, the source gives 50 and says nothing.
    for (answers, bound) in [(Answers::AsAsked, 60), (Answers::NewestFirst, 220), (Answers::Scrambled, 220), (Answers::RefusingOrder, 220)]
    {
        let mut model = Model { answers, clamp: 50, ..Model::honest(every(2_000, SECOND * 300)) };
        let mut store = Store::default();
        let asked = read(&mut store, &mut model, &mut Learnt::default());
        assert!(store.missing(&model).is_empty(), "{answers:?}");
        assert!(asked <= bound, "{answers:?}: {asked}");
    }
}

#[test]
fn a_source_that_begins_to_cut_its_answers_later_on_loses_nothing() {
    for answers in [Answers::AsAsked, Answers::NewestFirst, Answers::Scrambled, Answers::RefusingOrder] {
        let mut model = Model { answers, ..Model::honest(every(500, SECOND)) };
        let (mut store, mut learnt) = (Store::default(), Learnt::default());
        read(&mut store, &mut model, &mut learnt);
        // Answers of hundreds have been seen; from now on none is longer than 30, and nothing says so.
        model.clamp = 30;
        for (minute, id) in (1_u32..=6).zip((1_000..).step_by(25)) {
            store.later = Duration::from_secs(60) * minute;
            let stamps = (0..25).map(|second| NOW.plus(store.later).minus(SECOND * second));
            model.rows.extend((id..).zip(stamps).map(|(id, stamp)| ModelRow { id, stamp, unreadable: false }));
            read(&mut store, &mut model, &mut learnt);
        }
        assert_eq!(store.missing(&model), Vec::<ModelRow>::new(), "{answers:?}");
    }
}

#[test]
fn an_answer_out_of_order_switches_to_windows_for_good() {
    for answers in [Answers::NewestFirst, Answers::Scrambled, Answers::RefusingOrder] {
        let mut model = Model { answers, ..Model::honest(every(3_000, SECOND * 60)) };
        let mut store = Store::default();
        read(&mut store, &mut model, &mut Learnt::default());
        assert_eq!(store.state.order, Order::Windows);
        assert!(store.missing(&model).is_empty());
    }
}

#[test]
fn one_alert_of_the_year_9999_blinds_nobody() {
    let absurd = Ticks::parse("9999-12-31T23:59:59.9999999Z").expect("readable");
    for answers in [Answers::AsAsked, Answers::Scrambled] {
        let mut model = Model { answers, ..Model::honest(rows([NOW.minus(DAY), absurd, absurd, NOW.minus(SECOND)])) };
        let (mut store, mut learnt) = (Store::default(), Learnt::default());
        read(&mut store, &mut model, &mut learnt);
        assert!(store.missing(&model).is_empty());
        assert_eq!(store.state.watermark, Some(NOW.minus(SECOND)));
        model.rows.push(ModelRow { id: 77, stamp: NOW, unreadable: false });
        read(&mut store, &mut model, &mut learnt);
        assert!(store.missing(&model).is_empty());
    }
}

#[test]
fn a_source_that_shows_more_than_the_window_does_not_move_the_cursor_out_of_it() {
    let row = |stamp| Row { key: ContentHash([0; 32]), stamp: Some(stamp) };
    let span = Span { from: NOW.minus(DAY), before: Some(NOW.minus(SECOND * 60)) };
    let inside = NOW.minus(SECOND * 61);
    assert_eq!(newest(&[row(inside), row(NOW.minus(SECOND * 60)), row(NOW)], span, NOW), Some(inside));
}

#[test]
fn what_becomes_visible_late_within_the_overlap_is_found() {
    let mut model = Model::honest(every(100, SECOND * 60));
    let (mut store, mut learnt) = (Store::default(), Learnt::default());
    read(&mut store, &mut model, &mut learnt);
    model.rows.push(ModelRow { id: 777, stamp: NOW.minus(SECOND * (14 * 60)), unreadable: false });
    read(&mut store, &mut model, &mut learnt);
    assert!(store.missing(&model).is_empty());
}

#[test]
fn more_equal_stamps_than_a_page_holds_are_all_read() {
    for answers in [Answers::AsAsked, Answers::NewestFirst, Answers::Scrambled] {
        for links in [Links::None, Links::Honest, Links::Always, Links::Circle, Links::Expired] {
            let mut all = every(300, SECOND * 60);
            all.extend((1000..2200).map(|id| ModelRow { id, stamp: NOW.minus(SECOND * 3000), unreadable: false }));
            let mut model = Model { answers, links, ..Model::honest(all) };
            let mut store = Store::default();
            read(&mut store, &mut model, &mut Learnt::default());
            assert!(store.missing(&model).is_empty() && store.gaps.is_empty(), "{answers:?} {links:?}");
        }
    }
}

#[test]
fn ties_out_of_reach_become_a_gap_and_the_rest_is_read() {
    for answers in [Answers::AsAsked, Answers::Scrambled] {
        let tied = NOW.minus(SECOND * 3000);
        let mut all = every(300, SECOND * 60);
        all.extend((1000..4000).map(|id| ModelRow { id, stamp: tied, unreadable: false }));
        let mut model = Model { answers, ..Model::honest(all) };
        let mut store = Store::default();
        read(&mut store, &mut model, &mut Learnt::default());
        assert_eq!(store.gaps, BTreeSet::from([tied]));
        assert!(store.missing(&model).is_empty());
        assert!(store.records.iter().filter(|(_, stamp)| *stamp == tied).count() >= 1500, "what can be reached is stored");
    }
}

#[test]
fn a_record_too_large_for_any_page_costs_only_itself() {
    for answers in [Answers::AsAsked, Answers::Scrambled] {
        let mut model = Model { answers, giants: BTreeSet::from([150]), ..Model::honest(every(300, SECOND * 60)) };
        let mut store = Store::default();
        read(&mut store, &mut model, &mut Learnt::default());
        assert_eq!(store.gaps.len(), 1, "{answers:?}");
        assert_eq!(store.records.len(), 299, "{answers:?}");
        assert!(store.missing(&model).is_empty());
    }
}

#[test]
fn a_first_sync_that_dies_after_any_page_goes_on_without_a_loss() {
    for answers in [Answers::AsAsked, Answers::NewestFirst] {
        let whole = Model { answers, clamp: 40, ..Model::honest(every(600, SECOND * 60)) };
        for page in 1..80 {
            let mut model = whole.clone();
            let mut store = Store::default();
            store.walk(&mut model, rules(1000, 500, true), &mut Learnt::default(), page);
            // Everything but what is committed is forgotten.
            read(&mut store, &mut model, &mut Learnt::default());
            assert!(store.missing(&model).is_empty(), "{answers:?} after page {page}");
        }
    }
}

#[test]
fn a_crash_after_every_single_page_still_gets_through() {
    let mut model = Model { clamp: 40, ..Model::honest(every(600, SECOND * 3600)) };
    let mut store = Store::default();
    let mut deaths = 0;
    while store.walk(&mut model, rules(1000, 500, true), &mut Learnt::default(), 4) != Ended::Done {
        deaths += 1;
        assert!(deaths < 200, "no progress");
    }
    assert!(store.missing(&model).is_empty());
}

/// A source with everything that can be wrong with one.
fn any_model() -> impl Strategy<Value = (Model, u32)> {
    let answers = prop_oneof![
        Just(Answers::AsAsked),
        Just(Answers::AsAsked),
        Just(Answers::NewestFirst),
        Just(Answers::Scrambled),
        Just(Answers::RefusingOrder)
    ];
    let links = prop_oneof![
        Just(Links::None),
        Just(Links::None),
        Just(Links::Honest),
        Just(Links::Always),
        Just(Links::Circle),
        Just(Links::Expired),
        Just(Links::Foreign)
    ];
    let unit = prop_oneof![Just(1_i64), Just(100_000_i64), Just(10_000_000_i64), Just(36_000_000_000_i64), Just(600_000_000_000_i64)];
    let stamps = (unit, 1_i64..40).prop_flat_map(|(unit, steps)| {
        proptest::collection::vec((0..steps).prop_map(move |step| Ticks(NOW.0 - 25_000_000_000_000 + step * unit)), 0..80)
    });
    let oddities = (proptest::collection::vec(0_usize..80, 0..4), 0_usize..3);
    let updates = proptest::collection::btree_map(1_usize..60, 0_usize..80, 0..6);
    (answers, links, stamps, oddities, updates, (1_usize..30, 1_u32..40, 1_u32..60, prop::bool::weighted(0.9), any::<bool>())).prop_map(
        |(answers, links, stamps, (unreadable, absurd), updates, (clamp, page_size, max_skip, heeds_skip, ragged))| {
            let mut all = rows(stamps);
            for index in unreadable {
                if let Some(row) = all.get_mut(index) {
                    row.unreadable = true;
                }
            }
            all.extend((500..).take(absurd).map(|id| ModelRow { id, stamp: Ticks(2_534_023_007_999_999_999), unreadable: false }));
            // Who pays no heed to $skip, gives no useful links and clamps in silence cannot be seen through.
            let hopeless = !heeds_skip && !matches!(links, Links::Honest | Links::Always);
            let clamp = if hopeless { 1000 } else { clamp };
            let ragged = ragged && matches!(links, Links::Honest | Links::Always);
            (Model { answers, links, clamp, heeds_skip, ragged, updates, max_skip, ..Model::honest(all) }, page_size)
        },
    )
}

/// Found by the property below: an update shifts the page that a circular link leads back to, which looks as
/// if the link had led on.
#[test]
fn a_circle_that_once_led_on_is_still_a_circle() {
    let stamp = Ticks(NOW.0 - 25_000_000_000_000);
    let mut stamps = vec![stamp; 28];
    stamps[9] = stamp.next();
    let mut model =
        Model { links: Links::Circle, heeds_skip: false, max_skip: 1, updates: [(15, 0)].into(), ..Model::honest(rows(stamps)) };
    let (mut store, mut learnt) = (Store::default(), Learnt::default());
    let ended = store.walk(&mut model, rules(1, 1, false), &mut learnt, PLENTY);
    assert_eq!(ended, Ended::Done);
    assert!(store.gaps.contains(&stamp), "what cannot be read is said: {:?}", store.gaps);
}

/// Found by the property below: an update shifts a known alert onto the page that an end of links leads to,
/// which looks like a circle.
#[test]
fn an_end_of_links_is_no_circle() {
    let stamps = [9, 13, 0, 5, 5, 5, 9, 0, 0, 3, 0, 1, 11, 10, 0, 0, 5, 12, 6, 5, 5, 0, 5, 5, 2, 0, 7, 5, 0, 0, 8, 2, 2];
    let mut all = rows(stamps.map(|tick| Ticks(NOW.0 - 25_000_000_000_000 + tick)));
    all.push(ModelRow { id: 500, stamp: Ticks(2_534_023_007_999_999_999), unreadable: false });
    let mut model = Model {
        links: Links::Always,
        clamp: 17,
        heeds_skip: false,
        ragged: true,
        max_skip: 1,
        updates: [(15, 2)].into(),
        ..Model::honest(all)
    };
    let (mut store, mut learnt) = (Store::default(), Learnt::default());
    for _ in 0..2 {
        assert_eq!(store.walk(&mut model, rules(36, 1, true), &mut learnt, PLENTY), Ended::Done);
    }
    assert!(store.missing(&model).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    /// I4 by the poll after the last change, and I1 at every step (checked by the store).
    #[test]
    fn everything_visible_is_stored_or_named_as_a_gap((mut model, page_size) in any_model(), can_order in any::<bool>()) {
        let rules = rules(page_size, model.max_skip, can_order);
        let (mut store, mut learnt) = (Store::default(), Learnt::default());
        let before = model.rows.clone();
        for last in [false, false, true] {
            if last {
                model.updates.clear();
            }
            let ended = store.walk(&mut model, rules, &mut learnt, PLENTY);
            prop_assert_eq!(ended, Ended::Done);
        }
        prop_assert!(model.asked < 100 * (model.rows.len() + 10), "asked {}", model.asked);
        prop_assert_eq!(store.missing(&model), Vec::<ModelRow>::new());
        // A gap is never told without a run of ties longer than what can be asked for.
        for gap in &store.gaps {
            let tied = before.iter().chain(&model.rows).chain(&model.past).filter(|row| row.stamp == *gap).count();
            let reach = if model.heeds_skip { usize::try_from(model.max_skip).unwrap_or(0) } else { 0 };
            prop_assert!(tied >= reach.max(model.clamp.min(usize::try_from(page_size).unwrap_or(0))), "{} tied at {}", tied, gap);
        }
    }

    /// A source that behaves costs no more questions than its alerts need.
    #[test]
    fn an_honest_source_is_read_with_few_questions(stamps in proptest::collection::btree_set(0_i64..25_000_000_000_000, 0..300), page_size in 10_u32..60, windows in any::<bool>()) {
        let mut model = Model::honest(rows(stamps.into_iter().map(|offset| Ticks(NOW.0 - offset))));
        let mut store = Store { state: if windows { by_windows() } else { FeedState::default() }, ..Store::default() };
        let ended = store.walk(&mut model, rules(page_size, 500, true), &mut Learnt::default(), PLENTY);
        prop_assert_eq!(ended, Ended::Done);
        let pages = model.rows.len().div_ceil(usize::try_from(page_size).unwrap_or(1));
        let bound = if windows { 45 + 4 * pages } else { 8 + 2 * pages };
        prop_assert!(model.asked <= bound, "{} questions for {} pages", model.asked, pages);
    }

    /// Killed anywhere, any number of times: what is committed is enough to go on from.
    #[test]
    fn forgetting_everything_but_what_is_committed_loses_nothing((mut model, page_size) in any_model(), lives in proptest::collection::vec(1_usize..60, 0..6)) {
        model.updates.clear();
        let rules = rules(page_size, model.max_skip, true);
        let mut store = Store::default();
        for questions in lives {
            store.walk(&mut model, rules, &mut Learnt::default(), questions);
        }
        prop_assert_eq!(store.walk(&mut model, rules, &mut Learnt::default(), PLENTY), Ended::Done);
        prop_assert_eq!(store.missing(&model), Vec::<ModelRow>::new());
    }
}
