//! What it costs to read new alerts, and to recognise them, when many are stored already: CPU seconds of daemon and Postgres,
//! and how fast. It should not grow with what is stored; where it does, the bytes that Postgres writes to its log and fetches into its
//! memory say why.
//!
//! The archive lies in all tables that a page looks at, over thirteen months, and is of the same customers; its bodies are short,
//! since nobody reads them. It is vacuumed before the daemon begins.

use anyhow::Context;
use serde_json::{Value, json};

use super::figures::{Figures, line, rounded, with};
use super::ingest::{Ground, Pass, cloud, daemon};
use super::world_on;
use crate::harness::{ARCHIVED_BEFORE, Setup, archive};

/// Customers of whom the alerts are.
const TENANTS: usize = 20;

/// Alerts that are stored before.
pub const STORED: [u64; 3] = [10_000, 100_000, 1_000_000];
/// So many take room and time: only who asks by name gets them, beside the fewest.
pub const VERY_MANY: u64 = 10_000_000;
/// Enough to see that it works.
pub const QUICK: [u64; 2] = [1000, 4000];

/// What new alerts came to above an archive of one size, in several runs.
#[derive(Clone, Debug)]
pub struct Grown {
    /// Alerts that were stored before.
    pub stored: u64,
    /// New alerts, read for the first time and read again: a pair for each run.
    pub runs: Vec<[Pass; 2]>,
}

/// What the figures of a size are called: `growth_10k`.
pub fn name(stored: u64) -> String {
    if stored.is_multiple_of(1_000_000) {
        format!("growth_{}m", stored / 1_000_000)
    } else if stored.is_multiple_of(1000) {
        format!("growth_{}k", stored / 1000)
    } else {
        format!("growth_{stored}")
    }
}

/// Lets a daemon read so many new alerts twice, in a database on this server where so many are stored already.
///
/// # Errors
/// When a pass does not end within its time, or the archive was touched.
pub async fn growth(server: &str, stored: u64, new: usize, seed: u64) -> anyhow::Result<[Pass; 2]> {
    let cloud = cloud(seed, TENANTS, (new / TENANTS).max(1));
    let world = world_on(Some(server), Setup { cloud, config: daemon::config(None), ..Setup::default() }).await?;
    let pool = world.pool().await?;
    archive(&pool, stored).await?;
    super::drain::drain(&world.cloud).await?;
    let ground = Ground::new(&world.cloud, server).await?;
    let passes = daemon::first_and_again(&world, &ground, ARCHIVED_BEFORE).await?;
    archive::is_untouched(&pool, stored).await.with_context(|| name(stored))?;
    drop((ground, pool));
    world.end().await?;
    Ok(passes)
}

/// Three lines for each size: CPU of new alerts, CPU of the same again, and how fast new ones are read; each with how many times
/// that of the smallest it is.
pub fn lines(sizes: &[Grown]) -> Vec<Value> {
    let Some(smallest) = sizes.iter().min_by_key(|size| size.stored) else { return Vec::new() };
    sizes.iter().flat_map(|size| of_size(size, smallest)).collect()
}

fn of_size(size: &Grown, smallest: &Grown) -> [Value; 3] {
    let cpu = |pass: usize, what: &str| {
        let cpu = |grown: &Grown| Figures::of(&grown.runs, |run| run[pass].cpu_per_100_000());
        let each =
            |figure: fn(&Pass) -> f64| rounded(Figures::of(&size.runs, |run| figure(&run[pass]) / run[pass].alerts * 100_000.0).median());
        let parts = [
            ("program_per_100000", json!(each(|pass| pass.program_cpu))),
            ("postgres_per_100000", json!(each(|pass| pass.postgres_cpu))),
            ("logged_mb_per_100000", json!(each(|pass| pass.logged / 1e6))),
            ("fetched_mb_per_100000", json!(each(|pass| pass.fetched / 1e6))),
        ];
        figure(size, smallest, &format!("{what}_cpu"), cpu, "CPU s per 100,000 alerts", &parts)
    };
    let rate = |grown: &Grown| Figures::of(&grown.runs, |run| run[0].rate());
    let sum = |figure: fn(&Pass) -> usize| json!(size.runs.iter().flatten().map(figure).sum::<usize>());
    let counted = [("lost", sum(|pass| pass.lost)), ("doubled", sum(|pass| pass.doubled))];
    [cpu(0, "first"), cpu(1, "again"), figure(size, smallest, "rate", rate, "alerts/s", &counted)]
}

fn figure(size: &Grown, smallest: &Grown, what: &str, of: impl Fn(&Grown) -> Figures, unit: &str, more: &[(&str, Value)]) -> Value {
    let new = size.runs.first().map_or(0.0, |run| run[0].alerts);
    let against = format!("{new} alerts of {TENANTS} customers, where {} are stored already; must not grow", size.stored);
    let figures = of(size);
    let times = figures.median() / of(smallest).median();
    let beside = [("stored", json!(size.stored)), ("times_the_smallest", json!(rounded(times))), ("smallest", json!(smallest.stored))];
    with(line(&format!("{}_{what}", name(size.stored)), &figures, unit, &against), &[&beside[..], more].concat())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn grown(stored: u64, cpu: &[f64]) -> Grown {
        let pass =
            |cpu| Pass { wall: Duration::from_secs(2), program_cpu: cpu, postgres_cpu: 2.0 * cpu, alerts: 1000.0, ..Pass::default() };
        Grown { stored, runs: cpu.iter().map(|cpu| [pass(*cpu), pass(cpu / 2.0)]).collect() }
    }

    #[test]
    fn each_size_is_set_beside_the_smallest() {
        let lines = lines(&[grown(1_000_000, &[0.3, 0.2, 0.4]), grown(10_000, &[0.2])]);
        let of = |name: &str| lines.iter().find(|line| line["bench"] == name).expect(name);
        let first = of("growth_1m_first_cpu");
        assert_eq!((&first["value"], &first["range"], &first["runs"]), (&json!(90.0), &json!([60.0, 120.0]), &json!(3)));
        assert_eq!((&first["times_the_smallest"], &first["stored"]), (&json!(1.5), &json!(1_000_000)));
        assert_eq!((&first["program_per_100000"], &first["postgres_per_100000"]), (&json!(30.0), &json!(60.0)));
        assert_eq!(of("growth_1m_again_cpu")["value"], json!(45.0));
        assert_eq!((&of("growth_10k_rate")["value"], &of("growth_10k_rate")["times_the_smallest"]), (&json!(500.0), &json!(1.0)));
        assert_eq!(lines.len(), 6);
    }

    #[test]
    fn sizes_have_short_names() {
        assert_eq!([STORED[0], STORED[2], VERY_MANY, 1234].map(name), ["growth_10k", "growth_1m", "growth_10m", "growth_1234"]);
    }
}
