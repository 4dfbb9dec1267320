//! What is on record about tenants, from what processes report.

use std::collections::BTreeMap;

use domain::{Report, ReportOrigin, TenantId, TenantState, Verdict};

use crate::leases::Needs;
use crate::store::Memory;
use crate::time::Ms;

/// What is on record about a tenant's troubles.
#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) troubles: BTreeMap<(TenantId, ReportOrigin), (Verdict, Ms)>,
}

impl Registry {
    /// Tenants that need somebody.
    pub(super) fn needs(&self) -> Needs {
        let need = |((tenant, _), (verdict, _)): (&(TenantId, ReportOrigin), &(Verdict, Ms))| match verdict {
            Verdict::NeedsConsent => Some((*tenant, TenantState::NeedsConsent)),
            Verdict::NeedsCustomer => Some((*tenant, TenantState::NeedsCustomer)),
            _ => None,
        };
        self.troubles.iter().filter_map(need).collect()
    }

    pub(super) fn take(&mut self, report: Report, memory: &Memory, now: Ms) {
        match report {
            Report::Trouble { fence, origin, trouble } if memory.stands(fence) => {
                let since = self.troubles.get(&(fence.tenant, origin)).map_or(now, |(_, since)| *since);
                self.troubles.insert((fence.tenant, origin), (trouble.verdict, since));
            }
            Report::Working { fence, origin } if memory.stands(fence) => {
                self.troubles.remove(&(fence.tenant, origin));
            }
            _ => {}
        }
    }

    /// Whether anything is on record about a tenant. Who is throttled at one source is left alone at the others of the
    /// same API as well.
    pub(super) fn concerns(&self, tenant: TenantId) -> bool {
        self.troubles.keys().any(|(whose, _)| *whose == tenant)
    }

    pub(super) fn sign_in_needs_consent(&self, tenant: TenantId) -> Option<Ms> {
        let (verdict, since) = self.troubles.get(&(tenant, ReportOrigin::SignIn))?;
        (*verdict == Verdict::NeedsConsent).then_some(*since)
    }
}
