//! What the database tells about itself, its roles, and the tenants. Reads only.

use std::collections::BTreeSet;

use domain::{Clock as _, CloudName, SystemClock, TenantId, Ticks};
use sqlx::{PgPool, Row as _};
use tenant_registry::{Registry, TenantSummary};

use super::facts::{AppFacts, DeepFacts, DigestFacts, ServerFacts, SourceFacts, TableFacts, TenantFacts};
use super::names::Names;
use crate::commands::asking::unread;
use crate::commands::tenant::failure;
use crate::failure::Failure;

/// The server, its roles and grants, and who works on it.
pub(super) async fn server(pool: &PgPool, embedded: bool) -> Result<ServerFacts, Failure> {
    let before = SystemClock.now();
    let row = sqlx::query(
        "select current_setting('server_version_num')::int as version, extract(epoch from clock_timestamp())::float8 as epoch,
                 current_setting('autovacuum')::bool as autovacuum, pg_database_size(current_database()) as bytes",
    )
    .fetch_one(pool)
    .await?;
    let after = SystemClock.now();
    let seconds = |ticks: Ticks| ticks.0 as f64 / 1e7;
    let row_epoch: f64 = row.try_get("epoch")?;
    let roles_missing: Vec<String> = sqlx::query_scalar(
        "select r from unnest(array['tocsin_owner', 'tocsin_ingest', 'tocsin_reader']) as r where to_regrole(r) is null",
    )
    .fetch_all(pool)
    .await?;
    let lacking = async |role: &str, schema: &str, want: bool| -> Result<Vec<String>, Failure> {
        let sql = "select n.nspname || '.' || c.relname
                   from pg_class c join pg_namespace n on n.oid = c.relnamespace
                   where to_regrole($1) is not null and n.nspname = $2 and c.relkind in ('r', 'p', 'v') and not c.relispartition
                       and c.relname <> 'schema_history' and has_table_privilege(to_regrole($1)::oid, c.oid, 'select') <> $3
                   order by 1";
        Ok(sqlx::query_scalar(sql).bind(role).bind(schema).bind(want).fetch_all(pool).await?)
    };
    let row_counts = sqlx::query(
        "select (select count(*) from tocsin.replica where seen_at > now() - interval '10 seconds') as replicas,
             (select count(*) from tocsin.tenant where state not in ('removed', 'offboarding')) as due,
             (select count(*) from tocsin.lease where holder is not null and expires_at > now()) as held,
             (select count(*) from tocsin.alert_version_default 
              where created_at >= greatest('2015-01-01', now() - (select versions from tocsin.retention)) and created_at < now() + interval '62 days') as misplaced",
    )
    .fetch_one(pool)
    .await?;
    let counts: Vec<(String, i64)> = sqlx::query_as(
        "select n.nspname || '.' || c.relname, greatest(c.reltuples, 0)::bigint
         from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'tocsin' and c.relkind = 'r' order by 1",
    )
    .fetch_all(pool)
    .await?;
    Ok(ServerFacts {
        embedded,
        version: row.try_get("version")?,
        skew_seconds: row_epoch - f64::midpoint(seconds(before), seconds(after)),
        ingest_lacks: lacking("tocsin_ingest", "tocsin", true).await?,
        reader_lacks: lacking("tocsin_reader", "dash", true).await?,
        reader_exceeds: lacking("tocsin_reader", "tocsin", false).await?,
        roles_missing,
        misplaced_rows: row_counts.try_get("misplaced")?,
        overdue: overdue(pool).await?,
        // Filled in by who has the configuration and the registry at hand.
        retention_differs: false,
        readers: Box::default(),
        audit_entries: 0,
        audit_problems: 0,
        went_back: None,
        replicas: row_counts.try_get("replicas")?,
        leases_due: row_counts.try_get("due")?,
        leases_held: row_counts.try_get("held")?,
        bytes: row.try_get("bytes")?,
        autovacuum: row.try_get("autovacuum")?,
        tables: tables(pool).await?,
        webhook: Some(Box::new(notifier::standing(pool).await?)),
        counts,
        digest: digest(pool).await?,
    })
}

