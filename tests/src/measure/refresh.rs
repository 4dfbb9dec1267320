//! Thousands of customers who all need a new access token at the same moment, as after a day's outage (I12): how soon each
//! has one, and what the sign-in service saw of it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use simulator::{Endpoint, JournalEntry, Settings, SourceMix, Stamp};
use tokio::time::Instant;

use super::world_on;
use crate::harness::{Setup, World, eventually};

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub struct Refreshed {
    /// From the start of the daemon until every customer had a token.
    pub took: Duration,
    /// The most redemptions that came in within one second, wherever it begins, by the clock of the sign-in service.
    pub busiest_second: usize,
    /// All redemptions.
    pub redemptions: usize,
    /// Those that were refused.
    pub refused: usize,
}

/// Starts a daemon for so many customers twice: for the first time, and after an outage that all access tokens have not
/// survived. The second time counts.
///
/// # Errors
/// When not everybody has a token within ten minutes.
pub async fn refresh_all(tenants: usize, server: Option<&str>) -> anyhow::Result<Refreshed> {
    let cloud = Settings { tenants, history: 0, sources: SourceMix::GraphOnly, journal_limit: 200_000, ..Settings::default() };
    let config = "[poll]\ninterval = \"10m\"\n".to_owned();
    let world = world_on(server, Setup { cloud, config, ..Setup::default() }).await?;
    let first = once(&world, tenants).await?;
    anyhow::ensure!(first.redemptions == tenants && first.refused == 0, "{first:?}");
    let seen = once(&world, tenants).await?;
    world.end().await?;
    Ok(seen)
}

async fn once(world: &World, tenants: usize) -> anyhow::Result<Refreshed> {
    world.cloud.clear_journal();
    let begun = Instant::now();
    let mut daemon = world.serve()?;
    let journal = eventually("every customer has a token", Duration::from_secs(600), async || {
        let journal: Vec<JournalEntry> = world.cloud.journal().into_iter().filter(|entry| entry.endpoint == Endpoint::Token).collect();
        let served: BTreeSet<_> = journal.iter().filter(|entry| entry.status == 200).filter_map(|entry| entry.tenant).collect();
        if served.len() == tenants { Ok(journal) } else { Err(format!("{} of {tenants}", served.len())) }
    })
    .await?;
    let took = begun.elapsed();
    daemon.terminate().await?;
    let times: Option<Vec<i64>> = journal.iter().map(|entry| Some(Stamp::parse(&entry.at)?.ticks())).collect();
    let mut times = times.context("the journal's time cannot be read")?;
    times.sort_unstable();
    Ok(Refreshed {
        took,
        busiest_second: busiest_second(&times),
        redemptions: journal.len(),
        refused: journal.iter().filter(|entry| entry.status != 200).count(),
    })
}

/// The most of these moments (ticks, in order) that lie within one second.
fn busiest_second(times: &[i64]) -> usize {
    const SECOND: i64 = 10_000_000;
    let mut first = 0;
    let counts = times.iter().enumerate().map(|(index, at)| {
        while *at >= times[first] + SECOND {
            first += 1;
        }
        index - first + 1
    });
    counts.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::busiest_second;

    #[test]
    fn the_busiest_second_begins_anywhere() {
        assert_eq!(busiest_second(&[]), 0);
        assert_eq!(busiest_second(&[0, 5_000_000, 9_999_999, 10_000_000, 14_999_999, 30_000_000]), 4);
    }
}
