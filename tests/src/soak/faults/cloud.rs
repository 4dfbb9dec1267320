//! Faults of Microsoft's answers, aimed at one customer at a time by rules of the pretend Microsoft. Each is kept
//! up until it was felt and, where a person has to learn of it, until it shows; then it ends, and the customer has
//! to recover by itself, or with a new token where that is what the shown action asks for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use simulator::{Effect, Endpoint, OddToken, Outage, RetryAfter, Rule, SimTenant, Truncate};
use tokio::time::Instant;
use uuid::Uuid;

use crate::harness::eventually;
use crate::soak::lab::Lab;

/// Where a fault has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Nowhere: it is harmless, or over before anybody could look.
    None,
    /// At the feed: its last error, or until when it is throttled.
    Feed,
    /// The same, or as a feed that has not been read for a while: what is too large is asked for in smaller and smaller
    /// pieces, which is no error until there is no smaller piece.
    Stale,
    /// In the customer's health, with a reason.
    Health,
}

/// One fault.
pub struct Recipe {
    /// Its number in the catalogue.
    pub fault: u8,
    /// The effects to put on: of several sets, one is taken in turn.
    pub effects: &'static [&'static [fn() -> Rule]],
    /// The name of the effect that has to be felt, and how often.
    pub felt: (&'static str, u64),
    /// Where it has to show.
    pub sign: Sign,
    /// Whether a new token has to be imported in the end.
    pub consent: bool,
}

const fn recipe(fault: u8, effects: &'static [&'static [fn() -> Rule]], felt: (&'static str, u64), sign: Sign) -> Recipe {
    Recipe { fault, effects, felt, sign, consent: false }
}

const fn needing_consent(fault: u8, effects: &'static [&'static [fn() -> Rule]], felt: (&'static str, u64)) -> Recipe {
    Recipe { fault, effects, felt, sign: Sign::Health, consent: true }
}

fn on_graph(effect: Effect) -> Rule {
    Rule::new(effect).endpoint(Endpoint::Graph)
}

fn at_token(effect: Effect) -> Rule {
    Rule::new(effect).endpoint(Endpoint::Token)
}

fn throttle(retry_after: RetryAfter) -> Rule {
    on_graph(Effect::Throttle { status: 429, retry_after })
}

fn refused(code: u32) -> Rule {
    at_token(Effect::SignInError { code, error: None, suberror: None, status: None })
}

/// A 401 makes the daemon throw its access token away and ask for another.
fn throw_token_away() -> Rule {
    on_graph(Effect::Unauthorized { claims: false }).times(1)
}

