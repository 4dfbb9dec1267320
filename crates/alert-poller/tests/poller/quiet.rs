//! Customers at whom nothing happens, and many feeds at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alert_poller::Config;
use domain::{Report, Source};
use tokio::time::Instant;

use crate::support::{EPOCH, HOUR, Mood, SECOND, World, no_ladder, pass, tenant, until};

const BOUND: Duration = Duration::from_secs(60);

fn config() -> Config {
    Config { interval: SECOND * 10, quiet_interval: BOUND, ladder: no_ladder(), ..Config::default() }
}

/// Two customers at whom nothing has happened for hours.
async fn quiet() -> World {
    let mut world = World::start(config());
    for number in [1, 2] {
        world.cloud.history(number, 3, HOUR);
    }
    world.hold([1, 2]);
    pass(HOUR * 4).await;
    world
}

/// When each poll began. One of them may ask several times.
fn polls(world: &World, number: u32) -> Vec<Instant> {
    let mut polls: Vec<Instant> = world.cloud.calls_of(number).into_iter().map(|call| call.at).collect();
    polls.dedup_by(|later, earlier| *later - *earlier < SECOND);
    polls
}

/// How long it was from poll to poll.
fn gaps(polls: &[Instant]) -> Vec<Duration> {
    polls.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn the_longer_nothing_happens_the_less_often_is_asked_up_to_the_bound() {
    let mut world = World::start(config());
    world.hold([1]);
    // For ten minutes, a sixtieth of the time is less than the interval.
    pass(SECOND * 600).await;
    let usual = polls(&world, 1).len();
    assert!((55..=66).contains(&usual), "{usual} polls in ten minutes, every ten seconds");
    pass(SECOND * 1200).await;
    let gap = gaps(&polls(&world, 1)).pop().unwrap();
    assert!(gap >= SECOND * 25 && gap <= SECOND * 34, "half a minute after half an hour: {gap:?}");
    pass(HOUR * 2).await;
    let settled = polls(&world, 1).len();
    pass(HOUR * 10).await;
    let gaps = gaps(&polls(&world, 1)[settled..]);
    assert!(gaps.iter().all(|gap| *gap >= SECOND * 48 && *gap < BOUND), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_alert_ends_it_for_all_feeds_of_the_customer_and_for_nobody_else() {
    let mut world = quiet().await;
    world.change(1, |held| held.sources = vec![Source::GraphAlerts, Source::MdeAlerts]);
    pass(HOUR * 3).await;
    world.cloud.publish(1, "at last", world.clock.truth());
    let took = until("it is found", BOUND, || world.store.missing(1).is_empty()).await;
    assert!(took > Duration::ZERO);
    let of = |world: &World, source| world.cloud.calls_of(1).into_iter().filter(|call| call.source == source).count();
    let sources = [Source::GraphAlerts, Source::MdeAlerts];
    let (before, other) = (sources.map(|source| of(&world, source)), polls(&world, 2).len());
    pass(SECOND * 62).await;
    for (source, before) in sources.into_iter().zip(before) {
        let calls = of(&world, source) - before;
        assert!(calls >= 5, "{calls} calls to {source} in a minute, every ten seconds");
    }
    assert!(polls(&world, 2).len() - other <= 2, "the other customer is as quiet as before");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_customer_who_cannot_be_read_is_told_of_by_the_bound_and_tried_as_usual() {
    let world = quiet().await;
    until("it is told", BOUND, || {
        world.cloud.with(1, |shop| shop.mood = Mood::Fails);
        told(&world, 1)
    })
    .await;
    let before = world.cloud.calls_of(1).len();
    pass(SECOND * 120).await;
    assert!(world.cloud.calls_of(1).len() - before >= 4, "whoever cannot be read is not quiet");
    world.cloud.with(1, |shop| shop.mood = Mood::Answers);
    until("it works again", SECOND * 66, || matches!(world.reports().last(), Some(Report::Working { .. }))).await;
}

fn told(world: &World, number: u32) -> bool {
    world.reports().iter().any(|report| matches!(report, Report::Trouble { fence, .. } if fence.tenant == tenant(number)))
}

#[tokio::test(start_paused = true)]
async fn i24_whoever_cannot_be_read_any_more_right_after_a_poll_is_told_of_within_the_bound() {
    let mut world = World::start(config());
    world.hold(1..20);
    for number in 1..20 {
        // An answer takes its time, and so does a refusal.
        world.cloud.with(number, |shop| shop.delay = SECOND / 2);
    }
    pass(HOUR * 3).await;
    for number in 1..20 {
        let before = world.cloud.calls_of(number).len();
        until("the next poll", BOUND, || world.cloud.calls_of(number).len() > before).await;
        // The one under way still sees an answer.
        pass(SECOND * 51 / 100).await;
        world.cloud.with(number, |shop| shop.mood = Mood::Fails);
        until("it is told", BOUND - SECOND / 2, || told(&world, number)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_bound_counts_at_once() {
    let mut world = quiet().await;
    world.set(Config { quiet_interval: Duration::ZERO, ..config() });
    let before = polls(&world, 1).len();
    pass(SECOND * 61).await;
    let polls = polls(&world, 1).len() - before;
    assert!((5..=8).contains(&polls), "{polls} in a minute, every ten seconds");
}

#[tokio::test(start_paused = true)]
async fn many_feeds_are_started_together_ten_times_a_second_and_not_all_at_once() {
    let mut world = World::start(Config { quiet_interval: Duration::ZERO, ..config() });
    world.hold(0..500);
    pass(SECOND * 60).await;
    let begun = world.cloud.calls();
    pass(SECOND * 100).await;
    let mut seconds: BTreeMap<u64, (usize, BTreeSet<_>)> = BTreeMap::new();
    for call in (0..500).flat_map(|number| world.cloud.calls_of(number)).filter(|call| call.now >= EPOCH.plus(SECOND * 61)) {
        let at = call.now.since(EPOCH);
        let (calls, moments) = seconds.entry(at.as_secs()).or_default();
        *calls += 1;
        moments.insert(at);
    }
    let calls = world.cloud.calls() - begun;
    assert!((4800..=5200).contains(&calls), "{calls} calls of 500 feeds in ten intervals");
    for (second, (calls, moments)) in seconds.range(61..159) {
        assert!((20..=90).contains(calls), "{calls} in second {second}");
        assert!(moments.len() <= 10, "{} wake-ups for {calls} polls in second {second}", moments.len());
    }
}
