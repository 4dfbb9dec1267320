//! What one seed contains: tenants, how their sources behave, what goes wrong and when. All of it is drawn before
//! the run begins.

use domain::rehearsal::Action;
use domain::{Audience, Source, TenantId};
use uuid::Uuid;

use crate::dice::Dice;
use crate::tally::{Fault, Tally};
use crate::time::{HOUR, MINUTE, Ms, SECOND, span};
use crate::world::{HISTORY, Recipe, World, make};

/// Faults are on until here; what is made is visible by then.
pub(crate) const FAULTS_END: Ms = HOUR;
/// Everything has to be well again within this.
pub(crate) const CONVERGE: Ms = 30 * MINUTE;
/// How many replicas there are.
pub(crate) const REPLICAS: usize = 2;

/// What a source does when asked for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ordering {
    /// It obeys.
    Accepted,
    /// It answers newest first, whatever is asked.
    NewestFirst,
    /// It answers in no order.
    Shuffled,
    /// It answers 400.
    Refused,
}

/// What a page says about the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// Nothing.
    Absent,
    /// Where it is, when there is one.
    Present,
    /// Always something, also when nothing follows.
    Always,
    /// Itself.
    Looping,
    /// Another host.
    Foreign,
    /// What has expired by the time it is followed.
    Expired,
}

/// How one source of one tenant behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) ordering: Ordering,
    pub(crate) links: Links,
    /// The most it puts on a page, whatever it says.
    pub(crate) clamp: Option<usize>,
}

/// How the sign-in service treats one tenant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotation {
    /// A used refresh token that comes again revokes all of them.
    pub(crate) strict: bool,
    /// How often an answer holds a new refresh token.
    pub(crate) share: f64,
}

/// One tenant.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) sources: Vec<Source>,
    pub(crate) servers: Vec<Server>,
    pub(crate) rotation: Rotation,
    /// It stays healthy itself, so that what others do to it shows.
    pub(crate) healthy: bool,
}

/// What a source answers while a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloudFault {
    Hangs,
    Unavailable,
    Truncated,
    Throttled(Ms),
    Unauthorized,
    /// Every so-manieth answer fails.
    SomeFail(u64),
}

/// What the sign-in service answers while a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignInFault {
    Revoked,
    Interaction,
    App,
    Unavailable,
    AnswerLost,
    OddLife(i64),
}

/// What the store does while a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreFault {
    Away,
    Silent,
    ReadOnly,
    Contention,
    AnswersLost,
}

/// What happens to a process or its machine at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// It dies where it stands, and is started again after this.
    Crash(Ms),
    /// It is asked to stop, and started again after this.
    Stop(Ms),
    /// None of its tasks runs for so long.
    Freeze(Ms),
    /// The same for the whole machine: its monotonic clock stands still as well.
    Suspend(Ms),
    /// The machine's clock jumps.
    Step(Ms),
}

/// A stretch of time, and what holds in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct During<T> {
    pub(crate) from: Ms,
    pub(crate) to: Ms,
    pub(crate) what: T,
}

impl<T: Copy> During<T> {
    pub(crate) fn at(&self, now: Ms) -> Option<T> {
        (self.from <= now && now < self.to).then_some(self.what)
    }
}

/// Everything about one seed.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) page: u32,
    pub(crate) max_skip: u32,
    pub(crate) first_sync: Ms,
    /// By tenant, and whether of one audience only.
    pub(crate) cloud: Vec<(usize, Option<Audience>, During<CloudFault>)>,
    pub(crate) sign_in: Vec<(usize, During<SignInFault>)>,
    /// By replica; `None` concerns both.
    pub(crate) store: Vec<(Option<usize>, During<StoreFault>)>,
    /// A replica reaches neither the sources nor the sign-in service.
    pub(crate) cut_off: Vec<(usize, During<()>)>,
    /// By replica, in order of time.
    pub(crate) blows: Vec<(Ms, usize, Blow)>,
    /// Error of each replica's clock.
    pub(crate) skews: [Ms; REPLICAS],
    /// How often an answer takes its time.
    pub(crate) slowness: f64,
    /// How often the store refuses the data of a record, for good.
    pub(crate) refuses_data: f64,
    /// Points of the product act: where, what, and at which passing.
    pub(crate) points: Vec<(&'static str, Action, u64)>,
    /// There are such points.
    pub(crate) rehearsed: bool,
}

