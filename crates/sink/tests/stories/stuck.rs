//! Somebody holds the rows of some tenants: the others do not notice.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::ports::Cursors;
use domain::{Fence, Refusal};
use sink::{Config, CursorStore};
use sqlx::{PgPool, Postgres, Transaction};
use tracing::field::{Field, Visit};

use crate::world::{Answer, EVENING, GRAPH, MORNING, NOON, Sink, Tail, alert, counts, latest, number, soon, tenant, ticks, until};

const FAILED: &str = "a batch could not be stored yet";
const TOLD: &str = "what was received of this feed cannot be stored yet";

/// What is logged, with its fields, line by line.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!(" {}={value:?}", field.name()));
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("sink")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

impl Log {
    /// Lines that say this of this tenant.
    fn lines(&self, what: &str, of: Fence) -> Vec<String> {
        let tenant = format!("tenant.id={}", of.tenant);
        self.0.lock().unwrap().iter().filter(|line| line.contains(what) && line.contains(&tenant)).cloned().collect()
    }
}

fn quick() -> Config {
    Config {
        statement_timeout: Duration::from_millis(100),
        first_delay: Duration::from_millis(10),
        max_delay: Duration::from_millis(50),
        ..Config::default()
    }
}

/// Locks the one alert of each of these tenants, as somebody at a psql prompt might.
async fn lock(pool: &PgPool, tenants: &[Fence]) -> Transaction<'static, Postgres> {
    let mut holder = pool.begin().await.unwrap();
    let ids: Vec<_> = tenants.iter().map(|fence| fence.tenant.0).collect();
    let locked = sqlx::query("select 1 from tocsin.alert where tenant = any($1) for update").bind(ids).execute(&mut *holder).await.unwrap();
    assert_eq!(locked.rows_affected(), tenants.len() as u64);
    holder
}

/// Stores batches of this tenant until each of the others has lost so many attempts.
async fn store_while_others_lose(sink: &mut Sink, fence: Fence, log: &Log, others: &[Fence], attempts: usize) -> u64 {
    let mut stored = 0;
    while stored < 20 || others.iter().any(|other| log.lines(FAILED, *other).len() < attempts) {
        let outcome = sink.store(fence, GRAPH, vec![alert(&format!("b{stored}"), NOON, "t")]).await;
        assert_eq!(counts(outcome), (1, 0, 0, 0));
        stored += 1;
    }
    let now = sink.status.borrow().beat;
    let status = soon("a beat", sink.status.wait_for(|status| status.beat > now)).await.unwrap().clone();
    assert_eq!(status.fault, None, "polling goes on for everybody");
    stored
}