/// Every fault that comes about like this.
pub const RECIPES: &[Recipe] = &[
    recipe(8, &[&[|| on_graph(Effect::ResetAfter { bytes: 40 })]], ("reset_after", 1), Sign::Feed),
    recipe(9, &[&[|| on_graph(Effect::ResetAfter { bytes: 900 })]], ("reset_after", 1), Sign::Feed),
    recipe(10, &[&[|| on_graph(Effect::Trickle { bytes: 1, every_ms: 1000 }).times(1)]], ("trickle", 1), Sign::None),
    recipe(11, &[&[|| on_graph(Effect::Truncate(Truncate::ShortBody))]], ("truncate", 1), Sign::Feed),
    recipe(12, &[&[|| on_graph(Effect::GzipBomb { megabytes: 200 })]], ("gzip_bomb", 1), Sign::Stale),
    recipe(13, &[&[|| on_graph(Effect::Html { status: 200 })]], ("html", 1), Sign::Feed),
    recipe(14, &[&[|| throttle(RetryAfter::Seconds(3)).times(2)]], ("throttle", 1), Sign::Feed),
    recipe(
        15,
        &[
            &[|| throttle(RetryAfter::HttpDate(3)).times(2)],
            &[|| throttle(RetryAfter::Text("-7".to_owned())).times(2)],
            &[|| throttle(RetryAfter::Missing).times(2)],
        ],
        ("throttle", 1),
        Sign::Feed,
    ),
    recipe(16, &[&[|| on_graph(Effect::Outage(Outage::Unavailable)).times(4)]], ("outage", 2), Sign::None),
    recipe(
        17,
        &[&[|| on_graph(Effect::Clamp { top: 10 }), || on_graph(Effect::Outage(Outage::InternalError)).after(2).times(2)]],
        ("outage", 1),
        Sign::None,
    ),
    recipe(35, &[&[throw_token_away, || at_token(Effect::SecretExpired).times(2)]], ("secret_expired", 1), Sign::Health),
    recipe(36, &[&[throw_token_away, || at_token(Effect::OddToken(OddToken::NoRefreshToken)).times(3)]], ("odd_token", 1), Sign::None),
    needing_consent(33, &[&[throw_token_away, || at_token(Effect::Revoke { code: 50173 })]], ("revoke", 1)),
    needing_consent(
        34,
        &[&[throw_token_away, || refused(50076)], &[throw_token_away, || at_token(Effect::ConsentMissing)]],
        ("sign_in_error", 1),
    ),
    // Nobody asks again for an hour by himself: the shown action is a new consent.
    needing_consent(38, &[&[throw_token_away, || at_token(Effect::OddToken(OddToken::WrongTenant))]], ("odd_token", 1)),
    needing_consent(39, &[&[throw_token_away, || at_token(Effect::OddToken(OddToken::FewerPermissions))]], ("odd_token", 1)),
    recipe(
        40,
        &[
            &[throw_token_away, || at_token(Effect::ExpiresIn { json: "0".to_owned() }).times(2)],
            &[throw_token_away, || at_token(Effect::ExpiresIn { json: "-60".to_owned() }).times(2)],
            &[throw_token_away, || at_token(Effect::ExpiresIn { json: "\"soon\"".to_owned() }).times(2)],
            &[throw_token_away, || at_token(Effect::ExpiresIn { json: "1e300".to_owned() }).times(2)],
        ],
        ("expires_in", 1),
        Sign::None,
    ),
    recipe(
        42,
        &[&[throw_token_away, || {
            at_token(Effect::SignInError {
                code: 90033,
                error: Some("temporarily_unavailable".to_owned()),
                suberror: None,
                status: Some(503),
            })
        }]],
        ("sign_in_error", 1),
        Sign::Feed,
    ),
    needing_consent(43, &[&[|| on_graph(Effect::Unauthorized { claims: true }), || refused(50057)]], ("sign_in_error", 1)),
];

/// Faults felt within this, also while a replica is being taken over from.
const FELT_WITHIN: Duration = Duration::from_secs(110);
/// I24: shown within this after it was felt.
const SHOWN_WITHIN: Duration = Duration::from_secs(60);
/// Nobody waits for a sign longer than this, however often the customer changes hands.
const GIVEN_UP: Duration = Duration::from_secs(180);
/// Over within this once its cause is.
const OVER_WITHIN: Duration = Duration::from_secs(150);

/// Lets a customer suffer one fault, from the first request that feels it to the recovery.
///
/// # Errors
/// When it was not felt, did not show, or did not pass.
pub async fn suffer(lab: &Lab, recipe: &Recipe, turn: usize, tenant: &SimTenant) -> anyhow::Result<()> {
    let id = tenant.directory_id;
    let set = recipe.effects[turn % recipe.effects.len()];
    let names: Vec<Effect> = set.iter().map(|rule| rule().effect).collect();
    let before = felt(lab, tenant, &names);
    lab.cloud.publish_new(id, 3)?;
    for rule in set {
        lab.cloud.script(rule().tenant(id));
    }
    eventually(&format!("fault {} is felt", recipe.fault), FELT_WITHIN, async || {
        let times = felt(lab, tenant, &names) - before;
        if times >= recipe.felt.1 { Ok(()) } else { Err(times) }
    })
    .await?;
    let felt_at = Instant::now();
    if recipe.sign != Sign::None {
        let shown = shown_after(lab, tenant, recipe, felt_at).await;
        lab.book.shown(recipe.fault, u64::try_from(shown.as_ref().unwrap_or(&GIVEN_UP).as_millis())?);
        lab.book.check(24, shown.err().map(|error| format!("{error:#}")));
    }
    lab.book.fired(recipe.fault, felt(lab, tenant, &names) - before);
    lab.cloud.clear_script_of(id);
    if recipe.consent {
        lab.consent_again(tenant).await?;
    }
    recovered(lab, &[tenant]).await
}

