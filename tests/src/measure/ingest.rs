//! What many alerts cost, from their pages to their rows: read for the first time, read again with nothing new, and with a
//! tenth of them changed. CPU seconds of the program that reads and of Postgres are counted apart from each other and from
//! the simulator, which is part of this process.
//!
//! A figure by itself says as much about the machine as about the daemon. So each run has the limits and the competitors
//! beside it, against the same simulator and the same server: how fast pages can be had at all (`drain`), how fast Postgres
//! takes the same rows by COPY (`peers::copy`), and the programs one would have instead (`peers`).

pub(super) mod daemon;
mod disk;
mod lines;
mod pass;

use simulator::{NextLink, Settings, SourceMix};

use super::drain::{Drained, drain};
use super::peers::copy::{Copied, Rows, copy};
use super::peers::{Outcome, Peer, peer};
use super::world_on;
use crate::harness::{Setup, World};

pub use disk::Disk;
pub use lines::lines;
pub(super) use lines::of_passes;
pub use pass::{Ground, Meter, Pass, Passes};

/// Customers of whom the alerts are.
const TENANTS: usize = 20;

/// Who has fewer alerts is read in pages of a quarter of them, so that there are several pages all the same.
const SEVERAL_PAGES: usize = 1000;

/// One run of everybody.
#[derive(Debug)]
pub struct Run {
    /// All pages, read and thrown away.
    pub drained: Drained,
    /// The daemon.
    pub tocsin: Passes,
    /// The daemon, where no page links to the next one.
    pub without_links: Passes,
    /// What it has stored takes so much room, after all three passes.
    pub disk: Disk,
    /// COPY of the same rows on one connection and on two.
    pub copies: [Copied; 2],
    /// The competitors.
    pub peers: Vec<(Peer, Outcome)>,
}

/// A pretend Microsoft with so many alerts of each of its customers, all of the last day.
pub(super) fn cloud(seed: u64, tenants: usize, history: usize) -> Settings {
    Settings {
        seed,
        tenants,
        history,
        history_days: 1,
        sources: SourceMix::GraphOnly,
        // Every body is rendered once: the simulator is never the limit.
        cache_bytes: 2 << 30,
        journal_limit: 100_000,
        ..Settings::default()
    }
}

/// Lets the daemon and these competitors read so many alerts of twenty customers, one after the other, with databases on this
/// server.
///
/// # Errors
/// When the daemon does not end a pass within its time. A competitor that fails is told in its outcome.
pub async fn ingest(server: &str, alerts: usize, seed: u64, competitors: &[Peer]) -> anyhow::Result<Run> {
    let history = (alerts / TENANTS).max(1);
    let mut world = world(server, seed, history, NextLink::SkipToken).await?;
    // Puts every body into the cache, before anybody is measured.
    drain(&world.cloud).await?;
    let drained = drain(&world.cloud).await?;

    let ground = Ground::new(&world.cloud, server).await?;
    let tocsin = daemon::passes(&world, &ground).await?;
    let pool = world.pool().await?;
    let disk = Disk::of(&pool).await?;
    let rows = Rows::stored_first(&pool).await?;
    let copies = [copy(&ground, &pool, &rows, 1).await?, copy(&ground, &pool, &rows, 2).await?];
    drop((rows, ground, pool));
    // Nobody's vacuum runs in somebody else's pass.
    if let Some(database) = world.database.take() {
        database.drop_now().await?;
    }

    let ground = Ground::new(&world.cloud, server).await?;
    let mut peers = Vec::new();
    for which in competitors.iter().copied() {
        peers.push((which, peer(which, &ground, &world.path(which.name())).await));
    }
    drop(ground);
    world.end().await?;
    Ok(Run { drained, tocsin, without_links: without_links(server, seed, history).await?, disk, copies, peers })
}

/// The daemon once more, with pages that do not say where the next one is, as the field reports them.
async fn without_links(server: &str, seed: u64, history: usize) -> anyhow::Result<Passes> {
    let world = world(server, seed, history, NextLink::Absent).await?;
    let passes = daemon::passes(&world, &Ground::new(&world.cloud, server).await?).await?;
    world.end().await?;
    Ok(passes)
}

async fn world(server: &str, seed: u64, history: usize, next_link: NextLink) -> anyhow::Result<World> {
    let page = (history < SEVERAL_PAGES).then(|| (history / 4).max(10));
    let cloud = Settings { next_link, ..cloud(seed, TENANTS, history) };
    world_on(Some(server), Setup { cloud, config: daemon::config(page), ..Setup::default() }).await
}
