//! One switch per app registration and cloud: when our own credential is at fault, everybody is told
//! at once, and one caller every half minute finds out whether it still is.
//!
//! Without it, an expired client secret would be tried by every tenant with every retry, each would
//! be marked as troubled, and the sign-in service would lock the app out on top. Pure.

use std::time::Duration;

use domain::{TenantId, Trouble};
use microsoft::MaybeOurs;
use tokio::time::Instant;

use crate::chorus::Chorus;

/// The switch. Closed is the good position, as with electricity.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    open: Option<Open>,
    last_success: Option<Instant>,
    chorus: Chorus,
}

#[derive(Debug)]
struct Open {
    trouble: Trouble,
    since: Instant,
    probe_at: Instant,
    prober: Option<TenantId>,
}

/// Whether the caller may ask the sign-in service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// As usual.
    Free,
    /// As the one who finds out whether the fault is over.
    Probe,
    /// Not before this.
    Shut(Trouble, Instant),
}

/// A fault that is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Over {
    pub(crate) lasted: Duration,
    /// Tenants that were marked, or may have been, for what now looks like the fault of the app.
    pub(crate) refused: Vec<TenantId>,
}

impl Breaker {
    /// The trouble to hand out without asking anybody, and until when.
    pub(crate) fn shut(&self, now: Instant) -> Option<(Trouble, Instant)> {
        let open = self.open.as_ref().filter(|open| now < open.probe_at)?;
        Some((open.trouble.clone(), open.probe_at))
    }

    /// The same for somebody who was let in a while ago: whoever probes may go on.
    pub(crate) fn shut_to(&self, tenant: TenantId, now: Instant) -> Option<(Trouble, Instant)> {
        self.open.as_ref().filter(|open| open.prober != Some(tenant)).map(|open| (open.trouble.clone(), open.probe_at.max(now)))
    }

    /// Lets the tenant in or not. Whoever is let in as the probe keeps the others out for `next_probe`, and lets them go
    /// first for as long after that: what it is told may be about itself.
    pub(crate) fn admit(&mut self, tenant: TenantId, now: Instant, next_probe: Duration) -> Admission {
        let Some(open) = &mut self.open else { return Admission::Free };
        let until = if open.prober == Some(tenant) { open.probe_at + next_probe } else { open.probe_at };
        if now < until {
            return Admission::Shut(open.trouble.clone(), until);
        }
        open.probe_at = now + next_probe;
        open.prober = Some(tenant);
        Admission::Probe
    }

    /// Notes the fault; says whether it is news.
    pub(crate) fn failed(&mut self, trouble: &Trouble, now: Instant, next_probe: Duration) -> bool {
        match &mut self.open {
            Some(open) => {
                open.trouble = trouble.clone();
                false
            }
            None => {
                self.open = Some(Open { trouble: trouble.clone(), since: now, probe_at: now + next_probe, prober: None });
                true
            }
        }
    }

    /// Whether an answer that this tenant got, and that may be about our app, is about our app.
    pub(crate) fn is_ours(&mut self, tenant: TenantId, doubt: MaybeOurs, now: Instant) -> bool {
        self.chorus.is_ours(tenant, doubt, now)
    }

    /// Notes a success for a tenant; tells of the fault that ended with it, if there was one.
    pub(crate) fn worked(&mut self, tenant: TenantId, now: Instant) -> Option<Over> {
        self.last_success = Some(now);
        self.chorus.worked(tenant);
        let open = self.open.take()?;
        Some(Over { lasted: now - open.since, refused: self.chorus.refused() })
    }

    /// Whether the app has been accepted since `moment`, for whichever tenant.
    pub(crate) fn worked_since(&self, moment: Instant) -> bool {
        self.last_success.is_some_and(|success| success > moment)
    }

    /// The fault in words, while there is one.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.trouble.reason.as_str())
    }
}

#[cfg(test)]
mod tests {
    use domain::Verdict;

    use super::*;

    const HALF_MINUTE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_opens_it_one_probe_goes_through_and_a_success_closes_it() {
        let start = Instant::now();
        let [one, two] = [1, 2].map(|number| TenantId(uuid::Uuid::from_u128(number)));
        let trouble =
            Trouble { verdict: Verdict::Global, reason: "secret expired".into(), action: "renew it".into(), code: None, trace: None };
        let mut breaker = Breaker::default();
        assert_eq!(breaker.admit(one, start, HALF_MINUTE), Admission::Free);
        assert!(breaker.failed(&trouble, start, HALF_MINUTE), "news");
        assert!(!breaker.failed(&trouble, start, HALF_MINUTE), "no news");
        assert_eq!(breaker.fault(), Some("secret expired"));

        let probe_at = start + HALF_MINUTE;
        assert_eq!(breaker.admit(one, start, HALF_MINUTE), Admission::Shut(trouble.clone(), probe_at));
        assert_eq!(breaker.shut(start), Some((trouble.clone(), probe_at)));
        assert_eq!(breaker.shut(probe_at), None);
        assert_eq!(breaker.admit(one, probe_at, HALF_MINUTE), Admission::Probe);
        assert_eq!(breaker.admit(two, probe_at, HALF_MINUTE), Admission::Shut(trouble.clone(), probe_at + HALF_MINUTE), "one probe only");
        assert_eq!(
            breaker.admit(one, probe_at + HALF_MINUTE, HALF_MINUTE),
            Admission::Shut(trouble, probe_at + HALF_MINUTE * 2),
            "the next one is somebody else's, if there is somebody"
        );

        assert_eq!(breaker.shut_to(one, probe_at), None, "whoever probes may go on");
        assert!(breaker.shut_to(two, probe_at).is_some(), "whoever queued since before the fault may not");

        assert_eq!(breaker.worked(one, probe_at + HALF_MINUTE), Some(Over { lasted: HALF_MINUTE * 2, refused: vec![] }));
        assert_eq!(breaker.worked(one, probe_at + HALF_MINUTE), None);
        assert_eq!(breaker.admit(one, probe_at, HALF_MINUTE), Admission::Free);
        assert!(breaker.worked_since(start) && !breaker.worked_since(probe_at + HALF_MINUTE));
    }
}
