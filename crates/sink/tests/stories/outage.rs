//! The database goes away, comes back, and forgets to answer.

use std::time::Duration;

use domain::ports::Cursors;
use domain::{Refusal, Source};
use sink::{Config, CursorStore};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::proxy::Proxy;
use crate::world::{EVENING, GRAPH, MDE, MORNING, NOON, Sink, Tail, alert, counts, number, soon, tenant, ticks, titles, until};

/// The test's own way to the database, the sink's way, and the door in between.
async fn behind_a_door(pool: PgPoolOptions, server: PgConnectOptions) -> (PgPool, PgPool, Proxy) {
    let own = pool.connect_with(server.clone()).await.unwrap();
    let proxy = Proxy::in_front_of(&server).await;
    let sinks = proxy.pool(&server);
    (own, sinks, proxy)
}

#[sqlx::test(migrations = "../../migrations")]
async fn when_the_answer_to_commit_gets_lost_nothing_is_stored_twice(pool: PgPoolOptions, server: PgConnectOptions) {
    let (pool, through, proxy) = behind_a_door(pool, server).await;
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&through));
    for round in 0..40_u32 {
        proxy.swallow(round % 3);
        let page = (0..5).map(|at| alert(&format!("{round}-{at}"), NOON, "t")).chain([alert("same", NOON, &round.to_string())]).collect();
        let outcome = sink.store_with(fence, GRAPH, page, Tail { cursor: Some(NOON), gaps: vec![], ..Tail::default() }).await.unwrap();
        assert_eq!(outcome.new + outcome.updated + outcome.duplicate, 6);
        assert_eq!(proxy.left_to_swallow(), 0, "the answer did get lost");
    }
    assert_eq!(number(&pool, "select count(*) from dash.alert_version").await, 40 * 6);
    assert_eq!(number(&pool, "select count(*) from dash.alert where version_count = 1").await, 40 * 5);
    assert_eq!(number(&pool, "select version_count::bigint from dash.alert where alert_id = 'same'").await, 40);
    assert_eq!(number(&pool, "select count(distinct version) from dash.alert_version where alert_id = 'same'").await, 40);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn while_the_database_is_away_batches_wait_and_say_so_and_are_stored_when_it_is_back(pool: PgPoolOptions, server: PgConnectOptions) {
    let (pool, through, proxy) = behind_a_door(pool, server).await;
    let (fence, mut sink) = (tenant(&pool, 1).await, Sink::start(&through));
    counts(sink.store(fence, GRAPH, vec![alert("a", MORNING, "before")]).await);
    proxy.shut();
    let mut first = sink.send(fence, GRAPH, vec![alert("a", NOON, "during")], Tail::default()).await;
    let second = sink
        .send(fence, GRAPH, vec![alert("a", EVENING, "during, later")], Tail { cursor: Some(EVENING), gaps: vec![], ..Tail::default() })
        .await;
    let status = soon("the fault", sink.status.wait_for(|status| status.fault.is_some())).await.unwrap().clone();
    assert!(status.fault.as_ref().unwrap().starts_with("the database cannot be reached since 20"), "{status:?}");
    let later = soon("a beat", sink.status.wait_for(|later| later.beat > status.beat)).await.unwrap().clone();
    assert!(later.fault.is_some());
    assert!(first.try_recv().is_err(), "nothing is acknowledged that is not stored");
    assert_eq!(titles(&pool).await, [("a".into(), "before".into())]);

    proxy.open();
    assert_eq!(counts(soon("the first answer", first).await.unwrap()), (0, 1, 0, 0));
    assert_eq!(counts(soon("the second answer", second).await.unwrap()), (0, 1, 0, 0));
    assert_eq!(titles(&pool).await, [("a".into(), "during, later".into())]);
    soon("the end of the fault", sink.status.wait_for(|status| status.fault.is_none())).await.unwrap();
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_server_that_ends_our_sessions_again_and_again_loses_nothing(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    for round in 0..20 {
        let page = (0..200).map(|at| alert(&format!("{round}-{at}"), NOON, "t")).collect();
        let answer = sink.send(fence, GRAPH, page, Tail::default()).await;
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'",
        )
        .execute(&pool)
        .await
        .ok();
        let outcome = soon("the answer", answer).await.unwrap().unwrap();
        assert_eq!(outcome.new + outcome.duplicate, 200);
    }
    assert_eq!(number(&pool, "select count(*) from dash.alert where version_count = 1").await, 4000);
    assert_eq!(number(&pool, "select count(*) from dash.alert_version").await, 4000);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_connection_that_has_gone_silent_is_given_up_and_takes_no_place_of_the_pool(pool: PgPoolOptions, server: PgConnectOptions) {
    let (pool, through, proxy) = behind_a_door(pool, server).await;
    let short = Duration::from_millis(200);
    let config = Config { statement_timeout: short, acquire_timeout: short, first_delay: Duration::from_millis(10), ..Config::default() };
    let (fence, sink) = (tenant(&pool, 1).await, Sink::with(&through, config));
    for round in 0..8 {
        // In the middle of a transaction: the writer waits for a row, behind its fence.
        counts(sink.store(fence, GRAPH, vec![alert("a", MORNING, &format!("before {round}"))]).await);
        let mut blocker = pool.begin().await.unwrap();
        sqlx::query("select 1 from tocsin.alert for update").execute(&mut *blocker).await.unwrap();
        let answer = sink.send(fence, GRAPH, vec![alert("a", NOON, &format!("{round}"))], Tail::default()).await;
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        until("the writer waits", || number(&pool, waiting), |count| *count == 1).await;
        proxy.fall_silent();
        blocker.rollback().await.unwrap();
        let outcome = soon("the answer", answer).await.unwrap().unwrap();
        assert_eq!(outcome.new + outcome.updated + outcome.duplicate, 1);
    }
    assert_eq!(number(&pool, "select count(*) from dash.alert_version").await, 16);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_stop_stores_what_was_received(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let mut answers = Vec::new();
    for at in 0..10 {
        let source = if at % 2 == 0 { GRAPH } else { MDE };
        answers.push(sink.send(fence, source, vec![alert(&at.to_string(), NOON, "t")], Tail::default()).await);
    }
    sink.stop().await;
    for answer in answers {
        assert_eq!(counts(answer.await.unwrap()), (1, 0, 0, 0));
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_stop_while_the_database_is_away_refuses_at_once_and_a_feed_stays_refused(pool: PgPoolOptions, server: PgConnectOptions) {
    let (pool, through, proxy) = behind_a_door(pool, server).await;
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&through));
    counts(
        sink.store_with(fence, GRAPH, vec![alert("a", MORNING, "t")], Tail { cursor: Some(MORNING), gaps: vec![], ..Tail::default() })
            .await,
    );
    proxy.shut();
    let first = sink.send(fence, GRAPH, vec![alert("b", NOON, "t")], Tail::default()).await;
    let last =
        sink.send(fence, GRAPH, vec![alert("c", EVENING, "t")], Tail { cursor: Some(EVENING), gaps: vec![], ..Tail::default() }).await;
    let mut status = sink.status.clone();
    soon("the fault", status.wait_for(|status| status.fault.is_some())).await.unwrap();

    sink.stop.cancel();
    assert_eq!(soon("the first answer", first).await.unwrap(), Err(Refusal::Stopping));
    proxy.open();
    assert_eq!(soon("the last answer", last).await.unwrap(), Err(Refusal::Stopping), "its cursor would pass over what was refused");
    sink.stop().await;
    let state = CursorStore::new(pool.clone()).feed_state(fence.tenant, GRAPH).await.unwrap();
    assert_eq!(state.watermark, Some(ticks(MORNING)));
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_stop_does_not_wait_for_a_lock_longer_than_its_grace(pool: PgPool) {
    let fence = tenant(&pool, 1).await;
    let sink = Sink::with(&pool, Config { stop_grace: Duration::from_millis(200), ..Config::default() });
    counts(sink.store(fence, GRAPH, vec![alert("a", MORNING, "t")]).await);
    let mut blocker = pool.begin().await.unwrap();
    sqlx::query("select 1 from tocsin.alert for update").execute(&mut *blocker).await.unwrap();
    let answer = sink.send(fence, GRAPH, vec![alert("a", NOON, "u")], Tail::default()).await;
    until(
        "the writer waits",
        || number(&pool, "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"),
        |count| *count == 1,
    )
    .await;
    tokio::time::timeout(Duration::from_secs(5), sink.stop()).await.expect("the sink ends within its grace");
    assert_eq!(answer.await.unwrap(), Err(Refusal::Stopping));
    blocker.rollback().await.unwrap();
    until("nobody waits any more", || titles(&pool), |titles| titles == &[("a".to_owned(), "t".to_owned())]).await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn one_feed_that_waits_does_not_hold_up_another(pool: PgPool) {
    let (one, two, sink) = (tenant(&pool, 1).await, tenant(&pool, 2).await, Sink::start(&pool));
    counts(sink.store(one, GRAPH, vec![alert("a", MORNING, "t")]).await);
    let mut blocker = pool.begin().await.unwrap();
    sqlx::query("select 1 from tocsin.alert for update").execute(&mut *blocker).await.unwrap();
    let held: Source = GRAPH;
    let waiting = sink.send(one, held, vec![alert("a", NOON, "u")], Tail::default()).await;
    let behind = sink.send(one, held, vec![alert("a", EVENING, "v")], Tail::default()).await;
    assert_eq!(counts(sink.store(two, GRAPH, vec![alert("a", NOON, "t")]).await), (1, 0, 0, 0));
    blocker.rollback().await.unwrap();
    assert_eq!(counts(soon("the answer", waiting).await.unwrap()), (0, 1, 0, 0));
    assert_eq!(counts(soon("the answer", behind).await.unwrap()), (0, 1, 0, 0));
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_cursor_is_not_told_while_the_database_is_away(pool: PgPoolOptions, server: PgConnectOptions) {
    let (pool, through, proxy) = behind_a_door(pool, server).await;
    let fence = tenant(&pool, 1).await;
    let cursors = CursorStore::new(through);
    assert!(cursors.feed_state(fence.tenant, GRAPH).await.is_ok());
    proxy.shut();
    let error = soon("the answer", cursors.feed_state(fence.tenant, GRAPH)).await.unwrap_err();
    assert!(error.to_string().starts_with("the database cannot be reached"), "{error}");
}
