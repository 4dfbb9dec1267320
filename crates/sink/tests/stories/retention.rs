//! Months that go, what is moved out of them first, and what is still known afterwards.

use std::sync::Arc;
use std::time::Duration;

use domain::{Errand, Record, SystemClock};
use sink::read::{dropped_months, partitions};
use sink::{Keeper, Retention};
use sqlx::PgPool;

use crate::again::read_for;
use crate::world::{GRAPH, MDE, NOON, Sink, counts, number, tenant, ticks, with_body};

const DAY: Duration = Duration::from_secs(24 * 3600);
const STORED: &str = "select count(*) from tocsin.alert_version";

/// A stamp in a month that ended longer ago than sixty days, and less than four hundred; the month has its partition.
async fn old(pool: &PgPool) -> String {
    sqlx::query_scalar(
        "with old as (select date_trunc('month', now() at time zone 'UTC') - interval '4 months' + interval '9 days' as at)
         select to_char(at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') from old, tocsin.ensure_version_partition(at at time zone 'UTC')",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

fn alert(id: &str, created: &str, note: &str) -> Record {
    let raw = format!(r#"{{"id": "{id}", "createdDateTime": "{created}", "title": "{note}"}}"#);
    with_body(id, &raw, Some(NOON), Some(created), note)
}

async fn allow(pool: &PgPool, retention: Retention) {
    assert!(retention.allow(&mut pool.acquire().await.unwrap()).await.unwrap());
}

fn versions(kept: Duration) -> Retention {
    Retention { versions: Some(kept), ..Retention::default() }
}

fn keeper(pool: &PgPool) -> Keeper {
    Keeper::new(pool.clone(), Arc::new(SystemClock))
}

/// Nobody has worked on these for a hundred days.
async fn rested(pool: &PgPool, ids: &[&str]) {
    sqlx::query("update tocsin.alert set last_stored_at = now() - interval '100 days' where alert_id = any($1)")
        .bind(ids)
        .execute(pool)
        .await
        .unwrap();
}

async fn bodies(pool: &PgPool) -> Vec<(String, Option<String>)> {
    sqlx::query_as("select alert_id, raw::text from dash.alert order by alert_id").fetch_all(pool).await.unwrap()
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_month_that_nobody_needs_goes_and_what_it_held_is_known_when_it_is_shown_again(pool: PgPool) {
    let (fence, sink, old) = (tenant(&pool, 1).await, Sink::start(&pool), old(&pool).await);
    let graph = || vec![alert("a", &old, "second"), alert("b", &old, "graph")];
    let mde = || vec![alert("b", &old, "mde")];
    assert_eq!(counts(sink.store(fence, GRAPH, vec![alert("a", &old, "first")]).await), (1, 0, 0, 0));
    assert_eq!(counts(sink.store(fence, MDE, mde()).await), (1, 0, 0, 0));
    assert_eq!(counts(sink.store(fence, GRAPH, graph()).await), (0, 2, 0, 0));
    rested(&pool, &["a", "b"]).await;

    keeper(&pool).look().await.unwrap();
    assert_eq!(number(&pool, STORED).await, 4, "without a retention nothing is forgotten");
    allow(&pool, versions(60 * DAY)).await;
    keeper(&pool).look().await.unwrap();
    assert_eq!(number(&pool, STORED).await, 0);
    let month = &old[..7];
    let gone = dropped_months(&pool, 10).await.unwrap();
    assert_eq!(gone.iter().map(|it| (it.month.as_str(), it.versions, it.kept)).collect::<Vec<_>>(), [(month, 4, 0)]);
    assert!(partitions(&pool).await.unwrap().iter().all(|part| part.month.as_deref() != Some(month)));
    assert_eq!(bodies(&pool).await, [("a".into(), None), ("b".into(), None)], "their state stays");

    assert_eq!(counts(sink.store(fence, GRAPH, graph()).await), (0, 0, 2, 0));
    assert_eq!(counts(sink.store(fence, MDE, mde()).await), (0, 0, 1, 0), "another source's body of an alert is known as well");
    // Also to who asks for the versions themselves.
    let nightly = || read_for(Errand::Nightly, ticks(&old));
    assert_eq!(counts(sink.store_with(fence, GRAPH, graph(), nightly()).await), (0, 0, 2, 0));
    assert_eq!(counts(sink.store_with(fence, MDE, mde(), nightly()).await), (0, 0, 1, 0));
    assert_eq!(number(&pool, STORED).await, 0);
    // What the source has to say anew is stored, whatever its age, and the numbers go on.
    assert_eq!(counts(sink.store(fence, GRAPH, vec![alert("a", &old, "third")]).await), (0, 1, 0, 0));
    let numbers: Vec<i32> = sqlx::query_scalar("select version from dash.alert_version").fetch_all(&pool).await.unwrap();
    assert_eq!(numbers, [3]);
    assert!(bodies(&pool).await[0].1.as_ref().is_some_and(|raw| raw.contains("third")));
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_month_that_microsoft_shows_no_more_is_remembered_by_the_state_that_stands_alone(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    sqlx::query("select tocsin.ensure_version_partition('2020-05-01 00:00+00')").execute(&pool).await.unwrap();
    let page = || vec![alert("a", "2020-05-02T00:00:00Z", "only")];
    assert_eq!(counts(sink.store(fence, GRAPH, page()).await), (1, 0, 0, 0));
    rested(&pool, &["a"]).await;
    allow(&pool, versions(60 * DAY)).await;
    keeper(&pool).look().await.unwrap();
    assert_eq!(number(&pool, "select count(*) from tocsin.version_seen").await, 0);
    assert_eq!(counts(sink.store(fence, GRAPH, page()).await), (0, 0, 1, 0));
    let nightly = read_for(Errand::Nightly, ticks("2020-05-03T00:00:00Z"));
    assert_eq!(counts(sink.store_with(fence, GRAPH, page(), nightly).await), (0, 0, 1, 0), "nor does it count as lost");
    assert_eq!(number(&pool, STORED).await, 0);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_latest_versions_of_alerts_that_are_still_worked_on_move_first(pool: PgPool) {
    let (fence, sink, old) = (tenant(&pool, 1).await, Sink::start(&pool), old(&pool).await);
    for (id, note) in [("kept", "first"), ("kept", "second"), ("rested", "first")] {
        sink.store(fence, GRAPH, vec![alert(id, &old, note)]).await.unwrap();
    }
    rested(&pool, &["rested"]).await;
    allow(&pool, versions(60 * DAY)).await;
    let row = partitions(&pool).await.unwrap().into_iter().find(|part| part.month.as_deref() == Some(&old[..7])).unwrap();
    assert_eq!(row.kept, Some(1));

    // With fewer moves allowed than are needed, nothing is done at all.
    let wait =
        "select dropped::int::bigint * 100 + kept from tocsin.drop_version_month((select month from tocsin.version_part where over), 0)";
    assert_eq!(number(&pool, wait).await, 1);
    assert_eq!(number(&pool, STORED).await, 3);
    // Nor by whoever dies before the end.
    let mut tx = pool.begin().await.unwrap();
    let dropped: bool =
        sqlx::query_scalar("select dropped from tocsin.drop_version_month((select month from tocsin.version_part where over), 10)")
            .fetch_one(&mut *tx)
            .await
            .unwrap();
    assert!(dropped);
    tx.rollback().await.unwrap();
    assert_eq!(number(&pool, STORED).await, 3);

    keeper(&pool).look().await.unwrap();
    let left = bodies(&pool).await;
    assert!(left[0].1.as_ref().is_some_and(|raw| raw.contains("second")), "{left:?}");
    assert_eq!((left.len(), &left[1].1, number(&pool, "select count(*) from only tocsin.alert_version_default").await), (2, &None, 1));
    keeper(&pool).look().await.unwrap();
    assert_eq!(dropped_months(&pool, 10).await.unwrap().len(), 1, "a month goes once");
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn whoever_reads_is_waited_for_a_moment_and_then_left_in_peace(pool: PgPool) {
    let (fence, sink, old) = (tenant(&pool, 1).await, Sink::start(&pool), old(&pool).await);
    sink.store(fence, GRAPH, vec![alert("a", &old, "only")]).await.unwrap();
    rested(&pool, &["a"]).await;
    allow(&pool, versions(60 * DAY)).await;
    let mut reader = pool.begin().await.unwrap();
    let seen: i64 = sqlx::query_scalar(STORED).fetch_one(&mut *reader).await.unwrap();
    let refused = keeper(&pool).look().await.unwrap_err().to_string();
    assert!(refused.contains("lock timeout"), "{refused}");
    let again: i64 = sqlx::query_scalar(STORED).fetch_one(&mut *reader).await.unwrap();
    assert_eq!((seen, again), (1, 1));
    reader.rollback().await.unwrap();
    keeper(&pool).look().await.unwrap();
    assert_eq!(number(&pool, STORED).await, 0);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn only_what_the_owner_lets_go_goes(pool: PgPool) {
    let old = old(&pool).await;
    let attempt = async |month: &str| {
        let sql = "select dropped from tocsin.drop_version_month($1::text::date, 1000)";
        sqlx::query_scalar::<_, bool>(sql).bind(month).fetch_optional(&pool).await.map_err(|error| error.to_string())
    };
    let first = format!("{}-01", &old[..7]);
    assert!(attempt(&first).await.unwrap_err().contains("keeps versions for ever"));
    allow(&pool, versions(400 * DAY)).await;
    assert!(attempt(&first).await.unwrap_err().contains("may not be dropped"), "it is kept for longer");
    allow(&pool, versions(60 * DAY)).await;
    assert!(attempt(&old[..10]).await.unwrap_err().contains("may not be dropped"), "it is no month");
    assert_eq!(attempt(&first).await, Ok(Some(true)));
    assert_eq!(attempt(&first).await, Ok(None), "there is no such month any more");
    let short = versions(DAY).allow(&mut pool.acquire().await.unwrap()).await.unwrap_err().to_string();
    assert!(short.contains("retention_versions_check"), "{short}");
    assert_eq!(Retention::allowed(&pool).await.unwrap(), versions(60 * DAY));
    assert!(!versions(60 * DAY).allow(&mut pool.acquire().await.unwrap()).await.unwrap(), "nothing changes");
}

#[sqlx::test(migrations = "../../migrations")]
async fn months_are_made_ahead(pool: PgPool) {
    keeper(&pool).look().await.unwrap();
    let ahead = "select count(*) from tocsin.version_part where month >= date_trunc('month', now() at time zone 'UTC')";
    assert!((2..=3).contains(&number(&pool, ahead).await), "this month and the next, and often one more");
}

#[sqlx::test(migrations = "../../migrations")]
async fn events_quarantine_healed_gaps_and_comparisons_are_forgotten_after_their_time(pool: PgPool) {
    let fence = tenant(&pool, 1).await;
    let fill = "insert into tocsin.feed (tenant, source, quarantined) values ($T, 'graph-alerts', 2);
        insert into tocsin.alert_event (tenant, alert_id, seen_at, field, source) values
            ($T, 'a', now() - interval '61 days', 'status', 's'), ($T, 'a', now() - interval '59 days', 'status', 's');
        insert into tocsin.quarantine (tenant, source, hash, seen_at, reason, raw_bytes, replayed_at) values
            ($T, 'graph-alerts', '1', now() - interval '61 days', 'r', 'x', null), ($T, 'graph-alerts', '2', now() - interval '61 days', 'r', 'x', now()),
            ($T, 'graph-alerts', '3', now() - interval '59 days', 'r', 'x', null);
        insert into tocsin.gap (tenant, source, from_ticks, to_ticks, reason, noticed_at, healed_at) values
            ($T, 's', 0, 1, 'healed long ago', now() - interval '90 days', now() - interval '61 days'),
            ($T, 's', 1, 2, 'healed lately', now() - interval '90 days', now() - interval '59 days'),
            ($T, 's', 2, 3, 'open', now() - interval '90 days', null);
        insert into tocsin.reconciliation (tenant, source, finished_at, asked_by, run, from_ticks, to_ticks, at_source, stored, missing, changed, only_stored)
        select $T, 's', now() - age * interval '1 day', 'nightly', 1, 0, 1, 0, 0, 0, 0, 0 from unnest(array[59, 61]) as age;
        insert into tocsin.version_seen (tenant, source, alert_id, hash, version, month) values
            ($T, 's', 'a', '', 1, now() - interval '432 days'), ($T, 's', 'b', '', 1, now() - interval '430 days')";
    let fill = fill.replace("$T", &format!("'{}'", fence.tenant));
    sqlx::raw_sql(sqlx::AssertSqlSafe(fill)).execute(&pool).await.unwrap();
    let left = async || {
        let sql = "select (select count(*) from tocsin.alert_event), (select count(*) from tocsin.quarantine), (select count(*) from tocsin.gap),
            (select count(*) from tocsin.reconciliation), (select count(*) from tocsin.version_seen), (select quarantined from tocsin.feed)";
        sqlx::query_as::<_, (i64, i64, i64, i64, i64, i64)>(sql).fetch_one(&pool).await.unwrap()
    };
    keeper(&pool).look().await.unwrap();
    assert_eq!(left().await, (2, 3, 3, 2, 1, 2), "what no source shows any more is not remembered; the rest is kept for ever");
    let kept = Some(60 * DAY);
    allow(&pool, Retention { versions: None, events: kept, quarantine: kept, gaps: kept, comparisons: kept }).await;
    keeper(&pool).look().await.unwrap();
    assert_eq!(left().await, (1, 1, 2, 1, 1, 1));
}
