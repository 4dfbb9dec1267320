//! Each large figure is counted again, from what is stored and not from what is derived, by SQL that shares nothing with
//! the panel's own.

use anyhow::{Context, ensure};
use e2e::harness::Chosen;
use panels::{Kind, boards};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{filled, pool};

/// `$1` and `$2` are beginning and end, `$3` the customers; `days` and `alert` stand for what is said in `recount`.
const AGAIN: &[(&str, &str, f64)] = &[
    (
        "tocsin-overview/Customers we cannot see",
        "select count(*) as blind from tocsin.tenant t where t.tenant = any ($3) and t.state = 'active' and (exists (
            select from unnest(t.sources) s left join tocsin.feed f on f.tenant = t.tenant and f.source = s
            where f.last_success_at is null or now() - f.last_success_at > interval '30 minutes')
            or exists (select from tocsin.trouble b where b.tenant = t.tenant and b.verdict in ('needs-consent', 'needs-customer')))",
        0.0,
    ),
    ("tocsin-overview/Open alerts of high severity", "select count(*) as open from alerts where severity = 'high' and status <> 'resolved'", 0.0),
    ("tocsin-overview/Alerts created", "select count(*) as created from of_days", 0.0),
    // The histogram's steps are a fifth apart.
    ("tocsin-overview/Time to acknowledge", "select percentile_disc(0.5) within group (order by taken) as median, percentile_disc(0.9) within group (order by taken) as \"nine of ten\" from acknowledged", 0.2),
    ("tocsin-overview/Time to close", "select percentile_disc(0.5) within group (order by taken) as median, percentile_disc(0.9) within group (order by taken) as \"nine of ten\" from closed", 0.2),
    (
        "tocsin-overview/Not observed yet",
        "select (select count(*) from of_days) - (select count(*) from acknowledged) as acknowledgement, (select count(*) from of_days) - (select count(*) from closed) as closing",
        0.0,
    ),
    ("tocsin-tenant/Worst lag", "select max(extract(epoch from now()) - caught_up_ticks / 1e7)::double precision as lag from tocsin.feed where tenant = any ($3)", 1e-3),
    ("tocsin-tenant/Open alerts", "select count(*) as open from alerts where status in ('new', 'inProgress')", 0.0),
    ("tocsin-tenant/Created in the range", "select count(*) as created from of_days", 0.0),
    (
        "tocsin-tenant/Days until something runs out",
        "select floor(min(extract(epoch from at - now())) / 86400) as days from (
            select token_expires_at as at from tocsin.tenant where tenant = any ($3)
            union all select expires_at from tocsin.tenant_access where tenant = any ($3)) c",
        0.0,
    ),
    ("tocsin-ingestion/Worst lag now", "select max(extract(epoch from now()) - caught_up_ticks / 1e7)::double precision as lag from tocsin.feed where tenant = any ($3)", 1e-3),
    (
        "tocsin-ingestion/Stored within",
        "select (select min(l) from unnest(array[5, 20, 30, 60, 300]) l where (select sum(versions) from tocsin.ingest_hour where hour between $1 and $2 and le_seconds <= l) >= 0.5 * (select sum(versions) from tocsin.ingest_hour where hour between $1 and $2)) as half,
            (select min(l) from unnest(array[5, 20, 30, 60, 300]) l where (select sum(versions) from tocsin.ingest_hour where hour between $1 and $2 and le_seconds <= l) >= 0.95 * (select sum(versions) from tocsin.ingest_hour where hour between $1 and $2)) as \"95 %\"",
        0.0,
    ),
    ("tocsin-ingestion/Throttled sources", "select count(*) as throttled from tocsin.feed where tenant = any ($3) and throttled_until > now()", 0.0),
    ("tocsin-ingestion/In quarantine", "select count(*) as records from tocsin.quarantine where tenant = any ($3)", 0.0),
    ("tocsin-ingestion/Open gaps", "select count(*) as gaps from tocsin.gap where tenant = any ($3) and healed_at is null", 0.0),
    (
        "tocsin-tokens/Customers who must act",
        "select count(distinct tenant) as customers from tocsin.trouble join tocsin.tenant using (tenant) where tenant = any ($3) and state = 'active' and verdict like 'needs-%'",
        0.0,
    ),
    (
        "tocsin-tokens/Ending within 14 days",
        "select count(*) as customers from tocsin.tenant t where tenant = any ($3) and (token_expires_at < now() + interval '14 days'
            or exists (select from tocsin.tenant_access a where a.tenant = t.tenant and a.expires_at < now() + interval '14 days'))",
        0.0,
    ),
    ("tocsin-tokens/Waiting for consent", "select count(*) as customers from tocsin.tenant where tenant = any ($3) and state = 'awaiting-consent'", 0.0),
    ("tocsin-tokens/See only a part", "select count(*) as customers from tocsin.partial_sight where tenant = any ($3)", 0.0),
    (
        "tocsin-noise/Share of the ten loudest",
        "select (select sum(n) from (select count(*) as n from of_days group by left(title, 300) order by 1 desc limit 10) loud) / count(*)::double precision as share from of_days",
        1e-9,
    ),
    ("tocsin-noise/Found to be false", "select avg((classification = 'falsePositive')::int)::double precision as share from of_days where classification is not null", 1e-9),
    ("tocsin-noise/Not classified", "select count(*) as alerts from of_days where classification is null", 0.0),
    (
        "tocsin-noise/Came back",
        "select count(*) as alerts from alerts a where exists (select from tocsin.alert_event e where e.tenant = a.tenant and e.alert_id = a.alert_id
            and e.field = 'status' and e.old_value = 'resolved' and e.seen_at between $1 and $2)",
        0.0,
    ),
];

