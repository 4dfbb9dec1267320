//! The way that everybody takes who does nothing wrong, and the ways round it.

use std::time::Duration;

use anyhow::Context;
use e2e::harness::{Visitor, eventually};
use simulator::{Effect, OddToken, Region, Rule, Settings, SourceMix};

use super::{Desk, SOON, url_of};

#[tokio::test]
async fn a_link_connects_a_customer_and_his_alerts_arrive() -> anyhow::Result<()> {
    let desk = Desk::with(1, SourceMix::All, "").await?;
    let tenant = desk.tenant(0)?;
    let invitation = desk.invite(&tenant, &[]).await?;
    let link = url_of(&invitation)?;
    assert!(link.starts_with(&desk.base()), "{link}");
    assert_eq!(desk.state(&tenant).await?, "awaiting-consent");

    let mut visitor = Visitor::new()?;
    let page = visitor.open(&link).await?;
    for words in [
        "Night &amp; Watch asks to read your security alerts",
        &tenant.directory_id.to_string(),
        "What is stored",
        "How to end it",
        "Continue to Microsoft",
    ] {
        assert!(page.body.contains(words), "{words}: {}", page.body);
    }
    assert!(visitor.cookies.is_empty(), "looking uses nothing up, not even a cookie");
    for (header, words) in [
        ("content-security-policy", "default-src 'none'"),
        ("content-security-policy", "frame-ancestors 'none'"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert!(page.headers.get(header).is_some_and(|value| value.contains(words)), "{header}: {:?}", page.headers);
    }

    let left = desk.leave(&mut visitor, &link).await?;
    let cookie = &left.headers["set-cookie"];
    for word in ["__Host-", "Secure", "HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    let asked = left.to.clone().context("no redirect")?;
    let field = |name: &str| asked.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default();
    assert!(asked.path().starts_with(&format!("/{}/oauth2/v2.0/authorize", tenant.directory_id)), "{asked}");
    assert_eq!((field("code_challenge_method").as_str(), field("response_type").as_str()), ("S256", "code"));
    assert!(field("code_challenge").len() == 43 && field("nonce").len() >= 43 && field("state").len() >= 43, "{asked}");

    let back = visitor.follow(&left).await?;
    let progress = visitor.follow(&back).await?;
    assert_eq!((progress.status, progress.to.as_ref().map(|to| to.path())), (303, Some("/consent/progress")));
    desk.becomes(&tenant, "active").await?;
    let last = visitor.follow(&progress).await?;
    assert!(last.body.contains("Connected. Thank you"), "{}", last.body);
    eventually("his alerts are stored", SOON, async || {
        let stored =
            desk.world.run(&["alerts", "list", "--json"]).await.and_then(|done| done.ok()?.json()).map_err(|error| error.to_string())?;
        if stored.as_array().is_some_and(|rows| rows.len() >= 5) { Ok(()) } else { Err(stored.to_string()) }
    })
    .await?;

    let again = Visitor::new()?.open(&link).await?;
    assert_eq!(again.status, 410, "a link is good once");
    let refused = desk.world.run(&["tenant", "invite", &tenant.name]).await?;
    assert_eq!(refused.code(), 5);
    assert!(refused.stderr.contains("--relink"), "{}", refused.stderr);
    let verified = desk.world.run(&["tenant", "verify", &tenant.name]).await?.ok()?;
    assert!(verified.stdout.contains("works; 3 of 3 sources"), "{}", verified.stdout);
    // With whose account: nothing else tells who owns the one that reads this customer.
    let connected = desk.audited(&tenant, "tenant.connected").await?;
    assert_eq!(connected["details"]["account"]["name"], "mssp-reader@bekci.example", "{connected}");
    let oid = connected["details"]["account"]["oid"].as_str().context("no oid")?;
    assert!(uuid::Uuid::try_parse(oid).is_ok(), "{connected}");
    desk.end().await
}

#[tokio::test]
async fn a_newer_link_ends_the_one_before_and_links_are_drawn_and_called_back() -> anyhow::Result<()> {
    let desk = Desk::with(1, SourceMix::Both, "").await?;
    let tenant = desk.tenant(0)?;
    let id = tenant.directory_id.to_string();
    let earlier = url_of(&desk.invite(&tenant, &[]).await?)?;
    let mut visitor = Visitor::new()?;
    let link = url_of(&desk.invite(&tenant, &[]).await?)?;
    assert_eq!(visitor.open(&earlier).await?.status, 410);
    let answer = desk.answered(&mut visitor, &link).await?;
    visitor.open(&answer).await?;
    desk.becomes(&tenant, "active").await?;
    let shown = desk.world.run(&["tenant", "invite", &tenant.name, "--relink", "--no-wait", "--qr"]).await?.ok()?;
    assert!(shown.stdout.lines().count() > 10 && shown.stdout.contains('█'), "the link is drawn: {}", shown.stdout);
    let called_back = desk.world.run(&["tenant", "invite", &id, "--cancel"]).await?.ok()?;
    assert!(called_back.stdout.contains("good no more"), "{}", called_back.stdout);
    let gone = shown.stdout.lines().find(|line| line.starts_with("http")).context("no link")?.to_owned();
    assert_eq!(Visitor::new()?.open(&gone).await?.status, 410);
    desk.end().await
}

#[tokio::test]
async fn a_token_that_allows_nothing_connects_nobody() -> anyhow::Result<()> {
    let desk = Desk::with(1, SourceMix::GraphOnly, "").await?;
    let tenant = desk.tenant(0)?;
    let link = url_of(&desk.invite(&tenant, &[]).await?)?;
    let mut visitor = Visitor::new()?;
    let answer = desk.answered(&mut visitor, &link).await?;
    desk.world.cloud.script(Rule::new(Effect::OddToken(OddToken::NoPermissions)));
    let progress = visitor.open(&answer).await?;
    eventually("the checklist says what is missing", SOON, async || {
        let page = visitor.clone().follow(&progress).await.map_err(|error| error.to_string())?;
        if page.body.contains("SecurityAlert.Read.All was not granted") { Ok(()) } else { Err(page.body) }
    })
    .await?;
    assert_eq!(desk.state(&tenant).await?, "awaiting-consent");
    desk.end().await
}

#[tokio::test]
async fn a_live_connection_is_replaced_only_when_asked_and_only_by_one_that_is_proved_i18() -> anyhow::Result<()> {
    let desk = Desk::with(1, SourceMix::GraphOnly, "").await?;
    let tenant = desk.tenant(0)?;
    desk.world.import_all().await?;
    desk.becomes(&tenant, "active").await?;
    let before = connected_by(&desk).await?;
    let link = url_of(&desk.invite_known(&tenant, &["--relink"]).await?)?;
    let mut visitor = Visitor::new()?;
    let answer = desk.answered(&mut visitor, &link).await?;
    // Somebody says no: nothing changes.
    let declined = format!(
        "{}?error=access_denied&error_description=AADSTS65004%3A+declined&state={}",
        answer.split('?').next().unwrap_or_default(),
        state_of(&answer)?
    );
    let refused = visitor.open(&declined).await?;
    let told = visitor.follow(&refused).await?;
    assert!(told.body.contains("Not connected yet"), "{}", told.body);
    assert_eq!((desk.state(&tenant).await?.as_str(), connected_by(&desk).await?), ("active", before.clone()));
    // The link is still good, and a whole sign-in replaces the token.
    let answer = desk.answered(&mut visitor, &link).await?;
    let progress = visitor.open(&answer).await?;
    eventually("the new connection stands", SOON, async || {
        let page = visitor.clone().follow(&progress).await.map_err(|error| error.to_string())?;
        if page.body.contains("Connected. Thank you") { Ok(()) } else { Err(page.body) }
    })
    .await?;
    assert_ne!(connected_by(&desk).await?, before, "another token stands there");
    assert_eq!(desk.state(&tenant).await?, "active");
    desk.end().await
}

#[tokio::test]
async fn an_address_can_be_pasted_where_no_browser_is() -> anyhow::Result<()> {
    let desk = Desk::with(1, SourceMix::GraphOnly, "").await?;
    let tenant = desk.tenant(0)?;
    let id = tenant.directory_id.to_string();
    let mut visitor = Visitor::new()?;
    let words = ["tenant", "connect", &tenant.name, "--tenant", &id, "--cloud", "lab", "--paste"];
    // What is refused here is in the audit, as what the pages refuse.
    let nothing = "http://localhost/?code=a&state=b".to_owned();
    let of_another = async |address: &str| -> anyhow::Result<String> {
        let back = Visitor::new()?.open(address).await?.to.context("no answer")?.to_string();
        let state = state_of(&back)?;
        Ok(back.replace(&state, &state.replace(&state[50..60], "AAAAAAAAAA")))
    };
    let refused = desk.world.converse(&words, async |_| Ok(nothing)).await?;
    assert_eq!(refused.code(), 2, "{refused:?}");
    let reason = desk.audited(&tenant, "consent.refused").await?["details"]["reason"].to_string();
    assert!(reason.contains("it carries no state of ours"), "{reason}");
    let refused = desk.world.converse(&words, of_another).await?;
    assert_eq!(refused.code(), 1, "{refused:?}");
    let entry = desk.audited(&tenant, "consent.refused").await?;
    assert_eq!(entry["details"]["reason"], "the state belongs to no sign-in", "{entry}");
    assert!(entry["actor"].as_str().is_some_and(|actor| actor.starts_with("cli ")), "{entry}");
    let finished = desk
        .world
        .converse(&words, async |address| {
            let back = visitor.open(address).await?;
            Ok(back.to.context("no answer")?.to_string())
        })
        .await?;
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert!(finished.stderr.contains("Connected: alerts are read from now on"), "{}", finished.stderr);
    desk.becomes(&tenant, "active").await?;
    desk.end().await
}

#[tokio::test]
async fn whoever_sits_at_the_machine_connects_by_its_own_browser() -> anyhow::Result<()> {
    let desk = Desk::with(1, SourceMix::Both, "").await?;
    let tenant = desk.tenant(0)?;
    let id = tenant.directory_id.to_string();
    let mut visitor = Visitor::new()?;
    let finished = desk
        .world
        .converse(&["tenant", "connect", &tenant.name, "--tenant", &id, "--cloud", "lab"], async |address| {
            anyhow::ensure!(address.starts_with("http://localhost:"), "{address}");
            let left = desk.leave(&mut visitor, address).await?;
            let back = visitor.follow(&left).await?;
            let progress = visitor.follow(&back).await?;
            anyhow::ensure!(progress.status == 303, "{} {}", progress.status, progress.body);
            Ok(String::new())
        })
        .await?;
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert!(finished.stderr.contains("Connected: alerts are read from now on"), "{}", finished.stderr);
    desk.becomes(&tenant, "active").await?;
    desk.end().await
}

#[tokio::test]
async fn a_code_on_another_device_is_taken_with_a_warning_and_declined_codes_connect_nobody() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 1, history: 5, sources: SourceMix::GraphOnly, device_interval: Duration::ZERO, ..Settings::default() };
    let desk = Desk::open(cloud, "").await?;
    let tenant = desk.tenant(0)?;
    let id = tenant.directory_id.to_string();
    let words = ["tenant", "connect", &tenant.name, "--tenant", &id, "--cloud", "lab", "--device-code"];
    for (agrees, code, state) in [(false, 1, "awaiting-consent"), (true, 0, "active")] {
        let finished = desk
            .world
            .converse(&words, async |line| {
                let typed = line.split_whitespace().next_back().context("no code")?;
                desk.world.cloud.decide_device(typed, agrees)?;
                Ok(String::new())
            })
            .await?;
        assert_eq!(finished.code(), code, "{finished:?}");
        assert!(finished.stderr.contains("Microsoft recommends that organisations block"), "{}", finished.stderr);
        desk.becomes(&tenant, state).await?;
    }
    let refused = desk.audited(&tenant, "consent.refused").await?;
    assert!(refused["details"]["reason"].as_str().is_some_and(|reason| reason.contains("declined")), "{refused}");
    desk.end().await
}

