//! How long customers wait when their replica goes: asked to stop, killed, or gone with its machine.
//!
//! Measured from outside: from the signal until the other replica asks Microsoft about the customer, by the pretend
//! Microsoft's own journal. Who asks is told apart by the access token, since each replica redeems its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use simulator::{Endpoint, JournalEntry, Settings, SourceMix, Stamp};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Spans, world_on};
use crate::harness::{Daemon, Setup, World, eventually, serve_elsewhere, side_by_side, signals};

/// How a replica goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// SIGTERM.
    Asked,
    /// `kill -9`, with its successor on the same machine, which can see that it is gone.
    Killed,
    /// `kill -9` on another machine, as far as the successor can tell: nothing says that it is gone but its lease.
    KilledElsewhere,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Takeovers {
    /// Per customer of the replica that went: until the other one polled it.
    pub waits: Spans,
    /// Per replica that was asked to stop: until its process had ended.
    pub exits: Spans,
    /// How it was done where there is more than one way, in words.
    pub how: &'static str,
}

/// Lets one of two replicas go in each of so many worlds, side by side, on this server or on that of `DATABASE_URL`.
///
/// # Errors
/// When a customer is not taken over within two minutes, or a count does not fit afterwards.
pub async fn takeovers(ending: Ending, worlds: usize, tenants: usize, at_once: usize, server: Option<&str>) -> anyhow::Result<Takeovers> {
    let cases = (0..worlds).map(|number| (format!("{ending:?} {number}"), takeover(ending, number, tenants, server.map(str::to_owned))));
    let seen = side_by_side(at_once, cases).await?;
    let how = seen.first().map_or("", |one| one.how);
    let waits = seen.iter().flat_map(|one| one.waits.iter().copied()).collect();
    Ok(Takeovers { waits, exits: seen.iter().filter_map(|one| one.exit).collect(), how })
}

struct Seen {
    waits: Vec<Duration>,
    exit: Option<Duration>,
    how: &'static str,
}

async fn takeover(ending: Ending, number: usize, tenants: usize, server: Option<String>) -> anyhow::Result<Seen> {
    let cloud = Settings { seed: number as u64, tenants, history: 5, sources: SourceMix::GraphOnly, ..Settings::default() };
    let world = world_on(server.as_deref(), Setup { cloud, ..Setup::default() }).await?;
    let (mut first, other_host) = start(&world, ending, "first").await?;
    world.settled(Duration::from_secs(120)).await?;
    let of_first = tokens(&polls(&world));
    let (mut second, _) = start(&world, ending, "second").await?;
    holds(&first, tenants.div_ceil(2)).await?;
    holds(&second, tenants / 2).await?;
    world.settled(Duration::from_secs(120)).await?;
    // Leases are renewed every ten seconds: each world is somewhere else between two renewals.
    polled_again(&world, &world.cloud.tenants()[0].directory_id, 2 * (number % 5)).await?;

    let (before, mine) = eventually("each replica polls its half", Duration::from_secs(120), async || {
        let before = polls(&world);
        let latest: BTreeMap<Uuid, &JournalEntry> = before.iter().filter_map(|entry| Some((entry.tenant?, entry))).collect();
        let mine = latest.iter().filter(|(_, entry)| entry.token.as_ref().is_some_and(|token| of_first.contains(token)));
        let mine: Vec<Uuid> = mine.map(|(tenant, _)| *tenant).collect();
        if mine.len() == tenants.div_ceil(2) { Ok((before, mine)) } else { Err(mine.len()) }
    })
    .await?;
    let known = tokens(&before);
    for tenant in world.cloud.tenants() {
        world.cloud.publish_new(tenant.directory_id, 2)?;
    }

    let (at, begun) = (world.cloud.now(), Instant::now());
    let mut exit = None;
    let how = match (ending, other_host) {
        (Ending::Asked, _) => {
            first.terminate().await?;
            exit = Some(begun.elapsed());
            "SIGTERM"
        }
        (Ending::Killed, _) => {
            first.kill().await?;
            "kill -9, both replicas on one machine"
        }
        (Ending::KilledElsewhere, true) => {
            first.kill().await?;
            "kill -9, each replica under a host name of its own"
        }
        (Ending::KilledElsewhere, false) => {
            signals::freeze(first.pid()?).await?;
            "frozen for good, since this system gives nobody a host name of its own"
        }
    };
    let waits = eventually("every customer is taken over", Duration::from_secs(120), async || {
        let polls = polls(&world);
        let taken = |tenant: &Uuid| {
            let by_other = |entry: &&JournalEntry| entry.token.as_ref().is_some_and(|token| !known.contains(token));
            let first = polls.iter().filter(|entry| entry.tenant == Some(*tenant)).find(by_other)?;
            Some(since(at, &first.at))
        };
        let waits: Vec<_> = mine.iter().filter_map(taken).collect();
        if waits.len() == mine.len() { Ok(waits) } else { Err(format!("{} of {}", waits.len(), mine.len())) }
    })
    .await?;
    world.settled(Duration::from_secs(120)).await?;
    second.terminate().await?;
    world.end().await?;
    Ok(Seen { waits: waits.into_iter().collect::<anyhow::Result<_>>()?, exit, how })
}

/// A replica; and whether it has a host name of its own.
async fn start(world: &World, ending: Ending, host: &str) -> anyhow::Result<(Daemon, bool)> {
    if ending == Ending::KilledElsewhere
        && let Some(command) = serve_elsewhere(&world.config, host).await?
    {
        return Ok((Daemon::spawn(command, &world.next_log())?, true));
    }
    Ok((world.serve()?, false))
}

/// Every answered request for alerts so far, oldest first.
fn polls(world: &World) -> Vec<JournalEntry> {
    world.cloud.journal().into_iter().filter(|entry| entry.endpoint == Endpoint::Graph && entry.status == 200).collect()
}

fn tokens(polls: &[JournalEntry]) -> BTreeSet<String> {
    polls.iter().filter_map(|entry| entry.token.clone()).collect()
}

fn since(at: Stamp, text: &str) -> anyhow::Result<Duration> {
    let ticks = Stamp::parse(text).context("the journal's time cannot be read")?.ticks() - at.ticks();
    Ok(Duration::from_nanos(u64::try_from(ticks).unwrap_or_default() * 100))
}

async fn holds(daemon: &Daemon, tenants: usize) -> anyhow::Result<()> {
    eventually("the customers are shared", Duration::from_secs(120), async || match daemon.metric("tocsin_lease_held", "").await {
        Ok(held) if held == tenants as f64 => Ok(()),
        seen => Err(format!("{seen:?}, not {tenants}: {}", daemon.last_words())),
    })
    .await
}

/// Waits until a customer has been polled so many times more.
async fn polled_again(world: &World, tenant: &Uuid, times: usize) -> anyhow::Result<()> {
    let count = || polls(world).iter().filter(|entry| entry.tenant == Some(*tenant)).count();
    let before = count();
    eventually("the customer is polled again", Duration::from_secs(120), async || {
        let now = count();
        if now >= before + times { Ok(()) } else { Err(now - before) }
    })
    .await
}
