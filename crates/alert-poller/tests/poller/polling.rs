//! Polling: who is read when, and what comes between. The ladder is switched off here.

use std::sync::atomic::Ordering;
use std::time::Duration;

use alert_poller::Config;
use domain::{Epoch, FeedOutcome, Order, Purpose, Report, ReportOrigin, Source, TenantState, Ticks};
use tokio::time::Instant;

use crate::support::{EPOCH, Mood, SECOND, World, most_within, no_ladder, pass, set, tenant, until};

fn config() -> Config {
    Config { interval: SECOND * 10, ladder: no_ladder(), ..Config::default() }
}

#[tokio::test(start_paused = true)]
async fn the_first_alert_of_a_new_tenant_is_stored_at_once() {
    let mut world = World::start(config());
    world.cloud.history(1, 3, SECOND * 60);
    world.hold([1]);
    let took = until("alerts are stored", SECOND * 2, || world.store.missing(1).is_empty()).await;
    assert!(took < SECOND / 2, "{took:?}");
    until("it says so", SECOND * 5, || !world.store.progress_of(1).is_empty()).await;
    let (_, progress) = world.store.progress_of(1)[0].clone();
    let FeedOutcome::CaughtUp { at } = progress.outcome else { panic!("{progress:?}") };
    assert!(at >= EPOCH, "{at}");
    until("it works", SECOND, || matches!(world.reports()[..], [Report::Working { origin: ReportOrigin::Read(Source::GraphAlerts), .. }]))
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_feed_is_asked_once_every_interval() {
    let mut world = World::start(config());
    world.cloud.history(1, 500, SECOND * 600);
    world.hold([1]);
    pass(SECOND * 15).await;
    let before = world.cloud.calls();
    pass(SECOND * 1000).await;
    let asked = world.cloud.calls() - before;
    // One a poll, and three every other minute while an alert lies in the overlap: whether pages still come whole.
    assert!((85..=115 + 24).contains(&asked), "{asked} calls in a hundred intervals");
    let said = world.reports().len();
    assert_eq!(said, 1, "that it works is said once");
    assert!(world.store.batches_of(1).last().is_some_and(|batch| batch.purpose == Purpose::Live { fresh: true }), "what comes now is news");
}

#[tokio::test(start_paused = true)]
async fn new_and_late_alerts_are_found_by_the_next_poll() {
    let mut world = World::start(config());
    world.cloud.history(1, 100, SECOND * 60);
    world.hold([1]);
    until("the first sync is done", SECOND * 10, || world.store.missing(1).is_empty()).await;
    world.cloud.publish(1, "late", EPOCH.minus(SECOND * 14 * 60));
    world.cloud.publish(1, "absurd", Ticks::parse("9999-12-31T23:59:59Z").unwrap());
    until("both are found", SECOND * 12, || world.store.missing(1).is_empty()).await;
    world.cloud.publish(1, "after that", EPOCH.plus(SECOND));
    until("nobody is blind", SECOND * 12, || world.store.missing(1).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn hanging_neighbours_hold_up_nobody() {
    // I10: 60 feeds, a tenth of which never answer, over few places.
    let config = Config { polls_at_once: 8, slow_polls_at_once: 2, answer_timeout: SECOND * 30, ..config() };
    let mut world = World::start(config);
    for number in 0..60 {
        world.cloud.history(number, 5, SECOND * 60);
        if number % 10 == 0 {
            world.cloud.with(number, |shop| shop.mood = Mood::Hangs);
        }
    }
    world.hold(0..60);
    pass(SECOND * 60).await;
    for number in (0..60).step_by(10) {
        let said = world.store.progress_of(number);
        assert!(said.iter().any(|(_, progress)| matches!(progress.outcome, FeedOutcome::Failed { .. })), "tenant {number} is blind unsaid");
    }
    pass(SECOND * 240).await;
    for number in (0..60).filter(|number| number % 10 != 0) {
        assert!(world.store.missing(number).is_empty());
        let calls = world.cloud.calls_of(number);
        let polls: Vec<Instant> = calls.iter().map(|call| call.at).collect();
        let gap = polls.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(gap <= SECOND * 13, "tenant {number} waited {gap:?} between polls");
    }
    world.cloud.with(0, |shop| shop.mood = Mood::Answers);
    until("who answers again is read again", SECOND * 1200, || world.store.missing(0).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_who_hang_for_hours_are_never_said_to_work_and_take_no_memory_from_one_who_is_slow() {
    let mut world = World::start(Config { answer_timeout: SECOND * 30, ..config() });
    for number in 0..101 {
        world.cloud.history(number, 2, SECOND * 60);
    }
    world.hold(0..101);
    until("all are read", SECOND * 60, || (0..101).all(|number| world.store.missing(number).is_empty())).await;
    for number in 0..100 {
        world.cloud.with(number, |shop| shop.mood = Mood::Hangs);
    }
    pass(SECOND * 600).await;
    let working = |world: &World| world.reports().iter().filter(|report| matches!(report, Report::Working { .. })).count();
    let before = working(&world);
    pass(SECOND * 3 * 3600).await;
    assert_eq!(working(&world), before, "some question or other was never answered, and that is no reason to say that all is well");
    world.cloud.with(100, |shop| shop.delay = SECOND * 3);
    let slow = Instant::now();
    pass(SECOND * 600).await;
    let polls: Vec<Instant> = world.cloud.calls_of(100).iter().map(|call| call.at).filter(|at| *at > slow).collect();
    let gap = polls.windows(2).map(|pair| pair[1] - pair[0]).max().expect("it is polled");
    assert!(gap <= SECOND * 60, "{gap:?} between polls");
    for number in 0..100 {
        world.cloud.with(number, |shop| shop.mood = Mood::Answers);
        world.cloud.publish(number, "meanwhile", EPOCH.plus(SECOND * 3600));
    }
    until("who answers again is read again", SECOND * 120, || (0..100).all(|number| world.store.missing(number).is_empty())).await;
}

#[tokio::test(start_paused = true)]
async fn a_throttled_tenant_is_left_alone_for_as_long_as_it_asks_and_others_are_not() {
    let mut world = World::start(config());
    world.cloud.history(1, 5, SECOND * 60);
    world.cloud.with(1, |shop| shop.mood = Mood::Throttles(SECOND * 120));
    world.hold([1, 2]);
    until("it is asked once", SECOND * 3, || world.cloud.calls_of(1).len() == 1).await;
    world.cloud.with(1, |shop| shop.mood = Mood::Answers);
    let others = world.cloud.calls_of(2).len();
    // A new credential or state is no reason to ask earlier.
    world.change(1, |held| held.credential_version = 2);
    pass(SECOND * 118).await;
    assert_eq!(world.cloud.calls_of(1).len(), 1);
    assert!(world.cloud.calls_of(2).len() - others >= 9);
    until("then it is read", SECOND * 5, || world.store.missing(1).is_empty()).await;
    let (_, progress) = world.store.progress_of(1)[0].clone();
    let FeedOutcome::Failed { throttled_until: Some(until), .. } = progress.outcome else { panic!("{progress:?}") };
    assert!(until.since(EPOCH) >= SECOND * 120);
}

#[tokio::test(start_paused = true)]
async fn a_throttling_from_before_a_restart_is_respected() {
    let mut world = World::start(config());
    world.store.feeds.lock().unwrap().entry((tenant(1), Source::GraphAlerts)).or_default().throttled_until = Some(EPOCH.plus(SECOND * 60));
    world.hold([1]);
    pass(SECOND * 58).await;
    assert_eq!(world.cloud.calls(), 0);
    until("then it is asked", SECOND * 5, || world.cloud.calls() > 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_large_tenant_is_read_within_its_budget_while_others_are_read_on_time() {
    let config = Config { page_size: 50, polls_at_once: 2, graph_per_minute: 60, ..config() };
    let mut world = World::start(config);
    world.cloud.history(1, 8_000, SECOND);
    for number in 2..10 {
        world.cloud.history(number, 3, SECOND * 60);
    }
    world.hold(1..10);
    until("everything is read", SECOND * 600, || !world.store.progress_of(1).is_empty()).await;
    assert!(world.store.missing(1).is_empty());
    let calls: Vec<_> = world.cloud.calls_of(1).iter().map(|call| call.at).collect();
    let most = most_within(&calls, SECOND * 60);
    assert!(most <= 60, "{most} calls in a minute");
    for number in 2..10 {
        let polls: Vec<Instant> = world.cloud.calls_of(number).iter().map(|call| call.at).collect();
        let gap = polls.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(gap <= SECOND * 13, "tenant {number} waited {gap:?} between polls");
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_for_his_turn_needs_no_more_memory_than_others() {
    const TENANTS: u32 = 40;
    let mut world =
        World::start(Config { interval: SECOND * 3, graph_per_minute: 10, page_memory: 1 << 20, first_sync: SECOND * 86_400, ..config() });
    for number in 0..TENANTS {
        world.cloud.history(number, 1, SECOND * 60);
        world.cloud.with(number, |shop| shop.delay = SECOND);
    }
    world.hold(0..TENANTS);
    // At first contact nobody knows how much there is.
    pass(SECOND * 200).await;
    let known = Instant::now();
    pass(SECOND * 300).await;
    // Eight calls a minute are one in seven and a half seconds. If each had set aside what there is, they would come after forty.
    for number in 0..TENANTS {
        let polls: Vec<Instant> = world.cloud.calls_of(number).iter().map(|call| call.at).filter(|at| *at > known).collect();
        let gap = polls.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(gap <= SECOND * 13, "tenant {number} waited {gap:?} between polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_sync_gives_its_place_back_between_turns() {
    let mut world = World::start(Config { polls_at_once: 1, page_size: 100, graph_per_minute: 10_000, ..config() });
    world.cloud.history(1, 10_000, SECOND);
    world.hold([1]);
    until("it reads", SECOND * 5, || world.cloud.calls_of(1).len() > 3).await;
    world.cloud.history(2, 3, SECOND);
    world.hold([2]);
    let took = until("the small one is served", SECOND * 5, || world.store.missing(2).is_empty()).await;
    assert!(took < SECOND * 2, "{took:?}");
    assert!(!world.store.missing(1).is_empty(), "while the large one is still at it");
    until("which ends, too", SECOND * 120, || !world.store.progress_of(1).is_empty()).await;
    assert!(world.store.missing(1).is_empty());
    assert_eq!(world.store.read.load(Ordering::SeqCst), 2, "each feed was looked up once");
}

#[tokio::test(start_paused = true)]
async fn while_the_database_is_away_nothing_is_fetched() {
    // I29: Microsoft keeps the alerts.
    let mut world = World::start(config());
    world.cloud.history(1, 3, SECOND * 60);
    world.database_is_away(true);
    world.hold(1..100);
    pass(SECOND * 600).await;
    assert_eq!(world.cloud.calls(), 0);
    assert!(world.status.borrow().fault.is_some());
    world.database_is_away(false);
    until("it goes on", SECOND * 5, || world.store.missing(1).is_empty()).await;
    until("all is well", SECOND * 2, || world.status.borrow().fault.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn leases_that_are_not_confirmed_are_not_used() {
    let mut world = World::start(config());
    world.trust_for(Duration::ZERO);
    world.hold([1]);
    pass(SECOND * 60).await;
    assert_eq!(world.cloud.calls(), 0);
    world.trust_for(SECOND * 15);
    until("it is asked", SECOND * 5, || world.cloud.calls() > 0).await;
    pass(SECOND * 15).await;
    let calls = world.cloud.calls();
    pass(SECOND * 60).await;
    assert_eq!(world.cloud.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_cancels_what_is_in_flight_and_a_new_one_starts_from_the_database() {
    let mut world = World::start(config());
    world.cloud.with(1, |shop| shop.mood = Mood::Hangs);
    world.hold([1]);
    until("it is asked", SECOND * 5, || world.cloud.in_flight.load(Ordering::SeqCst) == 1).await;
    world.let_go(1);
    until("the request is dropped", SECOND, || world.cloud.in_flight.load(Ordering::SeqCst) == 0).await;
    pass(SECOND * 60).await;
    assert_eq!(world.cloud.calls(), 1);

    world.hold([1]);
    until("it is asked", SECOND * 5, || world.cloud.in_flight.load(Ordering::SeqCst) == 1).await;
    world.cloud.with(1, |shop| shop.mood = Mood::Answers);
    world.cloud.history(1, 3, SECOND);
    world.change(1, |held| held.epoch = Epoch(2));
    until("it is read under the new lease", SECOND * 2, || world.store.missing(1).is_empty()).await;
    assert_eq!(world.store.read.load(Ordering::SeqCst), 3);
    assert!(world.store.batches_of(1).iter().all(|batch| batch.records == 0 || batch.epoch == Epoch(2)));
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_makes_the_feed_forget_what_it_believed() {
    let mut world = World::start(config());
    world.cloud.history(1, 3, SECOND * 60);
    world.store.epochs.lock().unwrap().insert(tenant(1), Epoch(2));
    world.hold([1]);
    pass(SECOND * 5).await;
    assert!(world.store.batches_of(1).is_empty());
    world.store.epochs.lock().unwrap().clear();
    until("it is read from the start", SECOND * 20, || world.store.missing(1).is_empty()).await;
    assert!(world.store.read.load(Ordering::SeqCst) >= 2);
}

#[tokio::test(start_paused = true)]
async fn stopping_is_quick_whatever_is_in_flight() {
    // I32: nobody is waited for.
    for stalled in [false, true] {
        let mut world = World::start(config());
        for number in 0..20 {
            world.cloud.history(number, 3, SECOND * 60);
            if number % 2 == 0 {
                world.cloud.with(number, |shop| shop.mood = Mood::Hangs);
            }
        }
        set(&world.store.stalled, stalled);
        world.hold(0..20);
        pass(SECOND).await;
        let took = world.stop().await;
        assert!(took <= SECOND, "{took:?}");
        assert_eq!(world.cloud.in_flight.load(Ordering::SeqCst), 0);
        let calls = world.cloud.calls();
        pass(SECOND * 60).await;
        assert_eq!(world.cloud.calls(), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_again_and_again_in_a_first_sync_loses_nothing() {
    let mut world = World::start(Config { page_size: 50, graph_per_minute: 10_000, ..config() });
    world.cloud.history(1, 2_000, SECOND * 600);
    world.cloud.history(2, 2_000, SECOND * 600);
    world.cloud.with(2, |shop| shop.newest_first = true);
    world.hold([1, 2]);
    for _ in 0..20 {
        let calls = world.cloud.calls();
        until("some pages are read", SECOND * 30, || world.cloud.calls() > calls + 6).await;
        world.restart().await;
    }
    until("all is read", SECOND * 60, || world.store.missing(1).is_empty() && world.store.missing(2).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_renewed_once_and_the_page_asked_again() {
    let mut world = World::start(config());
    world.cloud.history(1, 3, SECOND * 60);
    world.cloud.with(1, |shop| shop.mood = Mood::RefusesTokens(1));
    world.hold([1]);
    until("it is read with the second token", SECOND * 2, || world.store.missing(1).is_empty()).await;
    assert_eq!(world.tokens.refused.load(Ordering::SeqCst), 1);
    assert!(world.reports().iter().all(|report| matches!(report, Report::Working { .. })));
}

#[tokio::test(start_paused = true)]
async fn tokens_that_are_all_refused_are_trouble_and_no_hot_loop() {
    let mut world = World::start(config());
    world.cloud.with(1, |shop| shop.mood = Mood::RefusesTokens(usize::MAX));
    world.hold([1]);
    pass(SECOND * 600).await;
    let calls = world.cloud.calls();
    assert!((4..40).contains(&calls), "{calls} calls in ten minutes");
    assert!(world.reports().iter().all(|report| matches!(report, Report::Trouble { .. })));
}

#[tokio::test(start_paused = true)]
async fn without_a_token_nothing_is_asked_until_there_is_one() {
    let mut world = World::start(config());
    world.cloud.history(1, 3, SECOND * 60);
    set(&world.tokens.none_until, Some(EPOCH.plus(SECOND * 3600)));
    world.hold([1]);
    pass(SECOND * 100).await;
    assert_eq!(world.cloud.calls(), 0);
    let asked = world.tokens.asked.load(Ordering::SeqCst);
    assert!((8..=12).contains(&asked), "{asked} times in ten intervals");
    assert!(world.reports().is_empty(), "whoever has no token has said so");
    assert!(matches!(world.store.progress_of(1)[0].1.outcome, FeedOutcome::Failed { .. }));
    set(&world.tokens.none_until, None);
    pass(SECOND * 10).await;

    // A new credential is tried at once.
    set(&world.tokens.none_until, Some(EPOCH.plus(SECOND * 3600)));
    pass(SECOND * 12).await;
    set(&world.tokens.none_until, None);
    world.cloud.publish(1, "new", EPOCH.plus(SECOND));
    world.change(1, |held| held.credential_version = 2);
    let took = until("it is read", SECOND * 10, || world.store.missing(1).is_empty()).await;
    assert!(took < SECOND / 2, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn failures_are_reported_spaced_out_and_ended_by_the_first_success() {
    let mut world = World::start(config());
    world.cloud.history(1, 3, SECOND * 60);
    world.cloud.with(1, |shop| shop.mood = Mood::Fails);
    world.hold([1]);
    pass(SECOND * 3600).await;
    let calls = world.cloud.calls();
    let said = world.reports().len();
    // From the third failure on the source is asked whether it fails for everything, which takes a call more.
    assert!((60..100).contains(&said) && (said..=said * 2).contains(&calls), "{said} failures said, {calls} calls in an hour");
    assert!(world.cloud.rereads_of(1).is_empty(), "what fails for polling is not asked a second time");
    assert!(world.reports().iter().all(|report| matches!(report, Report::Trouble { .. })));
    world.cloud.with(1, |shop| shop.mood = Mood::Answers);
    until("it is read", SECOND * 61, || world.store.missing(1).is_empty()).await;
    until("it works", SECOND, || matches!(world.reports().last(), Some(Report::Working { .. }))).await;
}

#[tokio::test(start_paused = true)]
async fn who_needs_a_person_is_tried_slowly_and_who_is_paused_not_at_all() {
    let mut world = World::start(config());
    world.cloud.with(1, |shop| shop.mood = Mood::Forbids);
    world.hold([1]);
    until("it is told", SECOND * 5, || !world.reports().is_empty()).await;
    world.change(1, |held| held.state = TenantState::NeedsCustomer);
    pass(SECOND * 600).await;
    let tries = world.cloud.calls();
    assert!(tries >= 3, "{tries}");
    world.change(1, |held| held.state = TenantState::Paused);
    pass(SECOND * 600).await;
    assert!(world.cloud.calls() <= tries + 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_not_read_yet_is_mentioned_now_and_then() {
    let mut world = World::start(config());
    set(&world.cloud.unread, Some(Source::GraphIncidents));
    world.hold([1]);
    world.change(1, |held| held.sources = vec![Source::GraphIncidents]);
    pass(SECOND * 7300).await;
    let said = world.store.progress_of(1);
    assert_eq!(said.len(), 3, "at once and every hour");
    assert!(matches!(&said[0].1.outcome, FeedOutcome::Failed { error, .. } if error == "graph-incidents is not read by this version"));
    assert!(world.reports().is_empty());
}

#[tokio::test(start_paused = true)]
async fn both_sources_of_a_tenant_are_read_and_an_unordered_one_is_remembered() {
    let mut world = World::start(config());
    world.cloud.history(1, 400, SECOND * 60);
    world.cloud.with(1, |shop| shop.newest_first = true);
    world.hold([1]);
    world.change(1, |held| held.sources = vec![Source::GraphAlerts, Source::MdeAlerts, Source::MdeAlerts]);
    until("both are caught up", SECOND * 20, || world.store.progress_of(1).len() >= 2).await;
    assert!(world.store.missing(1).is_empty());
    let graph = world.store.progress_of(1).into_iter().find(|(_, progress)| progress.source == Source::GraphAlerts).unwrap();
    assert_eq!(graph.1.order, Order::Windows);
    let watermarks: Vec<_> = world.store.feeds.lock().unwrap().values().map(|state| state.watermark).collect();
    assert_eq!(watermarks, vec![Some(EPOCH.minus(SECOND * 60)); 2]);
}

#[tokio::test(start_paused = true)]
async fn the_poller_ends_with_an_error_when_nobody_takes_alerts_any_more() {
    let mut world = World::start(config());
    world.cloud.history(1, 3, SECOND);
    world.hold([1]);
    until("it runs", SECOND * 5, || world.store.missing(1).is_empty()).await;
    assert!(world.is_running());
    assert_eq!(world.stop().await, Duration::ZERO);
}
