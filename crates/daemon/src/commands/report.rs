//! `tocsin report`: the panels of the dashboards as one HTML file that needs nothing else.
//!
//! The questions are those of the table of panels, asked in one transaction that reads and nothing more, so that all
//! pictures show the same instant.

mod answer;
mod chart;
mod page;
mod words;

use std::path::Path;

use domain::{Clock, SystemClock, TenantId, Ticks};
use panels::{Board, Kind, Panel, SEVERITIES, Source, boards, template};
use serde::Serialize;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tenant_registry::Registry;

use super::Setting;
use crate::cli::Report;
use crate::failure::{Exit, Failure};
use answer::Answer;

/// A series has at most about so many steps: more cannot be told apart on a page.
const STEPS: u64 = 170;
/// How long one question may take.
const PATIENCE: &str = "set local statement_timeout = '60s'";

/// Everything a page is made of.
#[derive(Debug, Serialize)]
struct Told {
    schema_version: u32,
    #[serde(serialize_with = "stamp")]
    from: Ticks,
    #[serde(serialize_with = "stamp")]
    to: Ticks,
    #[serde(serialize_with = "stamp")]
    made: Ticks,
    /// Whom it is about, if not everybody.
    customers: Option<Vec<String>>,
    /// How many it is about.
    customer_count: usize,
    /// When a source of them was last read.
    last_read: Option<String>,
    chapters: Vec<Chapter>,
    /// Panels that would have counted others too.
    left_out: Vec<&'static str>,
}

/// What a board came to.
#[derive(Debug, Serialize)]
struct Chapter {
    uid: &'static str,
    title: &'static str,
    description: &'static str,
    panels: Vec<Shown>,
}

/// What a panel came to.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    answer: Answer,
    title: &'static str,
    description: &'static str,
    #[serde(skip)]
    panel: Panel,
    /// Seconds between two points of a series.
    #[serde(skip)]
    step: u32,
    /// What was asked for, in whole steps: seconds since 1970.
    #[serde(skip)]
    span: (f64, f64),
}

fn stamp<S: serde::Serializer>(at: &Ticks, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(at)
}

/// Asks, draws, writes.
pub(super) async fn run(setting: &Setting, options: &Report) -> Result<(), Failure> {
    let made = SystemClock.now();
    let from = options.since.before(made);
    let to = options.until.map_or(made, |until| until.before(made)).min(made);
    if from >= to {
        return Err(Failure::new(Exit::Usage, "--since must lie before --until and before now"));
    }
    let database = setting.database("report").await?;
    let told = tell(&database.pool, &options.tenant, from, to, made).await;
    database.close().await;
    let told = told?;
    if setting.output.json {
        let text =
            serde_json::to_string_pretty(&told).map_err(|error| Failure::new(Exit::Failed, format!("cannot write JSON: {error}")))?;
        return write(setting, options.out.as_deref().unwrap_or(Path::new("-")), &text);
    }
    write(setting, options.out.as_deref().unwrap_or(Path::new("tocsin-report.html")), &page::page(&told).into_string())
}

async fn tell(pool: &PgPool, named: &[String], from: Ticks, to: Ticks, made: Ticks) -> Result<Told, Failure> {
    let registry = Registry::without_keys(pool.clone());
    let mut chosen = Vec::new();
    for name in named {
        chosen.push(registry.find(name).await.map_err(super::tenant::failure)?);
    }
    let mut transaction = pool.begin().await?;
    for statement in ["set transaction isolation level repeatable read, read only", "set local time zone 'UTC'", PATIENCE] {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
    }
    let everybody = || async {
        let listed = AssertSqlSafe(format!("select __value from ({}) listed", panels::TENANTS));
        sqlx::query_scalar::<_, String>(listed).fetch_all(pool).await
    };
    let ids = if named.is_empty() { everybody().await? } else { chosen.iter().map(|tenant| TenantId::to_string(&tenant.id)).collect() };
    let asked = Asked { ids, from, to };
    let last_read = sqlx::query_scalar::<_, Option<String>>(
        "select to_char(max(last_success_at), 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') from dash.feed_health where directory_id = any ($1::text[]::uuid[])",
    )
    .bind(&asked.ids)
    .fetch_one(&mut *transaction)
    .await?;
    let mut told = Told {
        schema_version: 1,
        from,
        to,
        made,
        customers: (!named.is_empty()).then(|| chosen.iter().map(|tenant| tenant.name.clone()).collect()),
        customer_count: asked.ids.len(),
        last_read,
        chapters: Vec::new(),
        left_out: Vec::new(),
    };
    for board in boards::ALL.iter().filter(|board| board.source == Source::Postgres) {
        let chapter = told.chapter(board, &asked, &mut transaction).await?;
        told.chapters.push(chapter);
    }
    Ok(told)
}

