//! From the schema of every earlier version to today's, with data in every table: nothing is lost, nothing is rewritten that is
//! large, every view answers, every table is guarded, and a daemon goes on with what it finds.
//!
//! The data are those of a daemon that has run, with a few rows beside for what rarely happens (`upgrade/rare.sql`). They are
//! put into an earlier schema column by column, as far as it has them, which is what that version would have left there.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use e2e::harness::{Setup, TestDatabase, World};
use simulator::{Settings, SourceMix};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, PgPool};

use crate::digest::assert_derived;
use crate::proof::{LONG, SOON, ready};

/// The schemas that left the house: the first one, lossless reading, custody of tokens, and consent.
const RELEASED: [i64; 4] = [3, 4, 7, 11];
const FIRST: i64 = RELEASED[0];
/// Private tables that are no partition, and hold data rather than the history of migrations.
const TABLES: &str = "select relname::text from pg_class where relnamespace = 'tocsin'::regnamespace and relkind in ('r', 'p')
    and not relispartition and relname <> 'schema_history' order by 1";

/// A row of a table for each that a daemon has filled, as JSON: the same words for every schema.
type Rows = BTreeMap<String, String>;

async fn migrator() -> anyhow::Result<Migrator> {
    let mut migrator = Migrator::new(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations"))).await?;
    migrator.dangerous_set_table_name("tocsin.schema_history");
    Ok(migrator)
}

/// A database with the schema of that version, owned as `tocsin db migrate` leaves it.
async fn database_of(version: i64) -> anyhow::Result<TestDatabase> {
    let database = TestDatabase::create().await?;
    let mut connection = database.pool.acquire().await?;
    let prepare = format!("grant create on database {} to tocsin_owner; set role tocsin_owner; create schema tocsin", database.name());
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *connection).await?;
    migrator().await?.run_to(version, &mut *connection).await?;
    connection.close().await?;
    Ok(database)
}

async fn rows_of(pool: &PgPool) -> anyhow::Result<Rows> {
    let tables: Vec<String> = sqlx::query_scalar(TABLES).fetch_all(pool).await?;
    let mut rows = Rows::new();
    for table in tables {
        let sql = format!("select coalesce(json_agg(t), '[]')::text from tocsin.{table} t");
        rows.insert(table, sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await?);
    }
    Ok(rows)
}

/// Puts the data in, as far as this schema has tables and columns for them.
async fn put(pool: &PgPool, rows: &Rows) -> anyhow::Result<()> {
    let mut tx = pool.begin().await?;
    // In no particular order, so without looking at who refers to whom.
    sqlx::raw_sql("set local session_replication_role = replica").execute(&mut *tx).await?;
    let tables: Vec<String> = sqlx::query_scalar(TABLES).fetch_all(&mut *tx).await?;
    for table in &tables {
        let Some(json) = rows.get(table) else { continue };
        if table == "alert_version" {
            let sql =
                "select tocsin.ensure_version_partition(created_at) from json_populate_recordset(null::tocsin.alert_version, $1::json)";
            sqlx::query(sql).bind(json).execute(&mut *tx).await?;
        }
        let sql = format!(
            "insert into tocsin.{table} overriding system value select * from json_populate_recordset(null::tocsin.{table}, $1::json)
             on conflict do nothing"
        );
        sqlx::query(AssertSqlSafe(sql)).bind(json).execute(&mut *tx).await.with_context(|| table.clone())?;
    }
    Ok(tx.commit().await?)
}

/// The columns of each table.
async fn columns(pool: &PgPool) -> anyhow::Result<BTreeMap<String, String>> {
    let sql = "select c.relname::text, string_agg(quote_ident(a.attname), ', ' order by a.attnum)
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relnamespace = 'tocsin'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition and c.relname <> 'schema_history'
        group by 1";
    Ok(sqlx::query_as::<_, (String, String)>(sql).fetch_all(pool).await?.into_iter().collect())
}

/// How many rows each table has, and one hash over these columns of all of them.
async fn prints(pool: &PgPool, columns: &BTreeMap<String, String>) -> anyhow::Result<BTreeMap<String, (i64, String)>> {
    let mut prints = BTreeMap::new();
    for (table, columns) in columns {
        // A candidate of a sign-in lay among the secrets once; it lives for minutes, and an upgrade ends it.
        let kept = if table == "tenant_secret" { "where kind <> 'candidate'" } else { "" };
        let sql = format!(
            "select count(*), coalesce(encode(sha256(string_agg(print, ''::bytea order by print)), 'hex'), '')
             from (select sha256(row({columns})::text::bytea) as print from tocsin.{table} {kept}) rows"
        );
        prints.insert(table.clone(), sqlx::query_as(AssertSqlSafe(sql)).fetch_one(pool).await?);
    }
    Ok(prints)
}

