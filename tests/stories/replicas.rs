//! Several daemons on one database: they share the work, and each can go at any moment, in any way.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::harness::{Changes, Daemon, Setup, World, eventually};
use rustix::process::Signal;
use simulator::{Effect, Endpoint, Outage, Rule, Settings, SourceMix};
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(180);
/// How long a lease lasts: within this nobody may be taken over who could still be alive.
const LEASE: Duration = Duration::from_secs(30);

const SMALL_PAGES: &str = "[poll]\ninterval = \"1s\"\npage_size = 25\n\
                           [budget]\ngraph_per_minute = 100000\ndefender_per_minute = 100000\ndefender_per_hour = 1000000\n";

#[tokio::test]
async fn two_daemons_share_the_customers_and_a_planned_stop_hands_over_at_once() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 6, history: 1000, sources: SourceMix::Mixed, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }).await?;
    // The second one comes in the middle of the first sync, so that customers change hands with work to do.
    world.cloud.script(Rule::new(Effect::Slow { ms: 150 }));
    let mut first = world.serve()?;
    holds(&first, 6).await?;
    let mut second = world.serve()?;
    shared(&[&first, &second], 6).await?;
    world.cloud.clear_script();
    let tally = world.settled(LONG).await?;
    assert_eq!(tally.published, 6000);

    first.terminate().await?;
    let begun = Instant::now();
    for tenant in world.cloud.tenants() {
        world.cloud.publish_new(tenant.directory_id, 2)?;
    }
    world.settled(SOON).await?;
    let taken = begun.elapsed();
    assert!(taken < Duration::from_secs(10), "it took {taken:?} until the other one looked after all customers");
    assert_eq!(second.metric("tocsin_lease_held", "").await?, 6.0);

    // And the same in the other direction.
    let mut third = world.serve()?;
    shared(&[&second, &third], 6).await?;
    second.terminate().await?;
    let begun = Instant::now();
    for tenant in world.cloud.tenants() {
        world.cloud.publish_new(tenant.directory_id, 2)?;
    }
    world.settled(SOON).await?;
    let taken = begun.elapsed();
    assert!(taken < Duration::from_secs(10), "it took {taken:?} until the other one looked after all customers");
    third.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_killed_daemon_is_replaced_by_the_other() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 6, history: 100, sources: SourceMix::Mixed, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }).await?;
    let mut first = world.serve()?;
    let mut second = world.serve()?;
    shared(&[&first, &second], 6).await?;
    world.settled(SOON).await?;

    let mut changes = Changes::default();
    for tenant in world.cloud.tenants() {
        world.cloud.publish_new(tenant.directory_id, 50)?;
        changes.make(&world, &tenant, 5).await?;
    }
    first.kill().await?;
    let begun = Instant::now();
    holds(&second, 6).await?;
    world.settled(SOON).await?;
    let taken = begun.elapsed();
    assert!(taken < LEASE + Duration::from_secs(15), "it took {taken:?} until the other one looked after all customers");
    second.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_daemon_that_was_frozen_longer_than_its_leases_writes_nothing_stale_when_it_wakes() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 6, history: 50, sources: SourceMix::GraphOnly, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, ..Setup::default() }).await?;
    let mut sleeper = world.serve()?;
    let mut other = world.serve()?;
    shared(&[&sleeper, &other], 6).await?;
    world.settled(LONG).await?;

    // The other one must not have anything in its hands later that it has read a second time.
    eventually("nothing is being read again", LONG, async || {
        match world.count("select from tocsin.reread where finished_at is null").await {
            Ok(0) => Ok(()),
            open => Err(format!("{open:?}")),
        }
    })
    .await?;

    // Half each, and no tenant on its way from one to the other, so that the sleeper has some in its hands.
    holds(&sleeper, 3).await?;
    holds(&other, 3).await?;

    // Both fetch new alerts and cannot store them yet; then one freezes with them in its hands. Before that
    // everybody is refused once, so that nobody waits with an older page.
    world.cloud.clear_journal();
    world.cloud.script(Rule::new(Effect::Outage(Outage::Unavailable)).endpoint(Endpoint::Graph));
    eventually("every customer was refused", SOON, async || {
        let refused: BTreeSet<_> =
            world.cloud.journal().into_iter().filter(|entry| entry.status == 503).map(|entry| entry.tenant).collect();
        if refused.len() == 6 { Ok(()) } else { Err(refused.len()) }
    })
    .await?;
    let mut lock = world.pool().await?.begin().await?;
    sqlx::query("lock table dash.alert_version in access exclusive mode").execute(&mut *lock).await?;
    let mut news = Vec::new();
    for tenant in world.cloud.tenants() {
        news.push((tenant.directory_id, world.cloud.publish_new(tenant.directory_id, 3)?));
    }
    world.cloud.clear_script();
    eventually("every customer's news were given out", SOON, async || {
        let rows = world.cloud.ledger().all_rows();
        let waiting = rows.iter().filter(|row| row.latest && row.served == 0).count();
        if waiting == 0 { Ok(()) } else { Err(waiting) }
    })
    .await?;
    sleeper.signal(Signal::STOP)?;
    let frozen = Instant::now();
    // Outdated while it sleeps: nobody else can get these bodies any more, so who writes them is known.
    for (tenant, ids) in &news {
        for id in ids {
            world.cloud.publish_update_of(*tenant, id)?;
        }
    }
    lock.rollback().await?;

    holds(&other, 6).await?;
    assert!(frozen.elapsed() > LEASE / 2, "taken over after {:?}, though it might have been only slow", frozen.elapsed());
    let before = eventually("the other one has caught up", SOON, async || {
        let tally = world.tally().await.map_err(|error| error.to_string())?;
        let caught_up = tally.stored == tally.published && tally.stale.is_empty();
        if caught_up { Ok(tally) } else { Err(tally.to_string()) }
    })
    .await?;
    assert_eq!(before.published, 6 * 53);
    assert!(!before.lost.is_empty(), "the sleeper had nothing outdated in its hands, so this proves nothing");
    assert!(before.duplicated.is_empty() && before.unknown.is_empty(), "{before}");

    sleeper.signal(Signal::CONT)?;
    shared(&[&sleeper, &other], 6).await?;
    let after = world.tally().await?;
    assert_eq!(after, before, "the sleeper wrote something when it woke");

    // And then it is as good as new.
    other.terminate().await?;
    for tenant in world.cloud.tenants() {
        world.cloud.publish_new(tenant.directory_id, 2)?;
    }
    eventually("the sleeper looks after everybody", SOON, async || {
        let tally = world.tally().await.map_err(|error| error.to_string())?;
        let caught_up = tally.stored == 6 * 55 && tally.stale.is_empty() && tally.lost == before.lost;
        if caught_up { Ok(()) } else { Err(tally.to_string()) }
    })
    .await?;
    sleeper.terminate().await?;
    assert!(!sleeper.log()?.contains("panicked"), "{}", sleeper.last_words());
    world.end().await
}

/// Waits until a daemon looks after so many customers.
async fn holds(daemon: &Daemon, tenants: u32) -> anyhow::Result<()> {
    eventually(&format!("it looks after {tenants} customers"), SOON, async || match daemon.metric("tocsin_lease_held", "").await {
        Ok(held) if held == f64::from(tenants) => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await
}

/// Waits until each of the daemons looks after some, and together they look after all.
async fn shared(daemons: &[&Daemon], tenants: u32) -> anyhow::Result<()> {
    eventually("the customers are shared", SOON, async || {
        let mut held = Vec::new();
        for daemon in daemons {
            held.push(daemon.metric("tocsin_lease_held", "").await.map_err(|error| error.to_string())?);
        }
        let all = held.iter().sum::<f64>() == f64::from(tenants);
        if all && held.iter().all(|count| *count > 0.0) { Ok(()) } else { Err(format!("{held:?}")) }
    })
    .await
}
