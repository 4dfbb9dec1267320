//! What each long-lived stage says about itself, over a `watch` channel: the ops endpoint, the logs
//! and the tests all read the same value.

use std::fmt;
use std::time::Duration;

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

/// How it is with the customers of this replica, in three numbers: for whoever has one line to show, such as a service
/// manager.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headline {
    /// Customers that this replica looks after.
    pub tenants: usize,
    /// Those of them of which some source could not be read when it was last tried.
    pub unreadable: usize,
    /// How long ago the feed that lags most was last read to its end; `None` before any has been.
    pub worst_lag: Option<Duration>,
}

impl fmt::Display for Headline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenants, unreadable, worst_lag } = self;
        write!(f, "{tenants} {}, {unreadable} not readable", if *tenants == 1 { "tenant" } else { "tenants" })?;
        match worst_lag {
            Some(lag) => write!(f, ", worst lag {} s", lag.as_secs()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_headline_is_one_line_that_says_what_is_known() {
        let line =
            |tenants, unreadable, lag: Option<u64>| Headline { tenants, unreadable, worst_lag: lag.map(Duration::from_secs) }.to_string();
        assert_eq!(line(184, 2, Some(42)), "184 tenants, 2 not readable, worst lag 42 s");
        assert_eq!(line(1, 0, Some(0)), "1 tenant, 0 not readable, worst lag 0 s");
        assert_eq!(line(0, 0, None), "0 tenants, 0 not readable");
    }
}