impl Scenario {
    /// How a source of a tenant behaves.
    pub(crate) fn server(&self, tenant: TenantId, source: Source) -> Option<Server> {
        let tenant = self.tenants.iter().find(|known| known.id == tenant)?;
        let place = tenant.sources.iter().position(|known| *known == source)?;
        tenant.servers.get(place).copied()
    }

    /// Whether something has befallen this replica's process or machine in the last minutes, or is about to end.
    pub(crate) fn disturbed(&self, replica: usize, now: Ms) -> bool {
        let blows = self.blows.iter().filter(|(_, whom, _)| *whom == replica);
        let struck = blows.map(|(at, _, blow)| (*at, at + blow.lasts() + 2 * MINUTE));
        self.rehearsed || struck.into_iter().any(|(from, to)| (from..to).contains(&now))
    }

    /// Whether nothing stands in the way of this replica, and nothing has for two minutes, as far as it is not the
    /// trouble of single tenants.
    pub(crate) fn calm(&self, replica: usize, now: Ms) -> bool {
        let near = |from: Ms, to: Ms| (from..to + 2 * MINUTE).contains(&now);
        let store = self.store.iter().any(|(whom, during)| whom.is_none_or(|whom| whom == replica) && near(during.from, during.to));
        let cut_off = self.cut_off.iter().any(|(whom, during)| *whom == replica && near(during.from, during.to));
        let app = self.sign_in.iter().any(|(_, during)| during.what == SignInFault::App && near(during.from, during.to));
        !(store || cut_off || app || self.disturbed(replica, now))
    }

    /// Whether transactions lose against others, or did until lately.
    pub(crate) fn contended(&self, now: Ms) -> bool {
        let contended = self.store.iter().filter(|(_, during)| during.what == StoreFault::Contention);
        contended.into_iter().any(|(_, during)| (during.from..during.to + 2 * MINUTE).contains(&now))
    }

    /// Whether the tenant is well, and another one is not.
    pub(crate) fn sick_neighbours(&self, tenant: TenantId, now: Ms) -> bool {
        let healthy = self.tenants.iter().any(|known| known.id == tenant && known.healthy);
        healthy && self.cloud.iter().any(|(_, _, during)| during.at(now).is_some())
    }
}

impl Blow {
    /// How long it keeps the process from working.
    fn lasts(self) -> Ms {
        match self {
            Self::Crash(lasts) | Self::Stop(lasts) | Self::Freeze(lasts) | Self::Suspend(lasts) => lasts,
            Self::Step(_) => 0,
        }
    }
}

/// Draws a seed's scenario and its world.
pub(crate) fn draw(seed: u64, tally: &mut Tally) -> (Scenario, World) {
    let dice = Dice::of(seed, 1);
    let page = dice.pick(&[10_u32, 20, 30, 40]);
    let first_sync = dice.pick(&[3 * HOUR, 26 * HOUR, HISTORY + HOUR]);
    let tenants: Vec<Tenant> = (0..dice.pick(&[2, 2, 2, 3, 3, 4])).map(|number| tenant(number, page, &dice, tally)).collect();
    let mut world = World::default();
    for (number, tenant) in tenants.iter().enumerate() {
        for (place, source) in tenant.sources.iter().enumerate() {
            let recipe = Recipe {
                tenant: number,
                source: *source,
                page: usize::try_from(page).unwrap_or(8),
                history: (first_sync - HOUR / 2).min(HISTORY),
                alerts: 1 + dice.below(10),
                until: FAULTS_END,
                cursed: dice.chance(0.2),
            };
            let stream = 100 + u64::try_from(number * 8 + place).unwrap_or(0);
            world.feeds.insert((tenant.id, *source), make(recipe, &Dice::of(seed, stream), tally));
        }
    }
    let mut scenario = Scenario {
        seed,
        tenants,
        page,
        max_skip: page * dice.pick(&[2, 3]),
        first_sync,
        cloud: Vec::new(),
        sign_in: Vec::new(),
        store: Vec::new(),
        cut_off: Vec::new(),
        blows: Vec::new(),
        skews: [0; REPLICAS],
        slowness: dice.pick(&[0.0, 0.02, 0.1]),
        refuses_data: if dice.chance(0.1) { 0.02 } else { 0.0 },
        points: Vec::new(),
        rehearsed: false,
    };
    troubles(&mut scenario, &dice);
    points(&mut scenario, &dice);
    for skew in &mut scenario.skews {
        if dice.chance(0.2) {
            *skew = dice.range(-10 * MINUTE, 10 * MINUTE);
            tally.fire(Fault::Skew);
        }
    }
    (scenario, world)
}

