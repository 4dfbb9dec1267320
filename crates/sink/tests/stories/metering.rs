//! What is counted: only what was committed, and nothing that could name a tenant.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use domain::{Axis, Comparison, CursorMove, Errand, Gap, GapKind, Poison, Purpose, Record, Reread, RereadMove, metric};
use metrics::{Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use sqlx::PgPool;

use crate::world::{GRAPH, MORNING, NOON, Sink, Tail, alert, counts, tenant, ticks};

/// Remembers sums of counters and numbers of measurements, by name and labels.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<BTreeMap<String, u64>>>);

struct Page(Book, String);

impl Book {
    fn page(&self, key: &Key) -> Arc<Page> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::new(Page(self.clone(), format!("{} {}", key.name(), labels.join(" ")).trim_end().to_owned()))
    }
}

impl Page {
    fn add(&self, value: u64) {
        if value > 0 {
            *self.0.0.lock().unwrap().entry(self.1.clone()).or_default() += value;
        }
    }
}

impl CounterFn for Page {
    fn increment(&self, value: u64) {
        self.add(value);
    }
    fn absolute(&self, _: u64) {}
}

impl HistogramFn for Page {
    fn record(&self, value: f64) {
        assert!(value >= 0.0);
        self.add(1);
    }
}

impl Recorder for Book {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.page(key))
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.page(key))
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_is_committed_is_counted_once(pool: PgPool) {
    let book = Book::default();
    let _counting = metrics::set_default_local_recorder(&book);
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let poison = || Record::Poison(Poison::new("no id", Bytes::from_static(b"{}")));
    let tail = || Tail {
        cursor: Some(NOON),
        gaps: vec![Gap { from: ticks(MORNING), to: ticks(NOON), kind: GapKind::Ties, reason: "x".into() }],
        ..Tail::default()
    };
    let page = || vec![alert("a", MORNING, "1"), alert("b", MORNING, "1"), alert("a", NOON, "2"), poison()];
    counts(sink.store_with(fence, GRAPH, page(), tail()).await);
    counts(sink.store_with(fence, GRAPH, page(), tail()).await);
    sink.stop().await;

    let expected = [
        (format!("{} source=graph-alerts kind=new", metric::ALERTS_STORED), 2),
        (format!("{} source=graph-alerts kind=updated", metric::ALERTS_STORED), 1),
        (format!("{} source=graph-alerts", metric::ALERTS_DUPLICATE), 3),
        (format!("{} source=graph-alerts", metric::QUARANTINED), 1),
        (format!("{} source=graph-alerts", metric::GAPS), 1),
        (metric::INGEST_LAG.to_owned(), 3),
        (metric::COMMIT_SECONDS.to_owned(), 2),
    ];
    assert_eq!(*book.0.lock().unwrap(), BTreeMap::from(expected));
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_reading_again_finds_is_counted(pool: PgPool) {
    let book = Book::default();
    let _counting = metrics::set_default_local_recorder(&book);
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    for errand in [Errand::Short, Errand::Nightly] {
        let polled_before = ticks(NOON);
        let (from, to) = (ticks(MORNING), polled_before);
        let now = Reread { errand, run: 1, axis: Axis::Update, from, to, left: to, polled_before, finished_at: None };
        let tail = |now, comparison| Tail {
            turn: Some(CursorMove::Reread(RereadMove { now, before: None, whole: None, comparison })),
            purpose: Some(Purpose::Reread { errand, polled_before }),
            ..Tail::default()
        };
        let end = Reread { finished_at: Some(to), ..now.clone() };
        let comparison = Comparison { only_stored_count: 4, ..Comparison::default() };
        let comparison = errand.is_comparison().then_some(comparison);
        counts(sink.store_with(fence, GRAPH, vec![], tail(now, None)).await);
        let page = vec![alert(errand.as_str(), MORNING, "missed"), alert("fresh", NOON, errand.as_str())];
        counts(sink.store_with(fence, GRAPH, page, tail(end, comparison)).await);
    }
    sink.stop().await;
    let counted = book.0.lock().unwrap().clone();
    let of = |name: &str, label: &str| counted.get(&format!("{name} {label}")).copied();
    assert_eq!(of(metric::LATE_FOUND, "rung=short"), Some(1));
    assert_eq!(counted.keys().filter(|key| key.starts_with(metric::LATE_FOUND)).count(), 1, "only of the ladder");
    assert_eq!((of(metric::REREADS, "errand=short"), of(metric::REREADS, "errand=nightly")), (Some(1), Some(1)));
    let differences = ["missing", "changed", "only_stored"].map(|kind| of(metric::RECONCILE_DIFFERENCES, &format!("kind={kind}")));
    assert_eq!(differences, [Some(1), Some(1), Some(4)]);
    assert_eq!(counted.get(metric::INGEST_LAG), None, "the age of what is read again says nothing about us");
}
