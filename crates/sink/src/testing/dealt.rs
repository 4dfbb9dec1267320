//! What a history is made of. Few ids, few stamps, few texts, so that everything meets everything.

use bytestring::ByteString;
use domain::{
    AlertFacts, AlertId, AlertRecord, Axis, Comparison, ContentHash, CursorMove, Epoch, Errand, Fence, Gap, GapKind, IncidentId,
    IncidentRecord, Order, Poison, Purpose, Record, Reread, RereadMove, Source, Ticks,
};
use proptest::prelude::*;

use super::faulty::Fault;
use super::reference::{Batch, Reference};
use crate::store::Item;

const ALERTS: [&str; 5] = ["a", "A", "b", "ı", "n\0l"];
const INCIDENTS: [&str; 6] = ["1", "2", "3", "10", "11", "a"];
const STAMPS: [Option<&str>; 6] = [
    None,
    Some("2026-11-21T08:00:00.0000001Z"),
    Some("2026-11-21T08:00:00.0000002Z"),
    Some("2026-11-20T08:00:00Z"),
    Some("9999-12-31T23:59:59.9999999Z"),
    Some("no stamp at all"),
];
const CREATED: [Option<&str>; 3] = [Some("2026-10-31T23:59:59.9999999Z"), Some("2026-11-01T00:00:00Z"), None];
const WORDS: [Option<&str>; 3] = [None, Some("new"), Some("resolved")];

/// One step of a history.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Batch { deal: Box<Deal>, fault: Option<Fault> },
    News(News),
    Claim,
    Ask { source: Source, errand: Errand, stretch: (Ticks, Ticks), replace: bool },
    Cancel { source: Source, errand: Errand },
    Replay { source: Source },
}

/// A batch, but for what depends on the moment.
#[derive(Clone, Debug)]
pub(super) struct Deal {
    source: Source,
    /// Sent under the generation before.
    stale: bool,
    records: Vec<Rec>,
    purpose: Purpose,
    cursor: Turn,
    gaps: Vec<Gap>,
}

/// A record: an alert or an incident by source, or a body that is not understood, maybe one that is later.
#[derive(Clone, Copy, Debug)]
struct Rec {
    id: usize,
    note: u8,
    stamp: usize,
    created: usize,
    /// Of an incident: what it was merged into.
    merged: usize,
    poison: bool,
}