/// In which files alerts and their versions lie: another file means that all of it was written anew.
async fn files(pool: &PgPool) -> anyhow::Result<Vec<(String, i64)>> {
    let sql = "select relname::text, relfilenode::bigint from pg_class
        where relnamespace = 'tocsin'::regnamespace and relkind = 'r' and (relname = 'alert' or relname like 'alert\\_version\\_%') order by 1";
    Ok(sqlx::query_as(sql).fetch_all(pool).await?)
}

async fn assert_usable(pool: &PgPool) -> anyhow::Result<()> {
    let views: Vec<String> =
        sqlx::query_scalar("select viewname::text from pg_views where schemaname = 'dash' order by 1").fetch_all(pool).await?;
    ensure!(views.len() > 10, "{views:?}");
    for view in views {
        let sql = format!("select count(*) from (select * from dash.{view}) rows");
        sqlx::query(AssertSqlSafe(sql)).execute(pool).await.with_context(|| view.clone())?;
    }
    let unguarded: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant' and not a.attisdropped
         where c.relnamespace = 'tocsin'::regnamespace and c.relkind in ('r', 'p') and not (c.relrowsecurity and c.relforcerowsecurity)",
    )
    .fetch_all(pool)
    .await?;
    ensure!(unguarded.is_empty(), "without row security: {unguarded:?}");
    Ok(())
}

/// The world works on this database from now on.
fn move_to(world: &mut World, database: TestDatabase) -> anyhow::Result<TestDatabase> {
    let url = database.url();
    let old = world.database.replace(database).context("a database of its own")?;
    std::fs::write(&world.config, std::fs::read_to_string(&world.config)?.replace(&old.url(), &url))?;
    Ok(old)
}

#[tokio::test]
async fn from_every_earlier_schema_with_data_in_it_to_todays() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 3, history: 60, sources: SourceMix::Mixed, ..Settings::default() };
    let mut world = World::with_tenants(Setup { cloud, ..Setup::default() }).await?;
    let mut daemon = world.serve()?;
    world.settled(LONG).await?;
    world.derived(SOON).await?;
    daemon.terminate().await?;
    let pool = world.pool().await?;
    sqlx::raw_sql(include_str!("upgrade/rare.sql")).execute(&pool).await?;
    let rows = rows_of(&pool).await?;
    let newest = migrator().await?.iter().map(|migration| migration.version).max().context("migrations")?;

    for version in FIRST..newest {
        let database = database_of(version).await?;
        put(&database.pool, &rows).await?;
        if version < 9 {
            let candidate = "insert into tocsin.tenant_secret select tenant, 'candidate', 1, client_id, sealed from tocsin.tenant_secret";
            sqlx::raw_sql(candidate).execute(&database.pool).await?;
        }
        let mut columns = columns(&database.pool).await?;
        if columns.get("response_day").is_some_and(|columns| columns.contains("step")) {
            let steps =
                "insert into tocsin.response_day (tenant, day, step, bucket, alerts) select tenant, '2026-11-01', step, bucket, alerts
                from tocsin.tenant, (values ('acknowledged', 7, 3), ('closed', 7, 2), ('closed', 9, 1)) s(step, bucket, alerts)";
            sqlx::raw_sql(steps).execute(&database.pool).await?;
            // Its rows have another shape later, and are compared by what they say.
            columns.remove("response_day");
        }
        let (before, lay) = (prints(&database.pool, &columns).await?, files(&database.pool).await?);
        if version <= RELEASED[3] {
            let empty: Vec<_> = before.iter().filter(|(_, (count, _))| *count == 0).map(|(table, _)| table).collect();
            ensure!(empty.is_empty(), "{version}: nothing is proved about {empty:?}");
        }

        let old = move_to(&mut world, database)?;
        if version > FIRST {
            old.drop_now().await?;
        }
        let pool = world.pool().await?;
        let tried = world.run(&["db", "migrate", "--dry-run", "--json"]).await?.ok()?.json()?;
        ensure!(tried["would_apply"].as_array().map(Vec::len) == Some(usize::try_from(newest - version)?), "{version}: {tried}");
        ensure!(prints(&pool, &columns).await? == before, "{version}: a rehearsal changes nothing");
        world.run(&["db", "migrate"]).await?.ok()?;
        ensure!(prints(&pool, &columns).await? == before, "{version}: {before:?} became {:?}", prints(&pool, &columns).await?);
        ensure!(files(&pool).await? == lay, "{version}: alerts or their versions were written anew");
        ensure!(world.count("select from tocsin.tenant_secret where kind = 'candidate'").await? == 0, "{version}");
        assert_usable(&pool).await.with_context(|| format!("from {version}"))?;
        if (16..19).contains(&version) {
            let counted: Vec<(i16, i64, i64)> =
                sqlx::query_as("select distinct bucket, acknowledged, closed from tocsin.response_day order by 1").fetch_all(&pool).await?;
            ensure!(counted == [(7, 3, 2), (9, 0, 1)], "{version}: {counted:?}");
        }

        if RELEASED.contains(&version) {
            world.cloud.publish_new(world.cloud.tenants()[0].directory_id, 3)?;
            let mut daemon = world.serve()?;
            ready(&daemon).await?;
            world.settled(LONG).await.with_context(|| format!("from {version}"))?;
            world.derived(SOON).await?;
            assert_derived(&world).await.with_context(|| format!("from {version}"))?;
            daemon.terminate().await?;
        }
    }
    world.end().await
}

