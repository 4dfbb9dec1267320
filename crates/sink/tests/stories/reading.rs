//! What the command line sees of what is stored.

use domain::Record;
use sink::read::{AlertFilter, TailCursor, alerts_list, alerts_tail};
use sqlx::PgPool;

use crate::world::{EVENING, GRAPH, MORNING, NOON, Sink, alert, counts, tenant, ticks, with_body};

fn ids(rows: &[sink::read::AlertRow]) -> Vec<&str> {
    rows.iter().map(|row| row.alert_id.as_str()).collect()
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_list_is_newest_first_filtered_and_limited(pool: PgPool) {
    let (one, two, sink) = (tenant(&pool, 1).await, tenant(&pool, 2).await, Sink::start(&pool));
    for id in ["a", "b", "c"] {
        counts(sink.store(one, GRAPH, vec![alert(id, NOON, "t")]).await);
    }
    let mut low = alert("d/ı", MORNING, "low");
    if let Record::Alert(alert) = &mut low {
        alert.facts.severity = Some("low".into());
    }
    counts(sink.store(two, GRAPH, vec![low]).await);
    sink.stop().await;

    let all = alerts_list(&pool, &AlertFilter::default()).await.unwrap();
    assert_eq!(ids(&all), ["d/ı", "c", "b", "a"]);
    assert_eq!((all[0].tenant.as_str(), all[0].directory_id, all[0].version_count), ("customer 2", two.tenant, 1));
    assert_eq!(all[0].last_updated_at.unwrap().to_string(), "2026-11-21T08:00:00.1234560Z");
    let portal = "https://portal.example/alerts/d%2F%C4%B1?tid=00000000-0000-0000-0000-000000000002";
    assert_eq!(all[0].portal_url.as_deref(), Some(portal));

    let some = |filter: AlertFilter| {
        let pool = pool.clone();
        async move { ids(&alerts_list(&pool, &filter).await.unwrap()).join(" ") }
    };
    assert_eq!(some(AlertFilter { tenant: Some(one.tenant), ..AlertFilter::default() }).await, "c b a");
    assert_eq!(some(AlertFilter { severity: Some("LOW".into()), ..AlertFilter::default() }).await, "d/ı");
    assert_eq!(some(AlertFilter { limit: 2, ..AlertFilter::default() }).await, "d/ı c");
    assert_eq!(some(AlertFilter { since: Some(all[1].last_stored_at), ..AlertFilter::default() }).await, "d/ı c");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_row_becomes_json_with_the_names_of_the_view(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    counts(sink.store(fence, GRAPH, vec![with_body("a", "{}", Some("9999-12-31T23:59:59.9999999Z"), None, "t")]).await);
    sink.stop().await;
    let row = alerts_list(&pool, &AlertFilter::default()).await.unwrap().remove(0);
    let json = serde_json::to_value(&row).unwrap();
    assert_eq!(json["last_updated_at"], "9999-12-31T23:59:59.9999990Z");
    assert_eq!(json["created_at"], serde_json::Value::Null);
    let columns: Vec<String> = sqlx::query_scalar(
        "select column_name::text from information_schema.columns where table_schema = 'dash' and table_name = 'alert' and column_name <> 'raw'",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let mut missing: Vec<_> = columns.iter().filter(|name| json.get(name.as_str()).is_none()).collect();
    missing.sort();
    assert_eq!((missing, json.as_object().unwrap().len()), (vec![], columns.len()));
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_tail_shows_each_change_once_and_nothing_from_before(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    counts(sink.store(fence, GRAPH, vec![alert("old", MORNING, "t")]).await);
    let (filter, mut cursor) = (AlertFilter::default(), TailCursor::from_now());
    assert_eq!(ids(&alerts_tail(&pool, &filter, &mut cursor).await.unwrap()), [""; 0]);

    counts(sink.store(fence, GRAPH, vec![alert("a", NOON, "t"), alert("b", NOON, "t")]).await);
    assert_eq!(ids(&alerts_tail(&pool, &filter, &mut cursor).await.unwrap()), ["a", "b"]);
    assert_eq!(ids(&alerts_tail(&pool, &filter, &mut cursor).await.unwrap()), [""; 0]);
    counts(sink.store(fence, GRAPH, vec![alert("old", EVENING, "changed")]).await);
    assert_eq!(ids(&alerts_tail(&pool, &filter, &mut cursor).await.unwrap()), ["old"]);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_tail_finds_rows_that_were_committed_late(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let (filter, mut cursor) = (AlertFilter::default(), TailCursor::from_now());
    alerts_tail(&pool, &filter, &mut cursor).await.unwrap();
    counts(sink.store(fence, GRAPH, vec![alert("seen first", NOON, "t"), alert("late", NOON, "t")]).await);
    let hide = "update tocsin.alert set last_stored_at = last_stored_at - interval '5 seconds' where alert_id = 'late'";
    let mut slow = pool.begin().await.unwrap();
    sqlx::query("delete from tocsin.alert where alert_id = 'late'").execute(&pool).await.unwrap();
    assert_eq!(ids(&alerts_tail(&pool, &filter, &mut cursor).await.unwrap()), ["seen first"]);
    sqlx::query(
        "insert into tocsin.alert (tenant, alert_id, source, source_rank, hash, version_created_at)
         select tenant, alert_id, source, 2, hash, created_at from tocsin.alert_version where alert_id = 'late'",
    )
    .execute(&mut *slow)
    .await
    .unwrap();
    sqlx::query(hide).execute(&mut *slow).await.unwrap();
    slow.commit().await.unwrap();
    assert_eq!(ids(&alerts_tail(&pool, &filter, &mut cursor).await.unwrap()), ["late"]);
    assert_eq!(ids(&alerts_tail(&pool, &filter, &mut cursor).await.unwrap()), [""; 0]);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_tail_from_an_instant_shows_everything_since_in_pieces(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    for part in 0..4 {
        counts(sink.store(fence, GRAPH, (0..400).map(|at| alert(&format!("{part}-{at}"), NOON, "t")).collect()).await);
    }
    sink.stop().await;
    let (filter, mut cursor) = (AlertFilter { limit: 100, ..AlertFilter::default() }, TailCursor::since(ticks(MORNING)));
    let mut seen = std::collections::HashSet::new();
    loop {
        let rows = alerts_tail(&pool, &filter, &mut cursor).await.unwrap();
        if rows.is_empty() {
            break;
        }
        for row in rows {
            assert!(seen.insert(row.alert_id), "each once");
        }
    }
    assert_eq!(seen.len(), 1600);
}
