//! What is done to processes, one thing after the other: kills, stops, freezes, panics, limits.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context;
use domain::rehearsal;
use rustix::process::{Pid, Resource, Rlimit, Signal};
use simulator::{Effect, Endpoint, NextLink, Rule, Stamp};
use tokio::time::Instant;

use super::{cloud, database, network};
use crate::harness::eventually;
use crate::soak::dice::Dice;
use crate::soak::lab::{CROWDED, HEALTHY, INTERVAL, LEASE, Lab, NEIGHBOURS, REDEMPTIONS_PER_SECOND, Replica, STRICT};
use crate::soak::{load, sampler};

/// The two replicas, which an act may do with as it likes, so long as both are at work in the end.
pub type Replicas = [Replica; 2];
type Doing<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + 'a>>;

/// One thing that is done.
pub struct Act {
    /// What it is, in words.
    pub name: &'static str,
    /// The faults of the catalogue that it is.
    pub faults: &'static [u8],
    /// Does it, and waits until the world has recovered.
    pub run: for<'a> fn(&'a Lab, &'a mut Replicas, &'a mut Dice) -> Doing<'a>,
}

macro_rules! act {
    ($name:literal, $faults:expr, $run:path) => {
        Act { name: $name, faults: &$faults, run: |lab, replicas, dice| Box::pin($run(lab, replicas, dice)) }
    };
}

/// Everything that is done, in the order in which a short soak does it.
pub const ACTS: &[Act] = &[
    act!("kill -9, and the other one takes over", [56], kill),
    act!("SIGTERM under load, and the other one takes over", [57], stop),
    act!("a second SIGTERM while the first one waits", [58], stop_twice),
    act!("frozen for longer than a lease, then woken", [59], freeze),
    act!("every thread stands still for some seconds", [61], stand_still),
    act!("a panic in each task", [60], panics),
    act!("the process ends at a named step", [56], aborts),
    act!("no further file or connection may be opened", [62], few_files),
    act!("nothing can be written to the log any more", [64], full_log),
    act!("a start without a database, with a wrong key ring, and with a newer schema", [44, 71, 53], bad_starts),
    act!("Postgres stops immediately", [45], database::immediate_stop),
    act!("answers to COMMIT get lost", [46], database::lost_commits),
    act!("Postgres falls back to an earlier state", [47], database::falls_back),
    act!("Postgres is read-only", [48], database::read_only),
    act!("Postgres' disk is full", [49], database::disk_full),
    act!("Postgres has no connection left", [50], database::no_connections),
    act!("Postgres reports deadlocks and serialization failures", [51], database::deadlocks),
    act!("a table is locked", [52], database::locked),
    act!("Postgres refuses the login", [55], database::login_refused),
    act!("one replica is cut from Postgres", [68], network::cut_from_database),
    act!("one replica is cut from Microsoft", [69], network::cut_from_microsoft),
    act!("one direction is lost", [70], network::one_way),
    act!("connecting to Microsoft is refused", [1], network::refused),
    act!("connecting to Microsoft gets no answer", [2], network::no_answer),
    act!("a policy lets nothing out", [72], network::blocked),
    act!("sick neighbours", [], network::sick_neighbours),
    act!("every access token is refused at once", [], expiry),
    act!("an answer lost after rotation, where an old token is taken for theft", [37], lost_rotation),
    act!("a skip token that expired, a foreign and a looping link, a row that moves", [18, 19, 20, 24], links),
    act!("a version that goes back", [25], goes_back),
];

/// How long the other replica may need to take over, and a replica to get its share again.
pub const TAKEN_OVER: Duration = Duration::from_secs(60);

/// The one that things are done to, and the other one.
pub fn pick<'a>(replicas: &'a mut Replicas, dice: &mut Dice) -> (&'a mut Replica, &'a mut Replica) {
    let [one, two] = replicas;
    if dice.below(2) == 0 { (one, two) } else { (two, one) }
}

