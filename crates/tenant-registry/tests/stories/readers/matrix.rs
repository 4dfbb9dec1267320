//! G23: every role tries every verb on every table and view.

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use super::{Guarded, tables, views};

const VERBS: [&str; 9] = ["select", "insert", "update", "delete", "truncate", "lock", "copy", "alter", "drop"];
/// What the daemon's role may do besides reading; all to the other tables of its own work.
const DAEMON_MAY: [(&str, &[&str]); 8] = [
    ("alert_version", &["insert"]),
    ("alert_event", &["insert"]),
    ("audit", &["insert"]),
    ("audit_head", &["insert", "update"]),
    ("alert", &["insert", "update"]),
    ("incident", &["insert", "update"]),
    ("reader_tenant", &["delete"]),
    ("schema_history", &[]),
];

/// Tries it, and undoes it; `true` when it was not forbidden.
async fn may(connection: &mut PgConnection, verb: &str, schema: &str, table: &str, column: &str) -> bool {
    let it = format!("{schema}.{table}");
    let sql = match verb {
        "select" => format!("select from {it} limit 1"),
        "insert" => format!("insert into {it} default values"),
        "update" => format!("update {it} set {column} = {column} where false"),
        "delete" => format!("delete from {it} where false"),
        "truncate" => format!("truncate {it}"),
        "lock" => format!("lock table {it} in access exclusive mode nowait"),
        "copy" => format!("copy {it} from stdin"),
        "alter" => format!("alter table {it} add column x int"),
        _ => format!("drop {} {it}", if schema == "dash" { "view" } else { "table" }),
    };
    let mut tx = connection.begin().await.unwrap();
    sqlx::raw_sql("set local default_transaction_read_only = off").execute(&mut *tx).await.unwrap();
    let refused = match verb {
        "copy" => tx.copy_in_raw(&sql).await.err(),
        _ => sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await.err(),
    };
    tx.rollback().await.unwrap();
    // Forbidden, or no such thing can be done to a view at all; anything else came after the rights were looked at.
    let code = refused.and_then(|error| error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned())));
    !code.is_some_and(|code| ["42501", "55000", "42809", "25006"].contains(&code.as_str()))
}

#[sqlx::test]
async fn every_role_may_do_to_every_table_what_it_should_and_nothing_else(pool: PgPool) {
    let world = Guarded::new(pool).await;
    let column = async |schema: &str, table: &str| -> String {
        let sql = "select quote_ident(attname) from pg_attribute where attrelid = ($1 || '.' || $2)::regclass and attnum = 1";
        sqlx::query_scalar(sql).bind(schema).bind(table).fetch_one(&world.pool).await.unwrap()
    };
    let (tables, views) = (tables(&world.pool).await, views(&world.pool).await);
    let mut tried = 0;
    let mut wrong = Vec::new();
    for role in [&world.customer, &world.all] {
        let mut reader = world.login(role).await;
        for (schema, table) in tables.iter().map(|table| ("tocsin", table)).chain(views.iter().map(|view| ("dash", view))) {
            let column = column(schema, table).await;
            for verb in VERBS {
                let should = schema == "dash" && verb == "select";
                if may(&mut reader, verb, schema, table, &column).await != should {
                    wrong.push(format!("{role} {verb} {schema}.{table}"));
                }
                tried += 1;
            }
        }
        reader.close().await.unwrap();
    }
    let mut daemon = world.login(&world.pooler).await;
    // The daemon's login takes its role in the same way.
    sqlx::raw_sql(AssertSqlSafe(format!("grant tocsin_ingest to {}", world.pooler))).execute(&world.pool).await.unwrap();
    sqlx::raw_sql("set role tocsin_ingest").execute(&mut daemon).await.unwrap();
    for table in &tables {
        let column = column("tocsin", table).await;
        let known = DAEMON_MAY.iter().find(|(known, _)| table == known).map(|(_, verbs)| *verbs);
        let partition = table.starts_with("alert_version_");
        for verb in VERBS {
            let should = match verb {
                // Read through the table that they are part of.
                "select" if partition => continue,
                "select" => true,
                "truncate" | "alter" | "drop" => false,
                // Row security lets nobody copy into a table; locks follow from the right to change.
                "copy" | "lock" => continue,
                verb if partition => {
                    assert!(!may(&mut daemon, verb, "tocsin", table, &column).await, "{verb} on {table} itself");
                    continue;
                }
                verb => match known {
                    Some(verbs) => verbs.contains(&verb),
                    // Tables of one worker: which of the three it needs is its own business.
                    None => continue,
                },
            };
            if may(&mut daemon, verb, "tocsin", table, &column).await != should {
                wrong.push(format!("tocsin_ingest {verb} tocsin.{table}"));
            }
            tried += 1;
        }
    }
    daemon.close().await.unwrap();
    assert_eq!(wrong, [""; 0]);
    assert!(tried > 600, "{tried}");
    world.end().await;
}