/// How far the derivation has come, and which transaction it cannot pass.
async fn digest(pool: &PgPool) -> Result<DigestFacts, Failure> {
    let row = sqlx::query(
        "select coalesce(max(lag_seconds), 0)::float8 as lag, coalesce(sum(waiting), 0)::bigint as waiting,
             count(*) filter (where state = 'rebuilding') as rebuilding, coalesce(sum(skipped), 0)::bigint as skipped
         from dash.digest_health",
    )
    .fetch_one(pool)
    .await?;
    // Numbers of transactions are seen of every session, whoever's it is.
    let held_up_by: Option<(Option<i32>, f64)> = sqlx::query_as(
        "select pid, extract(epoch from now() - since)::float8
         from (
             select pid, coalesce(xact_start, backend_start, now()) as since, age(backend_xid) as age from pg_stat_activity
             where backend_xid is not null and pid <> pg_backend_pid()
             union all select null, prepared, age(transaction) from pg_prepared_xacts
         ) running order by age desc limit 1",
    )
    .fetch_optional(pool)
    .await?;
    Ok(DigestFacts {
        lag_seconds: row.try_get("lag")?,
        waiting: row.try_get("waiting")?,
        rebuilding: row.try_get("rebuilding")?,
        skipped: row.try_get("skipped")?,
        held_up_by,
    })
}

async fn overdue(pool: &PgPool) -> Result<Vec<(String, i64)>, Failure> {
    let long_ago = SystemClock.now().minus(std::time::Duration::from_secs(62 * 86_400));
    let parts = sink::read::partitions(pool).await.map_err(unread)?.into_iter();
    Ok(parts.filter(|part| part.goes_at.is_some_and(|goes_at| goes_at < long_ago)).filter_map(|part| part.month.zip(part.kept)).collect())
}

/// What the statistics of the server say of each private table.
async fn tables(pool: &PgPool) -> Result<Vec<TableFacts>, Failure> {
    let rows = sqlx::query(
        "select schemaname || '.' || relname as name, pg_total_relation_size(relid) as bytes, n_live_tup, n_dead_tup,
             extract(epoch from now() - greatest(last_vacuum, last_autovacuum))::float8 as vacuumed
         from pg_stat_user_tables where schemaname = 'tocsin' order by 1",
    )
    .fetch_all(pool)
    .await?;
    let facts = rows.into_iter().map(|row| {
        Ok(TableFacts {
            table: row.try_get("name")?,
            bytes: row.try_get::<Option<i64>, _>("bytes")?.unwrap_or(0),
            live: row.try_get("n_live_tup")?,
            dead: row.try_get("n_dead_tup")?,
            vacuumed_seconds: row.try_get("vacuumed")?,
        })
    });
    Ok(facts.collect::<Result<_, sqlx::Error>>()?)
}

/// The tenants, or the one; and the clouds that they live in.
pub(super) async fn tenants(
    pool: &PgPool,
    only: Option<TenantId>,
    names: &mut Names,
) -> Result<(Vec<TenantFacts>, Vec<CloudName>), Failure> {
    // Numbered over all rows, tombstones included: a number never passes to another tenant.
    let rows = sqlx::query(
        "select t.name, t.cloud, t.number, h.state, h.error_code, h.trace_id, h.reason is not null as troubled,
             extract(epoch from now() - h.since)::float8 as for_seconds,
             f.age, f.lag, f.throttled, coalesce(f.never, false) as never, coalesce(f.quarantined, 0)::bigint as quarantined,
             c.clock, c.days_left, coalesce(m.missing, 0)::bigint as missing, coalesce(g.gaps, 0)::bigint as gaps,
             coalesce((select missing from dash.partial_sight where directory_id = t.tenant), 0)::bigint as unseen,
             exists (select from tocsin.lease l where l.tenant = t.tenant and l.holder is not null and l.expires_at > now()) as held
         from (select *, row_number() over (order by created_at, tenant) as number from tocsin.tenant) t
         join dash.tenant_health h on h.directory_id = t.tenant
         left join lateral (
             select extract(epoch from now() - min(last_success_at))::float8 as age, max(lag_seconds) as lag,
                 extract(epoch from now() - min(coalesce(last_success_at, t.created_at)) filter (where throttled_until is not null))::float8
                     as throttled,
                 bool_or(last_success_at is null) as never, sum(quarantined) as quarantined
             from dash.feed_health where directory_id = t.tenant
         ) f on true
         left join lateral (
             select clock, days_left from dash.tenant_clock where directory_id = t.tenant and ends_at is not null order by ends_at limit 1
         ) c on true
         left join lateral (select sum(cardinality(missing)) as missing from tocsin.tenant_consent where tenant = t.tenant) m on true
         left join lateral (select count(*) as gaps from dash.gap where directory_id = t.tenant and healed_at is null) g on true
         where ($1::uuid is null and t.state <> 'removed') or t.tenant = $1
         order by t.number",
    )
    .bind(only.map(|tenant| tenant.0))
    .fetch_all(pool)
    .await?;
    let mut clouds = BTreeSet::new();
    let mut tenants = Vec::with_capacity(rows.len());
    for row in rows {
        clouds.insert(CloudName::new(row.try_get::<String, _>("cloud")?));
        let number = usize::try_from(row.try_get::<i64, _>("number")?).unwrap_or(0);
        let name: String = row.try_get("name")?;
        let state: String = row.try_get("state")?;
        tenants.push(TenantFacts {
            tenant: names.tenant(number, &name),
            // A paused tenant has a reason, which is no trouble.
            troubled: row.try_get::<bool, _>("troubled")? && state == "active",
            state,
            for_seconds: row.try_get("for_seconds")?,
            error_code: row.try_get("error_code")?,
            trace_id: row.try_get("trace_id")?,
            last_success_seconds: row.try_get("age")?,
            lag_seconds: row.try_get("lag")?,
            throttled_seconds: row.try_get("throttled")?,
            never_read: row.try_get("never")?,
            nearest_clock: row.try_get("clock")?,
            nearest_days: row.try_get("days_left")?,
            consent_missing: row.try_get("missing")?,
            unseen: row.try_get("unseen")?,
            quarantined: row.try_get("quarantined")?,
            open_gaps: row.try_get("gaps")?,
            looked_after: row.try_get("held")?,
        });
    }
    Ok((tenants, clouds.into_iter().collect()))
}

