#![doc = include_str!("../README.md")]

mod counted;
mod ocsf;
mod step;
mod store;
mod worker;

pub use ocsf::VERSION as OCSF_VERSION;
pub use step::{Right, StepError, Stepped, step};
pub use store::look::{Due, look};
pub use worker::{Deps, DigestWorker};
