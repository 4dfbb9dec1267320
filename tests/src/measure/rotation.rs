//! Kills around the rotation of refresh tokens (I30): at every named step of a redemption and at any other moment.
//!
//! The pretend Microsoft says how many tokens it gave, the database says how many were stored. A kill that fell between the
//! two costs nothing where an old token stays good, as at Entra. Where an old one is taken for theft no client could keep
//! the sign-in then; but that shows within a minute, and any other loss is a fault of ours.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use simulator::{Effect, Endpoint, JournalEntry, Rotation, Rule, Settings, SimTenant, SourceMix};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Spans, world_on};
use crate::harness::{Setup, TenantHealth, World, eventually, side_by_side};

/// So soon a lost sign-in must show.
pub const TOLD_WITHIN: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(120);
const TENANTS: usize = 2;

/// How a life of the daemon ends.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// By itself, when it passes a named point for the so manyth time.
    At(&'static str, u32),
    /// By `kill -9`, once so many tokens were given out.
    Anywhere(usize),
    /// The same, while the answers are slow to arrive.
    Amid(usize),
}

use Death::{Amid, Anywhere, At};

/// Where an old token stays good every death is as cheap as any other.
const AT_ENTRA: &[Death] = &[
    At("refresh.before-call", 1),
    At("refresh.answered", 1),
    At("refresh.before-save", 1),
    At("refresh.saved", 1),
    Amid(1),
    At("refresh.before-call", 2),
    At("refresh.answered", 2),
    At("refresh.before-save", 2),
    At("refresh.saved", 2),
    Amid(2),
    Anywhere(2),
    At("refresh.answered", 3),
    Anywhere(3),
];

/// A loss costs a quarter of a minute until it shows, so a few deaths only are aimed at the gap.
const WHERE_STRICT: &[Death] = &[
    At("refresh.before-call", 1),
    At("refresh.saved", 1),
    Anywhere(2),
    At("refresh.saved", 2),
    At("refresh.answered", 1),
    At("refresh.before-call", 2),
    At("refresh.saved", 3),
    Anywhere(3),
    At("refresh.before-save", 2),
    At("refresh.before-call", 3),
    At("refresh.saved", 1),
    Anywhere(2),
];

/// What came of it, in one mode of rotation or in both.
#[derive(Clone, Debug, Default)]
pub struct Kills {
    /// Lives that were ended.
    pub kills: usize,
    /// Tokens that had been given and were not stored when the life ended.
    pub in_the_gap: usize,
    /// Sign-ins that were lost.
    pub lost: usize,
    /// How long after the next start each of these showed.
    pub told: Spans,
}

/// Lets a daemon die so often in each of so many worlds, some of them side by side, on this server or on that of
/// `DATABASE_URL`.
///
/// # Errors
/// When a sign-in is lost that need not be, or does not show in time.
pub async fn kills(rotation: Rotation, worlds: usize, each: usize, at_once: usize, server: Option<&str>) -> anyhow::Result<Kills> {
    let cases =
        (0..worlds).map(|number| (format!("{rotation:?} {number}"), world_of_kills(rotation, number, each, server.map(str::to_owned))));
    let seen = side_by_side(at_once, cases).await?;
    Ok(Kills {
        kills: seen.iter().map(|world| world.kills).sum(),
        in_the_gap: seen.iter().map(|world| world.in_the_gap).sum(),
        lost: seen.iter().map(|world| world.told.len()).sum(),
        told: seen.into_iter().flat_map(|world| world.told).collect(),
    })
}

#[derive(Default)]
struct Seen {
    kills: usize,
    in_the_gap: usize,
    told: Vec<Duration>,
}

async fn world_of_kills(rotation: Rotation, number: usize, kills: usize, server: Option<String>) -> anyhow::Result<Seen> {
    // Access tokens live for seconds, so refresh tokens rotate all the time.
    let access_lifetime = (Duration::from_secs(2), Duration::from_secs(3));
    let sources = SourceMix::GraphOnly;
    let cloud = Settings { seed: number as u64, tenants: TENANTS, history: 2, sources, rotation, access_lifetime, ..Settings::default() };
    let world = world_on(server.as_deref(), Setup { cloud, ..Setup::default() }).await?;
    let deaths = if rotation == Rotation::Strict { WHERE_STRICT } else { AT_ENTRA };
    let mut seen = Seen::default();
    for kill in 0..kills {
        let death = deaths[(number * kills + kill) % deaths.len()];
        let gap = life(&world, death).await.map_err(|error| error.context(format!("life {kill}, {death:?}")))?;
        seen.kills += 1;
        seen.in_the_gap += gap.len();
        if rotation == Rotation::Strict && !gap.is_empty() {
            seen.told.extend(lost_and_found(&world, &gap).await.map_err(|error| error.context(format!("after life {kill}, {death:?}")))?);
        }
    }
    // Whoever was not killed in the gap goes on with what was stored.
    world.cloud.clear_journal();
    let mut daemon = world.serve()?;
    granted(&world, TENANTS).await?;
    all_active(&world).await?;
    anyhow::ensure!(refused(&world).is_empty(), "a sign-in was refused that nobody had reason to lose: {:?}", refused(&world));
    daemon.terminate().await?;
    world.end().await?;
    Ok(seen)
}

