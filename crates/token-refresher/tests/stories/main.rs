//! Stories of the token refresher, told on the paused clock of tokio: hours pass in milliseconds.
//!
//! `world` puts the refresher between a pretend sign-in service (`sign_in`) and a pretend vault
//! (`vault`), which fails the way a database does. All three write into one journal, so that a story
//! can say what happened before what.

#![expect(clippy::unwrap_used, reason = "a story ends where something is not as it was told")]

mod clocks;
mod crashes;
mod doubts;
mod failovers;
mod failures;
mod in_flight;
mod load;
mod outages;
mod redeeming;
mod rehearsals;
mod sign_in;
mod upkeep;
mod vault;
mod world;
