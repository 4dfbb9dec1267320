//! Which tenants have a redemption under way: from the arrival of the request until the last byte of the answer is
//! handed over or the caller has gone. Two at once of one tenant are what nobody may ever do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// The redemptions under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight(Arc<Books>);

#[derive(Debug, Default)]
struct Books {
    now: Mutex<HashMap<Uuid, u32>>,
    overlaps: AtomicU64,
}

impl InFlight {
    /// Notes that one begins; it lasts as long as what is returned.
    pub(crate) fn begin(&self, tenant: Uuid) -> Redemption {
        let mut now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
        let count = now.entry(tenant).or_default();
        *count += 1;
        if *count > 1 {
            self.0.overlaps.fetch_add(1, Ordering::Relaxed);
        }
        Redemption { books: self.0.clone(), tenant, others: *count - 1 }
    }

    /// How many began while another one of the same tenant was under way.
    pub(crate) fn overlaps(&self) -> u64 {
        self.0.overlaps.load(Ordering::Relaxed)
    }
}

/// One redemption under way.
#[derive(Debug)]
pub(crate) struct Redemption {
    books: Arc<Books>,
    tenant: Uuid,
    /// How many others of the tenant were under way when it began.
    pub(crate) others: u32,
}

impl Drop for Redemption {
    fn drop(&mut self) {
        let mut now = self.books.now.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = now.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                now.remove(&self.tenant);
            }
        }
    }
}
