//! What an app may ask for all of its tenants together.

use alert_poller::Config;
use domain::{AppName, FeedOutcome, Report, Source};
use tokio::time::Instant;

use crate::support::{DAY, HOUR, SECOND, World, most_within, no_ladder, pass, until};

fn config() -> Config {
    Config { interval: SECOND * 10, ladder: no_ladder(), graph_per_minute: 10_000, first_sync: DAY, ..Config::default() }
}

/// When these tenants were asked, all together.
fn calls(world: &World, tenants: std::ops::Range<u32>) -> Vec<Instant> {
    let mut calls: Vec<_> = tenants.flat_map(|number| world.cloud.calls_of(number)).map(|call| call.at).collect();
    calls.sort();
    calls
}

fn nobody_is_in_trouble(world: &World, tenants: std::ops::Range<u32>) {
    assert!(!world.reports().iter().any(|report| matches!(report, Report::Trouble { .. })));
    for number in tenants {
        let progress = world.store.progress_of(number);
        assert!(progress.iter().all(|(_, progress)| !matches!(progress.outcome, FeedOutcome::Failed { .. })), "tenant {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn tenants_of_an_app_whose_calls_are_used_up_take_turns_and_those_of_another_do_not_notice() {
    // A hundred polls in ten seconds are due, and fifty allowed.
    let mut world = World::start(Config { app_graph_per_10s: 50, polls_at_once: 4, ..config() });
    world.hold(0..105);
    for number in 100..105 {
        world.change(number, |held| held.app = AppName::new("other"));
    }
    pass(SECOND * 600).await;
    let most = most_within(&calls(&world, 0..100), SECOND * 10);
    // A turn that comes at a tick after its time is used all the same.
    assert!((45..=55).contains(&most), "{most} calls in ten seconds");
    for number in 0..100 {
        let polls = calls(&world, number..number + 1);
        assert!(
            (21..=29).contains(&polls.len()),
            "tenant {number} was polled {} times in ten minutes, at four a second for all",
            polls.len()
        );
        let gap = polls.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(gap <= SECOND * 33, "tenant {number} waited {gap:?}");
    }
    for number in 100..105 {
        let gap = calls(&world, number..number + 1).windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(gap <= SECOND * 12, "tenant {number} of the other app waited {gap:?}");
    }
    nobody_is_in_trouble(&world, 0..105);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_with_very_much_to_read_is_read_within_the_budget_of_its_app_and_keeps_nobody_waiting() {
    let mut world = World::start(Config { app_graph_per_10s: 50, page_size: 50, ..config() });
    world.cloud.history(1, 8_000, SECOND);
    world.hold(1..11);
    until("everything is read", SECOND * 600, || !world.store.progress_of(1).is_empty()).await;
    assert!(world.store.missing(1).is_empty());
    assert!(most_within(&calls(&world, 1..11), SECOND * 10) <= 55);
    for number in 2..11 {
        let gap = calls(&world, number..number + 1).windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(gap <= SECOND * 13, "tenant {number} waited {gap:?} between polls");
    }
    nobody_is_in_trouble(&world, 1..11);
}

#[tokio::test(start_paused = true)]
async fn each_api_has_a_budget_of_its_own_and_another_limit_counts_at_once() {
    let mut world = World::start(Config { app_defender_per_minute: 12, ..config() });
    world.hold(0..10);
    for number in 0..10 {
        world.change(number, |held| held.sources = vec![Source::GraphAlerts, Source::MdeAlerts]);
    }
    let of = |world: &World, source| (0..10).flat_map(|number| world.cloud.calls_of(number)).filter(|call| call.source == source).count();
    let calls = |world: &World| [Source::GraphAlerts, Source::MdeAlerts].map(|source| of(world, source));
    pass(SECOND * 300).await;
    let [graph, defender] = calls(&world);
    assert!((270..=330).contains(&graph), "{graph} calls to Graph in five minutes, sixty a minute");
    assert!((45..=60).contains(&defender), "{defender} calls to Defender in five minutes, of at most twelve a minute");
    world.set(Config { app_defender_per_minute: 0, ..config() });
    // Those who wait have been told a time by the old limit, and wait no longer; each polls at its interval then.
    pass(SECOND * 12).await;
    let before = calls(&world)[1];
    pass(SECOND * 60).await;
    let defender = calls(&world)[1] - before;
    // Where no order can be asked for, a poll takes a second call.
    assert!((100..=132).contains(&defender), "{defender} calls to Defender in a minute without a limit");
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_an_app_that_is_mended_is_not_waited_for_and_another_one_makes_nobody_wait_longer() {
    let limits = |app_graph_per_10s, graph_per_minute| Config { app_graph_per_10s, graph_per_minute, ..config() };
    let mut world = World::start(limits(4, 10_000));
    world.hold(0..100);
    pass(SECOND * 60).await;
    let calls = |world: &World| calls(world, 0..100).len();
    let before = calls(&world);
    assert!((15..=30).contains(&before), "{before} in a minute, of four in ten seconds");
    world.set(limits(4, 9_000));
    pass(SECOND * 30).await;
    let after = calls(&world) - before;
    assert!(
        (8..=14).contains(&after),
        "{after} in half a minute: a limit of tenants has changed, nobody waits for those who waited before"
    );
    world.set(limits(10_000, 9_000));
    pass(SECOND * 12).await;
    let all = (0..100).filter(|number| !world.cloud.calls_of(*number).is_empty()).count();
    assert_eq!(all, 100);
}

#[tokio::test(start_paused = true)]
async fn i24_a_feed_that_waits_for_its_turn_for_more_than_a_minute_is_told_of() {
    let mut world = World::start(Config { app_graph_per_10s: 1, ..config() });
    world.hold(0..20);
    pass(HOUR).await;
    let told = world.reports().into_iter().find_map(|report| match report {
        Report::Trouble { trouble, .. } => Some(trouble),
        Report::Working { .. } => None,
    });
    let trouble = told.expect("twenty polls, one every ten seconds");
    assert!(trouble.reason.contains("[budget]") && trouble.code.as_deref() == Some("budget"), "{trouble:?}");
}
