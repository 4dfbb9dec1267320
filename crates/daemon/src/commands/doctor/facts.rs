//! What a diagnosis is made of: gathered once, judged afterwards, and without any name in it.
//!
//! A tenant is a number here ([`Alias`]), an app and a cloud of the operator's own likewise. So whatever is written
//! from these facts can be shown to anybody; only the terminal puts the names back ([`super::names::Names`]).
//! Sentences that may hold names, addresses or paths stand in fields called `private`, which no archive gets.

use std::fmt;

use domain::Ticks;
use serde::{Serialize, Serializer};

/// A stand-in for a name: `tenant-3`. The same for as long as the database lives, since no row of a tenant goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Alias(pub(super) &'static str, pub(super) usize);

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl Serialize for Alias {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Everything that was found out.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) now: Ticks,
    pub(super) config: ConfigFacts,
    pub(super) keys: KeyFacts,
    pub(super) apps: Vec<AppFacts>,
    pub(super) database: DatabaseFacts,
    pub(super) daemon: DaemonFacts,
    pub(super) hosts: Vec<HostFacts>,
    /// The tenants that are looked at: all, or the one that was asked for.
    pub(super) tenants: Vec<TenantFacts>,
    /// More about the one that was asked for.
    pub(super) deep: Option<DeepFacts>,
}

/// The configuration, which was read already.
#[derive(Debug, Default)]
pub(super) struct ConfigFacts {
    pub(super) private_warnings: Vec<String>,
    /// Key ring and a credential come from one place.
    pub(super) together: bool,
    /// Whether somebody is to be told by a webhook; and if so, why its files cannot be used.
    pub(super) private_webhook: Option<Result<(), String>>,
}

/// The key ring and what it opens.
#[derive(Debug, Default)]
pub(super) struct KeyFacts {
    /// Why it cannot be used.
    pub(super) private_unusable: Option<String>,
    pub(super) keys: usize,
    pub(super) shared_with_group: bool,
    /// Every data key opens; nothing when that was not tried.
    pub(super) opens_all: Option<Result<(), String>>,
    /// Tenants under the key that seals, under others of the ring, and under keys that are not in it.
    pub(super) sealed: [i64; 3],
}

/// One app registration.
#[derive(Debug)]
pub(super) struct AppFacts {
    pub(super) app: Alias,
    /// Why its credential cannot be read.
    pub(super) private_unreadable: Option<String>,
    pub(super) has_credential: bool,
    pub(super) days_left: Option<i64>,
    /// Microsoft refuses it: the code.
    pub(super) fault: Option<String>,
    pub(super) tenants: i64,
}

/// The database, as far as one got.
#[derive(Debug)]
pub(super) enum DatabaseFacts {
    /// An embedded one that nobody has made yet.
    NotMade,
    /// It cannot be worked with.
    Away {
        /// For scripts.
        exit: u8,
        private_reason: String,
    },
    /// It answers, but with another schema.
    OtherSchema {
        /// Migrations to be applied; none when the schema is newer than this program.
        pending: usize,
    },
    /// It can be worked with.
    There(Box<ServerFacts>),
}

/// A database that is older than it was.
#[derive(Debug, Default)]
pub(super) struct WentBackFacts {
    /// Customers about whom something was decided since.
    pub(super) customers: usize,
    /// Those of them who had been removed.
    pub(super) removed: usize,
    /// The last that was done to each, and to the installation.
    pub(super) private_sentences: Vec<String>,
}

/// A database that can be worked with.
#[derive(Debug, Default)]
pub(super) struct ServerFacts {
    pub(super) embedded: bool,
    /// As in `150004`.
    pub(super) version: i32,
    /// How far its clock is before ours.
    pub(super) skew_seconds: f64,
    /// Roles that are not there.
    pub(super) roles_missing: Vec<String>,
    /// Tables of ours that the daemon's role may not read, and views of dash that the reader's may not.
    pub(super) ingest_lacks: Vec<String>,
    pub(super) reader_lacks: Vec<String>,
    /// Tables that the reader's role can read and must not.
    pub(super) reader_exceeds: Vec<String>,
    /// Who else reads dash.
    pub(super) readers: Box<ReaderFacts>,
    /// Rows of ordinary months that lie in the default partition.
    pub(super) misplaced_rows: i64,
    /// The configuration wants something else kept than the database says.
    pub(super) retention_differs: bool,
    /// Months of versions that should have gone two months ago, each with the number of its alerts that are still worked on.
    pub(super) overdue: Vec<(String, i64)>,
    /// Entries of the audit log that were walked, and how many of them are not as they were written.
    pub(super) audit_entries: u64,
    pub(super) audit_problems: u64,
    /// What the database lacks of what was seen in it before.
    pub(super) went_back: Option<WentBackFacts>,
    pub(super) replicas: i64,
    pub(super) leases_due: i64,
    pub(super) leases_held: i64,
    pub(super) bytes: i64,
    /// The server clears dead rows away by itself.
    pub(super) autovacuum: bool,
    /// The private tables, partitions one by one.
    pub(super) tables: Vec<TableFacts>,
    /// How the webhook fares.
    pub(super) webhook: Option<Box<notifier::Standing>>,
    /// Rows by table, for the archive.
    pub(super) counts: Vec<(String, i64)>,
    pub(super) digest: DigestFacts,
}

