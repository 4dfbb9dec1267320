//! What follows from a redemption: memory, the switch of the app, the report, the counter, the log.
//!
//! Everything that waits for a person is told by exactly one report and one log line per change;
//! attempts are counted and otherwise silent.

use std::time::Duration;

use domain::ports::NoToken;
use domain::{AccessToken, Audience, HeldTenant, Report, ReportOrigin, TenantId, Trouble, Verdict, metric, rehearsal};
use microsoft::{Grant, TOO_MANY_REQUESTS};
use tokio::time::Instant;

use crate::breaker::{Admission, Over};
use crate::core::{Core, Slot, passing};
use crate::redeemer::Refused;
use crate::refresh::{Belief, Setback};
use crate::slot::{Hold, Now};
use crate::unsaved::Unsaved;

/// Who wants the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A caller who waits for it; a cached one will do.
    Asked,
    /// The worker: ahead of expiry, to confirm a suspicion, or to keep the refresh token alive.
    Ahead,
}

/// Weaker than a second would be a hot loop, longer would keep a tenant waiting for a lease in doubt.
const A_MOMENT: Duration = Duration::from_secs(1);

impl Core {
    /// Gets an access token for a tenant, alone at its gate.
    ///
    /// # Errors
    /// [`NoToken`] when there is none to be had now, reported where a report is due.
    pub(crate) async fn obtain(&self, tenant: TenantId, slot: &Slot, audience: Audience, wish: Wish) -> Result<AccessToken, NoToken> {
        let _alone = if rehearsal::bug("two-redemptions-at-once") { None } else { Some(slot.gate.lock().await) };
        // The queue may have been long: what the registry says of the tenant now is what counts.
        let Some(tenant) = self.held(tenant) else {
            return Err(self.no_token(passing("another replica looks after this tenant"), A_MOMENT));
        };
        let tenant = &*tenant;
        slot.memory().adopt(tenant);
        // The stored token is used up while its successor is not stored.
        if let Err(hold) = self.save_held(tenant.id, slot, false).await {
            self.plan(tenant, slot);
            return Err(self.no_token(hold.trouble, hold.until - self.now().instant));
        }
        // Whoever held the gate before may have fetched it, or met what stands in the way.
        match wish {
            Wish::Asked => {
                if let Some(answer) = self.without_network(tenant, slot, audience) {
                    return answer;
                }
            }
            Wish::Ahead => {
                if !slot.memory().due_audiences(self.now().instant).contains(&audience) {
                    return Err(self.no_token(passing("done meanwhile"), A_MOMENT));
                }
            }
        }
        let now = self.now();
        let next_probe = self.chance.around(self.config.global_probe, 0.1);
        let admission = self.breaker(tenant, |breaker| breaker.admit(tenant.id, now.instant, next_probe));
        if let Admission::Shut(trouble, until) = admission {
            let none = self.settle_shut(slot, trouble, until, now);
            self.plan(tenant, slot);
            return Err(none);
        }
        let belief = {
            let memory = slot.memory();
            match (memory.is_dead(audience), memory.is_suspect(audience)) {
                (true, _) => Belief::Known,
                (false, true) => Belief::Suspected,
                (false, false) => Belief::Fresh,
            }
        };
        // Taken away at the end of this function: by then what came back is stored, or in memory.
        let mark = slot.mark();
        let outcome = self.attempt(tenant, audience, belief, &mark).await;
        self.heard(tenant, &outcome);
        let answer = match outcome {
            Err(Setback::Unsaved(unsaved)) => Err(self.settle_unsaved(tenant, slot, audience, *unsaved)),
            // What the old credential came to says nothing about a new one that arrived meanwhile.
            outcome if !slot.memory().is_of(tenant) => {
                outcome.map_err(|_| self.no_token(passing("the credential was replaced meanwhile"), A_MOMENT))
            }
            Ok(token) => Ok(self.settle_success(tenant, slot, audience, wish, token)),
            Err(setback) => Err(self.settle_setback(tenant, slot, audience, belief, admission == Admission::Probe, setback)),
        };
        self.plan(tenant, slot);
        answer
    }

    /// What an answer says about the login host, whomever it was for.
    fn heard(&self, tenant: &HeldTenant, outcome: &Result<AccessToken, Setback>) {
        let Some(lane) = self.clouds.get(&tenant.cloud).and_then(|cloud| self.lanes.of(cloud)) else { return };
        match outcome {
            Err(Setback::Refused(Refused { trouble: Trouble { verdict: Verdict::RetryAfter(wait), code, .. }, .. }))
                if code.as_deref() == Some(TOO_MANY_REQUESTS) =>
            {
                if let Some(rest) = lane.throttled(tenant.id, *wait) {
                    tracing::warn!(cloud = %tenant.cloud, retry_after_s = rest.as_secs(), "the sign-in service is throttling all tenants; nobody asks it for now");
                }
            }
            Ok(_) | Err(Setback::Unsaved(_) | Setback::NotOurs(_)) => lane.gave(),
            Err(Setback::Refused(_)) => lane.refused(),
            // Nobody was asked.
            Err(Setback::Ours(_) | Setback::InDoubt(_) | Setback::Shut(..) | Setback::Stopping) => {}
        }
    }

