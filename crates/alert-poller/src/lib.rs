#![doc = include_str!("../README.md")]

mod budget;
mod config;
mod deliver;
mod feed;
mod lanes;
mod metrics;
mod poll;
mod schedule;
pub mod source;
mod walk;
mod worker;

pub use config::Config;
pub use source::{AlertSource, MicrosoftSource};
pub use worker::{Deps, Poller};
