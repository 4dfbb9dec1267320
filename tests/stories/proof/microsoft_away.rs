//! Microsoft is away: one host, one customer's share of it, or for one replica only (fault 69). Whoever can be reached goes
//! on, memory stays flat, and everything is there in the end. I4, I10, I24, I29.

use std::time::Duration;

use anyhow::Context;
use e2e::harness::{Daemon, Proxy, Setup, Target, Usage, World, eventually, side_by_side};
use simulator::{Effect, Endpoint, Outage, Rule, Settings, SimTenant, SourceMix};

use super::{LONG, SMALL_PAGES, SOON, case, holds, publish_everywhere, ready};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_69_and_others_microsoft_away_by_host_by_customer_and_for_one_replica() -> anyhow::Result<()> {
    let cases = [
        case("one of the two hosts is away", one_host()),
        case("one customer's share is away", one_customer()),
        case("one replica cannot reach Microsoft", one_replica()),
    ];
    side_by_side(3, cases).await?;
    Ok(())
}

/// Graph is away altogether; Defender for Endpoint goes on for the same customers.
async fn one_host() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 4, history: 30, sources: SourceMix::Both, ..Settings::default() };
    let (world, mut daemon) = settled(cloud).await?;
    let before = Usage::of(daemon.pid()?)?;
    for outage in [Outage::Reset, Outage::Unavailable, Outage::InternalError] {
        world.cloud.clear_script();
        world.cloud.script(Rule::new(Effect::Outage(outage)).endpoint(Endpoint::Graph));
        publish_everywhere(&world, 300)?;
        // Defender for Endpoint shows its own alerts only.
        let counts = world.cloud.ledger().counts();
        let published =
            i64::try_from(counts.iter().filter_map(|count| count.sources.get("mde-alerts")).map(|count| count.alerts).sum::<usize>())?;
        through(&world, "mde-alerts", None, published).await.with_context(|| format!("beside {outage:?}"))?;
    }
    let growth = Usage::of(daemon.pid()?)?.rss.saturating_sub(before.rss);
    anyhow::ensure!(growth <= 32 << 20, "{} MB more while Graph was away", growth >> 20);
    world.cloud.clear_script();
    world.settled(LONG).await?;
    ready(&daemon).await?;
    daemon.terminate().await?;
    world.end().await
}

/// Everything about one customer fails, sign-in included; the others do not notice, and it catches up.
async fn one_customer() -> anyhow::Result<()> {
    let access_lifetime = (Duration::from_secs(4), Duration::from_secs(6));
    let cloud = Settings { tenants: 4, history: 30, sources: SourceMix::GraphOnly, access_lifetime, ..Settings::default() };
    let (world, mut daemon) = settled(cloud).await?;
    let tenants = world.cloud.tenants();
    world.cloud.script(Rule::new(Effect::Outage(Outage::Reset)).tenant(tenants[0].directory_id));
    for round in 1..=5 {
        publish_everywhere(&world, 10)?;
        for tenant in &tenants[1..] {
            through(&world, "graph-alerts", Some(tenant), 30 + 10 * round).await?;
        }
    }
    world.cloud.clear_script();
    world.settled(LONG).await?;
    ready(&daemon).await?;
    daemon.terminate().await?;
    world.end().await
}

/// A replica that is cut from Microsoft keeps its customers, says so, and goes on when it can; the other one is well.
async fn one_replica() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 4, history: 30, sources: SourceMix::GraphOnly, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }).await?;
    let address = world.cloud.base_url().trim_start_matches("http://").parse()?;
    let door = Proxy::to(Target::Tcp(address)).await?;
    let mut cut = world.serve_through("behind-the-door", SMALL_PAGES, None, Some(&door), &[])?;
    let mut other = world.serve()?;
    holds(&cut, 2).await?;
    holds(&other, 2).await?;
    world.settled(SOON).await?;

    door.shut();
    publish_everywhere(&world, 20)?;
    let behind = eventually("the other one's customers have theirs, and the rest is told", SOON, async || {
        let sql = "select count(*) filter (where n = 50), count(*) filter (where n = 30) from (select count(*) as n from dash.alert group by directory_id) counts";
        let pool = world.pool().await.map_err(|error| error.to_string())?;
        let (whole, behind): (i64, i64) = sqlx::query_as(sql).fetch_one(&pool).await.map_err(|error| error.to_string())?;
        let told = world.count("select from dash.feed_health where last_error is not null").await.map_err(|error| error.to_string())?;
        if whole == 2 && behind == 2 && told == 2 { Ok(behind) } else { Err(format!("{whole} whole, {behind} behind, {told} told")) }
    })
    .await?;
    anyhow::ensure!(behind == 2);
    door.clear();
    world.settled(LONG).await?;
    for daemon in [&mut cut, &mut other] {
        ready(daemon).await?;
        daemon.terminate().await?;
    }
    world.end().await
}

async fn settled(cloud: Settings) -> anyhow::Result<(World, Daemon)> {
    let world = World::with_tenants(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }).await?;
    let daemon = world.serve()?;
    world.settled(SOON).await?;
    ready(&daemon).await?;
    Ok((world, daemon))
}

/// Waits until so many different alerts have come through this source, of one customer or of all.
async fn through(world: &World, source: &str, tenant: Option<&SimTenant>, alerts: i64) -> anyhow::Result<()> {
    let whose = tenant.map(|tenant| format!(" and directory_id = '{}'", tenant.directory_id)).unwrap_or_default();
    let query = format!("select distinct directory_id, alert_id from dash.alert_version where source = '{source}'{whose}");
    eventually(&format!("{alerts} alerts come through {source}"), SOON, async || match world.count(&query).await {
        Ok(count) if count >= alerts => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await
}
