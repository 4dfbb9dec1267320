//! Looks at the running world every second: memory and descriptors of the replicas, what they count, and the
//! invariants that have to hold at every moment, not only at the end.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use simulator::{Endpoint, JournalEntry, LedgerRow, Source, Stamp};
use tokio::time::Instant;
use uuid::Uuid;

use super::lab::{Face, HEALTHY, Lab};
use super::witness;

/// One look at one process.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Which process.
    pub pid: u32,
    /// When.
    pub at: Instant,
    /// When the process began.
    pub since: Instant,
    /// Resident memory in bytes.
    pub rss: u64,
    /// Open files and connections.
    pub fds: usize,
}

/// Everything seen so far.
#[derive(Debug, Default)]
pub struct Samples {
    looks: Mutex<Vec<Look>>,
    late: Mutex<BTreeMap<u32, f64>>,
}

impl Samples {
    /// Every look at every process.
    pub fn looks(&self) -> Vec<Look> {
        self.looks.lock().map(|looks| looks.clone()).unwrap_or_default()
    }

    /// What the ladder has found that polling had missed, over all lives of the replicas.
    pub fn late_found(&self) -> f64 {
        self.late.lock().map(|late| late.values().sum()).unwrap_or_default()
    }

    /// Takes a look at a process; nothing when it is gone.
    pub fn look(&self, face: &Face) -> Option<Look> {
        let look = Look { pid: face.pid, at: Instant::now(), since: face.since, rss: rss(face.pid).ok()?, fds: open_files(face.pid).ok()? };
        if let Ok(mut looks) = self.looks.lock() {
            looks.push(look);
        }
        Some(look)
    }
}

/// Resident memory of a process in bytes.
///
/// # Errors
/// When it is gone.
pub fn rss(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}

fn open_files(pid: u32) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Samples for as long as it is not dropped.
pub async fn run(lab: &Lab) {
    let samples = &lab.samples;
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build().unwrap_or_default();
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    let mut asked = Asked::default();
    for round in 0_u64.. {
        beat.tick().await;
        asked.take(lab);
        for face in lab.faces().iter().flatten() {
            samples.look(face);
            if let Some(late) = metric(&client, face, "tocsin_late_found_total").await
                && let Ok(mut known) = samples.late.lock()
            {
                known.insert(face.pid, late);
            }
        }
        if round % 3 == 1 {
            stale_writes(lab).await;
            halves(lab).await;
            cursors(lab, &asked).await;
        }
    }
}

