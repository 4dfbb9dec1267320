//! Judgements about strain: hosts and tenants of which Microsoft wants less, and tables that collect dead rows.

use std::collections::BTreeMap;

use domain::{Source, metric};

use super::super::check::{Check, Outcome};
use super::super::facts::{DaemonFacts, ServerFacts, TableFacts, TenantFacts};
use super::counted;
use super::tenants::{is_read, listed, span};
use crate::output::size;

/// So large a share of the answers of a host may be refusals. A wait here and there costs seconds and is how Microsoft
/// shares its hosts among callers; from one in ten on reading is held back all the time.
const REFUSED_SHARE: f64 = 0.1;
/// Fewer answers say nothing about a rate.
const ENOUGH_ANSWERS: f64 = 20.0;
/// A tenant that is told to wait, and had no success for so long, is not read at the pace of its waits any more but
/// falls behind. Ordinary waits are of seconds, and most of the rest of a minute or two.
const HELD_BACK_SECONDS: f64 = 300.0;
/// Outcomes of a poll that asked the source nothing.
const UNASKED: &[&str] = &["waiting", "no-token", "slow", "unsupported", "no-database", "void"];

/// Deriving what dashboards read takes seconds; a minute is no backlog yet.
const DERIVED_LATE: f64 = 60.0;
/// Fewer dead rows cost nothing: a megabyte or two, read from memory.
const FEW_DEAD: i64 = 10_000;
/// Autovacuum begins, by default, when a fifth as many rows are dead as live. At twice that it has missed its time.
const DEAD_SHARE: f64 = 0.4;

/// What the running daemon has counted since it began, by host, and who is held back now, by the database.
pub(super) fn throttling(tenants: &[TenantFacts], daemon: &DaemonFacts) -> Check {
    let why = "what Microsoft refuses now is read later, and an alert is seen later by that much";
    let check = Check::ok("throttling", why, "no host refuses much, and no tenant is held back");
    let mut told: Vec<String> = Vec::new();
    if let DaemonFacts::Answers { metrics, .. } = daemon {
        let heavy = refusals(metrics).into_iter().filter(|(_, [refused, all])| *all >= ENOUGH_ANSWERS && refused / all >= REFUSED_SHARE);
        told.extend(heavy.map(|(host, [refused, all])| {
            let what = if host == "login" { "redemptions" } else { "polls" };
            format!("{host} refused {refused:.0} of {all:.0} {what} since the daemon began ({:.0} %)", 100.0 * refused / all)
        }));
    }
    let held_back = |tenant: &&TenantFacts| is_read(tenant) && tenant.throttled_seconds.is_some_and(|seconds| seconds > HELD_BACK_SECONDS);
    let (count, list) = listed(
        tenants
            .iter()
            .filter(held_back)
            .map(|tenant| (tenant, format!("(nothing read for {})", span(tenant.throttled_seconds.unwrap_or(0.0))))),
    );
    told.extend((count > 0).then_some(list));
    if told.is_empty() {
        return check;
    }
    let fix = "you: see that nothing else calls with this app registration; then ask less often ([poll] interval, [budget], [ladder])";
    check.but(Outcome::Warn, told.join("; "), fix)
}

/// How far what dashboards read has come behind what is stored.
pub(super) fn digest(server: &ServerFacts) -> Check {
    let digest = &server.digest;
    let why = "dashboards read evidence and roll-ups, which are derived after alerts are stored";
    let check = Check::ok("evidence and roll-ups", why, format!("{:.0} s behind the alerts", digest.lag_seconds));
    if digest.rebuilding > 0 {
        let found =
            format!("all of it is derived anew for {}, {} to go", counted(digest.rebuilding, "tenant"), counted(digest.waiting, "alert"));
        return check.but(Outcome::Warn, found, "you: nothing, as long as the number falls from one look to the next");
    }
    if digest.lag_seconds > DERIVED_LATE {
        let waiting = format!("{} behind, {} waiting", span(digest.lag_seconds), counted(digest.waiting, "alert"));
        return match digest.held_up_by {
            Some((pid, seconds)) if seconds > DERIVED_LATE => {
                let process = pid.map_or("that is prepared".to_owned(), |pid| format!("of process {pid}"));
                let fix = match pid {
                    Some(pid) => format!("you: see who that is, end it with: select pg_terminate_backend({pid})"),
                    None => "you: commit or roll it back; see pg_prepared_xacts".to_owned(),
                };
                check.but(Outcome::Warn, format!("{waiting}; a transaction {process} has been open for {}", span(seconds)), fix)
            }
            _ => check.but(Outcome::Warn, waiting, "you: see that a daemon runs; then its log, for \"not brought up to date\""),
        };
    }
    match digest.skipped {
        0 => check,
        skipped => check.but(
            Outcome::Warn,
            format!("{} without evidence, since the body could not be read", counted(skipped, "alert")),
            "you: see why with: select tenant, skipped, skipped_reason from dash.digest_health where skipped > 0",
        ),
    }
}