    /// What came back is held. Without the lease the tenant is not ours to speak for.
    fn settle_unsaved(&self, tenant: &HeldTenant, slot: &Slot, audience: Audience, unsaved: Unsaved) -> NoToken {
        let now = self.now();
        let Hold { trouble, until } = unsaved.hold(now.instant);
        let ours = unsaved.offer_at().is_some();
        let in_need = {
            let mut memory = slot.memory();
            memory.unsaved = Some(Box::new(unsaved));
            // The lease may have become another one of ours while the answer was on its way.
            if let Some(held) = self.held(tenant.id) {
                memory.adopt(&held);
            }
            memory.needs_somebody()
        };
        if ours && !in_need {
            self.report(tenant, &trouble);
            self.tell(tenant, slot, audience, &trouble);
        } else if !ours {
            count("lease-lost");
            tracing::debug!(tenant.id = %tenant.id, %audience, "the lease on this tenant was lost, so an access token is not used");
        }
        self.no_token(trouble, until - now.instant)
    }

    pub(crate) fn settle_success(
        &self,
        tenant: &HeldTenant,
        slot: &Slot,
        audience: Audience,
        wish: Wish,
        token: AccessToken,
    ) -> AccessToken {
        count("ok");
        let now = self.now();
        if let Some(Over { lasted, refused }) = self.breaker(tenant, |breaker| breaker.worked(tenant.id, now.instant)) {
            tracing::info!(app = %tenant.app, cloud = %tenant.cloud, duration_ms = millis(lasted), "the app registration is accepted again");
            self.look_again(&refused, now);
        }
        let (told, others_in_need) = {
            let mut memory = slot.memory();
            memory.worked(audience, now);
            if self.apps.get(&tenant.app).is_some_and(|app| app.grant == Grant::RefreshToken) {
                memory.unasked.kept(now.wall);
            }
            memory.cache(audience, token.clone(), wish == Wish::Asked, now, &*self.chance);
            (memory.tell_end(audience), memory.needs_somebody())
        };
        if told {
            tracing::info!(tenant.id = %tenant.id, %audience, "signing in works again");
        }
        // One row stands for the sign-in of all audiences: it ends when the last of them works.
        if !others_in_need {
            self.outbox.send(Report::Working { fence: tenant.fence(), origin: ReportOrigin::SignIn });
        }
        token
    }

    fn settle_setback(
        &self,
        tenant: &HeldTenant,
        slot: &Slot,
        audience: Audience,
        belief: Belief,
        probing: bool,
        setback: Setback,
    ) -> NoToken {
        let now = self.now();
        let (trouble, dead) = match setback {
            Setback::Unsaved(unsaved) => return self.settle_unsaved(tenant, slot, audience, *unsaved),
            Setback::Stopping => return self.no_token(passing("the daemon is stopping"), A_MOMENT),
            Setback::Shut(trouble, until) => return self.settle_shut(slot, trouble, until, now),
            Setback::InDoubt(why) => return self.settle_doubt(slot, why, now),
            Setback::NotOurs(why) => {
                count("lease-lost");
                tracing::debug!(tenant.id = %tenant.id, %audience, "{why}, so an access token was thrown away");
                return self.settle_doubt(slot, why, now);
            }
            Setback::Ours(trouble) => (trouble, false),
            Setback::Refused(Refused { trouble, dead_token, maybe_ours }) => {
                let ours = maybe_ours.filter(|doubt| self.breaker(tenant, |breaker| breaker.is_ours(tenant.id, *doubt, now.instant)));
                let trouble = ours.map_or(trouble.clone(), |doubt| doubt.settled(trouble));
                count(trouble.verdict.as_str());
                (trouble, dead_token)
            }
        };
        if dead && belief == Belief::Fresh {
            return self.settle_suspicion(slot, audience, &trouble, now);
        }
        match trouble.verdict {
            Verdict::Global => self.settle_global(tenant, slot, audience, probing, trouble, now),
            Verdict::NeedsConsent | Verdict::NeedsCustomer | Verdict::OurBug => {
                self.settle_need(tenant, slot, audience, dead, trouble, now)
            }
            Verdict::Retry | Verdict::RetryAfter(_) => {
                let (wait, in_need) = {
                    let mut memory = slot.memory();
                    (memory.pause(trouble.clone(), now.instant, &self.config), memory.needs_somebody())
                };
                // That a probe could not get through says nothing about what a person has to do.
                if !in_need {
                    self.report(tenant, &trouble);
                    self.tell(tenant, slot, audience, &trouble);
                }
                self.no_token(trouble, wait)
            }
        }
    }

