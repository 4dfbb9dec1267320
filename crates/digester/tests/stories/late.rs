//! What commits late is not missed, and what holds it up is seen.

use digester::{Right, look};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use crate::world::{GRAPH, Sink, State, assert_recounted, derive, derive_now, number, tenant};

/// Another session of the same database, with a transaction that has a number.
async fn session(pool: &PgPool) -> PgConnection {
    PgConnection::connect_with(&pool.connect_options()).await.unwrap()
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_alert_that_commits_after_one_that_was_written_later_is_derived(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let right = Right::Lease(fence);
    derive(&pool, right).await;
    // Written first, committed last.
    let mut slow = session(&pool).await;
    let insert = format!(
        "begin; insert into tocsin.alert (tenant, alert_id, source, source_rank, hash, version_created_at, created_at, severity)
         values ('{}', 'slow', 'graph-alerts', 2, '', '2026-11-01', '2026-11-01', 'low')",
        fence.tenant
    );
    sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut slow).await.unwrap();
    sink.store(fence, GRAPH, &[State { id: "quick".into(), ..State::default() }]).await;

    assert_eq!(derive_now(&pool, right).await, 0, "it lies above a transaction that is still running");
    let due = look(&pool, &[fence.tenant]).await.unwrap();
    assert!(due.len() == 1 && !due[0].ready && due[0].held, "{due:?}");
    assert_eq!(
        number(&pool, "select waiting from dash.digest_health where state = 'behind' and lag_seconds > 0 and derived_until < now()").await,
        1
    );

    sqlx::raw_sql("commit").execute(&mut slow).await.unwrap();
    assert_eq!(derive(&pool, right).await, 2, "both");
    assert_eq!(number(&pool, "select sum(alerts)::bigint from dash.alert_hour").await, 2);
    assert_eq!(look(&pool, &[fence.tenant]).await.unwrap(), []);
    assert_eq!(number(&pool, "select waiting from dash.digest_health where state = 'current' and lag_seconds = 0").await, 0);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_transaction_of_another_tenant_that_is_rolled_back_leaves_nothing_behind(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let mut other = session(&pool).await;
    sqlx::raw_sql("begin; select pg_current_xact_id()").execute(&mut other).await.unwrap();
    sink.store(fence, GRAPH, &[State::default()]).await;
    assert_eq!(look(&pool, &[fence.tenant]).await.unwrap().len(), 1);
    // The sweep with which everything begins does not wait: it reads what is there.
    assert_eq!(derive_now(&pool, Right::Lease(fence)).await, 1);
    sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();
    // What lay above the horizon is looked at once more, and counted once.
    derive(&pool, Right::Lease(fence)).await;
    assert_recounted(&pool, "after the rollback").await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn many_idle_tenants_have_nothing_due(pool: PgPool) {
    let mut held = Vec::new();
    for number in 1..=20 {
        let fence = tenant(&pool, number).await;
        derive(&pool, Right::Lease(fence)).await;
        held.push(fence.tenant);
    }
    assert_eq!(look(&pool, &held).await.unwrap(), []);
    let fence = tenant(&pool, 21).await;
    held.push(fence.tenant);
    let due = look(&pool, &held).await.unwrap();
    assert_eq!(due.iter().map(|due| due.tenant).collect::<Vec<_>>(), [fence.tenant], "one that was never looked at");
}
