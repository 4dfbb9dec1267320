//! Random histories against a model that fits on one screen.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Fence, Record, Source};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sqlx::PgPool;

use crate::world::{GRAPH, MDE, Sink, tenant, ticks, with_body};

const IDS: [&str; 4] = ["a", "A", "b", "ı"];
const STAMPS: [Option<&str>; 5] = [
    None,
    Some("2026-11-21T08:00:00.0000001Z"),
    Some("2026-11-21T08:00:00.0000002Z"),
    Some("9999-12-31T23:59:59Z"),
    Some("2026-11-20T08:00:00Z"),
];
const CREATED: [Option<&str>; 3] = [Some("2026-10-31T23:59:59.9999999Z"), Some("2026-11-01T00:00:00Z"), None];

/// A record of the model: which alert, which text, which stamp, created when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rec {
    id: usize,
    note: u8,
    stamp: usize,
    created: usize,
}

#[derive(Clone, Debug)]
struct Batch {
    graph: bool,
    records: Vec<Rec>,
}

impl Rec {
    fn raw(self) -> String {
        format!(r#"{{"id":"{}","note":{},"stamp":{},"created":{}}}"#, IDS[self.id], self.note, self.stamp, self.created)
    }

    fn record(self) -> Record {
        with_body(IDS[self.id], &self.raw(), STAMPS[self.stamp], CREATED[self.created], &self.note.to_string())
    }

    fn ticks(self) -> Option<i64> {
        STAMPS[self.stamp].map(|text| ticks(text).0)
    }
}

impl Batch {
    fn source(&self) -> Source {
        if self.graph { GRAPH } else { MDE }
    }
}

fn history() -> impl Strategy<Value = Vec<Batch>> {
    // Creation times mostly belong to the alert, as they should, and sometimes not.
    let record = (0..IDS.len(), 0..3_u8, 0..STAMPS.len(), prop_oneof![6 => Just(None), 1 => (0..CREATED.len()).prop_map(Some)])
        .prop_map(|(id, note, stamp, created)| Rec { id, note, stamp, created: created.unwrap_or(id % CREATED.len()) });
    let batch = (any::<bool>(), prop::collection::vec(record, 0..7)).prop_map(|(graph, records)| Batch { graph, records });
    prop::collection::vec(batch, 1..10)
}

/// What has to be there: `dash.alert` as (source, body), `dash.alert_version` as (number).
#[derive(Debug, Default, PartialEq, Eq)]
struct Model {
    latest: BTreeMap<String, (String, String)>,
    versions: BTreeMap<(String, String, String), i32>,
    counts: BTreeMap<String, i32>,
}

#[derive(Default)]
struct Maker {
    model: Model,
    seen: BTreeSet<(Source, Rec)>,
    standing: BTreeMap<usize, (Option<i64>, i16)>,
}

impl Maker {
    /// Returns how many versions the batch brings.
    fn store(&mut self, batch: &Batch) -> usize {
        let source = batch.source();
        let before = self.seen.len();
        let mut best = BTreeMap::<usize, Rec>::new();
        for rec in &batch.records {
            if self.seen.insert((source, *rec)) {
                let number = self.seen.iter().filter(|(of, other)| *of == source && other.id == rec.id).count();
                let key = (source.to_string(), IDS[rec.id].to_owned(), rec.raw());
                self.model.versions.insert(key, i32::try_from(number).unwrap());
                *self.model.counts.entry(IDS[rec.id].to_owned()).or_default() += 1;
            }
            if best.get(&rec.id).is_none_or(|other| rec.ticks() >= other.ticks()) {
                best.insert(rec.id, *rec);
            }
        }
        for (id, rec) in best {
            let rank = (rec.ticks(), source.rank());
            if self.standing.get(&id).is_none_or(|standing| rank >= *standing) {
                self.standing.insert(id, rank);
                self.model.latest.insert(IDS[id].to_owned(), (source.to_string(), rec.raw()));
            }
        }
        self.seen.len() - before
    }
}

async fn stored(pool: &PgPool, fence: Fence) -> Model {
    let latest: Vec<(String, String, String, i32)> = sqlx::query_as(
        "select d.alert_id, a.source, d.raw::text, d.version_count from dash.alert d
         join tocsin.alert a on a.tenant = d.directory_id and a.alert_id = d.alert_id where d.directory_id = $1",
    )
    .bind(fence.tenant.0)
    .fetch_all(pool)
    .await
    .unwrap();
    let versions: Vec<(String, String, String, i32)> =
        sqlx::query_as("select source, alert_id, raw::text, version from dash.alert_version where directory_id = $1")
            .bind(fence.tenant.0)
            .fetch_all(pool)
            .await
            .unwrap();
    let rows = versions.len();
    let model = Model {
        counts: latest.iter().map(|(id, _, _, count)| (id.clone(), *count)).collect(),
        latest: latest.into_iter().map(|(id, source, raw, _)| (id, (source, raw))).collect(),
        versions: versions.into_iter().map(|(source, id, raw, version)| ((source, id, raw), version)).collect(),
    };
    assert_eq!(model.versions.len(), rows, "no version is there twice");
    model
}

async fn check(pool: &PgPool, sink: &Sink, fence: Fence, history: &[Batch]) -> Result<(), String> {
    let mut maker = Maker::default();
    for (at, batch) in history.iter().enumerate() {
        let fresh = maker.store(batch);
        let outcome = sink.store(fence, batch.source(), batch.records.iter().map(|rec| rec.record()).collect()).await;
        let outcome = outcome.map_err(|error| error.to_string())?;
        if (outcome.new + outcome.updated) as usize != fresh || outcome.duplicate as usize != batch.records.len() - fresh {
            return Err(format!("batch {at} should have brought {fresh} versions: {outcome:?}"));
        }
    }
    let found = stored(pool, fence).await;
    if found == maker.model { Ok(()) } else { Err(format!("expected {:#?}\nfound {found:#?}", maker.model)) }
}

#[sqlx::test(migrations = "../../migrations")]
async fn any_history_of_batches_ends_as_the_model_says(pool: PgPool) {
    let sink = Sink::start(&pool);
    let mut runner = TestRunner::deterministic();
    let mut number = 0;
    for _ in 0..120 {
        let mut tree = history().new_tree(&mut runner).unwrap();
        number += 1;
        let Err(mut error) = check(&pool, &sink, tenant(&pool, number).await, &tree.current()).await else { continue };
        let mut smallest = tree.current();
        // Look for a smaller history that fails as well, each time with a fresh tenant.
        let mut goes_on = tree.simplify();
        while goes_on {
            number += 1;
            goes_on = match check(&pool, &sink, tenant(&pool, number).await, &tree.current()).await {
                Err(smaller) => {
                    (error, smallest) = (smaller, tree.current());
                    tree.simplify()
                }
                Ok(()) => tree.complicate(),
            };
        }
        panic!("{error}\nfor the history {smallest:#?}");
    }
    sink.stop().await;
}
