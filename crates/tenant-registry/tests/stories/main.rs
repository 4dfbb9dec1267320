//! The registry on a real Postgres, told as stories: importing, tokens, leases, reports.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

mod auditing;
mod candidates;
mod clocks;
mod handover;
mod importing;
mod leases;
mod memory;
mod offboarding;
mod operators;
mod readers;
mod reports;
mod rotation;
mod secrecy;
mod sight;
mod tokens;
mod wire;
mod world;
