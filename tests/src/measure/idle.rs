//! What it costs to watch customers at whom nothing happens: CPU seconds of the daemon and of Postgres per 1,000 polls,
//! how often a thread is woken for one, how late polls start, and how much memory a customer takes. And how soon an alert
//! is committed once a poll has asked for it.
//!
//! CPU per poll depends on polls per second, since a wake-up for one poll costs what a wake-up for many costs. So growth is
//! compared at the same polls per second: fewer customers are polled more often. The simulator is part of this process and
//! speaks plain HTTP/1.1; its seconds are not counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use simulator::{Endpoint, Settings, SimTenant, SourceMix, Stamp};
use sqlx::PgPool;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::figures::{Figures, line, with};
use super::{Spans, postmaster, world_on};
use crate::harness::{Daemon, Metrics, Setup, Usage, World, eventually, proc_stats};

/// Nobody waits longer for anything.
const LIMIT: Duration = Duration::from_secs(500);
/// So many new alerts, each of another customer, while it is watched how soon they are stored …
const PUBLISHED: usize = 100;
/// … one after the other, with so much in between.
const APART: Duration = Duration::from_millis(100);
/// How late polls start.
const LATENESS: &str = "tocsin_poll_lateness_seconds";

/// So many customers, polled so often.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Customers, each with one feed at Graph.
    pub tenants: usize,
    /// Between two polls of a feed.
    pub interval: Duration,
    /// How long is measured.
    pub window: Duration,
}

impl Place {
    const fn new(tenants: usize, interval: u64, window: u64) -> Self {
        Self { tenants, interval: Duration::from_secs(interval), window: Duration::from_secs(window) }
    }

    /// What it is called.
    pub fn name(self) -> String {
        format!("idle_{}_{}s", self.tenants, self.interval.as_secs())
    }

    fn polls_a_second(self) -> f64 {
        self.tenants as f64 / self.interval.as_secs_f64()
    }
}

/// What is compared: 100 and 10,000 customers at 100 polls a second, 1,000 and 10,000 at 333.
pub const PLACES: [Place; 4] = [Place::new(100, 1, 30), Place::new(10_000, 100, 60), Place::new(1000, 3, 30), Place::new(10_000, 30, 60)];
/// Enough to see that it works.
pub const QUICK: [Place; 2] = [Place::new(10, 1, 5), Place::new(40, 2, 5)];

/// What idling came to.
#[derive(Clone, Debug, Default)]
pub struct Idle {
    /// Polls that ended well within the window.
    pub polls: f64,
    /// Re-reads of the ladder that ended within it.
    pub rereads: f64,
    /// How long the window was.
    pub wall: Duration,
    /// CPU seconds of the daemon.
    pub daemon_cpu: f64,
    /// CPU seconds of all processes of Postgres.
    pub postgres_cpu: f64,
    /// How often a thread of the daemon had gone to sleep, to be woken.
    pub sleeps: f64,
    /// Due to started: the share of all polls within each edge, seconds.
    pub late: Vec<(f64, f64)>,
    /// Resident memory at the end of the window, bytes.
    pub rss: u64,
    /// The most it ever was, bytes.
    pub peak_rss: u64,
    /// From the request that asked for a new alert to its commit.
    pub committed: Spans,
}

impl Idle {
    /// CPU seconds of the daemon for 1,000 polls.
    fn cpu_per_1000(&self) -> f64 {
        self.daemon_cpu / self.polls * 1000.0
    }

    /// CPU seconds of Postgres for 1,000 polls.
    fn postgres_per_1000(&self) -> f64 {
        self.postgres_cpu / self.polls * 1000.0
    }

    /// The upper edge of the bucket that this share of all polls falls into, seconds.
    fn late(&self, share: f64) -> f64 {
        self.late.iter().find(|(_, within)| *within >= share).map_or(f64::INFINITY, |(edge, _)| *edge)
    }
}

/// What each place came to in each run: by run, and in it by place.
type Runs = Vec<Vec<(Place, Idle)>>;