/// A move of the cursor. Runs count from the one on record.
#[derive(Clone, Debug)]
enum Turn {
    None,
    Begin {
        live_from: Ticks,
        history_from: Ticks,
    },
    Live {
        from: Ticks,
        watermark: Ticks,
    },
    Reread {
        errand: Errand,
        later: i64,
        before: Option<(Axis, Ticks)>,
        to: Reread,
        whole: Option<(Ticks, Ticks)>,
        comparison: Option<Comparison>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct News {
    source: Source,
    stale: bool,
    at: Ticks,
    caught_up: Option<Ticks>,
    throttled: bool,
}

impl Rec {
    /// One of a few bodies: those that are not understood and those that are replayed meet.
    fn of_few(self) -> Self {
        Self { note: 0, stamp: 1, created: 0, merged: INCIDENTS.len(), ..self }
    }

    fn record(self, source: Source) -> Record {
        let incident = source == Source::GraphIncidents;
        let id = if incident { INCIDENTS[self.id % INCIDENTS.len()] } else { ALERTS[self.id % ALERTS.len()] };
        let raw = ByteString::from(format!(
            r#"{{"id":"{}","note":{},"stamp":{},"created":{},"merged":{}}}"#,
            self.id,
            self.note,
            self.stamp,
            self.created,
            if incident { self.merged } else { 0 }
        ));
        if self.poison {
            return Record::Poison(Poison::new(format!("poison {}", self.note), raw.into_bytes()));
        }
        let hash = ContentHash::of(raw.as_bytes());
        let (last_update, created) = (STAMPS[self.stamp], CREATED[self.created].and_then(Ticks::parse));
        let word = |shift: u8| WORDS[usize::from(self.note.wrapping_add(shift)) % WORDS.len()].map(str::to_owned);
        if incident {
            // Further than there are incidents: into none.
            let redirect = INCIDENTS.get(self.merged).map(|id| IncidentId::new(*id));
            let (title, last_update) = (word(0), last_update.and_then(Ticks::parse));
            let (severity, status) = (word(1), word(2));
            return Record::Incident(IncidentRecord {
                id: IncidentId::new(id),
                hash,
                raw,
                last_update,
                created,
                title,
                severity,
                status,
                redirect,
            });
        }
        Record::Alert(AlertRecord {
            id: AlertId::new(id),
            hash,
            raw,
            last_update_text: last_update.map(str::to_owned),
            last_update: last_update.and_then(Ticks::parse),
            created,
            facts: AlertFacts {
                incident_id: Some(INCIDENTS[self.stamp % INCIDENTS.len()].to_owned()),
                title: Some(self.note.to_string()),
                severity: word(0),
                status: word(1),
                service_source: word(2),
                detection_source: word(0),
                category: word(1),
                assigned_to: word(2),
                classification: word(0),
                determination: Some("one word".to_owned()),
            },
        })
    }
}

fn before(fence: Fence, stale: bool) -> Fence {
    Fence { epoch: Epoch(fence.epoch.0 - i64::from(stale)), ..fence }
}

impl Deal {
    /// The batch, now that it is known how far everything is.
    pub(super) fn batch(&self, now: &Reference) -> Batch {
        let cursor = match &self.cursor {
            Turn::None => None,
            Turn::Begin { live_from, history_from } => Some(CursorMove::Begin { live_from: *live_from, history_from: *history_from }),
            Turn::Live { from, watermark } => Some(CursorMove::Live { from: *from, watermark: *watermark }),
            Turn::Reread { errand, later, before, to, whole, comparison } => {
                let run = now.stored.rereads.get(&(self.source, *errand)).map_or(1, |row| row.run + later);
                let now = Reread { run, errand: *errand, ..to.clone() };
                Some(CursorMove::Reread(RereadMove { now, before: *before, whole: *whole, comparison: comparison.clone() }))
            }
        };
        let replay = matches!(self.purpose, Purpose::Reread { errand: Errand::Replay, .. });
        let few = |rec: &Rec| if replay || rec.poison { rec.of_few() } else { *rec };
        Batch {
            fence: before(now.fence, self.stale),
            source: self.source,
            records: self.records.iter().map(|rec| few(rec).record(self.source)).collect(),
            cursor,
            gaps: self.gaps.clone(),
            purpose: self.purpose,
        }
    }
}

impl News {
    pub(super) fn item(&self, fence: Fence) -> Item {
        Item {
            fence: before(fence, self.stale),
            source: self.source,
            attempted_at: self.at,
            succeeded_at: self.caught_up.map(|_| self.at),
            caught_up: self.caught_up,
            error: self.caught_up.is_none().then(|| "no answer".to_owned()),
            throttled_until: self.throttled.then_some(self.at),
            order: if self.throttled { Order::Windows } else { Order::Ascending },
        }
    }
}

fn any_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(all)
}

/// An instant of the stretches: few of them, so that they touch.
fn instant() -> impl Strategy<Value = Ticks> {
    (0..8_i64).prop_map(|at| Ticks(17_000_000_000_000_000 + at * 10_000_003))
}

fn stretch() -> impl Strategy<Value = (Ticks, Ticks)> {
    (instant(), instant()).prop_map(|(a, b)| (a.min(b), a.max(b)))
}

fn rec() -> impl Strategy<Value = Rec> {
    // Creation times mostly belong to the alert, as they should, and sometimes not.
    let created = prop_oneof![6 => Just(None), 1 => (0..CREATED.len()).prop_map(Some)];
    (0..6_usize, 0..4_u8, 0..STAMPS.len(), created, 0..8_usize, prop::bool::weighted(0.1)).prop_map(
        |(id, note, stamp, created, merged, poison)| Rec {
            id,
            note,
            stamp,
            created: created.unwrap_or(id % CREATED.len()),
            merged,
            poison,
        },
    )
}

fn gaps() -> impl Strategy<Value = Vec<Gap>> {
    let gap = (stretch(), any_of(GapKind::ALL), 0..3_u8).prop_map(|((from, to), kind, reason)| Gap {
        from,
        to,
        kind,
        reason: format!("reason {reason}"),
    });
    prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(gap, 1..3)].prop_map(|mut gaps| {
        gaps.sort_by_key(|gap| (gap.from, gap.to));
        gaps.dedup_by_key(|gap| (gap.from, gap.to));
        gaps
    })
}

