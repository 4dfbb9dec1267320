//! What the database cannot hold goes to quarantine, and its neighbours commit.

use domain::ports::Cursors;
use domain::{ContentHash, Gap, GapKind};
use sink::CursorStore;
use sqlx::PgPool;

use crate::world::{GRAPH, MORNING, NOON, Sink, Tail, alert, counts, number, soon, tenant, ticks, titles, until, with_body};

/// An id that no index can hold, whatever compresses it.
fn unbearable_id() -> String {
    let mut hash = ContentHash::of(b"seed");
    let mut id = String::new();
    for _ in 0..200 {
        hash = ContentHash::of(&hash.0);
        id.push_str(&hash.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
    id
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_record_that_the_database_refuses_goes_to_quarantine_and_its_neighbours_commit(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    for (round, bad) in [vec![0], vec![36], vec![3, 4, 20], vec![0, 36], (0..37).collect()].into_iter().enumerate() {
        let page = || -> Vec<_> {
            let id = |at: usize| if bad.contains(&at) { format!("{}-{round}-{at}", unbearable_id()) } else { format!("{round}-{at}") };
            (0..37).map(|at| alert(&id(at), NOON, "t")).collect()
        };
        let (good, refused) = (37 - bad.len() as u64, bad.len() as u64);
        let tail = || Tail { cursor: Some(NOON), gaps: vec![], ..Tail::default() };
        assert_eq!(counts(sink.store_with(fence, GRAPH, page(), tail()).await), (good, 0, 0, refused), "{bad:?}");
        assert_eq!(counts(sink.store_with(fence, GRAPH, page(), tail()).await), (0, 0, good, 0), "{bad:?} again");
    }
    assert_eq!(number(&pool, "select count(*) from dash.quarantine where reason like '%54000%'").await, 1 + 1 + 3 + 2 + 37);
    assert_eq!(number(&pool, "select quarantined from dash.feed_health").await, 1 + 1 + 3 + 2 + 37);
    assert!(sink.status.borrow().fault.is_none(), "one bad record is no outage");
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn while_a_batch_is_being_cut_its_cursor_waits_for_the_last_record(pool: PgPool) {
    let (fence, sink, cursors) = (tenant(&pool, 1).await, Sink::start(&pool), CursorStore::new(pool.clone()));
    counts(sink.store(fence, GRAPH, vec![alert("last", MORNING, "t")]).await);
    let mut blocker = pool.begin().await.unwrap();
    sqlx::query("select 1 from tocsin.alert where alert_id = 'last' for update").execute(&mut *blocker).await.unwrap();
    let page = vec![alert(&unbearable_id(), NOON, "t"), alert("b", NOON, "t"), alert("c", NOON, "t"), alert("last", NOON, "u")];
    let gaps = vec![Gap { from: ticks(MORNING), to: ticks(NOON), kind: GapKind::Ties, reason: "x".into() }];
    let answer = sink.send(fence, GRAPH, page, Tail { cursor: Some(NOON), gaps, ..Tail::default() }).await;
    until("the first half is stored", || titles(&pool), |rows| rows.iter().any(|row| row.0 == "b")).await;
    assert_eq!(cursors.feed_state(fence.tenant, GRAPH).await.unwrap().watermark, None);
    assert_eq!(number(&pool, "select count(*) from dash.gap").await, 0);

    blocker.rollback().await.unwrap();
    assert_eq!(counts(soon("the answer", answer).await.unwrap()), (2, 1, 0, 1));
    assert_eq!(cursors.feed_state(fence.tenant, GRAPH).await.unwrap().watermark, Some(ticks(NOON)));
    assert_eq!(number(&pool, "select count(*) from dash.gap").await, 1);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn ids_that_postgres_cannot_hold_are_quarantined_without_asking(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let page = vec![alert("with\0nul", NOON, "t"), with_body("ok", "{}", Some(NOON), None, "a\0title")];
    assert_eq!(counts(sink.store(fence, GRAPH, page).await), (1, 0, 0, 1));
    assert_eq!(titles(&pool).await, [("ok".into(), "a\u{FFFD}title".into())]);
    sink.stop().await;
}
