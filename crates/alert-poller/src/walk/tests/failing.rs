//! Stories of sources that fail: over one record, over large pages, or altogether. Nobody may be mistaken for another.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use domain::{Axis, FeedState, GapKind, Order, Ticks};
use microsoft::ApiErrorKind;

use super::model::{Answers, Link, Links, Model, ModelRow, NOW, TooMuch, every};
use super::store::{Ended, PLENTY, Store, read, read_again, rules, stretch};
use crate::source::Query;
use crate::walk::{Learnt, Reaction, Walk};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// What it may cost to find a record at fault among a thousand: the page is halved up to 10 times and the time some 40 times,
/// with a control question now and then, and a few more to be sure.
const SEARCH: usize = 100;
const ORDERS: [Answers; 4] = [Answers::AsAsked, Answers::NewestFirst, Answers::Scrambled, Answers::RefusingOrder];

fn patient() -> Store {
    Store { patience: 1_000, ..Store::default() }
}

fn outage(begin: usize, questions: usize) -> Vec<Range<usize>> {
    std::iter::once(begin..begin + questions).collect()
}

/// How the whole of a month is read: by polling, or again.
fn read_all(store: &mut Store, model: &mut Model, learnt: &mut Learnt, live: bool) -> usize {
    if live { read(store, model, learnt) } else { read_again(store, model, learnt, Axis::Update, NOW.minus(HOUR * 720), NOW) }
}

#[test]
fn one_record_at_fault_costs_only_itself_and_few_questions() {
    for answers in ORDERS {
        for live in [true, false] {
            for culprit in [1, 2, 150, 700, 899, 900] {
                let mut model = Model { answers, failing: BTreeSet::from([culprit]), ..Model::honest(every(900, MINUTE)) };
                let at = model.rows[usize::try_from(culprit).unwrap_or(0) - 1].stamp;
                let mut healthy = Model { failing: BTreeSet::new(), ..model.clone() };
                let usual = read_all(&mut patient(), &mut healthy, &mut Learnt::default(), live);
                let mut store = patient();
                let asked = read_all(&mut store, &mut model, &mut Learnt::default(), live);
                assert_eq!(store.gaps, BTreeMap::from([(at, GapKind::Failing)]), "{answers:?} {live}");
                assert_eq!(store.records.len(), 899, "{answers:?} {live} {culprit}");
                assert!(asked <= usual + SEARCH, "{answers:?} {live} {culprit}: {asked} instead of {usual}");
            }
        }
    }
}

#[test]
fn patience_comes_first_and_then_all_is_found_out_at_once() {
    let mut model = Model { failing: BTreeSet::from([50]), ..Model::honest(every(100, MINUTE)) };
    let mut store = patient();
    read(&mut store, &mut model, &mut Learnt::default());
    assert_eq!(store.later, Duration::from_secs(60), "two failures were waited out");
}

#[test]
fn polling_goes_around_a_record_at_fault_and_looks_again_every_hour() {
    for mut store in [patient(), Store { patience: 1_000, ..Store::by_windows() }] {
        let mut model = Model { failing: BTreeSet::from([98]), ..Model::honest(every(100, MINUTE)) };
        let mut learnt = Learnt::default();
        read(&mut store, &mut model, &mut learnt);
        let mut around = Vec::new();
        for _ in 0..20 {
            store.later += SECOND * 30;
            around.push(read(&mut store, &mut model, &mut learnt));
        }
        assert!(around.iter().all(|asked| *asked <= 6), "{around:?}");
        // An hour later it still fails: that is found out by itself, at once, and it is no news.
        store.later += HOUR * 2;
        store.gaps.clear();
        store.patience = 0;
        let asked = read(&mut store, &mut model, &mut learnt);
        assert!(asked <= 30, "{asked}");
        assert!(store.gaps.is_empty(), "{:?}", store.gaps);
        // Once it can be had, it is.
        model.failing.clear();
        store.later += HOUR * 2;
        read(&mut store, &mut model, &mut learnt);
        assert!(store.missing(&model).is_empty());
    }
}

