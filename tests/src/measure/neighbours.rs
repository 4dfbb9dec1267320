//! What sick customers cost the healthy ones: how late they are polled, with and without them (I10).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use simulator::{Effect, Endpoint, RetryAfter, Rule, Settings, SimTenant, SourceMix, Stamp};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Spans, world_on};
use crate::harness::{Daemon, Setup, World, eventually};

/// Alerts that each customer has from the beginning.
const HISTORY: usize = 5;

/// The world to measure in.
#[derive(Clone, Copy, Debug)]
pub struct Neighbourhood {
    /// Customers in all. A tenth of them is left without an answer, a tenth is throttled.
    pub tenants: usize,
    /// Alerts that one more of them has all at once. Every one of them has to be stored in the end.
    pub flood: usize,
    /// Between two polls of a feed.
    pub interval: Duration,
    /// How often each healthy customer is polled while we watch.
    pub polls: usize,
}

impl Default for Neighbourhood {
    fn default() -> Self {
        Self { tenants: 40, flood: 100_000, interval: Duration::from_secs(2), polls: 20 }
    }
}

/// How late the healthy ones were polled.
#[derive(Clone, Debug)]
pub struct Lateness {
    /// In the same world while nobody was sick.
    pub alone: Spans,
    /// Beside the sick.
    pub beside: Spans,
    /// How many alerts of the one with very many were stored in the end, by the count.
    pub stored: usize,
    /// How long that took.
    pub took: Duration,
}

impl Lateness {
    /// By how much the 99th percentile rose.
    pub fn rise(&self) -> Duration {
        self.beside.quantile(0.99).saturating_sub(self.alone.quantile(0.99))
    }
}

impl fmt::Display for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rise, took) = (self.rise().as_secs_f64(), self.took.as_secs_f64());
        write!(f, "without the sick: {}; beside them: {}; rise of p99 {rise:.2} s; ", self.alone, self.beside)?;
        write!(f, "{} alerts of the one with very many stored in {took:.0} s", self.stored)
    }
}

/// Measures both, on this server or on that of `DATABASE_URL`.
///
/// # Errors
/// When a healthy customer is not polled often enough within some minutes, or when an alert of the one with very many is
/// not stored exactly once in the end.
pub async fn measure_neighbours(place: Neighbourhood, server: Option<&str>) -> anyhow::Result<Lateness> {
    let cloud = Settings { tenants: place.tenants, history: HISTORY, sources: SourceMix::GraphOnly, ..Settings::default() };
    let config = format!("[poll]\ninterval = \"{}ms\"\noverlap = \"2m\"\n", place.interval.as_millis());
    let world = world_on(server, Setup { cloud, config, ..Setup::default() }).await?;
    let tenants = world.cloud.tenants();
    let tenth = place.tenants / 10;
    let (hanging, others) = tenants.split_at(tenth);
    let (throttled, others) = others.split_at(tenth);
    let (flooded, healthy) = others.split_at(1);

    let mut daemon = world.serve()?;
    world.settled(Duration::from_secs(120)).await?;
    let alone = lateness(&world, healthy, place).await?;

    for tenant in hanging {
        world.cloud.script(Rule::new(Effect::Hang).tenant(tenant.directory_id).endpoint(Endpoint::Graph));
    }
    for tenant in throttled {
        let effect = Effect::Throttle { status: 429, retry_after: RetryAfter::Seconds(3) };
        world.cloud.script(Rule::new(effect).tenant(tenant.directory_id).endpoint(Endpoint::Graph));
    }
    world.cloud.publish_new(flooded[0].directory_id, place.flood)?;
    let begun = Instant::now();
    eventually("every sick customer is sick", Duration::from_secs(120), async || {
        let journal = world.cloud.journal();
        let well = |tenant: &&SimTenant| !journal.iter().any(|entry| entry.tenant == Some(tenant.directory_id) && entry.status != 200);
        let well = hanging.iter().chain(throttled).filter(well).count();
        if well == 0 { Ok(()) } else { Err(well) }
    })
    .await?;
    let beside = lateness(&world, healthy, place).await?;

    let stored = all_stored(&world, &daemon, flooded[0].directory_id, place).await?;
    let took = begun.elapsed();
    world.cloud.clear_script();
    daemon.kill().await?;
    world.end().await?;
    Ok(Lateness { alone, beside, stored, took })
}

/// Waits until every alert of the one with very many is stored, while the sick are still sick, and counts.
async fn all_stored(world: &World, daemon: &Daemon, flooded: Uuid, place: Neighbourhood) -> anyhow::Result<usize> {
    let whole = place.tenants * HISTORY + place.flood;
    eventually("everything is stored", Duration::from_secs(600), async || match daemon.metric("tocsin_alerts_stored_total", "").await {
        Ok(stored) if stored >= whole as f64 => Ok(()),
        seen => Err(format!("{seen:?} of {whole}")),
    })
    .await?;
    let tally = world.tally().await?;
    let theirs = |places: &[String]| places.iter().filter(|place| place.starts_with(&flooded.to_string())).count();
    let (lost, twice, unknown) = (theirs(&tally.lost), theirs(&tally.duplicated), theirs(&tally.unknown));
    anyhow::ensure!(lost + twice + unknown == 0, "lost {lost}, twice {twice}, unknown {unknown}\n{tally}");
    let stored = world.count(&format!("select from dash.alert where directory_id = '{flooded}'")).await?;
    Ok(usize::try_from(stored)? - HISTORY)
}

/// Watches until every healthy customer was polled often enough; by how much more than the interval lay between two polls.
async fn lateness(world: &World, healthy: &[SimTenant], place: Neighbourhood) -> anyhow::Result<Spans> {
    world.cloud.clear_journal();
    let limit = place.interval * u32::try_from(place.polls)? * 4 + Duration::from_secs(120);
    let polls = eventually("every healthy customer is polled", limit, async || {
        let polls = polls(world);
        let fewest = healthy.iter().map(|tenant| polls.get(&tenant.directory_id).map_or(0, Vec::len)).min().unwrap_or_default();
        if fewest > place.polls { Ok(polls) } else { Err(fewest) }
    })
    .await?;
    let gaps = healthy.iter().filter_map(|tenant| polls.get(&tenant.directory_id)).flat_map(|times| times.windows(2));
    Ok(gaps
        .map(|pair| Duration::from_nanos(u64::try_from(pair[1] - pair[0]).unwrap_or_default() * 100).saturating_sub(place.interval))
        .collect())
}

/// When each customer was polled, in ticks. What is read again besides asks for a stretch with an end, a poll does not.
fn polls(world: &World) -> BTreeMap<Uuid, Vec<i64>> {
    let mut polls: BTreeMap<Uuid, Vec<i64>> = BTreeMap::new();
    for entry in world.cloud.journal().into_iter().filter(|entry| entry.endpoint == Endpoint::Graph) {
        let has_an_end = [" lt ", "+lt+", "%20lt%20"].iter().any(|word| entry.query.contains(word));
        if let (Some(tenant), Some(at), false) = (entry.tenant, Stamp::parse(&entry.at), has_an_end) {
            polls.entry(tenant).or_default().push(at.ticks());
        }
    }
    polls
}