async fn kill(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, other) = pick(replicas, dice);
    let other_id = other.daemon()?.replica_id().await?;
    lab.kill(victim).await?;
    lab.book.fired(56, 1);
    lab.book.held(30, 1);
    let begun = Instant::now();
    lab.holds_all(other_id, TAKEN_OVER).await?;
    lab.book.measure("failover_ms", begun.elapsed().as_secs_f64() * 1000.0);
    lab.start(victim).await?;
    lab.shared(TAKEN_OVER).await
}

async fn stop(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, other) = pick(replicas, dice);
    let other_id = other.daemon()?.replica_id().await?;
    let took = lab.terminate(victim).await?;
    lab.book.fired(57, 1);
    let gone = Instant::now();
    // Whoever asks from now on is the other one.
    let from = lab.cloud.journal_totals().values().sum();
    lab.book.check(32, (took > Duration::from_secs(10)).then(|| format!("SIGTERM to exit took {took:?}")));
    lab.holds_all(other_id, Duration::from_secs(20)).await?;
    // Some of the others may be throttled or without a token.
    eventually("healthy customers are polled by the other replica", Duration::from_secs(30), async || {
        let asked = lab.cloud.journal_from(from);
        let is_asked = |tenant: &simulator::SimTenant| {
            asked.iter().any(|entry| entry.endpoint == Endpoint::Graph && entry.tenant == Some(tenant.directory_id))
        };
        let missing = lab.tenants.iter().take(HEALTHY).filter(|tenant| !is_asked(tenant)).count();
        if missing == 0 { Ok(()) } else { Err(missing) }
    })
    .await?;
    let handover = gone.elapsed();
    lab.book.measure("handover_ms", handover.as_secs_f64() * 1000.0);
    // Two seconds to take over, and one interval until a poll is due.
    let limit = Duration::from_secs(2) + INTERVAL;
    lab.book.check(32, (handover > limit).then(|| format!("the other replica polled everybody only after {handover:?}")));
    lab.start(victim).await?;
    lab.shared(TAKEN_OVER).await
}

async fn stop_twice(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, _) = pick(replicas, dice);
    // A redemption in flight is worth waiting for: its answer may hold the only token that works.
    let slow = &lab.tenants[HEALTHY..HEALTHY + NEIGHBOURS];
    for tenant in slow {
        let rule = |effect, endpoint| Rule::new(effect).tenant(tenant.directory_id).endpoint(endpoint).times(2);
        lab.cloud.script(rule(Effect::Slow { ms: 6000 }, Endpoint::Token));
        lab.cloud.script(rule(Effect::Unauthorized { claims: false }, Endpoint::Graph));
    }
    eventually("redemptions are under way", Duration::from_secs(30), async || {
        // Taken by a request, though not answered yet.
        let left = lab.cloud.rules().iter().filter(|rule| matches!(rule.effect, Effect::Slow { .. }) && rule.times == Some(2)).count();
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await?;
    lab.gone(victim);
    let daemon = victim.daemon()?;
    daemon.signal(Signal::TERM)?;
    eventually("it says that it stops", Duration::from_secs(10), async || {
        let ended = daemon.pid().is_err() || daemon.log().is_ok_and(|log| log.contains("once more ends at once") || log.contains("stopping"));
        if ended { Ok(()) } else { Err(daemon.last_words()) }
    })
    .await?;
    // It may have been faster than we are.
    let _ = daemon.signal(Signal::TERM);
    let begun = Instant::now();
    daemon.ended(Duration::from_secs(10)).await?;
    lab.book.fired(58, 1);
    let took = begun.elapsed();
    lab.book.check(32, (took > Duration::from_secs(3)).then(|| format!("the second SIGTERM took {took:?}")));
    for tenant in slow {
        lab.cloud.clear_script_of(tenant.directory_id);
    }
    lab.start(victim).await?;
    lab.shared(TAKEN_OVER).await
}

async fn freeze(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, other) = pick(replicas, dice);
    let other_id = other.daemon()?.replica_id().await?;
    victim.daemon()?.signal(Signal::STOP)?;
    let begun = Instant::now();
    lab.holds_all(other_id, LEASE + TAKEN_OVER).await?;
    lab.book.measure("failover_ms", begun.elapsed().as_secs_f64() * 1000.0);
    lab.book.fired(59, 1);
    victim.daemon()?.signal(Signal::CONT)?;
    lab.shared(TAKEN_OVER).await
}

