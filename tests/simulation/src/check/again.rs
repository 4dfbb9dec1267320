//! What is checked of re-reads: that each finds what lies in its stretch, goes on where it stood, and that a comparison
//! tells the truth.

use std::collections::BTreeSet;

use domain::{Axis, Errand, Ticks};
use sink::store::Feed;

use super::commit::is_poison;
use super::feed::Began;
use super::{Checker, describe};
use crate::process::Process;
use crate::store::{Effects, Memory};
use crate::tally::{Fault, Invariant, Tally};
use crate::time::Ms;
use crate::world::World;

impl Checker {
    /// A re-read moves on from where it stood (I33); one that ends has found everything in its stretch (I4).
    #[expect(clippy::too_many_arguments, reason = "what was committed, by whom, and who keeps the books")]
    pub(super) fn reread(
        &mut self,
        process: &Process,
        feed: Feed,
        errand: Errand,
        memory: &Memory,
        now: Ms,
        world: &mut World,
        tally: &mut Tally,
    ) {
        let Some(row) = memory.tenants.get(&feed.tenant).and_then(|tables| tables.rereads.get(&(feed.source, errand))) else { return };
        let Some(known) = world.feed(feed.tenant, feed.source, now) else { return };
        let book = self.books.entry((feed.tenant, feed.source)).or_default();
        if row.started_at.is_none() {
            return;
        }
        let moved = (process.serial, row.now.axis, row.now.left);
        // What a comparison had found and repaired before it was interrupted still counts.
        let fresh = Began { run: row.now.run, at: now, updates: None, moved, stored: (row.new, row.updated) };
        let began = book.rereads.entry(errand).or_insert(fresh);
        if began.run != row.now.run {
            *began = fresh;
        }
        if row.now.axis == Axis::Update {
            began.updates = Some((row.now.from, row.now.to));
        }
        let (before, axis, left) = std::mem::replace(&mut began.moved, moved);
        let began = *began;
        let mut wrong = None;
        if before != process.serial {
            tally.checked(Invariant::I33, 1);
            if row.now.axis == axis && row.now.left > left {
                wrong = Some((
                    Invariant::I33,
                    format!("went back from {left} to {} when process {} took it over", row.now.left, process.serial),
                ));
            }
        }
        if row.finished_at.is_some() && errand != Errand::Replay {
            tally.checked(Invariant::I4, 1);
            tally.add("rereads_finished", 1);
            tally.add("late_found", row.late);
            let created = (row.now.axis == Axis::Creation).then_some((row.now.from, row.now.to));
            let lost = known.missing.iter().find(|at| {
                let version = &known.versions[**at];
                // By creation a comparison is not about what was updated after its stretch: that is for polling and the rungs.
                let about = !errand.is_comparison() || version.stamp.is_none_or(|stamp| stamp < row.now.to);
                (inside(version.stamp, began.updates) || (about && inside(version.created, created)))
                    && version.visible_since(began.at)
                    && !book.excuses(memory, feed.tenant, feed.source, version)
            });
            if let Some(at) = lost {
                wrong = Some((Invariant::I4, format!("passed over {}", describe(&known.versions[*at]))));
            }
        }
        if let Some((promise, what)) = wrong {
            let what = format!("the re-read {errand} {} of {} began {} and {what}", row.now.run, feed.source, began.at);
            self.broken(promise, now, what);
        }
    }

    /// Records were counted to a re-read: what of them was not stored before is taken down here as well.
    pub(super) fn counted(&mut self, memory: &Memory, effects: &Effects) {
        let Some((feed, errand)) = effects.tallied else { return };
        let row = memory.tenants.get(&feed.tenant).and_then(|tables| tables.rereads.get(&(feed.source, errand)));
        let Some(began) = self.book(feed.tenant, feed.source).rereads.get_mut(&errand) else { return };
        if row.is_some_and(|row| row.now.run == began.run) {
            let alerts = effects.latest.iter().filter(|(_, before)| before.is_none()).count() as u64;
            let incidents = effects.incidents.iter().filter(|(_, _, before, _)| before.is_none()).count() as u64;
            began.stored.0 += alerts + incidents;
            began.stored.1 += (effects.versions.len() + effects.incidents.len()) as u64 - alerts - incidents;
        }
    }

