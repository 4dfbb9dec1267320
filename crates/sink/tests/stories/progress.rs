//! News of feeds that needs no transaction of its own.

use bytes::Bytes;
use domain::ports::Cursors;
use domain::{CursorMove, FeedOutcome, FeedProgress, Fence, Order, Poison, Record, Source, Ticks};
use sink::{Config, CursorStore};
use sqlx::PgPool;

use crate::world::{EVENING, GRAPH, MDE, MORNING, NOON, Sink, Tail, alert, claim, counts, number, tenant, ticks, until};

fn well(fence: Fence, source: Source, at: &str) -> FeedProgress {
    FeedProgress { fence, source, attempted_at: ticks(at), outcome: FeedOutcome::CaughtUp { at: ticks(at) }, order: Order::Windows }
}

fn ill(fence: Fence, source: Source, at: &str, until: Option<&str>) -> FeedProgress {
    let outcome = FeedOutcome::Failed { error: "429: too many\0requests".into(), throttled_until: until.map(ticks) };
    FeedProgress { fence, source, attempted_at: ticks(at), outcome, order: Order::Windows }
}

type Health = (Option<String>, Option<String>, Option<String>, bool);

/// Last success, last attempt, last error, and whether the feed is left alone for now.
async fn health(pool: &PgPool, fence: Fence) -> Vec<Health> {
    sqlx::query_as(
        "select to_char(last_success_at at time zone 'UTC', 'HH24'), to_char(last_attempt_at at time zone 'UTC', 'HH24'),
                last_error, throttled_until is not null
         from dash.feed_health where directory_id = $1 and last_attempt_at is not null order by source",
    )
    .bind(fence.tenant.0)
    .fetch_all(pool)
    .await
    .unwrap()
}

