//! Stories of the poller as a whole, on paused time.

mod apps;
mod comparisons;
mod failures;
mod first_contact;
mod polling;
mod quiet;
mod rereads;
mod settings;
mod support;
