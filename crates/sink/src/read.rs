//! The read side: what the command line lists.

mod alerts;
mod overview;
mod partitions;
mod quarantine;
mod rereads;
mod tail;

use domain::Ticks;
use serde::Serializer;

pub use crate::error::ReadError;
use crate::postgres::stamp::PgStamp;
pub use alerts::{AlertFilter, AlertRow, alerts_list};
pub use overview::{Overview, OverviewRow, overview};
pub use partitions::{DroppedRow, PartitionRow, dropped_months, partitions};
pub use quarantine::{QuarantineFilter, QuarantinePlace, QuarantineRecord, QuarantineRow, Selected, quarantine_list, quarantine_show};
pub use rereads::{ReconciliationRow, ReplayResult, RereadRow, RereadState, RunState, replay_result, rereads, run_state};
pub use tail::{NoPlace, Place, Tail, TailError, Tailed};

fn stamp<S: Serializer>(ticks: &Ticks, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(ticks)
}

fn stamp_or_null<S: Serializer>(ticks: &Option<Ticks>, serializer: S) -> Result<S::Ok, S::Error> {
    match ticks {
        Some(ticks) => stamp(ticks, serializer),
        None => serializer.serialize_none(),
    }
}

/// A reading of the database's clock, which is never infinite.
fn ours(stamp: PgStamp) -> Ticks {
    stamp.to_ticks().unwrap_or(Ticks(i64::MIN))
}