#[test]
fn a_record_at_fault_is_found_when_it_becomes_readable_and_the_gap_heals() {
    let mut model = Model { failing: BTreeSet::from([50]), ..Model::honest(every(100, MINUTE)) };
    let (mut store, mut learnt) = (patient(), Learnt::default());
    read(&mut store, &mut model, &mut learnt);
    store.patience = 0;
    store.gaps.clear();
    let asked = read_again(&mut store, &mut model, &mut learnt, Axis::Update, NOW.minus(HOUR * 24), NOW);
    assert!(asked <= 45, "where it lies is known: {asked}");
    assert_eq!(store.gaps.len(), 1, "it is told again, and not healed");
    model.failing.clear();
    read_again(&mut store, &mut model, &mut learnt, Axis::Update, NOW.minus(HOUR * 24), NOW);
    assert!(store.gaps.is_empty() && store.missing(&model).is_empty());
    store.later += SECOND;
    assert!(read(&mut store, &mut model, &mut learnt) <= 2, "polling need not go around any more");
}

#[test]
fn a_source_whose_every_answer_is_too_large_is_given_up_and_no_record_is_blamed() {
    let state = FeedState { watermark: Some(NOW.minus(MINUTE)), ..FeedState::default() };
    for order in [Order::Ascending, Order::Windows] {
        let mut learnt = Learnt::default();
        let mut walk = Walk::<Link>::new(&FeedState { order, ..state.clone() }, rules(1000, 500, true), NOW, &learnt);
        let mut asked = 0;
        loop {
            walk.query(&learnt);
            asked += 1;
            assert!(asked <= 60, "{order:?}: nobody is told for too long");
            match walk.failed(&ApiErrorKind::TooLarge, NOW, &mut learnt) {
                Reaction::Adapted(step) => assert!(step.gaps.is_empty() && !step.done && step.watermark.is_none(), "{step:?}"),
                Reaction::GiveUp => break,
            }
        }
    }
}

#[test]
fn pages_that_are_too_much_are_asked_for_in_a_smaller_size() {
    for too_much in [TooMuch::Asked(100), TooMuch::Held(100)] {
        for answers in ORDERS {
            for live in [true, false] {
                let mut model = Model { answers, too_much, ..Model::honest(every(2_000, SECOND * 10)) };
                let (mut store, mut learnt) = (patient(), Learnt::default());
                let asked = read_all(&mut store, &mut model, &mut learnt, live);
                assert!(store.gaps.is_empty(), "{too_much:?} {answers:?} {live}");
                assert!(store.missing(&model).is_empty(), "{too_much:?} {answers:?} {live}");
                assert!(asked <= 250, "{too_much:?} {answers:?} {live}: {asked} for 20 to 40 pages");
            }
        }
    }
}

#[test]
fn a_page_size_that_fails_is_remembered_and_tried_again_later() {
    let mut model = Model { too_much: TooMuch::Asked(100), ..Model::honest(every(300, MINUTE)) };
    let (mut store, mut learnt) = (patient(), Learnt::default());
    read(&mut store, &mut model, &mut learnt);
    store.patience = 0;
    for _ in 0..10 {
        store.later += SECOND * 30;
        let asked = read(&mut store, &mut model, &mut learnt);
        assert!(asked <= 4, "{asked}");
    }
    // A larger page is tried after a quarter of an hour. It still fails, and nobody has to wait for that.
    store.later += MINUTE * 30;
    let asked = read(&mut store, &mut model, &mut learnt);
    assert!(asked <= 6, "{asked}");
    model.too_much = TooMuch::Never;
    store.later += MINUTE * 30;
    read(&mut store, &mut model, &mut learnt);
    assert_eq!(full_page(&store, &learnt), 1000, "the page is as large as ever");
}

fn full_page(store: &Store, learnt: &Learnt) -> u32 {
    match Walk::<Link>::new(&store.state, rules(1000, 500, true), NOW.plus(store.later), learnt).query(learnt) {
        Query::Window(window) => window.top,
        Query::Next(_) => 0,
    }
}

#[test]
fn an_outage_at_any_moment_and_of_any_length_gives_nothing_up() {
    for answers in ORDERS {
        for live in [true, false] {
            let calm = Model { answers, clamp: 70, ..Model::honest(every(300, MINUTE)) };
            let usual = read_all(&mut patient(), &mut calm.clone(), &mut Learnt::default(), live);
            for begin in [1, 2, 3, 5, 9] {
                for length in [1, 2, 3, 4, 5, 6, 7, 40, 200] {
                    let mut model = Model { outages: outage(begin, length), ..calm.clone() };
                    let (mut store, mut learnt) = (patient(), Learnt::default());
                    let asked = read_all(&mut store, &mut model, &mut learnt, live);
                    let case = format!("{answers:?} {live} {begin} {length}");
                    assert!(store.gaps.is_empty() && store.missing(&model).is_empty(), "{case}");
                    assert!(asked <= usual + length + 30, "{case}: {asked} instead of {usual}");
                    assert_eq!(full_page(&store, &learnt), 1000, "{case}");
                }
            }
        }
    }
}