/// Measures each place on this server, one after the other, so often; and says the medians, with the least and the greatest.
///
/// # Errors
/// When a daemon does not come to rest in time.
pub async fn idle(server: &str, places: &[Place], runs: usize) -> anyhow::Result<Vec<Value>> {
    let mut seen = Runs::new();
    for _ in 0..runs {
        let mut run = Vec::new();
        for place in places {
            run.push((*place, at_rest(server, *place).await.with_context(|| format!("{place:?}"))?));
        }
        seen.push(run);
    }
    Ok(lines(&seen))
}

/// One line for each place, and what more customers cost: ratios within a run.
fn lines(runs: &Runs) -> Vec<Value> {
    let Some(first) = runs.first() else { return Vec::new() };
    let places: Vec<Place> = first.iter().map(|(place, _)| *place).collect();
    let of = |index: usize| runs.iter().map(|run| &run[index].1).collect::<Vec<_>>();
    let mut lines: Vec<_> = places.iter().enumerate().map(|(index, place)| figures(*place, &of(index))).collect();
    for (few, at_few) in places.iter().enumerate() {
        for (many, at_many) in places.iter().enumerate() {
            if at_many.tenants > at_few.tenants && (at_many.polls_a_second() / at_few.polls_a_second() - 1.0).abs() < 0.01 {
                lines.push(growth((at_few, &of(few)), (at_many, &of(many))));
            }
        }
    }
    let by_size = |index: &usize| (places[*index].tenants, places[*index].interval);
    let ends = (0..places.len()).min_by_key(by_size).zip((0..places.len()).max_by_key(by_size));
    if let Some((few, many)) = ends.filter(|(few, many)| places[*many].tenants > places[*few].tenants) {
        lines.push(one_more((&places[few], &of(few)), (&places[many], &of(many))));
    }
    lines
}

/// One line with all figures of one place.
fn figures(place: Place, seen: &[&Idle]) -> Value {
    let what = format!(
        "CPU s of the daemon per 1,000 polls, {} customers every {} s, nothing new, {:.0} polls/s; goals at 10,000 every 30 s: 0.25; \
         p99 from due to started 0.05 s; peak 64 MB; asked to committed p50 0.05 s, p99 0.5 s",
        place.tenants,
        place.interval.as_secs(),
        place.polls_a_second(),
    );
    let figure = |figure: &dyn Fn(&Idle) -> f64| Figures::of(seen, |idle| figure(idle));
    let median = |of: &dyn Fn(&Idle) -> f64| json!(figure(of).median());
    let committed = |share: f64| median(&|idle| idle.committed.quantile(share).as_secs_f64());
    with(
        line(&place.name(), &figure(&Idle::cpu_per_1000), "CPU s per 1,000 polls", &what),
        &[
            ("tenants", json!(place.tenants)),
            ("interval_s", json!(place.interval.as_secs())),
            ("window_s", median(&|idle| idle.wall.as_secs_f64())),
            ("polls", median(&|idle| idle.polls)),
            ("rereads", median(&|idle| idle.rereads)),
            ("daemon_cpu_s", median(&|idle| idle.daemon_cpu)),
            ("postgres_per_1000", median(&Idle::postgres_per_1000)),
            ("sleeps_per_poll", median(&|idle| idle.sleeps / idle.polls)),
            ("late_p50_s", median(&|idle| idle.late(0.5))),
            ("late_p99_s", median(&|idle| idle.late(0.99))),
            ("late_p99_range", json!(figure(&|idle| idle.late(0.99)).range())),
            ("rss_mb", median(&|idle| idle.rss as f64 / 1e6)),
            ("peak_rss_mb", median(&|idle| idle.peak_rss as f64 / 1e6)),
            ("peak_rss_range", json!(figure(&|idle| idle.peak_rss as f64 / 1e6).range())),
            ("committed_p50_s", committed(0.5)),
            ("committed_p99_s", committed(0.99)),
            ("committed_of", median(&|idle| idle.committed.count() as f64)),
        ],
    )
}

/// What more customers cost, at the same polls per second.
fn growth((few, at_few): (&Place, &[&Idle]), (many, at_many): (&Place, &[&Idle])) -> Value {
    let pairs: Vec<(&Idle, &Idle)> = at_few.iter().copied().zip(at_many.iter().copied()).collect();
    let times = |of: fn(&Idle) -> f64| Figures::of(&pairs, |(few, many)| of(many) / of(few));
    let what = format!(
        "CPU of the daemon per poll, {} against {} customers at {:.0} polls/s; goal: 1.1",
        many.tenants,
        few.tenants,
        few.polls_a_second()
    );
    with(line("idle_growth", &times(Idle::cpu_per_1000), "times", &what), &[("postgres", json!(times(Idle::postgres_per_1000).median()))])
}

