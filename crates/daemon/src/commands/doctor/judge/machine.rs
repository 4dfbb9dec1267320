//! Judgements about this machine and what it reaches: configuration, keys, apps, database, daemons, hosts.

use super::super::check::{Check, Outcome};
use super::super::facts::{AppFacts, ConfigFacts, DaemonFacts, DatabaseFacts, HostFacts, KeyFacts, ReaderFacts, ServerFacts};
use super::counted;

/// Leases, tokens and signatures bear with less than this.
const SKEW: f64 = 30.0;
/// From here on Microsoft refuses signatures and tokens.
const FATAL_SKEW: f64 = 300.0;
const OLDEST_POSTGRES: i32 = 150_000;

pub(super) fn configuration(facts: &ConfigFacts) -> Check {
    let check = Check::ok("configuration", "everything else follows from it", "it loads, without warnings");
    match facts.private_warnings.len() {
        0 => check,
        count => check
            .but(
                Outcome::Warn,
                format!("it loads, with {}", counted(count as i64, "warning")),
                "you: read the warnings with: tocsin config check",
            )
            .privately(facts.private_warnings.iter().cloned()),
    }
}

pub(super) fn key_ring(facts: &KeyFacts) -> Check {
    let check = Check::ok("key ring", "without it no refresh token opens, and tocsin does not start", counted(facts.keys as i64, "key"));
    if let Some(reason) = &facts.private_unusable {
        let fix = "you: bring the key ring file back from its backup, or, if there are no tenants yet, make one with: tocsin key init";
        return check.but(Outcome::Fail, "it cannot be used", fix).privately([reason.clone()]);
    }
    if facts.shared_with_group {
        return check.but(Outcome::Warn, "its group may read it", "you: unless that is meant, take the right away with chmod 600");
    }
    check
}

pub(super) fn separation(facts: &ConfigFacts) -> Check {
    let why = "who gets both can sign in to every customer";
    let check = Check::ok("separation", why, "key ring and app credentials lie in different places");
    if !facts.together {
        return check;
    }
    let fix = "you: move one of them, and set vault.require_separation = true so that it stays so";
    check.but(Outcome::Warn, "the key ring and a credential of an app come from one place, where one leak takes both", fix)
}

pub(super) fn app(facts: &AppFacts) -> Check {
    let why = "with it every tenant of this app is reached";
    let app = facts.app;
    let credential = if facts.has_credential { "its credential can be read" } else { "it has no credential of its own" };
    let check = Check::ok("app registration", why, format!("{app}: {credential}; {}", counted(facts.tenants, "tenant")));
    if let Some(reason) = &facts.private_unreadable {
        let fix = "you: put the credential into the file that the configuration names, readable by tocsin alone";
        return check.but(Outcome::Fail, format!("{app}: its credential cannot be read"), fix).privately([reason.clone()]);
    }
    let renew = "you: make a new credential in the app registration and put it into its file";
    if let Some(code) = &facts.fault {
        let found = format!("{app}: Microsoft refuses it ({code}), for {}", counted(facts.tenants, "tenant"));
        return check.but(Outcome::Fail, found, renew);
    }
    match facts.days_left {
        Some(days) if days < 0 => check.but(Outcome::Fail, format!("{app}: its credential has run out"), renew),
        Some(days) if days < 30 => check.but(Outcome::Warn, format!("{app}: its credential runs out in {}", counted(days, "day")), renew),
        _ => check,
    }
}

pub(super) fn database(facts: &DatabaseFacts) -> Check {
    let why = "alerts, cursors and sealed tokens live there";
    let check = |found: String| Check::ok("database", why, found);
    match facts {
        DatabaseFacts::NotMade => check(String::new()).but(
            Outcome::Warn,
            "the embedded one has not been made yet",
            "you: nothing, if tocsin has never run here; the first `tocsin serve` makes it",
        ),
        DatabaseFacts::Away { exit, private_reason } => check(String::new())
            .but(
                Outcome::Fail,
                format!("it cannot be worked with (exit {exit})"),
                "you: see that the server runs, and that [database] url and its login are right",
            )
            .privately([private_reason.clone()]),
        DatabaseFacts::OtherSchema { pending: 0 } => {
            check(String::new()).but(Outcome::Fail, "its schema is newer than this tocsin", "you: install the newer tocsin")
        }
        DatabaseFacts::OtherSchema { pending } => check(String::new()).but(
            Outcome::Fail,
            format!("{} to be applied", counted(*pending as i64, "migration")),
            "you: type: tocsin db migrate",
        ),
        DatabaseFacts::There(server) => {
            let kind = if server.embedded { "embedded" } else { "external" };
            let (major, minor) = (server.version / 10_000, server.version % 10_000);
            let fine = check(format!("{kind}, PostgreSQL {major}.{minor}, all migrations applied"));
            if server.version < OLDEST_POSTGRES {
                return fine.but(Outcome::Fail, format!("PostgreSQL {major} is too old"), "you: update the server to 15 or newer");
            }
            fine
        }
    }
}

