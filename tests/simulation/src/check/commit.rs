//! What is checked at every commit.

use domain::{Record, Source, TenantId, Ticks};
use sink::store::JUDGED;

use super::{Checker, describe};
use crate::process::Process;
use crate::store::{Effects, Memory};
use crate::tally::{Invariant, Tally};
use crate::time::{HOUR, Ms, SECOND, ticks};
use crate::world::World;

/// How far ahead of the present an update stamp may lie and still say how new a version is.
const BELIEVED_AHEAD: Ms = 30 * 24 * HOUR;

/// Which version is newer: by its stamp, if that is one to believe, and by how loudly its source speaks.
pub(super) fn ranked((stamp, source): (i64, i16), now: Ms) -> (i64, i16) {
    let believed = Ticks(stamp) <= ticks(now.saturating_add(BELIEVED_AHEAD));
    (if believed { stamp } else { i64::MIN }, source)
}

impl Checker {
    /// A transaction is committed.
    pub(crate) fn committed(
        &mut self,
        process: &Process,
        memory: &Memory,
        effects: &Effects,
        now: Ms,
        world: &mut World,
        tally: &mut Tally,
    ) {
        let Some(tenant) = effects.tenant else { return };
        // Only who holds the lease writes (I7).
        tally.checked(Invariant::I7, 1);
        let lease = memory.leases.get(&tenant);
        let claimed_by = lease.map(|lease| lease.claimed_by);
        if claimed_by != Some(process.serial) {
            self.broken(Invariant::I7, now, format!("process {} commits, {claimed_by:?} has the lease", process.serial));
        }
        if let Some((epoch, fence)) = lease.map(|lease| lease.epoch).zip(effects.fence).filter(|(epoch, fence)| *epoch != fence.epoch.0) {
            self.broken(Invariant::I7, now, format!("commits under epoch {}, it is {epoch}", fence.epoch.0));
        }
        self.bodies(effects, now, world, tally);
        self.states(tenant, memory, effects, now, tally);
        self.incidents(tenant, effects, now, tally);
        if let Some((feed, live_from)) = effects.began {
            let book = self.book(feed.tenant, feed.source);
            book.watermark = Some(live_from);
            book.readings
                .values_mut()
                .filter(|reading| reading.watermark.is_none())
                .for_each(|reading| reading.watermark = Some(live_from));
        }
        self.cursor(process, memory, effects, now, world, tally);
        for (feed, errand) in &effects.rereads {
            self.reread(process, *feed, *errand, memory, now, world, tally);
        }
        self.counted(memory, effects);
        for (feed, errand) in &effects.rereads {
            self.comparison(*feed, *errand, memory, now, world, tally);
        }
    }

    /// Every body stored is one that the source gave (I5), and is stored for the first time (I3).
    fn bodies(&mut self, effects: &Effects, now: Ms, world: &mut World, tally: &mut Tally) {
        tally.checked(Invariant::I3, effects.versions.len() as u64);
        tally.checked(Invariant::I5, effects.versions.len() as u64);
        for (feed, id, hash) in &effects.versions {
            let Some(at) = world.feeds.get(&(feed.tenant, feed.source)).and_then(|known| known.by_hash(*hash)) else {
                self.broken(Invariant::I5, now, format!("{id} of {} is stored with a body that it never had", feed.source));
                continue;
            };
            let Some(known) = world.feed(feed.tenant, feed.source, now) else { continue };
            let version = &known.versions[at];
            if version.stored && !version.quarantined {
                self.broken(Invariant::I3, now, format!("{} is stored twice", describe(version)));
            }
            known.versions[at].quarantined = false;
            known.note_stored(at);
        }
        for (feed, hash) in &effects.quarantined {
            let Some(known) = world.feed(feed.tenant, feed.source, now) else { continue };
            let Some(at) = known.by_hash(*hash) else {
                self.broken(Invariant::I6, now, format!("something is in quarantine that {} never sent", feed.source));
                continue;
            };
            tally.checked(Invariant::I6, 1);
            known.versions[at].quarantined |= !known.versions[at].stored;
            known.note_stored(at);
        }
        for (id, hash, ..) in &effects.incidents {
            let Some(known) = effects.tenant.and_then(|tenant| world.feed(tenant, Source::GraphIncidents, now)) else { continue };
            match known.by_hash(*hash) {
                Some(at) => known.note_stored(at),
                None => self.broken(Invariant::I5, now, format!("incident {id} is stored with a body that it never had")),
            }
        }
    }

