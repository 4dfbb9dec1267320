//! The wall clock is set back and forth, and the machine sleeps: no token is used after its end, and no lease
//! is believed for longer than it lasts (I31).

use std::collections::BTreeMap;
use std::time::Duration;

use domain::Audience;
use token_refresher::Config;
use tokio::time::{Instant, sleep};

use crate::sign_in::Rotation;
use crate::world::{HOUR, MINUTE, SECOND, World, bearer, world};

/// Asks as a poller does for `span`, and fails when a token is handed out after its end. Says how many there were.
async fn asks_for(world: &World, tenant: &domain::HeldTenant, span: Duration) -> usize {
    let start = Instant::now();
    let mut issued: BTreeMap<String, Instant> = BTreeMap::new();
    while start.elapsed() < span {
        let token = world.ask(tenant, Audience::Graph).await.unwrap();
        let since = *issued.entry(bearer(&token).to_owned()).or_insert_with(Instant::now);
        assert!(since.elapsed() < HOUR, "a token is handed out {:?} after it came; it lived for an hour", since.elapsed());
        sleep(20 * SECOND).await;
    }
    issued.len()
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_lets_no_token_live_longer_i31() {
    let mut world = World::new(Rotation::Strict, HOUR, Config::default());
    let tenant = world.tenant(1);
    world.run();
    world.ask(&tenant, Audience::Graph).await.unwrap();
    world.clock.back(2 * HOUR);
    let tokens = asks_for(&world, &tenant, 5 * HOUR).await;
    assert!((6..=12).contains(&tokens), "{tokens} tokens in five hours");
}

#[tokio::test(start_paused = true)]
async fn without_a_worker_as_well_nothing_is_handed_out_after_its_end_i31() {
    let world = world();
    let tenant = world.tenant(1);
    let first = world.ask(&tenant, Audience::Graph).await.unwrap();
    world.clock.back(2 * HOUR);
    sleep(HOUR).await;
    let second = world.ask(&tenant, Audience::Graph).await.unwrap();
    assert_ne!(bearer(&first), bearer(&second), "by the clock on the wall it has three hours to go, and yet it is dead");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_costs_one_redemption_and_no_more_i31() {
    let mut world = World::new(Rotation::Strict, HOUR, Config::default());
    let tenant = world.tenant(1);
    world.run();
    world.ask(&tenant, Audience::Graph).await.unwrap();
    // The leases were confirmed before, so that one renewal is waited for.
    world.clock.forward(2 * HOUR);
    world.trust_until(Instant::now() + 1000 * HOUR);
    assert_eq!(asks_for(&world, &tenant, 20 * MINUTE).await, 1);
    assert_eq!(world.journal.asked().len(), 2);
    world.clock.back(2 * HOUR);
    asks_for(&world, &tenant, 20 * MINUTE).await;
    assert!(world.journal.asked().len() <= 3, "{:?}", world.journal.asked());
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_uses_no_token_that_ended_meanwhile_i31() {
    let world = world();
    let tenant = world.tenant(1);
    let first = world.ask(&tenant, Audience::Graph).await.unwrap();
    // It slept for an hour, in which tokio's clock stood still.
    world.clock.forward(HOUR);
    world.trust_until(Instant::now() + HOUR);
    let second = world.ask(&tenant, Audience::Graph).await.unwrap();
    assert_ne!(bearer(&first), bearer(&second));
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_redeems_nothing_under_leases_that_may_have_ended_i31() {
    let mut world = world();
    let tenant = world.tenant(1);
    world.run();
    world.trust_until(Instant::now() + 27 * SECOND);
    sleep(SECOND).await;
    // Ten minutes later by the wall: another replica may have redeemed the same token by now.
    world.clock.forward(10 * MINUTE);
    let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
    assert!(none.trouble.reason.contains("not been confirmed"), "{}", none.trouble.reason);
    assert!(world.journal.asked().is_empty());
    // With the next renewal everything is as before.
    world.trust_until(Instant::now() + 27 * SECOND);
    sleep(5 * SECOND).await;
    world.ask(&tenant, Audience::Graph).await.unwrap();
}
