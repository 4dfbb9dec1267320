#![doc = include_str!("../README.md")]

mod campaign;
mod check;
mod cloud;
mod dice;
mod identity;
mod leases;
mod process;
mod replica;
mod run;
mod scenario;
mod settings;
mod store;
mod tally;
mod time;
mod trace;
mod vault;
mod world;

pub use campaign::{Campaign, campaign};
pub use check::Broken;
pub use run::{Options, Outcome, run};
pub use tally::{Fault, Invariant, Tally};