/// How far evidence and roll-ups have come behind the alerts.
#[derive(Debug, Default, Serialize)]
pub(super) struct DigestFacts {
    /// Of the tenant that waits longest.
    pub(super) lag_seconds: f64,
    /// Alerts that wait, of all tenants, and tenants of which everything is derived anew.
    pub(super) waiting: i64,
    pub(super) rebuilding: i64,
    /// Alerts whose body could not be read.
    pub(super) skipped: i64,
    /// The oldest running transaction, above which nothing can be derived: its process (none for one that is prepared),
    /// and for how many seconds it runs.
    pub(super) held_up_by: Option<(Option<i32>, f64)>,
}

/// Roles that read schema dash.
#[derive(Debug, Default)]
pub(super) struct ReaderFacts {
    pub(super) count: usize,
    /// Named, and not there any more.
    pub(super) gone: usize,
    /// With rights besides.
    pub(super) exceed: usize,
    /// A sentence for each of the two.
    pub(super) private_sentences: Vec<String>,
    /// Why row security does not bind them; no customer is named.
    pub(super) leaks: Vec<String>,
}

/// One table, by the statistics of the server.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TableFacts {
    /// A name of ours; no customer stands in it.
    pub(super) table: String,
    /// With indexes and bodies stored aside.
    pub(super) bytes: i64,
    pub(super) live: i64,
    pub(super) dead: i64,
    /// Since it was last vacuumed, by whomever; nothing when never.
    pub(super) vacuumed_seconds: Option<f64>,
}

/// The ops endpoint that the configuration names.
#[derive(Debug)]
pub(super) enum DaemonFacts {
    /// Nobody answers there.
    Silent,
    /// It answers.
    Answers {
        ready: bool,
        /// Stages by name: alive, ready.
        stages: Vec<(String, bool, bool)>,
        /// As it came, for the archive; labels hold no names.
        metrics: String,
    },
}

/// One host of a cloud in use.
#[derive(Debug)]
pub(super) struct HostFacts {
    pub(super) cloud: Alias,
    /// Of a built-in cloud, by its own name.
    pub(super) public_cloud: Option<String>,
    /// `login`, `graph` or `defender`.
    pub(super) what: &'static str,
    pub(super) reached: Result<Reached, Unreached>,
}

/// A host that answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reached {
    pub(super) status: u16,
    /// How far its clock is before ours, by the header `Date`.
    pub(super) skew_seconds: Option<f64>,
}

/// A host that did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreached {
    /// In a word: `timeout`, `connect`, `other`.
    pub(super) kind: &'static str,
    pub(super) private_reason: String,
}

/// One tenant.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TenantFacts {
    pub(super) tenant: Alias,
    pub(super) state: String,
    pub(super) for_seconds: f64,
    pub(super) troubled: bool,
    pub(super) error_code: Option<String>,
    pub(super) trace_id: Option<String>,
    /// The source that was longest without success; nothing before the first.
    pub(super) last_success_seconds: Option<f64>,
    pub(super) lag_seconds: Option<f64>,
    /// Of the sources that Microsoft wants left alone now, the one that was longest without success.
    pub(super) throttled_seconds: Option<f64>,
    /// A source that never succeeded.
    pub(super) never_read: bool,
    pub(super) nearest_clock: Option<String>,
    pub(super) nearest_days: Option<i32>,
    /// Permissions that its sources need and its token lacks.
    pub(super) consent_missing: i64,
    /// Alerts of the last week that one source holds and the other, which should, lacks.
    pub(super) unseen: i64,
    pub(super) quarantined: i64,
    pub(super) open_gaps: i64,
    pub(super) looked_after: bool,
}

/// More about one tenant.
#[derive(Debug, Default, Serialize)]
pub(super) struct DeepFacts {
    pub(super) sources: Vec<SourceFacts>,
    /// Clock, days left, whether that is estimated.
    pub(super) clocks: Vec<(String, Option<i32>, bool)>,
    /// Audience, permissions granted, permissions missing.
    pub(super) consent: Vec<(String, Vec<String>, Vec<String>)>,
    /// A refresh token is stored, in this version.
    pub(super) token_version: Option<i64>,
    pub(super) has_data_key: bool,
}

/// One source of one tenant.
#[derive(Debug, Serialize)]
pub(super) struct SourceFacts {
    pub(super) source: String,
    pub(super) last_success_seconds: Option<f64>,
    pub(super) lag_seconds: Option<f64>,
    pub(super) throttled: bool,
    pub(super) failing: bool,
    pub(super) quarantined: i64,
    pub(super) open_gaps: i64,
}
