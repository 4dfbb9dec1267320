//! What crosses the channels between the rooms.
//!
//! State of which only the latest value matters travels in `watch` ([`TenantSet`]); work of which
//! every item matters travels in bounded `mpsc` with a `oneshot` acknowledgement ([`SinkMessage`],
//! [`Report`]). The channels themselves are made in the daemon's `wiring.rs` and nowhere else.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::alert::Record;
use crate::cursor::{CursorMove, Gap, Order};
use crate::ids::{AppName, CloudName, Epoch, TenantId};
use crate::reread::Errand;
use crate::stamp::Ticks;
use crate::tenant::{Source, TenantState};
use crate::verdict::Trouble;

/// *Who*: the tenants that this replica holds a lease for, whatever their state.
#[derive(Clone, Debug)]
pub struct TenantSet {
    /// Until when the leases may be believed without another word from the database. It only ever
    /// shortens trust: what is written is checked against the lease row again.
    pub trusted_until: Instant,
    /// How many processes look after tenants, this one included: what they use together, such as the rate of a login
    /// host, is divided by it.
    pub replicas: NonZeroU32,
    /// By id. The same allocation as in the set before where nobody came, went or changed: with ten thousand of them,
    /// looking at each is dearer than anything that a renewal of the leases is told for.
    pub tenants: Arc<BTreeMap<TenantId, Arc<HeldTenant>>>,
}

impl TenantSet {
    /// Nobody, as far as is known by a process that has not looked round yet.
    pub fn empty(now: Instant) -> Self {
        Self { trusted_until: now, replicas: NonZeroU32::MIN, tenants: Arc::default() }
    }
}

/// A tenant under our lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldTenant {
    /// Directory id.
    pub id: TenantId,
    /// The operator's name for it. Not for metric labels.
    pub name: String,
    /// Where it lives.
    pub cloud: CloudName,
    /// The app registration to reach it with.
    pub app: AppName,
    /// What to read.
    pub sources: Vec<Source>,
    /// Where it stands: never `Removed`.
    pub state: TenantState,
    /// The generation of our lease.
    pub epoch: Epoch,
    /// Counts changes of the credential, so that a new refresh token is tried at once.
    pub credential_version: i64,
    /// When its refresh token was last redeemed, if ever.
    pub last_refresh_at: Option<Ticks>,
}

impl HeldTenant {
    /// The proof of holding that every write carries.
    pub fn fence(&self) -> Fence {
        Fence { tenant: self.id, epoch: self.epoch }
    }

    /// Whether its alerts are to be read. A tenant in need is still tried, slowly: the token source
    /// knows when, and that is how recovery is noticed.
    pub fn is_polled(&self) -> bool {
        matches!(self.state, TenantState::Active | TenantState::NeedsConsent | TenantState::NeedsCustomer)
    }
}

/// The right to write for a tenant: void as soon as another replica claims it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    /// Whose rows.
    pub tenant: TenantId,
    /// The lease generation under which the work was done.
    pub epoch: Epoch,
}

/// *What happened*, on its way to Postgres.
#[derive(Debug)]
pub enum SinkMessage {
    /// Records to make durable; answered.
    Batch(AlertBatch),
    /// News of a feed that needs no transaction of its own; coalesced over many tenants.
    Progress(FeedProgress),
}

/// A slice of one page of one feed: at most about 3 MB, at least one record or a cursor move.
#[derive(Debug)]
pub struct AlertBatch {
    /// The right to write.
    pub fence: Fence,
    /// Where the records came from.
    pub source: Source,
    /// In the order of the page.
    pub records: Vec<Record>,
    /// Written in the same transaction; `Some` only with the last slice of a page or window, or alone.
    pub cursor: Option<CursorMove>,
    /// What could not be read, written in the same transaction.
    pub gaps: Vec<Gap>,
    /// What the records were read for.
    pub purpose: Purpose,
    /// Answered once, after COMMIT or when it is refused for good.
    pub ack: oneshot::Sender<Result<Committed, Refusal>>,
}

/// What records were read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Polling.
    Live {
        /// The feed was up to date before: the age of these records says something about us.
        fresh: bool,
    },
    /// Reading again. What it finds is counted in the row of this errand.
    Reread {
        /// What for.
        errand: Errand,
        /// A record that is new and stamped before this (or not stamped at all) was missed by polling.
        polled_before: Ticks,
    },
}

impl Purpose {
    /// Whether nothing is taken for granted of what is stored: comparisons, and once a day the last week. Whatever somebody
    /// has deleted by hand is found and stored by that.
    pub fn is_thorough(self) -> bool {
        matches!(self, Self::Reread { errand, .. } if errand.is_comparison() || errand == Errand::Long)
    }
}

/// What a committed batch came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Alerts seen for the first time.
    pub new: u64,
    /// New versions of known alerts.
    pub updated: u64,
    /// Records that were stored already.
    pub duplicate: u64,
    /// Records put into quarantine for the first time.
    pub quarantined: u64,
    /// Of the new and updated, those that polling had passed over.
    pub late: u64,
    /// The move that came with it, or the re-read that it belongs to, rests on something that is not on record: the
    /// re-read was cancelled or begun anew, or the store has lost what it had. What is remembered is to be dropped. The
    /// records are stored all the same.
    pub void: bool,
}

/// Why a batch was refused for good. Passing trouble of the database is no refusal: the sink waits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another replica holds the tenant now.
    #[error("the lease on this tenant is lost")]
    LeaseLost,
    /// The daemon is stopping; nothing was written.
    #[error("the daemon is stopping")]
    Stopping,
}

/// How a poll ended, for `dash.feed_health`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedProgress {
    /// The right to write.
    pub fence: Fence,
    /// Which feed of the tenant.
    pub source: Source,
    /// When the poll began, by our clock.
    pub attempted_at: Ticks,
    /// How it ended.
    pub outcome: FeedOutcome,
    /// How this source is to be read, as learnt.
    pub order: Order,
}

/// The end of a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedOutcome {
    /// Everything visible at the source at this instant is stored.
    CaughtUp {
        /// By the source's clock.
        at: Ticks,
    },
    /// It failed; the cursor stands where it stood.
    Failed {
        /// In words; never a body.
        error: String,
        /// The source asked to be left alone until then.
        throttled_until: Option<Ticks>,
    },
}

/// News about a tenant for the registry, which turns it into the state that the operator sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Something does not work.
    Trouble {
        /// The right to write.
        fence: Fence,
        /// What was being done.
        origin: ReportOrigin,
        /// What went wrong.
        trouble: Trouble,
    },
    /// It works (again).
    Working {
        /// The right to write.
        fence: Fence,
        /// What was being done.
        origin: ReportOrigin,
    },
}

/// What was being done when a report arose. Trouble of one origin is ended only by the same origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportOrigin {
    /// Getting an access token.
    SignIn,
    /// Reading a source.
    Read(Source),
}

impl ReportOrigin {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignIn => "sign-in",
            Self::Read(source) => source.as_str(),
        }
    }
}
