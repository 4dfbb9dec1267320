#![doc = include_str!("../README.md")]

mod commit;
mod config;
mod cursors;
mod error;
mod lanes;
mod metering;
mod news;
mod outage;
mod parts;
mod plan;
pub mod read;
mod store;
mod transaction;
mod worker;

pub use config::Config;
pub use cursors::CursorStore;
pub use error::ReadError;
pub use worker::SinkWorker;