/// By host: how many answers asked us to slow down, and how many there were.
fn refusals(metrics: &str) -> BTreeMap<&'static str, [f64; 2]> {
    let mut hosts: BTreeMap<&'static str, [f64; 2]> = BTreeMap::new();
    for line in metrics.lines() {
        let Some((name, rest)) = line.split_once('{') else { continue };
        let Some((labels, value)) = rest.rsplit_once("} ") else { continue };
        let label = |wanted: &str| {
            labels
                .split(',')
                .find_map(|label| label.split_once('=').filter(|(key, _)| *key == wanted))
                .map(|(_, value)| value.trim_matches('"'))
        };
        let (Some(outcome), Ok(count)) = (label("outcome"), value.trim().parse::<f64>()) else { continue };
        let host = match (name, label("source").and_then(|source| source.parse::<Source>().ok())) {
            (metric::TOKEN_REFRESHES, _) => "login",
            (metric::POLLS, Some(Source::MdeAlerts)) => "defender",
            (metric::POLLS, Some(_)) => "graph",
            _ => continue,
        };
        if UNASKED.contains(&outcome) {
            continue;
        }
        let [refused, all] = hosts.entry(host).or_default();
        *all += count;
        *refused += if outcome == "throttled" { count } else { 0.0 };
    }
    hosts
}

pub(super) fn dead_rows(server: &ServerFacts) -> Check {
    let why = "dead rows are read past by every query and fill the disk until they are vacuumed away";
    let check = Check::ok("dead rows", why, format!("{} in all; autovacuum keeps up", size(server.bytes)));
    if !server.autovacuum {
        let fix = "you: switch it on where it was switched off: alter system set autovacuum = on; select pg_reload_conf()";
        return check.but(Outcome::Warn, format!("{} in all; autovacuum is off", size(server.bytes)), fix);
    }
    let mut full: Vec<&TableFacts> =
        server.tables.iter().filter(|table| table.dead >= FEW_DEAD && table.dead as f64 > DEAD_SHARE * table.live as f64).collect();
    full.sort_by_key(|table| -table.dead);
    if full.is_empty() {
        return check;
    }
    let each: Vec<_> = full
        .iter()
        .map(|table| {
            let rows = table.dead + table.live;
            let vacuumed = table.vacuumed_seconds.map_or("never vacuumed".to_owned(), |seconds| format!("vacuumed {} ago", span(seconds)));
            let share = 100.0 * table.dead as f64 / rows as f64;
            format!("{} ({share:.0} % of {rows} rows, {}, {vacuumed})", table.table, size(table.bytes))
        })
        .collect();
    let verb = if full.len() == 1 { "holds" } else { "hold" };
    let found = format!("{} {verb} more than autovacuum should let stand: {}", counted(full.len() as i64, "table"), each.join(", "));
    let names = full.iter().map(|table| table.table.as_str()).collect::<Vec<_>>().join(", ");
    let fix = format!(
        "you: type in psql, as the owner: vacuum (analyze) {names}; if they come back, look for what keeps them: a transaction that \
         stays open (pg_stat_activity.xact_start), a replication slot that lags, a prepared transaction"
    );
    check.but(Outcome::Warn, found, fix)
}
