//! Fault 47: a standby takes over that lacks the last commits. What was stored and acknowledged is gone again, and so is
//! the cursor's last move, but whoever still remembers it must not go on from there. I1, I4, I7.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use e2e::harness::{Setup, TestDatabase, World, eventually, signals};
use local_postgres::Durability;
use rustix::process::Signal;
use simulator::{Settings, SourceMix};
use tokio::process::Command;

use super::{SOON, own_postgres, publish_everywhere, ready, rows, server_folder};

/// A short overlap, so that it alone cannot make up for what is lost.
const CONFIG: &str = "[poll]\ninterval = \"1s\"\noverlap = \"1s\"\npage_size = 25\n\
                      [budget]\ngraph_per_minute = 100000\ndefender_per_minute = 100000\ndefender_per_hour = 1000000\n";

#[tokio::test]
async fn fault_47_what_a_failover_has_undone_is_read_again() -> anyhow::Result<()> {
    let folder = server_folder()?;
    let (data, copied) = (folder.path().join("data"), folder.path().join("standby"));
    let server = own_postgres(folder.path(), Durability::Full, &[]).await?;
    let database = TestDatabase::create_on(server.url()).await?;
    let cloud = Settings { tenants: 4, history: 60, sources: SourceMix::Mixed, ..Settings::default() };
    let world = World::build_on(Setup { cloud, config: CONFIG.into(), ..Setup::default() }, Some(database)).await?;
    world.import_all().await?;
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;

    // The state in which the standby is; the daemon lives through this as through any other outage.
    server.stop().await?;
    copy(&data, &copied).await?;
    let mut server = own_postgres(folder.path(), Durability::Full, &[]).await?;
    ready(&daemon).await?;
    publish_everywhere(&world, 50)?;
    world.settled(SOON).await?;
    let before = rows(&world, "dash.alert_version").await?;
    // Newer ones are stored as well, and polls go on until the overlap lies behind all that is going to be lost.
    passes(Duration::from_secs(4)).await?;
    publish_everywhere(&world, 1)?;
    world.settled(SOON).await?;
    passes(Duration::from_secs(4)).await?;

    signals::send(server.pid(), Signal::QUIT)?;
    tokio::time::timeout(Duration::from_secs(30), server.exited()).await.context("the server does not end")?;
    std::fs::remove_dir_all(&data)?;
    copy(&copied, &data).await?;
    let server = own_postgres(folder.path(), Durability::Full, &[]).await?;
    let undone = before - rows(&world, "dash.alert_version").await?;
    assert!(undone >= 200, "only {undone} versions are gone, so this proves little");

    // The same daemon goes on, and nothing is missing in the end.
    publish_everywhere(&world, 1)?;
    let tally = world.settled(SOON).await.context("the daemon that lived through it")?;
    assert_eq!(tally.published, 4 * 112);
    ready(&daemon).await?;
    daemon.terminate().await?;
    world.database.context("no database")?.pool.close().await;
    server.stop().await?;
    Ok(())
}

/// Time that has to pass: here it is the overlap that is waited out.
async fn passes(span: Duration) -> anyhow::Result<()> {
    let begun = tokio::time::Instant::now();
    eventually("the overlap has passed", span * 2, async || if begun.elapsed() >= span { Ok(()) } else { Err(()) }).await
}

/// The standard library cannot keep owners and modes of a whole folder; `cp` is everywhere.
async fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().await?;
    anyhow::ensure!(done.success(), "cp -a ended with {done}");
    Ok(())
}
