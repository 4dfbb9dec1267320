//! Failing on purpose at every named point, and the bugs that may be planted: none of them goes unseen.

use std::panic::AssertUnwindSafe;

use domain::Audience;
use domain::ports::AccessTokens;
use domain::rehearsal::{Action, Rehearsal, passed};
use futures_util::FutureExt;
use token_refresher::Config;
use tokio::time::{Instant, sleep};

use crate::sign_in::Rotation;
use crate::world::{HOUR, SECOND, World, bearer};

const POINTS: [&str; 4] = ["refresh.before-call", "refresh.answered", "refresh.before-save", "refresh.saved"];

#[tokio::test(start_paused = true)]
async fn an_error_at_any_point_costs_a_retry_and_nothing_else() {
    for point in POINTS {
        // An answer that is lost is a lost token on a strict server, and no bug of ours.
        let rotation = if point == "refresh.answered" { Rotation::Lenient } else { Rotation::Strict };
        let mut world = World::new(rotation, HOUR, Config::default());
        let tenant = world.tenant(1);
        Rehearsal::default().at(point, Action::Error, Some(1)).begin();
        world.ask_until_given(&tenant).await;
        assert_eq!(passed()[point], 2, "{point}");
        Rehearsal::end();
        assert!(world.reported().ends_with(&[None]), "{point}");
        world.ask(&tenant, Audience::Defender).await.unwrap();
        assert!(world.vault.row(tenant.id).version >= 3, "{point}: both rotations are stored");
    }
}

#[tokio::test(start_paused = true)]
async fn standing_still_at_any_point_for_longer_than_a_lease_stores_nothing_stale() {
    for point in POINTS {
        let world = World::new(Rotation::Lenient, HOUR, Config::default());
        let tenant = world.tenant(1);
        Rehearsal::default().at(point, Action::Delay(40 * SECOND), Some(1)).begin();
        let overtaken = async {
            sleep(35 * SECOND).await;
            world.vault.claim(tenant.id, domain::Epoch(2));
            world.lose(tenant.id);
        };
        let start = Instant::now();
        let (answer, ()) = tokio::join!(world.ask(&tenant, Audience::Graph), overtaken);
        Rehearsal::end();
        assert!(start.elapsed() >= 40 * SECOND, "{point}");
        answer.unwrap_err();
        let asked = usize::from(point != "refresh.before-call");
        assert_eq!(world.journal.asked().len(), asked, "{point}: nobody is asked for a tenant that is not ours any more");
        let row = world.vault.row(tenant.id);
        let stored_in_time = point == "refresh.saved";
        assert_eq!(row.version, if stored_in_time { 2 } else { 1 }, "{point}");
        assert_eq!(row.last_refresh_at, None, "{point}: nothing is written under the old lease");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotated_token_that_is_not_saved_is_noticed() {
    let world = World::new(Rotation::Strict, HOUR, Config::default());
    let tenant = world.tenant(1);
    Rehearsal::default().bug("rotated-token-not-saved").begin();
    let token = world.ask(&tenant, Audience::Graph).await.unwrap();
    world.source.refused(tenant.id, Audience::Graph, &token).await;
    let again = world.ask(&tenant, Audience::Graph).await;
    Rehearsal::end();
    assert!(again.is_err(), "the used token was shown again, and {} came back", bearer(&token));
}

#[tokio::test(start_paused = true)]
async fn two_redemptions_at_once_are_noticed() {
    let world = World::new(Rotation::Strict, HOUR, Config::default());
    let tenant = world.tenant(1);
    Rehearsal::default().bug("two-redemptions-at-once").begin();
    let both = async { tokio::join!(world.ask(&tenant, Audience::Graph), world.ask(&tenant, Audience::Defender)) };
    // The pretend service allows one at a time.
    let outcome = AssertUnwindSafe(both).catch_unwind().await;
    Rehearsal::end();
    assert!(outcome.is_err());
}
