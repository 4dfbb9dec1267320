//! How often a tenant may be called, and until when it must not be.
//!
//! Microsoft counts per app and tenant, in minutes and (Defender for Endpoint) in hours, and per app over all of its tenants
//! ([`app`]). Each of these limits is a line ([`mod@line`]), and a call goes through one after the other, each joined when it is its turn
//! in the one before.
//!
//! Whoever has to wait for long gives up his place in the lane and comes back at his turn. If he comes late, because places are rare, a
//! tenant's line has kept it for him: he may call at once. So a limit of a tenant may be passed by one call for each poll and each re-read
//! that comes late, which are two for each source, and by no more.
//!
//! Re-reads are counted twice: first against a share of their own, then with everything else. So polling always has
//! the rest, whatever is being read again: a fifth of each minute, which is far more than a feed that is up to date
//! needs, and half of each hour, since an hour that is used up is missed for long. Where polling wants more than that, the two
//! take turns: a feed has one call of each kind in a line at most.

mod app;
mod line;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{Audience, Source};
use tokio::time::Instant;

pub(crate) use self::app::{AppBudget, Apps};
use self::line::{Gate, Line, Rate};
use crate::config::Config;
use crate::feed::Work;

/// No call is waited for in place for longer than this.
const SHORT_WAIT: Duration = Duration::from_millis(600);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Calls of one kind of work.
#[derive(Clone, Copy, Debug)]
struct Limits {
    graph_per_minute: u32,
    defender_per_minute: u32,
    defender_per_hour: u32,
}

impl Limits {
    /// All that is configured.
    fn whole(config: &Config) -> Self {
        let &Config { graph_per_minute, defender_per_minute, defender_per_hour, .. } = config;
        Self { graph_per_minute, defender_per_minute, defender_per_hour }
    }

    /// What re-reads may use of it.
    fn again(config: &Config) -> Self {
        let four_fifths = |limit: u32| u32::try_from(u64::from(limit) * 4 / 5).unwrap_or(limit).max(1);
        Self {
            graph_per_minute: four_fifths(config.graph_per_minute),
            defender_per_minute: four_fifths(config.defender_per_minute),
            defender_per_hour: (config.defender_per_hour / 2).max(1),
        }
    }
}

/// The lines of one kind of work.
#[derive(Debug, Default)]
struct Purse {
    graph: Line,
    defender_minute: Line,
    defender_hour: Line,
}

impl Purse {
    fn gates(&self, audience: Audience, limits: Limits) -> impl Iterator<Item = Gate<'_>> {
        let gate = |line, limit, period| Some(Gate { line, rate: Rate::of(limit, period), kept_for: Duration::MAX });
        let gates = match audience {
            Audience::Graph => [gate(&self.graph, limits.graph_per_minute, MINUTE), None],
            // The hour last: a turn there is worth the most.
            Audience::Defender => {
                [gate(&self.defender_minute, limits.defender_per_minute, MINUTE), gate(&self.defender_hour, limits.defender_per_hour, HOUR)]
            }
        };
        gates.into_iter().flatten()
    }
}

/// Somebody has left a line, and comes back when it is his turn.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The lines that he has come through before, where he is counted already.
    passed: usize,
    turn: Instant,
    /// He has lost a turn in this line already.
    lost_one: bool,
}

/// The other side has asked to be left alone until then. Whatever the limits are.
#[derive(Debug, Default)]
struct Blocked {
    graph: Mutex<Option<Instant>>,
    defender: Mutex<Option<Instant>>,
}

/// What one tenant may be asked.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    all: Purse,
    again: Purse,
    blocked: Arc<Blocked>,
    /// Who will come back.
    places: Mutex<BTreeMap<(Source, Work), Place>>,
}

