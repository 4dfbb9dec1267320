//! Replicas that are told to fail at a named step, and those that cannot do what a process needs to do.

use std::time::Duration;

use anyhow::Context;
use domain::rehearsal;
use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::host::{Replicas, TAKEN_OVER, pick};
use crate::harness::eventually;
use crate::soak::dice::Dice;
use crate::soak::lab::{Lab, Replica};

/// A step in each task at which to panic.
const PANICS: &[&str] = &["fetch.before-call", "refresh.before-call", "commit.begin", "cursor.read", "lease.before-renew", "split.before"];

/// Fault 60.
pub async fn panics(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let mut points = PANICS.to_vec();
    dice.shuffle(&mut points);
    for point in points {
        let (victim, _) = pick(replicas, dice);
        rehearse(lab, victim, &format!("{point}=panic@1"), |log| log.contains(&format!("a panic at {point}")))
            .await
            .with_context(|| format!("a panic at {point}"))?;
        lab.book.fired(60, 1);
    }
    lab.shared(TAKEN_OVER).await
}

/// I33: the process ends at named steps.
pub async fn aborts(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let mut points: Vec<&str> = rehearsal::POINTS.iter().copied().filter(|point| *point != "lease.before-release").collect();
    dice.shuffle(&mut points);
    for point in points.into_iter().take(5) {
        let (victim, _) = pick(replicas, dice);
        let aborted = rehearse(lab, victim, &format!("{point}=abort@1"), |_| false).await.with_context(|| format!("the end at {point}"));
        // It ended by itself: whoever never comes to that step proves nothing.
        lab.book.fired(56, u64::from(aborted.is_ok()));
        lab.book.check(33, aborted.err().map(|error| format!("{error:#}")));
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
        sqlx::query("insert into soak.replica (login, replica) values ($1, $2) on conflict do nothing")
            .bind(victim.login())
            .bind(id)
            .execute(&lab.pool())
            .await?;
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

/// Fault 62.
pub async fn few_files(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    /// What is open from the start has smaller numbers than this; no connection fits below it.
    const FEW: u64 = 14;
    const WORDS: &str = "Too many open files";
    let (victim, _) = pick(replicas, dice);
    let pid = Pid::from_raw(i32::try_from(victim.daemon()?.pid()?)?);
    let said = |victim: &Replica| victim.daemon.as_ref().and_then(|daemon| daemon.log().ok()).map_or(0, |log| log.matches(WORDS).count());
    let before = said(victim);
    // The hard limit is inherited from us, and nobody may raise it.
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let limit = rustix::process::prlimit(pid, Resource::Nofile, Rlimit { current: Some(FEW), maximum })?;
    victim.database.cut();
    victim.cloud.cut();
    let felt = eventually("it is refused a descriptor", Duration::from_secs(60), async || match said(victim) {
        now if now > before => Ok(now - before),
        now => Err(now),
    })
    .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    rustix::process::prlimit(pid, Resource::Nofile, limit)?;
    lab.book.fired(62, felt? as u64);
    lab.shared(TAKEN_OVER).await
}

/// Fault 64.
pub async fn full_log(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, other) = pick(replicas, dice);
    let other_id = other.daemon()?.replica_id().await?;
    lab.terminate(victim).await?;
    let mut command = victim.command().await?;
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full");
    let mut child = command.stdout(full()?).stderr(full()?).process_group(0).spawn()?;
    // It cannot say who it is; the leases tell.
    let silent = eventually("a replica without a log takes its share", TAKEN_OVER, async || {
        let holder =
            sqlx::query_scalar::<_, uuid::Uuid>("select holder from tocsin.lease where holder <> $1 and expires_at > now() limit 1")
                .bind(other_id)
                .fetch_optional(&lab.pool())
                .await;
        holder.ok().flatten().ok_or(())
    })
    .await;
    if let Ok(id) = silent {
        sqlx::query("insert into soak.replica (login, replica) values ($1, $2) on conflict do nothing")
            .bind(victim.login())
            .bind(id)
            .execute(&lab.pool())
            .await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        lab.book.fired(64, 1);
    }
    child.kill().await?;
    lab.start(victim).await?;
    silent?;
    lab.shared(TAKEN_OVER).await
}

/// Starts that must end at once, each with its own exit code, and change nothing.
pub async fn bad_starts(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
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
    // A long soak comes here again, and a ring is never made over one that is there.
    if !swapped.join("ring").exists() {
        crate::harness::run(&lab.path("swap.toml"), &["key", "init"]).await?.ok()?;
    }
    start("ring-swapped", named("swapped/ring"), &[78]).await?;
    lab.book.fired(71, 3);

    let newer = "insert into tocsin.schema_history (version, description, installed_on, success, checksum, execution_time)
                 values (99999, 'from the future', now(), true, '\\x00', 0)";
    sqlx::query(newer).execute(&lab.pool()).await?;
    let refused = start("newer-schema", config.clone(), &[3]).await;
    sqlx::query("delete from tocsin.schema_history where version = 99999").execute(&lab.pool()).await?;
    refused?;
    lab.book.fired(53, 1);
    Ok(())
}
