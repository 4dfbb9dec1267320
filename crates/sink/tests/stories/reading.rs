//! What the command line sees of what is stored.

use domain::Record;
use sink::read::{AlertFilter, Place, Tail, TailError, Tailed, alerts_list};
use sqlx::PgPool;

use crate::world::{EVENING, GRAPH, MORNING, NOON, Sink, alert, counts, tenant, with_body};

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

async fn look(tail: &mut Tail, pool: &PgPool) -> Vec<Tailed> {
    tail.look(pool, &AlertFilter::default()).await.unwrap()
}

async fn seen(tail: &mut Tail, pool: &PgPool) -> Vec<String> {
    look(tail, pool).await.into_iter().map(|tailed| tailed.row.alert_id.to_string()).collect()
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_tail_shows_each_change_once_and_nothing_from_before(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    counts(sink.store(fence, GRAPH, vec![alert("old", MORNING, "t")]).await);
    let mut tail = Tail::from_now(&pool).await.unwrap();
    assert_eq!(seen(&mut tail, &pool).await, [""; 0]);

    counts(sink.store(fence, GRAPH, vec![alert("a", NOON, "t"), alert("b", NOON, "t")]).await);
    assert_eq!(seen(&mut tail, &pool).await, ["a", "b"]);
    assert_eq!(seen(&mut tail, &pool).await, [""; 0]);
    counts(sink.store(fence, GRAPH, vec![alert("old", EVENING, "changed")]).await);
    assert_eq!(seen(&mut tail, &pool).await, ["old"]);
    sink.stop().await;
}

/// A writer that takes the number of its transaction now and commits later.
async fn slow_writer(pool: &PgPool) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut slow = pool.begin().await.unwrap();
    sqlx::query(
        "insert into tocsin.alert (tenant, alert_id, source, source_rank, hash, version_created_at)
         select tenant, 'late', source, 2, hash, created_at from tocsin.alert_version limit 1",
    )
    .execute(&mut *slow)
    .await
    .unwrap();
    slow
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_tail_finds_what_is_committed_late_however_late_and_waits_for_nobody(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    counts(sink.store(fence, GRAPH, vec![alert("before", NOON, "t")]).await);
    let mut tail = Tail::from_now(&pool).await.unwrap();
    let slow = slow_writer(&pool).await;
    counts(sink.store(fence, GRAPH, vec![alert("seen first", NOON, "t")]).await);
    assert_eq!(seen(&mut tail, &pool).await, ["seen first"], "it does not wait for the slow one");
    assert_eq!(seen(&mut tail, &pool).await, [""; 0]);
    slow.commit().await.unwrap();
    assert_eq!(seen(&mut tail, &pool).await, ["late"]);
    assert_eq!(seen(&mut tail, &pool).await, [""; 0]);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn whoever_goes_on_from_any_line_misses_nothing_not_even_what_was_committed_late(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    counts(sink.store(fence, GRAPH, vec![alert("before", NOON, "t")]).await);
    let mut first = Tail::from_now(&pool).await.unwrap();
    let began = first.place();
    let slow = slow_writer(&pool).await;
    for id in ["a", "b", "c"] {
        counts(sink.store(fence, GRAPH, vec![alert(id, NOON, "t")]).await);
    }
    let shown = look(&mut first, &pool).await;
    assert_eq!(shown.iter().map(|tailed| tailed.row.alert_id.to_string()).collect::<Vec<_>>(), ["a", "b", "c"]);
    slow.commit().await.unwrap();
    // Whichever line was the last that got through: what follows it comes, and the late one.
    for (at, place) in std::iter::once(began).chain(shown.iter().map(|tailed| tailed.place)).enumerate() {
        let place: Place = place.to_string().parse().unwrap();
        let rest = seen(&mut Tail::after(&pool, place).await.unwrap(), &pool).await;
        for id in ["a", "b", "c"].into_iter().skip(at).chain(["late"]) {
            assert!(rest.iter().any(|seen| seen == id), "from {place}, after {at} lines: {id} is not in {rest:?}");
        }
    }
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_place_of_another_server_or_of_the_future_is_refused(pool: PgPool) {
    let place = Tail::from_now(&pool).await.unwrap().place().to_string();
    let (system, _) = place.split_once('-').unwrap();
    let refused = async |text: &str| Tail::after(&pool, text.parse().unwrap()).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused("1-1").await, TailError::Elsewhere));
    assert!(matches!(refused(&format!("{system}-9000000000000000000")).await, TailError::Ahead));
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_tail_that_was_away_for_long_shows_everything_since_in_pieces(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let mut tail = Tail::from_now(&pool).await.unwrap();
    for part in 0..4 {
        counts(sink.store(fence, GRAPH, (0..800).map(|at| alert(&format!("{part}-{at}"), NOON, "t")).collect()).await);
    }
    sink.stop().await;
    let filter = AlertFilter { limit: 100, ..AlertFilter::default() };
    let mut seen = std::collections::HashSet::new();
    let mut pieces = 0;
    loop {
        let news = tail.look(&pool, &filter).await.unwrap();
        if news.is_empty() {
            break;
        }
        pieces += 1;
        for tailed in news {
            assert!(seen.insert(tailed.row.alert_id), "each once");
        }
    }
    assert_eq!(seen.len(), 3200);
    assert!(pieces > 3, "{pieces}");
}
