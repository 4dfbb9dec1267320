//! Thousands of tenants whose tokens fall due together, unasked: what the worker does then stays within the rate of the
//! login host, and what the host refuses costs no token (I12). What callers ask for together is told in `redeeming`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::ports::AccessTokens;
use domain::{Audience, HeldTenant, TenantId, TenantState, Verdict};
use microsoft::TOO_MANY_REQUESTS;
use token_refresher::Config;
use tokio::time::{Instant, sleep};

use crate::sign_in::{Quirk, Rotation, refused};
use crate::world::{DAY, Event, HOUR, MINUTE, SECOND, World, id};

const TENANTS: u128 = 5000;

/// The most that were asked in any second, wherever it begins.
fn busiest_second(asked: &[Instant]) -> usize {
    let mut first = 0;
    let counts = asked.iter().enumerate().map(|(index, at)| {
        while *at >= asked[first] + SECOND {
            first += 1;
        }
        index - first + 1
    });
    counts.max().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn five_thousand_paused_tenants_are_kept_alive_together_within_the_rate_i12() {
    // A month of outage: every keep-alive is overdue in the moment in which the worker starts. The service is slow.
    for latency in [Duration::from_millis(80), 2 * SECOND] {
        let mut world = World::new(Rotation::Strict, HOUR, Config::default());
        world.sign_in.always(None, Some(Quirk::Slow(latency)));
        let last_refresh_at = Some(world.clock.now().minus(30 * DAY));
        for number in 1..=TENANTS {
            let tenant = world.tenant(number);
            world.hold(HeldTenant { state: TenantState::Paused, last_refresh_at, ..(*tenant).clone() });
        }
        let begun = world.clock.now();
        world.run();
        sleep(5 * MINUTE).await;
        let kept = (1..=TENANTS).filter(|number| world.vault.row(id(*number)).last_refresh_at >= Some(begun)).count();
        assert_eq!(kept, 5000, "with answers after {latency:?}");
        let asked = world.journal.asked();
        assert_eq!(asked.len(), 5000, "one each, and none for nothing");
        assert!(busiest_second(&asked) <= 20, "{} in one second", busiest_second(&asked));
        assert!(world.reported().into_iter().all(|report| report.is_none()));
    }
}

/// Five hundred tenants who were redeemed lately, so that nobody is kept alive unasked, at a service that refuses.
fn throttled(code: &'static str) -> (World, Vec<Arc<HeldTenant>>) {
    let mut world = World::new(Rotation::Strict, HOUR, Config::default());
    world.sign_in.always(None, Some(Quirk::Refuse(refused(Verdict::RetryAfter(MINUTE), code, false))));
    let last_refresh_at = Some(world.clock.now());
    let lately = |number| HeldTenant { last_refresh_at, ..(*world.tenant(number)).clone() };
    let tenants = (1..=500).map(|number| world.hold(lately(number))).collect();
    world.run();
    (world, tenants)
}

/// All of them ask once, together; how many were given a token.
async fn poll(world: &World, tenants: &[Arc<HeldTenant>]) -> usize {
    let mut polls = tokio::task::JoinSet::new();
    for tenant in tenants {
        let (source, tenant) = (world.source.clone(), Arc::clone(tenant));
        polls.spawn(async move { source.access_token(&tenant, Audience::Graph).await.is_ok() });
    }
    polls.join_all().await.into_iter().filter(|given| *given).count()
}

/// With what and when each tenant was asked for.
fn presented(world: &World) -> BTreeMap<TenantId, Vec<(Instant, Option<String>)>> {
    let mut presented: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (at, event) in world.journal.all() {
        if let Event::Asked { tenant, token, .. } = event {
            presented.entry(tenant).or_default().push((at, token));
        }
    }
    presented
}

fn assert_untouched(world: &World, tenants: &[Arc<HeldTenant>]) {
    for tenant in tenants {
        let row = world.vault.row(tenant.id);
        assert_eq!((row.version, row.token, row.previous), (1, format!("imported-{}", tenant.id.0.as_u128()), None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_the_login_host_sees_is_the_affair_of_each_tenant_and_costs_no_token_i12() {
    let (world, tenants) = throttled("AADSTS50196");
    assert_eq!(poll(&world, &tenants).await, 0);
    assert_eq!(world.journal.asked().len(), 500);
    assert_untouched(&world, &tenants);
    // Everybody who asks meanwhile is sent home unasked.
    assert_eq!(poll(&world, &tenants).await, 0);
    assert_eq!(world.journal.asked().len(), 500);
    world.sign_in.always(None, None);
    sleep(2 * MINUTE).await;
    assert_eq!(poll(&world, &tenants).await, 500);
    for (tenant, calls) in &presented(&world) {
        let [(refused_at, first), (again_at, second)] = &calls[..] else { panic!("{tenant}: {calls:?}") };
        assert_eq!(first, second, "{tenant}");
        assert!(*again_at - *refused_at >= MINUTE, "{tenant}: {:?}", *again_at - *refused_at);
    }
    assert!(busiest_second(&world.journal.asked()) <= 20);
}

#[tokio::test(start_paused = true)]
async fn a_login_host_that_throttles_everybody_hears_it_from_a_few_and_is_left_alone_i12() {
    let (mut world, tenants) = throttled(TOO_MANY_REQUESTS);
    let begun = Instant::now();
    assert_eq!(poll(&world, &tenants).await, 0);
    assert!(begun.elapsed() < SECOND, "the queue is sent home at once: {:?}", begun.elapsed());
    let found_out = world.journal.asked().len();
    assert!((5..=7).contains(&found_out), "five, and who was on the way then: {found_out}");
    assert_eq!(world.reported().len(), 500, "everybody who is blind knows why");
    assert_untouched(&world, &tenants);
    sleep(30 * SECOND).await;
    assert_eq!(poll(&world, &tenants).await, 0);
    assert_eq!(world.journal.asked().len(), found_out, "nobody asks before the minute is over");
    // It goes on for a while: a few find out, each time.
    for _ in 0..5 {
        sleep(MINUTE).await;
        assert_eq!(poll(&world, &tenants).await, 0);
    }
    let asked = world.journal.asked();
    assert!((10..=42).contains(&asked.len()), "{} in six minutes", asked.len());
    assert_untouched(&world, &tenants);

    world.sign_in.always(None, None);
    sleep(10 * MINUTE).await;
    assert_eq!(poll(&world, &tenants).await, 500, "served again within ten minutes");
    assert!(busiest_second(&world.journal.asked()) <= 20);
    for (tenant, calls) in &presented(&world) {
        let first = &calls[0].1;
        assert!(calls.iter().all(|(_, token)| token == first), "{tenant}: {calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn tenants_that_are_throttled_by_themselves_hold_up_nobody_else_i10() {
    let (world, tenants) = throttled(TOO_MANY_REQUESTS);
    world.sign_in.always(None, None);
    // Every tenth is refused for good.
    for tenant in tenants.iter().step_by(10) {
        world.sign_in.always(Some(tenant.id), Some(Quirk::Refuse(refused(Verdict::RetryAfter(MINUTE), TOO_MANY_REQUESTS, false))));
    }
    assert_eq!(poll(&world, &tenants).await, 450);
    assert_eq!(world.journal.asked().len(), 500);
}

/// Everybody asks for a token while replicas come and go as `change` says; when the host was asked.
async fn together(worlds: &[World], change: impl AsyncFnOnce()) -> Vec<Instant> {
    let mut asking = tokio::task::JoinSet::new();
    for (number, world) in worlds.iter().enumerate() {
        for tenant in 1..=200 {
            let tenant = world.tenant(number as u128 * 1000 + tenant);
            let source = world.source.clone();
            asking.spawn(async move { source.access_token(&tenant, Audience::Graph).await.unwrap() });
        }
    }
    change().await;
    asking.join_all().await;
    worlds[0].journal.asked()
}

/// So many replicas at one login host, each of which knows how many there are.
fn replicas(count: u32) -> Vec<World> {
    let first = World::new(Rotation::Strict, HOUR, Config::default());
    let others: Vec<_> = (1..count).map(|_| first.replica()).collect();
    let all: Vec<_> = std::iter::once(first).chain(others).collect();
    all.iter().for_each(|world| world.beside(count));
    all
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_a_login_host_is_one_for_all_replicas_together_i12() {
    for (count, seconds) in [(1, 10), (2, 20), (3, 34)] {
        let worlds = replicas(count);
        let begun = Instant::now();
        let asked = together(&worlds, async || {}).await;
        assert_eq!(asked.len(), 200 * count as usize);
        assert!(busiest_second(&asked) <= 20, "{count} replicas: {} in one second", busiest_second(&asked));
        assert!(begun.elapsed() <= SECOND * (seconds + 1), "and the rate is used: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_joins_takes_its_part_of_the_rate_and_one_that_leaves_gives_it_back_i12() {
    let worlds = replicas(1);
    let begun = Instant::now();
    let asked = together(&worlds, async || {
        sleep(2 * SECOND).await;
        worlds[0].beside(2);
        sleep(4 * SECOND).await;
        worlds[0].beside(1);
    })
    .await;
    let since = |from: u32, until: u32| asked.iter().filter(|at| (begun + SECOND * from..begun + SECOND * until).contains(at)).count();
    assert!((38..=40).contains(&since(0, 2)), "{}", since(0, 2));
    assert!((34..=40).contains(&since(2, 6)), "half of it, once the second before is over: {}", since(2, 6));
    assert!((9..=11).contains(&since(6, 7)), "what the one who left asked may be a moment ago: {}", since(6, 7));
    assert!((19..=20).contains(&since(7, 8)), "{}", since(7, 8));
    assert!(busiest_second(&asked) <= 20);
}
