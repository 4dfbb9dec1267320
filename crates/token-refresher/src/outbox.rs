//! Reports on their way to the registry, without ever waiting for it.
//!
//! The channel is bounded, and the registry reads it only while its database answers. A refresh must
//! not stand still for that, so what does not fit waits here, the latest report per tenant: an older
//! one would only be overwritten by it anyway.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use domain::{Report, TenantId};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Sends reports, or keeps the latest per tenant until they can be sent.
pub(crate) struct Outbox {
    reports: mpsc::Sender<Report>,
    waiting: Mutex<BTreeMap<TenantId, Report>>,
}

impl Outbox {
    pub(crate) fn new(reports: mpsc::Sender<Report>) -> Self {
        Self { reports, waiting: Mutex::new(BTreeMap::new()) }
    }

    /// Sends this, in place of what may still be waiting for the same tenant.
    pub(crate) fn send(&self, report: Report) {
        let tenant = tenant_of(&report);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(&tenant);
        if let Err(TrySendError::Full(report)) = self.reports.try_send(report) {
            waiting.insert(tenant, report);
        }
    }

    /// Sends what waits, as far as there is room.
    pub(crate) fn flush(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((tenant, report)) = waiting.pop_first() {
            if let Err(TrySendError::Full(report)) = self.reports.try_send(report) {
                waiting.insert(tenant, report);
                return;
            }
        }
    }
}

fn tenant_of(report: &Report) -> TenantId {
    match report {
        Report::Trouble { fence, .. } | Report::Working { fence, .. } => fence.tenant,
    }
}

#[cfg(test)]
mod tests {
    use domain::{Epoch, Fence, ReportOrigin};

    use super::*;

    fn working(tenant: u128, epoch: i64) -> Report {
        let tenant = TenantId(uuid::Uuid::from_u128(tenant));
        Report::Working { fence: Fence { tenant, epoch: Epoch(epoch) }, origin: ReportOrigin::SignIn }
    }

    #[tokio::test]
    async fn a_full_channel_keeps_the_latest_report_of_each_tenant() {
        let (sender, mut receiver) = mpsc::channel(1);
        let outbox = Outbox::new(sender);
        for report in [working(1, 1), working(2, 1), working(2, 2), working(3, 1)] {
            outbox.send(report);
        }
        let mut seen = Vec::new();
        while let Ok(report) = receiver.try_recv() {
            seen.push(report);
            outbox.flush();
        }
        assert_eq!(seen, [working(1, 1), working(2, 2), working(3, 1)]);
    }
}
