#![doc = include_str!("../README.md")]

pub mod ask;
mod commit;
mod config;
mod cursors;
mod error;
mod judged;
mod lanes;
mod merge;
mod metering;
mod news;
mod outage;
mod parts;
mod plan;
mod postgres;
pub mod read;
mod retention;
pub mod store;
#[cfg(any(test, feature = "test-support"))]
pub mod testing;
mod text;
mod transaction;
mod worker;

pub use config::Config;
pub use cursors::CursorStore;
pub use error::ReadError;
pub use postgres::{PgStore, PgTx};
pub use retention::{Keeper, Retention, months_over};
pub use worker::SinkWorker;
