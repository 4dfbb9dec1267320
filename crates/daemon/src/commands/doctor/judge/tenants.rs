//! Judgements about tenants: all of them in a line each, or one of them closely.

use super::super::check::{Check, Outcome};
use super::super::facts::{DeepFacts, SourceFacts, TenantFacts};
use super::counted;

/// More are counted and not listed.
const LISTED: usize = 10;
const HOUR: f64 = 3600.0;
const QUARTER: f64 = 900.0;
/// A tenant that has just come is polled within this.
const FIRST_POLL: f64 = 120.0;

/// `2 h`, `3 d`: as exact as anybody wants to know.
pub(super) fn span(seconds: f64) -> String {
    match seconds {
        ..60.0 => format!("{seconds:.0} s"),
        ..3600.0 => format!("{:.0} min", seconds / 60.0),
        ..86_400.0 => format!("{:.0} h", seconds / HOUR),
        _ => format!("{:.0} d", seconds / 86_400.0),
    }
}

/// The tenants that something is said of, the first of them by name.
pub(super) fn listed<'a>(tenants: impl Iterator<Item = (&'a TenantFacts, String)>) -> (usize, String) {
    let all: Vec<_> = tenants.map(|(tenant, said)| format!("{} {said}", tenant.tenant)).collect();
    let more = if all.len() > LISTED { format!(" and {} more", all.len() - LISTED) } else { String::new() };
    (all.len(), format!("{}{more}", all[..all.len().min(LISTED)].join(", ")))
}

pub(super) fn is_read(tenant: &TenantFacts) -> bool {
    tenant.state == "active"
}

pub(super) fn states(tenants: &[TenantFacts]) -> Check {
    let why = "a tenant in need is not seen by you";
    let check = Check::ok("tenants", why, format!("{}, none in need", counted(tenants.len() as i64, "tenant")));
    if tenants.is_empty() {
        return check.but(Outcome::Warn, "none", "you: bring one in with: tocsin tenant invite, or many with: tocsin tenant import");
    }
    let in_need = tenants.iter().filter(|tenant| tenant.state.starts_with("needs-") || tenant.troubled);
    let (count, list) = listed(in_need.map(|tenant| {
        let code = tenant.error_code.as_deref().map(|code| format!(", {code}")).unwrap_or_default();
        (tenant, format!("({} for {}{code})", tenant.state, span(tenant.for_seconds)))
    }));
    let first = tenants.iter().find(|tenant| tenant.state.starts_with("needs-") || tenant.troubled);
    match first {
        Some(first) => check.but(
            Outcome::Fail,
            format!("{count} in trouble: {list}"),
            format!("you: see who must do what with: tocsin tenant show {}", first.tenant),
        ),
        None => check,
    }
}

pub(super) fn successes(tenants: &[TenantFacts]) -> Check {
    let check = Check::ok(
        "last success",
        "what was not read yet cannot be alarmed on",
        "every active tenant was read in the last quarter of an hour",
    );
    let came_just_now = |tenant: &&TenantFacts| is_read(tenant) && tenant.never_read && tenant.for_seconds < FIRST_POLL;
    let late = |tenant: &&TenantFacts| {
        is_read(tenant) && !came_just_now(tenant) && (tenant.never_read || tenant.last_success_seconds.is_none_or(|age| age > QUARTER))
    };
    let (count, list) = listed(tenants.iter().filter(late).map(|tenant| {
        (
            tenant,
            tenant.last_success_seconds.filter(|_| !tenant.never_read).map_or("(never)".to_owned(), |age| format!("({} ago)", span(age))),
        )
    }));
    let Some(first) = tenants.iter().find(late) else {
        let (new, list) = listed(tenants.iter().filter(came_just_now).map(|tenant| (tenant, "(not polled yet)".to_owned())));
        let patience = "you: nothing for two minutes, in which a daemon polls who has just come; then: tocsin doctor";
        return if new == 0 { check } else { check.but(Outcome::Warn, list, patience) };
    };
    let fix = format!("you: see why with: tocsin tenant show {}", first.tenant);
    check.but(if count == tenants.iter().filter(|tenant| is_read(tenant)).count() { Outcome::Fail } else { Outcome::Warn }, list, fix)
}

pub(super) fn lags(tenants: &[TenantFacts]) -> Check {
    let check = Check::ok("lag", "so much later than Microsoft do you see an alert", "no active tenant lags by more than an hour");
    let late = |tenant: &&TenantFacts| is_read(tenant) && tenant.lag_seconds.is_some_and(|lag| lag > HOUR);
    let (_, list) = listed(tenants.iter().filter(late).map(|tenant| (tenant, format!("({})", span(tenant.lag_seconds.unwrap_or(0.0))))));
    let Some(first) = tenants.iter().find(late) else { return check };
    check.but(Outcome::Warn, list, format!("you: see how far its sources have come with: tocsin tenant show {}", first.tenant))
}

pub(super) fn clocks(tenants: &[TenantFacts]) -> Check {
    let check = Check::ok("clocks", "tokens, credentials and access end without a word from Microsoft", "none runs out within 30 days");
    let near = |tenant: &&TenantFacts| tenant.nearest_days.is_some_and(|days| days < 30);
    let over = tenants.iter().any(|tenant| tenant.nearest_days.is_some_and(|days| days < 0));
    let (_, list) = listed(tenants.iter().filter(near).map(|tenant| {
        let days = tenant.nearest_days.unwrap_or(0);
        let when = if days < 0 { "over".to_owned() } else { format!("in {days} d") };
        (tenant, format!("({} {when})", tenant.nearest_clock.as_deref().unwrap_or_default()))
    }));
    let Some(first) = tenants.iter().find(near) else { return check };
    let fix = format!("you: see who must do what with: tocsin tenant show {}", first.tenant);
    check.but(if over { Outcome::Fail } else { Outcome::Warn }, list, fix)
}