async fn is_stored_once(pool: &PgPool, answer: Answer) {
    assert_eq!(counts(soon("the answer", answer).await.unwrap()), (0, 1, 0, 0));
    let rows = latest(pool).await;
    let stuck: Vec<_> = rows.iter().filter(|row| row.alert_id == "a").collect();
    assert!(stuck.iter().all(|row| row.version_count <= 2), "{stuck:?}");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_lock_on_the_alerts_of_one_tenant_stops_that_tenant_and_nobody_else(pool: PgPool) {
    let log = Log::default();
    let _listening = tracing::subscriber::set_default(log.clone());
    let (one, two, mut sink) = (tenant(&pool, 1).await, tenant(&pool, 2).await, Sink::with(&pool, quick()));
    let cursors = CursorStore::new(pool.clone());
    counts(
        sink.store_with(one, GRAPH, vec![alert("a", MORNING, "t")], Tail { cursor: Some(MORNING), gaps: vec![], ..Tail::default() }).await,
    );
    let holder = lock(&pool, &[one]).await;
    let mut first = sink.send(one, GRAPH, vec![alert("a", NOON, "u")], Tail::default()).await;
    let second =
        sink.send(one, GRAPH, vec![alert("x", EVENING, "v")], Tail { cursor: Some(EVENING), gaps: vec![], ..Tail::default() }).await;

    let stored = store_while_others_lose(&mut sink, two, &log, &[one], 6).await;
    assert!(first.try_recv().is_err(), "nothing is acknowledged that is not stored");
    assert_eq!(
        number(&pool, "select count(*) from dash.alert where alert_id = 'x'").await,
        0,
        "what comes later waits for what came first"
    );
    assert_eq!(cursors.feed_state(one.tenant, GRAPH).await.unwrap().watermark, Some(ticks(MORNING)));
    let told = log.lines(TOLD, one);
    assert_eq!(told.len(), 1, "once, however many attempts it takes: {told:?}");
    assert!(told[0].starts_with("WARN") && told[0].contains("timeout") && !told[0].contains(" at line "), "{told:?}");

    holder.rollback().await.unwrap();
    is_stored_once(&pool, first).await;
    assert_eq!(counts(soon("the second answer", second).await.unwrap()), (1, 0, 0, 0));
    assert_eq!(cursors.feed_state(one.tenant, GRAPH).await.unwrap().watermark, Some(ticks(EVENING)));
    assert_eq!(number(&pool, "select count(*) from dash.alert_version").await, 3 + i64::try_from(stored).unwrap());
    assert_eq!(log.lines("no longer stuck", one).len(), 1);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn more_stuck_tenants_than_there_are_writers_leave_a_writer_and_room_for_the_others(pool: PgPool) {
    let log = Log::default();
    let _listening = tracing::subscriber::set_default(log.clone());
    let (well, mut sink) = (tenant(&pool, 100).await, Sink::with(&pool, quick()));
    let mut stuck = Vec::new();
    for number in 0..7 {
        let fence = tenant(&pool, number).await;
        counts(sink.store(fence, GRAPH, vec![alert("a", MORNING, "t")]).await);
        stuck.push(fence);
    }
    assert!(stuck.len() > quick().writers * 3);
    let holder = lock(&pool, &stuck).await;
    let mut answers = Vec::new();
    for fence in &stuck {
        answers.push(
            sink.send(*fence, GRAPH, vec![alert("a", NOON, "u")], Tail { cursor: Some(NOON), gaps: vec![], ..Tail::default() }).await,
        );
    }

    let stored = store_while_others_lose(&mut sink, well, &log, &stuck, 4).await;
    assert!(answers.iter_mut().all(|answer| answer.try_recv().is_err()), "nothing is acknowledged that is not stored");
    assert!(stuck.iter().all(|fence| log.lines(TOLD, *fence).len() == 1));

    holder.rollback().await.unwrap();
    for answer in answers {
        is_stored_once(&pool, answer).await;
    }
    assert_eq!(number(&pool, "select count(*) from dash.alert where alert_id = 'a' and version_count = 2 and title = 'u'").await, 7);
    assert_eq!(number(&pool, "select count(*) from dash.alert_version").await, 7 * 2 + i64::try_from(stored).unwrap());
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_lock_held_elsewhere_frees_the_writer_long_before_the_time_of_a_statement_is_over(pool: PgPool) {
    let log = Log::default();
    let _listening = tracing::subscriber::set_default(log.clone());
    let minute = Duration::from_secs(60);
    let config = Config { statement_timeout: minute, lock_timeout: Duration::from_millis(50), writers: 1, ..quick() };
    let (one, two, mut sink) = (tenant(&pool, 1).await, tenant(&pool, 2).await, Sink::with(&pool, config));
    counts(sink.store(one, GRAPH, vec![alert("a", MORNING, "t")]).await);
    let holder = lock(&pool, &[one]).await;
    let began = tokio::time::Instant::now();
    let answer = sink.send(one, GRAPH, vec![alert("a", NOON, "u")], Tail::default()).await;
    store_while_others_lose(&mut sink, two, &log, &[one], 3).await;
    assert!(began.elapsed() < minute, "the only writer was free in between");
    assert!(log.lines(FAILED, one)[0].contains("lock timeout"), "{:?}", log.lines(FAILED, one));
    holder.rollback().await.unwrap();
    is_stored_once(&pool, answer).await;
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_stop_refuses_what_is_stuck_at_once_and_what_is_behind_it(pool: PgPool) {
    let log = Log::default();
    let _listening = tracing::subscriber::set_default(log.clone());
    let pause = Duration::from_secs(600);
    let (fence, sink) = (tenant(&pool, 1).await, Sink::with(&pool, Config { first_delay: pause, max_delay: pause, ..quick() }));
    counts(sink.store(fence, GRAPH, vec![alert("a", MORNING, "t")]).await);
    let holder = lock(&pool, &[fence]).await;
    let first = sink.send(fence, GRAPH, vec![alert("a", NOON, "u")], Tail::default()).await;
    let second =
        sink.send(fence, GRAPH, vec![alert("x", EVENING, "v")], Tail { cursor: Some(EVENING), gaps: vec![], ..Tail::default() }).await;
    until("the batch has failed", || async { log.lines(FAILED, fence).len() }, |count| *count == 1).await;
    sink.stop().await;
    holder.rollback().await.unwrap();
    assert_eq!(first.await.unwrap(), Err(Refusal::Stopping));
    assert_eq!(second.await.unwrap(), Err(Refusal::Stopping), "its cursor would pass over what was refused");
    assert_eq!(CursorStore::new(pool.clone()).feed_state(fence.tenant, GRAPH).await.unwrap().watermark, None);
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_the_database_refuses_to_everybody_is_a_fault_in_its_own_words(pool: PgPool) {
    let (fence, mut sink) = (tenant(&pool, 1).await, Sink::with(&pool, quick()));
    sqlx::query("alter table tocsin.alert rename to elsewhere").execute(&pool).await.unwrap();
    let answer = sink.send(fence, GRAPH, vec![alert("a", NOON, "t")], Tail::default()).await;
    let status = soon("the fault", sink.status.wait_for(|status| status.fault.is_some())).await.unwrap().clone();
    let fault = status.fault.unwrap();
    assert!(fault.ends_with(r#"the database refuses to store: relation "tocsin.alert" does not exist"#), "{fault}");
    sqlx::query("alter table tocsin.elsewhere rename to alert").execute(&pool).await.unwrap();
    assert_eq!(counts(soon("the answer", answer).await.unwrap()), (1, 0, 0, 0));
    soon("the end of the fault", sink.status.wait_for(|status| status.fault.is_none())).await.unwrap();
    sink.stop().await;
}
