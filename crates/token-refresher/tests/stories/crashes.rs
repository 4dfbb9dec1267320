//! What is left after a crash, a lost answer, an absent database or a lost lease: never a wrong token,
//! never silence.

use domain::{Audience, Epoch, HeldTenant, Verdict};
use token_refresher::Config;
use tokio::time::{Instant, sleep};

use crate::sign_in::{Quirk, Rotation};
use crate::vault::Mishap;
use crate::world::{Event, HOUR, MINUTE, SECOND, World, world};

#[tokio::test(start_paused = true)]
async fn a_crash_between_answer_and_commit_costs_nothing_where_the_old_token_stays_good() {
    let world = world();
    let tenant = world.tenant(1);
    world.vault.mishap(Mishap::Crash);
    tokio::time::timeout(MINUTE, world.ask(&tenant, Audience::Graph)).await.unwrap_err();
    let mut after = world.restarted();
    after.ask(&tenant, Audience::Graph).await.unwrap();
    assert_eq!(world.journal.presented(), ["imported-1", "imported-1"]);
    assert_eq!(after.reported(), [None]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_answer_and_commit_on_a_strict_server_is_reported_within_a_minute_i30() {
    let world = World::new(Rotation::Strict, HOUR, Config::default());
    let tenant = world.tenant(1);
    world.vault.mishap(Mishap::Crash);
    tokio::time::timeout(MINUTE, world.ask(&tenant, Audience::Graph)).await.unwrap_err();
    let mut after = world.restarted();
    after.run();
    after.ask(&tenant, Audience::Graph).await.unwrap_err();
    sleep(MINUTE).await;
    assert_eq!(after.reported(), [Some(Verdict::NeedsConsent)]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_lost_on_the_network_is_asked_for_again() {
    let mut world = world();
    let tenant = world.tenant(1);
    world.sign_in.once(Quirk::LoseAnswer);
    world.ask_until_given(&tenant).await;
    assert_eq!(world.reported(), [Some(Verdict::Retry), None]);
    assert_eq!(world.vault.row(tenant.id).token, "refresh-2", "the one that was lost is gone, and nobody minds");
}

#[tokio::test(start_paused = true)]
async fn while_the_database_is_away_the_new_token_is_held_and_offered_again() {
    let world = World::new(Rotation::Strict, HOUR, Config::default());
    let tenant = world.tenant(1);
    for _ in 0..5 {
        world.vault.mishap(Mishap::Away);
    }
    let start = Instant::now();
    world.ask(&tenant, Audience::Graph).await.unwrap();
    assert!(start.elapsed() > SECOND);
    assert_eq!(world.journal.asked().len(), 1, "on a strict server it was the only one that still works");
    assert_eq!(world.vault.row(tenant.id).token, "refresh-1");
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_is_lost_is_found_to_have_worked() {
    let world = World::new(Rotation::Strict, HOUR, Config::default());
    let tenant = world.tenant(1);
    world.vault.mishap(Mishap::AnswerLost);
    world.ask(&tenant, Audience::Graph).await.unwrap();
    assert_eq!(world.vault.row(tenant.id).version, 2);
    assert_eq!(world.journal.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_access_token_whose_refresh_token_could_not_be_stored_is_never_used() {
    let mut world = world();
    let tenant = world.tenant(1);
    for _ in 0..Config::default().commit_attempts {
        world.vault.mishap(Mishap::Away);
    }
    let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
    assert!(none.trouble.reason.contains("could not be stored"), "{}", none.trouble.reason);
    assert_eq!(world.reported(), [Some(Verdict::Retry)]);
    world.wait(&none).await;
    world.ask(&tenant, Audience::Graph).await.unwrap();
    let given: Vec<_> = world.journal.all().into_iter().filter(|(_, event)| !matches!(event, Event::Asked { .. })).collect();
    assert!(matches!(given[0].1, Event::Committed { .. }), "{given:?}");
}

#[tokio::test(start_paused = true)]
async fn with_the_lease_lost_in_flight_the_access_token_is_thrown_away_i11() {
    let mut world = world();
    let tenant = world.tenant(1);
    world.sign_in.once(Quirk::Slow(5 * SECOND));
    let overtaken = async {
        sleep(2 * SECOND).await;
        world.vault.claim(tenant.id, Epoch(2));
    };
    let (answer, ()) = tokio::join!(world.ask(&tenant, Audience::Graph), overtaken);
    assert_eq!(answer.unwrap_err().trouble.verdict, Verdict::Retry);
    assert_eq!(world.vault.row(tenant.id).token, "imported-1", "the other replica's token is untouched");
    assert_eq!(world.reported(), [], "and the tenant is not ours to speak for");

    world.vault.claim(tenant.id, Epoch(1));
    sleep(5 * SECOND).await;
    world.vault.mishap(Mishap::Overtaken);
    world.ask(&tenant, Audience::Graph).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_token_imported_in_flight_wins_over_the_rotated_one() {
    let world = world();
    let tenant = world.tenant(1);
    world.sign_in.once(Quirk::Slow(5 * SECOND));
    let imported = async {
        sleep(2 * SECOND).await;
        world.sign_in.accept(tenant.id, "imported anew");
        world.vault.import(tenant.id, "imported anew");
        world.hold(HeldTenant { credential_version: 2, ..(*tenant).clone() });
    };
    let (answer, ()) = tokio::join!(world.ask(&tenant, Audience::Graph), imported);
    answer.unwrap_err();
    sleep(5 * SECOND).await;
    world.ask(&tenant, Audience::Graph).await.unwrap();
    assert_eq!(world.journal.presented(), ["imported-1", "imported anew"]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_answer_about_the_old_credential_says_nothing_about_the_new_one() {
    let mut world = world();
    let tenant = world.tenant(1);
    world.sign_in.revoke(tenant.id);
    let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
    world.wait(&none).await;
    world.sign_in.once(Quirk::Slow(5 * SECOND));
    let imported = async {
        sleep(2 * SECOND).await;
        world.vault.import(tenant.id, "imported anew");
        let tenant = world.hold(HeldTenant { credential_version: 2, ..(*tenant).clone() });
        // Somebody sees the news before the old answer arrives.
        let _ = tokio::time::timeout(SECOND, world.ask(&tenant, Audience::Defender)).await;
    };
    tokio::join!(async { world.ask(&tenant, Audience::Graph).await.unwrap_err() }, imported);
    world.sign_in.accept(tenant.id, "imported anew");
    assert_eq!(world.reported(), [], "nobody is alarmed about a credential that is not used any more");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_redeemed_under_a_lease_that_is_not_confirmed_i11() {
    let mut world = world();
    let tenant = world.tenant(1);
    world.run();
    world.trust_until(Instant::now() + SECOND);
    let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
    assert!(none.trouble.reason.contains("not been confirmed"), "{}", none.trouble.reason);
    sleep(HOUR).await;
    assert!(world.journal.asked().is_empty());
    assert_eq!(world.reported(), [], "the registry tells of its own trouble");
    world.trust_until(Instant::now() + HOUR);
    sleep(5 * SECOND).await;
    world.ask(&tenant, Audience::Graph).await.unwrap();
}
