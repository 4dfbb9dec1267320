//! From facts to checks: small judgements without I/O, in the order in which one would look.

mod machine;
mod strain;
mod tenants;
#[cfg(test)]
mod tests;
mod webhook;

use super::check::Check;
use super::facts::{DatabaseFacts, Facts};

/// All checks, numbered.
pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![machine::configuration(&facts.config), machine::key_ring(&facts.keys)];
    checks.push(machine::separation(&facts.config));
    checks.extend(facts.apps.iter().map(machine::app));
    checks.push(machine::database(&facts.database));
    if let DatabaseFacts::There(server) = &facts.database {
        checks.push(machine::database_clock(server));
        checks.push(machine::roles(server));
        checks.push(machine::reader(server));
        checks.push(machine::readers(&server.readers));
        checks.push(machine::partitions(server));
        checks.push(machine::retention(server));
        checks.push(strain::dead_rows(server));
        checks.push(machine::data_keys(&facts.keys));
        checks.push(machine::key_versions(&facts.keys));
        checks.push(machine::audit(server));
        checks.push(machine::went_back(server));
        checks.push(machine::daemons(server, &facts.daemon));
        checks.push(machine::leases(server));
        checks.push(strain::digest(server));
        checks.extend(facts.config.private_webhook.as_ref().map(|files| webhook::webhook(files, server.webhook.as_deref().copied())));
    }
    checks.push(machine::endpoint(&facts.daemon, &facts.database));
    checks.extend(facts.hosts.iter().map(machine::host));
    checks.extend(machine::host_clocks(&facts.hosts));
    if matches!(facts.database, DatabaseFacts::There(_)) {
        checks.push(tenants::states(&facts.tenants));
        checks.push(tenants::successes(&facts.tenants));
        checks.push(tenants::lags(&facts.tenants));
        checks.push(strain::throttling(&facts.tenants, &facts.daemon));
        checks.push(tenants::clocks(&facts.tenants));
        checks.push(tenants::consents(&facts.tenants));
        checks.push(tenants::sights(&facts.tenants));
        checks.push(tenants::quarantines(&facts.tenants));
        checks.push(tenants::gaps(&facts.tenants));
    }
    if let Some(deep) = &facts.deep {
        checks.extend(deep.sources.iter().map(tenants::source));
        checks.push(tenants::token(deep));
        checks.extend(deep.clocks.iter().map(tenants::clock));
        checks.extend(deep.consent.iter().map(tenants::consent));
    }
    for (at, check) in checks.iter_mut().enumerate() {
        check.number = at + 1;
    }
    checks
}

/// `1 tenant`, `3 tenants`.
fn counted(count: i64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}