/// One life and its end; for whom a token was given and not stored.
async fn life(world: &World, death: Death) -> anyhow::Result<Vec<Uuid>> {
    let before = versions(world).await?;
    world.cloud.clear_journal();
    if let Amid(_) = death {
        world.cloud.script(Rule::new(Effect::Trickle { bytes: 256, every_ms: 100 }).endpoint(Endpoint::Token));
    }
    match death {
        At(point, passing) => {
            let mut daemon = world.serve_with(&[("TOCSIN_REHEARSAL", &format!("{point}=abort@{passing}"))])?;
            let status = daemon.ended(SOON).await?;
            anyhow::ensure!(status.signal() == Some(6), "it ended with {status}:\n{}", daemon.last_words());
        }
        Anywhere(tokens) | Amid(tokens) => {
            let mut daemon = world.serve()?;
            granted(world, tokens).await?;
            daemon.kill().await?;
        }
    }
    world.cloud.clear_script();
    let journal = at_rest(world).await?;
    anyhow::ensure!(refused(world).is_empty(), "a sign-in was refused that nobody had reason to lose: {:?}", refused(world));
    let after = versions(world).await?;
    let mut gap = Vec::new();
    for (tenant, version) in after {
        let given = journal.iter().filter(|entry| entry.tenant == Some(tenant) && entry.status == 200).count();
        let stored = usize::try_from(version - before.get(&tenant).copied().unwrap_or_default())?;
        anyhow::ensure!((stored..=stored + 1).contains(&given), "{given} tokens were given to {tenant}, and {stored} are stored");
        if given > stored {
            gap.push(tenant);
        }
    }
    Ok(gap)
}

/// These have lost their sign-in: it shows, nobody else is touched, and a new consent heals it.
async fn lost_and_found(world: &World, lost: &[Uuid]) -> anyhow::Result<Vec<Duration>> {
    let begun = Instant::now();
    let mut daemon = world.serve()?;
    eventually("every lost sign-in shows", TOLD_WITHIN, async || {
        let mut quiet = Vec::new();
        for tenant in lost {
            let health = world.health(*tenant).await.map_err(|error| vec![error.to_string()])?;
            if health.state != "needs-consent" || health.reason.is_empty() || health.action.is_empty() {
                quiet.push(format!("{tenant}: {health:?}"));
            }
        }
        if quiet.is_empty() { Ok(()) } else { Err(quiet) }
    })
    .await?;
    let told = begun.elapsed();
    let others: Vec<SimTenant> = world.cloud.tenants().into_iter().filter(|tenant| !lost.contains(&tenant.directory_id)).collect();
    for tenant in &others {
        world.healthy_when(tenant.directory_id, "whoever lost nothing is well", SOON, |health| health.state == "active").await?;
    }
    let mut tenants = world.cloud.tenants();
    tenants.retain(|tenant| lost.contains(&tenant.directory_id));
    for tenant in &mut tenants {
        tenant.refresh_token = world.cloud.issue_refresh_token(tenant.directory_id)?;
    }
    let csv = world.write_private("again.csv", &world.csv(&tenants))?;
    world.run(&["tenant", "import", "--replace-token", &csv.display().to_string()]).await?.ok()?;
    all_active(world).await?;
    // A planned stop waits for redemptions in flight, so it loses nothing.
    daemon.terminate().await?;
    Ok(vec![told; lost.len()])
}

/// Which token of each customer is stored, by number.
async fn versions(world: &World) -> anyhow::Result<BTreeMap<Uuid, i64>> {
    let sql = "select tenant, version from tocsin.tenant_secret where kind = 'refresh-token'";
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(sql).fetch_all(&world.pool().await?).await?;
    anyhow::ensure!(rows.len() == TENANTS, "{rows:?}");
    Ok(rows.into_iter().collect())
}

/// Every redemption since the journal was cleared.
fn redemptions(world: &World) -> Vec<JournalEntry> {
    world.cloud.journal().into_iter().filter(|entry| entry.endpoint == Endpoint::Token).collect()
}

fn refused(world: &World) -> Vec<JournalEntry> {
    redemptions(world).into_iter().filter(|entry| entry.status != 200).collect()
}

/// The redemptions of a process that is gone, once the service has done with what it had heard of it.
async fn at_rest(world: &World) -> anyhow::Result<Vec<JournalEntry>> {
    let last = Cell::new(usize::MAX);
    eventually("the sign-in service has done with it", SOON, async || {
        let seen = redemptions(world);
        if last.replace(seen.len()) == seen.len() { Ok(seen) } else { Err(seen.len()) }
    })
    .await
}

/// Waits until so many tokens were given out.
async fn granted(world: &World, tokens: usize) -> anyhow::Result<()> {
    eventually("tokens are given out", SOON, async || {
        let given = redemptions(world).iter().filter(|entry| entry.status == 200).count();
        if given >= tokens { Ok(()) } else { Err(given) }
    })
    .await
}

async fn all_active(world: &World) -> anyhow::Result<()> {
    for tenant in world.cloud.tenants() {
        let well = |health: &TenantHealth| health.state == "active" && health.reason.is_empty();
        world.healthy_when(tenant.directory_id, "everybody is active", SOON, well).await?;
    }
    Ok(())
}
