//! Stories of polling.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::{ContentHash, GapKind, Order, Ticks};

use super::model::{Answers, Links, Model, ModelRow, NOW, every, rows};
use super::store::{Ended, Store, read, rules};
use crate::walk::Learnt;
use crate::walk::course::newest;
use crate::walk::judge::Row;
use crate::walk::spans::Span;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

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
fn an_idle_feed_costs_one_question_a_poll_now_and_then_two_and_by_windows_three() {
    for links in [Links::None, Links::Honest] {
        for (mut store, idle) in [(Store::default(), 1), (Store::by_windows(), 3)] {
            let mut learnt = Learnt::default();
            let mut model = Model { links, ..Model::honest(every(3_000, SECOND * 600)) };
            read(&mut store, &mut model, &mut learnt);
            assert_eq!(read(&mut store, &mut model, &mut learnt), idle);
            // After a restart, what was learnt is learnt again, once.
            let mut learnt = Learnt::default();
            assert!(read(&mut store, &mut model, &mut learnt) <= 2 * idle);
            assert_eq!(read(&mut store, &mut model, &mut learnt), idle);
            // What proved an answer whole proves nothing after a while: one longer answer does so anew.
            store.later += SECOND * 300;
            assert_eq!(read(&mut store, &mut model, &mut learnt), if idle == 1 { 2 } else { idle });
            assert_eq!(read(&mut store, &mut model, &mut learnt), idle);
        }
    }
}

#[test]
fn a_feed_with_a_single_alert_costs_three_questions_a_poll_at_most() {
    for mut store in [Store::default(), Store::by_windows()] {
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
    let mut store = Store::by_windows();
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
            model.rows.extend((id..).zip(stamps).map(|(id, stamp)| ModelRow::new(id, stamp)));
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
        model.rows.push(ModelRow::new(77, NOW));
        read(&mut store, &mut model, &mut learnt);
        assert!(store.missing(&model).is_empty());
    }
}

#[test]
fn a_source_that_shows_more_than_the_window_does_not_move_the_cursor_out_of_it() {
    let row = |stamp| Row { key: ContentHash([0; 32]), stamp: Some(stamp), created: Some(stamp) };
    let span = Span { from: NOW.minus(DAY), before: Some(NOW.minus(SECOND * 60)) };
    let inside = NOW.minus(SECOND * 61);
    assert_eq!(newest(&[row(inside), row(NOW.minus(SECOND * 60)), row(NOW)], span, NOW), Some(inside));
}

#[test]
fn what_becomes_visible_late_within_the_overlap_is_found() {
    let mut model = Model::honest(every(100, SECOND * 60));
    let (mut store, mut learnt) = (Store::default(), Learnt::default());
    read(&mut store, &mut model, &mut learnt);
    model.rows.push(ModelRow::new(777, NOW.minus(SECOND * (14 * 60))));
    read(&mut store, &mut model, &mut learnt);
    assert!(store.missing(&model).is_empty());
}

#[test]
fn more_equal_stamps_than_a_page_holds_are_all_read() {
    for answers in [Answers::AsAsked, Answers::NewestFirst, Answers::Scrambled] {
        for links in [Links::None, Links::Honest, Links::Always, Links::Circle, Links::Expired] {
            let mut all = every(300, SECOND * 60);
            all.extend((1000..2200).map(|id| ModelRow::new(id, NOW.minus(SECOND * 3000))));
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
        all.extend((1000..4000).map(|id| ModelRow::new(id, tied)));
        let mut model = Model { answers, ..Model::honest(all) };
        let mut store = Store::default();
        read(&mut store, &mut model, &mut Learnt::default());
        assert_eq!(store.gaps, BTreeMap::from([(tied, GapKind::Ties)]));
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
