//! What a failure means for the one who schedules: try again, wait, or ask a person, and whom.
//!
//! The verdict is decided once, next to the wire error (crate `microsoft`), and carried from there.

use std::time::Duration;

use crate::stamp::Ticks;

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
    /// What to do and who must do it, in words. `{tenant}` in a command stands for the tenant's name; see
    /// [`Trouble::action_for`].
    pub action: String,
    /// The other side's code, such as `AADSTS700082`, `invalid_grant` or `http-403`.
    pub code: Option<String>,
    /// What Microsoft's support asks for. Boxed: troubles travel in results beside small things.
    pub trace: Option<Box<Trace>>,
}

/// One answer of Microsoft, by the words in which its support finds it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The number that Microsoft gave the request.
    pub id: Option<String>,
    /// When it answered, by its own clock.
    pub at: Option<Ticks>,
}

impl Trouble {
    /// The action for this tenant: commands in it can be typed as they stand. Where a tenant's name does not belong,
    /// such as in a log, its directory id serves as well.
    pub fn action_for(&self, tenant: impl std::fmt::Display) -> String {
        self.action.replace("{tenant}", &tenant.to_string())
    }

    /// The number that Microsoft gave the request, if it said one.
    pub fn trace_id(&self) -> Option<&str> {
        self.trace.as_deref()?.id.as_deref()
    }

    /// When Microsoft answered, if it said so.
    pub fn answered_at(&self) -> Option<Ticks> {
        self.trace.as_deref()?.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_in_an_action_is_ready_to_be_typed() {
        let action = "you: make a link with: tocsin tenant invite {tenant}".to_owned();
        let trouble = Trouble { verdict: Verdict::NeedsConsent, reason: "x".into(), action, code: None, trace: None };
        assert_eq!(trouble.action_for("contoso"), "you: make a link with: tocsin tenant invite contoso");
        assert_eq!((trouble.trace_id(), trouble.answered_at()), (None, None));
    }
}
