//! The database goes away between an answer and its commit, for however long: on a strict server the token that
//! came back is the only one that still works.

use domain::{Audience, Epoch, HeldTenant, Verdict};
use token_refresher::Config;
use tokio::time::{Instant, sleep, timeout};

use crate::sign_in::{Quirk, Rotation};
use crate::vault::Mishap;
use crate::world::{DAY, Event, HOUR, MINUTE, SECOND, World, bearer};

fn strict() -> World {
    World::new(Rotation::Strict, DAY, Config::default())
}

/// A token came back and the database is away: the caller has been sent home.
pub(crate) async fn caught(world: &World) -> std::sync::Arc<HeldTenant> {
    let tenant = world.tenant(1);
    world.sign_in.once(Quirk::Slow(SECOND));
    let goes = async {
        sleep(SECOND / 2).await;
        world.vault.away(true);
    };
    let (answer, ()) = tokio::join!(world.ask(&tenant, Audience::Graph), goes);
    let none = answer.unwrap_err();
    assert!(none.trouble.reason.contains("could not be stored"), "{}", none.trouble.reason);
    assert!(none.trouble.action.contains("held"), "{}", none.trouble.action);
    tenant
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_six_hours_does_not_cost_the_rotated_token_i30() {
    let mut world = strict();
    let tenant = caught(&world).await;
    world.run();
    for _ in 0..360 {
        sleep(MINUTE).await;
        world.ask(&tenant, Audience::Graph).await.unwrap_err();
        world.ask(&tenant, Audience::Defender).await.unwrap_err();
    }
    assert_eq!(world.journal.presented(), ["imported-1"], "the stored token is used up: showing it again would be reuse");
    assert_eq!(world.reported(), [Some(Verdict::Retry)], "and it is told once");
    world.vault.away(false);
    sleep(3 * SECOND).await;
    assert_eq!(world.vault.row(tenant.id).token, "refresh-1", "nobody had to ask");
    let token = world.ask(&tenant, Audience::Graph).await.unwrap();
    assert!(bearer(&token).starts_with("access-graph-"), "the access token that came along is as good as ever");
    assert_eq!(world.journal.asked().len(), 1);
    assert_eq!(world.reported(), [None]);
    world.ask(&tenant, Audience::Defender).await.unwrap();
    assert_eq!(world.journal.presented(), ["imported-1", "refresh-1"]);
    assert!(world.vault.row(tenant.id).last_refresh_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_held_token_is_stored_under_the_next_lease_of_ours_i30() {
    let mut world = strict();
    let tenant = caught(&world).await;
    world.run();
    // Trust in the leases ends, and nobody is looked after.
    world.trust_until(Instant::now());
    world.lose(tenant.id);
    sleep(HOUR).await;
    // Our own registry is quicker than the next offer.
    world.vault.claim(tenant.id, Epoch(2));
    world.vault.away(false);
    sleep(MINUTE).await;
    assert_eq!(world.vault.row(tenant.id).token, "imported-1", "the old lease is void");
    world.trust_until(Instant::now() + HOUR);
    let tenant = world.hold(HeldTenant { epoch: Epoch(2), ..(*tenant).clone() });
    sleep(SECOND).await;
    assert_eq!(world.vault.row(tenant.id).token, "refresh-1");
    world.ask(&tenant, Audience::Graph).await.unwrap();
    assert_eq!(world.journal.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_held_token_needs_no_registry_while_nobody_else_has_claimed_the_tenant() {
    let mut world = strict();
    let tenant = caught(&world).await;
    world.run();
    world.trust_until(Instant::now());
    world.lose(tenant.id);
    sleep(HOUR).await;
    world.vault.away(false);
    sleep(3 * SECOND).await;
    assert_eq!(world.vault.row(tenant.id).token, "refresh-1", "whoever claims it next finds the token that works");
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_has_stored_meanwhile_wins_over_a_held_token() {
    let mut world = strict();
    let tenant = caught(&world).await;
    world.run();
    world.sign_in.accept(tenant.id, "imported anew");
    world.vault.import(tenant.id, "imported anew");
    world.vault.away(false);
    sleep(3 * SECOND).await;
    assert_eq!(world.vault.row(tenant.id).token, "imported anew");
    world.ask(&tenant, Audience::Graph).await.unwrap();
    assert_eq!(world.journal.presented(), ["imported-1", "imported anew"]);
}

#[tokio::test(start_paused = true)]
async fn a_held_token_is_given_up_once_another_replica_surely_has_the_tenant() {
    let mut world = strict();
    let tenant = caught(&world).await;
    world.run();
    world.vault.claim(tenant.id, Epoch(2));
    world.vault.away(false);
    // The database answers, and says that the tenant is not ours.
    world.lose(tenant.id);
    sleep(5 * MINUTE).await;
    world.hold(HeldTenant { epoch: Epoch(2), ..(*tenant).clone() });
    sleep(SECOND).await;
    assert_eq!(world.vault.row(tenant.id).token, "refresh-1", "for a while it may come back");

    let mut world = strict();
    let tenant = caught(&world).await;
    world.run();
    world.vault.claim(tenant.id, Epoch(2));
    world.vault.away(false);
    world.lose(tenant.id);
    sleep(11 * MINUTE).await;
    world.hold(HeldTenant { epoch: Epoch(2), ..(*tenant).clone() });
    sleep(MINUTE).await;
    assert_eq!(world.vault.row(tenant.id).token, "imported-1", "it is in no memory any more");
}

#[tokio::test(start_paused = true)]
async fn on_stop_a_held_token_is_offered_once_more() {
    let mut world = World::new(Rotation::Strict, DAY, Config { offer_cap: DAY, ..Config::default() });
    let tenant = caught(&world).await;
    let worker = world.run();
    // By now the offers are hours apart.
    sleep(5 * HOUR).await;
    world.vault.away(false);
    sleep(SECOND).await;
    assert_eq!(world.vault.row(tenant.id).token, "imported-1");
    world.stop.cancel();
    timeout(SECOND, worker).await.unwrap().unwrap().unwrap();
    assert_eq!(world.vault.row(tenant.id).token, "refresh-1");
}

#[tokio::test(start_paused = true)]
async fn the_stop_waits_neither_for_the_next_offer_nor_for_a_database_that_hangs() {
    let mut world = strict();
    let tenant = world.tenant(1);
    let worker = world.run();
    world.vault.mishap(Mishap::Away);
    let asking = async { world.ask(&tenant, Audience::Graph).await.is_err() };
    let stopping = async {
        while world.journal.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        // Amid the wait before the second offer.
        sleep(SECOND / 5).await;
        world.stop.cancel();
        timeout(SECOND, worker).await.unwrap().unwrap().unwrap();
    };
    tokio::join!(asking, stopping);
    assert_eq!(world.vault.row(tenant.id).token, "refresh-1", "the last offer was taken");

    let mut world = strict();
    let _ = caught(&world).await;
    let worker = world.run();
    world.vault.away(false);
    world.vault.mishap(Mishap::Crash);
    world.stop.cancel();
    timeout(8 * SECOND, worker).await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_is_sat_out_by_the_caller() {
    let world = strict();
    let tenant = world.tenant(1);
    for _ in 0..5 {
        world.vault.mishap(Mishap::Away);
    }
    world.ask(&tenant, Audience::Graph).await.unwrap();
    let events: Vec<_> = world.journal.all().into_iter().map(|(_, event)| event).collect();
    assert!(matches!(&events[..], [Event::Asked { .. }, Event::Committed { .. }, Event::GivenOut { .. }]), "{events:?}");
}
