#![doc = include_str!("../README.md")]

mod again;
mod budget;
mod call;
mod config;
mod deliver;
mod end;
mod feed;
mod known;
mod ladder;
mod lanes;
mod metrics;
mod pace;
mod poll;
mod reread;
mod schedule;
mod sizes;
pub mod source;
mod tally;
mod walk;
mod worker;

pub use config::{Compare, Config, Ladder, Rung};
pub use source::{AlertSource, MicrosoftSource};
pub use worker::{Deps, Poller};
