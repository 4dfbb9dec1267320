//! Every named step × a delay longer than the lease, in two readings. I1, I3, I7, I11, I33.
//!
//! Fault 59: the whole process stands still at the step, as after SIGSTOP, a swapped-out machine or a paused virtual
//! one. Another replica takes over, and whoever wakes up then, with a page, a token or an open transaction in its hands,
//! writes nothing. And: only the task stands still while its process goes on renewing its leases; then nobody takes over,
//! and nothing is lost either.
//!
//! All points at once: one fleet on one database, a replica for each point.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use domain::rehearsal::POINTS;
use e2e::harness::{Daemon, Setup, TestDatabase, World, eventually, signals};
use local_postgres::{Durability, LocalPostgres};
use simulator::{Settings, SourceMix};
use tokio::time::Instant;

use super::{LEASE, LONG, SOON, holds, own_postgres, publish_everywhere, server_folder};

const CONFIG: &str = "[poll]\ninterval = \"2s\"\noverlap = \"2m\"\npage_size = 10\n\
                      [budget]\ngraph_per_minute = 100000\ndefender_per_minute = 100000\ndefender_per_hour = 1000000\n";

/// A replica for every point, which it comes to with work at hand and then stays at.
struct Fleet {
    replicas: Vec<(&'static str, Daemon)>,
    world: World,
    server: LocalPostgres,
    _folder: tempfile::TempDir,
}

impl Fleet {
    /// Starts it, with two customers for each replica and for one more.
    async fn start(delay: &str) -> anyhow::Result<Self> {
        let folder = server_folder()?;
        let server = own_postgres(folder.path(), Durability::OffForTests, &[("max_connections", "600")]).await?;
        let database = TestDatabase::create_on(server.url()).await?;
        let access_lifetime = (Duration::from_secs(20), Duration::from_secs(30));
        let tenants = 2 * POINTS.len() + 2;
        let cloud = Settings { tenants, history: 5, sources: SourceMix::GraphOnly, updates: 0.0, access_lifetime, ..Settings::default() };
        let world = World::build_on(Setup { cloud, config: CONFIG.into(), ..Setup::default() }, Some(database)).await?;
        world.import_all().await?;
        // Something happens all the time, so that the steps are passed with work at hand.
        world.cloud.set_rate(60.0);
        let mut replicas = Vec::new();
        for point in POINTS {
            let rehearsal = format!("{point}={delay}@{}", passing(point));
            replicas.push((*point, world.serve_with(&[("TOCSIN_REHEARSAL", &rehearsal)])?));
        }
        Ok(Self { replicas, world, server, _folder: folder })
    }

    /// Waits until every replica has come to its point, and does this to each on the spot.
    async fn each_at_its_point(&self, then: impl AsyncFn(&Daemon) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let there: RefCell<BTreeSet<&str>> = RefCell::default();
        eventually("every replica comes to its point", SOON, async || {
            for (point, replica) in &self.replicas {
                let is_new = !there.borrow().contains(point);
                if is_new && replica.log().is_ok_and(|log| log.contains(&format!(" at {point}\n"))) {
                    then(replica).await.map_err(|error| error.to_string())?;
                    there.borrow_mut().insert(point);
                }
            }
            let missing: Vec<&str> = POINTS.iter().copied().filter(|point| !there.borrow().contains(point)).collect();
            // Leases are given back when a replica stops.
            if missing == ["lease.before-release"] {
                let (_, replica) = self.replicas.iter().find(|(point, _)| *point == "lease.before-release").ok_or("no such replica")?;
                let _ = signals::terminate(replica.pid().map_err(|error| error.to_string())?);
            }
            if missing.is_empty() { Ok(()) } else { Err(format!("not yet: {missing:?}")) }
        })
        .await
    }

    /// Asks all of them to stop, and waits until they have, well.
    async fn end(mut self, more: impl IntoIterator<Item = Daemon>) -> anyhow::Result<()> {
        let mut all: Vec<(&str, Daemon)> = self.replicas.drain(..).filter(|(point, _)| *point != "lease.before-release").collect();
        all.extend(more.into_iter().map(|replica| ("none", replica)));
        for (_, replica) in &all {
            signals::terminate(replica.pid()?)?;
        }
        for (point, replica) in &mut all {
            let status = replica.ended(Duration::from_secs(20)).await.with_context(|| format!("the one at {point}"))?;
            anyhow::ensure!(status.success(), "the one at {point} ended with {status}:\n{}", replica.last_words());
            anyhow::ensure!(!replica.log()?.contains("panicked"), "the one at {point}:\n{}", replica.last_words());
        }
        self.world.database.as_ref().context("no database")?.pool.close().await;
        self.server.stop().await?;
        Ok(())
    }
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
    let fleet = Fleet::start("delay:8s").await?;
    let world = &fleet.world;
    fleet.each_at_its_point(async |replica: &Daemon| signals::freeze(replica.pid()?).await).await?;
    world.cloud.set_rate(0.0);

    // What they have in their hands becomes outdated: nobody else can get these bodies any more, so who writes them is known.
    let stored = stored_hashes(world).await?;
    let rows = world.cloud.ledger().all_rows();
    let in_hand: Vec<_> = rows.iter().filter(|row| row.latest && row.served > 0 && !stored.contains(&row.sha256())).collect();
    for row in &in_hand {
        world.cloud.publish_update_of(row.tenant, row.alert_id.as_deref().context("an alert without an id")?)?;
    }
    println!("{} alerts in the hands of {} frozen replicas", in_hand.len(), fleet.replicas.len());
    assert!(in_hand.len() >= 10, "only {} alerts were in their hands, so this proves little", in_hand.len());

    let successor = world.serve()?;
    holds(&successor, world.cloud.tenants().len()).await?;
    let before = eventually("the successor has caught up", LONG, async || {
        let tally = world.tally().await.map_err(|error| error.to_string())?;
        if tally.stored == tally.published && tally.stale.is_empty() { Ok(tally) } else { Err(tally.to_string()) }
    })
    .await?;
    assert_eq!(before.lost.len(), in_hand.len(), "{before}");
    assert!(before.duplicated.is_empty() && before.unknown.is_empty(), "{before}");

    for (_, replica) in &fleet.replicas {
        signals::wake(replica.pid()?)?;
    }
    // Each goes on from where it stood, and takes its share again.
    eventually("those that slept have customers again", LONG, async || {
        let mut without = Vec::new();
        for (point, replica) in fleet.replicas.iter().filter(|(point, _)| *point != "lease.before-release") {
            match replica.metric("tocsin_lease_held", "").await {
                Ok(held) if held > 0.0 => {}
                seen => without.push((point, format!("{seen:?}"))),
            }
        }
        if without.is_empty() { Ok(()) } else { Err(without) }
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
    let fleet = Fleet::start(&format!("delay:{}s", delay.as_secs())).await?;
    let begun = Instant::now();
    fleet.each_at_its_point(async |_: &Daemon| Ok(())).await?;
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