/// The sum of all samples of a metric of a replica.
pub async fn metric(client: &reqwest::Client, face: &Face, name: &str) -> Option<f64> {
    let text = client.get(format!("http://{}/metrics", face.ops)).send().await.ok()?.text().await.ok()?;
    let samples = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    Some(samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

/// I7: nobody writes for a customer whose lease somebody else holds.
async fn stale_writes(lab: &Lab) {
    if let Ok(stale) = sqlx::query_scalar::<_, i64>(witness::STALE).fetch_one(&lab.pool()).await {
        lab.book.check(7, (stale > 0).then(|| format!("{stale} stale writes; see soak.stale")));
    }
}

/// I2: nobody ever sees half of a transaction.
async fn halves(lab: &Lab) {
    if let Ok(halves) = sqlx::query_scalar::<_, i64>(witness::HALVES).fetch_one(&lab.pool()).await {
        lab.book.check(2, (halves > 0).then(|| format!("{halves} alerts whose versions and latest state do not fit")));
    }
}

/// When live polls came in, by customer and API.
#[derive(Debug, Default)]
struct Asked {
    next: u64,
    at: BTreeMap<(Uuid, Endpoint), Vec<i64>>,
}

impl Asked {
    fn take(&mut self, lab: &Lab) {
        for entry in lab.cloud.journal_from(self.next) {
            self.next = entry.number + 1;
            if let (true, Some(tenant), Some(at)) = (is_live(&entry), entry.tenant, Stamp::parse(&entry.at)) {
                self.at.entry((tenant, entry.endpoint)).or_default().push(at.ticks());
            }
        }
    }

    /// The last live poll that came in before this. The service names its time when it answers, and in whole seconds,
    /// which the daemon takes for their end: what became visible after the look is not in the answer.
    fn last_before(&self, tenant: Uuid, source: Source, caught_up: i64) -> Option<i64> {
        const SECOND: i64 = 10_000_000;
        let endpoint = if source == Source::MdeAlerts { Endpoint::Defender } else { Endpoint::Graph };
        let all = self.at.get(&(tenant, endpoint));
        all.and_then(|all| all.iter().copied().filter(|at| *at < caught_up - SECOND).max())
    }
}

/// Whether this is a request of a live poll: what is read again is asked for in windows with an end.
pub fn is_live(entry: &JournalEntry) -> bool {
    matches!(entry.endpoint, Endpoint::Graph | Endpoint::Defender) && !entry.query.contains("+lt+") && !entry.query.contains("%20lt%20")
}

/// I1: what a feed says it has caught up to is stored.
async fn cursors(lab: &Lab, asked: &Asked) {
    let sql = "select tenant, source, caught_up_ticks from tocsin.feed where caught_up_ticks is not null and source <> 'graph-incidents'";
    let Ok(feeds) = sqlx::query_as::<_, (Uuid, String, i64)>(sql).fetch_all(&lab.pool()).await else { return };
    let forgotten = lab.forgotten.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // Those at whom no odd record is aimed: what is stored of a tenant is then simply what it published.
    for tenant in lab.tenants.iter().take(HEALTHY) {
        let sql = "select source, alert_id, count(*) from tocsin.alert_version where tenant = $1 group by source, alert_id";
        let rows: Vec<(String, String, i64)> = match sqlx::query_as(sql).bind(tenant.directory_id).fetch_all(&lab.pool()).await {
            Ok(rows) => rows,
            Err(_) => return,
        };
        let stored: BTreeMap<(String, String), i64> = rows.into_iter().map(|(source, id, count)| ((source, id), count)).collect();
        let ledger = lab.cloud.ledger().rows(tenant.directory_id);
        for (_, source, caught_up) in feeds.iter().filter(|(whose, ..)| *whose == tenant.directory_id) {
            let wanted = if source == Source::MdeAlerts.name() { Source::MdeAlerts } else { Source::GraphAlerts };
            let Some(last) = asked.last_before(tenant.directory_id, wanted, *caught_up) else { continue };
            let remembered = |row: &&LedgerRow| !forgotten.iter().any(|(from, to)| (*from..*to).contains(&row.visible_at.ticks()));
            let due: Vec<_> = ledger.iter().filter(|row| row.source == wanted && visible(row, last)).filter(remembered).collect();
            if due.is_empty() {
                continue; // Nothing to compare with.
            }
            let missing = due.iter().filter(|row| {
                let id = row.alert_id.clone().unwrap_or_default();
                stored.get(&(source.clone(), id)).is_none_or(|count| usize::try_from(*count).is_ok_and(|count| count < row.version))
            });
            let missing: Vec<_> = missing.map(|row| format!("{:?} of {:?}", row.alert_id, row.last_update)).collect();
            let what = format!("{} {source} is caught up to {caught_up}, but lacks {missing:?}", tenant.directory_id);
            lab.book.check(1, (!missing.is_empty()).then_some(what));
        }
    }
}

/// Whether polling must have met this version by then: it was visible, and not with a stamp from long before.
fn visible(row: &LedgerRow, then: i64) -> bool {
    const LATE: i64 = 5 * 10_000_000;
    let stamp = row.last_update.as_deref().and_then(Stamp::parse);
    row.latest && row.visible_at.ticks() < then && stamp.is_some_and(|stamp| row.visible_at.ticks() - stamp.ticks() < LATE)
}
