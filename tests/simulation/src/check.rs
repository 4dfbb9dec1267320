//! Holds what happens against what must never break, and counts how often it did.
//!
//! The rules are exact where they can be:
//!
//! * **I1** When a commit moves a watermark to W, everything must be stored that was visible before the walk began
//!   (the last question that began at the committed watermark minus the overlap), is visible still, and is stamped
//!   from the start of that walk on and before W. (What is stamped W itself is not passed: every question is `ge`.)
//!   And W is never in the future.
//! * **I4** When a feed says that it has caught up, everything must be stored that was visible when it last said so
//!   (or was read anew), is visible still, and is not older than that watermark minus the overlap. When a re-read
//!   ends, everything must be stored that was visible when it began and lies in its stretch, on either axis. At the
//!   end of the run, everything visible must be stored.
//! * What lies in an open row of `dash.gap` is excused, and nothing else is.

mod again;
mod commit;
mod end;
mod feed;

use std::collections::BTreeMap;

use domain::{Axis, FeedOutcome, HeldTenant, SinkMessage, Source, TenantId, Ticks};
use microsoft::query::WindowQuery;
use sink::store::Item;

use crate::process::Process;
use crate::store::Memory;
use crate::tally::{Invariant, Tally};
use crate::time::{Ms, span};
use crate::world::{Version, World};

pub(crate) use feed::OVERLAP;
use feed::{Book, Reading};

/// Processes with a number up to this began with the run; all others are restarts.
const FIRST_STARTS: u64 = crate::scenario::REPLICAS as u64;

/// Something that must never be, was.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Which promise.
    pub invariant: Invariant,
    /// When, in milliseconds since the run began.
    pub at: i64,
    /// What happened.
    pub what: String,
}

/// The books of one run.
#[derive(Debug)]
pub(crate) struct Checker {
    broken: Vec<Broken>,
    books: BTreeMap<(TenantId, Source), Book>,
}

impl Checker {
    /// Opens the books of all feeds there are.
    pub(crate) fn new(world: &World) -> Self {
        Self { broken: Vec::new(), books: world.feeds.keys().map(|feed| (*feed, Book::default())).collect() }
    }