#[test]
fn during_an_outage_a_poll_is_a_question_or_two_and_the_page_stays_as_large_as_it_was() {
    let mut learnt = Learnt::default();
    let mut model = Model::honest(every(100, MINUTE));
    let mut store = patient();
    read(&mut store, &mut model, &mut learnt);
    let mut walk = Walk::<Link>::new(&store.state, rules(1000, 500, true), NOW, &learnt);
    for _ in 0..10 {
        let polls = [0; 3].map(|_| one_poll(&mut walk, &mut learnt, &ApiErrorKind::Unavailable));
        assert_eq!(polls, [vec![1000], vec![1000], vec![1000, 1000, 1]]);
    }
}

#[test]
fn an_outage_clears_the_question_that_was_suspected() {
    let mut learnt = Learnt::default();
    let mut model = Model::honest(every(900, MINUTE));
    read(&mut Store::default(), &mut model, &mut learnt);
    let mut walk = Walk::<Link>::new(&Store::default().state, rules(1000, 500, true), NOW, &learnt);
    assert_eq!([0; 2].map(|_| one_poll(&mut walk, &mut learnt, &ApiErrorKind::BadAnswer)), [vec![1000], vec![1000]]);
    walk.failed(&ApiErrorKind::BadAnswer, NOW, &mut learnt);
    walk.answer(&[], None, None, NOW, &mut learnt);
    assert_eq!(one_poll(&mut walk, &mut learnt, &ApiErrorKind::BadAnswer), [500, 250, 125, 62, 62, 1], "a search, and then an outage");
    for expected in [62, 496, 1000] {
        let query = walk.query(&learnt);
        assert!(matches!(query, Query::Window(window) if window.top == expected), "{query:?}");
        let page = model.answer(&query).unwrap();
        walk.answer(&page.records, page.next, None, NOW, &mut learnt);
    }
}

/// Everything fails in this way, until the walk gives up: for how many records it has asked.
fn one_poll(walk: &mut Walk<Link>, learnt: &mut Learnt, failure: &ApiErrorKind) -> Vec<u32> {
    let mut asked = Vec::new();
    loop {
        let Query::Window(window) = walk.query(learnt) else { panic!("no link is followed") };
        asked.push(window.top);
        if walk.failed(failure, NOW, learnt) == Reaction::GiveUp {
            return asked;
        }
    }
}

#[test]
fn a_source_that_refuses_control_questions_blinds_nobody() {
    let mut learnt = Learnt::default();
    let mut model = Model::honest(every(100, MINUTE));
    let mut store = patient();
    read(&mut store, &mut model, &mut learnt);
    let mut walk = Walk::<Link>::new(&store.state, rules(1000, 500, true), NOW, &learnt);
    let question = walk.query(&learnt);
    for _ in 0..3 {
        walk.failed(&ApiErrorKind::Unavailable, NOW, &mut learnt);
    }
    assert_ne!(walk.query(&learnt), question, "the control question");
    for settled_later in [ApiErrorKind::Throttled(SECOND), ApiErrorKind::Unauthorized, ApiErrorKind::Forbidden] {
        assert_eq!(walk.failed(&settled_later, NOW, &mut learnt), Reaction::GiveUp);
        assert_ne!(walk.query(&learnt), question, "the same again");
    }
    assert_eq!(walk.failed(&ApiErrorKind::Refused, NOW, &mut learnt), Reaction::GiveUp);
    assert_eq!(walk.query(&learnt), question);
}

#[test]
fn failures_now_and_then_are_no_reason_to_give_anything_up() {
    for answers in ORDERS {
        for live in [true, false] {
            // Every third question fails.
            let outages = (1..5_000).step_by(3).flat_map(|at| outage(at, 1)).collect();
            let mut model = Model { answers, outages, ..Model::honest(every(900, MINUTE)) };
            let mut store = patient();
            let asked = read_all(&mut store, &mut model, &mut Learnt::default(), live);
            assert!(store.gaps.is_empty() && store.missing(&model).is_empty(), "{answers:?} {live}");
            assert!(asked < 600, "{answers:?} {live}: {asked}");
        }
    }
}

