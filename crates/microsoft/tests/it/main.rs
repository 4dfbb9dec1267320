//! The crate against servers that behave, and servers that do not.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod alerts;
mod common;
mod links;
mod postgres;
mod secrets;
mod sign_in;
