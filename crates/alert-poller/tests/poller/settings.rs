//! Other settings while the poller runs, and the line that says how it is.

use alert_poller::Config;

use crate::support::{HOUR, Mood, SECOND, World, no_ladder, pass, until};

fn config() -> Config {
    Config { interval: HOUR, ladder: no_ladder(), ..Config::default() }
}

#[tokio::test(start_paused = true)]
async fn a_shorter_interval_is_not_waited_for_until_the_longer_one_is_over() {
    let mut world = World::start(config());
    world.hold([1, 2]);
    until("both are read", SECOND * 30, || !world.cloud.calls_of(1).is_empty() && !world.cloud.calls_of(2).is_empty()).await;
    pass(HOUR / 2).await;
    let before = world.cloud.calls_of(1).len();
    assert_eq!(before, world.cloud.calls_of(2).len(), "once, and then for an hour not");
    world.set(Config { interval: SECOND * 10, ..config() });
    pass(SECOND * 65).await;
    for tenant in [1, 2] {
        let calls = world.cloud.calls_of(tenant).len() - before;
        assert!((5..=8).contains(&calls), "{calls} in a minute, every ten seconds");
    }
    // And a longer one is kept from the next poll on.
    world.set(config());
    pass(SECOND * 15).await;
    let before = world.cloud.calls_of(1).len();
    pass(HOUR / 2).await;
    assert_eq!(world.cloud.calls_of(1).len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_lower_limit_holds_from_the_next_call_on() {
    let mut world = World::start(Config { interval: SECOND, graph_per_minute: 10_000, ..config() });
    world.hold([1]);
    pass(SECOND * 60).await;
    let before = world.cloud.calls_of(1).len();
    assert!(before > 50, "{before} in a minute, every second");
    world.set(Config { interval: SECOND, graph_per_minute: 6, ..config() });
    pass(SECOND * 60).await;
    let calls = world.cloud.calls_of(1).len() - before;
    assert!((2..=7).contains(&calls), "{calls} in a minute, of at most six; one may have been under way");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_was_mistyped_and_is_mended_is_not_waited_for() {
    let limit = |graph_per_minute| Config { interval: SECOND * 5, graph_per_minute, ..config() };
    let mut world = World::start(limit(1));
    world.cloud.history(1, 40, HOUR * 12);
    world.hold([1]);
    pass(SECOND * 150).await;
    let before = world.cloud.calls_of(1).len();
    assert!((1..=3).contains(&before), "{before} calls of at most one a minute");
    world.set(limit(10_000));
    until("what waited goes on", SECOND * 5, || world.cloud.calls_of(1).len() > before).await;
    until("and the backfill, too", SECOND * 20, || world.store.missing(1).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_wait_by_a_limit_that_was_mended_meanwhile_does_not() {
    let limit = |graph_per_minute| Config { interval: HOUR, graph_per_minute, first_sync: HOUR * 24, ..config() };
    let mut world = World::start(limit(1));
    world.cloud.history(1, 3, SECOND * 60);
    world.cloud.with(1, |shop| shop.delay = SECOND);
    world.hold([1]);
    until("it is asked", SECOND * 10, || world.cloud.calls_of(1).len() == 1).await;
    assert!(world.store.missing(1).len() == 3, "and has not answered yet");
    // The next call of this poll is by the old limit still: that would be in a minute.
    world.set(limit(10_000));
    until("it goes on", SECOND * 5, || world.cloud.calls_of(1).len() > 1).await;
}

#[tokio::test(start_paused = true)]
async fn the_headline_counts_who_cannot_be_read_and_how_far_the_last_one_lags() {
    let mut world = World::start(Config { interval: SECOND * 10, ..config() });
    world.hold([1, 2, 3]);
    pass(SECOND * 30).await;
    let well = *world.headline.borrow();
    assert_eq!((well.tenants, well.unreadable), (3, 0));
    assert!(well.worst_lag.is_some_and(|lag| lag <= SECOND * 12), "{well}");
    world.cloud.with(2, |shop| shop.mood = Mood::Fails);
    pass(SECOND * 120).await;
    let blind = *world.headline.borrow();
    assert_eq!((blind.tenants, blind.unreadable), (3, 1));
    assert!(blind.worst_lag.is_some_and(|lag| lag >= SECOND * 110), "{blind}");
    world.cloud.with(2, |shop| shop.mood = Mood::Answers);
    pass(SECOND * 120).await;
    assert_eq!(world.headline.borrow().unreadable, 0);
}
