//! Gaps that nobody can close, and failures that are rehearsed.

use alert_poller::Config;
use domain::rehearsal::{Action, Rehearsal};
use domain::{Errand, FeedState, GapKind, Source, Ticks};

use crate::support::{DAY, EPOCH, HOUR, Mood, SECOND, World, lock, no_ladder, pass, tenant, until};

fn config() -> Config {
    Config { interval: SECOND * 10, ladder: no_ladder(), graph_per_minute: 10_000, ..Config::default() }
}

/// A feed that was read up to the first, and was asked for the last time at the second.
fn known(world: &World, watermark: Ticks, caught_up: Option<Ticks>) {
    let state = FeedState { watermark: Some(watermark), caught_up, ..FeedState::default() };
    lock(&world.store.feeds).insert((tenant(1), Source::GraphAlerts), state);
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_nobody_could_read_for_too_long_has_a_gap_and_goes_on() {
    let mut world = World::start(config());
    known(&world, EPOCH.minus(DAY * 300), Some(EPOCH.minus(DAY * 250)));
    world.cloud.publish(1, "still there", EPOCH.minus(DAY * 100));
    world.hold([1]);
    until("what is left is read", SECOND * 30, || world.store.missing(1).is_empty()).await;
    pass(HOUR).await;
    let gaps = lock(&world.store.gaps).clone();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((gaps[0].from, gaps[0].kind), (EPOCH.minus(DAY * 250), GapKind::Expired));
    assert!(gaps[0].to < EPOCH.minus(DAY * 180).plus(SECOND) && gaps[0].to >= EPOCH.minus(DAY * 180 + SECOND));
    assert_eq!(gaps[0].reason, "nobody could read this feed for 250 days, and Microsoft keeps alerts for about 180 days");
    assert!(world.cloud.calls_of(1)[0].from <= EPOCH.minus(DAY * 300), "the source may have more than it promises");
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_a_daemon_lives_through_leaves_the_same_gap_when_it_ends() {
    let mut world = World::start(Config { source_keeps: DAY * 2, beat: HOUR, ask_every: HOUR, interval: HOUR, ..config() });
    world.cloud.publish(1, "seen", EPOCH.minus(HOUR));
    world.hold([1]);
    pass(HOUR * 2).await;
    world.cloud.with(1, |shop| shop.mood = Mood::Fails);
    pass(DAY * 5).await;
    assert!(lock(&world.store.gaps).is_empty(), "how long it will last is not known yet");
    world.cloud.with(1, |shop| shop.mood = Mood::Answers);
    pass(HOUR * 5).await;
    let gaps = lock(&world.store.gaps).clone();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].kind, GapKind::Expired);
    let days = gaps[0].to.since(gaps[0].from).as_secs_f64() / DAY.as_secs_f64();
    assert!((2.9..=3.2).contains(&days), "{days} of five days, of which two are still there: {gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_is_merely_quiet_has_no_gap() {
    let mut world = World::start(config());
    known(&world, EPOCH.minus(DAY * 300), Some(EPOCH.minus(HOUR)));
    world.hold([1]);
    pass(HOUR).await;
    assert!(lock(&world.store.gaps).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failure_at_every_point_loses_nothing_and_stores_nothing_twice() {
    for point in ["fetch.before-call", "fetch.answered", "deliver.before-slice", "deliver.acknowledged"] {
        for passing in [1, 2, 3, 5, 8, 13] {
            Rehearsal::default().at(point, Action::Error, Some(passing)).begin();
            let mut world = World::start(Config { page_size: 50, ..config() });
            world.cloud.history(1, 300, HOUR * 2);
            world.hold([1]);
            until("the backfill ends", SECOND * 120, || world.store.is_finished(1, Errand::Backfill)).await;
            assert!(world.store.missing(1).is_empty(), "{point} {passing}");
            assert_eq!(world.store.count(1), 300, "{point} {passing}");
            world.stop().await;
            let passed = Rehearsal::end();
            assert!(passed[point] > passing, "{point} was passed {} times", passed[point]);
        }
    }
}
