//! What one seed contains: tenants, how their sources behave, what goes wrong and when. All of it is drawn before
//! the run begins.

mod draw;

use domain::rehearsal::Action;
use domain::{Audience, Errand, Source, TenantId};

use crate::time::{HOUR, MINUTE, Ms, SECOND};

pub(crate) use draw::draw;

/// Faults are on until here; what is made is visible by then.
pub(crate) const FAULTS_END: Ms = HOUR;
/// Everything has to be well again within this.
pub(crate) const CONVERGE: Ms = 30 * MINUTE;
/// After the store went away, a replica may take so long to notice and to stop asking: a poll that is under way may
/// still wait for two answers that never come.
const NOTICES: Ms = 80 * SECOND;
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
    /// It answers in the order in which alerts were made, so that stamps of updates mostly rise.
    Created,
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

/// The nightly comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compare {
    /// How far back it compares.
    pub(crate) reach: Ms,
    /// When the first feeds begin, after midnight.
    pub(crate) at: Ms,
}

/// What an operator asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) at: Ms,
    pub(crate) tenant: usize,
    pub(crate) source: Source,
    pub(crate) errand: Errand,
    /// The stretch begins so long before, and ends so long before.
    pub(crate) stretch: (Ms, Ms),
}

/// Everything about one seed.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) page: u32,
    pub(crate) max_skip: u32,
    pub(crate) first_sync: Ms,
    /// Between two polls of a feed.
    pub(crate) interval: Ms,
    /// The comparison was last made a day ago, and is due again.
    pub(crate) compare: Option<Compare>,
    /// In order of time.
    pub(crate) asks: Vec<Ask>,
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
    /// From here on it takes what it had refused.
    pub(crate) mended: Option<Ms>,
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

    /// Since when this replica has had no store to write to for so long that it must have noticed, if that is so now.
    pub(crate) fn no_store_since(&self, replica: usize, now: Ms) -> Option<Ms> {
        let lasting = |what| matches!(what, StoreFault::Away | StoreFault::ReadOnly | StoreFault::Silent);
        let faults = self.store.iter().filter(|(whom, during)| whom.is_none_or(|whom| whom == replica) && lasting(during.what));
        let mut noticed = faults.map(|(_, during)| (during.from + NOTICES, during.to));
        let (since, _) = noticed.find(|(since, to)| (*since..*to).contains(&now))?;
        (!self.disturbed(replica, now)).then_some(since)
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
