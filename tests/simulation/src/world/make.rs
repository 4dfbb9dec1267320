//! Draws a feed: history, new alerts, updates, bursts of ties, late arrivals and odd records.

use bytes::Bytes;
use domain::{Record, Source, Ticks};

use super::body::{Broken, Said, spell};
use super::{Curse, Feed, Version};
use crate::dice::Dice;
use crate::tally::{Fault, Tally};
use crate::time::{HOUR, MINUTE, Ms, SECOND, TICKS, ticks};

/// What a feed is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    /// Which tenant, for the ids.
    pub(crate) tenant: usize,
    pub(crate) source: Source,
    /// Records on a page, which decides how large a burst has to be.
    pub(crate) page: usize,
    /// How far back there is history.
    pub(crate) history: Ms,
    /// New alerts in the hour.
    pub(crate) alerts: usize,
    /// Nothing appears after this.
    pub(crate) until: Ms,
    /// Whether there may be records that the source cannot give.
    pub(crate) cursed: bool,
}

struct Maker<'a> {
    recipe: Recipe,
    dice: &'a Dice,
    tally: &'a mut Tally,
    versions: Vec<Version>,
    timeline: Vec<(Ms, usize)>,
    ids: Vec<String>,
}

/// Draws a feed.
pub(crate) fn make(recipe: Recipe, dice: &Dice, tally: &mut Tally) -> Feed {
    let mut maker = Maker { recipe, dice, tally, versions: Vec::new(), timeline: Vec::new(), ids: Vec::new() };
    for _ in 0..dice.below(8) {
        maker.history();
    }
    for _ in 0..recipe.alerts {
        maker.alert();
    }
    if dice.chance(0.12) {
        maker.burst();
    }
    Feed::new(recipe.source, maker.versions, maker.ids.len(), maker.timeline)
}

