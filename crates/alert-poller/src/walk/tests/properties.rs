//! Properties of walks, whatever the source does. Each is a function of a case, so that it can be shown to fail when
//! a bug is planted.

use std::time::Duration;

use domain::{Axis, ContentHash, GapKind, Ticks};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::model::{Answers, Dividing, Links, Model, ModelRow, NOW, TooMuch, WORDS, rows};
use super::store::{Ended, PLENTY, Store, rules, stretch};
use crate::walk::Learnt;

/// Where the records of a case begin.
const EARLY: Ticks = Ticks(NOW.0 - 25_000_000_000_000);
const YEAR_9999: Ticks = Ticks(2_534_023_007_999_999_999);

/// How many cases of a property are tried.
pub(super) fn config() -> ProptestConfig {
    ProptestConfig { cases: 1_000, failure_persistence: None, max_shrink_iters: 2_000, ..ProptestConfig::default() }
}

/// A source with everything that can be wrong with one that answers, and how many records to ask it for.
pub(super) fn any_model() -> impl Strategy<Value = (Model, u32)> {
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
    let dividing = prop_oneof![Just(Dividing::Heeded), Just(Dividing::Heeded), Just(Dividing::Refused), Just(Dividing::Ignored)];
    let unit = prop_oneof![Just(1_i64), Just(100_000_i64), Just(10_000_000_i64), Just(36_000_000_000_i64), Just(600_000_000_000_i64)];
    let stamps = (unit, 1_i64..40)
        .prop_flat_map(|(unit, steps)| proptest::collection::vec((0..steps).prop_map(move |step| Ticks(EARLY.0 + step * unit)), 0..80));
    let oddities = (proptest::collection::vec(0_usize..80, 0..4), 0_usize..3);
    let updates = proptest::collection::btree_map(1_usize..60, 0_usize..80, 0..6);
    // Within the overlap of whatever watermark there is by then.
    let arrivals = proptest::collection::btree_map(1_usize..40, 0_u64..14 * 60, 0..4);
    let numbers = (1_usize..30, 1_u32..40, 1_u32..60, prop::bool::weighted(0.9), any::<bool>());
    (answers, links, dividing, stamps, oddities, updates, arrivals, numbers).prop_map(
        |(answers, links, dividing, stamps, (unreadable, absurd), updates, arrivals, (clamp, page_size, max_skip, heeds_skip, ragged))| {
            let mut all = rows(stamps);
            for row in &mut all {
                spread(row);
            }
            for index in unreadable {
                if let Some(row) = all.get_mut(index) {
                    row.unreadable = true;
                }
            }
            all.extend((500..).take(absurd).map(|id| ModelRow::new(id, YEAR_9999)));
            let arrivals = (600..).zip(arrivals);
            let arrivals = arrivals.map(|(id, (when, ago))| (when, ModelRow::new(id, NOW.minus(Duration::from_secs(ago))))).collect();
            // Who pays no heed to $skip, gives no useful links and clamps in silence cannot be seen through.
            let hopeless = !heeds_skip && !matches!(links, Links::Honest | Links::Always);
            let clamp = if hopeless { 1000 } else { clamp };
            let ragged = ragged && matches!(links, Links::Honest | Links::Always);
            let model = Model { answers, links, dividing, clamp, heeds_skip, ragged, updates, arrivals, max_skip, ..Model::honest(all) };
            (model, page_size)
        },
    )
}

/// Gives it words and a time of creation, by its id.
fn spread(row: &mut ModelRow) {
    let dice = ContentHash::of(&row.id.to_le_bytes()).0;
    row.words = [0, 1, 2].map(|nth| WORDS[nth][usize::from(dice[nth] % 4)]);
    // Often the same for many.
    row.created = Ticks(EARLY.0 - i64::from(dice[4] % 8) * if dice[5].is_multiple_of(2) { 1 } else { 36_000_000_000 });
}

