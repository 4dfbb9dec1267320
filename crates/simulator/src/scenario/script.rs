//! The rules in force, and which of them a request feels.

use super::{Effect, Endpoint, Rule, Stage};
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// What one request has to suffer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effects {
    pub(crate) felt: Vec<Effect>,
}

impl Effects {
    /// The first effect for which the question has an answer.
    pub(crate) fn find<T>(&self, question: impl Fn(&Effect) -> Option<T>) -> Option<T> {
        self.felt.iter().find_map(question)
    }

    /// Whether the answer will not reach the caller as it was meant.
    pub(crate) fn damage_delivery(&self) -> bool {
        self.felt.iter().any(|effect| matches!(effect, Effect::Truncate(_) | Effect::ResetAfter { .. } | Effect::GzipBomb { .. }))
    }
}

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Script(Mutex<Vec<Rule>>);

impl Script {
    pub(crate) fn add(&self, rule: Rule) {
        self.lock().push(rule);
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    pub(crate) fn clear_of(&self, tenant: Uuid) {
        self.lock().retain(|rule| rule.tenant != Some(tenant));
    }

    pub(crate) fn rules(&self) -> Vec<Rule> {
        self.lock().clone()
    }

    /// Takes what a request to this endpoint has to suffer: of each stage the first rule that matches. The query
    /// is the decoded one.
    pub(crate) fn take(&self, tenant: Option<Uuid>, endpoint: Endpoint, query: &str) -> Effects {
        let mut rules = self.lock();
        let mut stages = Vec::new();
        let mut effects = Effects::default();
        for rule in rules.iter_mut() {
            let stage = rule.effect.stage();
            let aimed = rule.tenant.is_none_or(|wanted| tenant == Some(wanted))
                && rule.endpoint.is_none_or(|wanted| wanted == endpoint)
                && rule.query.as_deref().is_none_or(|wanted| query.contains(wanted));
            let fits = aimed && rule.effect.applies_to(endpoint, query) && stage != Stage::Publication && !stages.contains(&stage);
            if fits && rule.fires() {
                // Broken records do not exclude each other.
                if stage != Stage::Broken {
                    stages.push(stage);
                }
                effects.felt.push(rule.effect.clone());
            }
        }
        rules.retain(|rule| rule.times != Some(0));
        effects
    }

    /// How far back the stamp of the next published alert lies.
    pub(crate) fn take_late(&self, tenant: Uuid) -> Option<u64> {
        let mut rules = self.lock();
        let late = rules.iter_mut().find_map(|rule| {
            let Effect::Late { seconds } = rule.effect else { return None };
            let aimed = rule.tenant.is_none_or(|wanted| wanted == tenant);
            (aimed && rule.fires()).then_some(seconds)
        });
        rules.retain(|rule| rule.times != Some(0));
        late
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rule {
    /// Uses the rule up by one request; false while it lets requests pass.
    fn fires(&mut self) -> bool {
        if self.after > 0 {
            self.after -= 1;
            return false;
        }
        match &mut self.times {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}
