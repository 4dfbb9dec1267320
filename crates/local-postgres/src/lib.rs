#![doc = include_str!("../README.md")]

mod account;
mod attach;
mod cluster;
mod error;
mod folder;
mod keeper;
mod leftover;
mod programs;
mod server;
mod spawn;
mod wait;

pub use attach::{AttachError, Attached, attach};
pub use error::{StartError, StopError};
pub use programs::{NotFound, Programs, find_programs};
pub use server::{Durability, LocalPostgres, Options};
