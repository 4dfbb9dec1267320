//! How a turn ended, for whoever says when the feed is due again.

use std::time::Duration;

use microsoft::ApiErrorKind;

use crate::call::LONGEST_BLOCK;
use crate::deliver::Undelivered;

/// How a turn ended, for whoever schedules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything visible is stored; of re-reads: nothing is due now.
    CaughtUp,
    /// There is more to read; others may go first.
    More,
    /// Nothing has been answered yet; another question may be.
    Searching,
    /// The tenant may not be called before this.
    NotBefore(Duration),
    /// There is no access token to be had for so long.
    NoToken(Duration),
    /// The other lane is where this feed has to wait.
    Crowded,
    /// It failed, and the source named a time to wait.
    Failed { outcome: &'static str, retry_after: Option<Duration> },
    /// This version does not read this source.
    Unsupported,
    /// The database could not be asked where the feed stands.
    StoreAway,
    /// A comparison can only be closed after one more poll.
    AwaitsPoll,
    /// The right to write is lost, or the daemon stops: what is remembered counts no more.
    Void,
    /// The sink is gone.
    SinkGone,
}

impl End {
    /// The word in the metric.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::CaughtUp => "ok",
            Self::More => "partial",
            // So far.
            Self::Searching => "unavailable",
            Self::NotBefore(_) | Self::AwaitsPoll => "waiting",
            Self::NoToken(_) => "no-token",
            Self::Crowded => "slow",
            Self::Failed { outcome, .. } => outcome,
            Self::Unsupported => "unsupported",
            Self::StoreAway => "no-database",
            Self::Void | Self::SinkGone => "void",
        }
    }

    /// The word for a refusal of the source, and how long it wants to be left alone.
    pub(crate) fn refused(kind: &ApiErrorKind) -> Self {
        let outcome = match kind {
            ApiErrorKind::Throttled(wait) => {
                return Self::Failed { outcome: "throttled", retry_after: Some((*wait).min(LONGEST_BLOCK)) };
            }
            ApiErrorKind::Unsupported => return Self::Unsupported,
            ApiErrorKind::Unavailable => "unavailable",
            ApiErrorKind::BadAnswer => "bad-answer",
            ApiErrorKind::Unauthorized => "unauthorized",
            ApiErrorKind::Forbidden => "forbidden",
            ApiErrorKind::TooLarge => "too-large",
            ApiErrorKind::ForeignNextLink => "foreign-link",
            _ => "refused",
        };
        Self::Failed { outcome, retry_after: None }
    }
}

impl From<Undelivered> for End {
    fn from(undelivered: Undelivered) -> Self {
        match undelivered {
            Undelivered::Refused => Self::Void,
            Undelivered::SinkGone => Self::SinkGone,
        }
    }
}
