//! What each long-lived stage says about itself, over a `watch` channel: the ops endpoint, the logs
//! and the tests all read the same value.

use crate::stamp::Ticks;

/// The stages of the pipeline, as `/readyz` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Leases and tenants (`tenant-registry`).
    Registry,
    /// Access tokens (`token-refresher`).
    Refresher,
    /// Alert polling (`alert-poller`).
    Poller,
    /// Storing (`sink`).
    Sink,
    /// Deriving what dashboards read (`digester`).
    Digest,
}

impl Stage {
    /// The word in `/readyz`, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Refresher => "refresher",
            Self::Poller => "poller",
            Self::Sink => "sink",
            Self::Digest => "digest",
        }
    }
}

/// A stage's own view of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageStatus {
    /// When the stage last went round its loop. A stage that stops doing so is stuck.
    pub beat: Ticks,
    /// `None` when it does its job; otherwise why not, in words.
    pub fault: Option<String>,
}

impl StageStatus {
    /// Going round, and doing its job.
    pub fn well(beat: Ticks) -> Self {
        Self { beat, fault: None }
    }

    /// Going round, but not doing its job.
    pub fn faulty(beat: Ticks, fault: impl Into<String>) -> Self {
        Self { beat, fault: Some(fault.into()) }
    }
}
