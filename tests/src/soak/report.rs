//! The one line that a soak leaves.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::catalogue::{self, Place};
use super::lab::{HEALTHY, Lab, TENANTS};
use super::rest::Rest;
use super::{Wish, say, witness};
use crate::measure::rotation::Kills;

/// I35: megabytes in ten minutes.
const GROWTH: f64 = 1.0;
/// What a line through some windows cannot tell from noise, in megabytes: how much they differ where nothing grows.
const RESOLUTION: f64 = 2.0;
/// Descriptors of the same kind: a connection more or less that waits in a pool.
const FDS: usize = 2;

/// What came of it.
pub struct Report {
    line: Value,
    bad: Vec<String>,
}

impl Report {
    /// Draws the balance.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn write(lab: &Lab, wish: &Wish, begun: Instant, rest: anyhow::Result<Rest>) -> anyhow::Result<Self> {
        let rest = rest?;
        judge(lab, &rest).await?;
        latencies(lab).await?;
        let mut bad = rest.troubles.clone();
        let tally = &rest.tally;
        let lost = tally.lost.len() + tally.poison_lost;
        if lost + tally.duplicated.len() > 0 || !tally.agrees() {
            bad.push(format!("the count does not agree:\n{tally}"));
        }
        let (fired, fired_elsewhere) = faults(lab, &mut bad);
        let invariants = invariants(lab, &mut bad);
        let looks = lab.samples.looks();
        let megabytes = |bytes: Option<u64>| bytes.map(|bytes| bytes >> 20);
        let ms = |what: &str, quantile: f64| lab.book.quantile(what, quantile).map(f64::round);
        let line = json!({
            "seconds": begun.elapsed().as_secs(),
            "seed": wish.seed,
            "bug": wish.bug,
            "alerts_made": tally.published,
            "versions_made": tally.versions_published,
            "stored": tally.versions_stored,
            "quarantined": tally.quarantined,
            "lost": lost,
            "duplicated": tally.duplicated.len(),
            "faults": fired,
            "faults_elsewhere": fired_elsewhere,
            "faults_skipped": catalogue::skipped(),
            "invariants": invariants,
            "late_found": lab.samples.late_found(),
            "worst": {
                "ingest_ms_p99": ms("ingest_ms", 0.99),
                "failover_ms": ms("failover_ms", 1.0),
                "handover_ms": ms("handover_ms", 1.0),
                "poll_lateness_ms_p99": ms("poll_lateness_ms", 0.99),
                "outage_growth_mb": lab.book.quantile("outage_growth_mb", 1.0),
            },
            // By how much the limits of I10 and I32 were widened at most, for a machine that had other work.
            "limits_widened_by": lab.book.quantile("crowding", 1.0),
            "rss_mb": {
                "start": megabytes(looks.first().map(|look| look.rss)),
                "max": megabytes(looks.iter().map(|look| look.rss).max()),
                "end": megabytes(looks.last().map(|look| look.rss)),
            },
            "calm": rest.calm.iter().map(|calm| json!({
                "seconds": calm.span.as_secs(),
                "rss_mb": calm.rss.iter().map(|rss| (*rss as f64 / f64::from(1 << 20) * 10.0).round() / 10.0).collect::<Vec<_>>(),
                "slope_mb_per_10_min": (calm.slope() * 10.0).round() / 10.0,
                "fds": calm.fds,
            })).collect::<Vec<_>>(),
            "fds": {
                "start": looks.first().map(|look| look.fds),
                "max": looks.iter().map(|look| look.fds).max(),
                "end": looks.last().map(|look| look.fds),
            },
            "bad": bad,
        });
        Ok(Self { line, bad })
    }

    /// What the kills around the rotation of refresh tokens came to.
    pub fn add_rotation_kills(&mut self, seen: anyhow::Result<(Kills, Kills)>) {
        let (entra, strict) = match seen {
            Ok(seen) => seen,
            Err(error) => {
                self.bad.push(format!("kills around a rotation: {error:#}"));
                self.line["bad"] = json!(self.bad);
                return;
            }
        };
        if entra.lost > 0 || strict.lost != strict.in_the_gap {
            self.bad.push(format!("kills around a rotation lost sign-ins that need not be lost: {entra:?}, {strict:?}"));
            self.line["bad"] = json!(self.bad);
        }
        let told = |kills: &Kills| {
            json!({
                "kills": kills.kills,
                "between_answer_and_commit": kills.in_the_gap,
                "lost_links": kills.lost,
                "told": kills.told.count(),
                "told_after_s_max": (kills.told.max().as_secs_f64() * 10.0).round() / 10.0,
            })
        };
        self.line["rotation_kills"] = json!({ "entra": told(&entra), "strict": told(&strict) });
    }

    /// The line.
    pub fn line(&self) -> String {
        self.line.to_string()
    }

    /// Whether everything held and nothing was left out.
    pub fn good(&self) -> bool {
        self.bad.is_empty()
    }

    /// Says to the person who watches what did not hold.
    pub fn tell(&self) {
        for what in &self.bad {
            say(what);
        }
        say(if self.good() { "everything held" } else { "NOT EVERYTHING HELD" });
    }
}

