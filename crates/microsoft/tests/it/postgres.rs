//! What we call an alert, Postgres must be able to cast to `json`: a row that it cannot cast would fail
//! every query that touches it. Held against the server itself, since reading its source is not proof.

use bytes::Bytes;
use domain::{Record, Source};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sqlx::{PgPool, Row};

/// Bodies at the border of what is JSON.
const CORPUS: &[&str] = &[
    r#"{"id":"x"}"#,
    r#"{"id":"x","s":"\u0000"}"#,
    r#"{"id":"x","s":"\ud800"}"#,
    r#"{"id":"x","s":"\udc00\ud800"}"#,
    r#"{"id":"x","\ud800":1,"\u0000":2,"":3}"#,
    r#"{"id":"x","n":1e999999}"#,
    r#"{"id":"x","n":-0.0E+0}"#,
    r#"{"id":"x","n":123456789012345678901234567890123456789012345678901234567890}"#,
    r#"{"id":"x","n":0.1e-999999}"#,
    r#"{"id":"x","a":1,"a":2}"#,
    "{\"id\":\"x\",\"s\":\"\u{7f}\u{80}\u{2028}\u{fffe}\u{10ffff}\"}",
    " \t\r\n{\"id\" : \"x\" , \"a\" : [ ] }\r\n",
    r#"{"id":"x","s":"\/\b\f\n\r\t\"\\"}"#,
    r#"{"id":"x","n":01}"#,
    r#"{"id":"x","n":1.}"#,
    r#"{"id":"x","n":.1}"#,
    r#"{"id":"x","n":1e}"#,
    r#"{"id":"x","n":-}"#,
    r#"{"id":"x","n":+1}"#,
    r#"{"id":"x","n":1a}"#,
    r#"{"id":"x","n":truE}"#,
    r#"{"id":"x","n":truex}"#,
    r#"{"id":"x","s":"\'"}"#,
    r#"{"id":"x","s":"\U0041"}"#,
    r#"{"id":"x","s":"\u004"}"#,
    "{\"id\":\"x\",\"s\":\"\t\"}",
    "{\"id\":\"x\",\"\t\":1}",
    "{\"id\":\"x\",\"a\\\"\u{1f}\":1}",
    "{\"id\":\"x\"\u{b}}",
    "{\"id\":\"x\"\u{c}}",
    "{\"id\":\"x\"\u{a0}}",
    "\u{feff}{\"id\":\"x\"}",
    r#"{"id":"x",}"#,
    r#"{"id":"x"}}"#,
    r#"{"id":"x"}{}"#,
    r#"{"id":"x","a":[1,]}"#,
    r#"{"id":"x",'a':1}"#,
    r#"{"id":"x",a:1}"#,
    r#"{"id":"x"/**/}"#,
];

/// Sound bodies with a few bytes of something else put in anywhere.
fn damaged() -> impl Strategy<Value = String> {
    let sound = proptest::sample::select(CORPUS[..13].to_vec());
    let other = proptest::sample::select(vec![
        "\\", "\"", "{", "}", "[", "]", ",", ":", "0", "1", ".", "e", "-", "+", " ", "\t", "\u{1}", "\u{7f}", "\u{a0}", "u", "\\u",
        "\\ud83d", "null", "ı", "\\u0000", "'", "/",
    ]);
    (sound, proptest::collection::vec((0..200_usize, other, 0..3_usize), 0..4)).prop_map(|(sound, changes)| {
        let mut letters: Vec<char> = sound.chars().collect();
        for (at, put, cut) in changes {
            let at = at % (letters.len() + 1);
            let end = (at + cut).min(letters.len());
            letters.splice(at..end, put.chars());
        }
        letters.into_iter().collect()
    })
}

#[sqlx::test]
async fn every_alert_can_be_cast_to_json(pool: PgPool) {
    sqlx::query(
        "create function castable(body text) returns boolean language plpgsql as
         $$ begin perform body::json; return true; exception when others then return false; end $$",
    )
    .execute(&pool)
    .await
    .unwrap();
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let deep = format!(r#"{{"id":"x","a":{}{}}}"#, "[".repeat(99), "]".repeat(99));
    let mut bodies: Vec<String> = CORPUS.iter().map(|body| (*body).to_owned()).chain([deep]).collect();
    bodies.extend((0..20_000).map(|_| damaged().new_tree(&mut runner).unwrap().current()));
    let ours: Vec<Result<(), String>> = bodies
        .iter()
        .map(|body| match microsoft::extract::record(Source::GraphAlerts, Bytes::from(body.clone())) {
            Record::Alert(_) | Record::Incident(_) => Ok(()),
            Record::Poison(poison) => Err(poison.reason),
        })
        .collect();

    let theirs = sqlx::query("select castable(body) as yes from unnest($1::text[]) with ordinality as sent (body, place) order by place")
        .bind(&bodies)
        .fetch_all(&pool)
        .await
        .unwrap();
    let theirs: Vec<bool> = theirs.into_iter().map(|row| row.get("yes")).collect();
    assert_eq!(ours.len(), theirs.len());
    for ((body, ours), theirs) in bodies.iter().zip(&ours).zip(&theirs) {
        assert!(*theirs || ours.is_err(), "Postgres cannot cast what we call an alert: {body:?}");
        let incident = microsoft::extract::record(Source::GraphIncidents, Bytes::from(body.clone()));
        assert!(*theirs || !matches!(incident, Record::Incident(_)), "Postgres cannot cast what we call an incident: {body:?}");
        // Without an id it is poison for a reason that Postgres has no opinion about.
        assert!(!*theirs || *ours != Err("not valid JSON".to_owned()), "Postgres reads what we cannot: {body:?}");
    }
    let alerts = ours.iter().filter(|ours| ours.is_ok()).count();
    assert!(alerts > 2_000 && theirs.len() - alerts > 2_000, "{alerts} of {} are alerts: the cases must lie on both sides", theirs.len());
}
