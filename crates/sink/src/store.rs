//! The seam between the commit protocol and a database.
//!
//! [`Store`] and [`StoreTx`] are what the sink asks of a database, one method per statement or two. The order of
//! the steps, what is decided between them, lanes, outages and cutting are the same whatever stands behind the
//! seam: [`crate::PgStore`] in production, a store in memory in a simulation. A store decides nothing; the rules
//! that only it can keep, because they hold for the row it finds at that very moment, are written at each method.
//!
//! What every store must keep besides:
//!
//! - A transaction is all or nothing. One that is dropped without [`StoreTx::commit`] never happened.
//! - Read committed: each method sees what others have committed before it, and what this transaction has written.
//! - A row written by one transaction cannot be written by another until the first has ended. A claim of the lease,
//!   which changes the epoch, waits for every transaction that holds it ([`StoreTx::hold`]).
//! - When the answer to a commit gets lost the error is [`StoreError::Away`], and everything may be stored.

mod alerts;
mod feeds;
mod incidents;

use async_trait::async_trait;
use domain::{Axis, Comparison, ContentHash, Errand, Fence, Gap, Reread, TenantId, Ticks};

pub use crate::error::StoreError;
pub use crate::news::Item;
pub use alerts::{Alert, Event, JUDGED, Judgement, Known, Offer, Rejected, Standing, Taken};
pub use feeds::{Ahead, Feed, MOST_IDS, Noted, Tally};
pub use incidents::{Incident, Link, StandingIncident};

/// A database, as far as the sink is concerned.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// A transaction.
    type Tx: StoreTx;

    /// Begins a transaction, after seeing to what must exist before the batch (a partition, say). That is done
    /// outside of the transaction, and its failure is passed over unless the database cannot be reached.
    ///
    /// # Errors
    /// Any [`StoreError`] but a lost lease.
    async fn begin(&self, ahead: Ahead<'_>) -> Result<Self::Tx, StoreError>;

    /// Writes news of many feeds of many tenants, those whose lease generation still stands.
    ///
    /// `last_attempt_at` and `last_success_at` keep their value where the item says nothing, `caught_up` never
    /// falls, the error, the throttling and the order are what the item says. A feed without a row gets one, without
    /// a watermark. News of a lease that is over, or is being claimed, is void. A feed whose row somebody holds is
    /// left for later and delays nobody.
    ///
    /// # Errors
    /// Any [`StoreError`] but a lost lease; then it may be that some of it is written, which is harmless.
    async fn note(&self, news: &[Item]) -> Result<Noted, StoreError>;
}

/// A transaction. Every write names the tenant, and nothing of another tenant is ever touched.
#[async_trait]
pub trait StoreTx: Send {
    /// Holds the tenant's lease until the end: nobody can claim the tenant before that, while a renewal passes.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the tenant has another epoch by now, or no lease at all.
    async fn hold(&mut self, fence: Fence) -> Result<(), StoreError>;