/// What one more customer takes in memory.
fn one_more((few, at_few): (&Place, &[&Idle]), (many, at_many): (&Place, &[&Idle])) -> Value {
    let pairs: Vec<(&Idle, &Idle)> = at_few.iter().copied().zip(at_many.iter().copied()).collect();
    let each =
        Figures::of(&pairs, |(at_few, at_many)| (at_many.rss as f64 - at_few.rss as f64) / (many.tenants - few.tenants) as f64 / 1000.0);
    let what = format!("resident memory of one more customer, {} against {}; goal: 3", many.tenants, few.tenants);
    Value::Object(line("idle_tenant", &each, "kB", &what))
}

/// One life of a daemon: until everybody is read and re-read, then the window, then some new alerts.
async fn at_rest(server: &str, place: Place) -> anyhow::Result<Idle> {
    let cloud = Settings { tenants: place.tenants, history: 3, history_days: 1, sources: SourceMix::GraphOnly, ..Settings::default() };
    // Nobody waits for the sign-in service, which is the `refresh` bench's matter; and there is no backfill.
    let interval = place.interval.as_secs();
    let config = format!("[poll]\ninterval = \"{interval}s\"\nfirst_sync = \"1d\"\n[budget]\ntoken_per_second = 500\n");
    let world = world_on(Some(server), Setup { cloud, config, ..Setup::default() }).await?;
    let pool = world.pool().await?;
    let postmaster = postmaster(&pool).await?;
    let mut daemon = world.serve()?;
    everybody_is_read(&world, &daemon, &pool, place).await?;

    let pid = daemon.pid()?;
    let before = Metrics::of(&daemon).await?;
    let (daemon_cpu, postgres_cpu, sleeps) = (proc_stats::cpu(pid)?, proc_stats::family_cpu(postmaster)?, proc_stats::sleeps(pid)?);
    let begun = Instant::now();
    sleep(place.window).await;
    let (daemon_cpu, postgres_cpu) = (proc_stats::cpu(pid)? - daemon_cpu, proc_stats::family_cpu(postmaster)? - postgres_cpu);
    let (sleeps, wall) = (proc_stats::sleeps(pid)? - sleeps, begun.elapsed());
    let after = Metrics::of(&daemon).await?.since(&before);
    let usage = Usage::of(pid)?;

    let committed = committed(&world, &pool, place).await?;
    let peak_rss = Usage::of(pid)?.peak_rss;
    let tally = world.settled(LIMIT).await?;
    ensure!(tally.agrees(), "{tally}");
    daemon.terminate().await?;
    pool.close().await;
    world.end().await?;
    Ok(Idle {
        polls: after.sum("tocsin_poll_total", &[("outcome", "ok")]),
        rereads: after.sum("tocsin_reread_total", &[]),
        wall,
        daemon_cpu,
        postgres_cpu,
        sleeps: sleeps as f64,
        late: after.shares(LATENESS),
        rss: usage.rss,
        peak_rss,
        committed,
    })
}

/// Waits until everybody was polled well and nothing is left to be read again, and for one more interval.
async fn everybody_is_read(world: &World, daemon: &Daemon, pool: &PgPool, place: Place) -> anyhow::Result<()> {
    eventually("everybody is read", LIMIT, async || {
        let (polled, open): (i64, i64) = sqlx::query_as(
            "select (select count(*) from tocsin.feed where last_success_at is not null),
                    (select count(*) from tocsin.feed f, unnest('{short,long,nightly}'::text[]) errand
                     where not exists (select from tocsin.reread r where (r.tenant, r.source, r.errand) = (f.tenant, f.source, errand)
                                       and r.finished_at is not null))",
        )
        .fetch_one(pool)
        .await
        .map_err(|error| error.to_string())?;
        sleep(Duration::from_secs(1)).await;
        let all = usize::try_from(polled).is_ok_and(|polled| polled == place.tenants);
        if all && open == 0 { Ok(()) } else { Err(format!("{polled} of {} polled, {open} re-reads to be done", place.tenants)) }
    })
    .await
    .with_context(|| daemon.last_words())?;
    // Statistics as autovacuum takes them within a minute: what is measured is not the minute before.
    sqlx::query("vacuum analyze").execute(pool).await?;
    world.cloud.clear_journal();
    sleep(place.interval).await;
    Ok(())
}

