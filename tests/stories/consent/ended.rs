//! Sign-ins that end before they connect anybody: by a removal, by a crash, by trouble that passes; and what whoever waits
//! gets to read meanwhile.

use std::time::Duration;

use anyhow::Context;
use e2e::harness::{Visitor, eventually};
use simulator::{Effect, Endpoint, Outage, Rule, Settings, SourceMix};

use super::{Desk, SOON, url_of};

#[tokio::test]
async fn whoever_waits_at_the_terminal_sees_each_step_in_its_order() -> anyhow::Result<()> {
    let desk = Desk::with(1, SourceMix::Both, "").await?;
    let tenant = desk.tenant(0)?;
    let id = tenant.directory_id.to_string();
    let mut visitor = Visitor::new()?;
    let words = ["tenant", "invite", &tenant.name, "--tenant", &id, "--cloud", "lab", "--source", "graph-alerts", "--source", "mde-alerts"];
    let finished = desk
        .world
        .converse(&words, async |link| {
            anyhow::ensure!(link.starts_with(&desk.base()), "{link}");
            let answer = desk.answered(&mut visitor, link).await?;
            visitor.open(&answer).await?;
            Ok(String::new())
        })
        .await?;
    assert_eq!(finished.code(), 0, "{finished:?}");
    let mut rest = finished.stderr.as_str();
    for step in [
        "the link was opened",
        "ok    Signed in and consented",
        "ok    Token sealed, and it opens again",
        "ok    Access tokens are given out",
        "ok    Permissions are there",
        "note  What this account sees: Defender for Endpoint shows a signed-in account only the devices of its own device groups",
        "ok    A first page was read",
        "ok    Clocks agree",
        "ok    Connected",
    ] {
        rest = rest.split_once(step).with_context(|| format!("{step} is missing in: {}", finished.stderr))?.1;
    }
    desk.end().await
}

#[tokio::test]
async fn a_removal_ends_a_sign_in_that_waits_on_another_device_i26() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 1, history: 5, sources: SourceMix::GraphOnly, device_interval: Duration::ZERO, ..Settings::default() };
    let desk = Desk::open(cloud, "").await?;
    let tenant = desk.tenant(0)?;
    let id = tenant.directory_id.to_string();
    let about = || desk.world.cloud.journal().iter().filter(|entry| entry.tenant == Some(tenant.directory_id)).count();
    let mut at_the_removal = 0;
    let words = ["tenant", "connect", &tenant.name, "--tenant", &id, "--cloud", "lab", "--device-code"];
    let finished = desk
        .world
        .converse(&words, async |line| {
            let typed = line.split_whitespace().next_back().context("no code")?.to_owned();
            desk.world.run(&["tenant", "remove", &tenant.name, "--yes"]).await?.ok()?;
            at_the_removal = about();
            desk.world.cloud.decide_device(&typed, true)?;
            Ok(String::new())
        })
        .await?;
    assert_eq!(finished.code(), 1, "{finished:?}");
    assert!(finished.stderr.contains("the link has ended meanwhile"), "{}", finished.stderr);
    assert!(about() - at_the_removal <= 1, "{} requests after the removal", about() - at_the_removal);
    for table in ["tenant_key", "tenant_secret", "candidate"] {
        assert_eq!(desk.world.count(&format!("select from tocsin.{table}")).await?, 0, "{table}");
    }
    desk.end().await
}

#[tokio::test]
async fn a_process_that_dies_amid_a_proof_is_told_to_whoever_waits_and_leaves_no_token() -> anyhow::Result<()> {
    let mut desk = Desk::with(1, SourceMix::GraphOnly, "").await?;
    let tenant = desk.tenant(0)?;
    let link = url_of(&desk.invite(&tenant, &[]).await?)?;
    // The first page never comes.
    desk.world.cloud.script(Rule::new(Effect::Hang).endpoint(Endpoint::Graph).times(1));
    let mut visitor = Visitor::new()?;
    let answer = desk.answered(&mut visitor, &link).await?;
    visitor.open(&answer).await?;
    eventually("the token is being proved", SOON, async || {
        let sealed = desk.world.count("select from tocsin.candidate").await.map_err(|error| error.to_string())?;
        if sealed == 1 { Ok(()) } else { Err(sealed.to_string()) }
    })
    .await?;
    desk.daemon.kill().await?;
    // Instead of waiting out the 45 seconds of silence.
    let pool = desk.world.pool().await?;
    sqlx::query("update tocsin.sign_in set proving_at = now() - interval '1 minute' where proving_at is not null").execute(&pool).await?;
    desk.revive().await?;
    eventually("the customer is told", SOON, async || {
        let page = visitor.clone().open(&format!("{}/consent/progress", desk.base())).await.map_err(|error| error.to_string())?;
        if page.body.contains("the process that made it has ended") { Ok(()) } else { Err(page.body) }
    })
    .await?;
    assert_eq!(desk.world.count("select from tocsin.candidate").await?, 0);
    assert_eq!(desk.world.count("select from tocsin.audit where action = 'sign-in.interrupted'").await?, 1);
    // The link is as good as before.
    let again = desk.answered(&mut visitor, &link).await?;
    visitor.open(&again).await?;
    desk.becomes(&tenant, "active").await?;
    desk.end().await
}

#[tokio::test]
async fn trouble_that_passes_costs_nobody_a_second_sign_in() -> anyhow::Result<()> {
    let desk = Desk::with(1, SourceMix::GraphOnly, "").await?;
    let tenant = desk.tenant(0)?;
    let link = url_of(&desk.invite(&tenant, &[]).await?)?;
    let mut visitor = Visitor::new()?;
    let answer = desk.answered(&mut visitor, &link).await?;
    desk.world.cloud.script(Rule::new(Effect::Outage(Outage::InternalError)).endpoint(Endpoint::Graph).times(2));
    desk.world.cloud.script(Rule::new(Effect::Outage(Outage::InternalError)).endpoint(Endpoint::Discovery).times(1));
    visitor.open(&answer).await?;
    desk.becomes(&tenant, "active").await?;
    desk.end().await
}
