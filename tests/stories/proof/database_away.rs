//! Faults 45, 68 and 70: Postgres is away for a minute, for one replica only, or in one direction only. I3, I7, I11, I29.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use e2e::harness::{Daemon, Proxy, Setup, Usage, World, eventually, side_by_side};
use simulator::{Endpoint, JournalEntry, Settings, SimTenant, SourceMix, Stamp};
use tokio::time::Instant;

use super::{LEASE, LONG, SMALL_PAGES, SOON, case, holds, publish_everywhere, ready};

/// By how much a daemon may grow while it has nowhere to put anything.
const GROWTH: u64 = 32 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_45_a_minute_without_the_database_costs_no_memory_and_everybody_catches_up_fairly() -> anyhow::Result<()> {
    const TENANTS: usize = 6;
    const WAITING: usize = 1500;
    let cloud = Settings { tenants: TENANTS, history: 300, sources: SourceMix::GraphOnly, ..Settings::default() };
    let config = SMALL_PAGES.replace("page_size = 25", "page_size = 100");
    let world = World::with_tenants(Setup { cloud, config: config.clone(), ..Setup::default() }).await?;
    let door = Proxy::to(world.database.as_ref().context("no database")?.target()?).await?;
    let mut daemon = world.serve_through("behind-the-door", &config, Some(&door), None, &[])?;
    world.settled(SOON).await?;
    ready(&daemon).await?;
    let before = Usage::of(daemon.pid()?)?;

    door.shut();
    let away = Instant::now();
    publish_everywhere(&world, WAITING)?;
    let peak = Cell::new(before.rss);
    let asked = Cell::new(0);
    eventually("a minute has passed", Duration::from_secs(90), async || {
        peak.set(Usage::of(daemon.pid().map_err(|error| error.to_string())?).map_err(|error| error.to_string())?.rss.max(peak.get()));
        // What is on its way when it happens ends by itself; from then on nobody asks.
        if away.elapsed() < Duration::from_secs(15) {
            asked.set(polls(&world).len());
        }
        if away.elapsed() >= Duration::from_secs(60) { Ok(()) } else { Err(String::new()) }
    })
    .await?;
    let asked_meanwhile = polls(&world).len() - asked.get();
    assert_eq!(asked_meanwhile, 0, "alerts were fetched for which there was no place");
    let (status, body) = daemon.ops("/readyz").await?;
    assert_eq!(status, 503, "{body}");
    let growth = peak.get().saturating_sub(before.rss);
    println!("a minute without the database: {:.1} MB more, of {:.1} MB", growth as f64 / 1e6, before.rss as f64 / 1e6);
    assert!(growth <= GROWTH, "{} MB more", growth >> 20);

    door.clear();
    // Nobody is served to the end before the others are served at all.
    let half = i64::try_from(TENANTS * (300 + WAITING / 2))?;
    eventually("half of it is stored", LONG, async || match super::rows(&world, "dash.alert").await {
        Ok(stored) if stored >= half => Ok(()),
        seen => Err(format!("{seen:?} of {half}")),
    })
    .await?;
    let sql = "select count(*) from dash.alert group by directory_id order by 1";
    let shares: Vec<i64> = sqlx::query_scalar(sql).fetch_all(&world.pool().await?).await?;
    assert!(shares.len() == TENANTS && shares.iter().all(|share| *share > 300), "somebody was left behind: {shares:?}");
    let tally = world.settled(LONG).await?;
    assert_eq!(tally.published, TENANTS * (300 + WAITING));
    ready(&daemon).await?;
    let after = Usage::of(daemon.pid()?)?;
    println!("and when it had caught up: {:.1} MB, {} fds (before: {})", after.rss as f64 / 1e6, after.fds, before.fds);
    assert!(after.fds <= before.fds + 8, "descriptors leak: {before:?}, then {after:?}");
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_68_and_70_a_replica_that_is_cut_from_the_database_lets_go_in_time_and_comes_back() -> anyhow::Result<()> {
    let cases = [
        case("cut off", cut_off(Proxy::shut)),
        case("its words are lost", cut_off(Proxy::lose_requests)),
        case("the answers are lost", cut_off(Proxy::lose_answers)),
    ];
    side_by_side(3, cases).await?;
    Ok(())
}

/// One of two replicas behind a door, through which nothing gets any more for longer than a lease.
async fn cut_off(breaks: impl Fn(&Proxy)) -> anyhow::Result<()> {
    const TENANTS: usize = 4;
    let cloud = Settings { tenants: TENANTS, history: 50, rate: 20.0, updates: 0.0, sources: SourceMix::GraphOnly, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }).await?;
    let door = Proxy::to(world.database.as_ref().context("no database")?.target()?).await?;
    let mut cut = world.serve_through("behind-the-door", SMALL_PAGES, Some(&door), None, &[])?;
    holds(&cut, TENANTS).await?;
    eventually("everybody is polled", SOON, async || {
        let asked: BTreeSet<_> = polls(&world).into_iter().filter_map(|entry| entry.tenant).collect();
        if asked.len() == TENANTS { Ok(()) } else { Err(asked.len()) }
    })
    .await?;
    let mut other = world.serve()?;
    holds(&cut, TENANTS / 2).await?;
    holds(&other, TENANTS / 2).await?;
    let polled_by_both = tokens(&world);

    breaks(&door);
    let at = world.cloud.now();
    holds(&other, TENANTS).await?;
    // Who was cut off stops by its own clock, before its leases end by that of the database: never two at once.
    nobody_asks_twice(&world, &world.cloud.tenants(), &polled_by_both, at)?;
    world.cloud.set_rate(0.0);
    world.settled(SOON).await?;
    let status = cut.ops("/readyz").await?.0;
    anyhow::ensure!(status == 503, "cut from the database, and /readyz says {status}");

    // What was held back arrives now, all at once, a takeover too late.
    let before = world.tally().await?;
    door.clear();
    holds(&cut, TENANTS / 2).await?;
    let after = world.tally().await?;
    anyhow::ensure!(after == before, "what arrived late was stored:\n{before}\n{after}");
    publish_everywhere(&world, 5)?;
    world.settled(SOON).await?;
    ready(&cut).await?;
    for daemon in [&mut cut, &mut other] {
        anyhow::ensure!(!daemon.log()?.contains("panicked"), "{}", daemon.last_words());
        daemon.terminate().await?;
    }
    world.end().await
}

