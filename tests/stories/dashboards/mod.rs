//! The dashboards and the report: whether the files are sound, whether every question is answered, whether figures are
//! true, and what the page looks like to a browser.

mod files;
mod numbers;
mod questions;
mod report;

use anyhow::Context;
use e2e::harness::{Setup, World, fill};
use serde_json::Value;
use simulator::Settings;
use sqlx::PgPool;
use tokio::sync::OnceCell;

/// As many alerts as draw every picture, and no more.
const ALERTS: u32 = 20_000;
const TENANTS: u32 = 12;

static FILLED: OnceCell<World> = OnceCell::const_new();

/// A world whose database is filled; nobody changes it, so that the stories share it.
async fn filled() -> anyhow::Result<&'static World> {
    FILLED
        .get_or_try_init(async || {
            let world = empty().await?;
            fill(&pool(&world).await?, ALERTS, TENANTS).await?;
            Ok(world)
        })
        .await
}

/// A world in which nothing has happened yet.
async fn empty() -> anyhow::Result<World> {
    World::build(Setup { cloud: Settings { tenants: 1, history: 0, ..Settings::default() }, ..Setup::default() }).await
}

/// Connections of the story's own: those of another end with it.
async fn pool(world: &World) -> anyhow::Result<PgPool> {
    Ok(PgPool::connect(&world.database.as_ref().context("no database")?.url()).await?)
}

/// Every dashboard, as it lies in the folder.
fn files() -> anyhow::Result<Vec<(String, Value)>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/grafana/dashboards");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        found.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), serde_json::from_slice(&std::fs::read(&path)?)?));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
