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
    /// This figure for 1,000 polls.
    fn per_1000(&self, figure: f64) -> f64 {
        figure / self.polls * 1000.0
    }

    /// The upper edge of the bucket that this share of all polls falls into, seconds.
    fn late(&self, share: f64) -> f64 {
        self.late.iter().find(|(_, within)| *within >= share).map_or(f64::INFINITY, |(edge, _)| *edge)
    }
}

/// Measures each place on this server, one after the other, and says each figure as soon as it is there.
///
/// # Errors
/// When a daemon does not come to rest in time.
pub async fn idle(server: &str, places: &[Place], mut say: impl FnMut(Value)) -> anyhow::Result<()> {
    let mut seen = Vec::new();
    for place in places {
        let idle = at_rest(server, *place).await.with_context(|| format!("{place:?}"))?;
        say(figure(*place, &idle));
        seen.push((*place, idle));
    }
    for growth in growths(&seen) {
        say(growth);
    }
    Ok(())
}

/// One line with all figures of one place.
fn figure(place: Place, seen: &Idle) -> Value {
    let what = format!(
        "CPU s of the daemon per 1,000 polls, {} customers every {} s, nothing new, {:.0} polls/s; goals at 10,000 every 30 s: 0.25; \
         p99 from due to started 0.05 s; peak 64 MB; asked to committed p50 0.05 s, p99 0.5 s",
        place.tenants,
        place.interval.as_secs(),
        place.polls_a_second(),
    );
    let span = |share: f64| round(seen.committed.quantile(share).as_secs_f64());
    json!({
        "bench": place.name(), "value": round(seen.per_1000(seen.daemon_cpu)), "unit": "CPU s per 1,000 polls", "against": what,
        "tenants": place.tenants, "interval_s": place.interval.as_secs(), "window_s": round(seen.wall.as_secs_f64()),
        "polls": seen.polls, "rereads": seen.rereads, "daemon_cpu_s": round(seen.daemon_cpu),
        "postgres_per_1000": round(seen.per_1000(seen.postgres_cpu)),
        "sleeps_per_poll": round(seen.sleeps / seen.polls),
        "late_p50_s": seen.late(0.5), "late_p99_s": seen.late(0.99), "late_within": seen.late.iter()
            .map(|(edge, share)| (edge.to_string(), round(*share).into())).collect::<serde_json::Map<_, Value>>(),
        "rss_mb": round(seen.rss as f64 / 1e6), "peak_rss_mb": round(seen.peak_rss as f64 / 1e6),
        "committed_p50_s": span(0.5), "committed_p99_s": span(0.99), "committed_of": seen.committed.count(),
    })
}

/// What more customers cost, at the same polls per second; and each of them in memory.
fn growths(seen: &[(Place, Idle)]) -> Vec<Value> {
    let mut lines = Vec::new();
    for (few, at_few) in seen {
        for (many, at_many) in seen {
            let grown = many.tenants > few.tenants && (many.polls_a_second() / few.polls_a_second() - 1.0).abs() < 0.01;
            if grown {
                let of = |seen: &Idle, cpu: f64| seen.per_1000(cpu);
                lines.push(json!({
                    "bench": "idle_growth", "value": round(of(at_many, at_many.daemon_cpu) / of(at_few, at_few.daemon_cpu)), "unit": "times",
                    "against": format!("CPU of the daemon per poll, {} against {} customers at {:.0} polls/s; goal: 1.1", many.tenants, few.tenants, few.polls_a_second()),
                    "postgres": round(of(at_many, at_many.postgres_cpu) / of(at_few, at_few.postgres_cpu)),
                }));
            }
        }
    }
    let fewest = seen.iter().min_by_key(|(place, _)| place.tenants);
    let most = seen.iter().max_by_key(|(place, idle)| (place.tenants, idle.rss));
    if let (Some((few, at_few)), Some((many, at_many))) = (fewest, most)
        && many.tenants > few.tenants
    {
        let each = (at_many.rss as f64 - at_few.rss as f64) / (many.tenants - few.tenants) as f64;
        lines.push(json!({
            "bench": "idle_tenant", "value": round(each / 1000.0), "unit": "kB",
            "against": format!("resident memory of one more customer, {} against {}; goal: 3", many.tenants, few.tenants),
        }));
    }
    lines
}

fn round(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
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
