//! The crate against servers that behave, and servers that do not.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod alerts;
mod answers;
mod common;
mod faults;
mod flights;
mod gzip;
mod hostile;
mod links;
mod network;
mod onboarding;
mod postgres;
mod rehearsals;
mod secrets;
mod sign_in;
mod tls;