/// How long a fault took to show. The minute begins anew when another replica has to take the customer over, since what
/// the one before had felt is gone with it, and the takeover has a limit of its own.
async fn shown_after(lab: &Lab, tenant: &SimTenant, recipe: &Recipe, felt_at: Instant) -> anyhow::Result<Duration> {
    let epoch = async || {
        let sql = "select epoch from tocsin.lease where tenant = $1";
        sqlx::query_scalar::<_, i64>(sql).bind(tenant.directory_id).fetch_one(&lab.pool()).await.ok()
    };
    let held = Mutex::new((epoch().await, felt_at));
    let since = || held.lock().unwrap_or_else(PoisonError::into_inner);
    eventually(&format!("fault {} shows", recipe.fault), GIVEN_UP, async || {
        let now = epoch().await;
        if since().0 != now {
            *since() = (now, Instant::now());
        }
        shows(lab, tenant, recipe.sign).await
    })
    .await?;
    let took = since().1.elapsed();
    anyhow::ensure!(took <= SHOWN_WITHIN, "fault {} showed only after {} s", recipe.fault, took.as_secs());
    Ok(took)
}

/// How often this customer has felt the last of these effects, which is the one that the others make way for.
fn felt(lab: &Lab, tenant: &SimTenant, effects: &[Effect]) -> u64 {
    effects.last().map_or(0, |effect| {
        let text = serde_json::to_string(effect).unwrap_or_default();
        let name = text.trim_start_matches(['{', '"']).split('"').next().unwrap_or_default().to_owned();
        lab.cloud.felt(Some(tenant.directory_id), &name)
    })
}

async fn shows(lab: &Lab, tenant: &SimTenant, sign: Sign) -> Result<(), String> {
    let sql = match sign {
        Sign::None => return Ok(()),
        Sign::Feed => {
            "select exists (select from dash.feed_health where directory_id = $1 and (last_error is not null or throttled_until is not null))"
        }
        Sign::Stale => {
            "select exists (select from dash.feed_health where directory_id = $1
                            and (last_error is not null or throttled_until is not null or last_success_at < now() - interval '12 seconds'))"
        }
        Sign::Health => {
            "select exists (select from dash.tenant_health where directory_id = $1 and reason is not null and action is not null)"
        }
    };
    match sqlx::query_scalar::<_, bool>(sql).bind(tenant.directory_id).fetch_one(&lab.pool()).await {
        Ok(true) => Ok(()),
        seen => Err(format!("{seen:?}")),
    }
}

/// Waits until these customers are read again from every source.
///
/// # Errors
/// When that does not come.
pub async fn recovered(lab: &Lab, tenants: &[&SimTenant]) -> anyhow::Result<()> {
    let since = lab.cloud.now().unix_seconds();
    let ids: Vec<Uuid> = tenants.iter().map(|tenant| tenant.directory_id).collect();
    let sql = "select h.directory_id::text, h.state, coalesce(h.reason, ''), f.troubles
               from dash.tenant_health h
               left join lateral (
                   select string_agg(source || ': ' || coalesce(last_error, 'not read since'), ', ') as troubles
                   from dash.feed_health f
                   where f.directory_id = h.directory_id
                     and (last_error is not null or throttled_until is not null or last_success_at is null or extract(epoch from last_success_at) < $2)
               ) f on true
               where h.directory_id = any($1) and (h.state <> 'active' or h.reason is not null or f.troubles is not null)";
    eventually("customers are read again", OVER_WITHIN, async || {
        let sick = sqlx::query_as::<_, (String, String, String, Option<String>)>(sql).bind(&ids).bind(since).fetch_all(&lab.pool()).await;
        match sick {
            Ok(sick) if sick.is_empty() => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await
}