fn tenant(number: usize, page: u32, dice: &Dice, tally: &mut Tally) -> Tenant {
    const CHOICES: [&[Source]; 8] = [
        &[Source::GraphAlerts],
        &[Source::GraphAlerts],
        &[Source::GraphAlerts],
        &[Source::GraphIncidents],
        &[Source::GraphAlerts, Source::MdeAlerts],
        &[Source::MdeAlerts],
        &[Source::GraphAlerts, Source::GraphIncidents],
        &[Source::GraphAlerts, Source::MdeAlerts, Source::GraphIncidents],
    ];
    let sources = dice.pick(&CHOICES).to_vec();
    let servers = sources.iter().map(|_| server(page, dice, tally)).collect();
    let rotation = Rotation { strict: dice.chance(0.4), share: dice.pick(&[1.0, 1.0, 0.5]) };
    tally.fire_if(rotation.strict, Fault::StrictRotation);
    let number = u128::try_from(number).unwrap_or(0) + 1;
    Tenant { id: TenantId(Uuid::from_u128(number << 64)), sources, servers, rotation, healthy: number == 1 }
}

fn server(page: u32, dice: &Dice, tally: &mut Tally) -> Server {
    use Links::{Absent, Always, Expired, Foreign, Looping, Present};
    use Ordering::{Accepted, NewestFirst, Refused, Shuffled};
    let half = usize::try_from(page / 2).unwrap_or(4);
    let server = Server {
        ordering: dice.pick(&[Accepted, Accepted, Accepted, NewestFirst, Shuffled, Refused]),
        links: match dice.below(20) {
            0 => Always,
            1 => Looping,
            2..=3 => Foreign,
            4..=5 => Expired,
            6..=9 => Present,
            _ => Absent,
        },
        clamp: dice.chance(0.25).then(|| half + dice.below(half)),
    };
    tally.fire_if(matches!(server.ordering, NewestFirst | Shuffled), Fault::OrderIgnored);
    tally.fire_if(server.ordering == Refused, Fault::OrderRefused);
    tally.fire_if(server.clamp.is_some(), Fault::Clamp);
    server
}

