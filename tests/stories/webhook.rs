//! The webhook of a real daemon: somebody is told within a minute, of trouble and of its end, whatever dies in between.

use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::harness::{Receiver, Setup, World, eventually, run_in};
use simulator::{Settings, SimTenant, SourceMix};

const MINUTE: Duration = Duration::from_secs(60);

/// A world whose daemons tell this receiver.
async fn world(receiver: &Receiver, extra: &str) -> anyhow::Result<World> {
    let access_lifetime = (Duration::from_secs(4), Duration::from_secs(6));
    let cloud = Settings { tenants: 2, history: 3, access_lifetime, sources: SourceMix::GraphOnly, ..Settings::default() };
    let world = World::build(Setup { cloud, ..Setup::default() }).await?;
    let url = world.write_private("webhook.url", &receiver.url)?;
    let secret = world.write_private("webhook.secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
    let section = format!("[notify]\nurl_file = {url:?}\nsecret_file = {secret:?}\nallow_plaintext = true\n{extra}");
    world.write_private("tocsin.toml", &world.toml(&section))?;
    world.import_all().await?;
    Ok(world)
}

#[tokio::test]
async fn who_takes_his_consent_back_is_told_of_within_a_minute_and_so_is_that_he_is_back() -> anyhow::Result<()> {
    let receiver = Receiver::start().await?;
    let world = world(&receiver, "").await?;
    let shown = world.run(&["config", "show"]).await?.ok()?.stdout;
    assert!(shown.contains("webhook.url") && !shown.contains("/hook"), "the address stays in its file: {shown}");
    let mut daemon = world.serve()?;
    world.settled(MINUTE).await?;
    let alive = receiver.message("tocsin.alive", "", MINUTE).await?;
    assert!(alive.body["data"]["text"].as_str().context("a text")?.starts_with("tocsin is alive"), "{alive:?}");

    let lost = world.cloud.tenants().remove(0);
    world.cloud.revoke(lost.directory_id, 65001)?;
    let blind = receiver.message("tenant.blind", &lost.name, MINUTE).await?;
    let data = &blind.body["data"];
    let health = world.health(lost.directory_id).await?;
    assert_eq!((data["state"].as_str(), data["error_code"].as_str()), (Some("needs-consent"), Some("AADSTS65001")));
    assert_eq!((data["reason"].as_str(), data["action"].as_str()), (Some(health.reason.as_str()), Some(health.action.as_str())));
    let tested = world.run(&["notify", "test", "--json"]).await?.ok()?.json()?;
    assert_eq!((tested["taken"].as_bool(), tested["status"].as_u64()), (Some(true), Some(200)));
    receiver.message("tocsin.test", "", MINUTE).await?;

    let fresh = world.cloud.issue_refresh_token(lost.directory_id)?;
    let csv = world.csv(&[SimTenant { refresh_token: fresh, ..lost.clone() }]);
    run_in(&world.config, &["tenant", "import", "--replace-token", "-"], &csv, &[]).await?.ok()?;
    let back = receiver.message("tenant.recovered", &lost.name, MINUTE).await?;
    assert_eq!((back.body["data"]["before"].as_str(), back.body["data"]["state"].as_str()), (Some("needs-consent"), Some("well")));
    // The message is noted as taken just after the receiver has it.
    eventually("the counter agrees", MINUTE, async || {
        let delivered = daemon.metric("tocsin_notify_total", "delivered").await.map_err(|error| error.to_string())?;
        if delivered >= 3.0 { Ok(()) } else { Err(delivered.to_string()) }
    })
    .await?;
    let diagnosis = world.run(&["doctor", "--json"]).await?.json()?;
    let check = diagnosis["checks"].as_array().into_iter().flatten().find(|check| check["title"] == "webhook").context("a check")?;
    assert_eq!(check["outcome"], "ok", "{check}");
    for secret in ["/hook", "whsec_", "MfKQ9r8GK"] {
        assert!(!daemon.log()?.contains(secret), "the log tells {secret}");
    }
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_daemon_that_dies_between_sending_and_noting_sends_again_with_the_same_id() -> anyhow::Result<()> {
    let receiver = Receiver::start().await?;
    let world = world(&receiver, "alive_every = \"0s\"\n").await?;
    let lost = world.cloud.tenants().remove(0);
    world.cloud.revoke(lost.directory_id, 65001)?;
    let mut dying = world.serve_with(&[("TOCSIN_REHEARSAL", "notify.sent=abort")])?;
    let ended = dying.ended(MINUTE).await?;
    ensure!(!ended.success(), "it was to die: {ended}");
    let first = receiver.message("tenant.blind", &lost.name, MINUTE).await?;
    assert_eq!(world.count("select from tocsin.notification where delivered_at is null").await?, 1);

    let mut daemon = world.serve()?;
    eventually("the message is noted as taken", 2 * MINUTE, async || {
        let count =
            world.count("select from tocsin.notification where delivered_at is not null").await.map_err(|error| error.to_string())?;
        if count == 1 { Ok(()) } else { Err(daemon.last_words()) }
    })
    .await?;
    let ids: Vec<_> = receiver.received().into_iter().map(|message| message.id).collect();
    assert_eq!(ids, [first.id.clone(), first.id], "twice, and known by its id");
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn without_an_address_nobody_is_told_and_half_a_webhook_is_refused() -> anyhow::Result<()> {
    let world = World::build(Setup::default()).await?;
    let off = world.run(&["notify", "test"]).await?;
    assert_eq!(off.code(), 78, "{off:?}");
    assert!(off.complaint()?.contains("the webhook is switched off"), "{off:?}");
    let url = world.write_private("webhook.url", "https://10.1.2.3/hook")?;
    let secret = world.write_private("webhook.secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
    world.write_private("tocsin.toml", &world.toml(&format!("[notify]\nurl_file = {url:?}\n")))?;
    let half = world.run(&["config", "check"]).await?;
    assert!(half.code() == 78 && half.complaint()?.contains("no message goes out unsigned"), "{half:?}");
    world.write_private("tocsin.toml", &world.toml(&format!("[notify]\nurl_file = {url:?}\nsecret_file = {secret:?}\n")))?;
    let private = world.run(&["config", "check"]).await?;
    assert!(private.code() == 78 && private.complaint()?.contains("10.1.2.3 is a private address"), "{private:?}");
    world.end().await
}