impl Told {
    async fn chapter(&mut self, board: &Board, asked: &Asked, connection: &mut PgConnection) -> Result<Chapter, Failure> {
        let mut shown = Vec::new();
        for panel in board.panels {
            if self.customers.is_some() && panel.is_about_all() {
                self.left_out.push(panel.title);
                continue;
            }
            shown.push(asked.show(panel, connection).await?);
        }
        Ok(Chapter { uid: board.uid, title: board.title, description: board.description, panels: shown })
    }
}

/// About whom and when.
struct Asked {
    ids: Vec<String>,
    from: Ticks,
    to: Ticks,
}

impl Asked {
    async fn show(&self, panel: &Panel, connection: &mut PgConnection) -> Result<Shown, Failure> {
        let step = match panel.kind {
            Kind::Bars(least) | Kind::Lines(least) => step(self.to.since(self.from).as_secs(), least),
            _ => 1,
        };
        let bound = template::bound(panel.query, step)
            .map_err(|error| Failure::new(Exit::Failed, format!("panel {:?} cannot be asked: {error}", panel.title)))?;
        let rows = AssertSqlSafe(format!("select row_to_json(asked)::text from (\n{}\n) asked", bound.sql));
        let mut query = sqlx::query_scalar::<_, String>(rows).bind(self.from.to_string()).bind(self.to.to_string());
        for variable in &bound.variables {
            query = match variable.as_str() {
                "tenant" => query.bind(self.ids.clone()),
                _ => query.bind(SEVERITIES.map(str::to_owned).to_vec()),
            };
        }
        let rows = query.fetch_all(connection).await?;
        let answer = Answer::read(panel, &rows)
            .map_err(|what| Failure::new(Exit::Failed, format!("panel {:?} was answered with something else: {what}", panel.title)))?;
        Ok(Shown { answer, title: panel.title, description: panel.description, panel: *panel, step, span: self.whole(step) })
    }

    /// The range from the step it begins in to the end of the one it ends in.
    fn whole(&self, step: u32) -> (f64, f64) {
        let step = f64::from(step);
        let steps = |at: Ticks| at.0 as f64 / 1e7 / step;
        (steps(self.from).floor() * step, steps(self.to).ceil() * step)
    }
}

/// A round number of seconds, at least this one, so that a range has not too many of them.
fn step(range: u64, least: u32) -> u32 {
    [3600, 7200, 10_800, 21_600, 43_200, 86_400]
        .into_iter()
        .filter(|step| *step >= least)
        .find(|step| range / u64::from(*step) <= STEPS)
        .unwrap_or(86_400)
}

/// To a file that only its owner can read, whole or not at all; or to standard output.
fn write(setting: &Setting, out: &Path, text: &str) -> Result<(), Failure> {
    if out == Path::new("-") {
        return setting.output.line(text);
    }
    crate::files::replace(out, text.as_bytes())
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot write {}: {error}", out.display())))?;
    setting.output.note(&format!("written: {}; it holds names of customers, devices and people", out.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_series_has_as_many_steps_as_can_be_told_apart() {
        for (hours, step) in [
            (1, 3600),
            (24, 3600),
            (7 * 24, 3600),
            (8 * 24, 7200),
            (30 * 24, 21_600),
            (60 * 24, 43_200),
            (90 * 24, 86_400),
            (3650 * 24, 86_400),
        ] {
            assert_eq!(super::step(hours * 3600, 3600), step, "{hours} h");
        }
        assert_eq!(super::step(3600, 86_400), 86_400);
    }
}