/// What can only be judged at the end.
async fn judge(lab: &Lab, rest: &Rest) -> anyhow::Result<()> {
    let book = &lab.book;
    let tally = &rest.tally;
    let some = |what: &[String]| (!what.is_empty()).then(|| format!("{} such, first {}", what.len(), what[0]));
    book.check(3, some(&tally.duplicated));
    book.check(
        4,
        some(&tally.lost).or_else(|| some(&tally.stale)).or_else(|| some(&tally.incidents_wrong)).or_else(|| some(&tally.misplaced)),
    );
    book.held(4, tally.versions_published as u64);
    book.check(5, some(&tally.unknown));
    book.held(5, tally.versions_stored as u64);
    let nameless = lab.cloud.ledger().all_rows().iter().filter(|row| row.alert_id.is_none()).count();
    book.held(6, (nameless + tally.quarantined) as u64);
    book.check(6, (tally.poison_lost > 0).then(|| format!("{} records are neither stored nor in quarantine", tally.poison_lost)));
    let late: i64 = sqlx::query_scalar(witness::STALE).fetch_one(&lab.pool()).await?;
    book.check(7, (late > 0).then(|| format!("{late} stale writes")));
    let overlaps = lab.cloud.overlapping_redemptions();
    let redemptions: u64 = lab
        .cloud
        .journal_totals()
        .iter()
        .filter(|((endpoint, _), _)| *endpoint == simulator::Endpoint::Token)
        .map(|(_, count)| count)
        .sum();
    book.check(11, (overlaps > 0).then(|| format!("{overlaps} of {redemptions} redemptions overlapped another one of the same customer")));
    book.held(11, redemptions);
    for calm in &rest.calm {
        let most = GROWTH * calm.span.as_secs_f64() / 600.0 + RESOLUTION;
        let grown = calm.grown() / f64::from(1 << 20);
        book.check(35, (grown > most).then(|| format!("{grown:.1} MB more in {} calm seconds, of at most {most:.1}", calm.span.as_secs())));
        book.check(35, (calm.more_fds() > FDS).then(|| format!("{} descriptors more: {:?}", calm.more_fds(), calm.fds)));
    }
    let watched = rest.calm.iter().filter(|calm| !calm.rss.contains(&u64::MAX)).count();
    book.check(35, (watched != 2).then(|| format!("{watched} of 2 replicas were there throughout the calm")));
    // One row for each of few things, whatever happened meanwhile.
    let tenants = i64::try_from(TENANTS)?;
    for (table, most) in [
        ("feed", 3 * tenants),
        ("lease", tenants),
        ("reread", 18 * tenants),
        ("trouble", 4 * tenants),
        ("replica", 16),
        ("tenant_secret", tenants),
    ] {
        let rows: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from tocsin.{table}"))).fetch_one(&lab.pool()).await?;
        book.check(35, (rows > most).then(|| format!("{rows} rows in tocsin.{table}, more than {most}")));
    }
    Ok(())
}

/// From visible to stored, for customers at whom nothing was aimed, whatever else went on.
async fn latencies(lab: &Lab) -> anyhow::Result<()> {
    for tenant in lab.tenants.iter().take(HEALTHY) {
        let sql = "select source, alert_id, version, extract(epoch from stored_at)::double precision from dash.alert_version where directory_id = $1";
        let rows: Vec<(String, String, i32, f64)> = sqlx::query_as(sql).bind(tenant.directory_id).fetch_all(&lab.pool()).await?;
        let mut stored: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
        for (source, id, _, at) in rows {
            stored.entry((source, id)).or_default().push(at);
        }
        for times in stored.values_mut() {
            times.sort_by(f64::total_cmp);
        }
        let begin = lab.cloud.ledger().rows(tenant.directory_id).iter().map(|row| row.visible_at).min();
        for row in lab.cloud.ledger().rows(tenant.directory_id).iter().filter(|row| Some(row.visible_at) != begin) {
            let key = (row.source.name().to_owned(), row.alert_id.clone().unwrap_or_default());
            // Versions are stored in the order in which they were made, since one is made only when all before are stored.
            if let Some(at) = stored.get(&key).and_then(|times| times.get(row.version - 1)) {
                lab.book.measure("ingest_ms", (at - row.visible_at.ticks() as f64 / 1e7) * 1000.0);
            }
        }
    }
    Ok(())
}

fn faults(lab: &Lab, bad: &mut Vec<String>) -> (Value, Value) {
    let seen = lab.book.faults();
    let mut fired = BTreeMap::new();
    let mut elsewhere = BTreeMap::new();
    for fault in catalogue::FAULTS {
        if !fault.places.contains(&Place::Process) {
            if let Some(words) = fault.places.iter().find_map(Place::elsewhere) {
                elsewhere.insert(fault.id.to_string(), words);
            }
            continue;
        }
        let known = seen.get(&fault.id).cloned().unwrap_or_default();
        if known.times == 0 {
            bad.push(format!("fault {} ({}) was never fired", fault.id, fault.name));
        }
        for failure in &known.failures {
            bad.push(format!("fault {} ({}): {failure}", fault.id, fault.name));
        }
        fired.insert(fault.id.to_string(), json!({ "name": fault.name, "fired": known.times, "shown_after_ms": known.shown_after_ms }));
    }
    (json!(fired), json!(elsewhere))
}

fn invariants(lab: &Lab, bad: &mut Vec<String>) -> Value {
    let seen = lab.book.invariants();
    let mut checked = BTreeMap::new();
    for invariant in catalogue::INVARIANTS.iter().filter(|invariant| invariant.places.contains(&Place::Process)) {
        let known = seen.get(&invariant.id).cloned().unwrap_or_default();
        if known.checked == 0 {
            bad.push(format!("I{} ({}) was never checked", invariant.id, invariant.name));
        }
        for broken in &known.broken {
            bad.push(format!("I{} ({}) did not hold: {broken}", invariant.id, invariant.name));
        }
        checked.insert(
            format!("I{}", invariant.id),
            json!({ "checked": known.checked, "held": known.checked > 0 && known.broken.is_empty() }),
        );
    }
    json!(checked)
}