#[tokio::test]
async fn with_json_a_script_gets_the_link_at_once_and_nothing_but_events() -> anyhow::Result<()> {
    let desk = Desk::with(3, SourceMix::GraphOnly, "").await?;
    for (at, command) in [(0, &["invite"][..]), (1, &["connect"]), (2, &["connect", "--paste"])] {
        let tenant = desk.tenant(at)?;
        let id = tenant.directory_id.to_string();
        let mut words = vec!["--json", "tenant", command[0], &tenant.name, "--tenant", &id, "--cloud", "lab"];
        words.extend(&command[1..]);
        let mut visitor = Visitor::new()?;
        let finished = desk
            .world
            .converse(&words, async |line| {
                let link: serde_json::Value = serde_json::from_str(line)?;
                anyhow::ensure!(link["event"] == "link", "{link}");
                let address = link["url"].as_str().context("no url")?;
                if command.contains(&"--paste") {
                    return Ok(visitor.open(address).await?.to.context("no answer")?.to_string());
                }
                let left = desk.leave(&mut visitor, address).await?;
                let back = visitor.follow(&left).await?;
                visitor.follow(&back).await?;
                Ok(String::new())
            })
            .await?;
        assert_eq!(finished.code(), 0, "{finished:?}");
        let events: Vec<serde_json::Value> = finished.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        assert_eq!(events.len(), 2, "{finished:?}");
        let last = &events[1];
        assert_eq!((last["event"].as_str(), last["state"].as_str()), (Some("connected"), Some("active")), "{last}");
        assert_eq!(last["directory_id"], id, "{last}");
    }
    let name = desk.tenant(0)?.name;
    let both = desk.world.run(&["--json", "tenant", "invite", &name, "--relink", "--no-wait", "--qr"]).await?;
    assert_eq!((both.code(), both.stdout.as_str()), (2, ""), "{both:?}");
    desk.end().await
}