    /// A comparison that ends calls missing what was not stored before it, no more and no less; and what the source showed
    /// all the while is counted as shown (I4).
    pub(super) fn comparison(&mut self, feed: Feed, errand: Errand, memory: &Memory, now: Ms, world: &mut World, tally: &mut Tally) {
        let Some(tables) = memory.tenants.get(&feed.tenant) else { return };
        let row = tables.rereads.get(&(feed.source, errand));
        let Some(row) = row.filter(|row| errand.is_comparison() && row.finished_at.is_some()) else { return };
        let Some(known) = world.feed(feed.tenant, feed.source, now) else { return };
        let book = self.books.entry((feed.tenant, feed.source)).or_default();
        let Some(began) = book.rereads.get(&errand).copied().filter(|began| began.run == row.now.run) else { return };
        let by_operator = errand == Errand::Reconcile;
        let told = tables.reconciliations.iter().rev().find(|told| (told.source, told.by_operator) == (feed.source, by_operator));
        tally.checked(Invariant::I4, 1);
        tally.fire_if(errand == Errand::Nightly, Fault::ComparisonDue);
        tally.add("comparisons", 1);
        let mut wrong = Vec::new();
        let Some(told) = told.filter(|told| told.run == row.now.run) else {
            self.broken(Invariant::I4, now, format!("the comparison {errand} {} of {} left no result", row.now.run, feed.source));
            return;
        };
        let [at_source, _, missing, changed, _] = told.counts;
        tally.add("differences_found", missing + changed);
        if (missing, changed) != began.stored {
            wrong.push(format!("says that {missing} were missing and {changed} were other than stored, and it was {:?}", began.stored));
        }
        let stretch = Some(told.stretch);
        let all_along: BTreeSet<usize> = known
            .visible()
            .map(|(_, version)| version)
            .filter(|version| inside(version.stamp, stretch) && version.visible_since(began.at) && !is_poison(&version.record))
            .filter(|version| version.curse.is_none() && !book.excuses(memory, feed.tenant, feed.source, version))
            .map(|version| version.alert)
            .collect();
        let ever: BTreeSet<usize> = known
            .versions
            .iter()
            .filter(|version| inside(version.stamp, stretch) && version.shown.is_some())
            .filter(|version| version.replaced.is_none_or(|replaced| replaced >= began.at))
            .map(|version| version.alert)
            .collect();
        if !(all_along.len() as u64..=ever.len() as u64).contains(&at_source) {
            wrong.push(format!("says that {at_source} are at the source, and there were {} to {}", all_along.len(), ever.len()));
        }
        if let Some(gone) = all_along.iter().filter_map(|alert| known.showing[*alert]).find(|at| {
            let id = match &known.versions[*at].record {
                domain::Record::Alert(alert) => alert.id.as_str(),
                domain::Record::Incident(incident) => incident.id.as_str(),
                domain::Record::Poison(_) => return false,
            };
            told.ids[2].iter().any(|only_stored| only_stored == id)
        }) {
            wrong.push(format!("says that the source shows no more {}", describe(&known.versions[gone])));
        }
        for what in wrong {
            self.broken(Invariant::I4, now, format!("the comparison {errand} {} of {} {what}", row.now.run, feed.source));
        }
    }

    /// A command has asked for a re-read.
    pub(crate) fn asked(&mut self, feed: Feed, errand: Errand) {
        self.book(feed.tenant, feed.source).asked.insert(errand);
    }

    /// What was asked for and is not done.
    pub(crate) fn still_asked(&self, memory: &Memory) -> Option<String> {
        let open = |feed: Feed, errand: Errand| {
            let row = memory.tenants.get(&feed.tenant)?.rereads.get(&(feed.source, errand))?;
            row.finished_at.is_none().then(|| format!("{errand} {} of {} {}", row.now.run, feed.tenant.0, feed.source))
        };
        let asked = self
            .books
            .iter()
            .flat_map(|((tenant, source), book)| book.asked.iter().map(|errand| (Feed { tenant: *tenant, source: *source }, *errand)));
        asked.into_iter().find_map(|(feed, errand)| open(feed, errand))
    }

    /// At the end nothing is left in quarantine that was to be tried again and could have been stored (I6).
    pub(super) fn quarantine_is_tried_again(&mut self, memory: &Memory, world: &World, now: Ms, tally: &mut Tally) {
        let mut left = Vec::new();
        for (tenant, tables) in &memory.tenants {
            for ((source, hash), row) in &tables.quarantine {
                let Some(asked) = row.replay_at else { continue };
                tally.checked(Invariant::I6, 1);
                tally.add("replayed", u64::from(row.replayed_at.is_some()));
                let version = world.feeds.get(&(*tenant, *source)).and_then(|feed| Some(&feed.versions[feed.by_hash(*hash)?]));
                let understood = version.is_none_or(|version| !is_poison(&version.record));
                let tried = row.replayed_at.or(row.tried_at).is_some_and(|tried| tried >= asked);
                if !tried || (understood && row.replayed_at.is_none()) {
                    left.push(format!("{} {source}: {}", tenant.0, version.map(describe).unwrap_or_default()));
                }
            }
        }
        for what in left {
            self.broken(Invariant::I6, now, format!("asked to be tried again, and still in quarantine: {what}"));
        }
    }
}

fn inside(stamp: Option<Ticks>, stretch: Option<(Ticks, Ticks)>) -> bool {
    stamp.zip(stretch).is_some_and(|(stamp, (from, to))| from <= stamp && stamp < to)
}
