#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod alerts;
mod answer;
mod bomb;
mod control;
mod defender;
mod dice;
mod facts;
mod faults;
mod filter;
mod graph;
mod identity;
mod in_flight;
mod incidents;
mod journal;
mod json;
mod ledger;
mod line;
mod odata;
mod pace;
mod poison;
mod samples;
mod scenario;
mod server;
mod settings;
mod shelf;
mod simulator;
mod stamp;
mod vocabulary;
mod world;
pub mod write_config;

pub use identity::Region;
pub use journal::{JournalEntry, Totals};
pub use ledger::{IncidentRow, Ledger, LedgerRow, SourceCount, TenantCount};
pub use samples::SampleReport;
pub use scenario::{Effect, Endpoint, OddToken, Outage, Poison, RetryAfter, Rule, Truncate};
pub use settings::{NextLink, OrderBy, Rotation, SampleStamps, Settings, Source, SourceMix};
pub use simulator::{SimTenant, Simulator};
pub use stamp::{Clock, ManualClock, NotAStamp, Stamp};
