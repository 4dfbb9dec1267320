//! Bodies are kept byte for byte, and every body that is accepted can be read through the views.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::value::RawValue;
use sqlx::PgPool;

use crate::world::{GRAPH, NOON, Sink, counts, number, tenant, with_body};

fn awkward() -> Vec<String> {
    let mut bodies: Vec<String> = [
        r#"{"id":"a","title":"nul \u0000 inside"}"#,
        r#"{"id":"a","title":"lone \ud800 and \udc00 surrogates \ud83d\ude00"}"#,
        "{ \"id\" :\t\"a\" ,\r\n  \"n\":   1.0e5 }",
        r#"{"n":[1.0e5,1E+2,-0.0,-0,0.10,1e400,123456789012345678901234567890.000]}"#,
        r#"{"id":"a","id":"b","id":"a"}"#,
        r#"{"":{"":[]}}"#,
        r#"{"name":"Ægir Sørensen, IŞIL ılgaz, İ i ı I","emoji":"🔔"}"#,
        r#"{"a":"\/\b\f\n\r\t\"\\"}"#,
        "{\"del\":\"\u{7f}\u{80}\u{2028}\u{feff}\u{fffd}\u{10ffff}\"}",
        "null",
        "\"a text\"",
        "{}",
    ]
    .map(str::to_owned)
    .to_vec();
    bodies.push(format!("{}1{}", "[".repeat(100), "]".repeat(100)));
    bodies.push(format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100)));
    bodies.push(format!("{{\"long\":\"{}\"}}", "x".repeat(300_000)));
    bodies.push(format!("{}{{}}{}", " ".repeat(5000), "\n".repeat(5000)));
    bodies
}

#[sqlx::test(migrations = "../../migrations")]
async fn bodies_come_back_byte_for_byte_through_the_views(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let bodies = awkward();
    let page = bodies.iter().enumerate().map(|(at, raw)| with_body(&format!("{at:03}"), raw, Some(NOON), None, "t")).collect();
    assert_eq!(counts(sink.store(fence, GRAPH, page).await), (bodies.len() as u64, 0, 0, 0));
    let views: [&'static str; 2] =
        ["select raw::text from dash.alert order by alert_id", "select raw::text from dash.alert_version order by alert_id"];
    for view in views {
        let back: Vec<String> = sqlx::query_scalar(view).fetch_all(&pool).await.unwrap();
        assert!(back == bodies, "through {view}");
    }
    assert_eq!(number(&pool, "select count(*) from tocsin.alert_version where hash is null or octet_length(raw) < 2").await, 0);
    sink.stop().await;
}

/// Whether a record is accepted as an alert body: the reader splits pages into raw values and bounds
/// their depth. Texts that it accepts must be castable for Postgres, or a view would fail.
fn accepted(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok_and(|raw| raw.get() == text)
}

/// JSON, nearly JSON, and pieces of it in any order.
fn nearly_json() -> impl Strategy<Value = String> {
    let good = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,4})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
        "[\"]([ !#-\\[\\]-~]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}|\\\\u[dD][89a-fA-F][0-9a-f]{2}|ı|🔔|\u{7f}){0,6}[\"]",
    ];
    let doubtful =
        prop_oneof!["-?[0-9.eE+-]{1,6}", "[\"]([ -~]|\\\\[a-z]|\\\\u[0-9a-g]{3,4}|\u{1}|\n){0,6}[\"]", "(True|nul|NaN|Infinity|-|)"];
    let scalar = prop_oneof![30 => good, 1 => doubtful];
    let space = prop_oneof![30 => "[ \t\r\n]{0,2}", 1 => "(\u{b}|\u{a0}|\u{feff})"];
    let tree = scalar.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            1 => inner.clone().prop_map(|value| format!("[{value},]")),
            20 => prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            20 => prop::collection::vec(("[a-cı]{0,2}", inner), 0..4).prop_map(|items| {
                let members: Vec<_> = items.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", members.join(" , "))
            }),
        ]
    });
    prop_oneof![9 => (space.clone(), tree, space).prop_map(|(before, tree, after)| format!("{before}{tree}{after}")), 1 => "[\\[\\]{}\",:0-9a-z \\\\]{0,12}"]
}

#[sqlx::test(migrations = "../../migrations")]
async fn every_text_we_accept_as_json_is_json_to_postgres(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    sqlx::query(
        "create function pg_temp.castable(text) returns boolean language plpgsql as $$
         begin perform $1::json; return true; exception when others then return false; end $$",
    )
    .execute(&mut *conn)
    .await
    .unwrap();
    let mut runner = TestRunner::deterministic();
    let (mut both, mut neither) = (0, 0);
    let texts: Vec<String> =
        awkward().into_iter().chain((0..4000).map(|_| nearly_json().new_tree(&mut runner).unwrap().current())).collect();
    for chunk in texts.chunks(500) {
        let castable: Vec<bool> =
            sqlx::query_scalar("select pg_temp.castable(t) from unnest($1::text[]) with ordinality as x(t, ord) order by ord")
                .bind(chunk)
                .fetch_all(&mut *conn)
                .await
                .unwrap();
        for (text, castable) in chunk.iter().zip(castable) {
            match (accepted(text.trim_matches([' ', '\t', '\r', '\n'])), castable) {
                (true, false) => panic!("accepted, but Postgres cannot cast it: {text:?}"),
                (true, true) => both += 1,
                (false, false) => neither += 1,
                // Stricter than Postgres is safe: the record goes to quarantine.
                (false, true) => {}
            }
        }
    }
    assert!(both > 1000 && neither > 500, "the texts say little: {both} accepted, {neither} refused by both");
}