#[tokio::test]
async fn a_customer_who_is_here_is_invited_to_the_cloud_that_he_lives_in_and_as_he_is_stored() -> anyhow::Result<()> {
    let desk = Desk::with(2, SourceMix::GraphOnly, "").await?;
    let tenant = desk.tenant(0)?;
    let id = tenant.directory_id.to_string();
    desk.invite(&tenant, &[]).await?;
    let links = "select count(*) from tocsin.link";
    let before: i64 = sqlx::query_scalar(links).fetch_one(&desk.world.pool().await?).await?;
    for (option, value, told) in [
        ("--app", "nosuchapp", "app main and not nosuchapp"),
        ("--source", "graph-incidents", "sources graph-alerts and not graph-incidents"),
    ] {
        let words = ["tenant", "invite", &tenant.name, "--tenant", &id, "--cloud", "lab", "--no-wait", option, value];
        let refused = desk.world.run(&words).await?;
        assert_eq!(refused.code(), 5, "{refused:?}");
        assert!(refused.complaint()?.contains(told), "{refused:?}");
    }
    // What is left out is as it is stored.
    desk.world.run(&["tenant", "invite", &tenant.name, "--tenant", &id, "--no-wait"]).await?.ok()?;

    desk.world.cloud.set_region(tenant.directory_id, Region { graph_host: Some("graph.microsoft.us".to_owned()), ..Region::default() })?;
    let refused = desk.world.run(&["tenant", "invite", &tenant.name, "--no-wait"]).await?;
    assert_eq!(refused.code(), 5, "{refused:?}");
    assert!(refused.complaint()?.contains("gcc-high"), "{refused:?}");
    let after: i64 = sqlx::query_scalar(links).fetch_one(&desk.world.pool().await?).await?;
    assert_eq!(after, before + 1, "one link was made, and none to the wrong cloud");

    // A cloud that cannot be asked now is no reason to make no link: it is for later.
    desk.world.cloud.set_region(tenant.directory_id, Region::default())?;
    let config = std::fs::read_to_string(&desk.world.config)?;
    let away = config.lines().map(|line| if line.starts_with("login_url") { "login_url = \"http://127.0.0.1:9\"" } else { line });
    std::fs::write(&desk.world.config, away.collect::<Vec<_>>().join("\n"))?;
    let made = desk.world.run(&["tenant", "invite", &tenant.name, "--no-wait"]).await?.ok()?;
    assert!(made.stderr.contains("cannot be asked now") && made.stdout.starts_with("http"), "{made:?}");
    desk.end().await
}

