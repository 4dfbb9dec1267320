//! Source and store compared: what was missing, what had changed, what is only stored.

use alert_poller::Config;
use domain::{Comparison, Errand, Source};

use crate::support::{DAY, EPOCH, HOUR, Item, SECOND, World, lock, no_ladder, only_nightly, pass, tenant, until};

fn config() -> Config {
    Config { interval: SECOND * 30, ladder: no_ladder(), graph_per_minute: 10_000, first_sync: DAY, ..Config::default() }
}

/// What the only comparison so far came to, with what was new and updated on the way.
fn result(world: &World) -> (u64, u64, Comparison) {
    let comparisons = lock(&world.store.comparisons);
    assert_eq!(comparisons.len(), 1, "{comparisons:?}");
    let (_, row, comparison) = comparisons[0].clone();
    assert!(row.reread.finished_at.is_some());
    (row.new, row.updated, comparison)
}

#[tokio::test(start_paused = true)]
async fn an_operators_comparison_finds_repairs_and_names_every_difference() {
    let mut world = World::start(config());
    world.cloud.history(1, 40, HOUR / 2);
    world.hold([1]);
    until("all is stored", SECOND * 10, || world.store.missing(1).is_empty()).await;
    pass(SECOND * 60).await;
    world.store.lose(1, "1-20");
    world.cloud.put(1, Item { id: "1-25".to_owned(), updated: Some(EPOCH.minus(HOUR * 5)), created: EPOCH.minus(HOUR * 8), late: true });
    world.cloud.with(1, |shop| shop.alerts.retain(|item| item.id != "1-30" && item.id != "1-31"));
    world.store.ask(1, Errand::Reconcile, EPOCH.minus(DAY), world.clock.truth());
    let took = until("it is done", SECOND * 60, || world.store.is_finished(1, Errand::Reconcile)).await;
    assert!(took < SECOND * 6, "nobody waits for the next poll: {took:?}");
    let (missing, changed, comparison) = result(&world);
    assert_eq!((missing, changed), (1, 1));
    assert_eq!((comparison.at_source, comparison.stored), (38, 40));
    assert_eq!((comparison.only_stored, comparison.only_stored_count), (vec!["1-30".to_owned(), "1-31".to_owned()], 2));
    assert!(world.store.missing(1).is_empty(), "it is repaired on the spot");
}

#[tokio::test(start_paused = true)]
async fn a_nightly_comparison_leaves_a_result_every_night_and_a_quiet_tenant_costs_no_call() {
    let mut world =
        World::start(Config { ladder: only_nightly(DAY), interval: SECOND * 600, beat: SECOND * 600, ask_every: SECOND * 600, ..config() });
    world.cloud.history(1, 20, HOUR);
    world.hold([1, 2]);
    for day in 0..3_u32 {
        pass(DAY).await;
        world.cloud.publish(1, format!("of day {day}"), world.clock.truth());
    }
    pass(HOUR * 6).await;
    let comparisons = lock(&world.store.comparisons).clone();
    for number in [1, 2] {
        let nights: Vec<_> = comparisons.iter().filter(|(who, ..)| *who == tenant(number)).collect();
        assert!((3..=4).contains(&nights.len()), "{} nights of tenant {number}", nights.len());
        for (_, row, comparison) in nights {
            assert_eq!((row.new, row.updated, comparison.only_stored_count), (0, 0, 0));
            assert_eq!(comparison.at_source, comparison.stored);
            assert!(row.reread.to <= row.reread.polled_before.max(row.reread.from), "no further than what polling was done with");
        }
    }
    assert!(comparisons.iter().any(|(_, _, comparison)| comparison.at_source > 0));
    assert!(world.cloud.rereads_of(2).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_is_updated_meanwhile_is_no_difference() {
    let mut world = World::start(Config { interval: SECOND * 600, page_size: 5, ..config() });
    world.cloud.history(1, 40, HOUR / 2);
    world.hold([1]);
    until("all is stored", SECOND * 30, || world.store.missing(1).is_empty()).await;
    pass(SECOND * 30).await;
    world.store.ask(1, Errand::Reconcile, EPOCH.minus(DAY), world.clock.truth());
    until("it reads", SECOND * 10, || world.cloud.rereads_of(1).len() > 2).await;
    // The oldest, which has not been read yet, leaves the stretch.
    world.cloud.put(1, Item { id: "1-0".to_owned(), updated: Some(world.clock.truth()), created: EPOCH.minus(HOUR * 20), late: false });
    until("it is done", SECOND * 60, || world.store.is_finished(1, Errand::Reconcile)).await;
    let (missing, changed, comparison) = result(&world);
    assert_eq!((missing, changed, comparison.only_stored_count), (0, 0, 0), "{comparison:?}");
    assert_eq!((comparison.at_source, comparison.stored), (39, 39));
}

#[tokio::test(start_paused = true)]
async fn a_comparison_that_was_interrupted_begins_anew_and_is_right() {
    let mut world = World::start(Config { page_size: 5, graph_per_minute: 60, ..config() });
    world.cloud.history(1, 40, HOUR / 2);
    world.hold([1]);
    until("all is stored", SECOND * 120, || world.store.missing(1).is_empty()).await;
    pass(SECOND * 60).await;
    let run = world.store.ask(1, Errand::Reconcile, EPOCH.minus(DAY), world.clock.truth());
    until("it is under way", SECOND * 60, || world.store.row(1, Errand::Reconcile).is_some_and(|row| row.reread.left < row.reread.to))
        .await;
    world.restart().await;
    until("it is done", SECOND * 300, || world.store.is_finished(1, Errand::Reconcile)).await;
    let (missing, changed, comparison) = result(&world);
    assert_eq!((missing, changed), (0, 0));
    assert_eq!((comparison.at_source, comparison.stored, comparison.only_stored_count), (40, 40, 0));
    assert_eq!(world.store.row(1, Errand::Reconcile).expect("it is there").reread.run, run + 1);
}

#[tokio::test(start_paused = true)]
async fn incidents_are_compared_as_well() {
    let mut world = World::start(config());
    world.cloud.history(1, 40, HOUR / 2);
    world.hold([1]);
    world.change(1, |held| held.sources = vec![Source::GraphIncidents]);
    until("all is stored", SECOND * 30, || world.store.missing(1).is_empty()).await;
    pass(SECOND * 60).await;
    world.cloud.with(1, |shop| shop.alerts.retain(|item| item.id != "1-30"));
    world.store.ask_of(1, Source::GraphIncidents, Errand::Reconcile, EPOCH.minus(DAY), world.clock.truth());
    until("it is done", SECOND * 60, || !lock(&world.store.comparisons).is_empty()).await;
    let (_, _, comparison) = result(&world);
    assert_eq!((comparison.at_source, comparison.stored, comparison.only_stored), (39, 40, vec!["1-30".to_owned()]));
}