async fn stand_still(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, _) = pick(replicas, dice);
    victim.daemon()?.signal(Signal::STOP)?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    victim.daemon()?.signal(Signal::CONT)?;
    lab.book.fired(61, 1);
    lab.shared(TAKEN_OVER).await
}

/// A step in each task at which to panic.
const PANICS: &[&str] = &["fetch.before-call", "refresh.before-call", "commit.begin", "cursor.read", "lease.before-renew", "split.before"];

async fn panics(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let mut points = PANICS.to_vec();
    dice.shuffle(&mut points);
    for point in points {
        let (victim, _) = pick(replicas, dice);
        rehearse(lab, victim, &format!("{point}=panic@1"), |log| log.contains(&format!("a panic at {point}"))).await.with_context(|| format!("a panic at {point}"))?;
        lab.book.fired(60, 1);
    }
    lab.shared(TAKEN_OVER).await
}

/// I33: the process ends at named steps.
async fn aborts(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let mut points: Vec<&str> = rehearsal::POINTS.iter().copied().filter(|point| *point != "lease.before-release").collect();
    dice.shuffle(&mut points);
    for point in points.into_iter().take(5) {
        let (victim, _) = pick(replicas, dice);
        let aborted = rehearse(lab, victim, &format!("{point}=abort@1"), |_| false).await.with_context(|| format!("the end at {point}"));
        lab.book.check(33, aborted.err().map(|error| format!("{error:#}")));
        lab.book.fired(56, 1);
    }
    lab.shared(TAKEN_OVER).await
}

/// One life of a replica with a rehearsal switched on, until it has ended or `done` says so; then a life without.
async fn rehearse(lab: &Lab, victim: &mut Replica, what: &str, done: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    lab.kill(victim).await?;
    lab.spawn(victim, &[("TOCSIN_REHEARSAL", what)]).await?;
    // It may end before it has said who it is.
    let id = victim.daemon()?.replica_id();
    if let Ok(Ok(id)) = tokio::time::timeout(Duration::from_secs(5), id).await {
        sqlx::query("insert into soak.replica (login, replica) values ($1, $2) on conflict do nothing").bind(victim.login()).bind(id).execute(&lab.pool()).await?;
    }
    let daemon = victim.daemon()?;
    let took_place = eventually("the rehearsal takes place", Duration::from_secs(45), async || {
        let over = daemon.pid().is_err() || std::fs::metadata(format!("/proc/{}/exe", daemon.pid().unwrap_or(0))).is_err();
        if over || daemon.log().is_ok_and(|log| done(&log)) { Ok(()) } else { Err(daemon.last_words()) }
    })
    .await;
    if daemon.pid().is_ok() {
        let _ = daemon.signal(Signal::KILL);
        daemon.ended(Duration::from_secs(10)).await?;
    }
    lab.start(victim).await?;
    took_place
}

async fn few_files(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, _) = pick(replicas, dice);
    let pid = Pid::from_raw(i32::try_from(victim.daemon()?.pid()?)?);
    let open = victim.daemon()?.open_files()? as u64;
    let before = rustix::process::prlimit(pid, Resource::Nofile, Rlimit { current: Some(open), maximum: None })?;
    victim.database.cut();
    victim.cloud.cut();
    tokio::time::sleep(Duration::from_secs(5)).await;
    rustix::process::prlimit(pid, Resource::Nofile, before)?;
    lab.book.fired(62, 1);
    lab.shared(TAKEN_OVER).await
}

