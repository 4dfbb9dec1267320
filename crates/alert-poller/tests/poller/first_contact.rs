//! First contact: polling from a day back, and the backfill of what lies before it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use alert_poller::Config;
use domain::rehearsal::{Action, Rehearsal};
use domain::{Axis, CursorMove, Errand, GapKind, Purpose, Source};

use crate::support::{DAY, EPOCH, HOUR, Mood, SECOND, World, lock, most_within, no_ladder, pass, tenant, until};

fn config() -> Config {
    Config { interval: SECOND * 10, ladder: no_ladder(), graph_per_minute: 10_000, ..Config::default() }
}

#[tokio::test(start_paused = true)]
async fn where_polling_begins_is_written_down_before_anything_is_asked() {
    let mut world = World::start(config());
    world.cloud.history(1, 100, HOUR);
    world.hold([1]);
    until("everything is stored", SECOND * 20, || world.store.missing(1).is_empty()).await;
    let first = world.store.batches_of(1).remove(0);
    let Some(CursorMove::Begin { live_from, history_from }) = first.cursor else { panic!("{first:?}") };
    assert!(live_from.since(EPOCH.minus(DAY)) < SECOND && history_from.since(EPOCH.minus(DAY * 30)) < SECOND);
    assert!((first.records, first.at) == (0, first.at) && first.at <= world.cloud.calls_of(1)[0].at);
    assert_eq!(world.cloud.calls_of(1)[0].from, live_from.minus(config().overlap), "polling reads the overlap, too");
}

#[tokio::test(start_paused = true)]
async fn todays_alerts_come_at_once_and_history_from_the_newest_to_the_oldest() {
    let mut world = World::start(Config { graph_per_minute: 60, page_size: 100, ..config() });
    world.cloud.history(1, 29 * 240, HOUR / 10);
    world.hold([1]);
    let today = || {
        let shops = lock(&world.cloud.shops);
        let stored = lock(&world.store.versions);
        let fresh = shops[&tenant(1)].alerts.iter().filter(|item| item.created >= EPOCH.minus(DAY));
        fresh.filter(|item| !stored.get(&tenant(1)).is_some_and(|stored| stored.contains_key(&item.id))).count()
    };
    let took = until("today's are stored", SECOND * 30, || today() == 0).await;
    assert!(took < SECOND * 5, "{took:?}");
    assert!(!world.store.missing(1).is_empty());
    until("so are all others", SECOND * 1200, || world.store.is_finished(1, Errand::Backfill)).await;
    assert!(world.store.missing(1).is_empty());
    let mut moves = moves_of(&world, Errand::Backfill);
    assert!(moves.len() > 60, "{} moves", moves.len());
    assert!(moves.is_sorted_by(|one, other| (one.0, other.1) <= (other.0, one.1)), "{moves:?}");
    moves.dedup_by_key(|(axis, _)| *axis);
    assert_eq!(moves.len(), 2, "once by each axis");
}

/// Axis and what was left, in the order of writing.
fn moves_of(world: &World, errand: Errand) -> Vec<(Axis, i64)> {
    let batches = world.store.batches_of(1);
    let moves = batches.into_iter().filter_map(|batch| match batch.cursor {
        Some(CursorMove::Reread(cursor)) if cursor.now.errand == errand => Some((cursor.now.axis, cursor.now.left.0)),
        _ => None,
    });
    moves.collect()
}

#[tokio::test(start_paused = true)]
async fn a_crash_right_after_the_beginning_loses_nothing() {
    // The poll writes down where it begins, and never comes to ask.
    Rehearsal::default().at("fetch.before-call", Action::Error, None).begin();
    let mut world = World::start(config());
    world.cloud.history(1, 300, HOUR * 2);
    world.hold([1]);
    until("it has begun", SECOND * 3, || !world.store.batches_of(1).is_empty()).await;
    pass(SECOND).await;
    assert_eq!((world.cloud.calls(), world.store.count(1)), (0, 0));
    Rehearsal::end();
    world.restart().await;
    until("everything is stored", SECOND * 60, || world.store.missing(1).is_empty()).await;
    let begun = world.store.batches_of(1).iter().filter(|batch| matches!(batch.cursor, Some(CursorMove::Begin { .. }))).count();
    assert_eq!(begun, 1);
}

