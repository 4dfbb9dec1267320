//! One model test for every store (feature `test-support`).
//!
//! [`model`] plays random histories through the real [`crate::SinkWorker`] on a store: batches of all purposes, moves
//! of cursors, news, claims of the lease, requests of an operator, answers to COMMIT that get lost and transactions that
//! fail in the middle. After each step everything that is stored, as a [`Snapshot`], must be what a model that fits on
//! two screens says (`reference`). A store in memory that passes it may stand in for Postgres.

mod dealt;
mod faulty;
mod postgres;
mod reference;
mod snapshot;
mod story;

pub use postgres::{PgWorld, snapshot};
pub use snapshot::{
    EventLine, FeedLine, GapLine, IncidentLine, LatestLine, QuarantineLine, ReconciliationLine, RereadLine, Snapshot, VersionKey,
    VersionLine, cut,
};
pub use story::{Extent, World, model};
