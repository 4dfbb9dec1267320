//! Building a small world, and counting what it came to.

pub mod browser;
pub mod canary;
pub mod changes;
pub mod elsewhere;
pub mod eventually;
pub mod fill;
pub mod grafana;
pub mod look;
pub mod pg_proxy;
pub mod postgres;
pub mod proc_stats;
pub mod process;
pub mod proxy;
pub mod server;
pub mod side_by_side;
pub mod signals;
pub mod tally;
pub mod visitor;
pub mod world;

pub use browser::Browser;
pub use changes::Changes;
pub use elsewhere::serve_elsewhere;
pub use eventually::eventually;
pub use fill::fill;
pub use grafana::Chosen;
pub use look::TenantHealth;
pub use pg_proxy::{Loss, PgProxy, Pooler};
pub use postgres::TestDatabase;
pub use proc_stats::{Metrics, Usage};
pub use process::{Daemon, Finished, finish, run, run_in, run_with_input};
pub use proxy::{Proxy, Target};
pub use server::OwnPostgres;
pub use side_by_side::side_by_side;
pub use tally::Tally;
pub use visitor::{Seen, Visitor};
pub use world::{Setup, World};
