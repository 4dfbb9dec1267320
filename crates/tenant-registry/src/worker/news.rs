//! Reports on their way to the database: at most one per tenant and activity, the latest. Most reports
//! say that something works which always did, and those end here without costing a statement.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use domain::{AppName, CloudName, Fence, HeldTenant, Report, ReportOrigin, TenantId, Ticks, Trouble, Verdict};

use crate::store::troubles::{NEEDS, OpenRow, TroubleRow};

/// A tenant and what was being done for it.
type Activity = (TenantId, ReportOrigin);
/// One app registration in one cloud.
pub(super) type App = (AppName, CloudName);

/// Reports not yet written.
#[derive(Debug, Default)]
pub(super) struct News {
    /// `None` means that it works.
    activities: BTreeMap<Activity, (Fence, Option<Trouble>)>,
    apps: BTreeMap<App, (Fence, Option<Trouble>)>,
}

/// What the database holds open, as far as we know. Read anew with every full read, so that what
/// another replica or an operator did is noticed.
#[derive(Debug, Default)]
pub(super) struct OpenTroubles {
    verdicts: BTreeMap<Activity, String>,
    faults: BTreeSet<App>,
}

/// What writing the news came to.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) put: Vec<(Activity, String)>,
    pub(super) ended: Vec<Activity>,
    pub(super) faults: Vec<App>,
    pub(super) new_faults: Vec<App>,
    pub(super) ended_faults: Vec<App>,
}

impl Written {
    /// Whether the derived state of a tenant may be another one now.
    pub(super) fn changes_states(&self) -> bool {
        !self.ended.is_empty() || self.put.iter().any(|(_, verdict)| is_need(verdict))
    }
}

/// Reads [`ReportOrigin::as_str`] back.
pub(super) fn origin_of(word: &str) -> Option<ReportOrigin> {
    if word == ReportOrigin::SignIn.as_str() { Some(ReportOrigin::SignIn) } else { word.parse().ok().map(ReportOrigin::Read) }
}

fn is_need(verdict: &str) -> bool {
    NEEDS.contains(&verdict)
}

/// Postgres has no NUL in a text, and one that slipped into an error message must not stop all others.
pub(super) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