/// How many tenants each app has, and whether Microsoft refuses it.
pub(super) async fn apps(pool: &PgPool, apps: &mut [AppFacts], names: &Names) -> Result<(), Failure> {
    let rows: Vec<(String, i64, Option<String>)> = sqlx::query_as(
        "select t.app, count(*), min(f.code)
         from tocsin.tenant t
         left join (select app, cloud, coalesce(error_code, 'no code') as code from tocsin.app_fault) f on f.app = t.app and f.cloud = t.cloud
         where t.state <> 'removed' group by t.app",
    )
    .fetch_all(pool)
    .await?;
    for (name, tenants, fault) in rows {
        let alias = names.alias("app", &name);
        if let Some(app) = apps.iter_mut().find(|app| app.app == alias) {
            (app.tenants, app.fault) = (tenants, fault);
        }
    }
    Ok(())
}

/// One tenant closely.
pub(super) async fn deep(pool: &PgPool, registry: &Registry, tenant: &TenantSummary) -> Result<DeepFacts, Failure> {
    let rows = sqlx::query(
        "select f.source, extract(epoch from now() - f.last_success_at)::float8 as age, f.lag_seconds, f.throttled_until is not null as throttled,
             f.last_error is not null as failing, f.quarantined,
             (select count(*) from dash.gap g where g.directory_id = f.directory_id and g.source = f.source and g.healed_at is null) as gaps
         from dash.feed_health f where f.directory_id = $1 order by f.source",
    )
    .bind(tenant.id.0)
    .fetch_all(pool)
    .await?;
    let sources = rows
        .into_iter()
        .map(|row| {
            Ok(SourceFacts {
                source: row.try_get("source")?,
                last_success_seconds: row.try_get("age")?,
                lag_seconds: row.try_get("lag_seconds")?,
                throttled: row.try_get("throttled")?,
                failing: row.try_get("failing")?,
                quarantined: row.try_get("quarantined")?,
                open_gaps: row.try_get("gaps")?,
            })
        })
        .collect::<Result<Vec<_>, sqlx::Error>>()?;
    let consent: Vec<(String, Vec<String>, Vec<String>)> =
        sqlx::query_as("select audience, granted, missing from tocsin.tenant_consent where tenant = $1 order by audience")
            .bind(tenant.id.0)
            .fetch_all(pool)
            .await?;
    let (token_version, has_data_key): (Option<i64>, bool) = sqlx::query_as(
        "select (select max(version) from tocsin.tenant_secret where tenant = $1), exists (select from tocsin.tenant_key where tenant = $1)",
    )
    .bind(tenant.id.0)
    .fetch_one(pool)
    .await?;
    let clocks = registry.clocks(Some(tenant.id)).await.map_err(failure)?;
    let clocks = clocks.into_iter().map(|clock| (clock.clock, clock.days_left, clock.estimated)).collect();
    Ok(DeepFacts { sources, clocks, consent, token_version, has_data_key })
}
