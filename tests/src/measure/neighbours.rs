//! What sick customers cost the healthy ones: how late they are polled, with and without them (I10).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use simulator::{Effect, Endpoint, RetryAfter, Rule, Settings, SimTenant, SourceMix, Stamp};
use uuid::Uuid;

use super::Spans;
use crate::harness::{Setup, World, eventually};

/// The world to measure in.
#[derive(Clone, Copy, Debug)]
pub struct Neighbourhood {
    /// Customers in all. A tenth of them is left without an answer, a tenth is throttled.
    pub tenants: usize,
    /// Alerts that one more of them has.
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
}

impl Lateness {
    /// By how much the 99th percentile rose.
    pub fn rise(&self) -> Duration {
        self.beside.quantile(0.99).saturating_sub(self.alone.quantile(0.99))
    }
}

impl fmt::Display for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "without the sick: {}; beside them: {}; rise of p99 {:.2} s", self.alone, self.beside, self.rise().as_secs_f64())
    }
}

/// Measures both.
///
/// # Errors
/// When a healthy customer is not polled often enough within some minutes.
pub async fn measure_neighbours(place: Neighbourhood) -> anyhow::Result<Lateness> {
    let cloud = Settings { tenants: place.tenants, history: 5, sources: SourceMix::GraphOnly, ..Settings::default() };
    let config = format!("[poll]\ninterval = \"{}ms\"\noverlap = \"2m\"\n", place.interval.as_millis());
    let world = World::with_tenants(Setup { cloud, config, ..Setup::default() }).await?;
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
    eventually("every sick customer is sick", Duration::from_secs(120), async || {
        let journal = world.cloud.journal();
        let well = |tenant: &&SimTenant| !journal.iter().any(|entry| entry.tenant == Some(tenant.directory_id) && entry.status != 200);
        let well = hanging.iter().chain(throttled).filter(well).count();
        if well == 0 { Ok(()) } else { Err(well) }
    })
    .await?;
    let beside = lateness(&world, healthy, place).await?;

    world.cloud.clear_script();
    daemon.kill().await?;
    world.end().await?;
    Ok(Lateness { alone, beside })
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
