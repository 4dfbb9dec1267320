//! Roll-ups equal a recount after any history: inserts and updates in any order from two sources, steps that are killed at
//! any point, careful ones, everything forgotten in between.

use digester::{Right, step};
use domain::Source;
use domain::rehearsal::{Action, Rehearsal};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sqlx::PgPool;

use crate::world::{GRAPH, MDE, Sink, State, assert_recounted, derive, number, run, tenant};

#[derive(Clone, Debug)]
enum Deed {
    /// A page of alerts of one tenant.
    Store(usize, Source, Vec<State>),
    Step(usize),
    Carefully(usize),
    /// A step that fails at this point.
    Killed(usize, &'static str),
    Forget,
}

fn state() -> impl Strategy<Value = State> {
    (
        0_u32..6,
        1_u32..110,
        select(&["low", "high", "unknown"][..]),
        select(&["new", "inProgress", "resolved"][..]),
        select(&["unknown", "truePositive", "falsePositive"][..]),
        prop::collection::btree_set(select(&["T1", "T2", "T3.001"][..]), 0..3),
        prop::collection::btree_set(1_u8..5, 0..3),
    )
        .prop_map(|(which, ago, severity, status, classification, techniques, addresses)| State {
            // The same id in small and in capital letters: case matters.
            id: ["a", "A", "bb", "BB", "ccc", "CCC"][which as usize].into(),
            created: which * 7,
            ago,
            severity,
            status,
            classification,
            techniques: techniques.into_iter().collect(),
            addresses: addresses.into_iter().collect(),
        })
}

fn deed() -> impl Strategy<Value = Deed> {
    let points = &["digest.begin", "digest.derived", "digest.before-commit", "digest.committed"][..];
    prop_oneof![
        6 => (0_usize..2, select(&[GRAPH, MDE][..]), prop::collection::vec(state(), 1..4)).prop_map(|(tenant, source, mut page)| {
            // A page shows an alert once.
            page.sort_by(|one, other| one.id.cmp(&other.id));
            page.dedup_by(|one, other| one.id == other.id);
            Deed::Store(tenant, source, page)
        }),
        3 => (0_usize..2).prop_map(Deed::Step),
        1 => (0_usize..2).prop_map(Deed::Carefully),
        2 => (0_usize..2, select(points)).prop_map(|(tenant, point)| Deed::Killed(tenant, point)),
        1 => Just(Deed::Forget),
    ]
}

#[sqlx::test(migrations = "../../migrations")]
async fn roll_ups_equal_a_recount_after_any_history(pool: PgPool) {
    let mut runner = TestRunner::deterministic();
    let sink = Sink::start(&pool);
    for history in 0..25 {
        // Two tenants that are counted in one and the same row of each hour.
        let fences = [tenant(&pool, 1000 + 32 * history).await, tenant(&pool, 1016 + 32 * history).await];
        let deeds = prop::collection::vec(deed(), 5..25).new_tree(&mut runner).unwrap().current();
        for deed in &deeds {
            match deed {
                Deed::Store(who, source, page) => sink.store(fences[*who], *source, page).await,
                Deed::Step(who) => drop(step(&pool, Right::Lease(fences[*who]), false).await.unwrap()),
                Deed::Carefully(who) => drop(step(&pool, Right::Lease(fences[*who]), true).await.unwrap()),
                Deed::Killed(who, point) => {
                    Rehearsal::default().at(point, Action::Error, None).begin();
                    step(&pool, Right::Lease(fences[*who]), false).await.unwrap_err();
                    assert!(Rehearsal::end()[point] > 0);
                    // Its transaction is rolled back behind our back, and whoever comes meanwhile passes the customer over.
                    run(&pool, &format!("select from tocsin.derivation where tenant = '{}' for update", fences[*who].tenant)).await;
                }
                Deed::Forget => run(&pool, "select tocsin.forget_derived()").await,
            }
        }
        for tenant in sqlx::query_scalar("select tenant from tocsin.tenant").fetch_all(&pool).await.unwrap() {
            let fence = domain::Fence { tenant: domain::TenantId(tenant), epoch: domain::Epoch(1) };
            derive(&pool, Right::Lease(fence)).await;
        }
        assert_recounted(&pool, &format!("history {history}: {deeds:#?}")).await;
    }
    assert!(number(&pool, "select count(*) from dash.alert_event").await > 20, "these histories hold updates");
    assert!(number(&pool, "select count(*) from dash.technique_day").await > 20, "and techniques");
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_update_that_loses_a_thing_loses_its_evidence(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    sink.store(fence, GRAPH, &[State { addresses: vec![1, 2], ..State::default() }]).await;
    assert!(derive(&pool, Right::Lease(fence)).await >= 1);
    assert_recounted(&pool, "at first").await;
    sink.store(
        fence,
        GRAPH,
        &[State { addresses: vec![3], ago: 5, status: "resolved", classification: "truePositive", ..State::default() }],
    )
    .await;
    assert_eq!(derive(&pool, Right::Lease(fence)).await, 1);
    assert_recounted(&pool, "after the update").await;
    let event: (String, String, i64) = sqlx::query_as(
        "select finding ->> 'activity_name', finding -> 'observables' -> 0 ->> 'value', (finding ->> 'type_uid')::bigint from dash.ocsf_finding",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(event, ("Close".into(), "192.0.2.3".into(), 200_403));
    // An older state that a slow source shows later changes nothing but what was measured.
    sink.store(fence, MDE, &[State { addresses: vec![4], ago: 50, ..State::default() }]).await;
    assert_eq!(derive(&pool, Right::Lease(fence)).await, 1);
    assert_recounted(&pool, "after an older state").await;
    assert_eq!(derive(&pool, Right::Lease(fence)).await, 0, "nothing is left");
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_was_visible_before_a_source_was_first_tried_is_not_late(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let old = State { id: "old".into(), ago: 121, ..State::default() };
    sink.store(fence, GRAPH, &[old, State { ago: 1, ..State::default() }]).await;
    derive(&pool, Right::Lease(fence)).await;
    assert_eq!(number(&pool, "select versions from dash.ingest_hour where le_seconds = 'infinity'").await, 1);
    assert_eq!(number(&pool, "select versions from dash.ingest_hour where le_seconds = 45").await, 0);
    assert_eq!(number(&pool, "select versions from dash.ingest_hour where le_seconds = 120").await, 1);
}
