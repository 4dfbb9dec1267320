//! An account that is shown only some of the device groups, seen from outside: what one source lacks, the operator is told.

use std::time::Duration;

use e2e::harness::{Setup, World, eventually};
use simulator::{Settings, SourceMix};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_one_source_of_a_customer_lacks_is_told_of_that_customer_alone() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 2, history: 200, sources: SourceMix::Both, ..Settings::default() };
    let config = "[budget]\ngraph_per_minute = 60000\ndefender_per_minute = 60000\ndefender_per_hour = 1000000\n".to_owned();
    let world = World::with_tenants(Setup { cloud, config, ..Setup::default() }).await?;
    let tenants = world.cloud.tenants();
    let (partial, whole) = (&tenants[0], &tenants[1]);
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    let pool = world.pool().await?;
    eventually("the past is read", SOON, async || {
        let sql = "select count(*) from tocsin.reread where source = 'mde-alerts' and finished_at is not null and errand = 'backfill'";
        let finished: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.map_err(|error| error.to_string())?;
        if finished == 2 { Ok(()) } else { Err(format!("of {finished}")) }
    })
    .await?;
    daemon.terminate().await?;

    // A day later, one customer's account has never been shown some of what was there.
    sqlx::query("update tocsin.alert set first_stored_at = first_stored_at - interval '1 day'").execute(&pool).await?;
    let hidden = sqlx::query(
        "delete from tocsin.alert_version
         where tenant = $1 and source = 'mde-alerts' and created_at between now() - interval '6 days' and now() - interval '2 days'
         returning alert_id",
    )
    .bind(partial.directory_id)
    .fetch_all(&pool)
    .await?;
    anyhow::ensure!(!hidden.is_empty(), "the simulator made no such alert");

    let mut daemon = world.serve()?;
    let shown = eventually("it is noticed", SOON, async || {
        let run = world.run(&["tenant", "show", &partial.name, "--json"]).await.and_then(|run| run.ok()?.json());
        let shown = run.map_err(|error| error.to_string())?;
        if shown["partial_sight"].is_object() { Ok(shown) } else { Err(shown.to_string()) }
    })
    .await?;
    let (missing, compared) = (shown["partial_sight"]["missing"].as_i64(), shown["partial_sight"]["compared"].as_i64());
    assert!(missing > Some(0) && missing < compared, "{shown}");
    assert_eq!(shown["state"], "active", "a warning is no trouble");
    let lines = world.run(&["tenant", "show", &partial.name]).await?.ok()?.stdout;
    assert!(lines.contains("partial sight") && lines.contains("probably sees only part of the device groups"), "{lines}");
    // One look sees all customers, so that the other one has been looked at as well.
    let other = world.run(&["tenant", "show", &whole.name, "--json"]).await?.ok()?.json()?;
    assert!(other["partial_sight"].is_null(), "{other}");
    let diagnosis = world.run(&["doctor"]).await?.stdout;
    let line = diagnosis.lines().find(|line| line.contains("device groups")).unwrap_or_default();
    assert!(line.contains(&partial.name) && !line.contains(&whole.name), "{diagnosis}");
    daemon.terminate().await?;
    world.end().await
}
