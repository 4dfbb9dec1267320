//! What is checked while nothing happens, and at the end.

use domain::{Source, TenantId};

use super::commit::is_poison;
use super::{Checker, describe};
use crate::store::Memory;
use crate::tally::{Invariant, Tally};
use crate::time::{MINUTE, Ms};
use crate::world::World;

/// That a feed is blind is to be seen within this.
const TOLD: Ms = MINUTE;

impl Checker {
    /// A feed that nobody has read for three intervals is reported (I24). `told` says what else there is to see of a tenant.
    pub(crate) fn nobody_is_blind_in_silence(&mut self, interval: Ms, now: Ms, tally: &mut Tally, told: impl Fn(TenantId) -> bool) {
        let mut silent = Vec::new();
        let blind = 3 * interval;
        for ((tenant, source), book) in &mut self.books {
            if now - book.last_success <= blind {
                book.silent_since = None;
                continue;
            }
            let news = book.last_bad_news.is_some_and(|at| at >= book.last_success);
            if news || told(*tenant) {
                tally.checked(Invariant::I24, 1);
                book.silent_since = None;
            } else if now - *book.silent_since.get_or_insert(now) > TOLD {
                tally.checked(Invariant::I24, 1);
                silent.push((*tenant, *source, book.last_success));
            }
        }
        for (tenant, source, since) in silent {
            self.broken(Invariant::I24, now, format!("{} {source} is blind since {since} and nobody is told", tenant.0));
        }
    }

    /// A feed of which no poll has come to a good end since then.
    pub(crate) fn not_caught_up_since(&self, since: Ms, world: &World) -> Option<String> {
        let behind = |key: &&(TenantId, Source)| self.books.get(*key).is_none_or(|book| book.last_success <= since);
        world.feeds.keys().find(behind).map(|(tenant, source)| format!("{} {source}", tenant.0))
    }

    /// What is visible and not stored although it should be.
    pub(crate) fn still_missing(&self, memory: &Memory, world: &World) -> Option<String> {
        for ((tenant, source), feed) in &world.feeds {
            let Some(book) = self.books.get(&(*tenant, *source)) else { return Some(format!("{} {source} was never read", tenant.0)) };
            let lost = feed.missing.iter().find(|at| !book.excuses(memory, *tenant, *source, &feed.versions[**at]));
            if let Some(at) = lost {
                return Some(format!("{} {source}: {}", tenant.0, describe(&feed.versions[*at])));
            }
        }
        None
    }

    /// The last word: everything visible is stored, poison included, and nothing is there twice.
    pub(crate) fn at_the_end(&mut self, memory: &Memory, world: &World, now: Ms, restarts: u64, tally: &mut Tally) {
        for feed in world.feeds.values() {
            tally.checked(Invariant::I4, feed.visible().count() as u64);
            let poison = feed.visible().filter(|(_, version)| is_poison(&version.record)).count();
            tally.checked(Invariant::I6, poison as u64);
            tally.add("versions_made", feed.versions.len() as u64);
            tally.add("versions_stored", feed.versions.iter().filter(|version| version.stored).count() as u64);
        }
        if let Some(lost) = self.still_missing(memory, world) {
            let invariant = if restarts > 0 { Invariant::I33 } else { Invariant::I4 };
            self.broken(invariant, now, format!("not stored at the end: {lost}"));
            tally.add("lost", 1);
        }
        tally.checked(Invariant::I33, u64::from(restarts > 0));
        self.quarantine_is_tried_again(memory, world, now, tally);
        for (tenant, tables) in &memory.tenants {
            tally.add("gaps_open", tables.gaps.values().filter(|gap| gap.healed_at.is_none()).count() as u64);
            for (source, by_id) in &tables.versions {
                for (id, rows) in by_id {
                    tally.checked(Invariant::I3, rows.len() as u64);
                    let mut bodies: Vec<_> = rows.iter().map(|row| (row.hash, row.filed)).collect();
                    bodies.sort_unstable();
                    bodies.dedup();
                    if bodies.len() != rows.len() {
                        self.broken(Invariant::I3, now, format!("{} {source} {id} has a version twice", tenant.0));
                    }
                }
            }
        }
    }
}
