//! A refresh token that came back while the database was away, on a server that takes each only once.

use std::time::Duration;

use anyhow::Context;
use e2e::harness::{Setup, World, eventually};
use simulator::{Endpoint, Rotation, Settings, SourceMix};
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(60);
/// How long a lease lasts.
const LEASE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn an_outage_longer_than_the_lease_between_answer_and_commit_costs_no_token_i30() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 1, history: 10, sources: SourceMix::GraphOnly, rotation: Rotation::Strict, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, ..Setup::default() }).await?;
    let tenant = world.cloud.tenants().into_iter().next().context("a tenant")?.directory_id;
    let database = world.database.as_ref().context("no database")?;
    // Between the answer and the commit there is time to take the database away.
    let mut daemon = world.serve_with(&[("TOCSIN_REHEARSAL", "refresh.before-save=delay:3s@1")])?;
    let redeemed = || world.cloud.journal().iter().filter(|entry| entry.endpoint == Endpoint::Token).count();
    eventually("the token is redeemed", SOON, async || if redeemed() > 0 { Ok(()) } else { Err("not asked yet") }).await?;
    database.shut().await?;
    let away = Instant::now();
    eventually("the leases are not believed any more", SOON, async || {
        let held = daemon.metric("tocsin_lease_held", "").await.map_err(|error| error.to_string())?;
        if held == 0.0 && away.elapsed() > LEASE + Duration::from_secs(5) {
            Ok(())
        } else {
            Err(format!("{held} after {:?}", away.elapsed()))
        }
    })
    .await?;
    assert_eq!(redeemed(), 1, "the stored token is used up: showing it again would revoke the whole family");
    database.reopen().await?;
    world.settled(SOON).await?;
    let health = world.health(tenant).await?;
    assert_eq!((health.state.as_str(), health.reason.as_str()), ("active", ""));
    // The access token that came along is used, or another one is got with the token that was saved.
    assert!(redeemed() <= 2, "{} redemptions", redeemed());
    daemon.terminate().await?;
    world.end().await
}