impl Allowance {
    /// Waits until one more call may be made: by what this tenant may be asked, and then by what its app may.
    ///
    /// # Errors
    /// When to come back, if that is not soon: waiting is to cost no place that others need. His turn is kept for him.
    pub(crate) async fn come_through(&self, source: Source, work: Work, app: &AppBudget, config: &Config) -> Result<(), Duration> {
        let audience = source.audience();
        if let Some(wait) = self.left_alone(audience) {
            return Err(wait);
        }
        let leave = Instant::now() + SHORT_WAIT;
        let kept = self.places().remove(&(source, work));
        let gates = self.gates(audience, work, config).chain(app.gate(audience, config)).enumerate();
        for (passed, gate) in gates.skip(kept.map_or(0, |place| place.passed)) {
            let now = Instant::now();
            let here = kept.filter(|place| place.passed == passed);
            // Re-reads have few places and may come late each time, so they lose one turn only. Of polls thousands may come late at once.
            let once_only = work == Work::Again;
            let kept = here.filter(|place| once_only && place.lost_one || gate.keeps(place.turn, now));
            let turn = kept.map_or_else(|| gate.join(now), |place| place.turn);
            if turn > leave.max(now) {
                let lost_one = here.is_some_and(|place| place.lost_one || place.turn != turn);
                self.places().insert((source, work), Place { passed, turn, lost_one });
                return Err(turn - now);
            }
            if turn > now {
                tokio::time::sleep_until(turn).await;
            }
        }
        // Somebody else may have been told in the meantime.
        self.left_alone(audience).map_or(Ok(()), Err)
    }

    /// Who waits for his turn.
    pub(crate) fn waiting(&self) -> Vec<(Source, Work)> {
        self.places().keys().copied().collect()
    }

    /// The same tenant's under other limits: nobody waits in a line, and bursts are spent, since nobody knows how much of them was
    /// used; who has asked to be left alone still is.
    pub(crate) fn renewed(&self, config: &Config) -> Self {
        let fresh = Self { blocked: Arc::clone(&self.blocked), ..Self::default() };
        let now = Instant::now();
        for audience in [Audience::Graph, Audience::Defender] {
            fresh.gates(audience, Work::Again, config).for_each(|gate| gate.spend_burst(now));
        }
        fresh
    }

    /// What a call of this tenant goes through, one after the other.
    fn gates(&self, audience: Audience, work: Work, config: &Config) -> impl Iterator<Item = Gate<'_>> {
        let again = (work == Work::Again).then(|| self.again.gates(audience, Limits::again(config)));
        again.into_iter().flatten().chain(self.all.gates(audience, Limits::whole(config)))
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<(Source, Work), Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long the other side has asked to be left alone, if it has.
    pub(crate) fn left_alone(&self, audience: Audience) -> Option<Duration> {
        let until = *self.blocked(audience).lock().unwrap_or_else(PoisonError::into_inner);
        until.map(|until| until - Instant::now()).filter(|wait| !wait.is_zero())
    }

    /// Nothing is asked for so long.
    pub(crate) fn block(&self, audience: Audience, wait: Duration) {
        let until = Instant::now() + wait;
        let mut blocked = self.blocked(audience).lock().unwrap_or_else(PoisonError::into_inner);
        *blocked = (*blocked).max(Some(until));
    }