pub(super) fn database_clock(server: &ServerFacts) -> Check {
    let why = "leases end by the database's clock, and two machines that disagree may both hold a tenant";
    let skew = server.skew_seconds;
    let check = Check::ok("clock of the database", why, format!("{skew:+.1} s against ours"));
    if skew.abs() < SKEW {
        return check;
    }
    let outcome = if skew.abs() < FATAL_SKEW { Outcome::Warn } else { Outcome::Fail };
    check.but(outcome, format!("{skew:+.0} s against ours"), "you: let both machines follow a time server (chrony, systemd-timesyncd)")
}

pub(super) fn roles(server: &ServerFacts) -> Check {
    let why = "the daemon works with few rights, so that a fault of it cannot change what is stored";
    let check = Check::ok("roles and grants", why, "all roles are there, and the daemon's role reads all that it needs");
    if !server.ingest_lacks.is_empty() {
        let found = format!("the daemon's role tocsin_ingest may not read {}", server.ingest_lacks.join(", "));
        return check.but(Outcome::Fail, found, "you: repeat the grants with: tocsin db migrate");
    }
    if !server.roles_missing.is_empty() {
        let found = format!("{} missing", server.roles_missing.join(", "));
        return check.but(Outcome::Warn, found, "you: have an administrator of the server make them, then type: tocsin db migrate");
    }
    check
}

pub(super) fn reader(server: &ServerFacts) -> Check {
    let why = "dashboards read schema dash as tocsin_reader, and must see nothing else";
    let check = Check::ok("dashboards' role", why, "tocsin_reader reads every view of dash and nothing else");
    if !server.reader_exceeds.is_empty() {
        let found = format!("tocsin_reader can also read {}", server.reader_exceeds.join(", "));
        return check.but(
            Outcome::Fail,
            found,
            "you: take that right away with: revoke all on all tables in schema tocsin from tocsin_reader",
        );
    }
    if !server.reader_lacks.is_empty() {
        let found = format!("tocsin_reader may not read {}", server.reader_lacks.join(", "));
        return check.but(Outcome::Warn, found, "you: repeat the grants with: tocsin db migrate");
    }
    check
}

pub(super) fn readers(facts: &ReaderFacts) -> Check {
    let why = "a customer who reads the database must never see another";
    let count = |count: usize| counted(i64::try_from(count).unwrap_or(i64::MAX), "reader");
    let check = Check::ok("readers", why, format!("{}, each bound to what it was given", count(facts.count)));
    if !facts.leaks.is_empty() {
        // Nobody is shown a customer too many while nobody reads.
        let outcome = if facts.count == 0 { Outcome::Warn } else { Outcome::Fail };
        return check.but(
            outcome,
            facts.leaks.join("; "),
            "you: let an ordinary role own the schemas (reassign owned by …), guard the table with: select tocsin.guard('TABLE'), then type: tocsin db migrate",
        );
    }
    if facts.exceed > 0 {
        let found = format!("{} with more rights than to read what was given", count(facts.exceed));
        let fix = "you: see which with: tocsin reader list; take those rights away, or give the reader a role of its own";
        return check.but(Outcome::Fail, found, fix).privately(facts.private_sentences.iter().cloned());
    }
    if facts.gone > 0 {
        let found = format!("{} whose role is gone: a new role of that name would see the same customers", count(facts.gone));
        return check
            .but(Outcome::Warn, found, "you: drop it here too: tocsin reader drop NAME")
            .privately(facts.private_sentences.iter().cloned());
    }
    check
}

