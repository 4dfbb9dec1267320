//! Building a small world, and counting what it came to.

pub mod changes;
pub mod eventually;
pub mod look;
pub mod postgres;
pub mod process;
pub mod tally;
pub mod world;

pub use changes::Changes;
pub use eventually::eventually;
pub use look::TenantHealth;
pub use postgres::TestDatabase;
pub use process::{Daemon, Finished, finish, run, run_in, run_with_input};
pub use tally::Tally;
pub use world::{Setup, World};
