//! The names that dashboards, alert rules and probes hold on to: health, metrics, the read side and its roles.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use e2e::harness::{Setup, World, eventually};
use simulator::{Poison, Settings, Source, SourceMix};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use super::commands::{SOON, setup};

#[tokio::test]
async fn healthcheck_says_ready_not_ready_and_not_there() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(1, 1)).await?;
    // The probe asks where the configuration says, so the port has to stand there.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    world.write_private("tocsin.toml", &world.toml("").replace("127.0.0.1:0", &port))?;
    let healthcheck = async |arguments: &[&str]| world.run(&[&["healthcheck"], arguments].concat()).await;
    assert_eq!(healthcheck(&[]).await?.code(), 69);
    let mut daemon = world.serve()?;
    let code = async |wanted: i32| {
        eventually("the health that is due", Duration::from_secs(45), async || {
            let ended = healthcheck(&[]).await.map_err(|error| error.to_string())?;
            if ended.code() == wanted { Ok(ended) } else { Err(format!("{ended:?}")) }
        })
        .await
    };
    let ready = code(0).await?;
    for stage in ["registry", "refresher", "poller", "sink", "digest"] {
        assert!(ready.stdout.contains(&format!("{stage}: ok")), "{}", ready.stdout);
    }
    assert_eq!(healthcheck(&["--json"]).await?.ok()?.json()?["healthy"], true);
    let (status, body) = daemon.ops("/readyz").await?;
    assert_eq!(status, 200, "{body}");

    let database = world.database.as_ref().context("a database")?;
    database.shut().await?;
    let sick = code(3).await?;
    assert!(sick.complaint()?.contains("not ready"), "{sick:?}");
    assert!(sick.stdout.contains("database"), "the stage says why: {}", sick.stdout);
    assert_eq!(healthcheck(&["--json"]).await?.json()?["healthy"], false);
    assert_eq!(healthcheck(&["--live"]).await?.code(), 0, "alive all the same: a restart would not bring the database back");
    let (status, body) = daemon.ops("/readyz").await?;
    assert_eq!(status, 503, "{body}");
    assert_eq!(daemon.ops("/livez").await?.0, 200);
    database.reopen().await?;
    code(0).await?;
    daemon.terminate().await?;
    assert_eq!(healthcheck(&[]).await?.code(), 69);
    world.end().await
}

