//! Answers that are none of ours: every one is refused with the same page, written into the audit, and uses nothing up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use e2e::harness::{Seen, Visitor, eventually};
use reqwest::Method;
use simulator::{SimTenant, SourceMix};

use super::{Desk, SOON, url_of};

const COOKIE: &str = "__Host-tocsin-sign-in";

/// One sign-in as it stands before its answer is delivered.
struct SignIn {
    link: String,
    code: String,
    state: String,
    cookie: String,
}

impl SignIn {
    async fn of(desk: &Desk, link: &str) -> anyhow::Result<Self> {
        let mut visitor = Visitor::new()?;
        let answer = reqwest::Url::parse(&desk.answered(&mut visitor, link).await?)?;
        let field = |name: &str| answer.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).context("a field");
        let cookie = visitor.cookies.values().next().context("a cookie")?.clone();
        Ok(Self { link: link.to_owned(), code: field("code")?, state: field("state")?, cookie })
    }

    async fn for_tenant(desk: &Desk, tenant: &SimTenant) -> anyhow::Result<Self> {
        Self::of(desk, &url_of(&desk.invite(tenant, &[]).await?)?).await
    }

    fn ticket(&self) -> &str {
        self.link.rsplit('/').next().unwrap_or_default()
    }

    fn query(&self) -> String {
        format!("code={}&state={}", self.code, self.state)
    }

    fn sent_cookie(&self) -> String {
        format!("{COOKIE}={}", self.cookie)
    }
}

/// Delivers an answer with exactly these cookies.
async fn deliver(desk: &Desk, query: &str, cookie: Option<&str>) -> anyhow::Result<Seen> {
    let address = format!("{}/consent/callback?{query}", desk.base());
    let headers: Vec<_> = cookie.map(|cookie| ("cookie", cookie)).into_iter().collect();
    Visitor::new()?.ask(Method::GET, &address, &headers).await
}

async fn audited(desk: &Desk) -> anyhow::Result<i64> {
    let pool = desk.world.pool().await?;
    Ok(sqlx::query_scalar("select count(*) from tocsin.audit where action = 'consent.refused'").fetch_one(&pool).await?)
}