    /// Versions, latest state, count and events of one transaction appear together (I2), and the latest state is the
    /// newest of the versions (I5).
    fn states(&mut self, tenant: TenantId, memory: &Memory, effects: &Effects, now: Ms, tally: &mut Tally) {
        let Some(tables) = memory.tenants.get(&tenant) else { return };
        for id in effects.versions.iter().map(|(_, id, _)| id).chain(effects.latest.iter().map(|(id, _)| id)) {
            tally.checked(Invariant::I2, 1);
            tally.checked(Invariant::I5, 1);
            let Some(row) = tables.alerts.get(id) else {
                self.broken(Invariant::I2, now, format!("{id} has versions and no latest state"));
                continue;
            };
            let (mut count, mut newest) = (0, (i64::MIN, i16::MIN));
            for version in tables.all_versions_of(id) {
                count += 1;
                newest = newest.max(ranked(version.rank, now));
            }
            if row.versions != count {
                self.broken(Invariant::I2, now, format!("{id} counts {} versions and has {count}", row.versions));
            }
            let stands = tables.versions_of(row.source, id).iter().find(|version| version.hash == row.hash && version.filed == row.filed);
            if stands.map(|version| ranked(version.rank, now)) != Some(newest) {
                self.broken(Invariant::I5, now, format!("the latest state of {id} is not its newest version"));
            }
        }
        for (id, before) in &effects.latest {
            let Some((before, row)) = before.as_ref().zip(tables.alerts.get(id)) else { continue };
            for (place, field) in JUDGED.iter().enumerate() {
                tally.checked(Invariant::I2, 1);
                let seen = || effects.events.iter().any(|(alert, what, new)| alert == id && what == field && *new == row.judged[place]);
                if before[place] != row.judged[place] && !seen() {
                    self.broken(Invariant::I2, now, format!("{field} of {id} changed without an event"));
                }
            }
        }
        for source in Source::ALL {
            for (_, id, _) in effects.versions.iter().filter(|(feed, ..)| feed.source == *source) {
                let mut numbers: Vec<i32> = tables.versions_of(*source, id).iter().map(|version| version.number).collect();
                numbers.sort_unstable();
                if numbers.iter().zip(1..).any(|(number, expected)| *number != expected) {
                    self.broken(Invariant::I3, now, format!("the versions of {id} are numbered {numbers:?}"));
                }
            }
        }
    }

    /// An older state of an incident never takes the place of a newer one (I5).
    fn incidents(&mut self, tenant: TenantId, effects: &Effects, now: Ms, tally: &mut Tally) {
        for (id, _, _, carries) in &effects.incidents {
            tally.checked(Invariant::I5, 1);
            let book = self.book(tenant, Source::GraphIncidents);
            let (carries, _) = ranked((*carries, 0), now);
            let before = book.incidents.insert(id.clone(), carries);
            if before.is_some_and(|before| before > carries) {
                self.broken(Invariant::I5, now, format!("an older state of incident {id} took the place of a newer one"));
            }
        }
    }

    /// The cursor passes nothing that is not stored, and never the present (I1).
    fn cursor(&mut self, process: &Process, memory: &Memory, effects: &Effects, now: Ms, world: &mut World, tally: &mut Tally) {
        let Some((feed, before, watermark)) = effects.cursor else { return };
        let Some(known) = world.feed(feed.tenant, feed.source, now) else { return };
        let book = self.books.entry((feed.tenant, feed.source)).or_default();
        tally.checked(Invariant::I1, 1);
        let mut wrong = None;
        if book.watermark != before {
            wrong = Some(format!("the watermark moved behind our back: {before:?}, not {:?}", book.watermark));
        }
        book.watermark = Some(watermark);
        if watermark > ticks(now + SECOND) {
            wrong = Some(format!("the watermark of {} is in the future: {watermark}", feed.source));
        }
        if let Some((began, start)) = book.readings.get(&process.serial).and_then(|reading| reading.walk) {
            tally.add("cursor_moves_held_against_a_walk", 1);
            let lost = known.missing.iter().find(|at| {
                let version = &known.versions[**at];
                version.stamp.is_some_and(|stamp| start <= stamp && stamp < watermark)
                    && version.visible_since(began)
                    && !book.excuses(memory, feed.tenant, feed.source, version)
            });
            if let Some(at) = lost {
                let version = describe(&known.versions[*at]);
                wrong = Some(format!("the watermark of {} passes to {watermark} over {version} (walk began {began})", feed.source));
            }
        }
        if let Some(wrong) = wrong {
            self.broken(Invariant::I1, now, wrong);
        }
    }
}

/// Whether a record is one that cannot be understood.
pub(super) fn is_poison(record: &Record) -> bool {
    matches!(record, Record::Poison(_))
}
