//! After the faults: everything recovers, the count agrees, and what grows now would grow for ever.

use std::sync::atomic::Ordering;
use std::time::Duration;

use simulator::{Effect, Endpoint, RetryAfter, Rule};
use tokio::time::Instant;

use super::faults::{cloud, host};
use super::lab::{HEALTHY, LARGE, Lab, STRICT};
use super::{Wish, all_well, load, say};
use crate::harness::{Tally, eventually};

/// What the world has come to once nothing is done to it any more.
pub struct Rest {
    /// The count.
    pub tally: Tally,
    /// How each replica fared over the calm stretch.
    pub calm: Vec<Calm>,
    /// What did not come to rest.
    pub troubles: Vec<String>,
}

/// Memory and descriptors of one process over a calm stretch: the least of each window, for what one page needs while it
/// is read does not stay.
#[derive(Clone, Debug)]
pub struct Calm {
    /// Which process.
    pub pid: u32,
    /// From the middle of the first window to the middle of the last one.
    pub span: Duration,
    /// The least resident memory of each window, in bytes.
    pub rss: Vec<u64>,
    /// The fewest descriptors of each window.
    pub fds: Vec<usize>,
}

impl Calm {
    /// By how many bytes memory grew, by the line that fits the windows best, once the largest step is taken out: a heap
    /// takes some megabytes at a time and keeps them, which ends; what grows for ever takes a step in every window.
    pub fn grown(&self) -> f64 {
        let steps = || self.rss.windows(2).map(|pair| pair[1] as f64 - pair[0] as f64);
        let largest = steps().fold(0.0, f64::max);
        let at = steps().position(|step| step == largest).unwrap_or(usize::MAX);
        let rss: Vec<f64> = self.rss.iter().enumerate().map(|(place, rss)| *rss as f64 - if place > at { largest } else { 0.0 }).collect();
        let count = rss.len() as f64;
        let (middle, mean) = ((count - 1.0) / 2.0, rss.iter().sum::<f64>() / count);
        let places = || rss.iter().enumerate().map(|(place, rss)| (place as f64 - middle, *rss - mean));
        let spread: f64 = places().map(|(place, _)| place * place).sum();
        if spread > 0.0 { places().map(|(place, rss)| place * rss).sum::<f64>() / spread * (count - 1.0) } else { 0.0 }
    }

    /// The same in megabytes in ten minutes.
    pub fn slope(&self) -> f64 {
        self.grown() / f64::from(1 << 20) * 600.0 / self.span.as_secs_f64()
    }

    /// By how many descriptors the last window has more than the first.
    pub fn more_fds(&self) -> usize {
        self.fds.last().unwrap_or(&0).saturating_sub(*self.fds.first().unwrap_or(&0))
    }
}

/// Waits until everything has recovered, and watches it.
///
/// # Errors
/// When it does not come to rest, or the database cannot be asked.
pub async fn at_rest(lab: &Lab, replicas: &mut host::Replicas, wish: &Wish) -> anyhow::Result<Rest> {
    for tenant in lab.tenants.iter().enumerate().filter(|(number, _)| *number != STRICT).map(|(_, tenant)| tenant) {
        lab.cloud.clear_script_of(tenant.directory_id);
    }
    all_well(lab, replicas).await?;
    // Where an old token is taken for theft, a kill between the answer and its storing costs the sign-in, which shows.
    let sql = "select directory_id from dash.tenant_health where state = 'needs-consent'";
    let lost: Vec<uuid::Uuid> = sqlx::query_scalar(sql).fetch_all(&lab.pool()).await?;
    for tenant in lab.tenants.iter().skip(HEALTHY).filter(|tenant| lost.contains(&tenant.directory_id)) {
        lab.consent_again(tenant).await?;
    }
    let mut troubles = Vec::new();
    if let Err(error) = cloud::recovered(lab, &lab.tenants.iter().collect::<Vec<_>>()).await {
        troubles.push(format!("{error:#}"));
    }
    // Nothing was ever done to the sign-in of these, and every process that held their tokens was killed again and again.
    let healthy = cloud::recovered(lab, &lab.tenants.iter().take(HEALTHY).collect::<Vec<_>>()).await;
    lab.book.check(30, healthy.err().map(|error| format!("{error:#}")));
    settled(lab, Duration::from_secs(180)).await?;
    let calm = calm(lab, wish).await?;
    let tally = settled(lab, Duration::from_secs(60)).await;
    Ok(Rest { tally: tally?, calm, troubles })
}

