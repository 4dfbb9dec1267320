//! `tocsin tenant verify`: does the connection of a tenant work, now?
//!
//! The command redeems nothing itself: two redeemers of one refresh token are a theft in the eyes of a strict sign-in
//! service. It asks the daemon that looks after the tenant to try at once, and watches what comes of it.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use sqlx::PgPool;
use tenant_registry::{Registry, TenantSummary};
use tokio::time::{Instant, sleep};

use super::Setting;
use super::tenant::failure;
use crate::cli::Named;
use crate::failure::{Exit, Failure};

const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What is known of a tenant since the question was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
struct Facts {
    /// As in `dash.tenant_health`.
    state: String,
    reason: Option<String>,
    action: Option<String>,
    /// A token was redeemed, or the app signed in, since the question was asked.
    signed_in: bool,
    /// A trouble that needs a person was met, or met again, since then.
    told: bool,
    /// Sources that are to be read.
    sources: i64,
    /// Those that have answered.
    answered: i64,
    /// What the sources said that did not.
    last_error: Option<String>,
}

/// What the facts come to.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Works,
    Fails(String),
    Open(&'static str),
}

/// Asks and watches.
pub(super) async fn run(setting: &Setting, registry: &Registry, pool: &PgPool, named: &Named, timeout: Duration) -> Result<(), Failure> {
    let tenant = registry.find(&named.tenant).await.map_err(failure)?;
    let attention = registry.attention(tenant.id).await.map_err(failure)?;
    if attention.daemons == 0 {
        return Err(Failure::new(Exit::Unavailable, "no daemon is running, so nobody can try: start `tocsin serve`"));
    }
    let asked: String = sqlx::query_scalar("select clock_timestamp()::text").fetch_one(pool).await?;
    registry.try_now(tenant.id).await.map_err(failure)?;
    let deadline = Instant::now() + timeout;
    loop {
        let facts = look(pool, &tenant, &asked).await?;
        let judgement = judge(&facts);
        let waited = Instant::now() >= deadline;
        match judgement {
            Judgement::Open(_) if !waited => sleep(LOOK_AGAIN).await,
            judgement => return report(setting, &tenant, &facts, judgement),
        }
    }
}

async fn look(pool: &PgPool, tenant: &TenantSummary, asked: &str) -> Result<Facts, Failure> {
    let facts = sqlx::query_as(
        "select h.state, h.reason, h.action, coalesce(h.last_refresh_at >= $2::text::timestamptz, false) as signed_in,
             exists (select from tocsin.trouble x where x.tenant = h.directory_id and x.seen_at >= $2::text::timestamptz
                 and x.verdict in ('needs-consent', 'needs-customer')) as told,
             (select count(*) from tocsin.tenant t, unnest(t.sources) where t.tenant = h.directory_id) as sources,
             (select count(*) from dash.feed_health f where f.directory_id = h.directory_id and f.last_success_at >= $2::text::timestamptz) as answered,
             (select string_agg(f.source || ': ' || f.last_error, '; ' order by f.source) from dash.feed_health f
              where f.directory_id = h.directory_id and f.last_error is not null and f.last_attempt_at >= $2::text::timestamptz) as last_error
         from dash.tenant_health h where h.directory_id = $1",
    );
    Ok(facts.bind(tenant.id.0).bind(asked).fetch_one(pool).await?)
}

/// Pure.
fn judge(facts: &Facts) -> Judgement {
    let shows_needs = matches!(facts.state.as_str(), "needs-consent" | "needs-customer" | "paused");
    if let Some(reason) = facts.reason.as_ref().filter(|_| shows_needs && facts.told) {
        return Judgement::Fails(reason.clone());
    }
    match facts.state.as_str() {
        "needs-consent" | "needs-customer" => Judgement::Open("the daemon has not tried again yet"),
        "awaiting-consent" => Judgement::Fails("it was never connected: type `tocsin tenant invite`".to_owned()),
        "removed" | "offboarding" => Judgement::Fails("it was removed".to_owned()),
        // A paused tenant is not read: its sign-in is all there is to see.
        "paused" if facts.signed_in => Judgement::Works,
        _ if facts.sources > 0 && facts.answered == facts.sources => Judgement::Works,
        _ if facts.last_error.is_some() => Judgement::Open("a source has not answered yet"),
        _ if facts.signed_in => Judgement::Open("not every source has answered yet"),
        _ => Judgement::Open("the daemon has not signed in yet"),
    }
}

fn report(setting: &Setting, tenant: &TenantSummary, facts: &Facts, judgement: Judgement) -> Result<(), Failure> {
    let works = judgement == Judgement::Works;
    if setting.output.json {
        setting.output.document(&json!({ "directory_id": tenant.id, "name": tenant.name, "works": works, "facts": facts }))?;
    }
    let action = facts.action.as_ref().map(|action| format!("; next: {action}")).unwrap_or_default();
    match judgement {
        Judgement::Works if setting.output.json => Ok(()),
        Judgement::Works if facts.state == "paused" => {
            setting.output.line(&format!("{}: works; the sign-in was tried just now, and nothing is read while it is paused", tenant.name))
        }
        Judgement::Works => {
            setting.output.line(&format!("{}: works; {} of {} sources answered just now", tenant.name, facts.answered, facts.sources))
        }
        Judgement::Fails(reason) => Err(Failure::new(Exit::ConditionTrue, format!("{}: {reason}{action}", tenant.name))),
        Judgement::Open(what) => {
            let error = facts.last_error.as_ref().or(facts.reason.as_ref()).map(|error| format!(": {error}")).unwrap_or_default();
            Err(Failure::new(Exit::ConditionTrue, format!("{}: {what}{error}{action}", tenant.name)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(state: &str, signed_in: bool, answered: i64) -> Facts {
        let state = state.to_owned();
        Facts { state, reason: None, action: None, signed_in, told: false, sources: 2, answered, last_error: None }
    }

    #[test]
    fn it_works_when_every_source_has_answered_since_the_question() {
        assert_eq!(judge(&facts("active", true, 2)), Judgement::Works);
        assert!(matches!(judge(&facts("active", true, 1)), Judgement::Open(_)));
        assert!(matches!(judge(&facts("active", false, 0)), Judgement::Open(_)));
        assert_eq!(judge(&facts("paused", true, 0)), Judgement::Works);
        assert!(matches!(judge(&facts("paused", false, 0)), Judgement::Open(_)));
        for state in ["awaiting-consent", "removed", "offboarding"] {
            assert!(matches!(judge(&facts(state, true, 2)), Judgement::Fails(_)), "{state}");
        }
        let before = Facts { reason: Some("the refresh token is dead".to_owned()), ..facts("needs-consent", false, 0) };
        assert!(matches!(judge(&before), Judgement::Open(_)), "what was known before the question is no answer to it");
        for state in ["needs-consent", "paused"] {
            let dead = Facts { told: true, state: state.to_owned(), ..before.clone() };
            assert_eq!(judge(&dead), Judgement::Fails("the refresh token is dead".to_owned()), "{state}");
        }
    }
}
