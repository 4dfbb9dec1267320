//! What operators do in the hour: they see to refresh tokens that are dead, and ask for re-reads.

use std::sync::Arc;

use domain::{Errand, ReportOrigin};
use sink::store::Feed;

use super::Hour;
use crate::scenario::{REPLICAS, SignInFault};
use crate::tally::Fault;
use crate::time::{Ms, SECOND, ticks};

/// An operator who is told that a customer must consent again sees to it within this.
const OPERATOR: Ms = 90 * SECOND;

impl Hour {
    /// Operators do what they are asked to, once the customer lets them.
    pub(super) fn operate(&mut self, now: Ms) {
        let run = Arc::clone(&self.run);
        for (number, tenant) in run.scenario.tenants.iter().enumerate() {
            let refused = run.scenario.sign_in.iter().any(|(whom, during)| {
                let lasts = matches!(during.what, SignInFault::Revoked | SignInFault::Interaction);
                *whom == number && lasts && during.at(now).is_some()
            });
            let asked = self.registry.sign_in_needs_consent(tenant.id).is_some_and(|since| now >= since + OPERATOR);
            if refused || !asked || run.store_fault(REPLICAS, now).is_some() {
                continue;
            }
            let mut state = run.state();
            let serial = state.identity.consent(tenant.id, tenant.rotation);
            state.vault.import(tenant.id, serial);
            state.tally.fire(Fault::Revoked);
            state.trace.event(now, "import", &[serial.0], || format!("tenant {number}"));
            self.registry.troubles.remove(&(tenant.id, ReportOrigin::SignIn));
        }
    }

    /// Operators ask for re-reads, in the database as the commands do. While it is away they wait.
    pub(super) fn ask(&mut self, now: Ms) {
        let run = Arc::clone(&self.run);
        while let Some(ask) = run.scenario.asks.get(self.asks).copied().filter(|ask| ask.at <= now) {
            if run.store_fault(REPLICAS, now).is_some() {
                return;
            }
            self.asks += 1;
            let feed = Feed { tenant: run.scenario.tenants[ask.tenant].id, source: ask.source };
            let (from, to) = ask.stretch;
            let mut memory = run.memory();
            let replay = ask.errand == Errand::Replay;
            if replay {
                memory.want_replay(feed, now);
            }
            let Some(number) = memory.ask(feed, ask.errand, (ticks(now - from), ticks(now - to)), replay, now) else { continue };
            drop(memory);
            let mut state = run.state();
            state.checker.asked(feed, ask.errand);
            state.trace.event(now, "ask", &[number], || format!("{ask:?}"));
            state.tally.fire(match ask.errand {
                Errand::Replay => Fault::AskedReplay,
                Errand::Reconcile => Fault::AskedReconcile,
                _ => Fault::AskedBackfill,
            });
        }
    }
}
