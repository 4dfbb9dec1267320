//! Reading page by page from a source that may sort or not, link or not, cut answers short, or lie: nothing is lost,
//! nothing is stored twice, and what cannot be had is named.

mod endpoint;
mod links;
mod order;
mod poison;
mod stamps;

use std::time::Duration;

use anyhow::ensure;
use e2e::harness::{Setup, Tally, World, eventually};
use simulator::{NextLink, OrderBy, Settings, Source, SourceMix, Stamp};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(60);
const ORDERS: [OrderBy; 3] = [OrderBy::Accepted, OrderBy::Ignored, OrderBy::Refused];
const LINKS: [NextLink; 4] = [NextLink::SkipToken, NextLink::CountingSkipToken, NextLink::Skip, NextLink::Absent];

/// A source with one customer and nothing in it yet.
fn source(order_by: OrderBy, next_link: NextLink) -> Settings {
    Settings { tenants: 1, sources: SourceMix::GraphOnly, order_by, next_link, ..Settings::default() }
}

/// A world in which small pages are read as fast as they come.
async fn world(cloud: Settings, page_size: usize) -> anyhow::Result<World> {
    let config = format!(
        "[poll]\ninterval = \"1s\"\npage_size = {page_size}\n[budget]\ngraph_per_minute = 60000\ndefender_per_minute = 60000\ndefender_per_hour = 1000000"
    );
    World::with_tenants(Setup { cloud, config, ..Setup::default() }).await
}

fn customer(world: &World) -> Uuid {
    world.cloud.tenants()[0].directory_id
}

/// The seconds before now, as a stamp.
fn ago(world: &World, seconds: u64) -> Stamp {
    world.cloud.now().minus(Duration::from_secs(seconds))
}

/// A small alert as Graph would show it.
fn alert(id: &str, updated: Stamp, title: &str) -> String {
    format!(
        r#"{{"id":"{id}","title":"{title}","severity":"low","status":"new","serviceSource":"microsoftDefenderForEndpoint","createdDateTime":"{updated}","lastUpdateDateTime":"{updated}","evidence":[]}}"#
    )
}

/// The same as Defender for Endpoint would show it.
fn endpoint_alert(id: &str, updated: Stamp, title: &str) -> String {
    format!(
        r#"{{"id":"{id}","title":"{title}","severity":"Low","status":"New","alertCreationTime":"{updated}","lastUpdateTime":"{updated}","evidence":[]}}"#
    )
}

/// Publishes so many alerts, a second apart, the youngest so many seconds old; those in a tie (first, last) have equal stamps.
fn publish(world: &World, prefix: &str, count: usize, youngest: u64, ties: &[(usize, usize)]) -> anyhow::Result<()> {
    // One look at the clock for all of them: a tie must not fall apart over the border of a second.
    let now = ago(world, youngest).unix_seconds();
    for number in 0..count {
        let place = ties.iter().find(|tie| (tie.0..=tie.1).contains(&number)).map_or(number, |tie| tie.0);
        let updated = Stamp::from_unix_seconds(now - i64::try_from(count - place)?);
        world.cloud.publish_raw(customer(world), Source::GraphAlerts, alert(&format!("{prefix}{number:05}"), updated, "first"))?;
    }
    Ok(())
}

/// Changes one of the alerts published so: the change has the stamp of now.
fn update(world: &World, id: &str, title: &str) -> anyhow::Result<()> {
    world.cloud.publish_raw(customer(world), Source::GraphAlerts, alert(id, world.cloud.now(), title))
}

/// Waits until at least so many alerts are stored.
async fn stored(world: &World, least: i64) -> anyhow::Result<()> {
    eventually(&format!("{least} alerts are stored"), SOON, async || {
        let count = world.count("select from dash.alert").await.map_err(|error| error.to_string())?;
        if count >= least { Ok(()) } else { Err(count.to_string()) }
    })
    .await
}

async fn no_gap(world: &World) -> anyhow::Result<()> {
    let gaps: Vec<String> = sqlx::query_scalar("select reason from dash.gap").fetch_all(&world.pool().await?).await?;
    ensure!(gaps.is_empty(), "{gaps:?}");
    Ok(())
}

/// Waits until everything is stored, and says in which of several worlds it was not.
async fn settled(world: &World, told: &str) -> anyhow::Result<Tally> {
    world.settled(SOON).await.map_err(|error| error.context(told.to_owned()))
}