pub(super) fn partitions(server: &ServerFacts) -> Check {
    let why = "rows of the default partition do not go with their month";
    let check = Check::ok("partitions", why, "every month has its own");
    match server.misplaced_rows {
        0 => check,
        rows => check.but(
            Outcome::Warn,
            format!("{} of ordinary months in the default partition", counted(rows, "row")),
            "you: look in the log for \"no partition could be made\"; nothing is lost, and these rows are kept for ever",
        ),
    }
}

pub(super) fn retention(server: &ServerFacts) -> Check {
    let why = "what is to be forgotten takes room, and may have to be gone by contract";
    let check = Check::ok("retention", why, "what is to be forgotten has gone");
    if server.retention_differs {
        let found = "[retention] of the configuration is not what the database says, and the database counts";
        return check.but(Outcome::Warn, found, "you: have it written down by the owner's login with: tocsin db migrate");
    }
    match server.overdue.as_slice() {
        [] => check,
        months => {
            let each: Vec<_> = months.iter().map(|(month, kept)| format!("{month} ({})", counted(*kept, "alert"))).collect();
            let found =
                format!("months that should have gone two months ago, with their alerts that are still worked on: {}", each.join(", "));
            let fix = "you: with more than 10000 such alerts a month waits until they rest; with fewer, look in the daemon's log for \
                       \"could not be forgotten\"";
            check.but(Outcome::Warn, found, fix)
        }
    }
}

pub(super) fn data_keys(facts: &KeyFacts) -> Check {
    let why = "a tenant whose data key does not open cannot be signed in to";
    let check = Check::ok("data keys", why, "the key ring opens all of them");
    match &facts.opens_all {
        Some(Ok(())) => check,
        None => check.but(Outcome::Warn, "not tried, since the key ring cannot be used", "you: see to the key ring first"),
        Some(Err(reason)) => check
            .but(Outcome::Fail, "not all of them open", "you: bring back the ring that holds the missing key; see: tocsin key status")
            .privately([reason.clone()]),
    }
}

pub(super) fn key_versions(facts: &KeyFacts) -> Check {
    let why = "a rotation is over only when nothing is sealed under an old key";
    let [active, old, missing] = facts.sealed;
    let check = Check::ok("keys in use", why, format!("{} under the active key", counted(active, "tenant")));
    if missing > 0 {
        let found = format!("{} under keys that are not in the ring", counted(missing, "tenant"));
        return check.but(Outcome::Fail, found, "you: bring back the ring that holds them; see: tocsin key status");
    }
    if old > 0 {
        let found = format!("{} under the active key, {old} under older ones", counted(active, "tenant"));
        return check.but(Outcome::Warn, found, "you: bring the rotation to its end with: tocsin key rotate");
    }
    check
}

pub(super) fn audit(server: &ServerFacts) -> Check {
    let why = "who did what has to be believed after a break-in";
    let walked = counted(i64::try_from(server.audit_entries).unwrap_or(i64::MAX), "entry").replace("entrys", "entries");
    let check = Check::ok("audit log", why, format!("{walked}, each as it was written"));
    match server.audit_problems {
        0 => check,
        problems => check.but(
            Outcome::Fail,
            format!("{} in {walked}", counted(i64::try_from(problems).unwrap_or(i64::MAX), "finding")),
            "you: see what with: tocsin audit verify; compare with a backup and with the heads that you kept elsewhere",
        ),
    }
}

pub(super) fn went_back(server: &ServerFacts) -> Check {
    let why = "after a restore whoever was removed is back, with his token";
    let check = Check::ok("time of the database", why, "it has all that was seen in it before");
    let Some(facts) = &server.went_back else { return check };
    let (outcome, removed) = match facts.removed {
        0 => (Outcome::Warn, String::new()),
        removed => (Outcome::Fail, format!("; {} of them had been removed", removed)),
    };
    let customers = counted(i64::try_from(facts.customers).unwrap_or(i64::MAX), "customer");
    check
        .but(
            outcome,
            format!("it was restored or is another one: what was decided since about {customers} is undone{removed}"),
            "you: do it again, removals first, as step 4 of docs/how-to/restore-from-a-backup.md says; who has an entry of his own since is not counted any more",
        )
        .privately(facts.private_sentences.iter().cloned())
}

