//! I13, I14: planted tokens are looked for everywhere they must not be.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use sqlx::PgPool;
use tenant_registry::ImportRules;

use crate::world::{CLIENT, Captured, id, rules, token, world};

/// A token, and the forms in which it could hide.
fn disguises(marker: &str) -> Vec<String> {
    let bytes = marker.as_bytes();
    // Base64 depends on where the text begins: the middle of each of the three alignments.
    let base64 = (0..3).flat_map(|skip| {
        let middle = &bytes[skip..skip + 15];
        [STANDARD_NO_PAD.encode(middle), URL_SAFE_NO_PAD.encode(middle)]
    });
    let mut all = vec![marker.to_owned(), hex::encode(bytes), hex::encode(bytes).to_uppercase()];
    all.extend(base64);
    all
}

/// Every row of every table of ours, as text.
async fn dump(pool: &PgPool) -> String {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('tocsin', 'dash') order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(tables.len() > 10, "{tables:?}");
    let mut text = String::new();
    for table in tables {
        let rows: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select r::text from {table} r"))).fetch_all(pool).await.unwrap();
        text.push_str(&rows.join("\n"));
    }
    text
}

#[sqlx::test(migrations = "../../migrations")]
async fn i13_a_planted_token_is_found_in_no_column_and_no_log_line(pool: PgPool) {
    let captured = Captured::default();
    let _guard = captured.listen(tracing::Level::TRACE);

    let marker = |n: u32| format!("0.AXCANARY-{n}-refresh-token-CANARY{n}");
    let world = world(pool).await;
    world
        .import(&[
            format!("{},one,global,main,graph-alerts,{}", id(1), marker(1)),
            format!("{},two,global,main,graph-alerts,{}", id(2), marker(2)),
            // Mistakes that put the token where it does not belong.
            format!("{},three,global,main,graph-alerts,\"{}", id(3), marker(3)),
            format!("{},three,global,main,{},graph-alerts", id(3), marker(4)),
            format!("{},four,{},main,graph-alerts,", id(4), marker(4)),
            format!("{};five;global;main;graph-alerts;{}", id(5), marker(4)),
        ])
        .await
        .failures()
        .for_each(|(line, error)| assert!(!format!("{line:?} {error} {error:?}").contains("CANARY")));
    let fence = world.hold(id(1)).await;
    world.registry.commit_rotation(fence, 1, CLIENT, &token(&marker(5))).await.unwrap();
    world.registry.commit_rotation(fence, 1, CLIENT, &token(&marker(6))).await.unwrap_err();
    let replace = ImportRules { replace_token: true, ..rules() };
    world.import_by(&[format!("{},two,global,main,graph-alerts,{}", id(2), marker(7))], &replace).await;
    let opened = world.registry.open_refresh_token(id(2), CLIENT).await.unwrap().unwrap();
    tracing::trace!(?opened, registry = ?world.registry, "the search can see this line");

    let dump = dump(&world.pool).await;
    let log = captured.text();
    assert!(dump.contains(CLIENT) && dump.contains("one"), "the search would find what is there");
    assert!(log.contains("the search can see this line") && log.contains("put_imported"), "statements are in the log");
    for number in 1..=7 {
        for disguise in disguises(&marker(number)) {
            assert!(!dump.contains(&disguise), "{disguise} is in the database");
            assert!(!log.contains(&disguise), "{disguise} is in the log");
        }
    }
    let key = std::fs::read_to_string(&world.ring_path).unwrap();
    let key = key.lines().last().unwrap().split(' ').nth(2).unwrap().to_owned();
    assert!(!dump.contains(&key[..20]) && !log.contains(&key[..20]));
}