/// Publishes new alerts one after the other, and looks how long each took from the request that asked for it to its commit.
async fn committed(world: &World, pool: &PgPool, place: Place) -> anyhow::Result<Spans> {
    let tenants = world.cloud.tenants();
    let count = PUBLISHED.min(tenants.len());
    let chosen: Vec<&SimTenant> = tenants.iter().step_by(tenants.len() / count).take(count).collect();
    world.cloud.clear_journal();
    let mut published: BTreeMap<String, Uuid> = BTreeMap::new();
    for tenant in &chosen {
        for id in world.cloud.publish_new(tenant.directory_id, 1)? {
            published.insert(id, tenant.directory_id);
        }
        sleep(APART).await;
    }
    let ids: Vec<&str> = published.keys().map(String::as_str).collect();
    let commits = eventually("what was published is stored", place.interval * 3 + Duration::from_secs(30), async || {
        let commits: Vec<(String, i64)> = sqlx::query_as(
            "select alert_id, (extract(epoch from pg_xact_commit_timestamp(xmin)) * 10000000)::bigint from tocsin.alert_version
             where alert_id = any($1)",
        )
        .bind(&ids)
        .fetch_all(pool)
        .await
        .map_err(|error| error.to_string())?;
        if commits.len() == ids.len() { Ok(commits) } else { Err(format!("{} of {}", commits.len(), ids.len())) }
    })
    .await?;
    let polls = polls(world, &published.values().copied().collect());
    // A feed is polled by one poll at a time, which waits for its commit: the last request before it was the one.
    let asked = |id: &str, commit: i64| polls.get(published.get(id)?)?.iter().copied().filter(|at| *at <= commit).max();
    let spans: Option<Spans> = commits
        .iter()
        .map(|(id, commit)| Some(Duration::from_nanos(u64::try_from(commit - asked(id, *commit)?).ok()? * 100)))
        .collect::<Option<Vec<_>>>()
        .map(Spans::new);
    spans.context("an alert was stored for which nobody had asked")
}

/// When each of these customers was asked about, in ticks.
fn polls(world: &World, tenants: &BTreeSet<Uuid>) -> BTreeMap<Uuid, Vec<i64>> {
    let mut polls: BTreeMap<Uuid, Vec<i64>> = BTreeMap::new();
    for entry in world.cloud.journal().into_iter().filter(|entry| entry.endpoint == Endpoint::Graph) {
        if let (Some(tenant), Some(at)) = (entry.tenant.filter(|tenant| tenants.contains(tenant)), Stamp::parse(&entry.at)) {
            polls.entry(tenant).or_default().push(at.ticks());
        }
    }
    polls
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run in which a poll of many customers costs so many times what one of few does.
    fn run(times: f64) -> Vec<(Place, Idle)> {
        let idle = |cpu: f64, rss| Idle { polls: 1000.0, daemon_cpu: cpu, postgres_cpu: 0.1, rss, ..Idle::default() };
        vec![(Place::new(100, 1, 30), idle(0.2, 30_000_000)), (Place::new(10_000, 100, 60), idle(0.2 * times, 79_500_000))]
    }

    #[test]
    fn medians_are_said_of_all_runs_and_growth_is_a_ratio_within_each() {
        let lines = lines(&[1.3, 1.0, 1.1].map(run).to_vec());
        let said: Vec<_> = lines.iter().map(|line| (line["bench"].as_str().unwrap(), &line["value"], &line["range"])).collect();
        let expected = [
            ("idle_100_1s", json!(0.2), json!([0.2, 0.2])),
            ("idle_10000_100s", json!(0.22), json!([0.2, 0.26])),
            ("idle_growth", json!(1.1), json!([1.0, 1.3])),
            ("idle_tenant", json!(5.0), json!([5.0, 5.0])),
        ];
        assert_eq!(said, expected.each_ref().map(|(name, value, range)| (*name, value, range)));
        assert!(lines.iter().all(|line| line["runs"] == 3));
    }
}
