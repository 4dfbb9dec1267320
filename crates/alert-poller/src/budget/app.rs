//! How often one app may call, for all of its tenants together.
//!
//! Microsoft counts per app: an app is what its registration is called in the configuration, in the cloud of the tenant, since each
//! cloud is another Graph. Two names for one registration are counted apart: nobody here knows that they are one.
//!
//! Whoever calls joins a line ([`Line`]). A feed has one poll and one re-read in it at most, so re-reads make a poll wait twice as
//! long at worst. The limit is one for all replicas, and each takes its part of it: the registry says how many there are with every
//! set of tenants.

use std::sync::Arc;
use std::time::Duration;

use domain::{AppName, Audience, CloudName, HeldTenant, TenantSet};
use tokio::sync::watch;
use tokio::time::Instant;

use super::MINUTE;
use super::line::{Gate, Line, Rate};
use crate::config::Config;

/// A turn that was not used by so much later is lost once: of thousands of feeds many may come late together.
const TURN_LASTS: Duration = Duration::from_secs(1);
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

    /// The same under other limits: nobody waits in a line, and bursts are spent, since nobody knows how much of them was used.
    pub(crate) fn renewed(&self, config: &Config) -> Self {
        let renewed = self.0.iter().map(|(cloud, app, budget)| (cloud.clone(), app.clone(), Arc::new(budget.renewed(config))));
        Self(renewed.collect())
    }
}

/// The lines of one app.
#[derive(Debug)]
pub(crate) struct AppBudget {
    tenants: watch::Receiver<Arc<TenantSet>>,
    graph: Line,
    defender: Line,
}

impl AppBudget {
    /// Unused yet; `tenants` says among how many replicas the limits are divided.
    pub(super) fn new(tenants: watch::Receiver<Arc<TenantSet>>) -> Self {
        Self { tenants, graph: Line::default(), defender: Line::default() }
    }

    fn renewed(&self, config: &Config) -> Self {
        let (fresh, now) = (Self::new(self.tenants.clone()), Instant::now());
        for audience in [Audience::Graph, Audience::Defender] {
            fresh.gate(audience, config).into_iter().for_each(|gate| gate.spend_burst(now));
        }
        fresh
    }

    /// What each call goes through. `None`: there is no limit.
    pub(super) fn gate(&self, audience: Audience, config: &Config) -> Option<Gate<'_>> {
        let (line, limit, period) = match audience {
            Audience::Graph => (&self.graph, config.app_graph_per_10s, TEN_SECONDS),
            Audience::Defender => (&self.defender, config.app_defender_per_minute, MINUTE),
        };
        let rate = || Rate::shared(limit, period, self.tenants.borrow().replicas.get());
        (limit > 0).then(|| Gate { line, rate: rate(), kept_for: TURN_LASTS })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::super::line::tests::most_within;
    use super::*;

    fn replicas(count: u32) -> (watch::Sender<Arc<TenantSet>>, AppBudget) {
        let set = TenantSet { replicas: NonZeroU32::new(count).expect("some"), ..TenantSet::empty(Instant::now()) };
        let (sender, tenants) = watch::channel(Arc::new(set));
        (sender, AppBudget::new(tenants))
    }

    fn turn(budget: &AppBudget, audience: Audience, config: &Config) -> Instant {
        let now = Instant::now();
        budget.gate(audience, config).map_or(now, |gate| gate.join(now))
    }

    #[tokio::test(start_paused = true)]
    async fn no_ten_seconds_hold_more_calls_than_allowed_and_the_rate_is_reached() {
        for (limit, count) in [(1, 1), (4, 1), (50, 1), (1000, 1), (1000, 3), (130_000, 2)] {
            let (_sender, budget) = replicas(count);
            let config = Config { app_graph_per_10s: limit, ..Config::default() };
            let turns: Vec<_> = (0..limit * 3 / count).map(|_| turn(&budget, Audience::Graph, &config)).collect();
            assert!(turns.is_sorted(), "first come, first served");
            let (most, share) = (most_within(&turns, TEN_SECONDS), usize::try_from(limit / count).expect("fits"));
            assert!(most <= share.max(1), "{most} within ten seconds, of {limit} for {count}");
            assert!(*turns.last().expect("some") - turns[0] <= TEN_SECONDS * 4, "of {limit} for {count}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_audience_has_a_line_and_a_replica_more_and_a_limit_less_count_from_the_next_call_on() {
        let (sender, budget) = replicas(1);
        let config = |limit| Config { app_defender_per_minute: limit, ..Config::default() };
        let queue = |count, limit| (0..count).map(|_| turn(&budget, Audience::Defender, &config(limit))).max();
        let step = |limit| {
            let before = turn(&budget, Audience::Defender, &config(limit));
            turn(&budget, Audience::Defender, &config(limit)) - before
        };
        queue(100, 75);
        assert_eq!(turn(&budget, Audience::Graph, &config(75)), Instant::now(), "another audience is another line");
        assert_eq!(step(75), Duration::from_secs(1));
        sender.send_modify(|set| Arc::make_mut(set).replicas = NonZeroU32::new(3).expect("some"));
        queue(20, 75);
        assert_eq!(step(75), Duration::from_secs(3));
        assert!(budget.gate(Audience::Defender, &config(0)).is_none(), "no limit");
    }
}
