//! Windows upwards and downwards, cut and mended.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const MONTH: Duration = Duration::from_secs(30 * 86_400);
const START: Ticks = Ticks(17_000_000_000_000_000);

fn seconds(span: Span) -> i64 {
    span.width() / TICKS_PER_SECOND
}

fn quiet(mut plan: Plan) -> Vec<Span> {
    let mut windows = Vec::new();
    while let Some(span) = plan.current() {
        windows.push(span);
        plan.read(0, 1000, false);
    }
    windows
}

#[test]
fn a_month_of_a_quiet_tenant_is_a_handful_of_windows_and_the_last_is_open() {
    let windows = quiet(Plan::up(START, START.plus(MONTH), Vec::new()));
    assert!(windows.len() <= 6, "{windows:?}");
    assert_eq!(windows.last().and_then(|span| span.before), None);
    assert_eq!(windows.iter().filter(|span| span.before.is_none()).count(), 1);
}

#[test]
fn downwards_it_is_a_handful_too_and_none_is_open() {
    let windows = quiet(Plan::down(START, START.plus(MONTH), Vec::new()));
    assert!(windows.len() <= 6, "{windows:?}");
    assert_eq!(windows.first().and_then(|span| span.before), Some(START.plus(MONTH)));
    assert_eq!(windows.last().map(|span| span.from), Some(START));
    assert!(quiet(Plan::down(START, START, Vec::new())).is_empty(), "nothing is left");
}

#[test]
fn a_busy_tenant_gets_narrower_windows() {
    for mut plan in [Plan::up(START, START.plus(MONTH), Vec::new()), Plan::down(START, START.plus(MONTH), Vec::new())] {
        let first = plan.current().expect("there is a first window");
        plan.cut(None);
        plan.read(900, 1000, false);
        plan.read(900, 1000, false);
        let next = plan.current().expect("there is a next window");
        assert_eq!(seconds(next) * 2, seconds(first));
    }
}

#[test]
fn half_a_page_is_enough_unless_it_may_have_been_cut() {
    for (records, doubted, wider) in [(200, false, true), (400, false, false), (400, true, true), (600, true, false)] {
        let mut plan = Plan::up(START, START.plus(MONTH), Vec::new());
        let first = plan.current().expect("there is a first window");
        plan.read(records, 1000, doubted);
        let next = plan.current().expect("there is a next window");
        assert_eq!(next.width() > first.width(), wider, "{records} {doubted}");
    }
}

#[test]
fn what_is_halved_in_search_of_a_culprit_is_mended() {
    for mut plan in [Plan::up(START, START.plus(MONTH), Vec::new()), Plan::down(START, START.plus(MONTH), Vec::new())] {
        let before = plan.current();
        while plan.current().is_some_and(|span| !span.is_tick()) {
            plan.halve();
        }
        plan.mend();
        assert_eq!(plan.current(), before);
        assert_eq!(plan.pending.len(), 1);
    }
}

#[test]
fn the_other_half_is_halved_unasked_only_when_the_first_was_empty_and_not_for_ever() {
    let mut plan = Plan::up(START, START.plus(MONTH), Vec::new());
    let day = plan.current().expect("there is a first window").width();
    plan.halve();
    plan.read(5, 1000, false);
    assert_eq!(plan.current().map(Span::width), Some(day / 2), "it may have been too much at once");
    let mut plan = Plan::up(START, START.plus(MONTH), Vec::new());
    plan.halve();
    let widths = [0; 4].map(|_| {
        plan.read(0, 1000, false);
        plan.current().map_or(0, Span::width)
    });
    assert_eq!(widths, [day / 4, day / 8, day / 16, day / 16]);
}

#[test]
fn what_is_apart_stays_apart_when_the_rest_is_mended() {
    let at = |hours: u64| START.plus(Duration::from_secs(3600 * hours));
    let unread = [1, 2].map(|hour| Unread { at: at(hour), again: true }).to_vec();
    for mut plan in [Plan::up(START, at(9), unread.clone()), Plan::down(START, at(9), unread)] {
        let before = plan.pending.clone();
        plan.halve();
        plan.halve();
        plan.mend();
        assert_eq!(plan.pending, before);
    }
}

#[test]
fn an_open_window_is_not_halved_in_the_far_future() {
    let mut plan = Plan::up(START, START.plus(Duration::from_secs(60)), Vec::new());
    plan.halve();
    assert_eq!(plan.current(), Some(Span { from: START, before: Some(START.plus(Duration::from_secs(60))) }));
}

#[test]
fn what_could_not_be_read_is_left_out_of_a_poll_and_apart_in_a_re_read() {
    let at = START.plus(Duration::from_secs(3600));
    for (again, expected) in [(false, 0), (true, 1)] {
        let windows = quiet(Plan::up(START, START.plus(MONTH), vec![Unread { at, again }]));
        assert_eq!(windows.iter().filter(|span| span.holds(at)).count(), expected);
        assert_eq!(windows.iter().filter(|span| **span == Span::tick(at)).count(), expected);
        let windows = quiet(Plan::down(START, START.plus(MONTH), vec![Unread { at, again }]));
        assert_eq!(windows.iter().filter(|span| **span == Span::tick(at)).count(), 1);
    }
    let only = quiet(Plan::up(START, START, vec![Unread { at: START, again: false }]));
    assert_eq!(only, [Span::open(START.next())]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is cut, halved, mended or left for later, the windows follow each other without a hole; and
    /// downwards a new plan may take over at any point.
    #[test]
    fn the_windows_follow_each_other_without_a_hole(
        down in any::<bool>(), deeds in proptest::collection::vec(0_u8..6, 0..300),
        unread in proptest::collection::btree_set(0_i64..2_592_000_000_000, 0..5),
    ) {
        let (start, end) = (START, START.plus(MONTH));
        let unread: Vec<_> = unread.into_iter().map(|offset| Unread { at: Ticks(START.0 + offset * 10), again: true }).collect();
        let mut plan = if down { Plan::down(start, end, unread.clone()) } else { Plan::up(start, end, unread.clone()) };
        let mut edge = if down { end } else { start };
        let mut deeds = deeds.into_iter();
        while let Some(span) = plan.current() {
            prop_assert!(span.width() > 0);
            if down {
                prop_assert_eq!(span.before, Some(edge));
            } else {
                prop_assert_eq!(span.from, edge);
            }
            match deeds.next() {
                Some(0) if !span.is_tick() => plan.cut(None),
                Some(1) if !span.is_tick() => plan.halve(),
                Some(2) => plan.mend(),
                Some(3) if down => plan = Plan::down(start, edge, unread.clone()),
                deed => {
                    plan.read(if deed == Some(4) { 500 } else { 0 }, 1000, false);
                    match (down, span.before) {
                        (true, _) => edge = span.from,
                        (false, Some(before)) => edge = before,
                        (false, None) => prop_assert!(plan.current().is_none()),
                    }
                }
            }
        }
        prop_assert!(!down || edge == start);
    }
}