pub(super) fn consents(tenants: &[TenantFacts]) -> Check {
    let check = Check::ok(
        "consent",
        "a permission that was taken back blinds one source at the next token",
        "no permission is known to be missing",
    );
    let lacking = |tenant: &&TenantFacts| tenant.consent_missing > 0;
    let (_, list) = listed(tenants.iter().filter(lacking).map(|tenant| (tenant, format!("({} missing)", tenant.consent_missing))));
    let Some(first) = tenants.iter().find(lacking) else { return check };
    let fix = format!("the customer's administrator: consent through a new link, made with: tocsin tenant invite {}", first.tenant);
    check.but(Outcome::Fail, list, fix)
}

pub(super) fn sights(tenants: &[TenantFacts]) -> Check {
    let check = Check::ok(
        "device groups",
        "an account that sees only some of them misses the alerts of the others, without any error",
        "mde-alerts lacks nothing that graph-alerts holds",
    );
    let partial = |tenant: &&TenantFacts| tenant.unseen > 0;
    let (_, list) = listed(tenants.iter().filter(partial).map(|tenant| (tenant, format!("({} unseen)", counted(tenant.unseen, "alert")))));
    if list.is_empty() {
        return check;
    }
    let fix = "the customer's administrator: give the account all device groups in the Defender portal, or consent to an app with permissions of its own";
    check.but(Outcome::Warn, list, fix)
}

pub(super) fn quarantines(tenants: &[TenantFacts]) -> Check {
    let check = Check::ok("quarantine", "a record that was not understood is kept, and nobody sees it as an alert", "empty");
    let filled = |tenant: &&TenantFacts| tenant.quarantined > 0;
    let (_, list) = listed(tenants.iter().filter(filled).map(|tenant| (tenant, format!("({})", counted(tenant.quarantined, "record")))));
    if list.is_empty() {
        return check;
    }
    check.but(
        Outcome::Warn,
        list,
        "you: read them with: tocsin quarantine list; after an update of tocsin try: tocsin quarantine replay --all",
    )
}

pub(super) fn gaps(tenants: &[TenantFacts]) -> Check {
    let check = Check::ok("gaps", "what lies in a gap was never stored", "none is open");
    let open = |tenant: &&TenantFacts| tenant.open_gaps > 0;
    let (_, list) = listed(tenants.iter().filter(open).map(|tenant| (tenant, format!("({} open)", tenant.open_gaps))));
    let Some(first) = tenants.iter().find(open) else { return check };
    let fix = format!("you: see them in dash.gap; read the stretch again with: tocsin backfill start {} --since 30d", first.tenant);
    check.but(Outcome::Warn, list, fix)
}

pub(super) fn source(facts: &SourceFacts) -> Check {
    let (source, age) = (&facts.source, facts.last_success_seconds.map_or("never".to_owned(), |age| format!("{} ago", span(age))));
    let lag = facts.lag_seconds.map_or("unknown".to_owned(), span);
    let found =
        format!("{source}: last success {age}, lag {lag}, {} in quarantine, {} open", facts.quarantined, counted(facts.open_gaps, "gap"));
    let check = Check::ok("source", "this is what the customer is seen through", found.clone());
    let late = facts.last_success_seconds.is_none_or(|age| age > QUARTER);
    if facts.failing && late {
        return check.but(Outcome::Fail, found, "you: read its last_error with: tocsin tenant show");
    }
    if facts.throttled || late || facts.quarantined + facts.open_gaps > 0 {
        let found = if facts.throttled { format!("{found}; Microsoft asked us to slow down") } else { found };
        return check.but(Outcome::Warn, found, "you: look again in a quarter of an hour; then see tocsin tenant show");
    }
    check
}

pub(super) fn token(facts: &DeepFacts) -> Check {
    let check = Check::ok("credential", "without one the tenant cannot be signed in to", "");
    match (facts.token_version, facts.has_data_key) {
        (Some(version), true) => Check { found: format!("a sealed refresh token, version {version}"), ..check },
        (Some(_), false) => check.but(
            Outcome::Fail,
            "a sealed refresh token without its data key",
            "you: sign in again through a new link, made with: tocsin tenant invite",
        ),
        (None, _) => Check { found: "no refresh token; the app's own credential must do".to_owned(), ..check },
    }
}

pub(super) fn clock((clock, days, estimated): &(String, Option<i32>, bool)) -> Check {
    let estimated = if *estimated { " (estimated)" } else { "" };
    let check = Check::ok("clock", "it ends without a word from Microsoft", format!("{clock}: nothing runs out"));
    match days {
        None => check,
        Some(days) if *days < 0 => check.but(Outcome::Fail, format!("{clock}: over{estimated}"), "you: see tocsin tenant show"),
        Some(days) => {
            let found = format!("{clock}: {} left{estimated}", counted(i64::from(*days), "day"));
            if *days < 30 { check.but(Outcome::Warn, found, "you: see tocsin tenant show") } else { Check { found, ..check } }
        }
    }
}

pub(super) fn consent((audience, granted, missing): &(String, Vec<String>, Vec<String>)) -> Check {
    let found = format!("{audience}: granted {}", granted.join(", "));
    let check = Check::ok("permissions", "a source whose permission is missing is not read", found);
    if missing.is_empty() {
        return check;
    }
    let fix = "the customer's administrator: consent through a new link, made with: tocsin tenant invite";
    check.but(Outcome::Fail, format!("{audience}: missing {}", missing.join(", ")), fix)
}