/// What the counts begin with.
const BASE: &str = "with alerts as (select * from tocsin.alert where tenant = any ($3)),
    of_days as (select * from alerts where created_at >= date_trunc('day', $1, 'UTC') and created_at < date_trunc('day', $2, 'UTC') + interval '1 day'),
    acknowledged as (
        select extract(epoch from min(e.seen_at) - min(a.first_stored_at))::double precision as taken from of_days a join tocsin.alert_event e using (tenant, alert_id)
        where e.field = 'assigned_to' or (e.field = 'status' and e.new_value in ('inProgress', 'resolved')) group by tenant, alert_id),
    closed as (
        select extract(epoch from min(e.seen_at) - min(a.first_stored_at))::double precision as taken from of_days a join tocsin.alert_event e using (tenant, alert_id)
        where e.field = 'status' and e.new_value = 'resolved' group by tenant, alert_id)";

#[tokio::test]
async fn every_large_figure_is_what_a_recount_says() -> anyhow::Result<()> {
    let pool = &pool(filled().await?).await?;
    let choices = Chosen::all(pool).await?;
    let mut compared = 0;
    for board in boards::ALL.iter().filter(|board| board.source == panels::Source::Postgres) {
        for panel in board.panels.iter().filter(|panel| matches!(panel.kind, Kind::Stat(_))) {
            let name = format!("{}/{}", board.uid, panel.title);
            let (_, again, apart) =
                AGAIN.iter().find(|(known, _, _)| *known == name).with_context(|| format!("{name} is not counted again"))?;
            for chosen in choices.iter().filter(|chosen| ["24 h, all", "90 d, all", "90 d, one"].contains(&chosen.words.as_str())) {
                // One instant for both.
                let mut transaction = pool.begin().await?;
                let shown = shown(&mut transaction, &chosen.statement(panel.query, 3600)?).await?;
                let counted = counted(&mut transaction, again, chosen).await?;
                ensure!(shown.len() == panel.columns.len(), "{name}: {shown:?}");
                for (column, value) in &shown {
                    let (value, counted) = (value.as_f64().unwrap_or(f64::NAN), counted[column].as_f64().unwrap_or(f64::NAN));
                    let same = (value - counted).abs() <= apart * counted.abs();
                    ensure!(same, "{name}, {}: {column} is shown as {value} and counted as {counted}", chosen.words);
                    compared += 1;
                }
            }
        }
    }
    ensure!(compared > 60, "{compared}");
    Ok(())
}

async fn shown(connection: &mut PgConnection, sql: &str) -> anyhow::Result<serde_json::Map<String, Value>> {
    sqlx::raw_sql("set local role tocsin_reader").execute(&mut *connection).await?;
    let row: String = sqlx::query_scalar(AssertSqlSafe(format!("select row_to_json(asked)::text from ({sql}) asked")))
        .fetch_one(&mut *connection)
        .await?;
    sqlx::raw_sql("reset role").execute(&mut *connection).await?;
    Ok(serde_json::from_str(&row)?)
}

async fn counted(connection: &mut PgConnection, again: &str, chosen: &Chosen) -> anyhow::Result<Value> {
    let customers = chosen.values.iter().find(|(name, _)| *name == "tenant").map(|(_, values)| values.clone()).unwrap_or_default();
    // Every parameter is used, so that each has a type.
    let sql = format!("{BASE} select row_to_json(counted)::text from ({again}) counted where $1 <= $2 and cardinality($3) > 0")
        .replace("$1", "$1::text::timestamptz")
        .replace("$2", "$2::text::timestamptz")
        .replace("$3", "$3::text[]::uuid[]");
    let row: String =
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(&chosen.from).bind(&chosen.to).bind(customers).fetch_one(connection).await?;
    Ok(serde_json::from_str(&row)?)
}