/// I4 by the poll after the last change, and I1 at every step (checked by the store).
pub(super) fn all_is_found((mut model, page_size): (Model, u32), can_order: bool) -> TestCaseResult {
    let rules = rules(page_size, model.max_skip, can_order);
    let (mut store, mut learnt) = (Store::default(), Learnt::default());
    let before = model.rows.clone();
    for last in [false, false, true] {
        if last {
            model.settle();
        }
        let ended = store.walk(&mut model, rules, &mut learnt, PLENTY);
        prop_assert_eq!(ended, Ended::Done);
    }
    prop_assert!(model.asked < 150 * (model.rows.len() + 10), "asked {}", model.asked);
    prop_assert_eq!(store.is_kept(), Ok(()));
    prop_assert_eq!(store.missing(&model), Vec::<ModelRow>::new());
    // A gap is never told without a run of ties longer than what can be asked for.
    for (gap, kind) in &store.gaps {
        let tied = before.iter().chain(&model.rows).chain(&model.past).filter(|row| row.stamp == *gap).count();
        let reach = if model.heeds_skip { usize::try_from(model.max_skip).unwrap_or(0) } else { 0 };
        prop_assert!(tied >= reach.max(model.clamp.min(usize::try_from(page_size).unwrap_or(0))), "{} tied at {}", tied, gap);
        prop_assert_eq!(*kind, GapKind::Ties);
    }
    Ok(())
}

/// Killed anywhere, any number of times: what is committed is enough to go on from.
fn nothing_hangs_on_memory((mut model, page_size): (Model, u32), lives: Vec<usize>) -> TestCaseResult {
    model.updates.clear();
    let rules = rules(page_size, model.max_skip, true);
    let mut store = Store::default();
    for questions in lives {
        store.walk(&mut model, rules, &mut Learnt::default(), questions);
    }
    model.settle();
    prop_assert_eq!(store.walk(&mut model, rules, &mut Learnt::default(), PLENTY), Ended::Done);
    prop_assert_eq!(store.is_kept(), Ok(()));
    prop_assert_eq!(store.missing(&model), Vec::<ModelRow>::new());
    Ok(())
}

/// A re-read, killed anywhere and gone on with from what is committed, finds everything that did not change meanwhile;
/// the store checks every window.
pub(super) fn reading_again_finds_all(
    (mut model, page_size): (Model, u32),
    axis: Axis,
    lives: Vec<usize>,
    (from, to): (i64, i64),
) -> TestCaseResult {
    let rules = rules(page_size, model.max_skip, true);
    let (mut store, mut learnt) = (Store::default(), Learnt::default());
    let (from, to) = (EARLY.0 + from * 360_000_000_000, EARLY.0 + to * 360_000_000_000);
    let mut reread = stretch(axis, Ticks(from.min(to)), Ticks(from.max(to)));
    for questions in lives {
        store.reread(&mut reread, &mut model, rules, &mut learnt, questions);
        learnt = Learnt::default();
    }
    prop_assert_eq!(store.reread(&mut reread, &mut model, rules, &mut learnt, PLENTY), Ended::Done);
    prop_assert_eq!(store.is_kept(), Ok(()));
    prop_assert_eq!(reread.left, reread.from);
    prop_assert_eq!(store.state.watermark, None);
    // What changed has passed through under its new stamp, which is for polling.
    let inside = |row: &&ModelRow| row.since == 0 && row.stamp_on(axis) >= reread.from && row.stamp_on(axis) < reread.to;
    for row in model.rows.iter().filter(inside) {
        let found = store.records.contains(&(row.id, row.stamp)) || store.gaps.contains_key(&row.stamp_on(axis));
        prop_assert!(found, "{:?}", row);
    }
    prop_assert!(model.asked < 200 * (model.rows.len() + 20), "asked {}", model.asked);
    Ok(())
}

