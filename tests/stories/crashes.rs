//! kill -9, at whatever moment: what was stored stays, what was not is read again, and nothing comes twice.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use e2e::harness::{Changes, Setup, World, eventually};
use rustix::process::{Pid, Signal, kill_process};
use simulator::{Effect, Endpoint, Rotation, Rule, Settings, SourceMix};

const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(180);

/// Many small pages, so that there are many moments to be killed at, and a budget that does not slow them down.
const SMALL_PAGES: &str = "[poll]\ninterval = \"1s\"\npage_size = 25\n\
                           [budget]\ngraph_per_minute = 100000\ndefender_per_minute = 100000\ndefender_per_hour = 1000000\n";

#[tokio::test]
async fn twenty_kills_in_a_first_sync_lose_nothing_and_double_nothing() -> anyhow::Result<()> {
    const KILLS: i64 = 20;
    const HISTORY: usize = 1500;
    let cloud = Settings { tenants: 3, history: HISTORY, sources: SourceMix::Mixed, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }).await?;
    // Slow enough that a life does not see the end of the sync.
    world.cloud.script(Rule::new(Effect::Slow { ms: 60 }));
    let history = i64::try_from(3 * HISTORY)?;

    let mut changes = Changes::default();
    let mut amid = 0;
    for life in 0..KILLS {
        let before = stored(&world, "dash.alert_version").await?;
        let mut daemon = world.serve()?;
        // Every life gets further than the one before, some by a page and some by several.
        grown(&world, before + 25 * (life % 4)).await?;
        for tenant in world.cloud.tenants() {
            world.cloud.publish_new(tenant.directory_id, 1)?;
            changes.make(&world, &tenant, 1).await?;
        }
        daemon.kill().await?;
        amid += i64::from(stored(&world, "dash.alert").await? < history);
        for tenant in world.cloud.tenants() {
            world.cloud.publish_new(tenant.directory_id, 1)?;
        }
        assert!(!daemon.log()?.contains("panicked"), "{}", daemon.last_words());
    }
    assert!(amid >= 15, "only {amid} of {KILLS} kills fell into the first sync, so this proved little");
    assert!(changes.count() >= 30, "only {} alerts changed meanwhile", changes.count());

    world.cloud.clear_script();
    let mut daemon = world.serve()?;
    let tally = world.settled(LONG).await?;
    assert_eq!(tally.published, 3 * HISTORY + 6 * usize::try_from(KILLS)?);
    assert!(tally.versions_stored >= tally.stored + changes.count(), "{tally}");
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn the_embedded_server_dies_with_a_killed_daemon_and_the_next_start_finds_everything() -> anyhow::Result<()> {
    const HISTORY: usize = 600;
    let cloud = Settings { tenants: 3, history: HISTORY, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, config: SMALL_PAGES.into(), embedded: true }).await?;
    world.cloud.script(Rule::new(Effect::Slow { ms: 100 }));
    let mut before = 0;
    let mut amid = 0;
    for _ in 0..5 {
        let mut daemon = world.serve()?;
        let seen = grown(&world, before).await?;
        assert!(seen >= before, "committed alerts are gone: {seen} after {before}");
        amid += u32::from(stored(&world, "dash.alert").await? < i64::try_from(3 * HISTORY)?);
        let server = server_of(&world)?;
        before = stored(&world, "dash.alert_version").await?;
        daemon.kill().await?;
        eventually("the embedded server ends with its daemon", SOON, async || if lives(server) { Err(server) } else { Ok(()) }).await?;
    }
    assert!(amid >= 4, "only {amid} of 5 kills fell into the first sync");

    world.cloud.clear_script();
    let mut daemon = world.serve()?;
    let tally = world.settled(LONG).await?;
    assert_eq!(tally.published, 3 * HISTORY);
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn the_daemon_does_not_outlive_its_embedded_server_and_says_so() -> anyhow::Result<()> {
    let world = World::with_tenants(Setup { embedded: true, ..Setup::default() }).await?;
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    let server = i32::try_from(server_of(&world)?)?;
    kill_process(Pid::from_raw(server).context("no process id")?, Signal::KILL)?;
    let status = daemon.ended(Duration::from_secs(30)).await?;
    assert_eq!(status.code(), Some(1), "{}", daemon.last_words());
    assert!(daemon.log()?.contains("the embedded Postgres ended"), "{}", daemon.last_words());

    let mut daemon = world.serve()?;
    world.cloud.publish_new(world.cloud.tenants()[0].directory_id, 5)?;
    world.settled(SOON).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn kills_while_refresh_tokens_rotate_lose_no_customer() -> anyhow::Result<()> {
    let world = World::with_tenants(rotating(Rotation::Entra)).await?;
    for life in 0..10 {
        // In every other life the answer with the new token is still on its way when the daemon dies.
        if life % 2 == 1 {
            world.cloud.script(slow_answer());
        }
        world.cloud.clear_journal();
        let mut daemon = world.serve()?;
        redeemed(&world, 1 + life % 3).await?;
        daemon.kill().await?;
        world.cloud.clear_script();
    }
    world.cloud.clear_journal();
    let mut daemon = world.serve()?;
    // Long enough to see tokens renewed ahead of their end by the same process.
    redeemed(&world, 3).await?;
    for tenant in world.cloud.tenants() {
        world.cloud.publish_new(tenant.directory_id, 2)?;
    }
    world.settled(SOON).await?;
    all_active(&world).await?;
    // What it works with is what rotation left, and not the token that was imported.
    for entry in world.cloud.journal().iter().filter(|entry| entry.endpoint == Endpoint::Token) {
        assert_eq!(entry.status, 200, "{entry:?}");
        assert!(!entry.token.as_deref().unwrap_or_default().ends_with(".0"), "the first token was used again: {entry:?}");
    }
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn planned_stops_lose_no_refresh_token_even_where_an_old_one_is_taken_for_theft() -> anyhow::Result<()> {
    let world = World::with_tenants(rotating(Rotation::Strict)).await?;
    for life in 0..5 {
        // Some stops fall between the request and the answer, which has then to be waited for.
        if life % 2 == 1 {
            world.cloud.script(slow_answer());
        }
        world.cloud.clear_journal();
        let mut daemon = world.serve()?;
        redeemed(&world, 1 + life % 2).await?;
        daemon.terminate().await?;
        world.cloud.clear_script();
    }
    let mut daemon = world.serve()?;
    redeemed(&world, 3).await?;
    for tenant in world.cloud.tenants() {
        world.cloud.publish_new(tenant.directory_id, 2)?;
    }
    world.settled(SOON).await?;
    all_active(&world).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_sign_in_lost_to_a_kill_at_the_worst_moment_is_told_and_a_new_token_heals_it() -> anyhow::Result<()> {
    let world = World::with_tenants(rotating(Rotation::Strict)).await?;
    world.cloud.script(slow_answer());
    let mut daemon = world.serve()?;
    // Microsoft has rotated, the answer is on its way: no client can save this token now.
    redeemed(&world, 1).await?;
    daemon.kill().await?;
    world.cloud.clear_script();

    let mut daemon = world.serve()?;
    eventually("every lost sign-in shows", SOON, async || {
        let states = states(&world).await.map_err(|error| error.to_string())?;
        let told = states.iter().all(|(state, reason, action)| state == "needs-consent" && reason.is_some() && action.is_some());
        if told { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .await?;

    let mut tenants = world.cloud.tenants();
    for tenant in &mut tenants {
        tenant.refresh_token = world.cloud.issue_refresh_token(tenant.directory_id)?;
    }
    let csv = world.write_private("again.csv", &world.csv(&tenants))?;
    world.run(&["tenant", "import", "--replace-token", &csv.display().to_string()]).await?.ok()?;
    world.settled(SOON).await?;
    eventually("every tenant is active again", SOON, async || all_active(&world).await.map_err(|error| error.to_string())).await?;
    daemon.terminate().await?;
    world.end().await
}

/// Access tokens live for seconds, so refresh tokens rotate all the time.
fn rotating(rotation: Rotation) -> Setup {
    let access_lifetime = (Duration::from_secs(2), Duration::from_secs(3));
    let cloud = Settings { tenants: 4, history: 10, sources: SourceMix::GraphOnly, rotation, access_lifetime, ..Settings::default() };
    Setup { cloud, ..Setup::default() }
}

/// The token endpoint does its work at once and takes a second or two to say what came of it.
fn slow_answer() -> Rule {
    Rule::new(Effect::Trickle { bytes: 256, every_ms: 100 }).endpoint(Endpoint::Token)
}

/// Waits until the sign-in service has granted at least `times` tokens to every tenant since the journal was cleared.
async fn redeemed(world: &World, times: usize) -> anyhow::Result<()> {
    eventually("every tenant gets its tokens", SOON, async || {
        let journal = world.cloud.journal();
        let granted = |tenant| {
            journal.iter().filter(|entry| entry.endpoint == Endpoint::Token && entry.status == 200 && entry.tenant == Some(tenant)).count()
        };
        let counts: Vec<usize> = world.cloud.tenants().iter().map(|tenant| granted(tenant.directory_id)).collect();
        if counts.iter().all(|count| *count >= times) { Ok(()) } else { Err(counts) }
    })
    .await
}

async fn states(world: &World) -> anyhow::Result<Vec<(String, Option<String>, Option<String>)>> {
    Ok(sqlx::query_as("select state, reason, action from dash.tenant_health").fetch_all(&world.pool().await?).await?)
}

async fn all_active(world: &World) -> anyhow::Result<()> {
    let states = states(world).await?;
    anyhow::ensure!(states.iter().all(|(state, reason, _)| state == "active" && reason.is_none()), "{states:?}");
    Ok(())
}

/// Waits until more than `before` versions are stored; also while an embedded server is only starting.
async fn grown(world: &World, before: i64) -> anyhow::Result<i64> {
    eventually("more is stored than before", SOON, async || match stored(world, "dash.alert_version").await {
        Ok(now) if now > before => Ok(now),
        seen => Err(format!("{seen:?}, where {before} were before")),
    })
    .await
}

async fn stored(world: &World, view: &str) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {view}"))).fetch_one(&world.pool().await?).await?)
}

/// The process id of the embedded server of this world.
fn server_of(world: &World) -> anyhow::Result<u32> {
    let pid = std::fs::read_to_string(world.path("state/postgres/data/postmaster.pid"))?;
    Ok(pid.lines().next().context("an empty postmaster.pid")?.trim().parse()?)
}

/// Whether a process exists and is not only waiting to be collected.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
