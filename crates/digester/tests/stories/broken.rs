//! A broken alert is passed over and told; nobody else suffers.

use std::sync::Arc;
use std::time::Duration;

use digester::{Deps, DigestWorker, Right, step};
use domain::health::StageStatus;
use domain::{Clock as _, SystemClock};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::world::{GRAPH, Sink, State, derive, held, number, run, settled, tenant};

#[sqlx::test(migrations = "../../migrations")]
async fn a_body_that_cannot_be_read_is_passed_over_and_told(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    sink.store(fence, GRAPH, &["good", "broken", "gone", "foreign"].map(|id| State { id: id.into(), ..State::default() })).await;
    run(
        &pool,
        "update tocsin.alert_version set raw = '[1]' where alert_id = 'broken'; delete from tocsin.alert_version where alert_id = 'gone'",
    )
    .await;
    run(&pool, "update tocsin.alert set source = 'sentinel' where alert_id = 'foreign'").await;
    // How many steps that takes depends on the transactions of other stories.
    derive(&pool, Right::Lease(fence)).await;
    assert_eq!(number(&pool, "select sum(alerts)::bigint from dash.alert_day").await, 4, "they are counted by their columns");
    assert_eq!(number(&pool, "select count(*) from dash.evidence").await, 1);
    assert_eq!(
        number(&pool, "select skipped from dash.digest_health where skipped_reason like 'it came from a source%' and waiting = 0").await,
        3
    );
    // Mended: the next state of it is like any other.
    sink.store(fence, GRAPH, &[State { id: "broken".into(), ago: 1, ..State::default() }]).await;
    derive(&pool, Right::Lease(fence)).await;
    assert_eq!(number(&pool, "select skipped from dash.digest_health").await, 2);
    assert_eq!(number(&pool, "select count(*) from dash.evidence").await, 2);
}

#[sqlx::test(migrations = "../../migrations")]
async fn texts_that_postgres_cannot_hold_are_patched(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let body = r#"{"id": "a", "title": "x\u0000", "description": "\ud800", "mitreTechniques": ["T\u0000", "it's \"q\" \\ {a,b}"],
        "evidence": [{"url": "https://e/\u0000\udfff", "roles": ["a\u0000"], "verdict": "\u0000"}, {"deviceDnsName": "ıİ\\\"{,}"}]}"#;
    sink.store_bodies(fence, GRAPH, &[body.to_owned()]).await;
    derive(&pool, Right::Lease(fence)).await;
    assert_eq!(number(&pool, "select skipped from dash.digest_health").await, 0);
    let values: Vec<String> = sqlx::query_scalar("select value from dash.evidence order by kind").fetch_all(&pool).await.unwrap();
    assert_eq!(values, ["ıİ\\\"{,}", "https://e/\u{fffd}\u{fffd}"]);
    let techniques: Vec<String> =
        sqlx::query_scalar("select technique from dash.technique_day order by length(technique)").fetch_all(&pool).await.unwrap();
    assert_eq!(techniques, ["T\u{fffd}", "it's \"q\" \\ {a,b}"]);
    // The event can be read as jsonb, too, which takes less than json.
    assert_eq!(
        number(&pool, "select count(*) from dash.ocsf_finding where finding::jsonb -> 'finding_info' ->> 'desc' = U&'\\FFFD'").await,
        1
    );
    // A second step with the techniques remembered moves nothing.
    run(&pool, "update tocsin.alert set changed_xid = pg_current_xact_id()").await;
    derive(&pool, Right::Lease(fence)).await;
    assert_eq!(number(&pool, "select sum(alerts)::bigint from dash.technique_day").await, 2);
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_the_database_refuses_of_one_alert_stops_no_other(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    run(&pool, "alter table tocsin.evidence add constraint no_seven check (value not like '%.7')").await;
    let states =
        ["a", "b", "c"].map(|id| State { id: id.into(), addresses: if id == "b" { vec![7] } else { vec![1] }, ..State::default() });
    sink.store(fence, GRAPH, &states).await;
    let right = Right::Lease(fence);
    let error = step(&pool, right, false).await.unwrap_err().to_string();
    assert!(error.contains("23514") && !error.contains("no_seven"), "{error}");
    assert_eq!(number(&pool, "select count(*) from dash.alert_day").await, 0, "all or nothing");
    step(&pool, right, true).await.unwrap();
    derive(&pool, right).await;
    assert_eq!(number(&pool, "select count(*) from dash.evidence").await, 2);
    assert_eq!(number(&pool, "select sum(alerts)::bigint from dash.alert_day").await, 3);
    assert_eq!(number(&pool, "select skipped from dash.digest_health where skipped_reason like '%23514%'").await, 1);
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_worker_keeps_up_says_what_hinders_it_and_recovers(pool: PgPool) {
    let fences = [tenant(&pool, 1).await, tenant(&pool, 2).await];
    let sink = Sink::start(&pool);
    let (_tenants, tenants) = watch::channel(held(&fences));
    let (says, mut status) = watch::channel(StageStatus::faulty(SystemClock.now(), "starting"));
    let stop = CancellationToken::new();
    let deps = Deps { pool: pool.clone(), tenants, clock: Arc::new(SystemClock), status: says };
    let worker = tokio::spawn(DigestWorker::new(deps).looking_every(Duration::from_millis(20)).run(stop.clone()));
    let mut until = async |what: &str, right: &dyn Fn(&StageStatus) -> bool| {
        let waited = timeout(Duration::from_secs(60), status.wait_for(|status| right(status))).await;
        waited.unwrap_or_else(|_| panic!("{what} did not come true")).expect("the worker lives");
    };
    until("it is well", &|status| status.fault.is_none()).await;
    for fence in fences {
        sink.store(fence, GRAPH, &[State::default()]).await;
    }
    settled(&pool, 2).await;

    // One alert that the database refuses is no fault of the stage, and does not keep the others waiting.
    run(&pool, "alter table tocsin.evidence add constraint no_seven check (value not like '%.7')").await;
    sink.store(fences[0], GRAPH, &[State { id: "seven".into(), addresses: vec![7], ..State::default() }]).await;
    sink.store(fences[1], GRAPH, &[State { id: "other".into(), ..State::default() }]).await;
    settled(&pool, 4).await;
    assert_eq!(number(&pool, "select sum(skipped)::bigint from dash.digest_health").await, 1);

    run(&pool, "alter table tocsin.evidence rename to hidden").await;
    sink.store(fences[0], GRAPH, &[State { id: "later".into(), ..State::default() }]).await;
    until("it says what hinders it", &|status| status.fault.as_deref().is_some_and(|fault| fault.contains("42P01"))).await;
    run(&pool, "alter table tocsin.hidden rename to evidence").await;
    settled(&pool, 5).await;
    until("it is well again", &|status| status.fault.is_none()).await;
    stop.cancel();
    worker.await.unwrap().unwrap();
}