/// Draws what goes wrong. Each kind comes in some of the seeds, so that faults meet in pairs, but not all at once.
fn troubles(scenario: &mut Scenario, dice: &Dice) {
    let tenants = scenario.tenants.len();
    let during = |lasts: Ms| {
        let from = dice.range(MINUTE, FAULTS_END - 2 * MINUTE);
        (from, (from + lasts).min(FAULTS_END))
    };
    for _ in 0..dice.below(4) {
        let tenant = dice.below(tenants);
        if scenario.tenants[tenant].healthy {
            continue;
        }
        let what = match dice.below(6) {
            0 => CloudFault::Hangs,
            1 => CloudFault::Unavailable,
            2 => CloudFault::Truncated,
            3 => CloudFault::Throttled(dice.pick(&[0, SECOND, 2_128, 30 * SECOND, 4 * MINUTE])),
            4 => CloudFault::Unauthorized,
            _ => CloudFault::SomeFail(u64::try_from(dice.range(2, 5)).unwrap_or(2)),
        };
        let audience = dice.pick(&[None, Some(Audience::Graph), Some(Audience::Defender)]);
        let (from, to) = during(dice.range(20 * SECOND, 12 * MINUTE));
        scenario.cloud.push((tenant, audience, During { from, to, what }));
    }
    let ten_years = dice.chance(0.04);
    if ten_years {
        // Ten years, said early enough for the hour that we believe it to be over when all is to be well.
        let what = CloudFault::Throttled(10 * 365 * 24 * HOUR);
        scenario.cloud.push((tenants - 1, None, During { from: 2 * MINUTE, to: 4 * MINUTE, what }));
    }
    for _ in 0..dice.below(3) {
        let tenant = dice.below(tenants);
        let what = match dice.below(6) {
            0 => SignInFault::Revoked,
            1 => SignInFault::Interaction,
            2 => SignInFault::App,
            3 => SignInFault::Unavailable,
            4 => SignInFault::AnswerLost,
            _ => SignInFault::OddLife(dice.pick(&[0, -5, 90, 3_000_000_000])),
        };
        if scenario.tenants[tenant].healthy && what != SignInFault::App {
            continue;
        }
        let (from, to) = during(dice.range(MINUTE, 15 * MINUTE));
        scenario.sign_in.push((tenant, During { from, to, what }));
    }
    for _ in 0..dice.below(3) {
        use StoreFault::{AnswersLost, Away, Contention, ReadOnly, Silent};
        let what = dice.pick(&[Away, Away, Silent, ReadOnly, Contention, AnswersLost]);
        let whom = if dice.chance(0.3) { Some(dice.below(REPLICAS)) } else { None };
        let (from, to) = during(dice.range(2 * SECOND, 6 * MINUTE));
        // One at a time, so that it is clear what the store does.
        if scenario.store.iter().all(|(_, other)| to <= other.from || other.to <= from) {
            scenario.store.push((whom, During { from, to, what }));
        }
    }
    if dice.chance(0.15) {
        let (from, to) = during(dice.range(30 * SECOND, 5 * MINUTE));
        scenario.cut_off.push((dice.below(REPLICAS), During { from, to, what: () }));
    }
    for _ in 0..dice.below(4) {
        let at = dice.range(SECOND, FAULTS_END - MINUTE);
        let blow = match dice.below(8) {
            0..=2 => Blow::Crash(dice.range(SECOND, 90 * SECOND)),
            3 => Blow::Stop(dice.range(SECOND, 60 * SECOND)),
            4 => Blow::Freeze(dice.range(40 * SECOND, 4 * MINUTE)),
            5 => Blow::Suspend(10 * MINUTE),
            // The wall-clock hour that a source may ask for at most would end two hours later on such a machine.
            _ if ten_years => Blow::Crash(SECOND),
            6 => Blow::Step(2 * HOUR),
            _ => Blow::Step(-2 * HOUR),
        };
        scenario.blows.push((at, dice.below(REPLICAS), blow));
    }
    scenario.blows.sort_by_key(|(at, replica, _)| (*at, *replica));
}

/// Points that a run of these rooms passes.
pub(crate) const PASSED: [&str; 18] = [
    "refresh.before-call",
    "refresh.answered",
    "refresh.before-save",
    "refresh.saved",
    "fetch.before-call",
    "fetch.answered",
    "deliver.before-slice",
    "deliver.acknowledged",
    "commit.begin",
    "commit.fence",
    "commit.looked-up",
    "commit.versions",
    "commit.latest",
    "cursor.before",
    "cursor.after",
    "commit.before",
    "commit.after",
    "cursor.read",
];

/// Draws which points act.
fn points(scenario: &mut Scenario, dice: &Dice) {
    if !dice.chance(0.35) {
        return;
    }
    for _ in 0..1 + dice.below(3) {
        let point = dice.pick(&PASSED);
        let action = match dice.below(5) {
            0 => Action::Error,
            1 => Action::Panic,
            2 | 3 => Action::Abort,
            _ => Action::Delay(span(dice.pick(&[2 * SECOND, 35 * SECOND, 70 * SECOND]))),
        };
        let often = match point {
            "refresh.before-call" | "refresh.answered" | "refresh.before-save" | "refresh.saved" => 30,
            "cursor.read" => 8,
            _ => 900,
        };
        scenario.points.push((point, action, u64::try_from(dice.range(1, often)).unwrap_or(1)));
    }
    scenario.rehearsed = true;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_drawn_the_same_twice_and_unlike_the_next() {
        let drawn = |seed| format!("{:?}", draw(seed, &mut Tally::default()));
        assert_eq!(drawn(5), drawn(5));
        assert_ne!(drawn(5), drawn(6));
    }

    #[test]
    fn everything_that_will_be_made_is_visible_when_the_faults_end() {
        for seed in 0..50 {
            let (_, mut world) = draw(seed, &mut Tally::default());
            for feed in world.feeds.values_mut() {
                feed.come_to(FAULTS_END);
                assert!(feed.versions.iter().all(|version| version.shown.is_some()), "seed {seed}");
            }
        }
    }
}
