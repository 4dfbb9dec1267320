//! What the worker does unasked: keeps idle tokens alive, forgets tenants that went, beats, and stops.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::{Audience, Epoch, HeldTenant, TenantState, Verdict};
use token_refresher::Config;
use tokio::time::{Instant, sleep, timeout};

use crate::sign_in::{Quirk, Rotation};
use crate::world::{DAY, Event, HOUR, MINUTE, SECOND, World, id, world};

#[tokio::test(start_paused = true)]
async fn paused_and_idle_tenants_are_kept_alive_weekly_for_a_hundred_days() {
    let mut world = World::new(Rotation::Strict, HOUR, Config { beat: HOUR, ..Config::default() });
    let six_days_ago = Some(world.clock.now().minus(6 * DAY));
    let states = [
        (1, TenantState::Paused, six_days_ago),
        (2, TenantState::Paused, None),
        (3, TenantState::Active, six_days_ago),
        (4, TenantState::AwaitingConsent, None),
        (5, TenantState::Offboarding, six_days_ago),
    ];
    for (number, state, last_refresh_at) in states {
        let tenant = world.tenant(number);
        world.hold(HeldTenant { state, last_refresh_at, ..(*tenant).clone() });
    }
    let start = Instant::now();
    world.run();
    sleep(100 * DAY).await;
    let mut asked: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (at, event) in world.journal.all() {
        if let Event::Asked { tenant, .. } = event {
            asked.entry(tenant).or_default().push(at);
        }
    }
    assert_eq!(asked.keys().copied().collect::<Vec<_>>(), [id(1), id(2), id(3)]);
    for (tenant, asked) in asked {
        assert!((13..=16).contains(&asked.len()), "{tenant}: {} times", asked.len());
        for pair in asked.windows(2) {
            let gap = pair[1] - pair[0];
            assert!(gap >= 7 * DAY && gap <= 8 * DAY, "{tenant}: {gap:?}");
        }
        let first = asked[0] - start;
        assert!(if tenant == id(2) { first <= HOUR } else { first >= DAY && first <= 2 * DAY }, "{tenant}: {first:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn keeping_alive_spreads_over_time_and_is_tried_again_after_trouble() {
    let mut world = World::new(Rotation::Lenient, HOUR, Config { beat: HOUR, ..Config::default() });
    let last_refresh_at = Some(world.clock.now());
    for number in 1..=100 {
        let tenant = world.tenant(number);
        world.hold(HeldTenant { state: TenantState::Paused, last_refresh_at, ..(*tenant).clone() });
    }
    world.run();
    let start = Instant::now();
    sleep(8 * DAY).await;
    let hours: BTreeSet<_> = world.journal.asked().iter().map(|at| (*at - start).as_secs() / 3600).collect();
    assert!(hours.len() > 10, "imported together, kept alive apart: {hours:?}");

    world.sign_in.always(None, Some(Quirk::Refuse(crate::sign_in::passing())));
    sleep(8 * DAY).await;
    let outage_ends = world.clock.now();
    world.sign_in.always(None, None);
    sleep(HOUR).await;
    let kept = (1..=100).filter(|number| world.vault.row(id(*number)).last_refresh_at >= Some(outage_ends)).count();
    assert_eq!(kept, 100);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_went_is_forgotten_and_comes_back_as_new() {
    let mut world = world();
    let tenant = world.tenant(1);
    world.run();
    world.ask(&tenant, Audience::Graph).await.unwrap();
    world.lose(tenant.id);
    sleep(2 * SECOND).await;
    world.vault.claim(tenant.id, Epoch(3));
    let tenant = world.hold(HeldTenant { epoch: Epoch(3), ..(*tenant).clone() });
    world.ask(&tenant, Audience::Graph).await.unwrap();
    assert_eq!(world.journal.asked().len(), 2, "nothing of it was kept meanwhile");
    world.lose(tenant.id);
    sleep(2 * HOUR).await;
    assert_eq!(world.journal.asked().len(), 2, "and nothing is done for it");
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_is_paused_gets_no_more_access_tokens_ahead() {
    let mut world = world();
    let tenant = world.tenant(1);
    world.run();
    world.ask(&tenant, Audience::Graph).await.unwrap();
    world.hold(HeldTenant { state: TenantState::Paused, ..(*tenant).clone() });
    sleep(6 * DAY).await;
    assert_eq!(world.journal.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_beats_and_does_nothing_else() {
    let mut world = world();
    for number in 1..=100 {
        let tenant = world.tenant(number);
        world.hold(HeldTenant { last_refresh_at: Some(world.clock.now()), ..(*tenant).clone() });
    }
    world.run();
    for _ in 0..10 {
        sleep(MINUTE).await;
        let status = world.status.borrow_and_update().clone();
        assert!(world.clock.now().since(status.beat) <= SECOND);
        assert_eq!(status.fault, None);
    }
    assert!(world.journal.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_stop_lets_a_redemption_in_flight_end_and_turns_away_the_rest() {
    let mut world = World::new(Rotation::Strict, HOUR, Config::default());
    let tenants: Vec<_> = (1..=200).map(|number| world.tenant(number)).collect();
    let worker = world.run();
    world.sign_in.once(Quirk::Slow(3 * SECOND));
    let mut asking = tokio::task::JoinSet::new();
    for tenant in tenants {
        let source = world.source.clone();
        asking.spawn(async move { domain::ports::AccessTokens::access_token(&source, &tenant, Audience::Graph).await.is_ok() });
    }
    sleep(SECOND).await;
    world.stop.cancel();
    let stopping = Instant::now();
    timeout(10 * SECOND, worker).await.unwrap().unwrap().unwrap();
    assert!(stopping.elapsed() >= SECOND && stopping.elapsed() < 4 * SECOND, "{:?}", stopping.elapsed());
    let stored = (1..=200).filter(|number| world.vault.row(id(*number)).version == 2).count();
    let given = asking.join_all().await.into_iter().filter(|given| *given).count();
    assert_eq!(given, world.journal.asked().len(), "whoever was in flight ended well");
    assert!(given < 50, "and those in the queue were sent home");
    assert_eq!(stored, given, "no rotated token is lost");
    let late = world.tenant(1000);
    assert!(world.ask(&late, Audience::Graph).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_hanging_sign_in_service_does_not_hold_up_the_stop_for_ever() {
    let mut world = world();
    let tenant = world.tenant(1);
    let worker = world.run();
    world.sign_in.always(None, Some(Quirk::Slow(Duration::from_secs(600))));
    let source = world.source.clone();
    tokio::spawn(async move { domain::ports::AccessTokens::access_token(&source, &tenant, Audience::Graph).await.is_ok() });
    sleep(SECOND).await;
    world.stop.cancel();
    timeout(8 * SECOND, worker).await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_paused_tenant_is_tried_once_when_somebody_wants_to_know() {
    let mut world = world();
    let paused = HeldTenant { state: TenantState::Paused, last_refresh_at: Some(world.clock.now()), ..(*world.tenant(1)).clone() };
    let tenant = world.hold(paused);
    world.run();
    sleep(HOUR).await;
    assert_eq!(world.journal.asked().len(), 0, "it was kept alive lately");
    world.hold(HeldTenant { credential_version: 2, ..(*tenant).clone() });
    sleep(2 * SECOND).await;
    assert_eq!((world.journal.asked().len(), world.reported()), (1, vec![None]));

    world.sign_in.revoke(tenant.id);
    world.hold(HeldTenant { credential_version: 3, ..(*tenant).clone() });
    sleep(20 * SECOND).await;
    assert_eq!(world.reported(), [Some(Verdict::NeedsConsent)], "after the second answer");
    let asked = world.journal.asked().len();
    sleep(3 * HOUR).await;
    assert_eq!(world.journal.asked().len(), asked, "nobody wants to know any more");
}
