//! Two replicas over one vault and one sign-in service: the tenant goes to and fro between them, as the registry
//! lets it go (I11).

use std::sync::Arc;
use std::time::Duration;

use domain::ports::{AccessTokens, InFlight};
use domain::{Audience, Chance, Epoch, HeldTenant, SeededChance, Verdict};
use token_refresher::Config;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::sign_in::{Quirk, Rotation};
use crate::world::{Event, MINUTE, SECOND, World, world};

#[tokio::test(start_paused = true)]
async fn what_comes_back_after_the_lease_went_elsewhere_is_never_stored_i11() {
    let first = world();
    let mut second = first.replica();
    let tenant = first.tenant(1);
    first.sign_in.once(Quirk::Slow(5 * SECOND));
    let overtaken = async {
        sleep(2 * SECOND).await;
        first.vault.claim(tenant.id, Epoch(2));
        first.lose(tenant.id);
    };
    let (answer, ()) = tokio::join!(first.ask(&tenant, Audience::Graph), overtaken);
    answer.unwrap_err();
    let theirs = second.hold(HeldTenant { epoch: Epoch(2), ..(*tenant).clone() });
    second.ask(&theirs, Audience::Graph).await.unwrap();
    let stored: Vec<_> = first
        .journal
        .all()
        .into_iter()
        .filter_map(|(_, event)| if let Event::Committed { token, .. } = event { Some(token) } else { None })
        .collect();
    assert_eq!(stored, ["refresh-3"], "the token of the second, and no other");
    assert_eq!(second.reported(), [None]);

    // It comes back to the first, who still holds what it once got, and throws it away.
    first.vault.claim(tenant.id, Epoch(3));
    let ours = first.hold(HeldTenant { epoch: Epoch(3), ..(*tenant).clone() });
    first.ask_until_given(&ours).await;
    assert_eq!(first.journal.presented(), ["imported-1", "imported-1", "refresh-3"]);
    assert_eq!(first.vault.row(tenant.id).previous.as_deref(), Some("refresh-3"));
}

/// A poller: asks for both audiences every few seconds, whether it holds the tenant or not.
fn poller(world: &World, tenant: &Arc<HeldTenant>) -> JoinHandle<()> {
    let (source, tenant) = (world.source.clone(), Arc::clone(tenant));
    tokio::spawn(async move {
        loop {
            for audience in [Audience::Graph, Audience::Defender] {
                // The pretend service ends the test when two redemptions of one tenant overlap.
                let _ = source.access_token(&tenant, audience).await;
            }
            sleep(3 * SECOND).await;
        }
    })
}

#[tokio::test(start_paused = true)]
async fn in_five_hundred_failovers_no_two_redemptions_of_a_tenant_overlap_i11() {
    const LEASE: Duration = Duration::from_secs(30);
    const TRUST: Duration = Duration::from_secs(27);
    let one = World::new(Rotation::Strict, 2 * MINUTE, Config::default());
    let other = one.replica();
    let mut worlds = [one, other];
    // Ten minutes apart, and it must not matter.
    worlds[1].clock.forward(10 * MINUTE);
    let tenant = worlds[0].tenant(1);
    for world in &worlds {
        world.lose(tenant.id);
    }
    let chance = SeededChance::new(11);
    let mut tasks = Vec::new();
    for world in &mut worlds {
        tasks.push(poller(world, &tenant));
        tokio::spawn(world.run());
    }
    let mut redemptions = 0;
    for turn in 1..=500_i64 {
        let holder = &worlds[usize::try_from(turn % 2).unwrap()];
        let epoch = Epoch(turn + 1);
        holder.vault.claim(tenant.id, epoch);
        let fair_share = chance.unit() < 0.5;
        // Sign-ins that take up to as long as a lease in doubt leaves them; and where the lease is given away, now and then
        // as long as a sign-in can take.
        let longest = if fair_share && turn % 8 < 2 { 29 * SECOND } else { 9 * SECOND };
        holder.sign_in.always(None, Some(Quirk::Slow(chance.between(Duration::from_millis(50), longest))));
        holder.hold(HeldTenant { epoch, ..(*tenant).clone() });
        let mut renewed = Instant::now();
        holder.trust_until(renewed + TRUST);
        for _ in 0..(chance.between(Duration::ZERO, 8 * SECOND).as_secs()) {
            sleep(10 * SECOND).await;
            renewed = Instant::now();
            holder.trust_until(renewed + TRUST);
        }
        if fair_share {
            // Published no more, and released at the first look that finds nothing in flight.
            sleep(chance.between(Duration::ZERO, 10 * SECOND)).await;
            holder.lose(tenant.id);
            sleep(SECOND / 10).await;
            while holder.source.redeeming(tenant.id) {
                sleep(SECOND).await;
            }
        } else {
            // Cut off from the database: trust ends, then the lease.
            sleep_until(renewed + TRUST).await;
            holder.lose(tenant.id);
            sleep_until(renewed + LEASE).await;
        }
        let asked = holder.journal.asked().len();
        redemptions += usize::from(asked > redemptions) * (asked - redemptions);
        assert!(tasks.iter().all(|task| !task.is_finished()), "a poller ended in turn {turn}");
    }
    assert!(redemptions > 1000, "only {redemptions} redemptions in five hundred turns prove little");
    for world in &mut worlds {
        let needs = world.reported().into_iter().filter(|verdict| *verdict == Some(Verdict::NeedsConsent)).count();
        assert_eq!(needs, 0, "the family was revoked");
    }
}
