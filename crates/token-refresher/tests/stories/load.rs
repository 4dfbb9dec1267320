//! Thousands of tenants whose tokens fall due together, unasked: what the worker does then stays within the rate of the
//! login host, and what the host refuses costs no token (I12). What callers ask for together is told in `redeeming`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::ports::AccessTokens;
use domain::{Audience, HeldTenant, TenantState, Verdict};
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

#[tokio::test(start_paused = true)]
async fn what_the_login_host_throttles_is_asked_later_with_the_very_same_token_i12() {
    for code in ["http-429", "AADSTS50196"] {
        let mut world = World::new(Rotation::Strict, HOUR, Config::default());
        world.sign_in.always(None, Some(Quirk::Refuse(refused(Verdict::RetryAfter(MINUTE), code, false))));
        // Redeemed lately, so that nobody is kept alive unasked.
        let last_refresh_at = Some(world.clock.now());
        let lately = |number| HeldTenant { last_refresh_at, ..(*world.tenant(number)).clone() };
        let tenants: Vec<_> = (1..=500).map(|number| world.hold(lately(number))).collect();
        world.run();
        let polls = |world: &World| {
            let mut polls = tokio::task::JoinSet::new();
            for tenant in &tenants {
                let (source, tenant) = (world.source.clone(), Arc::clone(tenant));
                polls.spawn(async move { source.access_token(&tenant, Audience::Graph).await.map(drop) });
            }
            polls
        };
        assert!(polls(&world).join_all().await.into_iter().all(|answer| answer.is_err()));
        assert_eq!(world.journal.asked().len(), 500);
        for tenant in &tenants {
            let row = world.vault.row(tenant.id);
            assert_eq!((row.version, row.token, row.previous), (1, format!("imported-{}", tenant.id.0.as_u128()), None));
        }
        // Everybody who asks meanwhile is sent home unasked.
        assert!(polls(&world).join_all().await.into_iter().all(|answer| answer.is_err()));
        assert_eq!(world.journal.asked().len(), 500);
        world.sign_in.always(None, None);
        sleep(2 * MINUTE).await;
        assert!(polls(&world).join_all().await.into_iter().all(|answer| answer.is_ok()));
        let mut presented: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (at, event) in world.journal.all() {
            if let Event::Asked { tenant, token, .. } = event {
                presented.entry(tenant).or_default().push((at, token));
            }
        }
        for (tenant, calls) in &presented {
            let [(refused_at, first), (again_at, second)] = &calls[..] else { panic!("{tenant}: {calls:?}") };
            assert_eq!(first, second, "{tenant}");
            assert!(*again_at - *refused_at >= MINUTE, "{tenant}: {:?}", *again_at - *refused_at);
        }
        assert!(busiest_second(&world.journal.asked()) <= 20);
    }
}
