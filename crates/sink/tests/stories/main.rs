//! Stories of the sink, told on a real Postgres through its public surface.

#![allow(clippy::unwrap_used, reason = "a story may fail anywhere")]

mod bodies;
mod commit;
mod metering;
mod model;
mod outage;
mod progress;
mod proxy;
mod reading;
mod stuck;
mod world;
