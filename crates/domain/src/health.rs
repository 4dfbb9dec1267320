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
}

impl Stage {
    /// The word in `/readyz`, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Refresher => "refresher",
            Self::Poller => "poller",
            Self::Sink => "sink",
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
    /// What a person has to mend although this stage does its job as well as any other replica or another start could:
    /// our app registration is refused.
    pub remark: Option<String>,
}

impl StageStatus {
    /// Going round, and doing its job.
    pub fn well(beat: Ticks) -> Self {
        Self { beat, fault: None, remark: None }
    }

    /// Going round, but not doing its job.
    pub fn faulty(beat: Ticks, fault: impl Into<String>) -> Self {
        Self { beat, fault: Some(fault.into()), remark: None }
    }

    /// The same, with what a person has to mend.
    #[must_use]
    pub fn remarking(self, remark: Option<String>) -> Self {
        Self { remark, ..self }
    }
}
