//! What is done to Postgres, or on the way to it.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use sqlx::AssertSqlSafe;
use tokio::time::Instant;

use super::host::{Replicas, TAKEN_OVER, memory, pick};
use crate::harness::{Tally, eventually};
use crate::soak::dice::Dice;
use crate::soak::lab::Lab;
use crate::soak::sampler;

/// I29: memory may grow so much while the database is away.
const GROWTH: u64 = 32 << 20;

/// I29: looks at memory while the database is away for this long, and compares it, process by process, with what it
/// was just before.
async fn away(lab: &Lab, span: Duration, before: &[(u32, u64)]) {
    let until = Instant::now() + span;
    while Instant::now() < until {
        for (pid, before) in before {
            let Ok(now) = sampler::rss(*pid) else { continue };
            let grown = now.saturating_sub(*before);
            lab.book.measure("outage_growth_mb", (grown >> 20) as f64);
            let what = || format!("{} MB more than the {} MB before while the database was away", grown >> 20, before >> 20);
            lab.book.check(29, (grown > GROWTH).then(what));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Everything is stored that is published from now on: the replicas work.
async fn works_again(lab: &Lab) -> anyhow::Result<()> {
    let tenant = lab.tenants[0].directory_id;
    let id = lab.cloud.publish_new(tenant, 1)?.remove(0);
    crate::soak::load::is_stored(lab, tenant, &id, TAKEN_OVER).await?;
    lab.shared(TAKEN_OVER).await
}

/// Fault 45.
pub async fn immediate_stop(lab: &Lab, replicas: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    let before = memory(lab);
    let mut guard = lab.server().await;
    let server = guard.as_mut().context("no server")?;
    server.stop_immediately().await?;
    lab.book.fired(45, 1);
    away(lab, Duration::from_secs(3), &before).await;
    server.start_again().await?;
    lab.server_is_back(server, replicas)?;
    drop(guard);
    works_again(lab).await
}

/// So many answers to COMMIT get lost in one act.
const LOST: u32 = 8;

/// Fault 46.
pub async fn lost_commits(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, _) = pick(replicas, dice);
    let before = victim.database.swallowed();
    victim.database.swallow_commits(LOST);
    let lost = eventually("answers to COMMIT get lost", Duration::from_secs(60), async || match victim.database.swallowed() - before {
        lost @ LOST.. => Ok(lost),
        lost => Err(lost),
    })
    .await;
    victim.database.swallow_commits(0);
    let lost = lost.map_err(|error| error.context(format!("{} were lost", victim.database.swallowed() - before)))?;
    lab.book.fired(46, u64::from(lost));
    works_again(lab).await?;
    // Whoever took one of them for failed has written it again by now.
    let tally = Tally::take(&lab.cloud.ledger(), &lab.pool()).await?;
    lab.book.check(3, tally.duplicated.first().map(|first| format!("{} versions twice, first {first}", tally.duplicated.len())));
    Ok(())
}

/// Fault 47: everything committed in between is gone, cursors and leases included. A walk that was under way goes on
/// where it was, so what it had committed in between is found again by the ladder and not by the next poll.
pub async fn falls_back(lab: &Lab, replicas: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    // What is changed while its older version is about to be forgotten cannot be had any more by anybody.
    lab.changing.store(false, Ordering::Relaxed);
    let done = fall_back(lab, replicas).await;
    lab.changing.store(true, Ordering::Relaxed);
    done?;
    works_again(lab).await
}

async fn fall_back(lab: &Lab, replicas: &mut Replicas) -> anyhow::Result<()> {
    let copy = lab.path("standby");
    // What was fetched shortly before may be committed in between.
    let from = lab.cloud.now().minus(Duration::from_secs(20)).ticks();
    let mut guard = lab.server().await;
    let server = guard.as_mut().context("no server")?;
    server.stop_immediately().await?;
    let _ = std::fs::remove_dir_all(&copy);
    server.keep_copy(&copy).await?;
    server.start_again().await?;
    lab.server_is_back(server, replicas)?;
    let tenant = lab.tenants[0].directory_id;
    let id = lab.cloud.publish_new(tenant, 1)?.remove(0);
    crate::soak::load::is_stored(lab, tenant, &id, TAKEN_OVER).await?;
    server.stop_immediately().await?;
    server.fall_back_to(&copy).await?;
    server.start_again().await?;
    lab.server_is_back(server, replicas)?;
    lab.book.fired(47, 1);
    lab.forgotten.lock().unwrap_or_else(PoisonError::into_inner).push((from, lab.cloud.now().plus(Duration::from_secs(20)).ticks()));
    Ok(())
}

/// Does something to the database by a statement, throws everybody out, waits, and takes it back.
async fn spell(lab: &Lab, replicas: &Replicas, fault: u8, on: &str, off: &str, span: Duration) -> anyhow::Result<()> {
    let before = memory(lab);
    let logins: Vec<String> = replicas.iter().map(crate::soak::lab::Replica::login).collect();
    let throw_out = async || {
        let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename::text = any($1)";
        sqlx::query_scalar::<_, i64>(sql).bind(&logins).fetch_one(&lab.pool()).await
    };
    run(lab, on).await?;
    throw_out().await?;
    lab.book.fired(fault, 1);
    away(lab, span, &before).await;
    run(lab, off).await?;
    throw_out().await?;
    works_again(lab).await
}

async fn run(lab: &Lab, statements: &str) -> anyhow::Result<()> {
    for statement in statements.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&lab.pool()).await.with_context(|| statement.to_owned())?;
    }
    Ok(())
}

