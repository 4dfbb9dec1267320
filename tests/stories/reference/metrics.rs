//! `metrics.md`, from what the daemon tells its recorder of each metric, and the labels in `domain/src/metric.rs`.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, ensure};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::{Page, plain, sentence};

const SOURCE: &str = include_str!("../../../crates/domain/src/metric.rs");

/// What is told of a metric: name, type, unit, words.
type Described = (String, &'static str, Option<Unit>, String);

/// Writes it down.
#[derive(Default)]
struct Book(Mutex<Vec<Described>>);

impl Book {
    fn write(&self, name: &KeyName, kind: &'static str, unit: Option<Unit>, words: &SharedString) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((name.as_str().to_owned(), kind, unit, words.to_string()));
    }
}

impl Recorder for Book {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, words: SharedString) {
        self.write(&name, "counter", unit, &words);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, words: SharedString) {
        self.write(&name, "gauge", unit, &words);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, words: SharedString) {
        self.write(&name, "histogram", unit, &words);
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn metrics() -> anyhow::Result<()> {
    let book = Book::default();
    metrics::with_local_recorder(&book, console::describe);
    let mut described = book.0.into_inner()?;
    described.sort_by(|one, other| one.0.cmp(&other.0));
    let mut page = Page::new(
        "metrics.md",
        "Metrics",
        "crates/domain/src/metric.rs and crates/console/src/recorder.rs",
        "What `GET /metrics` shows, in the text format of Prometheus. No label holds the name of a customer, a user, or anything unbounded. A histogram \
         is three series: `_bucket` with the label `le`, `_sum` and `_count`. What is about all customers (`tocsin_tenants`, `tocsin_blind_tenants`, \
         `tocsin_clock_tenants`, `tocsin_open_gaps`, `tocsin_feed_last_success_timestamp_seconds`) is the same at every replica: take the largest and never \
         the sum. The rules over them: [alert rules](alert-rules.md).",
    );
    let mut rows = Vec::new();
    for (name, kind, unit, words) in &described {
        let (said, labels) = labels(name).with_context(|| format!("{name} is not in domain/src/metric.rs"))?;
        ensure!(said.to_lowercase().starts_with(kind), "{name} is a {kind}, and domain/src/metric.rs says: {said}");
        let unit = unit.map(|unit| unit.as_str()).unwrap_or_default();
        rows.push(vec![format!("`{name}`"), (*kind).to_owned(), unit.to_owned(), labels, sentence(words)]);
    }
    let named = SOURCE.split('"').filter(|word| word.starts_with("tocsin_")).count();
    ensure!(rows.len() == named, "{} metrics are described and {named} have a name", rows.len());
    page.table(&["Metric", "Type", "Unit", "Labels", ""], &rows);
    page.settle()
}

/// The comment above a metric's name, and the labels in it.
fn labels(name: &str) -> Option<(String, String)> {
    let (above, _) = SOURCE.split_once(&format!("\"{name}\""))?;
    // The last line has begun to declare it.
    let comment = above.lines().rev().skip(1).map_while(|line| line.strip_prefix("/// "));
    let words = comment.collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" ");
    let braces = words.split_once("`{").and_then(|(_, rest)| rest.split_once("}`")).map(|(inside, _)| inside);
    let labels = braces.unwrap_or_default().split(", ").filter(|label| !label.is_empty()).map(|label| match label.split_once('=') {
        Some((label, values)) => {
            let values: Vec<_> = values.trim_matches('"').split('|').map(|value| format!("`{value}`")).collect();
            format!("`{label}`: {}", values.join(", "))
        }
        None => format!("`{}`", plain(label)),
    });
    let labels: Vec<_> = labels.collect();
    Some((words.clone(), labels.join("; ")))
}
