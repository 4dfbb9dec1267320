//! What is done to processes, one thing after the other: kills, stops, freezes, panics, limits.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use rustix::process::Signal;
use simulator::{Effect, Endpoint, Rule, SimTenant};
use tokio::time::Instant;

use super::{database, network, rehearsed, sequences};
use crate::harness::{eventually, signals};
use crate::soak::dice::Dice;
use crate::soak::lab::{HEALTHY, INTERVAL, LEASE, Lab, NEIGHBOURS, Replica};
use crate::soak::sampler;

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
    act!("a panic in each task", [60], rehearsed::panics),
    act!("the process ends at a named step", [56], rehearsed::aborts),
    act!("no further file or connection may be opened", [62], rehearsed::few_files),
    act!("nothing can be written to the log any more", [64], rehearsed::full_log),
    act!("a start without a database, with a wrong key ring, and with a newer schema", [44, 71, 53], rehearsed::bad_starts),
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
    act!("every access token is refused at once", [], sequences::expiry),
    act!("our app's secret has expired", [35], sequences::secret_expired),
    act!("an answer lost after rotation, where an old token is taken for theft", [37], sequences::lost_rotation),
    act!("a skip token that expired, a foreign and a looping link, a row that moves", [18, 19, 20, 24], sequences::links),
    act!("a version that goes back", [25], sequences::goes_back),
];

/// How long the other replica may need to take over, and a replica to get its share again.
pub const TAKEN_OVER: Duration = Duration::from_secs(60);

/// The one that things are done to, and the other one.
pub fn pick<'a>(replicas: &'a mut Replicas, dice: &mut Dice) -> (&'a mut Replica, &'a mut Replica) {
    let [one, two] = replicas;
    if dice.below(2) == 0 { (one, two) } else { (two, one) }
}

/// Fault 56.
///
/// # Errors
/// When the other replica does not take over, or the victim does not come back.
pub async fn kill(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, other) = pick(replicas, dice);
    let other_id = other.daemon()?.replica_id().await?;
    lab.kill(victim).await?;
    lab.book.fired(56, 1);
    let begun = Instant::now();
    lab.holds_all(other_id, TAKEN_OVER).await?;
    lab.book.measure("failover_ms", begun.elapsed().as_secs_f64() * 1000.0);
    lab.start(victim).await?;
    lab.shared(TAKEN_OVER).await?;
    // Nothing but kills was ever done to these.
    let ids: Vec<_> = lab.tenants.iter().take(HEALTHY).map(|tenant| tenant.directory_id).collect();
    let sql = "select count(*) from dash.tenant_health where directory_id = any($1) and state = 'active'";
    let signed_in: i64 = sqlx::query_scalar(sql).bind(&ids).fetch_one(&lab.pool()).await?;
    lab.book.check(30, (signed_in != i64::try_from(HEALTHY)?).then(|| format!("after a kill {signed_in} of {HEALTHY} are signed in")));
    Ok(())
}

async fn stop(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, other) = pick(replicas, dice);
    let other_id = other.daemon()?.replica_id().await?;
    let redemptions = lab.redemptions(&lab.held_by(victim, &lab.tenants).await?);
    let took = lab.terminate(victim).await?;
    lab.book.fired(57, 1);
    let gone = Instant::now();
    // Whoever asks from now on is the other one.
    let from = lab.cloud.journal_totals().values().sum();
    lab.book.check(32, (took > Duration::from_secs(10)).then(|| format!("SIGTERM to exit took {took:?}")));
    lab.holds_all(other_id, Duration::from_secs(20)).await?;
    let held = gone.elapsed();
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
    // Two seconds to take over, one interval until a poll is due, and the time that the sign-in service is given: access
    // tokens are never handed over, so whoever takes over asks for each anew, at the rate of the host. Longer where others
    // need the machine as well.
    let limit = (Duration::from_secs(2) + INTERVAL + redemptions).mul_f64(lab.crowding());
    lab.book.check(
        32,
        (handover > limit)
            .then(|| format!("the other replica held everybody after {held:?} and had polled everybody only after {handover:?}")),
    );
    lab.start(victim).await?;
    lab.shared(TAKEN_OVER).await
}

async fn stop_twice(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    const TRIES: usize = 3;
    for _ in 0..TRIES {
        // Whoever is fast has ended before it hears the second one.
        if stopped_twice(lab, replicas, dice).await? {
            lab.book.fired(58, 1);
            return Ok(());
        }
    }
    anyhow::bail!("{TRIES} times the first SIGTERM was enough")
}

/// Whether the second signal was heard.
async fn stopped_twice(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<bool> {
    let slow = &lab.tenants[HEALTHY..HEALTHY + NEIGHBOURS];
    let (victim, _) = holder(lab, replicas, dice, slow).await?;
    // A redemption in flight is worth waiting for: its answer may hold the only token that works.
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
        let ended =
            daemon.pid().is_err() || daemon.log().is_ok_and(|log| log.contains("once more ends at once") || log.contains("stopping"));
        if ended { Ok(()) } else { Err(daemon.last_words()) }
    })
    .await?;
    // It may have been faster than we are.
    let _ = daemon.signal(Signal::TERM);
    let begun = Instant::now();
    daemon.ended(Duration::from_secs(10)).await?;
    let took = begun.elapsed();
    // It says so when it hears the second one.
    let heard = daemon.log()?.contains("ending at once");
    if heard {
        lab.book.check(32, (took > Duration::from_secs(3)).then(|| format!("the second SIGTERM took {took:?}")));
    }
    for tenant in slow {
        lab.cloud.clear_script_of(tenant.directory_id);
    }
    lab.start(victim).await?;
    lab.shared(TAKEN_OVER).await?;
    Ok(heard)
}

async fn freeze(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, other) = pick(replicas, dice);
    let other_id = other.daemon()?.replica_id().await?;
    let pid = victim.daemon()?.pid()?;
    signals::freeze(pid).await?;
    let begun = Instant::now();
    lab.holds_all(other_id, LEASE + TAKEN_OVER).await?;
    lab.book.measure("failover_ms", begun.elapsed().as_secs_f64() * 1000.0);
    lab.book.fired(59, 1);
    signals::wake(pid)?;
    lab.shared(TAKEN_OVER).await
}

async fn stand_still(lab: &Lab, replicas: &mut Replicas, dice: &mut Dice) -> anyhow::Result<()> {
    let (victim, _) = pick(replicas, dice);
    let pid = victim.daemon()?.pid()?;
    signals::freeze(pid).await?;
    lab.book.fired(61, 1);
    tokio::time::sleep(Duration::from_secs(4)).await;
    signals::wake(pid)?;
    lab.shared(TAKEN_OVER).await
}

/// A replica that holds the lease of one of these customers, and the other one.
///
/// # Errors
/// When neither does.
pub async fn holder<'a>(
    lab: &Lab,
    replicas: &'a mut Replicas,
    dice: &mut Dice,
    tenants: &[SimTenant],
) -> anyhow::Result<(&'a mut Replica, &'a mut Replica)> {
    let (one, two) = pick(replicas, dice);
    if !lab.held_by(one, tenants).await?.is_empty() {
        return Ok((one, two));
    }
    anyhow::ensure!(!lab.held_by(two, tenants).await?.is_empty(), "no replica holds any of these customers");
    Ok((two, one))
}

/// The memory of each replica that runs now, in bytes, by its process.
pub fn memory(lab: &Lab) -> Vec<(u32, u64)> {
    lab.faces().iter().flatten().filter_map(|face| Some((face.pid, sampler::rss(face.pid).ok()?))).collect()
}