/// Nothing is given up but the records at fault, whatever else fails, and for how long.
pub(super) fn only_what_is_at_fault_is_given_up((mut model, page_size): (Model, u32), live: bool) -> TestCaseResult {
    let rules = rules(page_size.max(8), 500, true);
    let (mut store, mut learnt) = (Store { patience: 1_000, ..Store::default() }, Learnt::default());
    let at_fault: Vec<_> = model.rows.iter().filter(|row| model.failing.contains(&row.id)).map(|row| row.stamp).collect();
    if live {
        for _ in 0..2 {
            prop_assert_eq!(store.walk(&mut model, rules, &mut learnt, PLENTY), Ended::Done);
        }
    } else {
        let mut reread = stretch(Axis::Update, EARLY, NOW);
        prop_assert_eq!(store.reread(&mut reread, &mut model, rules, &mut learnt, PLENTY), Ended::Done);
        model.rows.retain(|row| row.stamp < NOW);
    }
    prop_assert_eq!(store.is_kept(), Ok(()));
    prop_assert_eq!(store.missing(&model), Vec::<ModelRow>::new());
    for row in model.rows.iter().filter(|row| !model.failing.contains(&row.id)) {
        prop_assert!(store.records.contains(&(row.id, row.stamp)), "{:?}", row);
    }
    for (gap, kind) in &store.gaps {
        prop_assert_eq!(*kind, GapKind::Failing);
        prop_assert!(at_fault.contains(gap), "nothing is at fault at {}", gap);
    }
    let bound = 400 * (model.failing.len() + 1) + 20 * model.rows.len() + 600;
    prop_assert!(model.asked < bound, "asked {} for {} at fault among {}", model.asked, model.failing.len(), model.rows.len());
    // When nothing fails any more, the next re-read finds the rest, and what was a gap is none.
    model.failing.clear();
    model.outages.clear();
    let mut reread = stretch(Axis::Update, EARLY, NOW);
    prop_assert_eq!(store.reread(&mut reread, &mut model, rules, &mut learnt, PLENTY), Ended::Done);
    prop_assert_eq!(store.is_kept(), Ok(()));
    prop_assert!(store.gaps.is_empty(), "{:?}", store.gaps);
    prop_assert_eq!(store.missing(&model), Vec::<ModelRow>::new());
    Ok(())
}

/// A source that answers truly and fails in all ways.
pub(super) fn failing_model() -> impl Strategy<Value = (Model, u32)> {
    let failing = proptest::collection::btree_set(1_u32..80, 0..4);
    let too_much = prop_oneof![Just(TooMuch::Never), (4_u32..40).prop_map(TooMuch::Asked), (4_usize..40).prop_map(TooMuch::Held)];
    let outages = proptest::collection::vec((1_usize..200, 1_usize..60), 0..3);
    (any_model(), failing, too_much, outages).prop_map(|((model, page_size), failing, too_much, outages)| {
        let outages = outages.into_iter().map(|(from, questions)| from..from + questions).collect();
        let links = if matches!(model.links, Links::Honest | Links::Expired) { Links::Failing } else { Links::None };
        let whole = Model { answers: model.answers, links, dividing: model.dividing, too_much, outages, ..Model::honest(model.rows) };
        let unread = whole.rows.iter().filter(|row| row.unreadable).map(|row| row.id).collect::<Vec<_>>();
        let failing = failing.into_iter().filter(|id| !unread.contains(id)).collect();
        (Model { failing, ..whole }, page_size)
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn everything_visible_is_stored_or_named_as_a_gap(case in any_model(), can_order in any::<bool>()) {
        all_is_found(case, can_order)?;
    }

    #[test]
    fn forgetting_everything_but_what_is_committed_loses_nothing(case in any_model(), lives in proptest::collection::vec(1_usize..60, 0..6)) {
        nothing_hangs_on_memory(case, lives)?;
    }

    #[test]
    fn a_re_read_leaves_nothing_out(
        case in any_model(), creation in any::<bool>(), lives in proptest::collection::vec(1_usize..40, 0..6), ends in (-10_i64..80, -10_i64..80),
    ) {
        reading_again_finds_all(case, if creation { Axis::Creation } else { Axis::Update }, lives, ends)?;
    }

    #[test]
    fn failures_cost_only_the_records_at_fault(case in failing_model(), live in any::<bool>()) {
        only_what_is_at_fault_is_given_up(case, live)?;
    }

    /// A source that behaves costs no more questions than its alerts need.
    #[test]
    fn an_honest_source_is_read_with_few_questions(stamps in proptest::collection::btree_set(0_i64..25_000_000_000_000, 0..300), page_size in 10_u32..60, windows in any::<bool>()) {
        let mut model = Model::honest(rows(stamps.into_iter().map(|offset| Ticks(NOW.0 - offset))));
        let mut store = if windows { Store::by_windows() } else { Store::default() };
        let ended = store.walk(&mut model, rules(page_size, 500, true), &mut Learnt::default(), PLENTY);
        prop_assert_eq!(ended, Ended::Done);
        let pages = model.rows.len().div_ceil(usize::try_from(page_size).unwrap_or(1));
        let bound = if windows { 45 + 4 * pages } else { 8 + 2 * pages };
        prop_assert!(model.asked <= bound, "{} questions for {} pages", model.asked, pages);
    }
}
