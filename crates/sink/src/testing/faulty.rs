//! A store that fails when told to: in the middle of a transaction, or only with its answer.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use domain::{Axis, Comparison, ContentHash, Errand, Fence, Gap, Reread, TenantId, Ticks};

use crate::store::{
    Ahead, Alert, Event, Feed, Incident, Item, Known, Link, Noted, Offer, Rejected, StandingIncident, Store, StoreError, StoreTx, Taken,
    Tally,
};

/// What goes wrong with the next transaction, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The call of this number fails, or the commit when there are not so many: nothing is stored.
    Call(u32),
    /// It commits, and nobody hears of it.
    LostAnswer,
}

/// What is to go wrong.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Mutex<Option<Fault>>>);

impl Faults {
    pub(super) fn next(&self, fault: Option<Fault>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Whether the fault has happened.
    pub(super) fn is_over(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn take(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[derive(Debug)]
pub(super) struct Faulty<S> {
    pub(super) store: S,
    pub(super) faults: Faults,
}

pub(super) struct FaultyTx<T> {
    tx: T,
    fault: Option<Fault>,
    calls: u32,
}

fn away() -> StoreError {
    StoreError::Away("so it was told".into())
}

#[async_trait]
impl<S: Store> Store for Faulty<S> {
    type Tx = FaultyTx<S::Tx>;

    async fn begin(&self, ahead: Ahead<'_>) -> Result<Self::Tx, StoreError> {
        let tx = self.store.begin(ahead).await?;
        Ok(FaultyTx { tx, fault: self.faults.take(), calls: 0 })
    }

    async fn note(&self, news: &[Item]) -> Result<Noted, StoreError> {
        self.store.note(news).await
    }
}

impl<T> FaultyTx<T> {
    fn call(&mut self) -> Result<(), StoreError> {
        self.calls += 1;
        if self.fault == Some(Fault::Call(self.calls)) { Err(away()) } else { Ok(()) }
    }
}

macro_rules! passed_on {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl<T: StoreTx> StoreTx for FaultyTx<T> {
            $(async fn $name(&mut self, $($argument: $type),*) -> Result<$answer, StoreError> {
                self.call()?;
                self.tx.$name($($argument),*).await
            })*

            async fn commit(mut self) -> Result<(), StoreError> {
                if matches!(self.fault, Some(Fault::Call(_))) {
                    self.tx.rollback().await;
                    return Err(away());
                }
                self.tx.commit().await?;
                if self.fault == Some(Fault::LostAnswer) { Err(away()) } else { Ok(()) }
            }

            async fn rollback(self) {
                self.tx.rollback().await;
            }
        }
    };
}

passed_on! {
    hold(fence: Fence) -> ();
    look_up(feed: Feed, alerts: &[Alert<'_>], thorough: bool) -> Vec<Known>;
    insert_versions(feed: Feed, alerts: &[Alert<'_>], versions: &[(usize, i32)]) -> ();
    put_latest(feed: Feed, alerts: &[Alert<'_>], offers: &[Offer]) -> Vec<Taken>;
    add_events(feed: Feed, events: &[Event<'_>]) -> ();
    look_up_incidents(tenant: TenantId, incidents: &[Incident<'_>]) -> Vec<Option<StandingIncident>>;
    put_incidents(tenant: TenantId, incidents: &[Incident<'_>], which: &[usize]) -> ();
    links(tenant: TenantId, turned: &[&str]) -> Vec<Link>;
    put_ends(tenant: TenantId, ends: &[(String, Option<String>)]) -> ();
    quarantine(feed: Feed, rejected: &[Rejected<'_>]) -> u64;
    replayed(feed: Feed, understood: &[ContentHash], refused: &[ContentHash]) -> u64;
    add_gaps(feed: Feed, axis: Axis, gaps: &[Gap]) -> u64;
    heal_gaps(feed: Feed, axis: Axis, stretch: (Ticks, Ticks), but: &[Gap]) -> u64;
    advance(feed: Feed, from: Ticks, to: Ticks) -> bool;
    count_quarantined(feed: Feed, change: i64) -> ();
    begin_feed(feed: Feed, live_from: Ticks, history_from: Ticks) -> ();
    move_reread(feed: Feed, before: Option<(Axis, Ticks)>, to: &Reread) -> bool;
    tally(feed: Feed, errand: Errand, run: Option<i64>, tally: &Tally<'_>) -> bool;
    reconcile(feed: Feed, errand: Errand, comparison: &Comparison) -> (u64, u64);
}