/// The whole database as `pg_dump` writes it, but for the words that it makes up anew for each dump.
async fn dump(database: &TestDatabase) -> anyhow::Result<String> {
    let programs = local_postgres::find_programs(None)?;
    let output = tokio::process::Command::new(programs.bindir().join("pg_dump")).arg(database.url()).output().await?;
    ensure!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n"))
}

#[tokio::test]
async fn a_rehearsal_says_what_would_be_done_and_changes_nothing() -> anyhow::Result<()> {
    let mut world = World::build(Setup::default()).await?;
    for version in [None, Some(11)] {
        let database = match version {
            None => TestDatabase::create().await?,
            Some(version) => database_of(version).await?,
        };
        let before = dump(&database).await?;
        move_to(&mut world, database)?.drop_now().await?;
        let told = world.run(&["db", "migrate", "--dry-run"]).await?.ok()?.stdout;
        ensure!(told.contains("0014_retention") && told.contains("What is kept for how long"), "{told}");
        ensure!(told.contains("0001_tenants") == version.is_none(), "{told}");
        ensure!(told.contains("migration(s) would be applied") && told.contains("nothing was changed"), "{told}");
        let database = world.database.as_ref().context("a database of its own")?;
        ensure!(dump(database).await? == before, "something was changed");
    }
    world.run(&["db", "migrate"]).await?.ok()?;
    let told = world.run(&["db", "migrate", "--dry-run"]).await?.ok()?.stdout;
    ensure!(told.contains("0 migration(s) would be applied"), "{told}");

    // One who may not: told by the same words as without the rehearsal.
    let database = world.database.as_ref().context("a database of its own")?;
    let login = format!("nobody_{}", database.name());
    sqlx::raw_sql(AssertSqlSafe(format!("create role {login} login; drop schema dash cascade; drop schema tocsin cascade")))
        .execute(&database.pool)
        .await?;
    let url = database.url();
    let (_, rest) = url.split_once('@').context("a URL with a login")?;
    let config = world.config_for("nobody", &format!("postgres://{login}@{rest}"))?;
    let refused = [&["db", "migrate", "--dry-run"][..], &["db", "migrate"]].map(|arguments| e2e::harness::run(&config, arguments));
    let [rehearsed, done] = refused;
    let (rehearsed, done) = (rehearsed.await?, done.await?);
    ensure!(rehearsed.code() == 77 && rehearsed.complaint()? == done.complaint()?, "{rehearsed:?} {done:?}");
    ensure!(rehearsed.stderr.contains("migrate_url_file"), "{rehearsed:?}");
    sqlx::raw_sql(AssertSqlSafe(format!("drop role {login}"))).execute(&database.pool).await?;

    // And a schema that is newer than the program.
    world.run(&["db", "migrate"]).await?.ok()?;
    let pool = world.pool().await?;
    let newer =
        "insert into tocsin.schema_history (version, description, success, checksum, execution_time) values (9999, 'later', true, '', 0)";
    sqlx::raw_sql(newer).execute(&pool).await?;
    let refused = world.run(&["db", "migrate", "--dry-run"]).await?;
    ensure!(refused.code() == 3 && refused.complaint()?.contains("has migration 9999"), "{refused:?}");
    world.end().await
}