#[tokio::test]
async fn a_directory_is_found_by_its_domain_and_asked_about_and_never_in_another_cloud() -> anyhow::Result<()> {
    let desk = Desk::with(1, SourceMix::GraphOnly, "").await?;
    let tenant = desk.tenant(0)?;
    let domain = tenant.domain.clone();
    let unasked = desk.world.run(&["tenant", "invite", &tenant.name, "--tenant", &domain, "--cloud", "lab", "--no-wait"]).await?;
    assert_eq!(unasked.code(), 2, "nobody is there to ask: {unasked:?}");
    assert!(unasked.stderr.contains(&tenant.directory_id.to_string()), "{}", unasked.stderr);
    let words = ["tenant", "invite", &tenant.name, "--tenant", &domain, "--cloud", "lab", "--no-wait", "--yes", "--json"];
    let invited = desk.world.run(&words).await?.ok()?.json()?;
    assert_eq!(invited["directory_id"], tenant.directory_id.to_string());
    for (cloud, directory, code) in [("lab", "nobody.example", 4), ("mars", &domain, 2)] {
        let refused =
            desk.world.run(&["tenant", "invite", "Somebody", "--tenant", directory, "--cloud", cloud, "--no-wait", "--yes"]).await?;
        assert_eq!(refused.code(), code, "{refused:?}");
        assert_eq!(refused.complaint()?.lines().count(), 1);
    }
    desk.end().await
}

