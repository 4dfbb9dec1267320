//! What people decide about an alert, and when it was seen to change.

use domain::{Fence, Record, Source};
use sqlx::PgPool;

use crate::world::{EVENING, GRAPH, MDE, MORNING, NOON, Sink, Tail, alert, counts, number, soon, tenant};

/// Field, old value, new value, when it changed at the source, who said so.
type Event = (String, Option<String>, Option<String>, Option<String>, String);

async fn events(pool: &PgPool, id: &str) -> Vec<Event> {
    sqlx::query_as(
        "select field, old_value, new_value, to_char(changed_at at time zone 'UTC', 'HH24'), source
         from dash.alert_event where alert_id = $1 order by seen_at, field",
    )
    .bind(id)
    .fetch_all(pool)
    .await
    .unwrap()
}

fn event(field: &str, old: Option<&str>, new: Option<&str>, hour: &str, source: Source) -> Event {
    (field.to_owned(), old.map(str::to_owned), new.map(str::to_owned), Some(hour.to_owned()), source.to_string())
}

/// An alert with this status and assignee; severity is always high.
fn judged(id: &str, last_update: &str, status: &str, assigned_to: Option<&str>) -> Record {
    let mut record = alert(id, last_update, &format!("{status} {assigned_to:?}"));
    if let Record::Alert(alert) = &mut record {
        alert.facts.status = Some(status.to_owned());
        alert.facts.assigned_to = assigned_to.map(str::to_owned);
    }
    record
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_changes_is_an_event_and_first_sight_is_none(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    counts(sink.store(fence, GRAPH, vec![judged("a", MORNING, "new", None)]).await);
    assert_eq!(events(&pool, "a").await, []);

    let mut evening = judged("a", EVENING, "resolved", Some("ann\0@example"));
    if let Record::Alert(alert) = &mut evening {
        alert.facts.classification = Some("falsePositive".into());
        alert.facts.determination = Some("other".into());
        alert.facts.severity = Some("low".into());
    }
    counts(sink.store(fence, GRAPH, vec![judged("a", NOON, "inProgress", None), evening.clone()]).await);
    let expected = [
        event("assigned_to", None, Some("ann\u{FFFD}@example"), "18", GRAPH),
        event("classification", None, Some("falsePositive"), "18", GRAPH),
        event("determination", None, Some("other"), "18", GRAPH),
        event("severity", Some("high"), Some("low"), "18", GRAPH),
        event("status", Some("new"), Some("resolved"), "18", GRAPH),
    ];
    assert_eq!(events(&pool, "a").await, expected, "from what stood to what stands; what never stood is no event");
    counts(sink.store(fence, GRAPH, vec![evening]).await);
    assert_eq!(events(&pool, "a").await.len(), 5, "read again it is no event");

    let columns: (Option<String>, Option<String>, Option<String>) =
        sqlx::query_as("select assigned_to, classification, determination from dash.alert").fetch_one(&pool).await.unwrap();
    assert_eq!(columns, (Some("ann\u{FFFD}@example".into()), Some("falsePositive".into()), Some("other".into())));
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_body_that_does_not_win_and_one_that_says_the_same_write_no_event(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    counts(sink.store(fence, GRAPH, vec![judged("a", NOON, "inProgress", None)]).await);
    counts(sink.store(fence, GRAPH, vec![judged("a", MORNING, "new", None)]).await);
    counts(sink.store(fence, MDE, vec![judged("a", NOON, "resolved", None)]).await);
    assert_eq!(events(&pool, "a").await, [], "older, and of the quieter source");
    let mut same = judged("a", EVENING, "inProgress", None);
    if let Record::Alert(alert) = &mut same {
        alert.facts.title = Some("another title".into());
    }
    counts(sink.store(fence, MDE, vec![same]).await);
    assert_eq!(events(&pool, "a").await, []);
    counts(sink.store(fence, GRAPH, vec![judged("a", EVENING, "resolved", None)]).await);
    assert_eq!(events(&pool, "a").await, [event("status", Some("inProgress"), Some("resolved"), "18", GRAPH)]);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_times_of_events_rise_even_when_the_clock_of_the_database_falls(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    counts(sink.store(fence, GRAPH, vec![judged("a", MORNING, "new", None)]).await);
    counts(sink.store(fence, GRAPH, vec![judged("a", NOON, "inProgress", None)]).await);
    sqlx::query("update tocsin.alert_event set seen_at = seen_at + interval '1 hour'").execute(&pool).await.unwrap();
    counts(sink.store(fence, GRAPH, vec![judged("a", EVENING, "resolved", None)]).await);
    let news: Vec<String> = sqlx::query_scalar("select new_value from dash.alert_event order by seen_at").fetch_all(&pool).await.unwrap();
    assert_eq!(news, ["inProgress", "resolved"]);
    sink.stop().await;
}

/// Follows each alert's events from the first state on: they must lead, without a break, to the state that stands.
async fn events_lead_to_what_stands(pool: &PgPool, fence: Fence) {
    let broken = "with steps as (
            select e.alert_id, e.old_value, e.new_value, e.seen_at,
                   lag(e.new_value) over (partition by e.alert_id order by e.seen_at) as before,
                   row_number() over (partition by e.alert_id order by e.seen_at desc) as from_the_end
            from dash.alert_event e where e.field = 'status' and e.directory_id = $1
        )
        select s.alert_id || ': ' || coalesce(s.before, '-') || ' then ' || s.old_value || ' to ' || s.new_value || ', stands ' || a.status
        from steps s join tocsin.alert a on a.tenant = $1 and a.alert_id = s.alert_id
        where s.before <> s.old_value or s.old_value = s.new_value or (s.from_the_end = 1 and s.new_value <> a.status)";
    let broken: Vec<String> = sqlx::query_scalar(broken).bind(fence.tenant.0).fetch_all(pool).await.unwrap();
    assert_eq!(broken, [""; 0]);
}

#[sqlx::test(migrations = "../../migrations")]
async fn two_sources_that_race_for_an_alert_leave_an_unbroken_line_of_events(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let ids: Vec<String> = (0..40).map(|at| format!("id-{at}")).collect();
    for round in 0..30_u32 {
        let stamp = format!("2026-11-21T08:00:{round:02}Z");
        let page = |source: &str| ids.iter().map(|id| judged(id, &stamp, &format!("{source} {round}"), None)).collect::<Vec<_>>();
        let graph = sink.send(fence, GRAPH, page("graph"), Tail::default()).await;
        let mde = sink.send(fence, MDE, page("mde"), Tail::default()).await;
        let outcomes = soon("both answers", async { (graph.await.unwrap(), mde.await.unwrap()) }).await;
        counts(outcomes.0);
        counts(outcomes.1);
        events_lead_to_what_stands(&pool, fence).await;
    }
    let standing = number(&pool, "select count(*) from dash.alert where status = 'graph 29'").await;
    assert_eq!(standing, 40, "of equal stamps graph wins, whoever came first");
    let events = number(&pool, "select count(*) from dash.alert_event where field = 'status'").await;
    let both = number(&pool, "select count(*) from dash.alert_event where old_value like 'mde %' and new_value like 'graph %'").await;
    assert!(events >= 29 * 40 && both > 0, "{events} events, {both} of them graph over mde");
    sink.stop().await;
}
