//! How long the question behind each panel takes, of a database with so many alerts, asked by a reader.

use std::time::Duration;

use anyhow::Context;
use panels::{Kind, Panel, Source, boards};
use simulator::Settings;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::Instant;

use super::world_on;
use crate::harness::{Chosen, Setup, fill};

/// One panel with the choice that it answers slowest.
#[derive(Clone, Debug)]
pub struct Slowest {
    /// Board and panel.
    pub panel: String,
    /// What was chosen, in words.
    pub chosen: String,
    /// The median of the times asked.
    pub took: Duration,
    /// Every choice: its words, and the median.
    pub all: Vec<(String, Duration)>,
}

/// Fills a database on this server, then asks each question so many times for each choice; the slowest panels come first.
///
/// # Errors
/// When a question is refused.
pub async fn pictures(server: &str, alerts: u32, tenants: u32, times: usize) -> anyhow::Result<Vec<Slowest>> {
    let cloud = Settings { tenants: 1, history: 0, ..Settings::default() };
    let world = world_on(Some(server), Setup { cloud, ..Setup::default() }).await?;
    let database = world.database.as_ref().context("no database")?;
    let pool = PgPool::connect(&database.url()).await?;
    fill(&pool, alerts, tenants).await?;
    // What autovacuum would have done within minutes.
    sqlx::raw_sql("vacuum analyze").execute(&pool).await?;
    let choices = Chosen::all(&pool).await?;
    let mut found = Vec::new();
    for board in boards::ALL.iter().filter(|board| board.source == Source::Postgres) {
        for panel in board.panels {
            let mut all = Vec::new();
            for chosen in &choices {
                let sql = chosen.statement(panel.query, chosen.interval(least(panel)))?;
                let mut spans = Vec::new();
                for _ in 0..times {
                    spans.push(ask(&pool, &sql).await.with_context(|| format!("{}: {} ({})", board.title, panel.title, chosen.words))?);
                }
                spans.sort_unstable();
                all.push((chosen.words.clone(), spans[spans.len() / 2]));
            }
            let (chosen, took) = all.iter().max_by_key(|(_, took)| *took).cloned().context("no choice")?;
            found.push(Slowest { panel: format!("{}: {}", board.title, panel.title), chosen, took, all });
        }
    }
    pool.close().await;
    world.end().await?;
    found.sort_by_key(|panel| std::cmp::Reverse(panel.took));
    Ok(found)
}

/// What its series wants at least, in seconds; nothing else knows of a step.
fn least(panel: &Panel) -> u64 {
    match panel.kind {
        Kind::Bars(least) | Kind::Lines(least) => u64::from(least),
        _ => 1,
    }
}

/// As a customer's dashboard would: by somebody who may read `dash` and nothing else, on a connection that is warm.
async fn ask(pool: &PgPool, sql: &str) -> anyhow::Result<Duration> {
    let mut transaction = pool.begin().await?;
    sqlx::raw_sql("set local role tocsin_reader; set transaction read only; set local statement_timeout = '60s'")
        .execute(&mut *transaction)
        .await?;
    let asked = Instant::now();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut *transaction).await?;
    Ok(asked.elapsed())
}
