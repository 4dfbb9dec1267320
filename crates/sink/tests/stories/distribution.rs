//! Whether the schema could be distributed by tenant over several machines as it is.

use std::collections::BTreeSet;

use sqlx::PgPool;

/// Small tables that every machine would have a copy of: what they say is about the installation, or about an app.
const SHARED: &[&str] =
    &["app_clock", "app_fault", "dropped_month", "key_rotation", "notifier", "replica", "retention", "schema_history", "tenant"];

/// Counts of all tenants together. They stay where the questions are asked, and are written by the digester, last in its
/// transaction.
const COUNTED_TOGETHER: &[&str] = &["alert_hour", "ingest_hour"];

#[sqlx::test(migrations = "../../migrations")]
async fn every_key_begins_with_the_tenant(pool: PgPool) {
    let tables: Vec<(String, bool)> = sqlx::query_as(
        "select c.relname::text, exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant' and not a.attisdropped)
         from pg_class c
         where c.relnamespace = 'tocsin'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let excepted: BTreeSet<_> = SHARED.iter().chain(COUNTED_TOGETHER).copied().collect();
    let without: Vec<_> = tables.iter().filter(|(name, has)| !has && !excepted.contains(name.as_str())).collect();
    assert!(tables.len() > 30 && without.is_empty(), "{} tables; neither distributed nor shared: {without:?}", tables.len());

    let keys: Vec<(String, String, Option<String>)> = sqlx::query_as(
        "select c.relname::text, i.relname::text, a.attname::text
         from pg_index x
         join pg_class i on i.oid = x.indexrelid
         join pg_class c on c.oid = x.indrelid
         left join pg_attribute a on a.attrelid = c.oid and a.attnum = x.indkey[0]
         where c.relnamespace = 'tocsin'::regnamespace and x.indisunique",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let others: Vec<_> =
        keys.iter().filter(|(table, _, first)| first.as_deref() != Some("tenant") && !excepted.contains(table.as_str())).collect();
    assert!(keys.len() > 30 && others.is_empty(), "{} keys; unique by something else first: {others:?}", keys.len());

    // A reference within the tenant, or to a table that every machine has.
    let references: Vec<(String, String, String, String)> = sqlx::query_as(
        "select k.conname::text, t.relname::text, f.attname::text, o.attname::text
         from pg_constraint k
         join pg_class t on t.oid = k.confrelid
         join pg_attribute f on f.attrelid = k.conrelid and f.attnum = k.conkey[1]
         join pg_attribute o on o.attrelid = k.confrelid and o.attnum = k.confkey[1]
         where k.contype = 'f' and k.connamespace = 'tocsin'::regnamespace",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let astray: Vec<_> =
        references.iter().filter(|(_, to, from, at)| !SHARED.contains(&to.as_str()) && (from != "tenant" || at != "tenant")).collect();
    assert!(references.len() > 10 && astray.is_empty(), "{} references; across tenants: {astray:?}", references.len());
}
