//! Faults 45 and 46: Postgres ends in the middle of everything, and answers to COMMIT are lost, while two replicas store.
//! I1, I3, I5, I29.

use std::time::Duration;

use anyhow::Context;
use e2e::harness::{Changes, Loss, PgProxy, Setup, TestDatabase, World, side_by_side, signals};
use local_postgres::Durability;
use rustix::process::Signal;
use simulator::{Effect, Rule, Settings, SourceMix};

use super::{LONG, SMALL_PAGES, SOON, case, grown, own_postgres, publish_everywhere, ready, rows, server_folder};

/// The statement of every transaction that stores something.
const STORES: &str = "insert into tocsin.alert_version";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_46_two_hundred_lost_commit_acknowledgements_double_nothing() -> anyhow::Result<()> {
    let cases = [case("connections that break", lost(198, Loss::Cut)), case("answers that never come", lost(2, Loss::Silence))];
    side_by_side(2, cases).await?;
    Ok(())
}

/// Every swallowed answer belongs to a transaction that did commit: whoever writes it again doubles it, and whoever
/// takes it for failed and goes on loses what follows.
async fn lost(times: u64, loss: Loss) -> anyhow::Result<()> {
    let history = usize::try_from(times)? * 25 / 3 + 200;
    let cloud = Settings { tenants: 3, history, sources: SourceMix::GraphOnly, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }).await?;
    let direct = world.database.as_ref().context("no database")?.url();
    let proxy = PgProxy::start(&direct).await?;
    let config = world.config_for("behind-the-proxy", &proxy.url(&direct)?)?;
    proxy.swallow_commits(times, loss, STORES);
    let mut replicas = [world.serve_config(&config, &[])?, world.serve_config(&config, &[])?];
    let mut changes = Changes::default();
    let mut news = 0;
    while proxy.swallowed() < times {
        // Changes and new alerts besides the history, again and again while answers are lost.
        grown(&world, rows(&world, "dash.alert_version").await?).await.with_context(|| format!("{} swallowed", proxy.swallowed()))?;
        publish_everywhere(&world, 1)?;
        for tenant in world.cloud.tenants() {
            changes.make(&world, &tenant, 1).await?;
        }
        news += 1;
        anyhow::ensure!(news < 1000, "{} of {times} swallowed: {}", proxy.swallowed(), replicas[0].last_words());
    }
    let tally = world.settled(LONG).await?;
    anyhow::ensure!(tally.versions_stored >= tally.stored + changes.count(), "{tally}, {} changes", changes.count());
    anyhow::ensure!(proxy.swallowed() == times, "{} of {times} were swallowed", proxy.swallowed());
    for replica in &mut replicas {
        ready(replica).await?;
        replica.terminate().await?;
    }
    world.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_45_five_immediate_stops_of_postgres_lose_nothing_that_was_committed() -> anyhow::Result<()> {
    const HISTORY: usize = 1500;
    let folder = server_folder()?;
    let mut server = own_postgres(folder.path(), Durability::Full, &[]).await?;
    let database = TestDatabase::create_on(server.url()).await?;
    let cloud = Settings { tenants: 3, history: HISTORY, sources: SourceMix::Mixed, ..Settings::default() };
    let world = World::build_on(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }, Some(database)).await?;
    world.import_all().await?;
    world.cloud.script(Rule::new(Effect::Slow { ms: 40 }));
    let mut replicas = [world.serve()?, world.serve()?];
    let mut changes = Changes::default();
    let mut amid = 0;
    for stop in 0..5 {
        let before = grown(&world, rows(&world, "dash.alert_version").await? + 50 * stop).await?;
        let made = changes.count();
        for tenant in world.cloud.tenants() {
            world.cloud.publish_new(tenant.directory_id, 3)?;
        }
        // Only what is stored from each of its sources can change.
        while changes.count() == made {
            for tenant in world.cloud.tenants() {
                changes.make(&world, &tenant, 2).await?;
            }
            if changes.count() == made {
                grown(&world, rows(&world, "dash.alert_version").await?).await?;
            }
        }
        amid += u32::from(rows(&world, "dash.alert").await? < i64::try_from(3 * HISTORY)?);
        // As `pg_ctl stop -m immediate`: every session ends where it stands, and the next start replays the log.
        signals::send(server.pid(), Signal::QUIT)?;
        tokio::time::timeout(Duration::from_secs(30), server.exited()).await.context("the server does not end")?;
        server = own_postgres(folder.path(), Durability::Full, &[]).await?;
        let after = rows(&world, "dash.alert_version").await?;
        anyhow::ensure!(after >= before, "committed versions are gone: {after} after {before}");
    }
    anyhow::ensure!(amid >= 4, "only {amid} of 5 stops fell into the first sync");
    world.cloud.clear_script();
    let tally = world.settled(SOON).await?;
    anyhow::ensure!(tally.published >= 3 * HISTORY + 45 && changes.count() >= 5, "{tally}, {} changes", changes.count());
    for replica in &mut replicas {
        ready(replica).await?;
        replica.terminate().await?;
    }
    world.database.context("no database")?.pool.close().await;
    server.stop().await?;
    Ok(())
}
