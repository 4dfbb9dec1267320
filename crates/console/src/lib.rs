#![doc = include_str!("../README.md")]

mod consent;
mod health;
mod ops;
mod recorder;

pub use consent::{CALLBACK_PATH, ConsentSettings, ConsentState, consent_router, read_answer, serve_consent_at};
pub use health::FRESH_WITHIN;
pub use ops::{Configuration, OpsState, ops_router, serve};
pub use recorder::{MetricsError, describe, install_metrics, recorder, upkeep};
