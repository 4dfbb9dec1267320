//! Bodies that retention has let go: what was derived from them stays, and that they are gone is no fault.

use digester::Right;
use sqlx::PgPool;

use crate::world::{GRAPH, Sink, State, derive, number, run, tenant};

/// All that dashboards read of what is derived, in one text each.
const VIEWS: [&str; 6] = ["evidence", "alert_day", "technique_day", "detection_day", "alert_hour", "ocsf_finding"];

async fn shown(pool: &PgPool) -> Vec<String> {
    let mut shown = Vec::new();
    for view in VIEWS {
        let sql = format!("select coalesce(string_agg(v::text, ' ' order by v::text), '') from dash.{view} v");
        shown.push(sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap());
    }
    shown
}

/// Three alerts of one month, two of which rest while one is still worked on; then the month goes.
async fn month_goes(pool: &PgPool) -> Right {
    let (fence, sink) = (tenant(pool, 1).await, Sink::start(pool));
    let states = ["rests", "rests too", "worked on"].map(|id| State { id: id.into(), ..State::default() });
    sink.store(fence, GRAPH, &states).await;
    let right = Right::Lease(fence);
    derive(pool, right).await;
    // As if all of it had happened half a year before: the month of the bodies, and when they were stored.
    let sql = "select tocsin.ensure_version_partition(now() - interval '180 days');
        update tocsin.retention set versions = interval '60 days';
        update tocsin.alert_version set created_at = now() - interval '180 days';
        update tocsin.alert set version_created_at = now() - interval '180 days';
        update tocsin.alert set last_stored_at = now() - interval '170 days' where alert_id <> 'worked on'";
    run(pool, sql).await;
    let drop = "select versions * 10 + kept from tocsin.drop_version_month(
        (date_trunc('month', (now() - interval '180 days') at time zone 'UTC'))::date, 100)";
    assert_eq!(number(pool, drop).await, 31, "three go, one of which is kept elsewhere");
    right
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_was_derived_stays_when_all_is_derived_anew_in_place(pool: PgPool) {
    let right = month_goes(&pool).await;
    let before = shown(&pool).await;
    // As after a restore on another server, or with a newer derivation.
    run(&pool, "update tocsin.derivation set system_id = 0").await;
    derive(&pool, right).await;
    assert_eq!(shown(&pool).await, before);
    assert_eq!(number(&pool, "select skipped from dash.digest_health").await, 0, "that is no fault");
    // A new state of one of them comes with its body, and is derived from it.
    let sink = Sink::start(&pool);
    let Right::Lease(fence) = right else { unreachable!() };
    sink.store(fence, GRAPH, &[State { id: "rests".into(), ago: 1, addresses: vec![8, 9], techniques: vec!["T2"], ..State::default() }])
        .await;
    derive(&pool, right).await;
    assert_eq!(number(&pool, "select count(*) from dash.evidence where alert_id = 'rests' and value like '%.8'").await, 1);
    assert_eq!(number(&pool, "select sum(alerts)::bigint from dash.technique_day where technique = 'T1059'").await, 2);
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_was_thrown_away_is_counted_by_its_columns_and_is_no_fault(pool: PgPool) {
    let right = month_goes(&pool).await;
    let (days, hours) = (shown(&pool).await[1].clone(), shown(&pool).await[4].clone());
    run(&pool, "select tocsin.forget_derived()").await;
    derive(&pool, right).await;
    let after = shown(&pool).await;
    assert_eq!((&after[1], &after[4]), (&days, &hours), "what the columns tell is as it was");
    assert_eq!(number(&pool, "select count(*) from dash.evidence where alert_id <> 'worked on'").await, 0);
    assert_eq!(number(&pool, "select count(*) from dash.evidence where alert_id = 'worked on'").await, 1, "its body is there");
    assert_eq!(number(&pool, "select count(*) from dash.ocsf_finding").await, 3);
    assert_eq!(number(&pool, "select skipped from dash.digest_health").await, 0);
    // A body that is missing in a month that was not dropped is a fault as ever.
    run(&pool, "delete from tocsin.alert_version; delete from tocsin.dropped_month; select tocsin.forget_derived()").await;
    derive(&pool, right).await;
    assert_eq!(number(&pool, "select skipped from dash.digest_health where skipped_reason like 'its body is not stored%'").await, 3);
}
