//! Draws what a seed contains.

use domain::rehearsal::Action;
use domain::{Audience, Errand, Source, TenantId};
use uuid::Uuid;

use super::{
    Ask, Blow, CloudFault, Compare, During, FAULTS_END, Links, Ordering, REPLICAS, Rotation, Scenario, Server, SignInFault, StoreFault,
    Tenant,
};
use crate::dice::Dice;
use crate::tally::{Fault, Tally};
use crate::time::{HOUR, MINUTE, Ms, SECOND, span};
use crate::world::{HISTORY, Recipe, World, make};

/// Every run begins at this time of the day.
const EIGHT: Ms = 8 * HOUR;

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
        interval: dice.pick(&[30 * SECOND, MINUTE]),
        compare: None,
        asks: Vec::new(),
        cloud: Vec::new(),
        sign_in: Vec::new(),
        store: Vec::new(),
        cut_off: Vec::new(),
        blows: Vec::new(),
        skews: [0; REPLICAS],
        slowness: dice.pick(&[0.0, 0.02, 0.1]),
        refuses_data: if dice.chance(0.1) { 0.02 } else { 0.0 },
        mended: None,
        points: Vec::new(),
        rehearsed: false,
    };
    troubles(&mut scenario, &dice);
    points(&mut scenario, &dice);
    comparisons(&mut scenario, &dice);
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
    use Ordering::{Accepted, Created, NewestFirst, Refused, Shuffled};
    let half = usize::try_from(page / 2).unwrap_or(4);
    let server = Server {
        ordering: dice.pick(&[Accepted, Accepted, Accepted, Accepted, NewestFirst, Shuffled, Created, Refused]),
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
    tally.fire_if(matches!(server.ordering, NewestFirst | Shuffled | Created), Fault::OrderIgnored);
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
    // Nobody sets the clock of a machine that sleeps: what it was set by would be told from its sleep by nothing at all.
    let sleeps: Vec<_> = scenario
        .blows
        .iter()
        .filter(|(_, _, blow)| matches!(blow, Blow::Suspend(_)))
        .map(|(at, replica, blow)| (*replica, *at..at + blow.lasts()))
        .collect();
    let asleep = |replica: usize, at: Ms| sleeps.iter().any(|(whose, sleep)| *whose == replica && sleep.contains(&at));
    scenario.blows.retain(|(at, replica, blow)| !matches!(blow, Blow::Step(_)) || !asleep(*replica, *at));
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

/// Draws whether the nightly comparison falls into the hour, and what operators ask for.
fn comparisons(scenario: &mut Scenario, dice: &Dice) {
    if dice.chance(0.4) {
        // Every feed begins at a time of its own within three hours. Who would have begun before the run does at once.
        let at = EIGHT + dice.range(-3 * HOUR, 50 * MINUTE);
        scenario.compare = Some(Compare { reach: dice.pick(&[2 * HOUR, 12 * HOUR]), at });
    }
    if scenario.refuses_data > 0.0 {
        scenario.mended = Some(dice.range(5 * MINUTE, FAULTS_END - 10 * MINUTE));
    }
    let feeds = scenario.tenants.iter().enumerate();
    let feeds: Vec<(usize, Source)> = feeds.flat_map(|(tenant, it)| it.sources.iter().map(move |source| (tenant, *source))).collect();
    for _ in 0..dice.below(3) {
        let (tenant, source) = dice.pick(&feeds);
        let errand = dice.pick(&[Errand::Backfill, Errand::Reconcile, Errand::Reconcile, Errand::Replay]);
        let end = if dice.chance(0.5) { 0 } else { dice.range(0, 2 * HOUR) };
        let stretch = (end + dice.range(MINUTE, 6 * HOUR), end);
        scenario.asks.push(Ask { at: dice.range(2 * MINUTE, FAULTS_END - 5 * MINUTE), tenant, source, errand, stretch });
    }
    // Somebody who has mended the store has what it refused tried again.
    let again = scenario.mended.into_iter().flat_map(|mended| {
        let ask = move |(tenant, source)| Ask { at: mended, tenant, source, errand: Errand::Replay, stretch: (0, 0) };
        feeds.iter().copied().map(ask)
    });
    scenario.asks.extend(again);
    scenario.asks.sort_by_key(|ask| ask.at);
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
