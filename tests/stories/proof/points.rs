//! Every named step of refresh, fetch, split, commit, cursor and lease × error, panic, abort: after each of them everything
//! published is stored, once. Faults 46, 56, 60; I1, I3, I30, I33. (The fourth action, a delay longer than the lease, is in
//! `late.rs`.)
//!
//! One world for each point, one life of the daemon for each action. That the point was passed is shown by the daemon's
//! output, which says so before it acts.

use std::time::Duration;

use anyhow::Context;
use domain::rehearsal::POINTS;
use e2e::harness::{Daemon, Setup, World, eventually, side_by_side, signals};
use simulator::{Settings, SourceMix};

use super::{LONG, SOON, not_active, publish_everywhere, rows, says};

/// Short-lived access tokens, so that there are redemptions all the time, and many small pages.
const CONFIG: &str = "[poll]\ninterval = \"1s\"\noverlap = \"2m\"\npage_size = 10\n\
                      [budget]\ngraph_per_minute = 100000\ndefender_per_minute = 100000\ndefender_per_hour = 1000000\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Error,
    Panic,
    Abort,
}

#[tokio::test]
async fn fault_60_whatever_happens_at_a_named_step_everything_is_stored_once() -> anyhow::Result<()> {
    side_by_side(5, POINTS.iter().map(|point| ((*point).to_owned(), every_action_at(point)))).await?;
    Ok(())
}

/// At which passing of a process' life the point acts: amid work, and where it is passed seldom, at the first or second.
fn passing(point: &str) -> u32 {
    match point {
        "lease.before-claim" | "lease.claimed" | "lease.before-release" | "cursor.read" => 1,
        "refresh.before-call" | "refresh.answered" | "refresh.before-save" | "refresh.saved" | "lease.before-renew" | "lease.renewed" => 2,
        _ => 4,
    }
}

async fn every_action_at(point: &'static str) -> anyhow::Result<()> {
    let access_lifetime = (Duration::from_secs(3), Duration::from_secs(4));
    let cloud = Settings { tenants: 2, history: 20, sources: SourceMix::Both, updates: 0.0, access_lifetime, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, config: CONFIG.into(), ..Setup::default() }).await?;
    for action in [Action::Error, Action::Panic, Action::Abort] {
        life(&world, point, action).await.with_context(|| format!("{action:?} at {point}"))?;
    }
    let mut daemon = world.serve()?;
    publish_everywhere(&world, 1)?;
    world.settled(SOON).await?;
    eventually("everybody is active", SOON, async || match not_active(&world).await {
        Ok(told) if told.is_empty() => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await?;
    anyhow::ensure!(rows(&world, "dash.quarantine").await? == 0, "good records are in quarantine");
    anyhow::ensure!(rows(&world, "dash.gap where healed_at is null").await? == 0, "a gap is told where there is none");
    daemon.terminate().await?;
    world.end().await
}

/// One life in which the point acts, and if the daemon does not survive it, another one after it.
async fn life(world: &World, point: &str, action: Action) -> anyhow::Result<()> {
    let passing = passing(point);
    let rehearsal = format!("{point}={}@{passing}", format!("{action:?}").to_lowercase());
    let mut daemon = world.serve_with(&[("TOCSIN_REHEARSAL", &rehearsal)])?;
    // Something happens all the time, so that every step is passed with work at hand.
    world.cloud.set_rate(15.0);
    let words = format!("rehearsal: {action:?} at {point}");
    if point == "lease.before-release" {
        // Leases are given back when a replica stops.
        says(&daemon, "the ops endpoint listens", SOON).await?;
        super::holds(&daemon, 2).await?;
        signals::terminate(daemon.pid()?)?;
    }
    says(&daemon, &words, SOON).await?;
    world.cloud.set_rate(0.0);
    publish_everywhere(world, 2)?;

    let ended = match action {
        Action::Abort => Some(daemon.ended(Duration::from_secs(10)).await?),
        _ if point == "lease.before-release" => Some(daemon.ended(Duration::from_secs(15)).await?),
        // A daemon lives through an error. A panic ends it, with a word about where, unless it was somewhere that can be
        // begun again; then everything goes on.
        _ => tokio::select! {
            biased;
            settled = world.settled(SOON) => settled.map(|_| None).with_context(|| daemon.last_words())?,
            ended = daemon.ended(LONG) => Some(ended?),
        },
    };
    match (action, ended) {
        (Action::Abort, Some(status)) => {
            use std::os::unix::process::ExitStatusExt;
            anyhow::ensure!(status.signal() == Some(6), "it ended with {status} and not by abort:\n{}", daemon.last_words());
        }
        (Action::Panic, Some(status)) if point != "lease.before-release" => {
            anyhow::ensure!(status.code() == Some(1), "it ended with {status}:\n{}", daemon.last_words());
            anyhow::ensure!(daemon.log()?.contains("panicked"), "it does not say who panicked:\n{}", daemon.last_words());
        }
        (Action::Error, Some(status)) => {
            anyhow::ensure!(point == "lease.before-release" && status.success(), "it ended with {status}:\n{}", daemon.last_words());
        }
        (_, Some(_)) => {}
        (_, None) => return stops_well(&mut daemon).await,
    }
    let mut next = world.serve()?;
    world.settled(SOON).await.with_context(|| next.last_words())?;
    stops_well(&mut next).await
}

async fn stops_well(daemon: &mut Daemon) -> anyhow::Result<()> {
    // It may be found settled before it was even up: whoever is stopped then has nothing to stop.
    daemon.ops_address().await?;
    daemon.terminate().await
}
