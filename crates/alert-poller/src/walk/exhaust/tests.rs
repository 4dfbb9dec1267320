//! Reading one span to its end, answer by answer.

use domain::ContentHash;

use super::*;

const AT: Ticks = Ticks(1_000);

/// Answers with these ids, each with or without a link; what comes of the last.
fn outcome(answers: &[(&[u8], bool)]) -> Outcome {
    let mut exhaust = Exhaust::afresh(Span::tick(AT));
    let bounds = Bounds { top: 10, longest: 2, max_skip: 100, ceiling: AT };
    let mut last = Outcome::Continue;
    for (index, (ids, link)) in answers.iter().enumerate() {
        assert_eq!(last, Outcome::Continue, "before answer {index}");
        let rows: Vec<_> = ids.iter().map(|id| Row { key: ContentHash([*id; 32]), stamp: Some(AT), created: Some(AT) }).collect();
        last = exhaust.answer(&rows, link.then_some(()), bounds);
    }
    last
}

#[test]
fn links_that_lead_back_again_and_again_are_useless() {
    assert_eq!(outcome(&[(&[1, 2], true), (&[1, 2], true), (&[1, 2], true), (&[1, 2], true)]), Outcome::LinksUseless);
    let led_on: &[(&[u8], bool)] = &[(&[1, 2], true), (&[3], true), (&[1, 2], true), (&[3], true), (&[1, 2], true)];
    assert_eq!(outcome(led_on), Outcome::LinksUseless, "also when they once led on");
}

#[test]
fn links_that_lead_nowhere_are_an_end_even_if_an_alert_moves_onto_an_empty_page() {
    for (first, second, third) in [(&[][..], &[][..], &[][..]), (&[][..], &[][..], &[1][..]), (&[2][..], &[][..], &[2][..])] {
        let end: &[(&[u8], bool)] = &[(&[1, 2], true), (first, true), (second, true), (third, true)];
        assert_eq!(outcome(end), Outcome::Continue, "a second pass");
        let again: Vec<_> = end.iter().copied().chain([(&[1, 2][..], true)]).collect();
        assert_eq!(outcome(&again), Outcome::Complete, "which sees the same");
    }
}

#[test]
fn links_behind_an_ignored_skip_say_nothing_about_links() {
    // Nothing says that the first answer was cut, so what follows it is asked for by $skip; the source shows the
    // same again, in smaller pages with links.
    let shown_again: &[(&[u8], bool)] = &[(&[1, 2, 3], false), (&[1], true), (&[2], true), (&[3], true)];
    assert_eq!(outcome(shown_again), Outcome::Continue, "a second pass");
    let again = [shown_again, shown_again].concat();
    assert_eq!(outcome(&again[..7]), Outcome::Continue, "which has to be the same to the letter");
    assert_eq!(outcome(&again), Outcome::Complete);
}

#[test]
fn one_answer_is_one_moment_and_several_need_a_second_pass() {
    assert_eq!(outcome(&[(&[1], false)]), Outcome::Complete, "shorter than one that came whole");
    assert_eq!(outcome(&[(&[1, 2], false), (&[], false)]), Outcome::Continue);
    assert_eq!(outcome(&[(&[1, 2], false), (&[], false), (&[1, 2], false)]), Outcome::Complete);
    // Alert 1 left between two pages, and 3 moved up unseen: the second pass is no repetition of the first.
    assert_eq!(outcome(&[(&[1, 2], false), (&[], false), (&[2, 3], false), (&[], false), (&[2, 3], false)]), Outcome::Complete);
    assert_eq!(outcome(&[(&[1, 2], false), (&[], false), (&[2, 3], false)]), Outcome::Continue);
}

#[test]
fn a_span_that_never_stands_still_becomes_a_gap() {
    let mut exhaust = Exhaust::<()>::afresh(Span::tick(AT));
    let bounds = Bounds { top: 10, longest: 1, max_skip: 100, ceiling: AT };
    let outcome = (0..100_u8).find_map(|id| {
        let row = Row { key: ContentHash([id; 32]), stamp: Some(AT), created: Some(AT) };
        let page = exhaust.answer(&[row], None, bounds);
        let end = if page == Outcome::Continue { exhaust.answer(&[], None, bounds) } else { page };
        (end != Outcome::Continue).then_some(end)
    });
    assert!(matches!(outcome, Some(Outcome::Gap(GapKind::Ties, _))), "{outcome:?}");
}

#[test]
fn the_cursor_reaches_neither_past_the_span_nor_past_the_ceiling() {
    let span = Span { from: AT, before: Some(Ticks(2_000)) };
    let row = |stamp| Row { key: ContentHash([0; 32]), stamp: Some(Ticks(stamp)), created: Some(Ticks(stamp)) };
    let exhaust = Exhaust::<()>::after(span, vec![row(1_500), row(1_900), row(2_000), row(9_000)], Ticks(1_800));
    assert_eq!(exhaust.newest(), Some(Ticks(1_500)));
    let exhaust = Exhaust::<()>::after(span, vec![row(1_500), row(2_000), row(1_900)], Ticks(5_000));
    assert_eq!(exhaust.newest(), Some(Ticks(1_900)));
}

#[test]
fn a_page_of_known_records_is_an_end_only_when_it_is_so_again() {
    // A record that became visible before where we were pushes the others back: what follows was just seen.
    let pushed_back: &[(&[u8], bool)] = &[(&[1, 2], false), (&[1, 2], false)];
    assert_eq!(outcome(pushed_back), Outcome::Continue);
    let seen_again: Vec<_> = [pushed_back, &[(&[9, 8], false), (&[1, 2], false), (&[3], false)]].concat();
    assert_eq!(outcome(&seen_again), Outcome::Continue, "there was more");
    assert_eq!(outcome(&[pushed_back, pushed_back].concat()), Outcome::Complete, "no heed is paid to $skip");
}