/// The count, as soon as it agrees or the time is up.
async fn settled(lab: &Lab, limit: Duration) -> anyhow::Result<Tally> {
    let agreed = eventually("the count agrees", limit, async || {
        let tally = Tally::take(&lab.cloud.ledger(), &lab.pool()).await.map_err(|error| error.to_string())?;
        if tally.agrees() { Ok(tally) } else { Err(tally.to_string()) }
    })
    .await;
    match agreed {
        Ok(tally) => Ok(tally),
        Err(error) => {
            say(&format!("{error:#}"));
            Tally::take(&lab.cloud.ledger(), &lab.pool()).await
        }
    }
}

/// Some load and no faults for a while, a fifth of the time of the faults; and the customer with the largest record is
/// not read, which every look back would read again.
async fn calm(lab: &Lab, wish: &Wish) -> anyhow::Result<Vec<Calm>> {
    /// The replica that the last fault started has to have read the longest page of every source once: until then its
    /// memory goes up in steps of some megabytes, and stays.
    const WARM_UP: Duration = Duration::from_secs(90);
    /// In each of these the short rung comes by at least once.
    const WINDOW: Duration = Duration::from_secs(20);
    let windows = (wish.seconds / 5 / WINDOW.as_secs()).clamp(6, 30);
    let large = &lab.tenants[LARGE];
    let effect = Effect::Throttle { status: 429, retry_after: RetryAfter::Seconds(5) };
    lab.cloud.script(Rule::new(effect).tenant(large.directory_id).endpoint(Endpoint::Graph));
    lab.changing.store(true, Ordering::Relaxed);
    say(&format!("calm: {} s of warming up, {} s of watching", WARM_UP.as_secs(), windows * WINDOW.as_secs()));
    let stretch = async {
        tokio::time::sleep(WARM_UP).await;
        let mut seen: Vec<Calm> = lab
            .faces()
            .iter()
            .flatten()
            .map(|face| Calm { pid: face.pid, span: WINDOW * u32::try_from(windows - 1).unwrap_or(1), rss: Vec::new(), fds: Vec::new() })
            .collect();
        for _ in 0..windows {
            let until = Instant::now() + WINDOW;
            let mut least: Vec<(u64, usize)> = vec![(u64::MAX, usize::MAX); seen.len()];
            while Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(500)).await;
                for look in lab.faces().iter().flatten().filter_map(|face| lab.samples.look(face)) {
                    if let Some(at) = seen.iter().position(|calm| calm.pid == look.pid) {
                        least[at] = (least[at].0.min(look.rss), least[at].1.min(look.fds));
                    }
                }
            }
            for (calm, (rss, fds)) in seen.iter_mut().zip(least) {
                calm.rss.push(rss);
                calm.fds.push(fds);
            }
        }
        seen
    };
    let calm = tokio::select! {
        calm = stretch => calm,
        () = load::run(lab, 99) => anyhow::bail!("the load ended"),
    };
    lab.cloud.clear_script_of(large.directory_id);
    cloud::recovered(lab, &[large]).await?;
    Ok(calm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_of_the_line_through_all_windows_and_one_step_is_none() {
        let megabytes = |rss: &[f64]| {
            let rss = rss.iter().map(|megabytes| (megabytes * f64::from(1 << 20)) as u64).collect();
            Calm { pid: 1, span: Duration::from_secs(60), fds: vec![9, 12, 10], rss }
        };
        let grown = |rss: &[f64]| megabytes(rss).grown() / f64::from(1 << 20);
        assert_eq!(grown(&[5.0; 4]), 0.0);
        assert!(grown(&[72.8, 72.8, 72.8, 76.2, 76.4, 76.6]) < 0.6);
        assert!(grown(&[43.1, 43.1, 46.9, 45.8, 46.4, 46.2]) < 0.0);
        assert!(grown(&[4.0, 4.0, 1.0]) < 0.0);
        let steady: Vec<f64> = (0..6).map(f64::from).collect();
        assert!((3.5..=5.0).contains(&grown(&steady)), "{}", grown(&steady));
        assert!(megabytes(&steady).slope() > 30.0);
        assert_eq!(megabytes(&steady).more_fds(), 1);
    }
}