/// From the takeover of a customer on, nobody asks about it with a token that was in use before the cut, except for the
/// half of the other replica, which went on all the time.
fn nobody_asks_twice(world: &World, tenants: &[SimTenant], known: &BTreeSet<String>, at: Stamp) -> anyhow::Result<()> {
    let stamp = |entry: &JournalEntry| Stamp::parse(&entry.at).unwrap_or(at);
    let journal = polls(world);
    for tenant in tenants {
        let since: Vec<_> = journal.iter().filter(|entry| entry.tenant == Some(tenant.directory_id) && stamp(entry) >= at).collect();
        let is_known = |entry: &&&JournalEntry| entry.token.as_ref().is_some_and(|token| known.contains(token));
        let Some(first_of_other) = since.iter().find(|entry| !is_known(entry)) else { continue };
        let late = since.iter().filter(is_known).find(|entry| stamp(entry) >= stamp(first_of_other));
        anyhow::ensure!(late.is_none(), "{} is asked about by two replicas: {late:?} after {first_of_other:?}", tenant.name);
        let last = since.iter().filter(is_known).map(|entry| stamp(entry)).max().unwrap_or(at);
        let trusted = Duration::from_nanos(u64::try_from(last.ticks() - at.ticks()).unwrap_or_default() * 100);
        anyhow::ensure!(trusted < LEASE, "{} was asked about for {trusted:?} without the database", tenant.name);
    }
    Ok(())
}

fn polls(world: &World) -> Vec<JournalEntry> {
    world.cloud.journal().into_iter().filter(|entry| entry.endpoint == Endpoint::Graph).collect()
}

fn tokens(world: &World) -> BTreeSet<String> {
    polls(world).into_iter().filter_map(|entry| entry.token).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_44_a_daemon_that_starts_without_its_database_says_so_in_one_sentence() -> anyhow::Result<()> {
    let world = World::with_tenants(Setup::default()).await?;
    let mut door = Proxy::to(world.database.as_ref().context("no database")?.target()?).await?;
    door.refuse();
    let mut daemon: Daemon = world.serve_through("behind-the-door", "", Some(&door), None, &[])?;
    let status = daemon.ended(Duration::from_secs(30)).await?;
    assert_eq!(status.code(), Some(69), "{}", daemon.last_words());
    assert!(daemon.last_words().contains("cannot reach the database"), "{}", daemon.last_words());

    door.listen_again().await?;
    let mut daemon = world.serve_through("behind-the-door", "", Some(&door), None, &[])?;
    world.settled(SOON).await?;
    daemon.terminate().await?;
    world.end().await
}
