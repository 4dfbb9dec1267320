//! Trouble with signing in and reading: what state a tenant gets, in which words, and how it is well again.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::harness::{Setup, World, eventually, run_in};
use simulator::{Effect, Endpoint, OddToken, Outage, Rotation, Rule, Settings, SimTenant, SourceMix};
use uuid::Uuid;

/// Everything that is not told within this is told too late (I24).
const MINUTE: Duration = Duration::from_secs(60);
/// A fault of the app is probed every half minute.
const TWO_PROBES: Duration = Duration::from_secs(75);

/// Access tokens that live for seconds, so that a dead refresh token shows in seconds.
fn short_lived(tenants: usize, history: usize) -> Settings {
    let access_lifetime = (Duration::from_secs(4), Duration::from_secs(6));
    Settings { tenants, history, access_lifetime, sources: SourceMix::GraphOnly, ..Settings::default() }
}

async fn world(cloud: Settings) -> anyhow::Result<World> {
    World::with_tenants(Setup { cloud, ..Setup::default() }).await
}

async fn stored(world: &World, tenant: Uuid, alerts: i64) -> anyhow::Result<()> {
    eventually("the alerts of this tenant are stored", MINUTE, async || {
        let count =
            world.count(&format!("select from dash.alert where directory_id = '{tenant}'")).await.map_err(|error| error.to_string())?;
        if count == alerts { Ok(()) } else { Err(format!("{count} of {alerts}")) }
    })
    .await
}

/// A new alert of these tenants arrives.
async fn goes_on(world: &World, tenants: &[SimTenant]) -> anyhow::Result<()> {
    for tenant in tenants {
        let before = world.cloud.ledger().alert_ids(tenant.directory_id).len();
        world.cloud.publish_new(tenant.directory_id, 1)?;
        stored(world, tenant.directory_id, i64::try_from(before + 1)?).await?;
        let health = world.health(tenant.directory_id).await?;
        ensure!(health.state == "active" && health.reason.is_empty(), "{} has trouble: {health:?}", tenant.name);
    }
    Ok(())
}

/// Requests to the token endpoint for a tenant, with their status.
fn redemptions(world: &World, tenant: Uuid) -> Vec<u16> {
    let journal = world.cloud.journal();
    journal.iter().filter(|entry| entry.endpoint == Endpoint::Token && entry.tenant == Some(tenant)).map(|entry| entry.status).collect()
}

async fn last_error(world: &World, tenant: Uuid) -> anyhow::Result<Option<String>> {
    let sql = "select last_error from dash.feed_health where directory_id = $1 and source = 'graph-alerts'";
    Ok(sqlx::query_scalar::<_, Option<String>>(sql).bind(tenant).fetch_optional(&world.pool().await?).await?.flatten())
}