async fn full_log(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, other) = pick(replicas, dice);
    let other_id = other.daemon()?.replica_id().await?;
    lab.terminate(victim).await?;
    let mut command = victim.command().await?;
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full");
    let mut child = command.stdout(full()?).stderr(full()?).process_group(0).spawn()?;
    // It cannot say who it is; the leases tell.
    let silent = eventually("a replica without a log takes its share", TAKEN_OVER, async || {
        let holder = sqlx::query_scalar::<_, uuid::Uuid>("select holder from tocsin.lease where holder <> $1 and expires_at > now() limit 1")
            .bind(other_id)
            .fetch_optional(&lab.pool())
            .await;
        holder.ok().flatten().ok_or(())
    })
    .await;
    if let Ok(id) = silent {
        sqlx::query("insert into soak.replica (login, replica) values ($1, $2) on conflict do nothing").bind(victim.login()).bind(id).execute(&lab.pool()).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        lab.book.fired(64, 1);
    }
    child.kill().await?;
    lab.start(victim).await?;
    silent?;
    lab.shared(TAKEN_OVER).await
}

/// Starts that must end at once, each with its own exit code, and change nothing.
async fn bad_starts(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, _) = pick(replicas, dice);
    let config = std::fs::read_to_string(victim.config())?;
    let start = async |name: &str, toml: String, codes: &[i32]| -> anyhow::Result<()> {
        let file = lab.path(&format!("{name}.toml"));
        std::fs::write(&file, toml)?;
        let ended = crate::harness::run(&file, &["serve"]).await?;
        anyhow::ensure!(codes.contains(&ended.code()), "{name}: exit {}: {}", ended.code(), ended.stderr);
        Ok(())
    };
    let nowhere = config.replace(&victim.database.address().to_string(), "127.0.0.1:9");
    start("no-database", nowhere, &[69]).await?;
    lab.book.fired(44, 1);

    let ring = lab.path("keys/ring");
    let text = std::fs::read_to_string(&ring)?;
    let swapped = lab.path("swapped");
    std::fs::create_dir_all(&swapped)?;
    let named = |file: &str| config.replace(&ring.display().to_string(), &lab.path(file).display().to_string());
    lab.write_private("truncated-ring", &text[..text.len() / 2])?;
    start("ring-missing", named("no-such-ring"), &[78]).await?;
    start("ring-truncated", named("truncated-ring"), &[78]).await?;
    std::fs::write(lab.path("swap.toml"), named("swapped/ring"))?;
    crate::harness::run(&lab.path("swap.toml"), &["key", "init"]).await?.ok()?;
    start("ring-swapped", named("swapped/ring"), &[78]).await?;
    lab.book.fired(71, 3);

    let newer = "insert into _sqlx_migrations (version, description, installed_on, success, checksum, execution_time) values (99999, 'from the future', now(), true, '\\x00', 0)";
    let table: Option<String> = sqlx::query_scalar("select schemaname || '.' || tablename from pg_tables where tablename = '_sqlx_migrations' limit 1").fetch_optional(&lab.pool()).await?;
    let table = table.context("no table of migrations")?;
    sqlx::query(sqlx::AssertSqlSafe(newer.replace("_sqlx_migrations", &table))).execute(&lab.pool()).await?;
    let refused = start("newer-schema", config.clone(), &[3]).await;
    sqlx::query(sqlx::AssertSqlSafe(format!("delete from {table} where version = 99999"))).execute(&lab.pool()).await?;
    refused?;
    lab.book.fired(53, 1);
    Ok(())
}

/// Strict rotation: the answer that holds the only good token is lost on its way. It must show, and a new token heals it.
async fn lost_rotation(lab: &Lab, _: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    let tenant = &lab.tenants[STRICT];
    let id = tenant.directory_id;
    lab.cloud.script(Rule::new(Effect::ResetAfter { bytes: 0 }).tenant(id).endpoint(Endpoint::Token).times(1));
    lab.cloud.script(Rule::new(Effect::Unauthorized { claims: false }).tenant(id).endpoint(Endpoint::Graph).times(1));
    eventually("an answer is lost", Duration::from_secs(90), async || match lab.cloud.felt(Some(id), "reset_after") {
        0 => Err(()),
        _ => Ok(()),
    })
    .await?;
    lab.book.fired(37, 1);
    let told = eventually("the lost sign-in shows", Duration::from_secs(60), async || {
        let state = sqlx::query_scalar::<_, String>("select state from dash.tenant_health where directory_id = $1").bind(id).fetch_one(&lab.pool()).await;
        if state.as_deref().is_ok_and(|state| state == "needs-consent") { Ok(()) } else { Err(format!("{state:?}")) }
    })
    .await;
    lab.book.check(30, told.err().map(|error| format!("{error:#}")));
    lab.consent_again(tenant).await?;
    cloud::recovered(lab, tenant).await
}

