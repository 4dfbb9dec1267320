//! Figures that stories bound loosely and `./dev bench` reports exactly.

pub mod charts;
pub mod drain;
mod figures;
pub mod growth;
pub mod handover;
pub mod idle;
pub mod ingest;
pub mod neighbours;
pub mod pages;
pub mod peers;
pub mod pictures;
pub mod refresh;
pub mod replicas;
pub mod rotation;
pub mod start;

use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;

use crate::harness::{Setup, TestDatabase, World};

/// A world on this server, or on the one that `DATABASE_URL` names; every customer is imported.
async fn world_on(server: Option<&str>, setup: Setup) -> anyhow::Result<World> {
    let world = empty_world_on(server, setup).await?;
    world.import_all().await?;
    Ok(world)
}

/// The same with no customer yet.
async fn empty_world_on(server: Option<&str>, setup: Setup) -> anyhow::Result<World> {
    let database = match server {
        Some(url) => TestDatabase::create_on(url).await?,
        None => TestDatabase::create().await?,
    };
    World::build_on(setup, Some(database)).await
}

/// The process above all others of the server.
async fn postmaster(pool: &PgPool) -> anyhow::Result<u32> {
    let folder: String = sqlx::query_scalar("show data_directory").fetch_one(pool).await?;
    let text = std::fs::read_to_string(std::path::Path::new(&folder).join("postmaster.pid"))?;
    Ok(text.lines().next().context("an empty postmaster.pid")?.trim().parse()?)
}

/// Some spans of time, for their quantiles.
#[derive(Clone, Debug, Default)]
pub struct Spans(Vec<Duration>);

impl Spans {
    /// Of these.
    pub fn new(mut spans: Vec<Duration>) -> Self {
        spans.sort_unstable();
        Self(spans)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The span that this share (0 to 1) of all does not exceed. Zero when there are none.
    pub fn quantile(&self, share: f64) -> Duration {
        let place = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(place.clamp(1, self.0.len().max(1)) - 1).copied().unwrap_or_default()
    }

    /// The longest. Zero when there are none.
    pub fn max(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }
}

impl FromIterator<Duration> for Spans {
    fn from_iter<I: IntoIterator<Item = Duration>>(spans: I) -> Self {
        Self::new(spans.into_iter().collect())
    }
}

impl std::fmt::Display for Spans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = |span: Duration| span.as_secs_f64();
        let (half, most, longest) = (seconds(self.quantile(0.5)), seconds(self.quantile(0.99)), seconds(self.max()));
        write!(f, "p50 {half:.2} s, p99 {most:.2} s, max {longest:.2} s of {}", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_spans_that_occurred() {
        let spans: Spans = (1..=200).rev().map(Duration::from_secs).collect();
        assert_eq!(spans.quantile(0.5), Duration::from_secs(100));
        assert_eq!(spans.quantile(0.99), Duration::from_secs(198));
        assert_eq!((spans.quantile(0.0), spans.quantile(1.0)), (Duration::from_secs(1), spans.max()));
        assert_eq!(Spans::default().quantile(0.99), Duration::ZERO);
        assert_eq!(spans.to_string(), "p50 100.00 s, p99 198.00 s, max 200.00 s of 200");
    }
}
