//! What is done to the ways between the parts: of one replica only, or of the answers only.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use simulator::{Effect, Endpoint, RetryAfter, Rule, Stamp};
use tokio::time::Instant;
use uuid::Uuid;

use super::cloud;
use super::host::{Replicas, TAKEN_OVER, holder, pick};
use crate::harness::eventually;
use crate::soak::dice::Dice;
use crate::soak::lab::{CROWDED, HEALTHY, INTERVAL, Lab, NEIGHBOURS, Replica};
use crate::soak::sampler::is_live;

/// How long a fault lasts once it is felt.
const SPELL: Duration = Duration::from_secs(6);
/// Within this it has to be felt: the longest timeout on the way to the database or to Microsoft is half as long.
const FELT_WITHIN: Duration = Duration::from_secs(60);

async fn shared_again(lab: &Lab) -> anyhow::Result<()> {
    lab.shared(TAKEN_OVER).await
}

/// Waits until a replica says itself that it lacks the database.
async fn lacks_database(victim: &Replica) -> anyhow::Result<()> {
    let daemon = victim.daemon.as_ref().context("the replica is down")?;
    eventually("the replica says that it lacks the database", FELT_WITHIN, async || match daemon.ops("/readyz").await {
        Ok((503, _)) => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await
}

/// Waits until nothing that a replica asks about its healthy customers has reached Microsoft for three intervals.
async fn unheard(lab: &Lab, theirs: &[Uuid]) -> anyhow::Result<()> {
    let seen = Mutex::new((lab.cloud.journal_totals().values().sum::<u64>(), Instant::now()));
    eventually("Microsoft hears nothing of the replica", FELT_WITHIN, async || {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, last) = &mut *seen;
        let news = lab.cloud.journal_from(*next);
        *next = news.last().map_or(*next, |entry| entry.number + 1);
        if news.iter().any(|entry| entry.tenant.is_some_and(|tenant| theirs.contains(&tenant))) {
            *last = Instant::now();
        }
        if last.elapsed() >= INTERVAL * 3 { Ok(()) } else { Err(last.elapsed()) }
    })
    .await
}

/// Waits until the dashboard says of each of these customers that reading it fails (I24).
async fn fails(lab: &Lab, fault: u8, theirs: &[Uuid]) -> anyhow::Result<()> {
    let begun = Instant::now();
    let sql = "select count(distinct directory_id) from dash.feed_health where directory_id = any($1) and last_error is not null";
    let shown = eventually("the dashboard says that reading fails", FELT_WITHIN, async || {
        match sqlx::query_scalar::<_, i64>(sql).bind(theirs).fetch_one(&lab.pool()).await {
            Ok(failing) if usize::try_from(failing) == Ok(theirs.len()) => Ok(()),
            seen => Err(format!("{seen:?} of {}", theirs.len())),
        }
    })
    .await;
    lab.book.check(24, shown.as_ref().err().map(|error| format!("fault {fault}: {error:#}")));
    lab.book.shown(fault, u64::try_from(begun.elapsed().as_millis())?);
    shown
}

/// Fault 68.
pub async fn cut_from_database(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, _) = pick(replicas, dice);
    victim.database.shut();
    let felt = lacks_database(victim).await;
    lab.book.fired(68, u64::from(felt.is_ok()));
    tokio::time::sleep(SPELL).await;
    victim.database.clear();
    felt?;
    shared_again(lab).await
}

/// A replica that looks after healthy customers, and these.
async fn victim<'a>(lab: &Lab, replicas: &'a mut Replicas, dice: &mut Dice) -> anyhow::Result<(&'a mut Replica, Vec<Uuid>)> {
    let healthy = &lab.tenants[..HEALTHY];
    // What shows from now on comes from what is done now.
    cloud::recovered(lab, &healthy.iter().collect::<Vec<_>>()).await?;
    let (victim, _) = holder(lab, replicas, dice, healthy).await?;
    let theirs = lab.held_by(victim, healthy).await?;
    Ok((victim, theirs))
}

/// Fault 69.
pub async fn cut_from_microsoft(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, theirs) = victim(lab, replicas, dice).await?;
    victim.cloud.lose_answers();
    victim.cloud.lose_requests();
    let felt = unheard(lab, &theirs).await;
    lab.book.fired(69, u64::from(felt.is_ok()));
    victim.cloud.clear();
    felt?;
    shared_again(lab).await
}

