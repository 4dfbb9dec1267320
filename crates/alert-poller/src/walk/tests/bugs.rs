//! Known bugs, planted one at a time: the properties must fail with each, or they prove nothing.

use domain::rehearsal::Rehearsal;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestError, TestRunner};

use super::properties::{all_is_found, any_model, config, failing_model, only_what_is_at_fault_is_given_up};

/// Whether the property, tried as often as usual, finds a case in which it fails.
fn finds<S: Strategy>(cases: &S, property: impl Fn(S::Value) -> TestCaseResult, bug: Option<&str>) -> bool {
    let rehearsal = bug.into_iter().fold(Rehearsal::default(), |rehearsal, bug| rehearsal.bug(bug));
    rehearsal.begin();
    let config = ProptestConfig { max_shrink_iters: 0, ..config() };
    let found = TestRunner::new(config).run(cases, property);
    Rehearsal::end();
    matches!(found, Err(TestError::Fail(..)))
}

fn by_polling(bug: Option<&str>) -> bool {
    finds(&(any_model(), any::<bool>()), |(case, can_order)| all_is_found(case, can_order), bug)
}

fn by_failing(bug: Option<&str>) -> bool {
    finds(&failing_model(), |case| only_what_is_at_fault_is_given_up(case, true), bug)
}

#[test]
fn without_a_bug_nothing_is_found() {
    assert!(!by_polling(None) && !by_failing(None));
}

#[test]
fn asking_for_greater_stamps_is_noticed() {
    assert!(by_polling(Some("gt-instead-of-ge")));
}

#[test]
fn beginning_at_the_watermark_is_noticed() {
    assert!(by_polling(Some("no-overlap")));
}

#[test]
fn believing_every_short_answer_is_noticed() {
    assert!(by_polling(Some("clamp-not-noticed")));
}

#[test]
fn counting_places_while_rows_move_is_noticed() {
    assert!(by_polling(Some("skip-on-descending-order")));
}

#[test]
fn a_cursor_past_the_ceiling_is_noticed() {
    assert!(by_polling(Some("ceiling-ignored")));
}

#[test]
fn a_cursor_that_moves_although_the_source_failed_is_noticed() {
    assert!(by_failing(Some("cursor-moves-on-failure")));
}
