#![doc = include_str!("../README.md")]
//!
//! Read in this order: [`ids`] and [`tenant`] (who), [`stamp`], [`cursor`] and [`reread`] (when), [`alert`] (what),
//! [`messages`] (what crosses a channel), [`verdict`] (what a failure means), [`consent`] (what a token may read), [`ports`] (what siblings ask of
//! each other).

pub mod alert;
pub mod chance;
pub mod clock;
pub mod consent;
pub mod cursor;
pub mod health;
pub mod ids;
pub mod messages;
pub mod metric;
pub mod ports;
pub mod rehearsal;
pub mod reread;
pub mod retry;
pub mod stamp;
pub mod tenant;
pub mod token;
pub mod verdict;

pub use alert::{AlertFacts, AlertRecord, ContentHash, IncidentRecord, Poison, Record};
pub use chance::{Chance, SeededChance, SystemChance};
pub use clock::{Clock, SystemClock};
pub use cursor::{CursorMove, FeedState, Gap, GapKind, Order};
pub use ids::{AlertId, AppName, CloudName, Epoch, IncidentId, ReplicaId, TenantId};
pub use messages::{AlertBatch, Committed, FeedOutcome, FeedProgress, Fence, Purpose, Refusal, Report, ReportOrigin, SinkMessage};
pub use messages::{HeldTenant, TenantSet};
pub use reread::{Axis, Comparison, Errand, Reread, RereadMove};
pub use stamp::Ticks;
pub use tenant::{Audience, LinkKind, Source, TenantState};
pub use token::{AccessToken, AppCredential, ClientAssertion, ClientSecret, DeviceSecret, PrivateKeyPem, RefreshToken, SigningCertificate};
pub use verdict::{Trace, Trouble, Verdict};
