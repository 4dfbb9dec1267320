#![doc = include_str!("../README.md")]

mod health;
mod ops;
mod recorder;

pub use health::FRESH_WITHIN;
pub use ops::{OpsState, ops_router, serve_ops};
pub use recorder::{MetricsError, install_metrics, recorder, upkeep};
