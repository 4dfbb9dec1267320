//! How often a tenant may be called, and until when it must not be.
//!
//! Microsoft counts per app and tenant, in minutes and (Defender for Endpoint) in hours, and per app over all of its tenants
//! ([`app`]). Each of these limits is a line ([`mod@line`]), and a call goes through one after the other, each joined when it is its turn
//! in the one before.
//!
//! Re-reads are counted twice: first against a share of their own, then with everything else. So polling always has
//! the rest, whatever is being read again: a fifth of each minute, which is far more than a feed that is up to date
//! needs, and half of each hour, since an hour that is used up is missed for long. Where polling wants more than that, the two
//! take turns: a feed has one call of each kind in a line at most.

mod app;
mod line;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{Audience, Source};
use tokio::time::Instant;

pub(crate) use self::app::{AppBudget, Apps};
use self::line::{Line, Rate};
use crate::config::Config;
use crate::feed::Work;

/// A turn that is nearer than this is waited for in place.
const SHORT_WAIT: Duration = Duration::from_millis(600);
/// A turn that was not used by so much later is lost: others would have to make way for it.
const TURN_LASTS: Duration = Duration::from_secs(1);
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
    fn lines(&self, audience: Audience, limits: Limits) -> impl Iterator<Item = (&Line, Rate)> {
        let lines = match audience {
            Audience::Graph => [Some((&self.graph, Rate::of(limits.graph_per_minute, MINUTE))), None],
            // The hour last: a turn that is missed there is missed for long.
            Audience::Defender => [
                Some((&self.defender_minute, Rate::of(limits.defender_per_minute, MINUTE))),
                Some((&self.defender_hour, Rate::of(limits.defender_per_hour, HOUR))),
            ],
        };
        lines.into_iter().flatten()
    }
}

/// Somebody has left a line, and comes back when it is his turn.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The lines that he has come through before, where he is counted already.
    passed: usize,
    turn: Instant,
}

/// What one tenant may be asked.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    all: Purse,
    again: Purse,
    /// The other side has asked to be left alone until then.
    graph_blocked: Mutex<Option<Instant>>,
    defender_blocked: Mutex<Option<Instant>>,
    /// Who will come back.
    places: Mutex<BTreeMap<(Source, Work), Place>>,
}

impl Allowance {
    /// Waits until one more call may be made: by what this tenant may be asked, and then by what its app may.
    ///
    /// # Errors
    /// When to come back, if that is not now. Whoever does is not passed over: his turn is kept, so that waiting costs him no place
    /// that others need.
    pub(crate) async fn come_through(&self, source: Source, work: Work, app: &AppBudget, config: &Config) -> Result<(), Duration> {
        let audience = source.audience();
        if let Some(wait) = self.left_alone(audience) {
            return Err(wait);
        }
        let kept = self.places().remove(&(source, work)).filter(|place| Instant::now() <= place.turn + TURN_LASTS);
        let lines = self.lines(audience, work, config).chain(app.line(audience, config)).enumerate();
        for (passed, (line, rate)) in lines.skip(kept.map_or(0, |place| place.passed)) {
            let kept = kept.filter(|place| place.passed == passed).map(|place| place.turn);
            let turn = kept.unwrap_or_else(|| line.join(rate, Instant::now()));
            let wait = turn.saturating_duration_since(Instant::now());
            if wait > SHORT_WAIT {
                self.places().insert((source, work), Place { passed, turn });
                return Err(wait);
            }
            if !wait.is_zero() {
                tokio::time::sleep_until(turn).await;
            }
        }
        // Somebody else may have been told in the meantime.
        self.left_alone(audience).map_or(Ok(()), Err)
    }

    /// The tenant's own lines, in the order in which they are gone through.
    fn lines(&self, audience: Audience, work: Work, config: &Config) -> impl Iterator<Item = (&Line, Rate)> {
        let again = (work == Work::Again).then(|| self.again.lines(audience, Limits::again(config)));
        again.into_iter().flatten().chain(self.all.lines(audience, Limits::whole(config)))
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
            Audience::Graph => &self.graph_blocked,
            Audience::Defender => &self.defender_blocked,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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

    /// Calls as often as he may until then, with a pause after each.
    async fn calls(allowance: &Allowance, source: Source, work: Work, config: &Config, pause: Duration, until: Instant) -> Vec<Instant> {
        let ((app, _), mut calls) = (free(), Vec::new());
        while Instant::now() < until {
            match allowance.come_through(source, work, &app, config).await {
                Ok(()) => {
                    calls.push(Instant::now());
                    sleep(pause).await;
                }
                Err(wait) => sleep(wait).await,
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
        let calls = calls(&allowance, DEFENDER, Work::Live, &config, Duration::ZERO, end).await;
        assert!(most_within(&calls, HOUR) <= 50 && most_within(&calls, SECOND) == 10, "{}", calls.len());
        assert!(calls.len() >= 3 * 40, "{} in three hours", calls.len());
    }

    #[tokio::test(start_paused = true)]
    async fn rereads_never_use_more_than_their_share_and_polling_always_has_room() {
        let (allowance, config) = (Allowance::default(), Config { graph_per_minute: 100, ..Config::default() });
        let end = Instant::now() + MINUTE * 5;
        let (again, ()) = tokio::join!(calls(&allowance, GRAPH, Work::Again, &config, Duration::ZERO, end), async {
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
        for (source, other, period, limit) in [(GRAPH, Source::GraphIncidents, MINUTE, 60), (DEFENDER, DEFENDER, HOUR, 1500)] {
            let (allowance, config) = (Allowance::default(), Config { graph_per_minute: 60, ..Config::default() });
            let end = Instant::now() + period * 5;
            let (one, two, three) = tokio::join!(
                calls(&allowance, source, Work::Live, &config, SECOND, end),
                calls(&allowance, other, Work::Again, &config, Duration::ZERO, end),
                calls(&allowance, source, Work::Again, &config, Duration::ZERO, end),
            );
            let mut all: Vec<_> = one.iter().chain(&two).chain(&three).copied().collect();
            all.sort_unstable();
            assert!(most_within(&all, period) <= limit, "{source}: {} in {period:?}", most_within(&all, period));
            let least = all.len() / 5;
            assert!(
                one.len() > least && two.len() + three.len() > least,
                "{source}: {} polls, {} and {}",
                one.len(),
                two.len(),
                three.len()
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn other_limits_give_no_second_burst() {
        let (allowance, config) = (Allowance::default(), Config::default());
        while may(&allowance, GRAPH, Work::Live, &config).await {}
        let more = Config { graph_per_minute: 600, ..config };
        let end = Instant::now() + SECOND * 10;
        let calls = calls(&allowance, GRAPH, Work::Live, &more, Duration::ZERO, end).await;
        assert!((75..=82).contains(&calls.len()), "480 a minute, steadily: {}", calls.len());
    }
}
