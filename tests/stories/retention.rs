//! What is too old goes, as the operator has written it down, and what is still worked on stays.

use std::time::Duration;

use e2e::harness::{Setup, World, eventually};
use simulator::Settings;

const SOON: Duration = Duration::from_secs(60);

/// A day of four months ago, with a partition for its month.
const MONTH: &str = "
    select at::text, tocsin.ensure_version_partition(at)::text
    from (select (date_trunc('month', now() at time zone 'UTC') - interval '4 months' + interval '3 days') at time zone 'UTC' as at) month";

/// Two alerts of that day that rest, and one that was worked on yesterday.
const FILL: &str = "
    with versions as (
        insert into tocsin.alert_version (tenant, source, alert_id, hash, created_at, version, raw)
        select $1, 'graph-alerts', 'old-' || n, sha256(n::text::bytea), $2::text::timestamptz, 1, '{}' from generate_series(1, 3) n
        returning *
    )
    insert into tocsin.alert (tenant, alert_id, source, source_rank, hash, version_created_at, last_stored_at)
    select tenant, alert_id, source, 2, hash, created_at, now() - case alert_id when 'old-3' then interval '1 day' else interval '100 days' end
    from versions";

#[tokio::test]
async fn a_month_goes_when_the_operator_wants_it_and_only_then() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 1, history: 5, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, ..Setup::default() }).await?;
    let pool = world.pool().await?;
    let (day, _): (String, Option<String>) = sqlx::query_as(MONTH).fetch_one(&pool).await?;
    sqlx::query(FILL).bind(world.cloud.tenants()[0].directory_id).bind(day).execute(&pool).await?;
    let old = async || -> anyhow::Result<Vec<String>> {
        let sql = "select alert_id from dash.alert_version where alert_id like 'old-%' order by 1";
        Ok(sqlx::query_scalar(sql).fetch_all(&pool).await?)
    };

    let listed = world.run(&["db", "partitions"]).await?.ok()?.stdout;
    assert!(listed.contains("kept for ever") && listed.contains("others"), "{listed}");

    // What the configuration wants counts once the owner's login has written it down.
    let kept_for_ever = std::fs::read_to_string(&world.config)?;
    std::fs::write(&world.config, format!("{kept_for_ever}\n[retention]\nversions = \"60d\"\n"))?;
    let told = world.run(&["doctor"]).await?.stdout;
    assert!(told.contains("warn  retention") && told.contains("tocsin db migrate"), "{told}");
    let mut daemon = world.serve()?;
    eventually("the daemon is ready", SOON, async || match daemon.ops("/readyz").await {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    assert_eq!(old().await?.len(), 3);
    assert!(daemon.log()?.contains("[retention] of the configuration is not what the database says"));
    daemon.terminate().await?;

    world.run(&["db", "migrate"]).await?.ok()?;
    let listed = world.run(&["db", "partitions"]).await?.ok()?.stdout;
    assert!(listed.contains("now; 1 of its alerts are still worked on"), "{listed}");
    let mut daemon = world.serve()?;
    eventually("the month goes", SOON, async || match old().await {
        Ok(left) if left == ["old-3"] => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    let states: i64 = sqlx::query_scalar("select count(*) from dash.alert where alert_id like 'old-%'").fetch_one(&pool).await?;
    assert_eq!(states, 3, "the latest states stay");
    // The bodies are gone, so what was derived of them is not thrown away by the way.
    let derived = "insert into tocsin.digested (tenant, alert_id, changed_xid, created_at, title, severity, status, service_source, classification, techniques, measured)
        select tenant, alert_id, changed_xid, now(), '', '', '', '', '', '{T1059}', '{}' from tocsin.alert where alert_id = 'old-1'
        on conflict (tenant, alert_id) do update set techniques = excluded.techniques";
    sqlx::query(derived).execute(&pool).await?;
    let refused = world.run(&["db", "rebuild"]).await?;
    assert!(refused.code() == 5 && refused.complaint()?.contains("of 1 alert(s) would be gone for good"), "{refused:?}");
    world.run(&["db", "rebuild", "--yes"]).await?.ok()?;
    let shown = world.run(&["db", "partitions", "--json"]).await?.ok()?.json()?;
    assert_eq!((&shown["dropped"][0]["versions"], &shown["dropped"][0]["kept"]), (&3.into(), &1.into()), "{shown}");
    let shown = world.run(&["db", "partitions"]).await?.ok()?;
    assert!(shown.stderr.contains("3 versions, 1 of them moved first"), "{}", shown.stderr);
    let told = world.run(&["doctor"]).await?.stdout;
    assert!(told.contains("ok    retention") && told.contains("ok    partitions"), "{told}");
    daemon.terminate().await?;
    world.end().await
}
