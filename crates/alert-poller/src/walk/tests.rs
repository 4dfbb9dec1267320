//! Stories and properties of walks, against a pretend source.

mod bugs;
mod failing;
mod found;
mod model;
mod polling;
mod properties;
mod rereads;
mod store;
mod ties;