/// One line of `/metrics`: name, labels, value.
fn samples(text: &str) -> Vec<(String, BTreeMap<String, String>, f64)> {
    let sample = |line: &str| {
        let (head, value) = line.rsplit_once(' ')?;
        let (name, labels) = head.split_once('{').map_or((head, ""), |(name, rest)| (name, rest.trim_end_matches('}')));
        let labels = labels
            .split(',')
            .filter_map(|label| label.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()));
        Some((name.to_owned(), labels.collect(), value.parse().ok()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

#[tokio::test]
async fn every_metric_of_the_contract_is_there_with_its_labels_and_tells_no_names() -> anyhow::Result<()> {
    let world = World::with_tenants(Setup {
        cloud: Settings { tenants: 2, history: 10, sources: SourceMix::Both, ..Settings::default() },
        ..Setup::default()
    })
    .await?;
    let tenants = world.cloud.tenants();
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    // One of each: something new while it runs, a change, a record that is poison, a paused tenant.
    for tenant in &tenants {
        world.cloud.publish_new(tenant.directory_id, 2)?;
        world.cloud.publish_update(tenant.directory_id)?;
        world.cloud.publish_poison(tenant.directory_id, Source::GraphAlerts, Poison::MissingId, "x")?;
        world.cloud.publish_poison(tenant.directory_id, Source::MdeAlerts, Poison::MissingId, "x")?;
    }
    world.settled(SOON).await?;
    world.run(&["tenant", "pause", &tenants[1].name]).await?.ok()?;

    // (name, labels, one value that a label must have had)
    let promised: &[(&str, &[&str], &[&str])] = &[
        ("tocsin_alerts_stored_total", &["source", "kind"], &["source=graph-alerts", "source=mde-alerts", "kind=new", "kind=updated"]),
        ("tocsin_alerts_duplicate_total", &["source"], &["source=graph-alerts", "source=mde-alerts"]),
        ("tocsin_poll_total", &["source", "outcome"], &["source=graph-alerts", "source=mde-alerts", "outcome=ok"]),
        ("tocsin_token_refresh_total", &["outcome"], &["outcome=ok"]),
        ("tocsin_tenants", &["state"], &["state=active", "state=paused"]),
        ("tocsin_ingest_lag_seconds_bucket", &["le"], &["le=+Inf"]),
        ("tocsin_ingest_lag_seconds_count", &[], &[]),
        ("tocsin_ingest_lag_seconds_sum", &[], &[]),
        ("tocsin_poll_lateness_seconds_bucket", &["le"], &["le=+Inf"]),
        ("tocsin_poll_lateness_seconds_count", &[], &[]),
        ("tocsin_quarantined_total", &["source"], &["source=graph-alerts", "source=mde-alerts"]),
        ("tocsin_lease_held", &[], &[]),
        ("tocsin_build_info", &["version"], &[]),
        ("tocsin_feed_last_success_timestamp_seconds", &[], &[]),
        ("tocsin_blind_tenants", &["since"], &[]),
        ("tocsin_open_gaps", &[], &[]),
        ("tocsin_lease_changes_total", &[], &[]),
        ("tocsin_database_up", &[], &[]),
        ("tocsin_notify_total", &["outcome"], &[]),
        ("tocsin_database_seconds_bucket", &["le"], &["le=+Inf"]),
        ("tocsin_database_seconds_count", &[], &[]),
        ("tocsin_digest_lag_seconds", &[], &[]),
    ];
    let text = eventually("every metric is there", SOON, async || {
        let (_, text) = daemon.ops("/metrics").await.map_err(|error| vec![error.to_string()])?;
        let samples = samples(&text);
        let mut missing = Vec::new();
        for (name, labels, values) in promised {
            let of_name: Vec<_> = samples.iter().filter(|(other, ..)| other == name).collect();
            let expected: BTreeSet<_> = labels.iter().map(|label| (*label).to_owned()).collect();
            if of_name.is_empty() || of_name.iter().any(|(_, labels, _)| labels.keys().cloned().collect::<BTreeSet<_>>() != expected) {
                missing.push(format!("{name} {labels:?}: {of_name:?}"));
            }
            for wanted in *values {
                if !of_name
                    .iter()
                    .any(|(_, labels, value)| *value > 0.0 && labels.iter().any(|(key, value)| format!("{key}={value}") == **wanted))
                {
                    missing.push(format!("{name} {wanted}"));
                }
            }
        }
        if missing.is_empty() { Ok(text) } else { Err(missing) }
    })
    .await?;
    let samples = samples(&text);
    assert!(samples.iter().all(|(name, ..)| name.starts_with("tocsin_")), "{text}");
    let sum = |name: &str, label: &str| -> f64 {
        samples
            .iter()
            .filter(|(other, labels, _)| other == name && labels.values().any(|value| label.is_empty() || value == label))
            .map(|(_, _, value)| value)
            .sum()
    };
    let stored = world.count("select from dash.alert_version").await? as f64;
    assert_eq!(sum("tocsin_alerts_stored_total", ""), stored, "the counters agree with the table");
    assert_eq!(sum("tocsin_quarantined_total", ""), world.count("select from dash.quarantine").await? as f64);
    assert_eq!(sum("tocsin_tenants", "active"), 1.0);
    for tenant in &tenants {
        for secret in [&tenant.name, &tenant.domain, &tenant.directory_id.to_string(), &tenant.directory_id.simple().to_string()] {
            assert!(!text.contains(secret.as_str()), "a label tells {secret}");
        }
    }
    assert!(text.lines().count() < 400, "few labels: {}", text.lines().count());
    daemon.terminate().await?;
    world.end().await
}

/// What is promised, column by column; what came later stands at the end.
const READ_SIDE: &[(&str, &str)] = &[
    (
        "alert",
        "directory_id uuid, tenant text, alert_id text, incident_id text, title text, severity text, status text, service_source text, detection_source text, category text, \
         created_at timestamptz, last_updated_at timestamptz, first_stored_at timestamptz, last_stored_at timestamptz, version_count int, portal_url text, raw json, \
         assigned_to text, classification text, determination text",
    ),
    ("alert_version", "directory_id uuid, source text, alert_id text, version int, last_update_text text, stored_at timestamptz, raw json"),
    (
        "tenant_health",
        "directory_id uuid, tenant text, state text, since timestamptz, reason text, action text, error_code text, token_expires_at timestamptz, last_refresh_at timestamptz, \
         trace_id text, answered_at timestamptz",
    ),
    ("tenant_clock", "directory_id uuid, tenant text, clock text, ends_at timestamptz, days_left int, estimated boolean, words text"),
    (
        "partial_sight",
        "directory_id uuid, tenant text, since timestamptz, compared bigint, missing bigint, newest_at timestamptz, words text",
    ),
    (
        "feed_health",
        "directory_id uuid, source text, last_success_at timestamptz, last_attempt_at timestamptz, last_error text, watermark timestamptz, lag_seconds double precision, \
         throttled_until timestamptz, quarantined bigint, read_order text",
    ),
    (
        "incident",
        "directory_id uuid, incident_id text, title text, severity text, status text, redirect_incident_id text, last_updated_at timestamptz, portal_url text, raw json, \
         tenant text, created_at timestamptz, first_stored_at timestamptz, last_stored_at timestamptz",
    ),
    ("gap", "directory_id uuid, source text, from_at timestamptz, to_at timestamptz, reason text, healed_at timestamptz"),
    ("quarantine", "directory_id uuid, source text, seen_at timestamptz, reason text, raw_bytes bytea"),
    ("evidence", "directory_id uuid, tenant text, alert_id text, kind text, value text, role text, verdict text, created_at timestamptz"),
    ("technique_day", "directory_id uuid, tenant text, day date, technique text, alerts bigint"),
    ("alert_day", "directory_id uuid, tenant text, day date, severity text, status text, service_source text, alerts bigint"),
    (
        "detection_day",
        "directory_id uuid, tenant text, day date, title text, severity text, service_source text, alerts bigint, true_positives bigint, false_positives bigint, resolved bigint",
    ),
    ("alert_hour", "hour timestamptz, severity text, alerts bigint"),
    ("ingest_hour", "hour timestamptz, le_seconds double precision, versions bigint"),
    (
        "digest_health",
        "directory_id uuid, tenant text, derived_until timestamptz, lag_seconds double precision, waiting bigint, state text, skipped bigint, skipped_reason text",
    ),
    ("ocsf_finding", "directory_id uuid, tenant text, alert_id text, created_at timestamptz, class_uid int, finding json"),
];

#[tokio::test]
async fn the_read_side_has_exactly_the_columns_and_types_of_the_contract() -> anyhow::Result<()> {
    let world = World::build(setup(1, 0)).await?;
    let pool = world.pool().await?;
    for (view, expected) in READ_SIDE {
        let sql = "select column_name::text, data_type::text from information_schema.columns where table_schema = 'dash' and table_name = $1 order by ordinal_position";
        let columns: Vec<(String, String)> = sqlx::query_as(sql).bind(view).fetch_all(&pool).await?;
        let short = |kind: &str| match kind {
            "timestamp with time zone" => "timestamptz".to_owned(),
            "integer" => "int".to_owned(),
            other => other.to_owned(),
        };
        let found: Vec<_> = columns.iter().map(|(name, kind)| format!("{name} {}", short(kind))).collect();
        assert_eq!(found.join(", "), *expected, "dash.{view}");
    }
    // Every column of every table that holds ciphertext says so, and no other column is binary.
    let sql = "select c.relname || '.' || a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid
               where c.relnamespace = 'tocsin'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition and a.attnum > 0 and a.atttypid = 'bytea'::regtype
                 and coalesce(col_description(c.oid, a.attnum), '') not like '%SEALED%' order by 1";
    let unsealed: Vec<String> = sqlx::query_scalar(sql).fetch_all(&pool).await?;
    assert_eq!(
        unsealed,
        [
            "alert.hash",
            "alert_version.hash",
            "audit.hash",
            "audit.previous",
            "audit_head.hash",
            "incident.hash",
            "link.secret_hash",
            "quarantine.hash",
            "quarantine.raw_bytes",
            "schema_history.checksum",
            "sign_in.browser_hash",
            "sign_in.state_hash",
            "tenant_secret.import_mac",
            "version_seen.hash",
        ],
        "a hash, a body, a keyed hash"
    );
    world.end().await
}

/// A connection with the rights of this role and no others.
async fn connection_of(world: &World, role: &str) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnection::connect(&world.database.as_ref().context("a database")?.url()).await?;
    sqlx::raw_sql(AssertSqlSafe(format!("set session authorization {role}"))).execute(&mut connection).await?;
    Ok(connection)
}

/// Tries a statement; gives the SQLSTATE with which it was refused, or `None`.
async fn refusal(connection: &mut PgConnection, sql: &str) -> anyhow::Result<Option<String>> {
    match sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *connection).await {
        Ok(_) => Ok(None),
        Err(sqlx::Error::Database(error)) => Ok(error.code().map(|code| code.into_owned())),
        Err(other) => Err(other.into()),
    }
}

#[tokio::test]
async fn a_reader_reads_the_read_side_and_nothing_else_and_the_daemon_can_change_no_version() -> anyhow::Result<()> {
    const FORBIDDEN: Option<&str> = Some("42501");
    let world = World::with_tenants(Setup {
        cloud: Settings { tenants: 2, history: 5, sources: SourceMix::All, ..Settings::default() },
        ..Setup::default()
    })
    .await?;
    let tenant = world.cloud.tenants()[0].directory_id;
    // An id that needs encoding in a link, so that every function of the views is really called.
    let odd = format!(r#"{{"id":"da ı/?#1","title":"t","createdDateTime":"{0}","lastUpdateDateTime":"{0}"}}"#, world.cloud.now());
    world.cloud.publish_raw(tenant, Source::GraphAlerts, odd)?;
    world.cloud.publish_poison(tenant, Source::GraphAlerts, Poison::NotAnObject, "x")?;
    let mut daemon = world.serve()?;
    world.settled(SOON).await.with_context(|| daemon.last_words())?;
    // What comes while it is looked for says how late we are.
    world.cloud.publish_new(tenant, 1)?;
    world.settled(SOON).await?;
    world.derived(SOON).await?;
    daemon.terminate().await?;

    let pool = world.pool().await?;
    // Of what takes a day to be noticed there is one row as well.
    let statement = sqlx::query("insert into tocsin.partial_sight (tenant, compared, missing, newest_at) values ($1, 2, 1, now())");
    statement.bind(tenant).execute(&pool).await?;
    let login = format!("reader_{}", Uuid::new_v4().simple());
    sqlx::raw_sql(AssertSqlSafe(format!("create role {login} login in role tocsin_reader"))).execute(&pool).await?;
    let mut reader = connection_of(&world, &login).await?;
    for (view, columns) in READ_SIDE {
        let names: Vec<_> = columns.split(", ").filter_map(|column| column.split(' ').next()).collect();
        let sql = format!("select count(*) from (select {} from dash.{view} offset 0) as rows", names.join(", "));
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut reader)
            .await
            .with_context(|| format!("the reader may read dash.{view}"))?;
        assert!(rows > 0 || *view == "gap", "dash.{view} is empty");
        for sql in
            [format!("delete from dash.{view}"), format!("update dash.{view} set {0} = {0}", names[0]), format!("drop view dash.{view}")]
        {
            // 55000: a view over several tables cannot be written through at all.
            let code = refusal(&mut reader, &sql).await?;
            assert!(code.as_deref() == FORBIDDEN || code.as_deref() == Some("55000"), "{sql}: {code:?}");
        }
    }
    let link: String = sqlx::query_scalar("select portal_url from dash.alert where alert_id like 'da %'").fetch_one(&mut reader).await?;
    assert_eq!(link, format!("{}/portal/alerts/da%20%C4%B1%2F%3F%231?tid={tenant}", world.cloud.base_url()));
    let tables: Vec<String> = sqlx::query_scalar(
        "select 'tocsin.' || quote_ident(relname) from pg_class where relnamespace = 'tocsin'::regnamespace and relkind in ('r', 'p', 'S', 'v')",
    )
    .fetch_all(&pool)
    .await?;
    assert!(tables.len() > 10, "{tables:?}");
    for table in &tables {
        assert_eq!(refusal(&mut reader, &format!("select from {table} limit 1")).await?.as_deref(), FORBIDDEN, "the reader reads {table}");
        assert_eq!(refusal(&mut reader, &format!("delete from {table}")).await?.as_deref(), FORBIDDEN, "the reader deletes from {table}");
    }
    for sql in [
        "create table dash.x (y int)",
        "create table tocsin.x (y int)",
        "set role tocsin_ingest",
        "set role tocsin_owner",
        "select tocsin.ensure_version_partition(now())",
        "select tocsin.drop_version_month(date '2020-01-01', 1)",
        "select tocsin.forget_some(1)",
    ] {
        assert_eq!(refusal(&mut reader, sql).await?.as_deref(), FORBIDDEN, "the reader: {sql}");
    }
    reader.close().await?;
    sqlx::raw_sql(AssertSqlSafe(format!("drop role {login}"))).execute(&pool).await?;

    let mut ingest = connection_of(&world, "tocsin_ingest").await?;
    let versions: Vec<_> = tables.iter().filter(|table| table.starts_with("tocsin.alert_version")).collect();
    assert!(versions.len() > 2, "the table and its partitions: {tables:?}");
    for table in versions {
        for sql in [
            format!("update {table} set raw = ''"),
            format!("update {table} set stored_at = now()"),
            format!("delete from {table}"),
            format!("truncate {table}"),
            format!("drop table {table}"),
            format!("alter table {table} add column x int"),
        ] {
            assert_eq!(refusal(&mut ingest, &sql).await?.as_deref(), FORBIDDEN, "the daemon's role: {sql}");
        }
    }
    for sql in [
        "delete from tocsin.alert",
        "truncate tocsin.alert",
        "create table tocsin.x (y int)",
        "drop view dash.alert",
        "set role tocsin_owner",
        "truncate tocsin.quarantine",
        "update tocsin.retention set versions = interval '30 days'",
        "delete from tocsin.alert_event",
        "delete from tocsin.dropped_month",
        "update tocsin.audit set actor = ''",
        "delete from tocsin.audit",
        "truncate tocsin.audit",
        "delete from tocsin.audit_head",
    ] {
        assert_eq!(refusal(&mut ingest, sql).await?.as_deref(), FORBIDDEN, "the daemon's role: {sql}");
    }
    assert!(refusal(&mut ingest, "select from tocsin.alert_version limit 1").await?.is_none(), "it may read them");
    ingest.close().await?;
    world.end().await
}
