//! Beginning anew: on another server, with other code, and after everything was thrown away.

use digester::{Right, Stepped, look, step};
use sqlx::PgPool;

use crate::world::{GRAPH, Sink, State, assert_recounted, derive, number, run, tenant};

fn states(count: u32) -> Vec<State> {
    (0..count).map(|n| State { id: format!("a{n:05}"), created: n % 400, ..State::default() }).collect()
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_sweep_goes_in_steps_and_what_changes_meanwhile_is_not_missed(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let right = Right::Lease(fence);
    sink.store(fence, GRAPH, &states(1200)).await;
    assert_eq!(step(&pool, right, false).await.unwrap(), Stepped::Moved { alerts: 500, more: true });
    assert_eq!(number(&pool, "select waiting from dash.digest_health where state = 'rebuilding' and derived_until is null").await, 700);
    // Behind the sweep and before it; one is new.
    let update = ["a00001", "a01100", "a00001x"].map(|id| State { id: id.into(), ago: 5, status: "resolved", ..State::default() });
    sink.store(fence, GRAPH, &update).await;
    derive(&pool, right).await;
    assert_recounted(&pool, "after the sweep").await;
    assert_eq!(number(&pool, "select count(*) from tocsin.digested").await, 1201);
    assert_eq!(look(&pool, &[fence.tenant]).await.unwrap(), []);
}

#[sqlx::test(migrations = "../../migrations")]
async fn another_server_or_other_code_begins_anew_and_nothing_is_counted_twice(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let right = Right::Lease(fence);
    sink.store(fence, GRAPH, &states(20)).await;
    derive(&pool, right).await;
    for change in [
        // Restored from a server that had counted far ahead, into this one.
        "update tocsin.alert set changed_xid = '90000000000000'; update tocsin.digested set changed_xid = '90000000000000';
         update tocsin.derivation set system_id = 7, upto = '90000000000001'",
        "update tocsin.derivation set version = 0",
    ] {
        run(&pool, change).await;
        assert!(look(&pool, &[fence.tenant]).await.unwrap()[0].ready, "{change}");
        assert!(derive(&pool, right).await >= 20, "{change}");
        assert_recounted(&pool, change).await;
        assert_eq!(look(&pool, &[fence.tenant]).await.unwrap(), [], "{change}");
        assert_eq!(number(&pool, "select waiting from dash.digest_health where state = 'current'").await, 0, "{change}");
        sink.store(fence, GRAPH, &[State { id: "a00003".into(), ago: 5, severity: "low", ..State::default() }]).await;
        derive(&pool, right).await;
        assert_recounted(&pool, "a change on the new server").await;
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_transaction_that_changed_more_than_fits_becomes_a_sweep(pool: PgPool) {
    let fence = tenant(&pool, 1).await;
    derive(&pool, Right::Lease(fence)).await;
    let insert = format!(
        "insert into tocsin.alert (tenant, alert_id, source, source_rank, hash, version_created_at, created_at, severity)
         select '{}', 'a' || n, 'graph-alerts', 2, '', '2026-11-01', '2026-11-01', 'low' from generate_series(1, 5001) n",
        fence.tenant
    );
    run(&pool, &insert).await;
    while !look(&pool, &[fence.tenant]).await.unwrap()[0].ready {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(step(&pool, Right::Lease(fence), false).await.unwrap(), Stepped::Moved { alerts: 0, more: true });
    assert!(derive(&pool, Right::Lease(fence)).await >= 5001);
    assert_eq!(number(&pool, "select sum(alerts)::bigint from dash.alert_hour").await, 5001);
}

#[sqlx::test(migrations = "../../migrations")]
async fn all_can_be_forgotten_and_is_derived_again(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    sink.store(fence, GRAPH, &states(30)).await;
    derive(&pool, Right::Lease(fence)).await;
    // However wrong it has become.
    run(&pool, "update tocsin.alert_day set alerts = 77; delete from tocsin.evidence; update tocsin.alert_hour set alerts = 1").await;
    run(&pool, "select tocsin.forget_derived()").await;
    assert_eq!(number(&pool, "select count(*) from dash.alert_day").await, 0);
    assert_eq!(number(&pool, "select waiting from dash.digest_health where state = 'not begun'").await, 30);
    derive(&pool, Right::Lease(fence)).await;
    assert_recounted(&pool, "derived again").await;
}