#[test]
fn links_that_fail_for_ever_are_done_without() {
    for answers in ORDERS {
        for live in [true, false] {
            let mut all = every(300, MINUTE);
            all.extend((1_000..2_200).map(|id| ModelRow::new(id, NOW.minus(SECOND * 3_000))));
            let mut model = Model { answers, links: Links::Failing, clamp: 400, ..Model::honest(all) };
            let mut store = patient();
            read_all(&mut store, &mut model, &mut Learnt::default(), live);
            assert!(store.missing(&model).is_empty(), "{answers:?} {live}");
        }
    }
}

#[test]
fn a_record_at_fault_among_ties_costs_only_itself() {
    for answers in ORDERS {
        for live in [true, false] {
            let tied = NOW.minus(SECOND * 3_000);
            let mut all = every(100, MINUTE);
            all.extend((1_000..1_400).map(|id| ModelRow::new(id, tied)));
            let mut model = Model { answers, failing: BTreeSet::from([1_000, 1_200]), ..Model::honest(all) };
            let mut store = patient();
            let asked = read_all(&mut store, &mut model, &mut Learnt::default(), live);
            assert_eq!(store.gaps, BTreeMap::from([(tied, GapKind::Failing)]), "{answers:?} {live}");
            assert_eq!(store.records.len(), 498, "{answers:?} {live}");
            assert!(asked < 500, "{answers:?} {live}: {asked}");
        }
    }
}

#[test]
fn a_stretch_of_which_nothing_can_be_had_is_passed_in_the_end() {
    for live in [true, false] {
        let mut model = Model { failing: (400..420).collect(), ..Model::honest(every(900, MINUTE)) };
        let mut store = patient();
        let asked = read_all(&mut store, &mut model, &mut Learnt::default(), live);
        assert_eq!(store.gaps.len(), 20);
        assert_eq!(store.records.len(), 880);
        assert!(asked < 20 * SEARCH, "{asked}");
    }
}

#[test]
fn an_instant_of_which_nothing_can_be_had_is_not_asked_for_place_by_place() {
    let tied = NOW.minus(SECOND * 3_000);
    let mut all = every(100, MINUTE);
    all.extend((1_000..1_400).map(|id| ModelRow::new(id, tied)));
    let mut model = Model { failing: (1_000..1_400).collect(), ..Model::honest(all) };
    let mut store = patient();
    let asked = read_all(&mut store, &mut model, &mut Learnt::default(), true);
    assert_eq!(store.gaps, BTreeMap::from([(tied, GapKind::Failing)]));
    assert!(store.missing(&model).is_empty());
    assert!(asked < 300, "{asked}");
}

#[test]
fn a_failing_control_question_is_no_proof_against_a_record() {
    // Everything fails from the moment at which only one record is left to ask for.
    let mut model = Model { failing: BTreeSet::from([50]), ..Model::honest(every(100, MINUTE)) };
    for begin in 1..120 {
        let mut store = patient();
        model.asked = 0;
        model.outages = outage(begin, PLENTY);
        let ended = store.walk(&mut model, rules(1000, 500, true), &mut Learnt::default(), 200);
        if ended != Ended::Done {
            let culprit = model.rows[49].stamp;
            assert!(store.gaps.keys().all(|at| *at == culprit), "{begin}: {:?}", store.gaps);
        }
    }
}

#[test]
fn what_a_re_read_cannot_have_is_not_called_whole() {
    let at = NOW.minus(HOUR);
    let mut model = Model { failing: BTreeSet::from([7]), ..Model::honest(vec![ModelRow::new(7, at)]) };
    let mut store = patient();
    store.gaps.insert(NOW.minus(HOUR * 2), GapKind::Ties);
    let mut reread = stretch(Axis::Update, Ticks(NOW.0 - 864_000_000_000), NOW);
    let ended = store.reread(&mut reread, &mut model, rules(1000, 500, true), &mut Learnt::default(), PLENTY);
    assert_eq!((ended, store.is_kept()), (Ended::Done, Ok(())));
    assert_eq!(store.gaps, BTreeMap::from([(at, GapKind::Failing)]), "the old gap beside it is healed");
}