/// Another character at this place.
fn changed(text: &str, at: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The page without its reference.
fn generic(seen: &Seen) -> String {
    let mut parts = seen.body.split("<code>");
    let before = parts.next().unwrap_or_default().to_owned();
    parts.fold(before, |page, part| page + part.split_once("</code>").map_or("", |(_, rest)| rest))
}

#[tokio::test]
async fn an_answer_is_taken_once_in_the_browser_and_for_the_flow_that_began_it_i17() -> anyhow::Result<()> {
    let desk = Desk::with(2, SourceMix::GraphOnly, "").await?;
    let (tenant, other_tenant) = (desk.tenant(0)?, desk.tenant(1)?);
    let ours = SignIn::for_tenant(&desk, &tenant).await?;
    // The same link in another browser, and another customer.
    let neighbour = SignIn::of(&desk, &ours.link).await?;
    let stranger = SignIn::for_tenant(&desk, &other_tenant).await?;
    let SignIn { code, state, cookie, .. } = &ours;
    let with_state = |state: &str| (format!("code={code}&state={state}"), Some(ours.sent_cookie()));
    let with_cookie = |cookie: String| (ours.query(), Some(cookie));
    let named = |value: &str| with_cookie(format!("{COOKIE}={value}"));
    let with_query = |query: String| (query, Some(ours.sent_cookie()));
    let last = state.len() - 2;
    let cases: Vec<(&str, (String, Option<String>))> = vec![
        ("nothing at all", (String::new(), None)),
        ("no state", with_query(format!("code={code}"))),
        ("an empty state", with_state("")),
        ("a short state", with_state("x")),
        ("a state cut at its end", with_state(&state[..state.len() - 1])),
        ("a state cut at its beginning", with_state(&state[1..])),
        ("a longer state", with_state(&format!("{state}A"))),
        ("a state of another tenant", with_state(&changed(state, 0))),
        ("a state with another tenant's middle", with_state(&changed(state, 12))),
        ("a state of another sign-in", with_state(&changed(state, 25))),
        ("a state with another sign-in's end", with_state(&changed(state, 40))),
        ("a state with another secret", with_state(&changed(state, 50))),
        ("a state with another end of its secret", with_state(&changed(state, last))),
        ("a state in small letters", with_state(&state.to_lowercase())),
        ("a state in capitals", with_state(&state.to_uppercase())),
        ("a state backwards", with_state(&state.chars().rev().collect::<String>())),
        ("a state written twice", with_state(&format!("{state}{state}"))),
        ("two equal states", with_query(format!("code={code}&state={state}&state={state}"))),
        ("two states, ours last", with_query(format!("code={code}&state=x&state={state}"))),
        ("two states, ours first", with_query(format!("code={code}&state={state}&state=x"))),
        ("a state and a line end", with_state(&format!("{state}%0A"))),
        ("a blank before the state", with_state(&format!("%20{state}"))),
        ("a NUL behind the state", with_state(&format!("{state}%00"))),
        ("a padded state", with_state(&format!("{state}%3D%3D"))),
        ("a state encoded twice", with_state(&format!("%25{}", &state[1..]))),
        ("a quoted state", with_state(&format!("%22{state}%22"))),
        ("the link as state", with_state(ours.ticket())),
        ("the cookie as state", with_state(cookie)),
        ("the state of another browser", with_state(&neighbour.state)),
        ("the state of another customer", with_state(&stranger.state)),
        ("a state of 20,000 characters", with_state(&"A".repeat(20_000))),
        ("a state of nothing but zeros", with_state(&"A".repeat(state.len()))),
        ("the state under another name", with_query(format!("code={code}&State={state}"))),
        ("the state behind a semicolon", with_query(format!("code={code};state={state}"))),
        ("no cookie", (ours.query(), None)),
        ("an empty cookie", named("")),
        ("a cookie of rubbish", named("rubbish")),
        ("a cookie cut at its end", named(&cookie[..cookie.len() - 1])),
        ("a longer cookie", named(&format!("{cookie}A"))),
        ("a cookie of another tenant", named(&changed(cookie, 0))),
        ("a cookie of another sign-in", named(&changed(cookie, 25))),
        ("a cookie with another secret", named(&changed(cookie, 50))),
        ("a cookie with another end", named(&changed(cookie, last))),
        ("a cookie in small letters", named(&cookie.to_lowercase())),
        ("a quoted cookie", named(&format!("\"{cookie}\""))),
        ("the cookie of another browser", named(&neighbour.cookie)),
        ("the cookie of another customer", named(&stranger.cookie)),
        ("the state as cookie", named(state)),
        ("the link as cookie", named(ours.ticket())),
        ("two equal cookies", with_cookie(format!("{0}; {0}", ours.sent_cookie()))),
        ("two cookies, ours last", with_cookie(format!("{COOKIE}=x; {}", ours.sent_cookie()))),
        ("two cookies, ours first", with_cookie(format!("{}; {COOKIE}=x", ours.sent_cookie()))),
        ("a cookie without its prefix", with_cookie(format!("tocsin-sign-in={cookie}"))),
        ("a cookie with the weaker prefix", with_cookie(format!("__Secure-tocsin-sign-in={cookie}"))),
        ("a cookie's name in capitals", with_cookie(format!("__HOST-TOCSIN-SIGN-IN={cookie}"))),
        ("a cookie of a longer name", with_cookie(format!("{COOKIE}-2={cookie}"))),
        ("two codes", with_query(format!("{}&code=x", ours.query()))),
        ("two equal codes", with_query(format!("{}&code={code}", ours.query()))),
        ("two errors", with_query(format!("{}&error=a&error=b", ours.query()))),
        ("two descriptions", with_query(format!("{}&error_description=a&error_description=b", ours.query()))),
        ("an answer of 20,000 characters", with_query(format!("{}&pad={}", ours.query(), "a".repeat(20_000)))),
        ("somebody else's answer to our browser", (stranger.query(), Some(ours.sent_cookie()))),
        ("our answer to somebody else's browser", (ours.query(), Some(stranger.sent_cookie()))),
    ];
    assert!(cases.len() >= 60, "{}", cases.len());
    let mut page: Option<String> = None;
    for (name, (query, cookie)) in &cases {
        let before = audited(&desk).await?;
        let seen = deliver(&desk, query, cookie.as_deref()).await?;
        assert_eq!(seen.status, 400, "{name}: {}", seen.body);
        assert_eq!(audited(&desk).await?, before + 1, "{name} is in the audit");
        let text = generic(&seen);
        assert_eq!(page.get_or_insert_with(|| text.clone()), &text, "{name}: every refusal looks the same");
    }
    // None of that used the sign-in up, so what was refused was refused for the reason that each case names.
    assert_eq!(desk.state(&tenant).await?, "awaiting-consent");
    assert_eq!(secrets(&desk).await?, 0, "nothing was stored");
    let taken = deliver(&desk, &ours.query(), Some(&ours.sent_cookie())).await?;
    assert_eq!(taken.status, 303, "{}", taken.body);
    desk.becomes(&tenant, "active").await?;
    let seen = deliver(&desk, &neighbour.query(), Some(&neighbour.sent_cookie())).await?;
    assert_eq!((seen.status, Some(generic(&seen))), (400, page.clone()), "another sign-in of a link that was used");
    // A page that is loaded again redeems nothing and shows what became of it.
    let is_of_a_code = |query: &str| query.split('&').any(|field| field == "grant_type=authorization_code");
    let redeemed = |desk: &Desk| desk.world.cloud.journal().iter().filter(|entry| is_of_a_code(&entry.query)).count();
    // Of the code alone: an active customer's token is redeemed by the daemon whenever it likes.
    let before = redeemed(&desk);
    assert_eq!(before, 1);
    assert_is_shown_progress(&deliver(&desk, &ours.query(), Some(&ours.sent_cookie())).await?);
    assert_eq!(redeemed(&desk), before);
    desk.end().await
}

#[tokio::test]
async fn an_answer_to_something_that_has_ended_is_refused() -> anyhow::Result<()> {
    let desk = Desk::with(4, SourceMix::GraphOnly, "").await?;
    let pool = desk.world.pool().await?;
    let late = SignIn::for_tenant(&desk, &desk.tenant(0)?).await?;
    sqlx::query("update tocsin.sign_in set expires_at = now() - interval '1 second'").execute(&pool).await?;
    let expired = SignIn::for_tenant(&desk, &desk.tenant(1)?).await?;
    let second = desk.tenant(1)?.directory_id;
    sqlx::query("update tocsin.link set expires_at = now() - interval '1 second' where tenant = $1").bind(second).execute(&pool).await?;
    let superseded = SignIn::for_tenant(&desk, &desk.tenant(2)?).await?;
    desk.invite_known(&desk.tenant(2)?, &[]).await?;
    let removed = SignIn::for_tenant(&desk, &desk.tenant(3)?).await?;
    let fourth = desk.tenant(3)?;
    desk.world.run(&["tenant", "remove", &fourth.name, "--yes"]).await?.ok()?;
    for (name, sign_in) in [("late", &late), ("expired", &expired), ("superseded", &superseded), ("removed", &removed)] {
        let before = audited(&desk).await?;
        let seen = deliver(&desk, &sign_in.query(), Some(&sign_in.sent_cookie())).await?;
        assert_eq!((seen.status, audited(&desk).await?), (400, before + 1), "{name}: {}", seen.body);
    }
    for (name, sign_in) in [("expired", &expired), ("superseded", &superseded), ("removed", &removed)] {
        let mut visitor = Visitor::new()?;
        assert_eq!(visitor.open(&sign_in.link).await?.status, 410, "{name}");
        assert_eq!(visitor.press(&sign_in.link).await?.status, 410, "{name}");
    }
    assert_eq!(secrets(&desk).await?, 0);
    desk.end().await
}

#[tokio::test]
async fn a_code_that_the_sign_in_service_does_not_take_connects_nobody() -> anyhow::Result<()> {
    let desk = Desk::with(2, SourceMix::GraphOnly, "").await?;
    let tenant = desk.tenant(0)?;
    let link = url_of(&desk.invite(&tenant, &[]).await?)?;
    let stranger = SignIn::for_tenant(&desk, &desk.tenant(1)?).await?;
    let spare = SignIn::of(&desk, &link).await?;
    let codes = [
        ("a code that nobody made", "1.Arubbish".to_owned(), ""),
        ("a code of another customer", stranger.code.clone(), ""),
        ("a code of another browser, whose challenge is another one", spare.code.clone(), ""),
        ("no code", String::new(), ""),
        ("an admin's consent, which was not asked for", "x".to_owned(), "&admin_consent=True"),
        ("a code with a blank", "a%20b".to_owned(), ""),
        ("a code with a NUL", "a%00b".to_owned(), ""),
        ("a refusal", "x".to_owned(), "&error=access_denied&error_description=AADSTS65004%3A+no"),
    ];
    for (name, code, more) in codes {
        let sign_in = SignIn::of(&desk, &link).await?;
        let before = audited(&desk).await?;
        let seen = deliver(&desk, &format!("code={code}&state={}{more}", sign_in.state), Some(&sign_in.sent_cookie())).await?;
        assert!(matches!(seen.status, 303 | 400), "{name}: {}", seen.body);
        eventually(&format!("{name} is in the audit"), SOON, async || match audited(&desk).await {
            Ok(now) if now == before + 1 => Ok(()),
            other => Err(format!("{other:?} after {before}")),
        })
        .await?;
        let again = deliver(&desk, &sign_in.query(), Some(&sign_in.sent_cookie())).await?;
        assert_is_shown_progress(&again);
        assert_eq!((desk.state(&tenant).await?.as_str(), secrets(&desk).await?), ("awaiting-consent", 0), "{name}");
    }
    // Whoever made the link without waiting is told as well, with the name of who has to act in it.
    let shown = desk.world.run(&["tenant", "show", &tenant.directory_id.to_string()]).await?.ok()?.stdout;
    let last = shown.lines().find(|line| line.trim_start().starts_with("last sign-in")).context(shown.clone())?;
    assert!(last.contains("FAIL") && last.contains("AADSTS65004") && last.contains(&tenant.directory_id.to_string()), "{last}");
    assert!(!last.contains("{tenant}") && shown.contains("good until"), "{shown}");
    // The link is still good for somebody who does it right.
    let right = SignIn::of(&desk, &link).await?;
    deliver(&desk, &right.query(), Some(&right.sent_cookie())).await?;
    desk.becomes(&tenant, "active").await?;
    desk.end().await
}

#[tokio::test]
async fn a_form_of_another_site_and_a_method_of_no_browser_are_refused() -> anyhow::Result<()> {
    let desk = Desk::with(1, SourceMix::GraphOnly, "").await?;
    let link = url_of(&desk.invite(&desk.tenant(0)?, &[]).await?)?;
    for (origin, site) in [("https://evil.example", "cross-site"), ("null", "cross-site"), ("http://127.0.0.1:1", "same-site")] {
        let mut visitor = Visitor::new()?;
        let seen = visitor.ask(Method::POST, &link, &[("origin", origin), ("sec-fetch-site", site)]).await?;
        assert_eq!((seen.status, visitor.cookies.len()), (400, 0), "{origin}");
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        let seen = Visitor::new()?.ask(method.clone(), &format!("{}/consent/callback?code=a&state=b", desk.base()), &[]).await?;
        assert_eq!(seen.status, 405, "{method}");
    }
    for address in ["/consent/x", "/consent/progress", "/", "/assets/../consent/x", "/consent/callback/x"] {
        let seen = Visitor::new()?.open(&format!("{}{address}", desk.base())).await?;
        assert!(matches!(seen.status, 400 | 404), "{address}: {}", seen.status);
        assert!(seen.headers.contains_key("content-security-policy"), "{address}");
    }
    desk.end().await
}

/// The sign-in is used up, and its own browser is led to what became of it.
fn assert_is_shown_progress(seen: &Seen) {
    assert_eq!((seen.status, seen.to.as_ref().map(|to| to.path())), (303, Some("/consent/progress")), "{}", seen.body);
}

#[tokio::test]
async fn a_flood_of_rubbish_is_counted_and_keeps_no_customer_out() -> anyhow::Result<()> {
    let desk = Desk::with(1, SourceMix::GraphOnly, "").await?;
    let tenant = desk.tenant(0)?;
    let link = url_of(&desk.invite(&tenant, &[]).await?)?;
    let ours = SignIn::of(&desk, &link).await?;
    // Both kinds of rubbish: what looks like nothing of ours, and what looks like it and belongs to nobody.
    let rubbish = ["code=a&state=b".to_owned(), format!("code=a&state={}", changed(&ours.state, 25))];
    let addresses = rubbish.map(|query| format!("{}/consent/callback?{query}", desk.base()));
    let stop = AtomicBool::new(false);
    let (told, stranger) = (&desk, Visitor::new()?);
    let flood = async {
        let mut statuses = BTreeMap::<u16, u64>::new();
        while !stop.load(Ordering::Relaxed) {
            let some = (0..50).map(|at| {
                let (mut stranger, address) = (stranger.clone(), &addresses[at % 2]);
                async move { stranger.open(address).await }
            });
            for seen in futures_util::future::try_join_all(some).await? {
                *statuses.entry(seen.status).or_default() += 1;
            }
        }
        anyhow::Ok(statuses)
    };
    let outcomes = async |outcome: &str| told.daemon.metric("tocsin_consent_refused_total", &format!("outcome=\"{outcome}\"")).await;
    let customer = async {
        eventually("requests are turned away", SOON, async || match outcomes("turned-away").await {
            Ok(more) if more > 500.0 => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await?;
        // A customer comes through all the same, at the first attempt, from the link to the end.
        let sign_in = SignIn::of(told, &link).await?;
        let taken = deliver(told, &sign_in.query(), Some(&sign_in.sent_cookie())).await?;
        anyhow::ensure!(taken.status == 303, "{} {}", taken.status, taken.body);
        told.becomes(&tenant, "active").await?;
        stop.store(true, Ordering::Relaxed);
        Ok(())
    };
    let (statuses, ()) = tokio::try_join!(flood, customer)?;
    assert!(statuses.keys().all(|status| matches!(status, 400 | 429)), "{statuses:?}");

    // Each of them is found again: as a row of its own, as one of a number in a row, or as turned away.
    let sum: f64 = [outcomes("written").await?, outcomes("unwritten").await?, outcomes("turned-away").await?].iter().sum();
    assert_eq!(sum, statuses.values().sum::<u64>() as f64, "{statuses:?}");
    assert_eq!(outcomes("written").await?, statuses[&400] as f64);
    assert_eq!(audited(&desk).await? as f64, outcomes("written").await?);
    let unwritten = outcomes("unwritten").await?;
    assert!(unwritten >= 50.0, "{unwritten}");
    let pool = desk.world.pool().await?;
    let summed =
        "select coalesce(sum((details::json ->> 'count')::float8), 0) from tocsin.audit where action = 'consent.refused-unwritten'";
    eventually("the rest is in the audit as a number", SOON, async || {
        let sum: f64 = sqlx::query_scalar(summed).fetch_one(&pool).await.map_err(|error| error.to_string())?;
        if sum == unwritten { Ok(()) } else { Err(format!("{sum} of {unwritten}")) }
    })
    .await?;
    assert!(desk.daemon.log()?.contains("refusals of the consent pages not written between"), "and in the log");
    desk.end().await
}

/// How many tokens are stored, candidates included.
async fn secrets(desk: &Desk) -> anyhow::Result<i64> {
    let pool = desk.world.pool().await?;
    Ok(sqlx::query_scalar("select (select count(*) from tocsin.tenant_secret) + (select count(*) from tocsin.candidate)")
        .fetch_one(&pool)
        .await?)
}