impl Maker<'_> {
    /// Visible since long before the run.
    fn history(&mut self) {
        let created = self.dice.range(-self.recipe.history, -MINUTE);
        let alert = self.name();
        let updated = if self.dice.chance(0.3) { self.dice.range(created, -MINUTE / 2) } else { created };
        let stamp = self.stamp(updated);
        self.version(alert, Some(stamp), Some(ticks(created)), updated, None);
        if self.dice.chance(0.4) {
            self.updates(alert, created, 0);
        }
    }

    /// Made within the hour, and updated a few times or often.
    fn alert(&mut self) {
        let created = self.dice.range(0, self.recipe.until - 2 * MINUTE);
        let alert = self.name();
        let created_stamp = self.stamp(created);
        let odd = self.dice.range(0, 100);
        let broken = (odd < 5).then(|| self.dice.pick(&Broken::ALL));
        let stamp = match odd {
            5..=7 => None,
            8..=9 => Ticks::parse("9999-12-31T23:59:59.9999999Z"),
            _ => Some(created_stamp),
        };
        self.tally.fire_if(broken.is_some(), Fault::Poison);
        self.tally.fire_if(stamp.is_none(), Fault::NullStamp);
        self.tally.fire_if((8..=9).contains(&odd), Fault::Year9999);
        let shown = created + self.delay(created);
        let version = self.version(alert, stamp, Some(created_stamp), shown, broken);
        if self.recipe.cursed && self.dice.chance(0.04) && broken.is_none() && stamp == Some(created_stamp) {
            let curse = self.dice.pick(&[Curse::Fails, Curse::TooLarge]);
            self.versions[version].curse = Some(curse);
            self.tally.fire(if curse == Curse::Fails { Fault::RecordAlwaysFails } else { Fault::RecordTooLarge });
            return;
        }
        self.updates(alert, created, shown);
    }

    fn updates(&mut self, alert: usize, created: Ms, since: Ms) {
        let count = match self.dice.range(0, 20) {
            0 => self.dice.range(8, 24),
            1..=7 => self.dice.range(1, 5),
            _ => 0,
        };
        let created_stamp = self.versions.iter().find(|version| version.alert == alert).and_then(|version| version.created);
        let mut shown = since;
        let mut updated = created.max(0);
        for _ in 0..count {
            updated = self.dice.range(updated, (updated + 10 * MINUTE).min(self.recipe.until - MINUTE));
            let mut stamp = self.stamp(updated);
            if self.dice.chance(0.06) {
                // A lagging copy of the source shows an older state once more.
                stamp = self.stamp((updated - self.dice.range(SECOND, 8 * MINUTE)).max(created));
                self.tally.fire(Fault::OlderAfterNewer);
            }
            shown = (updated + self.delay(updated)).max(shown + 1);
            if shown >= self.recipe.until {
                return;
            }
            self.version(alert, Some(stamp), created_stamp, shown, None);
        }
        self.tally.fire_if(count > 0, Fault::Update);
    }

    /// Many alerts with one stamp, more than a page holds, sometimes more than can be reached at all.
    fn burst(&mut self) {
        let count = if self.dice.chance(0.3) { self.recipe.page * 4 } else { self.recipe.page + self.dice.below(self.recipe.page) };
        let created = self.dice.range(MINUTE, self.recipe.until - 10 * MINUTE);
        let stamp = self.stamp(created);
        let spread = if self.dice.chance(0.5) { 2 * SECOND } else { 90 * SECOND };
        for _ in 0..count {
            let alert = self.name();
            let shown = created + self.dice.range(0, spread);
            self.version(alert, Some(stamp), Some(stamp), shown, None);
        }
        self.tally.fire(Fault::Ties);
    }

    /// How long after its stamp it becomes visible.
    fn delay(&mut self, stamped: Ms) -> Ms {
        let delay = match self.dice.range(0, 20) {
            0..=14 => self.dice.range(0, 20 * SECOND),
            15..=17 => {
                self.tally.fire(Fault::LateWithinOverlap);
                self.dice.range(20 * SECOND, 13 * MINUTE)
            }
            _ => {
                self.tally.fire(Fault::LateBeyondOverlap);
                self.dice.range(13 * MINUTE, 40 * MINUTE)
            }
        };
        delay.min(self.recipe.until - SECOND - stamped).max(0)
    }

    /// A stamp in that millisecond, mostly with all seven digits.
    fn stamp(&self, at: Ms) -> Ticks {
        match self.dice.range(0, 10) {
            0 => ticks(at),
            1 => ticks(at - at.rem_euclid(SECOND)),
            _ => Ticks(ticks(at).0 + self.dice.range(0, TICKS)),
        }
    }

    /// A new alert with an id, which sometimes differs from another one only in case.
    fn name(&mut self) -> usize {
        let number = self.ids.len();
        let id = match self.recipe.source {
            Source::GraphIncidents => format!("{}", 100 + number),
            // Endpoint shows some of the alerts that Graph shows.
            Source::GraphAlerts | Source::MdeAlerts if number > 0 && self.dice.chance(0.05) => {
                self.tally.fire(Fault::IdsDifferInCase);
                let before = &self.ids[number - 1];
                let other = before.to_uppercase();
                if self.ids.contains(&other) { format!("da{}-{number}", self.recipe.tenant) } else { other }
            }
            Source::GraphAlerts | Source::MdeAlerts => format!("da{}-{number}", self.recipe.tenant),
        };
        self.ids.push(id);
        number
    }

    fn version(&mut self, alert: usize, stamp: Option<Ticks>, created: Option<Ticks>, shown: Ms, broken: Option<Broken>) -> usize {
        let Recipe { source, tenant, .. } = self.recipe;
        let mut words = [None; 3];
        for (word, (_, known)) in words.iter_mut().zip(microsoft::facets(source)) {
            *word = self.dice.chance(0.9).then(|| self.dice.pick(known));
        }
        let serial = self.versions.len();
        let said = Said {
            id: &self.ids[alert],
            updated: stamp,
            created,
            words,
            serial: serial + tenant * 100_000,
            incident: self.incident(alert),
            assignee: self.dice.pick(&[None, Some("Automation"), Some("somebody@example.com")]),
        };
        let raw = Bytes::from(spell(source, &said, broken, self.dice));
        let record = microsoft::extract::record(source, raw);
        let hash = match &record {
            Record::Alert(alert) => alert.hash,
            Record::Incident(incident) => incident.hash,
            Record::Poison(poison) => poison.hash,
        };
        let place = u32::try_from(self.dice.range(0, 1 << 30)).unwrap_or(0);
        self.versions.push(Version {
            record,
            hash,
            alert,
            stamp,
            created,
            words,
            place,
            curse: None,
            shown: None,
            replaced: None,
            stored: false,
            quarantined: false,
        });
        self.timeline.push((shown, serial));
        serial
    }

    /// The incident of an alert, which changes; for an incident the one it is merged into, always a later one.
    fn incident(&self, alert: usize) -> Option<u32> {
        let later = u32::try_from(alert).unwrap_or(0) + 1 + u32::try_from(self.dice.below(4)).unwrap_or(0);
        match self.recipe.source {
            Source::GraphIncidents => self.dice.chance(0.15).then_some(100 + later),
            Source::GraphAlerts | Source::MdeAlerts => self.dice.chance(0.8).then_some(99 + later),
        }
    }
}

/// History that a first contact reads back.
pub(crate) const HISTORY: Ms = 30 * HOUR;
