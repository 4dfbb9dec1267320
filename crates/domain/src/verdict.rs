//! What a failure means for the one who schedules: try again, wait, or ask a person, and whom.
//!
//! The verdict is decided once, next to the wire error (crate `microsoft`), and carried from there.

use std::time::Duration;

/// The consequence of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Passing trouble: try again after the usual, growing delay.
    Retry,
    /// The other side named the time to wait.
    RetryAfter(Duration),
    /// Our own app registration or its credential is at fault: one alarm for all of its tenants, and
    /// no tenant's state changes.
    Global,
    /// The refresh token is dead, a user must act, or consent is missing.
    NeedsConsent,
    /// The customer's policy blocks us, or the user, app or tenant is gone: probe slowly.
    NeedsCustomer,
    /// We sent something wrong. A person who can change the code must look.
    OurBug,
}

impl Verdict {
    /// The word in logs, metrics and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::RetryAfter(_) => "throttled",
            Self::Global => "global",
            Self::NeedsConsent => "needs-consent",
            Self::NeedsCustomer => "needs-customer",
            Self::OurBug => "our-bug",
        }
    }

    /// Whether only a person can end it.
    pub fn needs_a_person(self) -> bool {
        !matches!(self, Self::Retry | Self::RetryAfter(_))
    }
}

/// A failure, told to a person: what happened, what to do and who must do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What the scheduler does about it.
    pub verdict: Verdict,
    /// What happened, in words. Never holds a token, a user name or a body.
    pub reason: String,
    /// What to do and who must do it, in words.
    pub action: String,
    /// The other side's code, such as `AADSTS700082`, `invalid_grant` or `http-403`.
    pub code: Option<String>,
}
