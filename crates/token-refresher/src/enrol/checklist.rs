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
        let told = |action: &str| format!("{} ({code}); next: {action}", error.reason).replace(" ()", "");
        // What passes ends with the sign-in; nobody but the person who waits tries again.
        if matches!(error.verdict, Verdict::Retry | Verdict::RetryAfter(_)) {
            return self.up_to_the_customer(step, told("open the link again in a few minutes")).await;
        }
        let words = told(&error.action_for(self.accepted.invited.tenant));
        // What Microsoft says about the account or the directory; not what we found wrong with an answer.
        let theirs =
            matches!(error.verdict, Verdict::NeedsConsent | Verdict::NeedsCustomer) && (code.starts_with("AADSTS") || code.contains('_'));
        let outside = if theirs { told(&for_the_customer(&error.action)) } else { ASK_OPERATOR.to_owned() };
        self.ended(step, words, Some(outside)).await
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

/// What of an action a customer can do, who has the link in front of him: all but what is said to the operator.
fn for_the_customer(action: &str) -> String {
    let theirs = |clause: &&str| {
        let begins = clause.trim_start_matches("or ").to_lowercase();
        !clause.contains("{tenant}") && !["you ", "you:", "you,", "nothing"].iter().any(|word| begins.starts_with(word))
    };
    let kept: Vec<_> = action.split("; ").flat_map(|part| part.split(". ")).filter(theirs).collect();
    if kept.is_empty() { "ask whoever sent you the link".to_owned() } else { kept.join("; ").replace("a new link", "the link") }
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
        "interrupted" => "The check was interrupted",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use microsoft::SignInError;

    use super::*;

    #[test]
    fn a_customer_reads_nothing_that_only_the_operator_can_do() {
        let mut some = 0;
        for number in [50020, 50034, 50053, 50057, 50076, 50079, 50105, 50158, 53003, 65001, 65004, 90094, 90099, 500_011, 650_052, 700_016]
        {
            let trouble = SignInError::of_redirect("access_denied", Some(&format!("AADSTS{number}: Sorry."))).trouble();
            let outside = for_the_customer(&trouble.action);
            assert!(!outside.contains("tocsin") && !outside.contains('{') && !outside.contains("you make"), "{number}: {outside}");
            some += usize::from(outside.contains("administrator") || outside.contains("owner of the account"));
        }
        assert!(some >= 10, "what he can do is told: {some}");
        assert_eq!(for_the_customer("you: make a new client secret of this app registration"), "ask whoever sent you the link");
        let both = "the customer's administrator: consent through a new link; or you: take this source from the tenant. You make the link with: x {tenant}";
        assert_eq!(for_the_customer(both), "the customer's administrator: consent through the link");
    }
}
