//! What is done to the ways between the parts: of one replica only, or of the answers only.

use std::collections::BTreeMap;
use std::time::Duration;

use simulator::{Effect, Endpoint, RetryAfter, Rule, Stamp};

use super::host::{Replicas, TAKEN_OVER, pick};
use crate::soak::dice::Dice;
use crate::soak::lab::{CROWDED, HEALTHY, INTERVAL, Lab, NEIGHBOURS, Replica};
use crate::soak::sampler::is_live;

const SPELL: Duration = Duration::from_secs(6);

async fn shared_again(lab: &Lab) -> anyhow::Result<()> {
    lab.shared(TAKEN_OVER).await
}

/// Fault 68.
pub async fn cut_from_database(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, _) = pick(replicas, dice);
    victim.database.shut();
    lab.book.fired(68, 1);
    tokio::time::sleep(SPELL).await;
    victim.database.clear();
    shared_again(lab).await
}

/// Fault 69.
pub async fn cut_from_microsoft(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, _) = pick(replicas, dice);
    victim.cloud.lose_answers();
    victim.cloud.lose_requests();
    lab.book.fired(69, 1);
    tokio::time::sleep(SPELL).await;
    victim.cloud.clear();
    shared_again(lab).await
}

/// Fault 70: the answers of Postgres are lost, and after that the requests to Microsoft.
pub async fn one_way(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, _) = pick(replicas, dice);
    victim.database.lose_answers();
    tokio::time::sleep(SPELL).await;
    victim.database.clear();
    victim.cloud.lose_requests();
    tokio::time::sleep(SPELL / 2).await;
    victim.cloud.clear();
    lab.book.fired(70, 2);
    shared_again(lab).await
}

/// Fault 1.
pub async fn refused(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, _) = pick(replicas, dice);
    victim.cloud.refuse();
    lab.book.fired(1, 1);
    tokio::time::sleep(SPELL).await;
    again(victim).await?;
    shared_again(lab).await
}

/// Fault 2.
pub async fn no_answer(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, _) = pick(replicas, dice);
    let clogged = victim.cloud.clog().await;
    if clogged.is_ok() {
        lab.book.fired(2, 1);
        tokio::time::sleep(SPELL * 2).await;
    }
    again(victim).await?;
    clogged?;
    shared_again(lab).await
}

async fn again(victim: &mut Replica) -> anyhow::Result<()> {
    victim.cloud.listen_again().await
}

/// Fault 72: a proxy or a firewall answers every connection with its end.
pub async fn blocked(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, _) = pick(replicas, dice);
    victim.cloud.shut();
    lab.book.fired(72, 1);
    tokio::time::sleep(SPELL).await;
    victim.cloud.clear();
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
    let limit = 2000.0 * crate::soak::crowding();
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
