//! The ladder, requests of operators, and what becomes of a re-read that is interrupted.

use std::collections::BTreeMap;

use alert_poller::{Config, Ladder, Rung};
use domain::{CursorMove, Errand, Source};

use crate::support::store::Kept;
use crate::support::{DAY, EPOCH, HOUR, Item, Mood, SECOND, World, lock, no_ladder, only_short, pass, tenant, until};

fn config() -> Config {
    Config { interval: SECOND * 10, ladder: no_ladder(), graph_per_minute: 10_000, first_sync: DAY, ..Config::default() }
}

/// For many hours: whoever has nothing to do wakes up seldom.
fn calm() -> Config {
    Config { beat: SECOND * 60, ask_every: SECOND * 60, ..config() }
}

/// Runs of an errand that were begun, by their numbers, without the empty one that sets the clock going.
fn runs(world: &World, errand: Errand) -> BTreeMap<i64, usize> {
    let mut runs = BTreeMap::new();
    for batch in lock(&world.store.batches).iter() {
        if let Some(CursorMove::Reread(cursor)) = &batch.cursor
            && cursor.now.errand == errand
            && cursor.now.run > 1
        {
            *runs.entry(cursor.now.run).or_default() += 1;
        }
    }
    runs
}

#[tokio::test(start_paused = true)]
async fn a_rung_finds_what_became_visible_behind_the_overlap_and_counts_it() {
    // Polling now and then asks for a full page of older ones, to see how much an answer holds.
    let mut world = World::start(Config { ladder: only_short(DAY, HOUR), page_size: 20, ..calm() });
    world.cloud.history(1, 40, HOUR / 2);
    world.hold([1]);
    until("all is stored", SECOND * 10, || world.store.missing(1).is_empty()).await;
    world.cloud.publish_late(1, "late", EPOCH.minus(HOUR * 3));
    pass(SECOND * 60).await;
    assert_eq!(world.store.missing(1), ["late"], "polling does not look there");
    until("the rung finds it", HOUR * 2, || world.store.missing(1).is_empty()).await;
    let row = world.store.row(1, Errand::Short).expect("it has run");
    assert_eq!((row.late, row.new), (1, 1));
    until("it ends", SECOND * 10, || world.store.is_finished(1, Errand::Short)).await;
    pass(HOUR * 10).await;
    let found = world.store.row(1, Errand::Short).expect("it has run");
    assert_eq!((found.late, found.new, found.updated), (0, 0, 0), "and not again");
}

#[tokio::test(start_paused = true)]
async fn a_rung_runs_once_a_period_however_often_the_process_begins() {
    let mut world = World::start(Config { ladder: only_short(DAY, HOUR), interval: SECOND * 300, ..calm() });
    world.cloud.history(1, 40, HOUR / 2);
    world.hold([1]);
    for _ in 0..60 {
        pass(SECOND * 600).await;
        world.restart().await;
    }
    let runs = runs(&world, Errand::Short).len();
    assert!((9..=11).contains(&runs), "{runs} runs in ten hours");
}

