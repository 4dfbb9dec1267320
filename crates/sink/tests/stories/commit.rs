//! One batch after the other: what is stored, what stands, and what is refused.

use bytes::Bytes;
use domain::ports::Cursors;
use domain::{Committed, FeedState, Gap, GapKind, Order, Poison, Record, Refusal};
use sink::CursorStore;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::world::{
    EVENING, GRAPH, MDE, MORNING, NOON, Sink, Tail, alert, claim, counts, fingerprint, latest, number, soon, tenant, ticks, titles, until,
    with_body,
};

#[sqlx::test(migrations = "../../migrations")]
async fn the_same_batch_twice_writes_nothing_the_second_time(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let page =
        || vec![alert("a", MORNING, "one"), alert("b", MORNING, "two"), Record::Poison(Poison::new("no id", Bytes::from_static(b"{}")))];
    let gap = Gap { from: ticks(MORNING), to: ticks(NOON), kind: GapKind::Ties, reason: "skipped".into() };
    let tail = Tail { cursor: Some(MORNING), gaps: vec![gap], ..Tail::default() };

    assert_eq!(counts(sink.store_with(fence, GRAPH, page(), tail.clone()).await), (2, 0, 0, 1));
    let before = fingerprint(&pool).await;
    assert_eq!(before.len(), 2 + 2 + 1 + 1 + 1);
    assert_eq!(counts(sink.store_with(fence, GRAPH, page(), tail).await), (0, 0, 2, 0));
    assert_eq!(fingerprint(&pool).await, before);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn alerts_of_one_stamp_are_all_stored_and_the_same_body_twice_is_one(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let mut page: Vec<_> = (0..200).map(|at| alert(&format!("id-{at}"), NOON, "tie")).collect();
    page.push(alert("id-7", NOON, "tie"));
    assert_eq!(counts(sink.store(fence, GRAPH, page).await), (200, 0, 1, 0));
    assert_eq!(number(&pool, "select count(*) from dash.alert_version").await, 200);
    assert_eq!(number(&pool, "select count(*) from dash.alert where version_count = 1 and first_stored_at = last_stored_at").await, 200);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_older_body_never_overwrites_a_newer_one_but_is_a_version(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    assert_eq!(counts(sink.store(fence, GRAPH, vec![alert("a", NOON, "noon")]).await), (1, 0, 0, 0));
    assert_eq!(counts(sink.store(fence, GRAPH, vec![alert("a", MORNING, "late")]).await), (0, 1, 0, 0));
    assert_eq!(titles(&pool).await, [("a".into(), "noon".into())]);
    assert_eq!(latest(&pool).await[0].version_count, 2);
    assert_eq!(counts(sink.store(fence, GRAPH, vec![alert("a", EVENING, "evening")]).await), (0, 1, 0, 0));
    let versions: Vec<(i32, String)> =
        sqlx::query_as("select version, last_update_text from dash.alert_version order by version").fetch_all(&pool).await.unwrap();
    assert_eq!(versions, [(1, NOON.into()), (2, MORNING.into()), (3, EVENING.into())]);
    let row = latest(&pool).await.remove(0);
    assert_eq!((row.title.as_deref(), row.version_count), (Some("evening"), 3));
    assert!(row.raw.contains(EVENING), "the body is that of the version that stands");
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn of_versions_with_one_stamp_the_last_word_of_the_source_stays(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let both = || vec![alert("a", NOON, "first"), alert("a", NOON, "second")];
    assert_eq!(counts(sink.store(fence, GRAPH, both()).await), (1, 1, 0, 0));
    assert_eq!(titles(&pool).await, [("a".into(), "second".into())]);
    let before = fingerprint(&pool).await;
    assert_eq!(counts(sink.store(fence, GRAPH, both()).await), (0, 0, 2, 0));
    assert_eq!(fingerprint(&pool).await, before, "re-reading both does not make the row flicker");
    assert_eq!(counts(sink.store(fence, GRAPH, vec![alert("a", NOON, "first")]).await), (0, 0, 1, 0));
    assert_eq!(titles(&pool).await, [("a".into(), "first".into())], "the source went back, and so do we");
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn two_sources_make_one_row_and_graph_wins_at_equal_stamps(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    assert_eq!(counts(sink.store(fence, MDE, vec![alert("a", NOON, "endpoint")]).await), (1, 0, 0, 0));
    assert_eq!(counts(sink.store(fence, GRAPH, vec![alert("a", NOON, "graph")]).await), (0, 1, 0, 0));
    assert_eq!(titles(&pool).await, [("a".into(), "graph".into())]);
    assert_eq!(counts(sink.store(fence, MDE, vec![alert("a", NOON, "endpoint")]).await), (0, 0, 1, 0));
    assert_eq!(titles(&pool).await, [("a".into(), "graph".into())], "equal stamp: graph speaks louder");
    assert_eq!(counts(sink.store(fence, MDE, vec![alert("a", EVENING, "endpoint again")]).await), (0, 1, 0, 0));
    assert_eq!(titles(&pool).await, [("a".into(), "endpoint again".into())], "newer: whoever says it");
    let rows = latest(&pool).await;
    assert_eq!((rows.len(), rows[0].version_count), (1, 3));
    let versions: Vec<(String, i32)> =
        sqlx::query_as("select source, version from dash.alert_version order by source, version").fetch_all(&pool).await.unwrap();
    assert_eq!(versions, [("graph-alerts".into(), 1), ("mde-alerts".into(), 1), ("mde-alerts".into(), 2)]);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_same_body_at_two_sources_is_a_version_at_each(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    assert_eq!(counts(sink.store(fence, MDE, vec![alert("a", NOON, "same")]).await), (1, 0, 0, 0));
    assert_eq!(counts(sink.store(fence, GRAPH, vec![alert("a", NOON, "same")]).await), (0, 1, 0, 0));
    let before = fingerprint(&pool).await;
    for source in [MDE, GRAPH] {
        assert_eq!(counts(sink.store(fence, source, vec![alert("a", NOON, "same")]).await), (0, 0, 1, 0));
    }
    assert_eq!(fingerprint(&pool).await, before);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn ids_that_differ_only_in_case_are_two_alerts_and_tenants_do_not_mix(pool: PgPool) {
    let (one, two, sink) = (tenant(&pool, 1).await, tenant(&pool, 2).await, Sink::start(&pool));
    let ids = ["da1", "DA1", "ı", "i", "I", "İ"];
    let page = || ids.iter().map(|id| alert(id, NOON, id)).collect::<Vec<_>>();
    assert_eq!(counts(sink.store(one, GRAPH, page()).await), (6, 0, 0, 0));
    assert_eq!(counts(sink.store(two, GRAPH, page()).await), (6, 0, 0, 0));
    assert_eq!(number(&pool, "select count(*) from dash.alert where alert_id = title").await, 12);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn after_a_claim_nothing_is_written_under_the_old_generation(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let newer = claim(&pool, fence).await.unwrap();
    let before = fingerprint(&pool).await;
    let page = || vec![alert("a", NOON, "one"), Record::Poison(Poison::new("bad", Bytes::from_static(b"?")))];
    let tail = Tail {
        cursor: Some(NOON),
        gaps: vec![Gap { from: ticks(MORNING), to: ticks(NOON), kind: GapKind::Ties, reason: "x".into() }],
        ..Tail::default()
    };
    assert_eq!(sink.store_with(fence, GRAPH, page(), tail.clone()).await, Err(Refusal::LeaseLost));
    assert_eq!(fingerprint(&pool).await, before);
    assert_eq!(counts(sink.store_with(newer, GRAPH, page(), tail).await), (1, 0, 0, 1));
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_claim_waits_for_a_writer_and_a_renewal_does_not(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    counts(sink.store(fence, GRAPH, vec![alert("a", MORNING, "one")]).await);

    // Somebody holds the row of the alert, so that the writer stops in the middle, behind its fence.
    let mut blocker = pool.begin().await.unwrap();
    sqlx::query("select 1 from tocsin.alert for update").execute(&mut *blocker).await.unwrap();
    let answer = sink.send(fence, GRAPH, vec![alert("a", NOON, "two")], Tail::default()).await;
    let waiting = || number(&pool, "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'");
    until("the writer waits", waiting, |count| *count == 1).await;

    let renewed = sqlx::query("update tocsin.lease set expires_at = now() + interval '1 minute'").execute(&pool);
    assert_eq!(soon("a renewal beside a writer", renewed).await.unwrap().rows_affected(), 1);
    let claiming = tokio::spawn({
        let pool = pool.clone();
        async move { claim(&pool, fence).await }
    });
    until("the claim waits", waiting, |count| *count == 2).await;
    let passed: Option<i32> = sqlx::query_scalar("select 1 from tocsin.lease for update skip locked").fetch_optional(&pool).await.unwrap();
    assert_eq!(passed, None, "and one that skips what is locked skips it");

    blocker.rollback().await.unwrap();
    assert_eq!(counts(soon("the answer", answer).await.unwrap()), (0, 1, 0, 0));
    assert_eq!(soon("the claim", claiming).await.unwrap().unwrap().epoch.0, 2);
    assert_eq!(sink.store(fence, GRAPH, vec![alert("a", EVENING, "three")]).await, Err(Refusal::LeaseLost));
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn two_sources_of_a_tenant_never_wait_for_each_other_in_a_circle(pool: PgPoolOptions, server: PgConnectOptions) {
    let (pool, sinks) =
        (pool.max_connections(1).connect_with(server.clone()).await.unwrap(), PgPoolOptions::new().connect_lazy_with(server));
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&sinks));
    for round in 0..20 {
        let page = |source: &str, backwards: bool| {
            let mut page: Vec<_> = (0..300).map(|at| alert(&format!("id-{at}"), NOON, &format!("{source} {round}"))).collect();
            if backwards {
                page.reverse();
            }
            page
        };
        let graph = sink.send(fence, GRAPH, page("graph", false), Tail::default()).await;
        let mde = sink.send(fence, MDE, page("mde", true), Tail::default()).await;
        let (graph, mde) = soon("both answers", async { (graph.await.unwrap().unwrap(), mde.await.unwrap().unwrap()) }).await;
        assert_eq!(graph.new + graph.updated, 300);
        assert_eq!(mde.new + mde.updated, 300);
        assert_eq!(graph.new + mde.new, if round == 0 { 300 } else { 0 }, "each alert was new to one of them");
    }
    assert_eq!(number(&pool, "select count(*) from dash.alert where version_count = 40").await, 300);
    sink.stop().await;
    // A session reports its deadlocks at the latest when it ends.
    sinks.close().await;
    let sessions = || number(&pool, "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()");
    until("the sessions of the sink are over", sessions, |count| *count == 0).await;
    assert_eq!(number(&pool, "select deadlocks from pg_stat_database where datname = current_database()").await, 0);
}

#[sqlx::test(migrations = "../../migrations")]
async fn no_alert_is_lost_for_an_absurd_stamp(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let stamps = [
        None,
        Some(""),
        Some("2026-11-21T08:00:00"),
        Some("0001-01-01T00:00:00Z"),
        Some("9999-12-31T23:59:59.9999999Z"),
        Some("9999-12-31T23:59:59-11:00"),
        Some("0001-01-01T00:00:00+11:00"),
        Some("1969-12-31T23:59:59.9999999Z"),
        Some("2014-12-31T23:59:59.9999999Z"),
        Some(NOON),
    ];
    let page = || {
        let mut page = Vec::new();
        for (a, created) in stamps.iter().enumerate() {
            for (b, updated) in stamps.iter().enumerate() {
                page.push(with_body(&format!("{a}-{b}"), &format!("[{a},{b}]"), *updated, *created, "t"));
            }
        }
        page
    };
    assert_eq!(counts(sink.store(fence, GRAPH, page()).await), (100, 0, 0, 0));
    assert_eq!(counts(sink.store(fence, GRAPH, page()).await), (0, 0, 100, 0));
    assert_eq!(number(&pool, "select count(*) from dash.alert where raw is not null").await, 100);
    assert_eq!(number(&pool, "select count(*) from dash.alert where created_at is null").await, 50, "five are no time that can be named");
    assert_eq!(number(&pool, "select count(*) from dash.alert where not isfinite(created_at) or not isfinite(last_updated_at)").await, 0);
    assert_eq!(
        number(&pool, "select count(*) from dash.alert_version where last_update_text = '9999-12-31T23:59:59.9999999Z'").await,
        10,
        "the text is kept exactly as received"
    );
    assert_eq!(number(&pool, "select count(*) from tocsin.alert_version_202611").await, 10, "a month that can be has its partition");
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_alert_whose_creation_time_changes_is_still_one_alert_with_running_numbers(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    for (at, created) in [Some("2026-10-01T00:00:00Z"), None, Some("2026-11-01T00:00:00Z")].into_iter().enumerate() {
        counts(sink.store(fence, GRAPH, vec![with_body("a", &format!("[{at}]"), Some(NOON), created, "t")]).await);
    }
    let versions: Vec<i32> =
        sqlx::query_scalar("select version from dash.alert_version order by stored_at").fetch_all(&pool).await.unwrap();
    assert_eq!(versions, [1, 2, 3]);
    assert_eq!(latest(&pool).await[0].raw, "[2]");
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_cursor_never_falls_and_gaps_and_poison_count_once(pool: PgPool) {
    let (fence, sink, cursors) = (tenant(&pool, 1).await, Sink::start(&pool), CursorStore::new(pool.clone()));
    assert_eq!(cursors.feed_state(fence.tenant, GRAPH).await.unwrap(), FeedState::default());
    let poison = |text: &'static [u8]| Record::Poison(Poison::new("not an\0alert", Bytes::from_static(text)));
    let gap = |reason: &str| vec![Gap { from: ticks(MORNING), to: ticks(NOON), kind: GapKind::Ties, reason: reason.into() }];

    let first = Tail { cursor: Some(NOON), gaps: gap("unreachable\0"), ..Tail::default() };
    assert_eq!(counts(sink.store_with(fence, GRAPH, vec![poison(b"\xff\x00"), poison(b"x"), poison(b"x")], first).await), (0, 0, 0, 2));
    let second = Tail { cursor: Some(MORNING), gaps: gap("again"), ..Tail::default() };
    assert_eq!(counts(sink.store_with(fence, GRAPH, vec![poison(b"x"), poison(b"y")], second).await), (0, 0, 0, 1));

    let state = cursors.feed_state(fence.tenant, GRAPH).await.unwrap();
    assert_eq!(
        state,
        FeedState { watermark: Some(ticks(NOON)), order: Order::Ascending, throttled_until: None, caught_up: None },
        "to the last digit"
    );
    assert_eq!(cursors.feed_state(fence.tenant, MDE).await.unwrap(), FeedState::default());
    assert_eq!(number(&pool, "select quarantined from dash.feed_health").await, 3);
    assert_eq!(number(&pool, "select count(*) from dash.quarantine where length(reason) > 0").await, 3);
    let kept: Vec<u8> =
        sqlx::query_scalar("select raw_bytes from dash.quarantine where length(raw_bytes) = 2").fetch_one(&pool).await.unwrap();
    assert_eq!(kept, b"\xff\x00");
    let gaps: Vec<String> = sqlx::query_scalar("select reason from dash.gap").fetch_all(&pool).await.unwrap();
    assert_eq!(gaps, ["unreachable\u{FFFD}"]);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_cursor_alone_is_a_batch(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let tail = Tail { cursor: Some(NOON), gaps: vec![], ..Tail::default() };
    assert_eq!(sink.store_with(fence, GRAPH, vec![], tail).await, Ok(Committed::default()));
    let state = CursorStore::new(pool.clone()).feed_state(fence.tenant, GRAPH).await.unwrap();
    assert_eq!(state.watermark, Some(ticks(NOON)));
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn without_the_right_to_make_partitions_everything_is_still_stored(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    sqlx::query("drop function tocsin.ensure_version_partition").execute(&pool).await.unwrap();
    assert_eq!(counts(sink.store(fence, GRAPH, vec![alert("a", NOON, "t")]).await), (1, 0, 0, 0));
    assert_eq!(number(&pool, "select count(*) from tocsin.alert_version_default").await, 1);
    sink.stop().await;
}
