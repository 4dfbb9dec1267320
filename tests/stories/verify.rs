//! `tocsin tenant verify` of a paused tenant: nothing is read, and its sign-in is tried all the same.

use std::time::Duration;

use anyhow::ensure;
use e2e::harness::{Setup, World};
use simulator::{Endpoint, Settings, SourceMix};
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(60);

/// Two customers who were read for a while, and are paused now.
async fn paused() -> anyhow::Result<(World, e2e::harness::Daemon)> {
    let cloud = Settings { tenants: 2, history: 3, sources: SourceMix::GraphOnly, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, ..Setup::default() }).await?;
    let daemon = world.serve()?;
    world.settled(SOON).await?;
    for tenant in world.cloud.tenants() {
        world.run(&["tenant", "pause", &tenant.name]).await?.ok()?;
    }
    Ok((world, daemon))
}

#[tokio::test]
async fn a_healthy_paused_tenant_verifies_by_one_redemption() -> anyhow::Result<()> {
    let (world, mut daemon) = paused().await?;
    let tenant = &world.cloud.tenants()[0];
    world.cloud.clear_journal();
    let verified = world.run(&["tenant", "verify", &tenant.name]).await?.ok()?;
    assert!(verified.stdout.contains("works") && verified.stdout.contains("paused"), "{}", verified.stdout);
    let journal = world.cloud.journal();
    let asked = |endpoint| journal.iter().filter(|entry| entry.tenant == Some(tenant.directory_id) && entry.endpoint == endpoint).count();
    assert_eq!(asked(Endpoint::Token), 1);
    let health = world.health(tenant.directory_id).await?;
    assert_eq!((health.state.as_str(), health.reason.as_str()), ("paused", "paused by the operator"));
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_paused_tenant_whose_consent_was_revoked_says_so_within_seconds() -> anyhow::Result<()> {
    let (world, mut daemon) = paused().await?;
    let tenant = &world.cloud.tenants()[0];
    world.cloud.revoke(tenant.directory_id, 65001)?;
    let begun = Instant::now();
    let refused = world.run(&["tenant", "verify", &tenant.name]).await?;
    ensure!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert_eq!(refused.code(), 3, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("nobody in this tenant has consented") && refused.stderr.contains("tenant invite"),
        "{}",
        refused.stderr
    );
    let health = world.health(tenant.directory_id).await?;
    assert_eq!((health.state.as_str(), health.code.as_str()), ("paused", "AADSTS65001"));
    assert!(health.reason.starts_with("paused by the operator; and nobody in this tenant"), "{health:?}");
    assert!(health.action.contains("the customer's administrator: open the consent link"), "{health:?}");
    // Nobody else is touched.
    let other = &world.cloud.tenants()[1];
    assert_eq!(world.health(other.directory_id).await?.reason, "paused by the operator");
    daemon.terminate().await?;
    world.end().await
}