const SPELL: Duration = Duration::from_secs(4);

/// Fault 48.
pub async fn read_only(lab: &Lab, replicas: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    let on = "alter role soak_one set default_transaction_read_only = on; alter role soak_two set default_transaction_read_only = on";
    let off = "alter role soak_one reset default_transaction_read_only; alter role soak_two reset default_transaction_read_only";
    spell(lab, replicas, 48, on, off, SPELL).await
}

/// Fault 49: what Postgres says when its disk is full, for the next writes.
pub async fn disk_full(lab: &Lab, _: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    refusing(lab, 49, &[("53100", "could not extend file: No space left on device")]).await
}

/// Fault 50.
pub async fn no_connections(lab: &Lab, replicas: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    let on = "alter role soak_one connection limit 1; alter role soak_two connection limit 1";
    let off = "alter role soak_one connection limit -1; alter role soak_two connection limit -1";
    spell(lab, replicas, 50, on, off, SPELL).await
}

/// Fault 51.
pub async fn deadlocks(lab: &Lab, _: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    refusing(lab, 51, &[("40P01", "deadlock detected"), ("40001", "could not serialize access due to concurrent update")]).await
}

/// The next writes fail with each of these errors.
async fn refusing(lab: &Lab, fault: u8, errors: &[(&str, &str)]) -> anyhow::Result<()> {
    const WRITES: i64 = 12;
    for (code, message) in errors {
        run(
            lab,
            &format!(
                "delete from soak.trouble; select setval('soak.left', -{WRITES}); insert into soak.trouble values ('{code}', '{message}')"
            ),
        )
        .await?;
        let tenant = lab.tenants[0].directory_id;
        lab.cloud.publish_new(tenant, 2)?;
        let felt = eventually(&format!("writes fail with {code}"), Duration::from_secs(90), async || {
            let left = sqlx::query_scalar::<_, i64>("select last_value from soak.left").fetch_one(&lab.pool()).await;
            if left.as_ref().is_ok_and(|left| *left > 0) { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
        run(lab, "delete from soak.trouble").await?;
        felt?;
        lab.book.fired(fault, WRITES.unsigned_abs());
    }
    works_again(lab).await
}

/// Fault 52.
pub async fn locked(lab: &Lab, _: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    let before = memory(lab);
    let pool = lab.pool();
    let mut lock = pool.begin().await?;
    sqlx::query("lock table tocsin.alert_version in access exclusive mode").execute(&mut *lock).await?;
    lab.book.fired(52, 1);
    away(lab, Duration::from_secs(6), &before).await;
    lock.rollback().await?;
    works_again(lab).await
}

/// Fault 55: the same refusal as after a password was changed on one side only.
pub async fn login_refused(lab: &Lab, replicas: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    spell(
        lab,
        replicas,
        55,
        "alter role soak_one nologin; alter role soak_two nologin",
        "alter role soak_one login; alter role soak_two login",
        SPELL,
    )
    .await
}
