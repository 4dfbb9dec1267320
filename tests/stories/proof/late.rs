//! Every named step × a delay longer than the lease, in two readings. I1, I3, I7, I11, I33.
//!
//! Fault 59: the whole process stands still at the step, as after SIGSTOP, a swapped-out machine or a paused virtual
//! one. Another replica takes over, and whoever wakes up then, with a page, a token or an open transaction in its hands,
//! writes nothing. And: only the task stands still while its process goes on renewing its leases; then nobody takes over,
//! and nothing is lost either.
//!
//! All points at once: one fleet on one database.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use domain::rehearsal::POINTS;
use e2e::harness::{Daemon, Setup, TestDatabase, World, eventually, signals};
use local_postgres::{Durability, LocalPostgres};
use simulator::{Settings, SourceMix};
use tokio::time::Instant;

use super::{LEASE, LONG, SOON, holds, own_postgres, publish_everywhere, ready, server_folder};

const CONFIG: &str = "[poll]\ninterval = \"2s\"\noverlap = \"2m\"\npage_size = 10\n\
                      [budget]\ngraph_per_minute = 100000\ndefender_per_minute = 100000\ndefender_per_hour = 1000000\n";

/// Replicas that each come to a named step or several, with work at hand, and then stay there.
struct Fleet {
    replicas: Vec<(Vec<&'static str>, Daemon)>,
    world: World,
    server: LocalPostgres,
    _folder: tempfile::TempDir,
}

impl Fleet {
    /// Starts one for each of these groups of points, with two customers for each: a share without a rest, so that
    /// everybody gets some.
    async fn start(groups: Vec<Vec<&'static str>>, delay: &str) -> anyhow::Result<Self> {
        let folder = server_folder()?;
        let server = own_postgres(folder.path(), Durability::OffForTests, &[("max_connections", "600")]).await?;
        let database = TestDatabase::create_on(server.url()).await?;
        let access_lifetime = (Duration::from_secs(20), Duration::from_secs(30));
        let tenants = 2 * groups.len();
        let cloud = Settings { tenants, history: 5, sources: SourceMix::GraphOnly, updates: 0.0, access_lifetime, ..Settings::default() };
        let world = World::build_on(Setup { cloud, config: CONFIG.into(), ..Setup::default() }, Some(database)).await?;
        world.import_all().await?;
        // Something happens all the time, so that the steps are passed with work at hand.
        world.cloud.set_rate(40.0);
        let mut replicas = Vec::new();
        for points in groups {
            let entries = points.iter().map(|point| format!("{point}={delay}@{}", passing(point)));
            let rehearsal = entries.collect::<Vec<_>>().join(";");
            replicas.push((points, world.serve_with(&[("TOCSIN_REHEARSAL", &rehearsal)])?));
        }
        Ok(Self { replicas, world, server, _folder: folder })
    }

    /// Waits until every replica has come to its points, all but the one at which it stops, and does this to each on the spot.
    async fn each_at_its_points(&self, then: impl AsyncFn(&Daemon) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let there: RefCell<BTreeSet<&Vec<&str>>> = RefCell::default();
        eventually("every replica comes to its points", LONG, async || {
            let mut missing = Vec::new();
            for (points, replica) in self.replicas.iter().filter(|(points, _)| !there.borrow().contains(points)) {
                let log = replica.log().map_err(|error| error.to_string())?;
                let before: Vec<_> =
                    points.iter().filter(|point| **point != AT_THE_END && !log.contains(&format!(" at {point}\n"))).collect();
                if before.is_empty() {
                    then(replica).await.map_err(|error| error.to_string())?;
                    there.borrow_mut().insert(points);
                } else {
                    missing.push(format!("{before:?}"));
                }
            }
            if missing.is_empty() { Ok(()) } else { Err(missing.join(", ")) }
        })
        .await
    }

    /// Asks all of them to stop, and waits until they have, well and in time.
    async fn end(mut self, more: impl IntoIterator<Item = Daemon>) -> anyhow::Result<()> {
        let mut all: Vec<(Vec<&str>, Daemon)> = self.replicas.drain(..).collect();
        all.extend(more.into_iter().map(|replica| (Vec::new(), replica)));
        for (_, replica) in &all {
            signals::terminate(replica.pid()?)?;
        }
        for (points, replica) in &mut all {
            let status = replica.ended(Duration::from_secs(30)).await.with_context(|| format!("the one at {points:?}"))?;
            anyhow::ensure!(status.success(), "the one at {points:?} ended with {status}:\n{}", replica.last_words());
            let log = replica.log()?;
            anyhow::ensure!(!log.contains("panicked"), "the one at {points:?}:\n{}", replica.last_words());
            for point in points {
                anyhow::ensure!(log.contains(&format!(" at {point}\n")), "{point} was never passed:\n{}", replica.last_words());
            }
        }
        self.world.database.as_ref().context("no database")?.pool.close().await;
        self.server.stop().await?;
        Ok(())
    }
}

/// Passed by a replica that stops.
const AT_THE_END: &str = "lease.before-release";

/// The points between which a process has something in its hands that somebody else might have changed meanwhile.
const WITH_WORK_IN_HAND: [&str; 15] = [
    "refresh.answered",
    "refresh.before-save",
    "fetch.answered",
    "split.after",
    "deliver.before-slice",
    "commit.begin",
    "commit.fence",
    "commit.looked-up",
    "commit.versions",
    "commit.latest",
    "cursor.before",
    "cursor.after",
    "commit.before",
    "commit.after",
    "lease.before-renew",
];

/// All points, so that no two of a group are passed by one and the same task.
fn groups() -> Vec<Vec<&'static str>> {
    const ROOMS: [&[&str]; 5] = [&["refresh."], &["fetch.", "deliver.", "split."], &["commit.", "cursor."], &["digest."], &["lease."]];
    let mut groups: Vec<Vec<&str>> = Vec::new();
    for room in ROOMS {
        let points = POINTS.iter().copied().filter(|point| room.iter().any(|part| point.starts_with(part)));
        for (number, point) in points.enumerate() {
            match groups.get_mut(number) {
                Some(group) => group.push(point),
                None => groups.push(vec![point]),
            }
        }
    }
    groups
}