    /// The worker comes back when the fault has had its next probe; callers are told to.
    fn settle_shut(&self, slot: &Slot, trouble: Trouble, until: Instant, now: Now) -> NoToken {
        slot.memory().snooze_until(until + self.chance.between(Duration::ZERO, self.config.global_probe));
        self.no_token(trouble, (until - now.instant).max(A_MOMENT))
    }

    /// No failure of the sign-in, so nothing grows and nobody is told: only a short wait, spread so that
    /// a thousand tenants do not come back together.
    fn settle_doubt(&self, slot: &Slot, why: &str, now: Now) -> NoToken {
        let wait = self.chance.between(A_MOMENT, A_MOMENT * 4);
        let trouble = passing(why);
        slot.memory().pause_briefly(Hold { trouble: trouble.clone(), until: now.instant + wait });
        self.no_token(trouble, wait)
    }

    /// One such answer can be a mistake of the sign-in service; the second one, a little later, is not.
    fn settle_suspicion(&self, slot: &Slot, audience: Audience, trouble: &Trouble, now: Now) -> NoToken {
        let wait = self.chance.between(self.config.confirm_dead_after, self.config.confirm_dead_after.mul_f64(1.2));
        let mut suspicion = passing(format!("{}; this is asked once more before it is believed", trouble.reason));
        suspicion.code.clone_from(&trouble.code);
        suspicion.trace.clone_from(&trouble.trace);
        slot.memory().suspect(audience, Hold { trouble: suspicion.clone(), until: now.instant + wait });
        self.no_token(suspicion, wait)
    }

    fn settle_need(&self, tenant: &HeldTenant, slot: &Slot, audience: Audience, dead: bool, trouble: Trouble, now: Now) -> NoToken {
        let wait = slot.memory().need(audience, trouble.clone(), dead, now.instant, &self.config, &*self.chance);
        self.report(tenant, &trouble);
        self.tell(tenant, slot, audience, &trouble);
        self.no_token(trouble, wait)
    }

    /// Tenants that were told what may have been about our app find out whether it was, as soon as that is over.
    fn look_again(&self, refused: &[TenantId], now: Now) {
        for id in refused {
            if let (Some(tenant), Some(slot)) = (self.held(*id), self.known_slot(*id)) {
                slot.memory().look_again(now.instant);
                self.plan(&tenant, &slot);
            }
        }
    }

    /// Our own app is at fault: one alarm, and everybody waits for one probe. Unless others got
    /// through with the same app since this tenant was last refused: then it is this tenant's affair,
    /// such as a cloud that it does not live in, and must not stop the others every half minute.
    fn settle_global(
        &self,
        tenant: &HeldTenant,
        slot: &Slot,
        audience: Audience,
        probing: bool,
        mut trouble: Trouble,
        now: Now,
    ) -> NoToken {
        let met_before = slot.memory().met_global_fault.replace(now.instant);
        if met_before.is_some_and(|before| self.breaker(tenant, |breaker| breaker.worked_since(before))) {
            trouble.verdict = Verdict::OurBug;
            return self.settle_need(tenant, slot, audience, false, trouble, now);
        }
        let next_probe = self.chance.around(self.config.global_probe, 0.1);
        let (news, until) = self.breaker(tenant, |breaker| {
            let news = breaker.failed(&trouble, now.instant, next_probe);
            (news, breaker.shut(now.instant).map_or(now.instant, |(_, until)| until))
        });
        if news {
            let (app, cloud) = (&tenant.app, &tenant.cloud);
            let answered = trouble.answered_at().map(tracing::field::display);
            tracing::error!(%app, %cloud, code = trouble.code, trace.id = trouble.trace_id(), answered.at = answered, error = trouble.reason, action = trouble.action, "the app registration is refused; no tenant of it can sign in");
        }
        if news || probing {
            self.report(tenant, &trouble);
        }
        self.no_token(trouble, (until - now.instant).max(A_MOMENT))
    }

    fn report(&self, tenant: &HeldTenant, trouble: &Trouble) {
        self.outbox.send(Report::Trouble { fence: tenant.fence(), origin: ReportOrigin::SignIn, trouble: trouble.clone() });
    }

    /// One line per change of state.
    fn tell(&self, tenant: &HeldTenant, slot: &Slot, audience: Audience, trouble: &Trouble) {
        if !slot.memory().tell(audience, trouble) {
            return;
        }
        let (code, error, action) = (&trouble.code, &trouble.reason, trouble.action_for(tenant.id));
        let (verdict, trace) = (trouble.verdict.as_str(), trouble.trace_id());
        let answered = trouble.answered_at().map(tracing::field::display);
        if trouble.verdict.needs_a_person() {
            tracing::error!(tenant.id = %tenant.id, %audience, verdict, code, trace.id = trace, answered.at = answered, error, action, "signing in does not work and needs a person");
        } else {
            tracing::warn!(tenant.id = %tenant.id, %audience, verdict, code, trace.id = trace, answered.at = answered, error, "signing in does not work for now");
        }
    }
}

fn count(outcome: &'static str) {
    metrics::counter!(metric::TOKEN_REFRESHES, "outcome" => outcome).increment(1);
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
