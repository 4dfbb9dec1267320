//! Several who derive at once, tenants that pass from one to another, and those who go.

use digester::{Right, Stepped, look, step};
use domain::{Epoch, Fence};
use sqlx::PgPool;
use tokio::task::JoinSet;

use crate::world::{GRAPH, Sink, State, assert_recounted, derive, number, run, tenant};

#[sqlx::test(migrations = "../../migrations")]
async fn a_lost_lease_derives_nothing_and_two_never_derive_one_tenant(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    sink.store(fence, GRAPH, &[State::default()]).await;
    let before = Fence { epoch: Epoch(0), ..fence };
    assert_eq!(step(&pool, Right::Lease(before), false).await.unwrap(), Stepped::NotOurs);
    derive(&pool, Right::Lease(fence)).await;
    let mut other = pool.begin().await.unwrap();
    sqlx::query("select from tocsin.derivation for update").execute(&mut *other).await.unwrap();
    assert_eq!(step(&pool, Right::Lease(fence), false).await.unwrap(), Stepped::NotOurs, "somebody is at it");
    other.rollback().await.unwrap();
    assert_eq!(derive(&pool, Right::Lease(fence)).await, 0);
}

#[sqlx::test(migrations = "../../migrations")]
async fn many_who_move_the_same_counts_neither_lose_one_nor_wait_in_a_circle(pool: PgPool) {
    let sink = Sink::start(&pool);
    let mut fences = Vec::new();
    for number in 1..=8 {
        // All in one and the same of the sixteen rows of an hour.
        fences.push(tenant(&pool, 16 * number).await);
    }
    for round in 0..6 {
        for (at, fence) in fences.iter().enumerate() {
            // The same hours, in another order for everybody.
            let hours = (0..12_u32).map(|hour| (hour * 5 + at as u32) % 12);
            let severity = ["low", "medium", "high"][round % 3];
            let page: Vec<_> = hours
                .map(|hour| State { id: format!("h{hour}"), created: hour, severity, ago: 60 - round as u32, ..State::default() })
                .collect();
            sink.store(*fence, GRAPH, &page).await;
        }
        let mut steps = JoinSet::new();
        for fence in &fences {
            let (pool, fence) = (pool.clone(), *fence);
            steps.spawn(async move { step(&pool, Right::Lease(fence), false).await });
        }
        while let Some(stepped) = steps.join_next().await {
            stepped.unwrap().expect("nobody is turned away");
        }
    }
    for fence in &fences {
        derive(&pool, Right::Lease(*fence)).await;
    }
    assert_recounted(&pool, "after all rounds").await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_a_customer_left_when_it_went_is_derived_by_whoever_comes_first(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let right = Right::Removed(fence.tenant);
    sink.store(fence, GRAPH, &[State::default()]).await;
    assert_eq!(step(&pool, right, false).await.unwrap(), Stepped::NotOurs, "it has not gone");
    run(&pool, "update tocsin.tenant set state = 'removed'; update tocsin.lease set epoch = 2").await;
    let due = look(&pool, &[]).await.unwrap();
    assert!(due.len() == 1 && due[0].tenant == fence.tenant && !due[0].held && due[0].ready, "{due:?}");
    assert_eq!(number(&pool, "select waiting from dash.digest_health").await, 1, "also one that has gone");
    derive(&pool, right).await;
    assert_recounted(&pool, "after it went").await;
    assert_eq!(look(&pool, &[]).await.unwrap(), []);
    assert_eq!(number(&pool, "select count(*) from dash.digest_health").await, 0);
}
