//! What the bench of growth stores before its daemon begins is as a daemon would have left it: else it would measure a daemon
//! that tidies up.

use std::time::Duration;

use e2e::harness::{ARCHIVED_BEFORE, Setup, Tally, World, archive, eventually};
use simulator::{Settings, SourceMix};

const SOON: Duration = Duration::from_secs(60);
const ALERTS: u64 = 1000;

#[tokio::test]
async fn an_archive_is_taken_for_stored_and_derived_and_left_alone() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 3, history: 40, history_days: 1, sources: SourceMix::GraphOnly, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, ..Setup::default() }).await?;
    let pool = world.pool().await?;
    archive(&pool, ALERTS).await?;
    let before: Vec<i64> = sqlx::query_scalar(COUNTS).fetch_one(&pool).await?;
    assert_eq!(before[..5], [1000; 5]);
    assert!(before[5] >= 12, "a year has {} months", before[5]);

    let mut daemon = world.serve()?;
    let tally = eventually("what is new is stored", SOON, async || {
        let tally = Tally::take_since(&world.cloud.ledger(), &pool, ARCHIVED_BEFORE).await.map_err(|error| error.to_string())?;
        if tally.agrees() { Ok(tally) } else { Err(tally.to_string()) }
    })
    .await?;
    assert_eq!((tally.stored, world.tally().await?.unknown.len()), (120, 1000), "only who asks so passes over the archive");
    eventually("what is new is derived", SOON, async || match world.count("select from tocsin.digested").await {
        Ok(1120) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    assert_eq!(world.count("select from dash.digest_health where state <> 'current'").await?, 0);
    archive::is_untouched(&pool, ALERTS).await?;
    let after: Vec<i64> = sqlx::query_scalar(COUNTS).fetch_one(&pool).await?;
    assert_eq!(after[..5], [1120; 5]);
    daemon.terminate().await?;

    sqlx::raw_sql("update tocsin.derivation set version = 0").execute(&pool).await?;
    let mut daemon = world.serve()?;
    eventually("who is derived anew is found", SOON, async || match archive::is_untouched(&pool, ALERTS).await {
        Ok(()) => Err(()),
        Err(_) => Ok(()),
    })
    .await?;
    daemon.terminate().await?;
    world.end().await
}

/// Alerts, versions, bodies that can be had, alerts by day and by hour, and months.
const COUNTS: &str = "select array[
    (select count(*) from tocsin.alert), (select count(*) from tocsin.alert_version), (select count(raw) from dash.alert),
    (select sum(alerts)::bigint from tocsin.alert_day), (select sum(alerts)::bigint from tocsin.alert_hour),
    (select count(*) from tocsin.version_part where month is not null)]";
