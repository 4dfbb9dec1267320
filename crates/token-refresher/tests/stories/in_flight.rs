//! What the registry asks before it gives a tenant away: is a redemption of its token in flight? (I11, I30)

use std::sync::Arc;

use domain::Audience;
use domain::ports::{AccessTokens, InFlight};
use token_refresher::Config;
use tokio::time::sleep;

use crate::outages::caught;
use crate::sign_in::{Quirk, Rotation, passing};
use crate::world::{HOUR, SECOND, World, world};

#[tokio::test(start_paused = true)]
async fn a_redemption_is_in_flight_from_the_question_to_the_commit_i11() {
    let world = world();
    let tenant = world.tenant(1);
    assert!(!world.source.redeeming(tenant.id), "nobody has asked yet");
    world.sign_in.once(Quirk::Slow(25 * SECOND));
    let watching = async {
        sleep(SECOND).await;
        assert!(world.source.redeeming(tenant.id));
        sleep(23 * SECOND).await;
        assert!(world.source.redeeming(tenant.id), "the answer may still come");
        assert_eq!(world.vault.row(tenant.id).token, "imported-1");
    };
    let (answer, ()) = tokio::join!(world.ask(&tenant, Audience::Graph), watching);
    answer.unwrap();
    assert_eq!(world.vault.row(tenant.id).token, "refresh-1");
    assert!(!world.source.redeeming(tenant.id));
    // A cached token is handed out without one.
    world.ask(&tenant, Audience::Graph).await.unwrap();
    assert!(!world.source.redeeming(tenant.id));
}

#[tokio::test(start_paused = true)]
async fn whoever_only_queues_is_not_in_flight_and_begins_nothing_once_withdrawn() {
    let world = world();
    let tenants: Vec<_> = (1..=200).map(|number| world.tenant(number)).collect();
    for tenant in &tenants {
        let (source, tenant) = (world.source.clone(), Arc::clone(tenant));
        tokio::spawn(async move { source.access_token(&tenant, Audience::Graph).await.map(drop) });
    }
    sleep(2 * SECOND).await;
    let in_flight = || tenants.iter().filter(|tenant| world.source.redeeming(tenant.id)).count();
    assert!((1..=3).contains(&in_flight()), "{} of 200 at 20 per second and 80 ms each", in_flight());
    let asked = world.journal.asked().len();
    let going = in_flight();
    for tenant in &tenants {
        world.lose(tenant.id);
    }
    sleep(SECOND).await;
    assert_eq!(in_flight(), 0);
    sleep(20 * SECOND).await;
    assert_eq!(world.journal.asked().len(), asked, "{going} were on their way, and nobody followed");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_held_for_want_of_a_database_is_in_flight_until_it_is_stored_i30() {
    let mut world = World::new(Rotation::Strict, HOUR, Config::default());
    let tenant = caught(&world).await;
    world.run();
    for _ in 0..100 {
        assert!(world.source.redeeming(tenant.id), "the stored token is used up");
        sleep(SECOND).await;
    }
    world.vault.away(false);
    sleep(3 * SECOND).await;
    assert_eq!(world.vault.row(tenant.id).token, "refresh-1");
    assert!(!world.source.redeeming(tenant.id));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_leaves_nothing_in_flight() {
    let world = world();
    let tenant = world.tenant(1);
    for quirk in [Quirk::Refuse(passing()), Quirk::LoseAnswer] {
        world.sign_in.once(quirk);
        let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
        assert!(!world.source.redeeming(tenant.id));
        world.wait(&none).await;
    }
}