pub(super) fn daemons(server: &ServerFacts, daemon: &DaemonFacts) -> Check {
    let check =
        Check::ok("daemons", "nobody else collects alerts", format!("{} seen in the last ten seconds", counted(server.replicas, "daemon")));
    match (server.replicas, server.leases_due, daemon) {
        (1.., ..) => check,
        (_, 0, _) => check.but(Outcome::Warn, "none, and no tenants to look after", "you: start one with: tocsin serve"),
        (_, _, DaemonFacts::Answers { .. }) => check.but(
            Outcome::Fail,
            "one answers here, and does not reach this database",
            "you: read its log; compare [database] url of the daemon with the one of this command",
        ),
        _ => check.but(Outcome::Fail, "none: no alert is collected now", "you: start one with: tocsin serve (or systemctl start tocsin)"),
    }
}

pub(super) fn leases(server: &ServerFacts) -> Check {
    let why = "a tenant that nobody holds is not read";
    let (due, held) = (server.leases_due, server.leases_held);
    let check = Check::ok("leases", why, format!("{held} of {} held", counted(due, "tenant")));
    if held >= due || server.replicas == 0 {
        return check;
    }
    check.but(
        Outcome::Warn,
        format!("{} not held by any daemon", counted(due - held, "tenant")),
        "you: nothing for half a minute, while daemons start or go; then read their logs",
    )
}

pub(super) fn endpoint(facts: &DaemonFacts, database: &DatabaseFacts) -> Check {
    let check = Check::ok("ops endpoint", "probes and metrics are asked there", "ready");
    let elsewhere = matches!(database, DatabaseFacts::There(server) if server.replicas > 0);
    match facts {
        DaemonFacts::Answers { ready: true, .. } => check,
        DaemonFacts::Answers { stages, .. } => {
            let sick: Vec<_> = stages.iter().filter(|(.., ready)| !ready).map(|(stage, ..)| stage.as_str()).collect();
            let found = format!("it answers and is not ready: {}", sick.join(", "));
            check.but(Outcome::Fail, found, "you: the stage says why with: tocsin healthcheck")
        }
        DaemonFacts::Silent if elsewhere => {
            check.but(Outcome::Ok, "nobody answers here; a daemon runs elsewhere", "you: ask [ops] listen on the machine where it runs")
        }
        DaemonFacts::Silent => check.but(Outcome::Warn, "nobody answers", "you: start a daemon, or correct [ops] listen"),
    }
}

pub(super) fn host(facts: &HostFacts) -> Check {
    let why = "tokens and alerts come from there";
    let cloud = facts.public_cloud.clone().unwrap_or_else(|| facts.cloud.to_string());
    let what = facts.what;
    match &facts.reached {
        Ok(reached) => Check::ok("hosts", why, format!("{what} of {cloud} answers (HTTP {})", reached.status)),
        Err(unreached) => Check::ok("hosts", why, String::new())
            .but(
                Outcome::Fail,
                format!("{what} of {cloud} cannot be reached ({})", unreached.kind),
                format!("you: let this machine reach {what}_url of the cloud: DNS, firewall, proxy (HTTPS_PROXY), certificates"),
            )
            .privately([unreached.private_reason.clone()]),
    }
}

/// One judgement over all hosts: what they agree on is our own clock.
pub(super) fn host_clocks(hosts: &[HostFacts]) -> Option<Check> {
    let mut skews: Vec<f64> = hosts.iter().filter_map(|host| host.reached.as_ref().ok()?.skew_seconds).collect();
    skews.sort_by(f64::total_cmp);
    let skew = *skews.get(skews.len() / 2)?;
    let why = "tokens and signatures carry times, and Microsoft refuses those of a clock that is wrong";
    let check = Check::ok("our clock", why, format!("{skew:+.0} s of the hosts' clocks against ours"));
    if skew.abs() < SKEW {
        return Some(check);
    }
    let outcome = if skew.abs() < FATAL_SKEW { Outcome::Warn } else { Outcome::Fail };
    let found = format!("{skew:+.0} s of the hosts' clocks against ours");
    Some(check.but(outcome, found, "you: let this machine follow a time server (chrony, systemd-timesyncd)"))
}
