//! Every question of every dashboard, as Grafana would send it, asked by a reader.

use anyhow::{Context, ensure};
use e2e::harness::Chosen;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Column, PgPool, Row, TypeInfo};

use super::{empty, files, filled, list, pool, text};

/// Grafana draws no more.
const POINTS: usize = 11_000;

#[tokio::test]
async fn every_question_is_answered_to_a_reader_on_a_filled_database() -> anyhow::Result<()> {
    let answered = ask_all(&pool(filled().await?).await?, true).await?;
    assert!(answered > 400, "{answered}");
    Ok(())
}

#[tokio::test]
async fn every_question_is_answered_where_nothing_has_happened() -> anyhow::Result<()> {
    let world = empty().await?;
    let answered = ask_all(&pool(&world).await?, false).await?;
    assert!(answered > 400, "{answered}");
    Ok(())
}

async fn ask_all(pool: &PgPool, is_filled: bool) -> anyhow::Result<usize> {
    let mut answered = 0;
    for (name, file) in files()? {
        for variable in list(&file["templating"]["list"]).iter().filter(|variable| variable["type"] == "query") {
            let listed = ask(pool, text(&variable["query"])).await.with_context(|| format!("{name}: variable {}", variable["name"]))?;
            ensure!(listed.rows.is_empty() != is_filled, "{name}: {} choices", listed.rows.len());
        }
        for chosen in &Chosen::all(pool).await? {
            for panel in list(&file["panels"]) {
                let least = text(&panel["interval"]);
                let least = if least == "1d" { 86_400 } else { 3600 };
                for target in list(&panel["targets"]) {
                    let Some(raw) = target["rawSql"].as_str() else { continue };
                    let told = || format!("{name}: {} ({})", text(&panel["title"]), chosen.words);
                    let answer = ask(pool, &chosen.statement(raw, chosen.interval(least))?).await.with_context(told)?;
                    fits(panel, target, &answer, is_filled, chosen).with_context(told)?;
                    answered += 1;
                }
            }
        }
    }
    Ok(answered)
}

struct Answer {
    columns: Vec<(String, String)>,
    rows: Vec<Value>,
}

/// As a member of `tocsin_reader`, who may do nothing else.
async fn ask(pool: &PgPool, sql: &str) -> anyhow::Result<Answer> {
    let mut transaction = pool.begin().await?;
    sqlx::raw_sql("set local role tocsin_reader; set transaction read only; set local statement_timeout = '15s'")
        .execute(&mut *transaction)
        .await?;
    let first = sqlx::query(AssertSqlSafe(format!("select * from ({sql}) asked limit 1"))).fetch_optional(&mut *transaction).await?;
    let columns = first.map_or_else(Vec::new, |row| {
        row.columns().iter().map(|column| (column.name().to_owned(), column.type_info().name().to_owned())).collect()
    });
    let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("select row_to_json(asked)::text from ({sql}) asked")))
        .fetch_all(&mut *transaction)
        .await?;
    Ok(Answer { columns, rows: rows.iter().map(|row| serde_json::from_str(row)).collect::<Result<_, _>>()? })
}

fn fits(panel: &Value, target: &Value, answer: &Answer, is_filled: bool, chosen: &Chosen) -> anyhow::Result<()> {
    if is_filled && chosen.words == "90 d, all" {
        ensure!(!answer.rows.is_empty(), "nothing to draw on a filled database");
    }
    ensure!(answer.rows.len() <= POINTS, "{} points", answer.rows.len());
    for matched in list(&panel["fieldConfig"]["overrides"]) {
        let name = text(&matched["matcher"]["options"]);
        let known =
            answer.columns.is_empty() || answer.columns.iter().any(|(column, _)| column == name) || panels::SEVERITIES.contains(&name);
        ensure!(known, "an override is about {name:?}, which is no column");
    }
    let is_number = |name: &str| matches!(name, "INT4" | "INT8" | "FLOAT8" | "NUMERIC");
    let types: Vec<(&str, &str)> = answer.columns.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
    match (text(&target["format"]), text(&panel["type"]), types.as_slice()) {
        (_, _, []) => {}
        ("time_series", "timeseries", [("time", "TIMESTAMPTZ" | "FLOAT8" | "NUMERIC"), rest @ ..]) => {
            let values = if let [("metric", "TEXT"), values @ ..] = rest { values } else { rest };
            ensure!(!values.is_empty() && values.iter().all(|(_, kind)| is_number(kind)), "{types:?}");
            let times: Vec<String> = answer.rows.iter().map(|row| sortable(&row["time"])).collect();
            ensure!(times.is_sorted(), "not sorted by time");
        }
        ("table", "stat", columns) => {
            ensure!(columns.iter().all(|(_, kind)| is_number(kind)) && answer.rows.len() == 1, "{types:?}, {} rows", answer.rows.len());
        }
        ("table", "bargauge", [(_, "TEXT"), (_, kind)]) => ensure!(is_number(kind), "{types:?}"),
        ("table", "table", _) => {}
        (format, kind, _) => anyhow::bail!("{types:?} in format {format} are no {kind}"),
    }
    Ok(())
}

fn sortable(time: &Value) -> String {
    time.as_f64().map_or_else(|| text(time).to_owned(), |seconds| format!("{seconds:020.3}"))
}
