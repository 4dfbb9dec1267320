//! The database, in memory: the tables, transactions that are all or nothing, and leases.
//!
//! A transaction gathers what it writes and puts it into the tables when it commits; dropped before that it never
//! happened. Transactions of one tenant exclude each other from their first statement on. What stands still for too
//! long is ended, as the server does with idle transactions, so that a frozen process does not keep a lease for ever.

mod cursors;
mod memory;
#[cfg(test)]
mod model_tests;
mod rows;
mod tables;
mod tx;
mod writes;

pub(crate) use cursors::Reader;
pub(crate) use memory::{Effects, Lease, Memory, MemoryStore, Obstacle, Statement, Surroundings};
pub(crate) use tables::Tables;