#[tokio::test]
async fn a_dead_refresh_token_is_told_within_a_minute_and_a_fresh_one_heals_it() -> anyhow::Result<()> {
    let world = world(short_lived(3, 10)).await?;
    let tenants = world.cloud.tenants();
    let dead = &tenants[0];
    let mut daemon = world.serve()?;
    world.settled(MINUTE).await?;

    world.cloud.revoke(dead.directory_id, 50173)?;
    let health = world.healthy_when(dead.directory_id, "the dead token is told", MINUTE, |health| health.state == "needs-consent").await?;
    assert_eq!(health.code, "AADSTS50173");
    assert!(health.reason.contains("revoked"), "{health:?}");
    assert!(health.action.contains("sign in again") && health.action.contains("tocsin tenant invite "), "what to do and who: {health:?}");
    // Counted when the registry next looks, a moment after it has written the state.
    eventually("it is counted", MINUTE, async || match daemon.metric("tocsin_tenants", "state=\"needs-consent\"").await {
        Ok(1.0) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    let listed = world.run(&["tenant", "show", &dead.name, "--json"]).await?.ok()?.json()?;
    assert_eq!((listed["state"].as_str(), listed["error_code"].as_str()), (Some("needs-consent"), Some("AADSTS50173")));
    // Believed only after a second "no", and then left alone.
    let refused = redemptions(&world, dead.directory_id).iter().filter(|status| **status == 400).count();
    assert!((2..=4).contains(&refused), "{refused} refusals");
    world.cloud.publish_new(dead.directory_id, 2)?;
    goes_on(&world, &tenants[1..]).await?;
    assert_eq!(redemptions(&world, dead.directory_id).iter().filter(|status| **status == 400).count(), refused, "no hammering");

    // A fresh token: not by accident, but when asked for.
    let fresh = world.cloud.issue_refresh_token(dead.directory_id)?;
    let csv = world.csv(&[SimTenant { refresh_token: fresh, ..dead.clone() }]);
    let conflict = run_in(&world.config, &["tenant", "import", "-"], &csv, &[]).await?;
    assert_eq!(conflict.code(), 1, "{conflict:?}");
    assert!(conflict.stderr.contains("--replace-token"), "{conflict:?}");
    run_in(&world.config, &["tenant", "import", "--replace-token", "-"], &csv, &[]).await?.ok()?;
    world
        .healthy_when(dead.directory_id, "it is well again", MINUTE, |health| health.state == "active" && health.reason.is_empty())
        .await?;
    world.settled(MINUTE).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn each_refusal_of_the_sign_in_service_gives_the_state_that_its_remedy_needs() -> anyhow::Result<()> {
    // (code, error word, state, words in reason or action)
    let cases: &[(u32, Option<&str>, &str, &[&str])] = &[
        (65001, None, "needs-consent", &["consent", "administrator"]),
        (50076, None, "needs-consent", &["second factor"]),
        (700082, None, "needs-consent", &["90 days"]),
        (70043, None, "needs-consent", &["sign-in frequency"]),
        (53003, None, "needs-customer", &["conditional access", "the customer"]),
        (53000, None, "needs-customer", &["managed device"]),
        (50057, None, "needs-customer", &["disabled"]),
        (50020, None, "needs-customer", &["guest"]),
        (700016, None, "needs-customer", &["not known in this tenant"]),
        (90002, None, "needs-customer", &["does not exist in this cloud"]),
        // A code that nobody knows: the error word decides.
        (123456, Some("interaction_required"), "needs-consent", &[]),
        (50196, None, "active", &[]),
        (90033, None, "active", &[]),
        (50055, None, "needs-consent", &["password"]),
    ];
    let world = World::build(Setup {
        cloud: Settings { history: 2, sources: SourceMix::GraphOnly, tenants: cases.len() + 1, ..Settings::default() },
        ..Setup::default()
    })
    .await?;
    let tenants = world.cloud.tenants();
    for ((code, error, ..), tenant) in cases.iter().zip(&tenants) {
        let effect = Effect::SignInError { code: *code, error: error.map(str::to_owned), suberror: None, status: None };
        world.cloud.script(Rule::new(effect).tenant(tenant.directory_id).endpoint(Endpoint::Token));
    }
    world.import_all().await?;
    let mut daemon = world.serve()?;
    let well = tenants.last().context("the last one")?;
    stored(&world, well.directory_id, 2).await?;
    for ((code, _, state, words), tenant) in cases.iter().zip(&tenants) {
        let told = format!("AADSTS{code}");
        if *state == "active" {
            // Asked and refused; nothing for a person to do yet.
            eventually(&told, MINUTE, async || {
                last_error(&world, tenant.directory_id).await.and_then(|error| error.context("no error yet"))
            })
            .await?;
            let health = world.health(tenant.directory_id).await?;
            assert_eq!((health.state.as_str(), health.reason.as_str()), ("active", ""), "{told}: shown only after a minute");
            continue;
        }
        let health = world.healthy_when(tenant.directory_id, &told, MINUTE, |health| health.state != "active").await?;
        assert_eq!(health.state, *state, "{told}: {health:?}");
        assert!(health.code == told || *code == 123456, "{told}: {health:?}");
        assert!(!health.reason.is_empty() && !health.action.is_empty(), "{told}: {health:?}");
        for word in *words {
            assert!(health.reason.contains(word) || health.action.contains(word), "{told}: {word:?} is missing in {health:?}");
        }
    }
    goes_on(&world, std::slice::from_ref(well)).await?;

    // It is mended on the other side; nobody has to wait for the next slow probe.
    world.cloud.clear_script();
    for ((_, _, state, _), tenant) in cases.iter().zip(&tenants) {
        if *state != "active" {
            world.run(&["tenant", "resume", &tenant.name]).await?.ok()?;
        }
    }
    for ((code, _, state, _), tenant) in cases.iter().zip(&tenants) {
        if *state != "active" {
            let told = format!("AADSTS{code} is over");
            world.healthy_when(tenant.directory_id, &told, MINUTE, |health| health.state == "active" && health.reason.is_empty()).await?;
            stored(&world, tenant.directory_id, 2).await?;
        }
    }
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_fault_of_our_app_leaves_every_state_alone_is_told_once_and_ends_by_itself() -> anyhow::Result<()> {
    let world = world(short_lived(4, 5)).await?;
    let tenants = world.cloud.tenants();
    let mut daemon = world.serve()?;
    world.settled(MINUTE).await?;

    world.cloud.script(Rule::new(Effect::SecretExpired));
    for tenant in &tenants {
        let health = world.healthy_when(tenant.directory_id, "the one cause is shown", MINUTE, |health| !health.reason.is_empty()).await?;
        assert_eq!((health.state.as_str(), health.code.as_str()), ("active", "AADSTS7000222"));
        assert!(health.reason.contains("secret") && health.reason.contains("expired"), "{health:?}");
        assert!(health.action.contains("client_secret_file"), "{health:?}");
    }
    assert_eq!(world.count("select from tocsin.app_fault").await?, 1);
    // The probes say it and take no replica out of service, and one that starts now gets past its start (decision 0009).
    let mut second = world.serve()?;
    for daemon in [&daemon, &second] {
        eventually("the probes tell the refused app and stay well", MINUTE, async || match daemon.ops("/readyz").await {
            Ok((200, body)) if body.contains("refresher: ok, but app main in cloud lab: ") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await?;
        assert_eq!((daemon.ops("/startupz").await?.0, daemon.ops("/livez").await?.0), (200, 200));
    }
    second.terminate().await?;
    assert_eq!(world.count("select from dash.tenant_health where state <> 'active'").await?, 0);
    // View, command, metrics and log tell one story: one cause, its trace at Microsoft, and nobody marked.
    let traces: Vec<Option<String>> = sqlx::query_scalar("select distinct trace_id from dash.tenant_health where answered_at is not null")
        .fetch_all(&world.pool().await?)
        .await?;
    let [Some(trace)] = traces.as_slice() else { anyhow::bail!("one trace for all: {traces:?}") };
    let (health, shown) =
        (world.health(tenants[0].directory_id).await?, world.run(&["tenant", "show", &tenants[0].name, "--json"]).await?.ok()?.json()?);
    assert_eq!((shown["state"].as_str(), shown["error_code"].as_str()), (Some("active"), Some("AADSTS7000222")));
    assert_eq!((shown["reason"].as_str(), shown["action"].as_str()), (Some(health.reason.as_str()), Some(health.action.as_str())));
    assert!(shown["trace_id"].is_string() && shown["answered_at"].is_string(), "{shown}");
    assert_eq!(daemon.metric("tocsin_tenants", "state=\"active\"").await?, tenants.len() as f64);
    assert_eq!(daemon.metric("tocsin_tenants", "state=\"needs-consent\"").await?, 0.0);
    assert!(daemon.metric("tocsin_token_refresh_total", "outcome=\"global\"").await? >= 1.0);
    assert!(!trace.is_empty());
    let log = daemon.log()?;
    let alarm = log.lines().find(|line| line.contains("our app registration is refused for all of its tenants")).context("the alarm")?;
    assert!(alarm.contains("AADSTS7000222") && alarm.contains("trace.id") && alarm.contains(&health.reason), "{alarm}");
    assert!(!log.contains("the tenant needs"), "no tenant is spoken of");
    assert_eq!(
        daemon.log()?.lines().filter(|line| line.contains("\"ERROR\"") && line.contains("app registration")).count(),
        2,
        "one word of the refresher, one of the registry"
    );
    for tenant in &tenants {
        world.cloud.publish_new(tenant.directory_id, 2)?;
    }
    let refused = |world: &World| -> usize {
        tenants.iter().map(|tenant| redemptions(world, tenant.directory_id).iter().filter(|status| **status != 200).count()).sum()
    };
    let before = refused(&world);
    world.cloud.clear_script();
    for tenant in &tenants {
        world
            .healthy_when(tenant.directory_id, "well again by itself", TWO_PROBES, |health| {
                health.state == "active" && health.reason.is_empty()
            })
            .await?;
    }
    assert_eq!(world.count("select from tocsin.app_fault").await?, 0);
    assert!(
        refused(&world) <= before + 2,
        "one probe for all of them, twice a minute, not each tenant by itself: {} refusals",
        refused(&world) - before
    );
    world.settled(MINUTE).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_new_secret_in_its_file_is_picked_up_without_a_restart() -> anyhow::Result<()> {
    let world = world(short_lived(2, 5)).await?;
    let tenants = world.cloud.tenants();
    let mut daemon = world.serve()?;
    world.settled(MINUTE).await?;
    world.write_private("app.secret", "not~the+secret/at=all")?;
    for tenant in &tenants {
        let health =
            world.healthy_when(tenant.directory_id, "the wrong secret is told", MINUTE, |health| !health.reason.is_empty()).await?;
        assert_eq!((health.state.as_str(), health.code.as_str()), ("active", "AADSTS7000215"), "{health:?}");
        assert!(health.reason.contains("secret") && health.action.contains("client_secret_file"), "{health:?}");
    }
    // While the file is being exchanged it may be gone for a moment: no tenant's state changes for that either.
    std::fs::remove_file(world.path("app.secret"))?;
    world.write_private("app.secret", world.cloud.client_secret())?;
    for tenant in &tenants {
        world
            .healthy_when(tenant.directory_id, "the right secret works", TWO_PROBES, |health| {
                health.state == "active" && health.reason.is_empty()
            })
            .await?;
    }
    for tenant in &tenants {
        world.cloud.publish_new(tenant.directory_id, 1)?;
    }
    world.settled(MINUTE).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_permission_taken_away_is_named_and_the_tenant_is_well_again_when_it_is_back() -> anyhow::Result<()> {
    let world = world(Settings { tenants: 4, history: 5, sources: SourceMix::Both, ..Settings::default() }).await?;
    let tenants = world.cloud.tenants();
    let mut daemon = world.serve()?;
    world.settled(MINUTE).await?;
    let challenged = tenants[3].directory_id;
    world.cloud.script(Rule::new(Effect::Unauthorized { claims: true }).tenant(challenged).endpoint(Endpoint::Graph));
    let (of_graph, of_endpoint) = (tenants[0].directory_id, tenants[1].directory_id);
    world.cloud.script(Rule::new(Effect::Forbidden { code: None }).tenant(of_graph).endpoint(Endpoint::Graph));
    world.cloud.script(Rule::new(Effect::Forbidden { code: None }).tenant(of_endpoint).endpoint(Endpoint::Defender));
    for (tenant, permission) in [(of_graph, "SecurityAlert.Read.All"), (of_endpoint, "Alert.Read")] {
        let health = world.healthy_when(tenant, "the missing permission is told", MINUTE, |health| health.state == "needs-consent").await?;
        assert!(health.action.contains(permission) && health.action.contains("the customer"), "{health:?}");
        assert_eq!(health.code, "http-403", "{health:?}");
    }
    let health = world.healthy_when(challenged, "the claims challenge is told", MINUTE, |health| health.state == "needs-consent").await?;
    assert!(health.code == "insufficient_claims" && health.action.contains("sign in again"), "{health:?}");
    // The other source of the same tenant, and the other tenants, go on.
    let other = world.cloud.publish_new(of_graph, 20)?.len();
    let at_endpoint = format!("select from dash.alert_version where directory_id = '{of_graph}' and source = 'mde-alerts'");
    let published = world
        .cloud
        .ledger()
        .counts()
        .into_iter()
        .find(|count| count.directory_id == of_graph)
        .map_or(0, |count| count.sources["mde-alerts"].alerts);
    assert!(other == 20 && published > 0);
    eventually("the other source goes on", MINUTE, async || {
        let ids =
            world.count(&at_endpoint.replace("select from", "select distinct alert_id from")).await.map_err(|error| error.to_string())?;
        if ids == i64::try_from(published).unwrap_or(0) { Ok(()) } else { Err(format!("{ids} of {published}")) }
    })
    .await?;
    goes_on(&world, &tenants[2..3]).await?;

    world.cloud.clear_script();
    for tenant in [of_graph, of_endpoint, challenged] {
        world.healthy_when(tenant, "well again by itself", MINUTE, |health| health.state == "active" && health.reason.is_empty()).await?;
    }
    world.settled(MINUTE).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_licence_that_ran_out_is_the_customers_affair() -> anyhow::Result<()> {
    let world = world(Settings { tenants: 2, history: 3, sources: SourceMix::Both, ..Settings::default() }).await?;
    let tenants = world.cloud.tenants();
    world.cloud.script(
        Rule::new(Effect::Forbidden { code: Some("DisabledFeature".to_owned()) })
            .tenant(tenants[0].directory_id)
            .endpoint(Endpoint::Defender),
    );
    let mut daemon = world.serve()?;
    let health =
        world.healthy_when(tenants[0].directory_id, "the missing licence is told", MINUTE, |health| health.state != "active").await?;
    assert_eq!((health.state.as_str(), health.code.as_str()), ("needs-customer", "DisabledFeature"), "{health:?}");
    assert!(health.reason.contains("licence") && health.action.contains("the customer"), "{health:?}");
    world.cloud.clear_script();
    world.healthy_when(tenants[0].directory_id, "well again by itself", MINUTE, |health| health.state == "active").await?;
    world.settled(MINUTE).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn passing_faults_of_the_api_change_no_state_but_are_shown_in_the_feed() -> anyhow::Result<()> {
    let world = world(Settings { tenants: 4, history: 5, sources: SourceMix::GraphOnly, ..Settings::default() }).await?;
    let tenants = world.cloud.tenants();
    let mut daemon = world.serve()?;
    world.settled(MINUTE).await?;
    let faults = [Effect::Outage(Outage::InternalError), Effect::Outage(Outage::Reset), Effect::Unauthorized { claims: false }];
    for (effect, tenant) in faults.iter().zip(&tenants) {
        world.cloud.script(Rule::new(effect.clone()).tenant(tenant.directory_id).endpoint(Endpoint::Graph));
    }
    for (effect, tenant) in faults.iter().zip(&tenants) {
        eventually(&format!("{effect:?} is shown"), MINUTE, async || {
            last_error(&world, tenant.directory_id).await.and_then(|error| error.context("no error yet"))
        })
        .await?;
        world.cloud.publish_new(tenant.directory_id, 1)?;
    }
    goes_on(&world, &tenants[3..]).await?;
    for tenant in &tenants {
        let health = world.health(tenant.directory_id).await?;
        assert_eq!(health.state, "active", "{health:?}");
    }
    assert!(daemon.metric("tocsin_poll_total", "outcome=\"unavailable\"").await? >= 1.0);
    world.cloud.clear_script();
    world.settled(MINUTE).await?;
    for tenant in &tenants {
        eventually("the error is gone", MINUTE, async || {
            let error = last_error(&world, tenant.directory_id).await?;
            ensure!(error.is_none(), "{error:?}");
            Ok(())
        })
        .await?;
    }
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn passing_trouble_that_lasts_is_shown_after_a_minute_and_still_changes_no_state() -> anyhow::Result<()> {
    let world = world(Settings { tenants: 3, history: 2, sources: SourceMix::GraphOnly, ..Settings::default() }).await?;
    let tenants = world.cloud.tenants();
    let mut daemon = world.serve()?;
    world.settled(MINUTE).await?;
    let faults = [
        Rule::new(Effect::Outage(Outage::InternalError)).endpoint(Endpoint::Graph),
        Rule::new(Effect::Html { status: 200 }).endpoint(Endpoint::Graph),
    ];
    for (rule, tenant) in faults.into_iter().zip(&tenants) {
        world.cloud.script(rule.tenant(tenant.directory_id));
    }
    for tenant in &tenants[..2] {
        let health = world
            .healthy_when(tenant.directory_id, "what lasts is shown", Duration::from_secs(90), |health| !health.reason.is_empty())
            .await?;
        assert_eq!(health.state, "active", "{health:?}");
        assert!(!health.action.is_empty() && !health.code.is_empty(), "{health:?}");
    }
    goes_on(&world, &tenants[2..]).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_token_for_another_tenant_is_never_used_and_the_tenant_is_flagged() -> anyhow::Result<()> {
    let world = World::build(Setup {
        cloud: Settings { tenants: 3, history: 4, sources: SourceMix::GraphOnly, ..Settings::default() },
        ..Setup::default()
    })
    .await?;
    let tenants = world.cloud.tenants();
    world.cloud.script(Rule::new(Effect::OddToken(OddToken::WrongTenant)).tenant(tenants[0].directory_id));
    world.cloud.script(Rule::new(Effect::OddToken(OddToken::Opaque)).tenant(tenants[1].directory_id));
    world.import_all().await?;
    let mut daemon = world.serve()?;
    let health =
        world.healthy_when(tenants[0].directory_id, "the foreign token is told", MINUTE, |health| health.state != "active").await?;
    assert_eq!((health.state.as_str(), health.code.as_str()), ("needs-consent", "tid-mismatch"), "{health:?}");
    assert!(health.reason.contains("another tenant") && health.action.contains("directory_id"), "{health:?}");
    // An access token that cannot be read is fine as long as the id token says whose it is.
    for tenant in &tenants[1..] {
        stored(&world, tenant.directory_id, 4).await?;
    }
    let asked: BTreeSet<_> =
        world.cloud.journal().iter().filter(|entry| entry.endpoint == Endpoint::Graph).map(|entry| entry.tenant).collect();
    assert_eq!(
        asked,
        tenants[1..].iter().map(|tenant| Some(tenant.directory_id)).collect(),
        "the foreign token was never shown to anybody"
    );
    assert_eq!(world.count(&format!("select from dash.alert where directory_id = '{}'", tenants[0].directory_id)).await?, 0);
    world.cloud.clear_script();
    world.run(&["tenant", "resume", &tenants[0].name]).await?.ok()?;
    world.healthy_when(tenants[0].directory_id, "it is well again", MINUTE, |health| health.state == "active").await?;
    world.settled(MINUTE).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_token_without_any_permission_is_no_success() -> anyhow::Result<()> {
    let world = World::build(Setup {
        cloud: Settings { tenants: 1, history: 4, sources: SourceMix::GraphOnly, ..Settings::default() },
        ..Setup::default()
    })
    .await?;
    let tenant = world.cloud.tenants()[0].directory_id;
    world.cloud.script(Rule::new(Effect::OddToken(OddToken::NoPermissions)).tenant(tenant));
    world.import_all().await?;
    let mut daemon = world.serve()?;
    let health = world.healthy_when(tenant, "the useless token is told", MINUTE, |health| health.state != "active").await?;
    assert_eq!(health.state, "needs-consent", "a token without permission is no success: {health:?}");
    assert!(health.action.contains("SecurityAlert.Read.All") || health.action.contains("consent"), "{health:?}");
    let clock = "select from dash.tenant_clock where clock = 'consent' and words like 'not granted: SecurityAlert.Read.All%'";
    assert_eq!(world.count(clock).await?, 1, "all that it needs is missing");
    world.cloud.clear_script();
    world.run(&["tenant", "resume", &tenant.to_string()]).await?.ok()?;
    world.settled(MINUTE).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn strict_rotation_is_survived_over_many_token_lives_and_restarts() -> anyhow::Result<()> {
    let cloud = Settings {
        rotation: Rotation::Strict,
        sources: SourceMix::Both,
        access_lifetime: (Duration::from_secs(2), Duration::from_secs(3)),
        ..short_lived(3, 5)
    };
    let world = world(cloud).await?;
    let tenants = world.cloud.tenants();
    let many = async |wanted: usize| {
        eventually("many redemptions", Duration::from_secs(90), async || {
            let counts: Vec<_> = tenants.iter().map(|tenant| redemptions(&world, tenant.directory_id).len()).collect();
            if counts.iter().all(|count| *count >= wanted) { Ok(()) } else { Err(counts) }
        })
        .await
    };
    let mut daemon = world.serve()?;
    world.settled(MINUTE).await?;
    many(10).await?;
    daemon.terminate().await?;
    let mut daemon = world.serve()?;
    many(20).await?;
    // A server that rotates nothing now and then: the token that is there stays.
    world.cloud.script(Rule::new(Effect::OddToken(OddToken::NoRefreshToken)).times(6));
    for tenant in &tenants {
        assert!(redemptions(&world, tenant.directory_id).iter().all(|status| *status == 200), "no token was used twice");
    }
    world.cloud.clear_script();
    goes_on(&world, &tenants).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_rotation_without_a_new_token_keeps_the_one_that_is_there() -> anyhow::Result<()> {
    let world = world(short_lived(2, 3)).await?;
    world.cloud.script(Rule::new(Effect::OddToken(OddToken::NoRefreshToken)));
    let tenants = world.cloud.tenants();
    let mut daemon = world.serve()?;
    world.settled(MINUTE).await?;
    eventually("a few lives", MINUTE, async || {
        let counts: Vec<_> = tenants.iter().map(|tenant| redemptions(&world, tenant.directory_id).len()).collect();
        if counts.iter().all(|count| *count >= 4) { Ok(()) } else { Err(counts) }
    })
    .await?;
    goes_on(&world, &tenants).await?;
    daemon.terminate().await?;
    let mut daemon = world.serve()?;
    goes_on(&world, &tenants).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn an_app_with_its_own_permissions_needs_no_refresh_token_and_each_scope_is_sent_once() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 3, history: 6, sources: SourceMix::Both, ..Settings::default() };
    let world = World::build(Setup { cloud, ..Setup::default() }).await?;
    let tenants = world.cloud.tenants();
    let own = format!(
        "[apps.own]\nclient_id = \"{}\"\nclient_secret_file = \"{}\"\ngrant = \"client_credentials\"",
        world.cloud.client_id(),
        world.path("app.secret").display()
    );
    world.write_private("tocsin.toml", &world.toml(&own))?;
    // Two by the app's own credential, one by a refresh token.
    let csv: String = world.csv(&tenants[..2]).lines().map(|line| format!("{}\n", line.replace(",main,", ",own,"))).collect();
    let csv: String = csv
        .lines()
        .enumerate()
        .map(
            |(at, line)| if at == 0 { format!("{line}\n") } else { format!("{},\n", line.rsplit_once(',').map_or(line, |(head, _)| head)) },
        )
        .collect();
    let imported = run_in(&world.config, &["tenant", "import", "-"], &csv, &[]).await?.ok()?;
    assert!(imported.stdout.lines().all(|line| line.contains("active") && !line.contains("token stored")), "{}", imported.stdout);
    run_in(&world.config, &["tenant", "import", "-"], &world.csv(&tenants[2..]), &[]).await?.ok()?;
    assert_eq!(world.count("select from tocsin.tenant_secret").await?, 1);
    let mut daemon = world.serve()?;
    world.settled(MINUTE).await?;
    goes_on(&world, &tenants).await?;

    let journal = world.cloud.journal();
    let asked = |tenant: &SimTenant| -> BTreeSet<String> {
        let forms = journal.iter().filter(|entry| entry.endpoint == Endpoint::Token && entry.tenant == Some(tenant.directory_id));
        forms.map(|entry| entry.query.split('&').filter(|field| !field.starts_with("client_id")).collect::<Vec<_>>().join("&")).collect()
    };
    let of_app = BTreeSet::from(
        ["https://graph.microsoft.com/.default", "https://api.securitycenter.microsoft.com/.default"]
            .map(|scope| format!("grant_type=client_credentials&scope={scope}")),
    );
    assert_eq!(asked(&tenants[0]), of_app);
    assert_eq!(asked(&tenants[1]), of_app);
    let of_user = asked(&tenants[2]);
    assert_eq!(of_user.len(), 2, "{of_user:?}");
    for form in &of_user {
        let (grant, scopes) = form.split_once("&scope=").context("a scope")?;
        assert_eq!(grant, "grant_type=refresh_token");
        let mut words: Vec<_> = scopes.split(' ').collect();
        words.sort_unstable();
        let resource = if scopes.contains("graph") {
            "https://graph.microsoft.com/.default"
        } else {
            "https://api.securitycenter.microsoft.com/.default"
        };
        assert_eq!(words, [resource, "offline_access", "openid"], "each once");
    }
    assert!(
        journal.iter().filter(|entry| entry.endpoint == Endpoint::Token).all(|entry| entry.path.ends_with("/oauth2/v2.0/token")),
        "one protocol, one address per tenant"
    );
    let paths: BTreeSet<_> =
        journal.iter().filter(|entry| entry.endpoint == Endpoint::Token).filter_map(|entry| entry.path.split('/').nth(1)).collect();
    assert_eq!(
        paths,
        tenants.iter().map(|tenant| tenant.directory_id.to_string()).collect::<Vec<_>>().iter().map(String::as_str).collect(),
        "never common, never organizations"
    );
    daemon.terminate().await?;
    world.end().await
}
