//! The checklist of a proof: what whoever waits gets to see, line by line.

use domain::{Trouble, Verdict};
use tenant_registry::{Accepted, Registry, Step, StepResult};

use super::NotConnected;

const ASK_OPERATOR: &str = "this could not be completed; whoever sent you the link has been told why";

/// Collects steps and shows each as soon as it is known.
pub(super) struct Checklist<'a> {
    registry: &'a Registry,
    accepted: &'a Accepted,
    steps: Vec<Step>,
}

impl<'a> Checklist<'a> {
    pub(super) fn new(registry: &'a Registry, accepted: &'a Accepted) -> Self {
        Self { registry, accepted, steps: Vec::new() }
    }

    /// A step went well.
    pub(super) async fn passed(&mut self, step: &str, words: impl Into<String>) {
        self.add(step, StepResult::Ok, words.into(), None).await;
    }

    /// Something is worth knowing.
    pub(super) async fn warned(&mut self, step: &str, words: impl Into<String>) {
        self.add(step, StepResult::Warn, words.into(), None).await;
    }

    /// A step failed, and with it the connection. What went wrong is the operator's business.
    pub(super) async fn failed(&mut self, step: &str, words: impl Into<String>) -> NotConnected {
        self.ended(step, words.into(), Some(ASK_OPERATOR.to_owned())).await
    }

    /// The same where the customer is the one who can act, so that he gets to read it.
    pub(super) async fn up_to_the_customer(&mut self, step: &str, words: impl Into<String>) -> NotConnected {
        self.ended(step, words.into(), None).await
    }

    /// Trouble of the other side.
    pub(super) async fn trouble(&mut self, step: &str, error: &Trouble) -> NotConnected {
        let code = error.code.as_deref().unwrap_or_default();
        let words = format!("{} ({code}); next: {}", error.reason, error.action).replace(" ()", "");
        // What Microsoft says about the account or the directory; not what we found wrong with an answer.
        let theirs =
            matches!(error.verdict, Verdict::NeedsConsent | Verdict::NeedsCustomer) && (code.starts_with("AADSTS") || code.contains('_'));
        if theirs { self.up_to_the_customer(step, words).await } else { self.failed(step, words).await }
    }

    async fn ended(&mut self, step: &str, words: String, outside: Option<String>) -> NotConnected {
        tracing::warn!(tenant.id = %self.accepted.invited.tenant, step, "a tenant was not connected: {words}");
        self.add(step, StepResult::Fail, words.clone(), outside).await;
        NotConnected { words }
    }

    async fn add(&mut self, step: &str, result: StepResult, words: String, outside: Option<String>) {
        let done = result == StepResult::Fail;
        self.steps.push(Step { step: step.to_owned(), result, words, outside });
        // Who watches sees less if this fails; what counts is decided by the transaction at the end.
        if let Err(error) = self.registry.show_steps(self.accepted, &self.steps, done).await {
            tracing::warn!(tenant.id = %self.accepted.invited.tenant, "the checklist of a sign-in cannot be shown: {error}");
        }
    }
}

/// A step's heading, for people.
pub fn title(step: &str) -> &str {
    match step {
        "signed-in" => "Signed in and consented",
        "token-opens" => "Token sealed, and it opens again",
        "refresh-works" => "Access tokens are given out",
        "permissions" => "Permissions are there",
        "role" => "The account may read security data",
        "device-groups" => "What this account sees",
        "first-page" => "A first page was read",
        "clock" => "Clocks agree",
        "connected" => "Connected",
        other => other,
    }
}
