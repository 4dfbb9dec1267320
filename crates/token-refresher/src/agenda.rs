//! Which tenant is due next. One timer for all of them, whatever their number: an idle tenant costs
//! an entry here and no task.

use std::collections::{BTreeSet, HashMap};

use domain::TenantId;
use tokio::time::Instant;

/// At most one appointment per tenant, in order.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    order: BTreeSet<(Instant, TenantId)>,
    by_tenant: HashMap<TenantId, Instant>,
}

impl Agenda {
    /// Replaces the tenant's appointment. Says whether the earliest of all has changed.
    pub(crate) fn set(&mut self, tenant: TenantId, due: Option<Instant>) -> bool {
        let earliest = self.next();
        let before = match due {
            Some(due) => self.by_tenant.insert(tenant, due),
            None => self.by_tenant.remove(&tenant),
        };
        if let Some(before) = before {
            self.order.remove(&(before, tenant));
        }
        if let Some(due) = due {
            self.order.insert((due, tenant));
        }
        self.next() != earliest
    }

    /// When the next appointment is.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(due, _)| *due)
    }

    /// Takes the earliest tenant out, if it is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<TenantId> {
        let (due, tenant) = *self.order.first()?;
        if due > now {
            return None;
        }
        self.order.pop_first();
        self.by_tenant.remove(&tenant);
        Some(tenant)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tenant_has_one_appointment_and_the_earliest_comes_first() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let [one, two] = [1, 2].map(|number| TenantId(uuid::Uuid::from_u128(number)));
        let mut agenda = Agenda::default();
        assert!(agenda.set(one, Some(at(5))));
        assert!(!agenda.set(two, Some(at(7))), "not the earliest");
        assert!(agenda.set(one, Some(at(9))), "moved, and the earliest is another one now");
        assert_eq!(agenda.next(), Some(at(7)));
        assert_eq!(agenda.pop_due(at(6)), None);
        assert_eq!(agenda.pop_due(at(8)), Some(two));
        assert_eq!(agenda.pop_due(at(8)), None);
        assert!(agenda.set(one, None));
        assert_eq!(agenda.next(), None);
    }
}
