//! The registry on a real Postgres, told as stories: importing, tokens, leases, reports.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

mod clocks;
mod handover;
mod importing;
mod leases;
mod operators;
mod reports;
mod secrecy;
mod tokens;
mod wire;
mod world;