/// At which passing of a process' life it happens: what is passed seldom, at the first or second.
fn passing(point: &str) -> u32 {
    match point {
        "lease.before-claim" | "lease.claimed" | "lease.before-release" => 1,
        "lease.before-renew" | "lease.renewed" | "cursor.read" => 2,
        point if point.starts_with("refresh.") => 2,
        _ => 3,
    }
}

#[tokio::test]
async fn fault_59_whoever_stood_still_at_a_named_step_for_longer_than_its_lease_writes_nothing_stale() -> anyhow::Result<()> {
    let fleet = Fleet::start(WITH_WORK_IN_HAND.map(|point| vec![point]).to_vec(), "delay:8s").await?;
    let world = &fleet.world;
    fleet.each_at_its_points(async |replica: &Daemon| signals::freeze(replica.pid()?).await).await?;
    world.cloud.set_rate(0.0);

    // What they have in their hands becomes outdated: nobody else can get these bodies any more, so who writes them is known.
    let stored = stored_hashes(world).await?;
    let rows = world.cloud.ledger().all_rows();
    let in_hand: Vec<_> = rows.iter().filter(|row| row.latest && row.served > 0 && !stored.contains(&row.sha256())).collect();
    for row in &in_hand {
        world.cloud.publish_update_of(row.tenant, row.alert_id.as_deref().context("an alert without an id")?)?;
    }
    println!("{} alerts in the hands of {} frozen replicas", in_hand.len(), fleet.replicas.len());
    assert!(in_hand.len() >= 5, "only {} alerts were in their hands, so this proves little", in_hand.len());

    let successor = world.serve()?;
    holds(&successor, world.cloud.tenants().len()).await?;
    let before = eventually("the successor has caught up", LONG, async || {
        let tally = world.tally().await.map_err(|error| error.to_string())?;
        // What cannot be had any more is all that is missing.
        let caught_up = tally.stored == tally.published && tally.stale.is_empty() && tally.lost.len() <= in_hand.len();
        if caught_up { Ok(tally) } else { Err(tally.to_string()) }
    })
    .await?;
    assert!(before.lost.len() >= 5, "only {} of {} outdated ones are in their hands alone: {before}", before.lost.len(), in_hand.len());
    assert!(before.duplicated.is_empty() && before.unknown.is_empty(), "{before}");

    for (_, replica) in &fleet.replicas {
        signals::wake(replica.pid()?)?;
    }
    // Each goes on from where it stood, finds out, and takes its share again.
    for (_, replica) in &fleet.replicas {
        ready(replica).await?;
    }
    eventually("the customers are shared again", LONG, async || {
        let mut held = Vec::new();
        for (_, replica) in &fleet.replicas {
            held.push(replica.metric("tocsin_lease_held", "").await.map_err(|error| error.to_string())?);
        }
        let of_successor = successor.metric("tocsin_lease_held", "").await.map_err(|error| error.to_string())?;
        let all = held.iter().sum::<f64>() + of_successor == world.cloud.tenants().len() as f64;
        if all && of_successor <= 2.0 { Ok(()) } else { Err(format!("{held:?} and {of_successor}")) }
    })
    .await?;
    let after = world.tally().await?;
    assert_eq!(after, before, "somebody wrote something when it woke");

    publish_everywhere(world, 1)?;
    eventually("everything goes on", SOON, async || {
        let tally = world.tally().await.map_err(|error| error.to_string())?;
        let goes_on = tally.stored == tally.published && tally.stale.is_empty() && tally.lost == before.lost;
        if goes_on { Ok(()) } else { Err(tally.to_string()) }
    })
    .await?;
    fleet.end([successor]).await
}

#[tokio::test]
async fn a_task_that_stands_still_at_a_named_step_for_longer_than_a_lease_loses_nothing() -> anyhow::Result<()> {
    let delay = LEASE + Duration::from_secs(3);
    let groups = groups();
    assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), POINTS.len(), "a point belongs to no room");
    let fleet = Fleet::start(groups, &format!("delay:{}s", delay.as_secs())).await?;
    let begun = Instant::now();
    fleet.each_at_its_points(async |_: &Daemon| Ok(())).await?;
    fleet.world.cloud.set_rate(0.0);
    publish_everywhere(&fleet.world, 2)?;
    fleet.world.settled(LONG).await?;
    assert!(begun.elapsed() >= delay, "everything was stored after {:?}, so nobody stood still", begun.elapsed());
    fleet.end([]).await
}

/// The bodies that are stored.
async fn stored_hashes(world: &World) -> anyhow::Result<BTreeSet<String>> {
    let sql = "select encode(sha256(convert_to(raw::text, 'UTF8')), 'hex') from dash.alert_version";
    let hashes: Vec<String> = sqlx::query_scalar(sql).fetch_all(&world.pool().await?).await?;
    Ok(hashes.into_iter().collect())
}