/// Runs of equal stamps make links necessary; then each way in which a link can lead astray.
async fn links(lab: &Lab, _: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    let id = lab.tenants[CROWDED].directory_id;
    let on_graph = |effect| Rule::new(effect).tenant(id).endpoint(Endpoint::Graph);
    let ways: [(u8, &str, Rule); 4] = [
        (18, "expired_skip_token", on_graph(Effect::ExpiredSkipToken { status: 410 }).times(2)),
        (19, "foreign_next_link", on_graph(Effect::ForeignNextLink { url: "https://graph.attacker.example/v1.0/security/alerts_v2?$skiptoken=x".into() }).times(2)),
        (20, "looping_next_link", on_graph(Effect::LoopingNextLink).times(3)),
        (24, "shift", on_graph(Effect::Shift).times(1)),
    ];
    for (fault, name, rule) in ways {
        let before = lab.cloud.felt(Some(id), name);
        lab.cloud.script(on_graph(Effect::Clamp { top: 15 }));
        lab.cloud.script(on_graph(Effect::NextLink(NextLink::CountingSkipToken)).query("$skiptoken="));
        let tied = lab.cloud.publish_tied(id, lab.cloud.now().on_grid(), 40)?;
        lab.cloud.script(rule);
        let felt = eventually(&format!("fault {fault} is felt"), Duration::from_secs(60), async || match lab.cloud.felt(Some(id), name) - before {
            0 => Err(()),
            times => Ok(times),
        })
        .await;
        lab.cloud.clear_script_of(id);
        match felt {
            Ok(times) => lab.book.fired(fault, times),
            Err(error) => lab.book.failed(fault, format!("{error:#}")),
        }
        for alert in tied.iter().take(3) {
            load::is_stored(lab, id, alert, Duration::from_secs(90)).await?;
        }
    }
    Ok(())
}

async fn goes_back(lab: &Lab, _: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    super::records::goes_back(lab, &lab.tenants[CROWDED]).await
}

/// I12: everybody needs a new token in the same second.
async fn expiry(lab: &Lab, _: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    let from: u64 = lab.cloud.journal_totals().values().sum();
    for tenant in &lab.tenants {
        lab.cloud.script(Rule::new(Effect::Unauthorized { claims: false }).tenant(tenant.directory_id).endpoint(Endpoint::Graph).times(1));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    for tenant in lab.tenants.iter().take(HEALTHY) {
        cloud::recovered(lab, tenant).await?;
    }
    let mut at: Vec<i64> = lab
        .cloud
        .journal_from(from)
        .iter()
        .filter(|entry| entry.endpoint == Endpoint::Token)
        .filter_map(|entry| Some(Stamp::parse(&entry.at)?.ticks()))
        .collect();
    at.sort_unstable();
    let peak = at.iter().map(|begin| at.iter().filter(|tick| (*begin..begin + 10_000_000).contains(*tick)).count()).max().unwrap_or(0);
    // Each of two replicas may save up a second's worth.
    let most = usize::try_from(4 * REDEMPTIONS_PER_SECOND)?;
    lab.book.check(12, (peak > most).then(|| format!("{peak} redemptions in one second")));
    Ok(())
}

/// The memory of the larger replica now, in bytes.
pub fn memory(lab: &Lab) -> u64 {
    lab.faces().iter().flatten().filter_map(|face| sampler::rss(face.pid).ok()).max().unwrap_or(0)
}