#[tokio::test(start_paused = true)]
async fn a_backfill_goes_on_where_it_stood_after_a_crash_at_every_page() {
    let mut world = World::start(Config { page_size: 50, ..config() });
    world.cloud.history(1, 1_000, HOUR / 2);
    world.hold([1]);
    for _ in 0..200 {
        if world.store.is_finished(1, Errand::Backfill) {
            break;
        }
        let calls = world.cloud.rereads_of(1).len();
        until("a page is read again", SECOND * 30, || {
            world.cloud.rereads_of(1).len() > calls + 3 || world.store.is_finished(1, Errand::Backfill)
        })
        .await;
        world.restart().await;
    }
    assert!(world.store.is_finished(1, Errand::Backfill), "it came to no end");
    assert!(world.store.missing(1).is_empty());
    let moves = moves_of(&world, Errand::Backfill);
    assert!(moves.is_sorted_by(|one, other| (one.0, other.1) <= (other.0, one.1)), "what was read is not read again: {moves:?}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_by_hours_blinds_nobody() {
    for hours in [-5, 5] {
        let mut world = World::start(config());
        world.clock.set_off(hours * 3600);
        world.cloud.history(1, 100, HOUR);
        world.hold([1]);
        until("everything is stored", SECOND * 60, || world.store.missing(1).is_empty()).await;
        world.cloud.publish(1, "new", world.clock.truth());
        until("polling sees what comes", SECOND * 12, || world.store.missing(1).is_empty()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn alerts_without_an_update_stamp_are_found_by_creation() {
    let mut world = World::start(config());
    world.cloud.publish_unstamped(1, "of last week", EPOCH.minus(DAY * 7));
    world.cloud.publish_unstamped(1, "of today", EPOCH.minus(HOUR * 5));
    world.hold([1]);
    until("both are stored", SECOND * 60, || world.store.missing(1).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_short_first_sync_needs_no_backfill() {
    let mut world = World::start(Config { first_sync: HOUR, ..config() });
    world.cloud.publish(1, "before that", EPOCH.minus(HOUR * 2));
    world.cloud.publish(1, "within", EPOCH.minus(HOUR / 2));
    world.hold([1]);
    pass(SECOND * 30).await;
    assert_eq!(world.store.missing(1), ["before that"]);
    assert_eq!(world.store.row(1, Errand::Backfill), None);
    assert!(world.cloud.rereads_of(1).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_backfill_brings_is_counted_as_such() {
    let mut world = World::start(config());
    world.cloud.history(1, 100, HOUR);
    world.hold([1]);
    until("everything is stored", SECOND * 60, || world.store.is_finished(1, Errand::Backfill)).await;
    for batch in world.store.batches_of(1) {
        if let Purpose::Reread { errand, polled_before } = batch.purpose {
            assert_eq!(errand, Errand::Backfill);
            assert!(polled_before.since(EPOCH.minus(DAY)) < SECOND);
        }
    }
    let row = world.store.row(1, Errand::Backfill).expect("there is one");
    assert!(row.new > 0, "{row:?}");
}

#[tokio::test(start_paused = true)]
async fn polls_are_not_late_while_a_hundred_thousand_records_are_read_again() {
    let config = Config { polls_at_once: 6, interval: SECOND * 10, ladder: no_ladder(), ..Config::default() };
    let mut world = World::start(config);
    world.cloud.history(1, 100_000, Duration::from_secs(20));
    world.cloud.with(1, |shop| shop.delay = SECOND / 2);
    // More than there are places for polls read a history, too, at their leisure.
    for number in 2..22 {
        world.cloud.history(number, if number < 12 { 500 } else { 3 }, HOUR);
        world.cloud.with(number, |shop| shop.delay = if number < 12 { SECOND } else { SECOND / 50 });
    }
    world.hold(1..22);
    let took = until("everything is read", SECOND * 1800, || world.store.is_finished(1, Errand::Backfill)).await;
    assert!(world.store.missing(1).is_empty());
    for number in 1..22 {
        let polls: Vec<_> = world.cloud.calls_of(number).into_iter().filter(|call| !call.is_reread()).map(|call| call.at).collect();
        let gap = polls.windows(2).map(|pair| pair[1] - pair[0]).max().expect("it is polled");
        // Whoever answers slowly needs some seconds for a poll, but nobody waits for a place.
        let most = if number < 12 { SECOND * 16 } else { SECOND * 13 };
        assert!(gap <= most, "tenant {number} waited {gap:?} between polls");
    }
    // Two passes of a hundred pages at 150 calls a minute, of which re-reads may use four fifths.
    assert!(took < SECOND * 600, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn rereads_use_their_share_of_the_allowance_and_polling_is_on_time() {
    let mut world = World::start(Config { page_size: 20, graph_per_minute: 50, ..config() });
    world.cloud.history(1, 6_000, SECOND * 400);
    world.hold([1]);
    pass(SECOND * 600).await;
    let calls = world.cloud.calls_of(1);
    for (index, call) in calls.iter().enumerate() {
        let within: Vec<_> = calls[index..].iter().take_while(|later| later.at - call.at < SECOND * 60).collect();
        assert!(within.len() <= 50, "{} calls in a minute", within.len());
        let again = within.iter().filter(|call| call.is_reread()).count();
        assert!(again <= 40, "{again} of them read again");
    }
    assert!(world.cloud.rereads_of(1).len() > 250, "{} in ten minutes", world.cloud.rereads_of(1).len());
    let polls: Vec<_> = calls.iter().filter(|call| !call.is_reread() && call.at > calls[0].at + SECOND * 60).map(|call| call.at).collect();
    let gap = polls.windows(2).map(|pair| pair[1] - pair[0]).max().expect("it is polled");
    assert!(gap <= SECOND * 13, "{gap:?} between polls");
}

#[tokio::test(start_paused = true)]
async fn a_backfill_ends_also_where_polling_alone_would_use_up_the_allowance() {
    let mut world = World::start(Config { interval: SECOND, page_size: 50, graph_per_minute: 50, ..config() });
    world.cloud.history(1, 1_000, SECOND * 2_000);
    world.hold([1]);
    until("the backfill is complete", SECOND * 600, || world.store.is_finished(1, Errand::Backfill)).await;
    assert!(world.store.missing(1).is_empty());
    let calls = world.cloud.calls_of(1);
    let times: Vec<_> = calls.iter().map(|call| call.at).collect();
    let most = most_within(&times, SECOND * 60);
    assert!(most <= 50, "{most} calls in a minute");
    // Each waits for one of the other's at most: 40 a minute is one every second and a half.
    let polls: Vec<_> = calls.iter().filter(|call| !call.is_reread()).map(|call| call.at).collect();
    let gap = polls.windows(2).map(|pair| pair[1] - pair[0]).max().expect("it is polled");
    assert!(gap <= SECOND * 5, "{gap:?} between polls");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_tenant_is_left_alone_by_both() {
    let mut world = World::start(Config { page_size: 50, graph_per_minute: 60, ..config() });
    world.cloud.history(1, 5_000, SECOND * 400);
    world.hold([1]);
    until("it reads again", SECOND * 20, || world.cloud.rereads_of(1).len() > 3).await;
    world.cloud.with(1, |shop| shop.mood = Mood::Throttles(SECOND * 120));
    let calls = world.cloud.calls();
    until("somebody is told to wait", SECOND * 20, || world.cloud.calls() > calls).await;
    world.cloud.with(1, |shop| shop.mood = Mood::Answers);
    pass(SECOND).await;
    let calls = world.cloud.calls();
    pass(SECOND * 117).await;
    assert_eq!(world.cloud.calls(), calls);
    until("then both go on", SECOND * 600, || world.store.is_finished(1, Errand::Backfill)).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_source_is_told_once_and_the_backfill_goes_on_where_it_stood() {
    let mut world = World::start(Config { page_size: 50, ..config() });
    world.cloud.history(1, 1_500, HOUR / 3);
    world.hold([1]);
    until("it reads again", SECOND * 20, || world.store.row(1, Errand::Backfill).is_some_and(|row| row.reread.left < row.reread.to)).await;
    world.cloud.with(1, |shop| shop.mood = Mood::Fails);
    pass(SECOND * 2).await;
    let left = world.store.row(1, Errand::Backfill).expect("there is one").reread.left;
    // Every turn asks for a token once, and every failed poll is reported: but for a few at the beginning, all turns
    // are polls.
    let count = || (world.tokens.asked.load(Ordering::SeqCst), world.reports().len());
    let before = count();
    pass(HOUR).await;
    let (turns, polls) = (count().0 - before.0, count().1 - before.1);
    assert!(polls >= 50 && turns - polls <= polls / 5, "{turns} turns, {polls} of them polls: re-reads wait while polling fails");
    assert_eq!(world.store.row(1, Errand::Backfill).expect("there is one").reread.left, left);
    world.cloud.with(1, |shop| shop.mood = Mood::Answers);
    until("it is read to its end", SECOND * 300, || world.store.is_finished(1, Errand::Backfill)).await;
    assert!(world.store.missing(1).is_empty());
    assert_eq!(world.store.row(1, Errand::Backfill).expect("there is one").reread.run, 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_cannot_be_asked_by_creation_does_not_hold_up_the_end() {
    let mut world = World::start(config());
    world.cloud.history(1, 200, HOUR);
    world.cloud.with(1, |shop| shop.mood = Mood::RefusesCreation);
    *lock(&world.cloud.creation_is_refused) = true;
    world.hold([1]);
    until("the backfill ends", SECOND * 600, || world.store.is_finished(1, Errand::Backfill)).await;
    assert!(world.store.missing(1).is_empty());
    let asked = world.cloud.calls_of(1).iter().filter(|call| call.axis == Axis::Creation).count();
    assert!((5..=10).contains(&asked), "{asked}: not given up at once, and not asked for ever");
    let gaps = lock(&world.store.gaps).clone();
    assert!(gaps.len() == 1 && gaps[0].kind == GapKind::Failing && gaps[0].reason.contains("by creation time"), "{gaps:?}");
    assert!(world.reports().iter().all(|report| matches!(report, domain::Report::Working { .. })));
}

#[tokio::test(start_paused = true)]
async fn incidents_are_read_in_the_same_way() {
    let mut world = World::start(config());
    world.cloud.history(1, 700, HOUR);
    world.hold([1]);
    world.change(1, |held| held.sources = vec![Source::GraphIncidents]);
    until("everything is stored", SECOND * 120, || world.store.missing(1).is_empty()).await;
    world.cloud.publish(1, "new", EPOCH.plus(SECOND));
    until("polling sees what comes", SECOND * 12, || world.store.missing(1).is_empty()).await;
}
