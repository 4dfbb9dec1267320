//! The main job: alerts of several customers arrive, change, and are stored once each.

use std::time::Duration;

use e2e::harness::{Setup, World};
use simulator::{Settings, SourceMix};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn alerts_of_several_customers_arrive_and_their_changes_follow() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 5, history: 60, sources: SourceMix::Mixed, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, ..Setup::default() }).await?;
    let mut daemon = world.serve()?;
    let tally = world.settled(SOON).await?;
    assert_eq!(tally.published, 300);

    for tenant in world.cloud.tenants() {
        world.cloud.publish_new(tenant.directory_id, 3)?;
        world.cloud.publish_update(tenant.directory_id)?;
    }
    let tally = world.settled(SOON).await?;
    assert_eq!(tally.published, 315);
    assert!(tally.versions_stored > tally.stored);
    daemon.terminate().await?;

    // A second life finds everything known.
    let mut daemon = world.serve()?;
    let tenant = world.cloud.tenants()[0].directory_id;
    world.cloud.publish_new(tenant, 1)?;
    let tally = world.settled(SOON).await?;
    assert_eq!(tally.published, 316);
    daemon.terminate().await?;
    world.end().await
}