/// Fault 70: the answers of Postgres are lost, and after that the requests to Microsoft.
pub async fn one_way(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    {
        let (victim, _) = pick(replicas, dice);
        victim.database.lose_answers();
        let felt = lacks_database(victim).await;
        lab.book.fired(70, u64::from(felt.is_ok()));
        victim.database.clear();
        felt?;
    }
    shared_again(lab).await?;
    let (victim, theirs) = victim(lab, replicas, dice).await?;
    victim.cloud.lose_requests();
    let felt = unheard(lab, &theirs).await;
    lab.book.fired(70, u64::from(felt.is_ok()));
    victim.cloud.clear();
    felt?;
    shared_again(lab).await
}

/// Fault 1.
pub async fn refused(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, theirs) = victim(lab, replicas, dice).await?;
    victim.cloud.refuse();
    let felt = fails(lab, 1, &theirs).await;
    lab.book.fired(1, u64::from(felt.is_ok()));
    victim.cloud.listen_again().await?;
    felt?;
    shared_again(lab).await
}

/// Fault 2.
pub async fn no_answer(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, theirs) = victim(lab, replicas, dice).await?;
    let felt = match victim.cloud.clog().await {
        Ok(()) => fails(lab, 2, &theirs).await,
        Err(error) => Err(error),
    };
    lab.book.fired(2, u64::from(felt.is_ok()));
    victim.cloud.listen_again().await?;
    felt?;
    shared_again(lab).await
}

/// Fault 72: a proxy or a firewall answers every connection with its end.
pub async fn blocked(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, theirs) = victim(lab, replicas, dice).await?;
    victim.cloud.shut();
    let felt = fails(lab, 72, &theirs).await;
    lab.book.fired(72, u64::from(felt.is_ok()));
    victim.cloud.clear();
    felt?;
    shared_again(lab).await
}

/// I10: of the customers two hang, two are throttled, and one has a crowd of alerts; the others must not feel it.
pub async fn sick_neighbours(lab: &Lab, _: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    const WATCHED: Duration = Duration::from_secs(12);
    let calm = lateness(lab, WATCHED).await?;
    let sick = &lab.tenants[HEALTHY..HEALTHY + NEIGHBOURS];
    for (number, tenant) in sick.iter().enumerate() {
        let effect = match number {
            0 | 1 => Effect::Hang,
            _ => Effect::Throttle { status: 429, retry_after: RetryAfter::Seconds(2) },
        };
        lab.cloud.script(Rule::new(effect).tenant(tenant.directory_id).endpoint(Endpoint::Graph));
    }
    lab.cloud.publish_new(lab.tenants[CROWDED].directory_id, 3000)?;
    let disturbed = lateness(lab, WATCHED).await;
    for tenant in sick {
        lab.cloud.clear_script_of(tenant.directory_id);
    }
    let disturbed = disturbed?;
    let (before, during) = (crate::soak::quantile(&mut calm.clone(), 0.99), crate::soak::quantile(&mut disturbed.clone(), 0.99));
    for late in disturbed {
        lab.book.measure("poll_lateness_ms", late);
    }
    let (before, during) = (before.unwrap_or(0.0), during.unwrap_or(0.0));
    // Two seconds, on a machine that has nothing else to do.
    let limit = 2000.0 * lab.crowding();
    let what = format!("p99 of the lateness of healthy customers: {during:.0} ms beside sick neighbours, {before:.0} ms before");
    lab.book.check(10, (during > before + limit).then_some(what));
    Ok(())
}

/// By how many milliseconds the polls of healthy customers came later than one interval after the ones before.
async fn lateness(lab: &Lab, span: Duration) -> anyhow::Result<Vec<f64>> {
    let from: u64 = lab.cloud.journal_totals().values().sum();
    tokio::time::sleep(span).await;
    let mut last: BTreeMap<_, i64> = BTreeMap::new();
    let mut late = Vec::new();
    for entry in lab.cloud.journal_from(from).iter().filter(|entry| entry.endpoint == Endpoint::Graph && is_live(entry)) {
        let healthy = lab.tenants.iter().take(HEALTHY).any(|tenant| entry.tenant == Some(tenant.directory_id));
        let Some(at) = Stamp::parse(&entry.at).filter(|_| healthy) else { continue };
        if let Some(before) = last.insert(entry.tenant, at.ticks()) {
            late.push(((at.ticks() - before) as f64 / 1e4 - INTERVAL.as_secs_f64() * 1000.0).max(0.0));
        }
    }
    anyhow::ensure!(late.len() > HEALTHY, "healthy customers were not polled at all");
    Ok(late)
}