impl News {
    /// Takes a report, unless it is about a tenant that is not ours or tells nothing new.
    pub(super) fn take(&mut self, report: Report, held: &BTreeMap<TenantId, Arc<HeldTenant>>, open: &OpenTroubles) {
        let (fence, origin, trouble) = match report {
            Report::Trouble { fence, origin, trouble } => (fence, origin, Some(trouble)),
            Report::Working { fence, origin } => (fence, origin, None),
        };
        let Some(tenant) = held.get(&fence.tenant).filter(|tenant| tenant.epoch == fence.epoch) else { return };
        let app = (tenant.app.clone(), tenant.cloud.clone());
        let activity = (fence.tenant, origin);
        match trouble {
            // Our own credential: one alarm, and no word about the tenant.
            Some(trouble) if trouble.verdict == Verdict::Global => {
                self.apps.insert(app, (fence, Some(trouble)));
            }
            Some(trouble) => {
                self.activities.insert(activity, (fence, Some(trouble)));
            }
            None => {
                if open.verdicts.contains_key(&activity) || self.activities.contains_key(&activity) {
                    self.activities.insert(activity, (fence, None));
                }
                if origin == ReportOrigin::SignIn && (open.faults.contains(&app) || self.apps.contains_key(&app)) {
                    self.apps.insert(app, (fence, None));
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.activities.is_empty() && self.apps.is_empty()
    }

    /// Every fence that something of this is written under.
    pub(super) fn fences(&self) -> Vec<Fence> {
        let all = self.activities.values().map(|(fence, _)| *fence).chain(self.apps.values().map(|(fence, _)| *fence));
        all.map(|fence| (fence.tenant, fence)).collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// Troubles to be written. A need is shown at once, anything else once it has lasted.
    pub(super) fn trouble_rows(&self, shown_after: Duration, stands: impl Fn(&Fence) -> bool) -> Vec<TroubleRow> {
        let standing = self.activities.iter().filter(|(_, (fence, _))| stands(fence));
        standing
            .filter_map(|((tenant, origin), (_, trouble))| {
                let trouble = trouble.as_ref()?;
                let verdict = trouble.verdict.as_str();
                Some(TroubleRow {
                    tenant: *tenant,
                    origin: origin.as_str(),
                    verdict,
                    shown_after_seconds: if is_need(verdict) { 0.0 } else { shown_after.as_secs_f64() },
                    reason: storable(&trouble.reason),
                    action: storable(&trouble.action),
                    error_code: trouble.code.as_deref().map(storable),
                    trace_id: trouble.trace_id().map(storable),
                    answered_at: trouble.answered_at().and_then(Ticks::to_timestamp),
                })
            })
            .collect()
    }

    /// Activities that work.
    pub(super) fn endings(&self, stands: impl Fn(&Fence) -> bool) -> Vec<Activity> {
        let working = self.activities.iter().filter(|(_, (fence, trouble))| trouble.is_none() && stands(fence));
        working.map(|(activity, _)| *activity).collect()
    }

    /// Apps whose credential is at fault, or works.
    pub(super) fn faults(&self, stands: impl Fn(&Fence) -> bool) -> impl Iterator<Item = (&App, Option<&Trouble>)> {
        self.apps.iter().filter(move |(_, (fence, _))| stands(fence)).map(|(app, (_, trouble))| (app, trouble.as_ref()))
    }
}

impl OpenTroubles {
    pub(super) fn from_rows(rows: Vec<OpenRow>, faults: Vec<(String, String)>) -> Self {
        let verdicts = rows.into_iter().filter_map(|(tenant, origin, verdict)| Some(((TenantId(tenant), origin_of(&origin)?), verdict)));
        let faults = faults.into_iter().map(|(app, cloud)| (AppName::new(app), CloudName::new(cloud)));
        Self { verdicts: verdicts.collect(), faults: faults.collect() }
    }

    /// Takes over what was written, and logs what is new: each change once.
    pub(super) fn apply(&mut self, written: &Written, news: &News) {
        for (activity, verdict) in &written.put {
            let before = self.verdicts.insert(*activity, verdict.clone());
            if before.as_deref() != Some(verdict)
                && let Some((_, Some(trouble))) = news.activities.get(activity)
            {
                log_trouble(activity, trouble);
            }
        }
        for activity in &written.ended {
            let (tenant, origin) = activity;
            match self.verdicts.remove(activity) {
                Some(verdict) if is_need(&verdict) => {
                    tracing::info!(tenant.id = %tenant, origin = origin.as_str(), "works again: the tenant needs nobody any more");
                }
                Some(_) => tracing::debug!(tenant.id = %tenant, origin = origin.as_str(), "works again"),
                None => {}
            }
        }
        self.faults.extend(written.faults.iter().cloned());
        for app in &written.new_faults {
            if let Some((_, Some(trouble))) = news.apps.get(app) {
                let Trouble { reason, action, code, .. } = trouble;
                let (trace, answered) = (trouble.trace_id(), trouble.answered_at().map(tracing::field::display));
                tracing::error!(app = %app.0, cloud = %app.1, error_code = code, trace.id = trace, answered.at = answered, reason, action, "our app registration is refused for all of its tenants");
            }
        }
        for app in &written.ended_faults {
            self.faults.remove(app);
            tracing::info!(app = %app.0, cloud = %app.1, "our app registration is accepted again");
        }
    }
}

fn log_trouble((tenant, origin): &Activity, trouble: &Trouble) {
    let Trouble { verdict, reason, code, .. } = trouble;
    let (origin, action) = (origin.as_str(), trouble.action_for(tenant));
    let (trace, answered) = (trouble.trace_id(), trouble.answered_at().map(tracing::field::display));
    macro_rules! line {
        ($level:ident, $sentence:literal) => {
            tracing::$level!(
                tenant.id = %tenant, origin, error_code = code, trace.id = trace, answered.at = answered, reason, action, $sentence
            )
        };
    }
    match verdict {
        Verdict::NeedsConsent => line!(warn, "the tenant needs consent"),
        Verdict::NeedsCustomer => line!(warn, "the tenant needs its customer"),
        Verdict::OurBug => line!(error, "Microsoft refuses what we send"),
        Verdict::Retry | Verdict::RetryAfter(_) | Verdict::Global => line!(debug, "passing trouble"),
    }
}
