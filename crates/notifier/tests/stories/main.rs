//! The webhook against a real Postgres and receivers that misbehave.

#![allow(clippy::unwrap_used, reason = "a story may fail anywhere")]

mod receiver;
mod sending;
mod telling;
mod world;
