#![doc = include_str!("../README.md")]

mod agenda;
mod breaker;
mod chorus;
mod config;
mod core;
pub mod enrol;
mod lane;
mod outbox;
mod redeemer;
mod refresh;
mod settle;
mod slot;
mod source;
mod unasked;
mod unsaved;
mod vault;
mod worker;

use std::sync::Arc;

pub use config::Config;
pub use core::Deps;
pub use microsoft::Returned;

pub use enrol::{Answer, Enrol, EnrolDeps, NotConnected, in_plain_words, steps_of, title};
pub use lane::Lanes;
pub use redeemer::{Redeemer, Refused};
pub use source::TokenSource;
pub use vault::{OpenedToken, RotateError, TokenVault, VaultError};
pub use worker::Worker;

/// Makes the handle and the worker. Tokens are given out at once; they are renewed ahead of expiry
/// and kept alive while [`Worker::run`] runs.
pub fn start(deps: Deps, config: Config) -> (TokenSource, Worker) {
    let (core, status) = core::Core::new(deps, config);
    let core = Arc::new(core);
    (TokenSource { core: Arc::clone(&core) }, Worker { core, status })
}