    /// A promise was broken. The first few are enough.
    pub(crate) fn broken(&mut self, invariant: Invariant, at: Ms, what: String) {
        if self.broken.len() < 20 {
            self.broken.push(Broken { invariant, at, what });
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Broken> {
        std::mem::take(&mut self.broken)
    }

    pub(crate) fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    pub(crate) fn book(&mut self, tenant: TenantId, source: Source) -> &mut Book {
        self.books.entry((tenant, source)).or_default()
    }

    /// A process reads from the database how far a feed has come: whatever it knew before counts no more.
    pub(crate) fn reading(&mut self, process: u64, tenant: TenantId, source: Source, watermark: Option<Ticks>, now: Ms) {
        let book = self.book(tenant, source);
        let caught_up = book.readings.get(&process).is_some_and(|reading| reading.caught_up);
        book.readings.insert(process, Reading { since: now, watermark, walk: None, last_fetch: None, caught_up });
    }

    /// A process asks a source.
    pub(crate) fn fetching(
        &mut self,
        process: &Process,
        tenant: &HeldTenant,
        source: Source,
        window: Option<&WindowQuery>,
        now: Ms,
        tally: &mut Tally,
    ) {
        if process.run.scenario.no_store_since(process.replica, now).is_some() {
            let what = format!("process {} fetches for {} although nothing can be stored", process.serial, tenant.name);
            self.broken(Invariant::I29, now, what);
        }
        let latest = feed::latest_poll(process.run.scenario.interval);
        let calm = process.run.scenario.calm(process.replica, now);
        let neighbours = process.run.scenario.sick_neighbours(tenant.id, now);
        let book = self.book(tenant.id, source);
        let watermark = book.watermark;
        let Some(reading) = book.readings.get_mut(&process.serial) else { return };
        let last = reading.last_fetch.replace((now, tenant.epoch));
        let begins = window.is_some_and(|window| {
            let start = watermark.map(|watermark| watermark.minus(span(OVERLAP)));
            window.axis == Axis::Update && window.skip == 0 && Some(window.from) == start
        });
        if begins {
            reading.walk = window.map(|window| (now, window.from));
        }
        // A healthy tenant is not kept waiting by its neighbours (I10).
        if let Some((before, epoch)) = last
            && calm
            && neighbours
            && epoch == tenant.epoch
        {
            tally.checked(Invariant::I10, 1);
            if now - before > latest {
                let what =
                    format!("{} {source} of process {} waited {} ms beside sick neighbours", tenant.name, process.serial, now - before);
                self.broken(Invariant::I10, now, what);
            }
        }
    }

    /// Who has had no store to write to since then has asked no source since (I29). Somebody who never asked proves
    /// nothing.
    pub(crate) fn nothing_is_fetched_without_a_store(&mut self, process: u64, since: Ms, now: Ms, tally: &mut Tally) {
        let fetches = self.books.values().filter_map(|book| book.readings.get(&process)?.last_fetch);
        let Some(last) = fetches.map(|(at, _)| at).max() else { return };
        tally.checked(Invariant::I29, 1);
        if last >= since {
            self.broken(Invariant::I29, now, format!("process {process} fetched at {last}, and since {since} nothing can be stored"));
        }
    }

    /// The poller sends something to the sink.
    pub(crate) fn sending(
        &mut self,
        process: &Process,
        memory: &Memory,
        message: &SinkMessage,
        now: Ms,
        world: &mut World,
        tally: &mut Tally,
    ) {
        let SinkMessage::Progress(progress) = message else { return };
        let FeedOutcome::CaughtUp { .. } = progress.outcome else { return };
        let (tenant, source) = (progress.fence.tenant, progress.source);
        let Some(feed) = world.feed(tenant, source, now) else { return };
        let book = self.books.entry((tenant, source)).or_default();
        let watermark = book.watermark;
        let Some(reading) = book.readings.get_mut(&process.serial) else { return };
        let from = reading.watermark.map(|watermark| watermark.minus(span(OVERLAP)));
        let since = std::mem::replace(&mut reading.since, now);
        reading.watermark = watermark;
        tally.checked(Invariant::I4, 1);
        // The first time after a restart it is the restart that is held against what was stored before (I33).
        let restarted = process.serial > FIRST_STARTS && !std::mem::replace(&mut reading.caught_up, true);
        let promise = if restarted { Invariant::I33 } else { Invariant::I4 };
        tally.checked(Invariant::I33, u64::from(restarted));
        let lost = feed.missing.iter().find(|at| {
            let version = &feed.versions[**at];
            let covered = from.is_some_and(|from| version.stamp.is_some_and(|stamp| stamp >= from));
            covered && version.visible_since(since) && !book.excuses(memory, tenant, source, version)
        });
        if let Some(at) = lost.copied() {
            let version = &feed.versions[at];
            let what = format!(
                "process {} says that it has caught up with {} {source}, but {} is not stored (visible before {since})",
                process.serial,
                tenant.0,
                describe(version)
            );
            self.broken(promise, now, what);
        }
    }

    /// News of a feed is written.
    pub(crate) fn noted(&mut self, process: &Process, memory: &Memory, item: &Item, now: Ms, tally: &mut Tally) {
        tally.checked(Invariant::I7, 1);
        let claimed_by = memory.leases.get(&item.fence.tenant).map(|lease| lease.claimed_by);
        if claimed_by != Some(process.serial) {
            self.broken(Invariant::I7, now, format!("process {} writes news, {claimed_by:?} has the lease", process.serial));
        }
        let book = self.book(item.fence.tenant, item.source);
        if item.succeeded_at.is_some() {
            book.last_success = now;
        }
        if item.error.is_some() {
            book.last_bad_news = Some(now);
        }
    }
}

/// A version, for a reader.
pub(crate) fn describe(version: &Version) -> String {
    let stamp = version.stamp.map_or("no stamp".to_owned(), |stamp| stamp.to_string());
    let name = match &version.record {
        domain::Record::Alert(alert) => alert.id.to_string(),
        domain::Record::Incident(incident) => format!("incident {}", incident.id),
        domain::Record::Poison(poison) => format!("poison ({})", poison.reason),
    };
    format!("{name} of {stamp}, shown {:?}, {:?}", version.shown, version.curse)
}