#[tokio::test(start_paused = true)]
async fn clocks_that_are_set_cause_no_storm_and_no_silence() {
    for hours in [-2, 2] {
        let mut world = World::start(Config { ladder: only_short(DAY, HOUR), interval: SECOND * 300, ..calm() });
        world.cloud.history(1, 40, HOUR / 2);
        world.hold([1]);
        pass(HOUR * 3).await;
        world.clock.set_off(hours * 3600);
        pass(HOUR * 3).await;
        let meanwhile = runs(&world, Errand::Short).len();
        assert!((4..=8).contains(&meanwhile), "{meanwhile} runs in six hours, the clock set by {hours}");
        // Whoever begins anew reads ends from the database, whose clock is right.
        world.restart().await;
        pass(HOUR * 3).await;
        world.clock.set_off(0);
        pass(HOUR * 3).await;
        let runs = runs(&world, Errand::Short).len();
        assert!((9..=15).contains(&runs), "{runs} runs in twelve hours, the clock set by {hours} and back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_tenant_costs_the_short_rung_no_call() {
    let mut world = World::start(Config { ladder: only_short(DAY, HOUR), interval: SECOND * 300, ..calm() });
    world.hold([1]);
    pass(HOUR * 10).await;
    assert!(world.cloud.rereads_of(1).is_empty());
    let runs = runs(&world, Errand::Short);
    assert!((9..=11).contains(&runs.len()) && runs.values().all(|batches| *batches == 1), "{runs:?}");
}

#[tokio::test(start_paused = true)]
async fn what_has_no_update_stamp_is_found_by_creation_also_in_a_quiet_tenant() {
    let ladder = Ladder { long: Rung { reach: DAY * 7, every: DAY }, ..only_short(DAY, HOUR) };
    let mut world = World::start(Config { ladder, interval: SECOND * 300, ..calm() });
    world.cloud.history(2, 10, HOUR);
    world.hold([1, 2]);
    pass(SECOND * 60).await;
    for number in [1, 2] {
        world.cloud.publish_unstamped(number, "unstamped", world.clock.truth());
    }
    until("the short rung finds it in a busy feed", HOUR * 2, || world.store.missing(2).is_empty()).await;
    assert_eq!(world.store.missing(1), ["unstamped"]);
    until("the long rung in a quiet one", HOUR * 37, || world.store.missing(1).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn many_tenants_are_not_read_again_all_at_once() {
    let mut world = World::start(Config { ladder: only_short(DAY, HOUR), interval: SECOND * 300, ..calm() });
    for number in 0..200 {
        world.cloud.history(number, 3, HOUR);
    }
    world.hold(0..200);
    pass(HOUR * 3).await;
    let mut minutes: BTreeMap<u64, usize> = BTreeMap::new();
    let begun = world.clock.truth();
    for batch in lock(&world.store.batches).iter() {
        if let Some(CursorMove::Reread(cursor)) = &batch.cursor
            && (cursor.now.errand, cursor.now.run, cursor.now.left) == (Errand::Short, 2, cursor.now.to)
        {
            *minutes.entry(batch.at.elapsed().as_secs() / 60).or_default() += 1;
        }
    }
    assert!(minutes.len() > 45 && minutes.values().all(|count| *count < 25), "until {begun}: {minutes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_is_begun_within_seconds_and_a_new_one_after_it_too() {
    let mut world = World::start(config());
    world.cloud.publish_late(1, "old", EPOCH.minus(DAY * 20));
    world.hold([1]);
    pass(SECOND * 30).await;
    assert_eq!(world.store.missing(1), ["old"]);
    for run in 1..=2 {
        assert_eq!(world.store.ask(1, Errand::Backfill, EPOCH.minus(DAY * 30), EPOCH), run);
        let took = until("it is done", SECOND * 10, || world.store.is_finished(1, Errand::Backfill)).await;
        assert!(took < SECOND * 4, "{took:?}");
        assert_eq!(world.store.row(1, Errand::Backfill).expect("it is there").reread.run, run);
    }
    assert!(world.store.missing(1).is_empty());
    let asked = world.store.asked.load(std::sync::atomic::Ordering::SeqCst);
    assert!((15..=25).contains(&asked), "one question every two seconds for all tenants: {asked}");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_reread_stops_at_once_and_what_it_brought_is_kept() {
    let mut world = World::start(Config { page_size: 10, graph_per_minute: 60, first_sync: DAY * 30, ..config() });
    world.cloud.history(1, 700, HOUR);
    world.hold([1]);
    until("it is under way", SECOND * 60, || world.cloud.rereads_of(1).len() > 10).await;
    world.store.cancel(1, Errand::Backfill, world.clock.truth());
    let calls = world.cloud.rereads_of(1).len();
    pass(SECOND * 60).await;
    let after = world.cloud.rereads_of(1).len() - calls;
    assert!(after <= 3, "{after} calls for what nobody wants");
    let stored = world.store.count(1);
    assert!(stored > 50, "{stored}");
    // Asked for again, it begins anew.
    let run = world.store.ask(1, Errand::Backfill, EPOCH.minus(DAY * 30), EPOCH);
    until("it is done", SECOND * 600, || world.store.is_finished(1, Errand::Backfill)).await;
    assert_eq!(world.store.row(1, Errand::Backfill).expect("it is there").reread.run, run);
    assert!(world.store.missing(1).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reread_that_is_begun_anew_by_a_command_drops_the_old_run() {
    let mut world = World::start(Config { page_size: 10, graph_per_minute: 60, first_sync: DAY * 30, ..config() });
    world.cloud.history(1, 700, HOUR);
    world.hold([1]);
    until("it is under way", SECOND * 60, || world.cloud.rereads_of(1).len() > 10).await;
    world.cloud.with(1, |shop| shop.delay = SECOND * 3);
    let run = world.store.ask(1, Errand::Backfill, EPOCH.minus(DAY * 2), EPOCH.minus(DAY));
    until("the new one is done", SECOND * 300, || world.store.is_finished(1, Errand::Backfill)).await;
    let loaded = world.store.loaded.load(std::sync::atomic::Ordering::SeqCst);
    assert!(loaded <= 4, "a request is looked up once, not every time it is seen: {loaded}");
    let row = world.store.row(1, Errand::Backfill).expect("it is there").reread;
    assert_eq!((row.run, row.from), (run, EPOCH.minus(DAY * 2)));
}

#[tokio::test(start_paused = true)]
async fn what_somebody_waits_for_goes_before_what_runs_by_itself() {
    let mut world = World::start(Config { page_size: 10, graph_per_minute: 60, first_sync: DAY * 30, ..config() });
    world.cloud.history(1, 700, HOUR);
    world.hold([1]);
    until("the backfill is under way", SECOND * 60, || world.cloud.rereads_of(1).len() > 10).await;
    world.store.ask(1, Errand::Reconcile, EPOCH.minus(HOUR * 6), EPOCH);
    until("the comparison is done", SECOND * 60, || world.store.is_finished(1, Errand::Reconcile)).await;
    assert!(!world.store.is_finished(1, Errand::Backfill));
    until("and the backfill goes on", SECOND * 600, || world.store.is_finished(1, Errand::Backfill)).await;
    assert_eq!(world.store.row(1, Errand::Backfill).expect("it is there").reread.run, 1);
    assert!(world.store.missing(1).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_errand_that_fails_holds_up_none_of_those_behind_it() {
    let mut world = World::start(config());
    world.cloud.publish_late(1, "old", EPOCH.minus(DAY * 20));
    world.hold([1]);
    pass(SECOND * 30).await;
    // A comparison needs it, and goes first; a backfill comes to it last.
    *lock(&world.cloud.creation_is_refused) = true;
    world.store.ask(1, Errand::Reconcile, EPOCH.minus(HOUR * 6), EPOCH);
    world.store.ask(1, Errand::Backfill, EPOCH.minus(DAY * 30), EPOCH);
    let took = until("what is missing is there", SECOND * 60, || world.store.missing(1).is_empty()).await;
    assert!(took < SECOND * 5, "{took:?}");
    assert!(!world.store.is_finished(1, Errand::Reconcile));
}

#[tokio::test(start_paused = true)]
async fn a_comparison_that_the_store_cannot_answer_holds_up_nothing_else() {
    let mut world = World::start(config());
    world.cloud.publish_late(1, "old", EPOCH.minus(DAY * 20));
    world.hold([1]);
    pass(SECOND * 30).await;
    *lock(&world.store.lists_nothing) = true;
    world.store.ask(1, Errand::Reconcile, EPOCH.minus(HOUR * 6), EPOCH);
    pass(SECOND * 60).await;
    assert!(!world.store.is_finished(1, Errand::Reconcile));
    world.store.ask(1, Errand::Backfill, EPOCH.minus(DAY * 30), EPOCH);
    until("the backfill ends", SECOND * 20, || world.store.is_finished(1, Errand::Backfill)).await;
    assert!(world.store.missing(1).is_empty() && !world.store.is_finished(1, Errand::Reconcile));
    *lock(&world.store.lists_nothing) = false;
    until("it is compared", SECOND * 600, || world.store.is_finished(1, Errand::Reconcile)).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_while_the_source_was_away_begins_as_soon_as_it_is_back() {
    let mut world = World::start(config());
    world.hold([1]);
    pass(SECOND * 30).await;
    world.cloud.with(1, |shop| shop.mood = Mood::Fails);
    pass(SECOND * 12).await;
    // Polling comes back to it while the turn that found it away still reads what is asked for.
    *lock(&world.store.takes) = SECOND * 50;
    world.store.ask(1, Errand::Backfill, EPOCH.minus(DAY * 30), EPOCH);
    pass(SECOND * 3).await;
    world.cloud.with(1, |shop| shop.mood = Mood::Answers);
    let took = until("it is done", SECOND * 120, || world.store.is_finished(1, Errand::Backfill)).await;
    assert!(took < SECOND * 60, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn quarantine_is_tried_again_without_a_call_and_also_while_the_source_is_away() {
    let mut world = World::start(config());
    world.hold([1]);
    pass(SECOND * 30).await;
    world.cloud.with(1, |shop| shop.mood = Mood::Fails);
    for index in 0..30 {
        let text = if index % 3 == 2 { format!("still not: {index}") } else { format!("now readable: {index}") };
        lock(&world.store.quarantine).push(Kept { raw: text.into(), wanted: index < 28, tried: false, replayed: false });
    }
    let again = world.cloud.rereads_of(1).len();
    world.store.ask(1, Errand::Replay, EPOCH, EPOCH);
    until("it is done", SECOND * 10, || world.store.is_finished(1, Errand::Replay)).await;
    let kept = lock(&world.store.quarantine).clone();
    let replayed = kept.iter().filter(|kept| kept.replayed).count();
    assert_eq!((replayed, world.store.count(1)), (19, 19));
    assert!(kept.iter().all(|kept| !kept.replayed || (kept.wanted && kept.raw.starts_with(b"now"))));
    assert_eq!(world.cloud.rereads_of(1).len(), again);
    // Even a store that gives out what was tried in vain brings it to an end.
    *lock(&world.store.stubborn) = true;
    world.store.ask(1, Errand::Replay, EPOCH, EPOCH);
    until("it is done", SECOND * 10, || world.store.is_finished(1, Errand::Replay)).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_reread_begins_again_from_what_is_on_record() {
    let mut world = World::start(Config { page_size: 50, first_sync: DAY * 30, ..config() });
    world.cloud.history(1, 700, HOUR);
    world.hold([1]);
    until("it is under way", SECOND * 60, || world.store.row(1, Errand::Backfill).is_some_and(|row| row.reread.left < row.reread.to)).await;
    lock(&world.store.epochs).insert(tenant(1), domain::Epoch(2));
    pass(SECOND * 20).await;
    lock(&world.store.epochs).clear();
    until("it ends", SECOND * 60, || world.store.is_finished(1, Errand::Backfill)).await;
    assert!(world.store.missing(1).is_empty());
}

#[tokio::test(start_paused = true)]
async fn while_alerts_cannot_be_stored_nothing_is_read_again() {
    let ladder = Ladder { long: Rung { reach: DAY * 7, every: HOUR }, ..only_short(DAY, HOUR) };
    let mut world = World::start(Config { ladder, ..config() });
    world.cloud.history(1, 700, HOUR);
    world.hold([1]);
    until("it reads", SECOND * 30, || world.cloud.calls() > 0).await;
    world.database_is_away(true);
    pass(SECOND * 5).await;
    let calls = world.cloud.calls();
    pass(HOUR * 5).await;
    assert_eq!(world.cloud.calls(), calls);
    world.database_is_away(false);
    let before = world.cloud.calls_of(1).len();
    until("it goes on", SECOND * 15, || world.cloud.calls_of(1).len() > before).await;
    assert!(!world.cloud.calls_of(1)[before].is_reread(), "polling first");
}

#[tokio::test(start_paused = true)]
async fn after_a_failover_that_lost_commits_what_came_since_is_read_again() {
    let mut world = World::start(config());
    world.cloud.history(1, 40, HOUR / 2);
    world.hold([1]);
    until("all is stored", SECOND * 10, || world.store.missing(1).is_empty()).await;
    pass(SECOND * 30).await;
    world.database_is_away(true);
    pass(SECOND).await;
    // The standby that takes over had not heard of the last ten hours.
    for index in 20..40 {
        world.store.lose(1, &format!("1-{index}"));
    }
    lock(&world.store.feeds).get_mut(&(tenant(1), Source::GraphAlerts)).expect("it is known").watermark = Some(EPOCH.minus(HOUR * 10));
    world.database_is_away(false);
    until("all is stored once more", SECOND * 15, || world.store.missing(1).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_failover_that_nobody_saw_is_noticed_with_the_next_alert() {
    let mut world = World::start(config());
    world.cloud.history(1, 40, HOUR / 2);
    world.hold([1]);
    until("all is stored", SECOND * 10, || world.store.missing(1).is_empty()).await;
    pass(SECOND * 30).await;
    for index in 20..40 {
        world.store.lose(1, &format!("1-{index}"));
    }
    lock(&world.store.feeds).get_mut(&(tenant(1), Source::GraphAlerts)).expect("it is known").watermark = Some(EPOCH.minus(HOUR * 10));
    world.cloud.publish(1, "news", world.clock.truth());
    until("all is stored once more", SECOND * 30, || world.store.missing(1).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_backfill_whose_last_steps_were_lost_goes_back_to_where_it_stands() {
    let mut world = World::start(Config { page_size: 20, first_sync: DAY * 30, ..config() });
    world.cloud.history(1, 600, HOUR);
    world.hold([1]);
    let left = || world.store.row(1, Errand::Backfill).map(|row| row.reread.left);
    until("it is under way", SECOND * 300, || left().is_some_and(|left| left < EPOCH.minus(HOUR * 100))).await;
    // The standby had heard of nothing beyond the first fifty hours.
    for hours in 51..=100 {
        world.store.lose(1, &format!("1-{}", 600 - hours));
    }
    let key = (tenant(1), Source::GraphAlerts, Errand::Backfill);
    lock(&world.store.rereads).get_mut(&key).expect("it is on record").reread.left = EPOCH.minus(HOUR * 50);
    until("it is read to its end", SECOND * 300, || world.store.is_finished(1, Errand::Backfill)).await;
    assert_eq!(world.store.missing(1), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn questions_that_are_not_answered_are_asked_again_later() {
    let mut world = World::start(Config { ladder: only_short(DAY, HOUR), ..config() });
    world.cloud.history(1, 10, HOUR);
    *lock(&world.store.away) = true;
    world.hold([1]);
    pass(SECOND * 300).await;
    assert_eq!(world.cloud.calls(), 0);
    *lock(&world.store.away) = false;
    until("it reads", SECOND * 61, || world.store.missing(1).is_empty()).await;
    *lock(&world.store.away) = true;
    world.cloud.put(1, Item { id: "late".to_owned(), updated: Some(EPOCH.minus(HOUR * 2)), created: EPOCH, late: true });
    world.restart().await;
    pass(HOUR * 2).await;
    *lock(&world.store.away) = false;
    until("the rung runs", SECOND * 121, || world.store.missing(1).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_rereads() {
    let mut world = World::start(Config { first_sync: DAY * 30, ..config() });
    for number in 0..20 {
        world.cloud.history(number, 700, HOUR);
    }
    world.hold(0..20);
    until("they are under way", SECOND * 30, || !world.cloud.rereads_of(3).is_empty()).await;
    let took = world.stop().await;
    assert!(took <= SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_lies_before_first_contact_was_not_missed() {
    let ladder = Ladder { long: Rung { reach: DAY * 7, every: HOUR * 3 }, ..only_short(DAY, HOUR) };
    let mut world = World::start(Config { ladder, first_sync: HOUR, page_size: 20, ..calm() });
    world.cloud.history(1, 30, HOUR / 20);
    world.cloud.publish(1, "nobody asked for this", EPOCH.minus(HOUR * 5));
    world.hold([1]);
    pass(HOUR * 12).await;
    assert!(runs(&world, Errand::Short).len() >= 10 && runs(&world, Errand::Long).len() >= 3);
    assert!(!world.cloud.rereads_of(1).is_empty());
    assert!(world.store.missing(1).contains(&"nobody asked for this".to_owned()));
    let late: u64 = lock(&world.store.rereads).values().map(|row| row.late).sum();
    assert_eq!(late, 0);
}

#[tokio::test(start_paused = true)]
async fn while_polls_wait_for_a_place_rereads_wait_too_but_not_for_ever() {
    let mut world = World::start(Config { polls_at_once: 1, first_sync: DAY * 30, ..config() });
    for number in 0..60 {
        world.cloud.with(number, |shop| shop.delay = SECOND / 2);
    }
    world.cloud.history(1, 300, HOUR);
    world.hold(0..60);
    pass(SECOND * 280).await;
    let early = world.cloud.rereads_of(1).len();
    assert_eq!(early, 0, "there is never a place for all polls");
    until("it is read again all the same", SECOND * 300, || !world.cloud.rereads_of(1).is_empty()).await;
}
