//! Stories of the sink, told on a real Postgres through its public surface.

#![allow(clippy::unwrap_used, reason = "a story may fail anywhere")]

mod again;
mod asking;
mod bodies;
mod commit;
mod distribution;
mod events;
mod incidents;
mod metering;
mod outage;
mod progress;
mod proxy;
mod reading;
mod refused;
mod rehearsed;
mod retention;
mod stuck;
mod world;
