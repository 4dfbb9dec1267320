//! What is true at Microsoft: alerts of every feed, each with all versions it will ever have and when each becomes
//! visible. The ledger against which everything that is stored is held.
//!
//! All of it is drawn before the run begins; only the hand of time moves. Every version has content of its own, so
//! that a loss or a mix-up is always visible.

pub(crate) mod body;
mod make;

use std::collections::{BTreeMap, BTreeSet};

use domain::{Axis, ContentHash, Record, Source, TenantId, Ticks};

use crate::time::Ms;

pub(crate) use make::{HISTORY, Recipe, make};

/// A record that the source cannot give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Curse {
    /// A page that would hold it always fails.
    Fails,
    /// A page that would hold it is larger than we take in, even alone.
    TooLarge,
}

/// One version of one alert or incident.
#[derive(Debug)]
pub(crate) struct Version {
    /// As the poller will get it: read once by the product's own reader out of the body.
    pub(crate) record: Record,
    /// Over the body.
    pub(crate) hash: ContentHash,
    /// Whose version it is, by place in [`Feed::showing`].
    pub(crate) alert: usize,
    /// What the source's filter on last update knows; a null matches no filter.
    pub(crate) stamp: Option<Ticks>,
    /// The same for creation.
    pub(crate) created: Option<Ticks>,
    /// Severity, status and product in the source's own words.
    pub(crate) words: [Option<&'static str>; 3],
    /// Decides the order among equals, and the whole order where the source knows none.
    pub(crate) place: u32,
    /// Why it cannot be had, if so.
    pub(crate) curse: Option<Curse>,
    /// Since when it is visible.
    pub(crate) shown: Option<Ms>,
    /// Since when another version is, in its place.
    pub(crate) replaced: Option<Ms>,
    /// It is committed.
    pub(crate) stored: bool,
    /// It is committed as something that could not be stored as what it is.
    pub(crate) quarantined: bool,
}

impl Version {
    /// The stamp on an axis.
    pub(crate) fn on(&self, axis: Axis) -> Option<Ticks> {
        match axis {
            Axis::Update => self.stamp,
            Axis::Creation => self.created,
        }
    }

    /// Visible now, and since no later than this.
    pub(crate) fn visible_since(&self, moment: Ms) -> bool {
        self.replaced.is_none() && self.shown.is_some_and(|shown| shown <= moment)
    }
}

/// One source of one tenant.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Which API.
    pub(crate) source: Source,
    /// Every version there will be.
    pub(crate) versions: Vec<Version>,
    /// By alert: the version that is visible.
    pub(crate) showing: Vec<Option<usize>>,
    /// When which version appears, in order.
    timeline: Vec<(Ms, usize)>,
    come_to: usize,
    by_hash: BTreeMap<ContentHash, usize>,
    /// Visible and not stored.
    pub(crate) missing: BTreeSet<usize>,
}

impl Feed {
    fn new(source: Source, versions: Vec<Version>, alerts: usize, mut timeline: Vec<(Ms, usize)>) -> Self {
        timeline.sort_unstable();
        let by_hash = versions.iter().enumerate().map(|(at, version)| (version.hash, at)).collect();
        Self { source, versions, showing: vec![None; alerts], timeline, come_to: 0, by_hash, missing: BTreeSet::new() }
    }

    /// Lets time come to `now`.
    pub(crate) fn come_to(&mut self, now: Ms) {
        while let Some((at, version)) = self.timeline.get(self.come_to).copied().filter(|(at, _)| *at <= now) {
            self.come_to += 1;
            let alert = self.versions[version].alert;
            if let Some(before) = self.showing[alert].replace(version) {
                self.versions[before].replaced = Some(at);
                self.missing.remove(&before);
            }
            let version_is = &mut self.versions[version];
            version_is.shown = Some(at);
            version_is.replaced = None;
            if !version_is.stored {
                self.missing.insert(version);
            }
        }
    }

    /// The version with this body, if the source ever had it.
    pub(crate) fn by_hash(&self, hash: ContentHash) -> Option<usize> {
        self.by_hash.get(&hash).copied()
    }

    /// It is committed: as a version, as the latest state, or in quarantine.
    pub(crate) fn note_stored(&mut self, version: usize) {
        self.versions[version].stored = true;
        self.missing.remove(&version);
    }

    /// What is visible now.
    pub(crate) fn visible(&self) -> impl Iterator<Item = (usize, &Version)> {
        self.showing.iter().flatten().map(|at| (*at, &self.versions[*at]))
    }
}

/// All feeds, by tenant and source.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// In order, so that nothing depends on chance.
    pub(crate) feeds: BTreeMap<(TenantId, Source), Feed>,
}

impl World {
    /// A feed, with time come to `now`.
    pub(crate) fn feed(&mut self, tenant: TenantId, source: Source, now: Ms) -> Option<&mut Feed> {
        let feed = self.feeds.get_mut(&(tenant, source))?;
        feed.come_to(now);
        Some(feed)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use domain::Poison;

    use super::*;

    fn version(alert: usize, name: &'static str) -> Version {
        let record = Record::Poison(Poison::new("a test", Bytes::from_static(name.as_bytes())));
        Version {
            hash: ContentHash::of(name.as_bytes()),
            record,
            alert,
            stamp: Some(Ticks(1)),
            created: None,
            words: [None; 3],
            place: 0,
            curse: None,
            shown: None,
            replaced: None,
            stored: false,
            quarantined: false,
        }
    }

    #[test]
    fn a_version_is_visible_from_its_time_until_the_next_one() {
        let mut feed = Feed::new(Source::GraphAlerts, vec![version(0, "a"), version(0, "b")], 1, vec![(20, 1), (10, 0)]);
        feed.come_to(9);
        assert_eq!(feed.visible().count(), 0);
        feed.come_to(10);
        assert!(feed.versions[0].visible_since(10) && !feed.versions[0].visible_since(9));
        assert_eq!(feed.missing, BTreeSet::from([0]));
        feed.come_to(25);
        assert_eq!((feed.versions[0].replaced, feed.showing[0]), (Some(20), Some(1)));
        assert_eq!(feed.missing, BTreeSet::from([1]), "what was replaced can no longer be asked for");
        let found = feed.by_hash(ContentHash::of(b"b"));
        feed.note_stored(found.unwrap());
        assert!(feed.missing.is_empty());
    }
}