#[sqlx::test(migrations = "../../migrations")]
async fn news_makes_the_feeds_row_and_a_success_ends_a_failure(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let far = "2999-01-01T00:00:00Z";
    sink.news(ill(fence, GRAPH, MORNING, Some(far))).await;
    let failed: Health = (None, Some("08".into()), Some("429: too many\u{FFFD}requests".into()), true);
    until("the failure is shown", || health(&pool, fence), |rows| rows == std::slice::from_ref(&failed)).await;
    let state = CursorStore::new(pool.clone()).feed_state(fence.tenant, GRAPH).await.unwrap();
    assert_eq!((state.watermark, state.order, state.throttled_until), (None, Order::Windows, Some(ticks(far))));

    sink.news(well(fence, GRAPH, NOON)).await;
    let succeeded: Health = (Some("12".into()), Some("12".into()), None, false);
    until("the success is shown", || health(&pool, fence), |rows| rows == std::slice::from_ref(&succeeded)).await;

    sink.news(ill(fence, GRAPH, EVENING, None)).await;
    let failed: Health = (Some("12".into()), Some("18".into()), Some("429: too many\u{FFFD}requests".into()), false);
    until("the last success stays", || health(&pool, fence), |rows| rows == std::slice::from_ref(&failed)).await;
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn caught_up_never_falls_and_a_cursor_is_left_alone(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    counts(sink.store_with(fence, GRAPH, vec![alert("a", NOON, "t")], Tail { cursor: Some(NOON), gaps: vec![], ..Tail::default() }).await);
    sink.news(well(fence, GRAPH, EVENING)).await;
    until("the evening is shown", || health(&pool, fence), |rows| rows.first().is_some_and(|row| row.1.as_deref() == Some("18"))).await;
    sink.news(well(fence, GRAPH, MORNING)).await;
    until("the morning is shown", || health(&pool, fence), |rows| rows.first().is_some_and(|row| row.1.as_deref() == Some("08"))).await;
    assert_eq!(number(&pool, "select caught_up_ticks from tocsin.feed").await, ticks(EVENING).0);
    assert_eq!(number(&pool, "select watermark_ticks from tocsin.feed").await, ticks(NOON).0);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn news_of_a_lost_lease_is_passed_over_and_the_others_are_written(pool: PgPool) {
    let (lost, held, sink) = (tenant(&pool, 1).await, tenant(&pool, 2).await, Sink::start(&pool));
    let newer = claim(&pool, lost).await.unwrap();
    sink.news(well(lost, GRAPH, NOON)).await;
    sink.news(well(held, GRAPH, NOON)).await;
    sink.news(well(held, MDE, NOON)).await;
    until("the news is shown", || health(&pool, held), |rows| rows.len() == 2).await;
    assert_eq!(health(&pool, lost).await, []);
    sink.news(well(newer, GRAPH, NOON)).await;
    until("the new holder is heard", || health(&pool, newer), |rows| rows.len() == 1).await;
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_tenant_being_claimed_does_not_delay_the_news_of_others(pool: PgPool) {
    let (claimed, other, sink) = (tenant(&pool, 1).await, tenant(&pool, 2).await, Sink::start(&pool));
    let mut claiming = pool.begin().await.unwrap();
    sqlx::query("update tocsin.lease set epoch = epoch + 1 where tenant = $1")
        .bind(claimed.tenant.0)
        .execute(&mut *claiming)
        .await
        .unwrap();
    sink.news(well(claimed, GRAPH, NOON)).await;
    sink.news(well(other, GRAPH, NOON)).await;
    until("the news of the other is shown", || health(&pool, other), |rows| rows.len() == 1).await;
    claiming.commit().await.unwrap();
    assert_eq!(health(&pool, claimed).await, []);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_lock_on_the_row_of_one_feed_delays_the_news_of_nobody_else_and_drops_none(pool: PgPool) {
    let (held, other, sink) = (tenant(&pool, 1).await, tenant(&pool, 2).await, Sink::start(&pool));
    for (fence, source) in [(held, GRAPH), (held, MDE), (other, GRAPH)] {
        sink.news(well(fence, source, MORNING)).await;
    }
    until("the rows are there", || number(&pool, "select count(*) from tocsin.feed"), |count| *count == 3).await;
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("select 1 from tocsin.feed where tenant = $1 and source = 'graph-alerts' for update")
        .bind(held.tenant.0)
        .execute(&mut *holder)
        .await
        .unwrap();
    let hours = |fence| {
        let pool = pool.clone();
        async move { health(&pool, fence).await.into_iter().map(|row| row.1.unwrap_or_default()).collect::<Vec<_>>() }
    };
    for round in [NOON, EVENING] {
        for (fence, source) in [(held, GRAPH), (held, MDE), (other, GRAPH)] {
            sink.news(well(fence, source, round)).await;
        }
        let hour = &round[11..13];
        until("the news of the others is shown", || hours(other), |hours| hours == &[hour]).await;
        until("that of the tenant's other feed as well", || hours(held), |hours| hours == &["08", hour]).await;
    }
    assert_eq!(sink.status.borrow().fault, None);
    holder.rollback().await.unwrap();
    until("nothing is dropped", || hours(held), |hours| hours == &["18", "18"]).await;
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_row_that_somebody_is_making_delays_the_news_of_nobody_else_and_drops_none(pool: PgPool) {
    let sink = Sink::start(&pool);
    let mut fences = Vec::new();
    for number in 1..=9 {
        fences.push(tenant(&pool, number).await);
    }
    let mut maker = pool.begin().await.unwrap();
    sqlx::query("insert into tocsin.feed (tenant, source, watermark_ticks) values ($1, 'graph-alerts', 7)")
        .bind(fences[3].tenant.0)
        .execute(&mut *maker)
        .await
        .unwrap();
    for fence in &fences {
        sink.news(well(*fence, GRAPH, NOON)).await;
    }
    until("the news of the others is shown", || number(&pool, "select count(*) from tocsin.feed"), |count| *count == 8).await;
    assert_eq!(sink.status.borrow().fault, None);
    maker.commit().await.unwrap();
    let row = "select count(*) from tocsin.feed where watermark_ticks = 7 and caught_up_ticks is not null";
    until("nothing is dropped", || number(&pool, row), |count| *count == 1).await;
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn news_and_cursors_of_one_feed_written_at_the_same_time_lose_nothing(pool: PgPool) {
    let fence = tenant(&pool, 1).await;
    let flush = std::time::Duration::from_millis(1);
    let sink = Sink::with(&pool, Config { progress_flush: flush, ..Config::default() });
    let poison = |round: i64| Record::Poison(Poison::new("x", Bytes::from(round.to_string())));
    for round in 1..=200 {
        let at = Ticks(ticks(NOON).0 + round);
        sink.news(FeedProgress { outcome: FeedOutcome::CaughtUp { at }, ..well(fence, GRAPH, NOON) }).await;
        let live = CursorMove::Live { from: ticks(NOON), watermark: at };
        let turn = if round == 1 { CursorMove::Begin { live_from: at, history_from: at } } else { live };
        let tail = Tail { turn: Some(turn), ..Tail::default() };
        assert_eq!(counts(sink.store_with(fence, GRAPH, vec![poison(round)], tail).await), (0, 0, 0, 1));
    }
    sink.stop().await;
    let row: (i64, i64, i64) = sqlx::query_as("select watermark_ticks - $1, caught_up_ticks - $1, quarantined from tocsin.feed")
        .bind(ticks(NOON).0)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(row, (200, 200, 200));
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_stop_writes_the_news_at_once(pool: PgPool) {
    let fence = tenant(&pool, 1).await;
    let sink = Sink::with(&pool, Config { progress_flush: std::time::Duration::from_secs(3600), ..Config::default() });
    sink.news(ill(fence, GRAPH, MORNING, None)).await;
    until("the first news is taken", || health(&pool, fence), |rows| rows.len() == 1).await;
    sink.news(well(fence, GRAPH, NOON)).await;
    sink.stop().await;
    assert_eq!(health(&pool, fence).await[0].1.as_deref(), Some("12"));
}

#[sqlx::test(migrations = "../../migrations")]
async fn news_of_ten_thousand_feeds_is_a_handful_of_statements_also_on_tables_that_were_never_analysed(pool: PgPool) {
    sqlx::query(
        "insert into tocsin.tenant (tenant, name, cloud, app, sources, state)
         select md5(n::text)::uuid, n::text, 'global', 'main', '{graph-alerts}', 'active' from generate_series(1, 10000) n",
    )
    .execute(&pool)
    .await
    .unwrap();
    sqlx::query("insert into tocsin.lease (tenant, epoch) select tenant, 1 from tocsin.tenant").execute(&pool).await.unwrap();
    let tenants: Vec<uuid::Uuid> = sqlx::query_scalar("select tenant from tocsin.tenant").fetch_all(&pool).await.unwrap();
    for at in ["2026-10-01T11:00:00Z", NOON] {
        let sink = Sink::with(&pool, Config { progress_flush: std::time::Duration::from_secs(3600), ..Config::default() });
        for tenant in &tenants {
            let fence = Fence { tenant: domain::TenantId(*tenant), epoch: domain::Epoch(1) };
            sink.news(well(fence, GRAPH, at)).await;
        }
        sink.stop().await;
    }
    let written = "select count(*) from tocsin.feed where to_char(last_success_at at time zone 'UTC', 'HH24') = '12'";
    assert_eq!(number(&pool, written).await, 10_000);
    let transactions = number(&pool, "select count(distinct xmin::text) from tocsin.feed").await;
    assert!(transactions <= 21, "one as the first came and twenty at the end, not {transactions}");
}