    fn blocked(&self, audience: Audience) -> &Mutex<Option<Instant>> {
        match audience {
            Audience::Graph => &self.blocked.graph,
            Audience::Defender => &self.blocked.defender,
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::TenantSet;
    use tokio::sync::watch;
    use tokio::time::{advance, sleep, timeout};

    use super::line::tests::most_within;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const GRAPH: Source = Source::GraphAlerts;
    const DEFENDER: Source = Source::MdeAlerts;

    /// An app without limits.
    fn free() -> (AppBudget, Config) {
        let (_, tenants) = watch::channel(Arc::new(TenantSet::empty(Instant::now())));
        (AppBudget::new(tenants), Config { app_graph_per_10s: 0, ..Config::default() })
    }

    /// Somebody who calls again so long after each call, and who comes so much too late when he has been told to come back.
    struct Habit {
        pause: Duration,
        late: Duration,
    }

    const EAGER: Habit = Habit { pause: Duration::ZERO, late: Duration::ZERO };
    const EVERY_SECOND: Habit = Habit { pause: SECOND, late: Duration::ZERO };

    /// Calls as often as he may until then.
    async fn calls(allowance: &Allowance, source: Source, work: Work, config: &Config, habit: &Habit, until: Instant) -> Vec<Instant> {
        let ((app, _), mut calls) = (free(), Vec::new());
        while Instant::now() < until {
            match allowance.come_through(source, work, &app, config).await {
                Ok(()) => {
                    calls.push(Instant::now());
                    sleep(habit.pause).await;
                }
                Err(wait) => sleep(wait + habit.late).await,
            }
        }
        calls
    }

    /// Whether somebody may call at once.
    async fn may(allowance: &Allowance, source: Source, work: Work, config: &Config) -> bool {
        let (app, _) = free();
        matches!(timeout(Duration::ZERO, allowance.come_through(source, work, &app, config)).await, Ok(Ok(())))
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_holds_for_one_audience_and_for_rereads_too_and_ends() {
        let (allowance, (app, config)) = (Allowance::default(), free());
        allowance.block(Audience::Graph, SECOND * 10);
        allowance.block(Audience::Graph, SECOND);
        for work in [Work::Live, Work::Again] {
            let told = allowance.come_through(GRAPH, work, &app, &config).await;
            assert_eq!(told, Err(SECOND * 10), "a shorter one does not shorten it");
        }
        assert!(may(&allowance, DEFENDER, Work::Live, &config).await);
        advance(SECOND * 10).await;
        assert!(may(&allowance, GRAPH, Work::Live, &config).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_his_turn_does_not_call_when_somebody_else_is_told_to_wait() {
        let (allowance, (app, config)) = (Allowance::default(), free());
        for _ in 0..30 {
            assert!(may(&allowance, GRAPH, Work::Live, &config).await);
        }
        let (told, ()) = tokio::join!(allowance.come_through(Source::GraphIncidents, Work::Live, &app, &config), async {
            tokio::task::yield_now().await;
            allowance.block(Audience::Graph, SECOND * 10);
        });
        assert!(told.is_err_and(|wait| wait > SECOND * 8), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_hour_of_defender_is_kept_too() {
        let (allowance, config) = (Allowance::default(), Config { defender_per_hour: 50, ..Config::default() });
        let end = Instant::now() + HOUR * 3;
        let calls = calls(&allowance, DEFENDER, Work::Live, &config, &EAGER, end).await;
        assert!(most_within(&calls, HOUR) <= 50 && most_within(&calls, SECOND) == 10, "{}", calls.len());
        assert!(calls.len() >= 3 * 40, "{} in three hours", calls.len());
    }

    #[tokio::test(start_paused = true)]
    async fn rereads_never_use_more_than_their_share_and_polling_always_has_room() {
        let (allowance, config) = (Allowance::default(), Config { graph_per_minute: 100, ..Config::default() });
        let end = Instant::now() + MINUTE * 5;
        let (again, ()) = tokio::join!(calls(&allowance, GRAPH, Work::Again, &config, &EAGER, end), async {
            // Polling asks now and then, and is never told to wait.
            while Instant::now() < end {
                assert!(may(&allowance, GRAPH, Work::Live, &config).await, "{:?} before the end", end - Instant::now());
                sleep(SECOND * 5).await;
            }
        });
        assert!(most_within(&again, MINUTE) <= 80, "{} calls in a minute", most_within(&again, MINUTE));
        assert!(again.len() >= 300, "{} calls in five minutes", again.len());
    }

    #[tokio::test(start_paused = true)]
    async fn polling_that_wants_everything_leaves_rereads_their_turns() {
        for (source, other, period, limit) in [(GRAPH, Source::GraphIncidents, MINUTE, 60_usize), (DEFENDER, GRAPH, HOUR, 1500)] {
            let (allowance, config) = (Allowance::default(), Config { graph_per_minute: 60, ..Config::default() });
            let end = Instant::now() + period * 5;
            let (polls, again, further) = tokio::join!(
                calls(&allowance, source, Work::Live, &config, &EVERY_SECOND, end),
                calls(&allowance, source, Work::Again, &config, &EAGER, end),
                calls(&allowance, other, Work::Again, &config, &EAGER, end),
            );
            let mut all: Vec<_> = polls.iter().chain(&again).copied().collect();
            if other.audience() == source.audience() {
                all.extend(further);
            }
            all.sort_unstable();
            assert!(most_within(&all, period) <= limit, "{source}: {} in {period:?}", most_within(&all, period));
            assert!(all.len() * 10 >= limit * 5 * 4 / 5 * 9, "{source}: of what is allowed {} in {:?} are used", all.len(), period * 5);
            let least = all.len() / 4;
            assert!(polls.len() >= least && again.len() >= least, "{source}: {} polls, {}", polls.len(), again.len());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_always_comes_late_for_his_turn_calls_all_the_same_and_hardly_more_than_allowed() {
        for late in [SECOND / 2, SECOND * 2, SECOND * 5, MINUTE] {
            for (source, period, limit) in [(GRAPH, MINUTE, 6_usize), (DEFENDER, HOUR, 1500)] {
                let (allowance, config) = (Allowance::default(), Config { graph_per_minute: 6, ..Config::default() });
                let (habit, end) = (Habit { pause: Duration::ZERO, late }, Instant::now() + HOUR * 3);
                let (polls, again) = tokio::join!(
                    calls(&allowance, source, Work::Live, &config, &habit, end),
                    calls(&allowance, source, Work::Again, &config, &habit, end),
                );
                for (what, calls) in [("polls", &polls), ("re-reads", &again)] {
                    let least = (HOUR * 3).as_secs() / (late.as_secs() + 30);
                    assert!(calls.len() as u64 > least, "{source}, {late:?} late: {} {what} in three hours", calls.len());
                }
                let mut all: Vec<_> = polls.into_iter().chain(again).collect();
                all.sort_unstable();
                assert!(most_within(&all, period) <= limit + 2, "{source}, {late:?} late: {}", most_within(&all, period));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn other_limits_give_no_second_burst_and_forget_no_block() {
        let (mut allowance, config) = (Allowance::default(), Config::default());
        allowance.block(Audience::Defender, MINUTE);
        while may(&allowance, GRAPH, Work::Live, &config).await {}
        for graph_per_minute in [5, 150, 1, 600] {
            allowance = allowance.renewed(&Config { graph_per_minute, ..Config::default() });
        }
        let (more, end) = (Config { graph_per_minute: 600, ..Config::default() }, Instant::now() + SECOND * 10);
        let calls = calls(&allowance, GRAPH, Work::Live, &more, &EAGER, end).await;
        assert!((75..=81).contains(&calls.len()), "480 a minute, steadily: {}", calls.len());
        assert_eq!(allowance.left_alone(Audience::Defender), Some(SECOND * 50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reread_that_has_lost_a_turn_in_the_line_of_its_app_keeps_the_next() {
        let (_, tenants) = watch::channel(Arc::new(TenantSet::empty(Instant::now())));
        let (app, config) = (AppBudget::new(tenants), Config { app_graph_per_10s: 10, ..Config::default() });
        let gate = app.gate(Audience::Graph, &config).expect("there is a limit");
        let allowance = Allowance::default();
        let mut waits = Vec::new();
        loop {
            // The line is always long, and it always comes late.
            while gate.join(Instant::now()) < Instant::now() + SECOND * 5 {}
            match allowance.come_through(GRAPH, Work::Again, &app, &config).await {
                Ok(()) => break,
                Err(wait) => waits.push(wait),
            }
            assert!(waits.len() <= 2, "{waits:?}");
            advance(*waits.last().expect("one") + SECOND * 2).await;
        }
        assert!(waits.len() == 2 && waits[1] > SECOND, "{waits:?}");
    }
}