    /// Asks what is known of each of these alerts, in their order. The latest state of an alert, or that there is none, may
    /// speak for its versions unless this has to be `thorough`.
    ///
    /// # Errors
    /// Any [`StoreError`] but a lost lease, here and below.
    async fn look_up(&mut self, feed: Feed, alerts: &[Alert<'_>], thorough: bool) -> Result<Vec<Known>, StoreError>;

    /// Inserts versions: position among `alerts`, and number. A version is one by (tenant, source, id, hash,
    /// [`Alert::filed`]); once there it is never changed.
    ///
    /// # Errors
    /// [`StoreError::Contention`] when one of them is there already: the look-up is then asked again, thoroughly, so that
    /// what is counted is what was written.
    async fn insert_versions(&mut self, feed: Feed, alerts: &[Alert<'_>], versions: &[(usize, i32)]) -> Result<(), StoreError>;

    /// Offers the best that a batch knows of each alert. An alert that is not there becomes a row with
    /// `offer.versions` as its count. Otherwise the offer is taken when ([`Alert::ticks`], rank of the source) is not
    /// lower than that of the row **as it stands at that moment**: everything in the row but the time of its first
    /// storing is replaced. The row's count of versions grows by `offer.versions` whether it is taken or not, and its
    /// time of last storing moves when it is taken or `offer.versions` is not zero. Offers come in the order of ids, and
    /// rows are locked in that order.
    ///
    /// Returns a [`Taken`] for each offer that was taken.
    async fn put_latest(&mut self, feed: Feed, alerts: &[Alert<'_>], offers: &[Offer]) -> Result<Vec<Taken>, StoreError>;

    /// Appends observed changes. They are never changed or deleted. All changes of an alert seen by one transaction
    /// are seen at one time, which is later than that of any change of this alert before.
    async fn add_events(&mut self, feed: Feed, events: &[Event<'_>]) -> Result<(), StoreError>;

    /// Asks for the latest state of each of these incidents, in their order.
    async fn look_up_incidents(
        &mut self,
        tenant: TenantId,
        incidents: &[Incident<'_>],
    ) -> Result<Vec<Option<StandingIncident>>, StoreError>;

    /// Replaces the latest state of these incidents (positions among `incidents`, in the order of ids, no id twice),
    /// each only if what stands has another hash and no higher stamp.
    ///
    /// # Errors
    /// [`StoreError::Contention`] when one of them was not written.
    async fn put_incidents(&mut self, tenant: TenantId, incidents: &[Incident<'_>], which: &[usize]) -> Result<(), StoreError>;

    /// Everything that may lead to another end now that the redirects of these incidents have changed: themselves, the
    /// ends on record for them, and every incident that has one of all those as its end on record.
    async fn links(&mut self, tenant: TenantId, turned: &[&str]) -> Result<Vec<Link>, StoreError>;

    /// Records where incidents lead in the end; `None` removes the record: it leads nowhere. No id twice, in the
    /// order of ids.
    async fn put_ends(&mut self, tenant: TenantId, ends: &[(String, Option<String>)]) -> Result<(), StoreError>;

    /// Keeps what could not be stored, as received, one row by (tenant, source, hash), and says how many are new or
    /// had been understood in a replay before. What is there already stays as it is.
    async fn quarantine(&mut self, feed: Feed, rejected: &[Rejected<'_>]) -> Result<u64, StoreError>;

    /// Records in quarantine that were tried again: those understood are marked as replayed, the others as tried.
    /// Returns how many are marked as replayed that were not before. Hashes that are not in quarantine do not matter.
    async fn replayed(&mut self, feed: Feed, understood: &[ContentHash], refused: &[ContentHash]) -> Result<u64, StoreError>;

    /// Writes gaps down, one row by (tenant, source, from, to), and says how many were not open before. One that is
    /// there and healed is open again, with what is said of it now; an open one stays as it is.
    async fn add_gaps(&mut self, feed: Feed, axis: Axis, gaps: &[Gap]) -> Result<u64, StoreError>;

    /// Heals the open gaps of this axis that lie in `[from, to)` altogether (`gap.from >= from`, `gap.to < to`), but
    /// those of kind expired and those in `but`.
    async fn heal_gaps(&mut self, feed: Feed, axis: Axis, stretch: (Ticks, Ticks), but: &[Gap]) -> Result<u64, StoreError>;

    /// Moves the watermark forward, never back. `false`, and nothing is written, when it stands before `from` or nowhere.
    async fn advance(&mut self, feed: Feed, from: Ticks, to: Ticks) -> Result<bool, StoreError>;

    /// Changes the count of what is in quarantine, which never falls below zero. Makes the feed's row if need be.
    async fn count_quarantined(&mut self, feed: Feed, change: i64) -> Result<(), StoreError>;

    /// First contact: sets the watermark of a feed that has none. Only if that was done, and there is history to read,
    /// records a backfill: run 1, on the axis of updates, `[history_from, live_from)`, of which all is left, polled before
    /// `live_from`, not asked for and not started. One that is on record already becomes its next run, open, over both
    /// stretches and what lies between them.
    async fn begin_feed(&mut self, feed: Feed, live_from: Ticks, history_from: Ticks) -> Result<(), StoreError>;

    /// Moves a re-read, and says whether it stands. There is one row by (tenant, source, errand).
    ///
    /// - No row, or one of an earlier run: the row becomes this run, started now, not asked for, not cancelled. Counters
    ///   and lists are empty then, but those of a run that never came to its end go on.
    /// - A row of the same run that is not finished: it goes on; it is started now unless it was before.
    /// - Otherwise nothing is written, and the answer is `false`; nor is anything when `before` is given and there is no
    ///   row of this very run, or one that has not come as far: on that axis with no more left, or on the next.
    ///
    /// `to.finished_at` being `Some` finishes it now, by the database's clock.
    async fn move_reread(&mut self, feed: Feed, before: Option<(Axis, Ticks)>, to: &Reread) -> Result<bool, StoreError>;

    /// Adds to the counters of a re-read, and to its lists the ids that are not in them, up to [`MOST_IDS`]. With `run` the
    /// row is of that run; without, it must have been started and not be finished. Says whether there was such a row.
    async fn tally(&mut self, feed: Feed, errand: Errand, run: Option<i64>, tally: &Tally<'_>) -> Result<bool, StoreError>;

    /// Records what a comparison came to. What was missing or changed, the stretch, the run and the time it was started are
    /// those of the re-read's row, its updated and new alerts; asked by the operator when the errand is `reconcile`.
    /// Returns how many were missing and how many changed.
    async fn reconcile(&mut self, feed: Feed, errand: Errand, comparison: &Comparison) -> Result<(u64, u64), StoreError>;

    /// Makes all of it durable.
    ///
    /// # Errors
    /// [`StoreError::Away`] when there is no answer: it may have happened.
    async fn commit(self) -> Result<(), StoreError>;

    /// Undoes all of it.
    async fn rollback(self);
}