fn reread(errand: Errand) -> impl Strategy<Value = Turn> {
    let comparison = (0..5_u64, 0..5_u64, prop::collection::vec("[a-c]", 0..3)).prop_map(|(at_source, stored, only_stored)| Comparison {
        at_source,
        stored,
        only_stored_count: only_stored.len() as u64,
        only_stored,
    });
    let ends = (any::<bool>(), prop::option::of(comparison));
    (
        prop_oneof![3 => Just(0), 2 => Just(1), 1 => Just(-1)],
        any_of(Axis::ALL),
        stretch(),
        instant(),
        instant(),
        prop::option::of(stretch()),
        prop::option::of((any_of(Axis::ALL), instant())),
        ends,
    )
        .prop_map(move |(later, axis, (from, to), left, polled_before, whole, before, (ends, comparison))| Turn::Reread {
            errand,
            later,
            before,
            to: Reread { errand, run: 0, axis, from, to, left, polled_before, finished_at: ends.then_some(Ticks(0)) },
            whole,
            comparison: comparison.filter(|_| ends && errand.is_comparison()),
        })
}

/// What a batch is for, and the move that goes with it.
fn purpose() -> impl Strategy<Value = (Purpose, Turn)> {
    let live = prop_oneof![
        Just(Turn::None),
        (instant(), instant()).prop_map(|(live_from, history_from)| Turn::Begin { live_from, history_from }),
        (instant(), instant()).prop_map(|(from, watermark)| Turn::Live { from, watermark }),
    ];
    let live = (any::<bool>(), live).prop_map(|(fresh, turn)| (Purpose::Live { fresh }, turn));
    // Stamps of records are compared with this: among them, and before and after all of them.
    let polled_before = any_of(&["2026-11-21T08:00:00.0000002Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z"]);
    let again = (any_of(Errand::ALL), polled_before).prop_flat_map(|(errand, before)| {
        let polled_before = Ticks::parse(before).unwrap_or(Ticks(0));
        let turn = prop_oneof![1 => Just(Turn::None), 2 => reread(errand)];
        turn.prop_map(move |turn| (Purpose::Reread { errand, polled_before }, turn))
    });
    prop_oneof![live, again]
}

fn deal() -> impl Strategy<Value = Deal> {
    (any_of(Source::ALL), prop::bool::weighted(0.05), prop::collection::vec(rec(), 0..6), purpose(), gaps())
        .prop_map(|(source, stale, records, (purpose, cursor), gaps)| Deal { source, stale, records, purpose, cursor, gaps })
}

pub(super) fn history(steps: usize) -> impl Strategy<Value = Vec<Step>> {
    let fault = prop_oneof![6 => Just(None), 1 => Just(Some(Fault::LostAnswer)), 1 => (1..9_u32).prop_map(|call| Some(Fault::Call(call)))];
    let news = (any_of(Source::ALL), prop::bool::weighted(0.1), instant(), prop::option::of(instant()), any::<bool>())
        .prop_map(|(source, stale, at, caught_up, throttled)| News { source, stale, at, caught_up, throttled });
    let ask = (any_of(Source::ALL), any_of(&[Errand::Backfill, Errand::Reconcile, Errand::Replay]), stretch(), any::<bool>())
        .prop_filter_map("an empty stretch", |(source, errand, stretch, replace)| {
            (stretch.0 < stretch.1).then_some(Step::Ask { source, errand, stretch, replace })
        });
    let step = prop_oneof![
        12 => (deal(), fault).prop_map(|(deal, fault)| Step::Batch { deal: Box::new(deal), fault }),
        1 => news.prop_map(Step::News),
        1 => Just(Step::Claim),
        1 => ask,
        1 => (any_of(Source::ALL), any_of(Errand::ALL)).prop_map(|(source, errand)| Step::Cancel { source, errand }),
        1 => any_of(Source::ALL).prop_map(|source| Step::Replay { source }),
    ];
    prop::collection::vec(step, 1..=steps)
}
