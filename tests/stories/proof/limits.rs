//! Faults 58, 61, 62 and 64: what the host denies: time to end in, processor time, descriptors, a place for its words. I1, I32.

use std::process::Stdio;
use std::time::Duration;

use e2e::harness::process::tocsin;
use e2e::harness::{Daemon, Setup, World, eventually, side_by_side, signals};
use rustix::process::Signal;
use simulator::{Effect, Endpoint, Rule, Settings, SourceMix};
use tokio::process::Command;
use tokio::time::Instant;

use super::{LONG, SMALL_PAGES, SOON, case, grown, publish_everywhere, rows, says};

#[tokio::test]
async fn faults_58_61_62_and_64_what_the_host_denies_loses_nothing() -> anyhow::Result<()> {
    let cases = [
        case("fault 58: a second SIGTERM", second_sigterm()),
        case("fault 61: hardly any processor time", stutters()),
        case("fault 62: few descriptors", few_descriptors()),
        case("fault 64: a full disk of logs", nowhere_to_log("/dev/full")),
        case("fault 64: no standard output at all", nowhere_to_log("&-")),
    ];
    side_by_side(5, cases).await?;
    Ok(())
}

/// `tocsin serve` started by a shell that does this first.
fn serve_after(world: &World, shell: &str) -> anyhow::Result<Command> {
    let inner = tocsin(&world.config, &["serve"])?;
    let inner = inner.as_std();
    let mut command = Command::new("sh");
    command.arg("-c").arg(shell).arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.kill_on_drop(true).stdin(Stdio::null());
    Ok(command)
}

async fn world(tenants: usize, history: usize) -> anyhow::Result<World> {
    let cloud = Settings { tenants, history, sources: SourceMix::Both, ..Settings::default() };
    World::with_tenants(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }).await
}

/// In the middle of its work, and with a redemption in flight that the first SIGTERM would wait for.
async fn second_sigterm() -> anyhow::Result<()> {
    let world = world(3, 400).await?;
    for round in 0..4 {
        let endpoint = if round % 2 == 0 { Endpoint::Token } else { Endpoint::Graph };
        let stored = rows(&world, "dash.alert_version").await?;
        let mut daemon = world.serve()?;
        if round % 2 == 1 {
            grown(&world, stored).await?;
        }
        world.cloud.clear_journal();
        world.cloud.script(Rule::new(Effect::Hang).endpoint(endpoint));
        eventually("a request hangs", SOON, async || {
            if world.cloud.journal().iter().any(|entry| entry.endpoint == endpoint && entry.status == 0) { Ok(()) } else { Err(()) }
        })
        .await?;
        daemon.signal(Signal::TERM)?;
        says(&daemon, "once more ends at once", SOON).await?;
        let begun = Instant::now();
        // The first one may have been enough already.
        let _ = daemon.signal(Signal::TERM);
        let status = daemon.ended(Duration::from_secs(5)).await?;
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(2) && status.code() == Some(0), "{status} after {:?}", begun.elapsed());
        world.cloud.clear_script();
        publish_everywhere(&world, 5)?;
    }
    let mut daemon = world.serve()?;
    world.settled(LONG).await?;
    daemon.terminate().await?;
    world.end().await
}

/// Requests that the pretend Microsoft has answered so far.
fn asked(world: &World) -> u64 {
    world.cloud.journal_totals().values().sum()
}

/// For half a minute the process comes as far as one request and then stands still for a whole second.
async fn stutters() -> anyhow::Result<()> {
    let world = world(3, 400).await?;
    let mut daemon = world.serve()?;
    grown(&world, 0).await?;
    let pid = daemon.pid()?;
    for _ in 0..25 {
        signals::freeze(pid).await?;
        publish_everywhere(&world, 1)?;
        let until = world.cloud.now().plus(Duration::from_secs(1));
        let asked = asked(&world);
        eventually("a second goes by", SOON, async || if world.cloud.now() >= until { Ok(()) } else { Err(()) }).await?;
        signals::wake(pid)?;
        eventually("it comes as far as one request", SOON, async || if self::asked(&world) > asked { Ok(()) } else { Err(asked) }).await?;
    }
    world.settled(LONG).await?;
    anyhow::ensure!(!daemon.log()?.contains("panicked"), "{}", daemon.last_words());
    daemon.terminate().await?;
    world.end().await
}

/// Fewer than it needs: its own system refuses it connections and files. It says so, and loses nothing over it.
async fn few_descriptors() -> anyhow::Result<()> {
    let world = world(12, 60).await?;
    // Enough to start with, and not enough for the connections that twelve customers need at once.
    let command = serve_after(&world, "ulimit -n 22; exec \"$0\" \"$@\"")?;
    let mut daemon = Daemon::spawn(command, &world.next_log())?;
    says(&daemon, "Too many open files", SOON).await?;
    publish_everywhere(&world, 3)?;
    anyhow::ensure!(!daemon.log()?.contains("panicked"), "{}", daemon.last_words());
    daemon.terminate().await?;
    let mut daemon = world.serve()?;
    publish_everywhere(&world, 1)?;
    world.settled(LONG).await?;
    daemon.terminate().await?;
    world.end().await
}

/// What it would say gets nowhere.
async fn nowhere_to_log(place: &str) -> anyhow::Result<()> {
    let world = world(3, 200).await?;
    let command = serve_after(&world, &format!("exec \"$0\" \"$@\" >{place} 2>{place}"))?;
    let mut daemon = Daemon::spawn(command, &world.next_log())?;
    world.settled(SOON).await?;
    // Something to warn of, again and again.
    world.cloud.script(Rule::new(Effect::Html { status: 200 }).endpoint(Endpoint::Graph).times(10));
    publish_everywhere(&world, 20)?;
    world.settled(SOON).await?;
    daemon.terminate().await?;
    world.end().await
}
