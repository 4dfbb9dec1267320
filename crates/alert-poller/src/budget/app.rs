//! How often one app may call, for all of its tenants together.
//!
//! Microsoft counts per app: an app is what its registration is called in the configuration, in the cloud of the tenant, since each
//! cloud is another Graph. Two names for one registration are counted apart: nobody here knows that they are one.
//!
//! Whoever calls joins a line and is told when it is his turn. So nobody fails and nobody is passed over: neither a tenant nor
//! a re-read, however many others come after. A feed has one poll and one re-read in it at most, so re-reads make a poll wait twice
//! as long at worst. Who has to wait for long gives up his place in the lane, and keeps his turn
//! ([`Allowance`](super::Allowance)): an app whose line is long holds up no tenant of another one.
//!
//! A limit of N calls in any period is kept as it is for a tenant: as a burst of a fifth and a steady rate of the rest. The limit is one
//! for all replicas, and each takes its part of it: the registry says how many there are with every set of tenants.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::{AppName, Audience, CloudName, HeldTenant, TenantSet};
use tokio::sync::watch;
use tokio::time::Instant;

use super::MINUTE;
use crate::config::Config;

/// Microsoft counts the calls to Graph in periods of this length.
const TEN_SECONDS: Duration = Duration::from_secs(10);

/// All apps: as many as the configuration has. None is ever forgotten, so that none has two bursts.
#[derive(Debug, Default)]
pub(crate) struct Apps(Vec<(CloudName, AppName, Arc<AppBudget>)>);

impl Apps {
    /// The budget of this tenant's app.
    pub(crate) fn of(&mut self, tenant: &HeldTenant, tenants: &watch::Receiver<Arc<TenantSet>>) -> Arc<AppBudget> {
        let known = self.0.iter().find(|(cloud, app, _)| *app == tenant.app && *cloud == tenant.cloud);
        if let Some((_, _, budget)) = known {
            return Arc::clone(budget);
        }
        let budget = Arc::new(AppBudget::new(tenants.clone()));
        self.0.push((tenant.cloud.clone(), tenant.app.clone(), Arc::clone(&budget)));
        budget
    }
}

/// The lines of one app.
#[derive(Debug)]
pub(crate) struct AppBudget {
    tenants: watch::Receiver<Arc<TenantSet>>,
    graph: Line,
    defender: Line,
}

/// When the next turn would be, if there were no bursts.
#[derive(Debug, Default)]
struct Line(Mutex<Option<Instant>>);

impl AppBudget {
    /// Unused yet; `tenants` says among how many replicas the limits are divided.
    fn new(tenants: watch::Receiver<Arc<TenantSet>>) -> Self {
        Self { tenants, graph: Line::default(), defender: Line::default() }
    }

    /// Joins the line for one call, and says when it is its turn: now, or later.
    pub(crate) fn turn(&self, audience: Audience, config: &Config) -> Instant {
        let (line, limit, period) = match audience {
            Audience::Graph => (&self.graph, config.app_graph_per_10s, TEN_SECONDS),
            Audience::Defender => (&self.defender, config.app_defender_per_minute, MINUTE),
        };
        let now = Instant::now();
        if limit == 0 {
            return now;
        }
        // Looked up each time: either may change while the line is long.
        let rate = Rate::of(limit, period, self.tenants.borrow().replicas.get());
        line.join(rate, now)
    }
}

/// What a limit comes to for one of several replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    /// So many calls may come at once.
    burst: u32,
    /// And after that one each.
    step: Duration,
}

impl Rate {
    fn of(limit: u32, period: Duration, replicas: u32) -> Self {
        let burst = (limit / 5).max(1);
        let steady = limit.saturating_sub(burst).max(1);
        let nanos = (period.as_nanos() * u128::from(replicas)).div_ceil(u128::from(steady));
        Self { burst: (burst / replicas).max(1), step: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)) }
    }
}

impl Line {
    fn join(&self, rate: Rate, now: Instant) -> Instant {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let steady = next.map_or(now, |next| next.max(now));
        *next = Some(steady + rate.step);
        // A burst is as far as one may go ahead of the steady rate.
        steady.checked_sub(rate.step * (rate.burst - 1)).map_or(now, |turn| turn.max(now))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn replicas(count: u32) -> (watch::Sender<Arc<TenantSet>>, AppBudget) {
        let set = TenantSet { replicas: NonZeroU32::new(count).expect("some"), ..TenantSet::empty(Instant::now()) };
        let (sender, tenants) = watch::channel(Arc::new(set));
        (sender, AppBudget::new(tenants))
    }

    fn most_within(turns: &[Instant], period: Duration) -> usize {
        let within = |index: usize| turns[index..].iter().take_while(|later| **later - turns[index] < period).count();
        (0..turns.len()).map(within).max().unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn no_ten_seconds_hold_more_calls_than_allowed_and_the_rate_is_reached() {
        for (limit, count) in [(1, 1), (4, 1), (50, 1), (1000, 1), (1000, 3), (130_000, 2)] {
            let (_sender, budget) = replicas(count);
            let config = Config { app_graph_per_10s: limit, ..Config::default() };
            let turns: Vec<_> = (0..limit * 3 / count).map(|_| budget.turn(Audience::Graph, &config)).collect();
            assert!(turns.is_sorted(), "first come, first served");
            let (most, share) = (most_within(&turns, TEN_SECONDS), usize::try_from(limit / count).expect("fits"));
            assert!(most <= share.max(1), "{most} within ten seconds, of {limit} for {count}");
            assert!(*turns.last().expect("some") - turns[0] <= TEN_SECONDS * 4, "of {limit} for {count}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_not_called_for_long_has_no_more_than_one_burst() {
        let (_sender, budget) = replicas(1);
        let config = Config { app_defender_per_minute: 60, ..Config::default() };
        for _ in 0..2 {
            let now = Instant::now();
            let at_once = (0..30).filter(|_| budget.turn(Audience::Defender, &config) == now).count();
            assert_eq!(at_once, 12);
            assert_eq!(budget.turn(Audience::Graph, &config), now, "another audience is another line");
            tokio::time::advance(Duration::from_secs(3600)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_more_and_a_limit_less_count_from_the_next_call_on() {
        let (sender, budget) = replicas(1);
        let config = |limit| Config { app_defender_per_minute: limit, ..Config::default() };
        let step = |limit| {
            let before = budget.turn(Audience::Defender, &config(limit));
            budget.turn(Audience::Defender, &config(limit)) - before
        };
        for _ in 0..100 {
            budget.turn(Audience::Defender, &config(75));
        }
        assert_eq!(step(75), Duration::from_secs(1));
        sender.send_modify(|set| Arc::make_mut(set).replicas = NonZeroU32::new(3).expect("some"));
        assert_eq!(Rate::of(75, MINUTE, 3), Rate { burst: 5, step: Duration::from_secs(3) });
        for _ in 0..20 {
            budget.turn(Audience::Defender, &config(75));
        }
        assert_eq!(step(75), Duration::from_secs(3));
        let now = Instant::now();
        assert!((0..1000).all(|_| budget.turn(Audience::Defender, &config(0)) == now), "no limit");
    }
}