#[tokio::test]
async fn an_administrator_grants_the_app_its_own_permissions() -> anyhow::Result<()> {
    let desk = Desk::with(1, SourceMix::GraphOnly, "").await?;
    let app = format!(
        "\n[apps.own]\nclient_id = \"{}\"\nclient_secret_file = \"{}\"\ngrant = \"client_credentials\"\n",
        desk.world.cloud.client_id(),
        desk.world.path("app.secret").display()
    );
    let config = std::fs::read_to_string(&desk.world.config)? + &app;
    std::fs::write(&desk.world.config, config)?;
    let mut desk = desk;
    desk.restart().await?;
    let tenant = desk.tenant(0)?;
    let link = url_of(&desk.invite(&tenant, &["--app", "own"]).await?)?;
    assert_eq!(desk.state(&tenant).await?, "awaiting-consent", "before anybody has consented");
    let mut visitor = Visitor::new()?;
    let left = desk.leave(&mut visitor, &link).await?;
    assert!(left.to.as_ref().is_some_and(|to| to.path().ends_with("/v2.0/adminconsent")), "{:?}", left.to);
    let back = visitor.follow(&left).await?;
    visitor.follow(&back).await?;
    desk.becomes(&tenant, "active").await?;
    desk.end().await
}

/// By what the token is recognised that connected the only tenant: rotation leaves it alone, another connection does not.
async fn connected_by(desk: &Desk) -> anyhow::Result<Vec<u8>> {
    let pool = desk.world.pool().await?;
    Ok(sqlx::query_scalar("select import_mac from tocsin.tenant_secret where kind = 'refresh-token'").fetch_one(&pool).await?)
}

fn state_of(answer: &str) -> anyhow::Result<String> {
    let answer = reqwest::Url::parse(answer)?;
    let state = answer.query_pairs().find(|(name, _)| name == "state").map(|(_, value)| value.into_owned());
    state.context("no state")
}
