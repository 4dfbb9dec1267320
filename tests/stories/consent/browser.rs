//! The same in a real browser: against the pretend Microsoft, and against a certified OpenID provider that is not ours.
//!
//! Needs chromium with its driver, and for the second story Node and the provider; `./dev test` installs what is
//! missing, and says so where it cannot. Without them these stories end at once.

use std::process::Stdio;

use anyhow::Context;
use e2e::harness::{Browser, Proxy, Setup, Target, World, skipped};
use simulator::{Settings, SourceMix};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{Desk, url_of};

#[tokio::test]
async fn a_person_connects_his_tenant_in_a_real_browser() -> anyhow::Result<()> {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let desk = Desk::with(1, SourceMix::Both, "").await?;
    let tenant = desk.tenant(0)?;
    let link = url_of(&desk.invite(&tenant, &[]).await?)?;
    browser.open(&link).await?;
    browser.heading("Night & Watch asks to read your security alerts").await?;
    browser.picture("landing").await?;
    browser.click("button").await?;
    browser.heading("Connected. Thank you").await?;
    browser.picture("connected").await?;
    desk.becomes(&tenant, "active").await?;
    browser.open(&link).await?;
    browser.heading("This link has ended").await?;
    browser.picture("ended").await?;
    browser.end().await?;
    desk.end().await
}

/// The provider as a process of its own.
struct Provider {
    origin: String,
    _process: Child,
}

impl Provider {
    async fn start(tenant: &str, client_id: &str, secret: &str, redirect_uri: &str) -> anyhow::Result<Option<Self>> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
        if !folder.join("node_modules/oidc-provider").is_dir() {
            return Ok(None);
        }
        let mut command = Command::new("node");
        command.arg("provider.mjs").args([tenant, client_id, secret, redirect_uri]).current_dir(folder);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn();
        let Ok(mut process) = spawned else { return Ok(None) };
        let mut lines = BufReader::new(process.stdout.take().context("no stdout")?).lines();
        let origin = lines.next_line().await?.context("the provider ended before it listened")?;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Some(Self { origin, _process: process }))
    }
}

#[tokio::test]
async fn a_certified_provider_with_strict_rotation_is_signed_in_to_in_a_real_browser() -> anyhow::Result<()> {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let (tenant, client, secret) =
        ("3f2c1d6e-4b5a-4978-8796-a5b4c3d2e1f0", "7d0f6a4e-1111-4222-8333-944455566677", "correct horse battery");
    let door = Proxy::to(Target::Tcp(([127, 0, 0, 1], 9).into())).await?;
    let public_url = format!("http://127.0.0.1:{}", door.address().port());
    let Some(provider) = Provider::start(tenant, client, secret, &format!("{public_url}/consent/callback")).await? else {
        skipped("a certified OpenID provider, since it is not installed in tests/browser");
        return browser.end().await;
    };
    let origin = &provider.origin;
    let config = format!(
        "[console]\nlisten = \"127.0.0.1:0\"\npublic_url = \"{public_url}\"\noperator = \"Night Watch\"\n\
         [clouds.certified]\nlogin_url = \"{origin}\"\ngraph_url = \"{origin}\"\nportal_url = \"{origin}/portal\"\nallow_plaintext = true\n"
    );
    let world = World::build(Setup {
        cloud: Settings { tenants: 0, sources: SourceMix::GraphOnly, ..Settings::default() },
        config,
        ..Setup::default()
    })
    .await?;
    let secret_file = world.write_private("certified.secret", secret)?;
    let app = format!("\n[apps.certified]\nclient_id = \"{client}\"\nclient_secret_file = \"{}\"\n", secret_file.display());
    std::fs::write(&world.config, std::fs::read_to_string(&world.config)? + &app)?;
    let daemon = world.serve()?;
    door.lead_to(Target::Tcp(daemon.console_address().await?.parse()?));
    let desk = Desk { world, daemon, door };
    let words = ["tenant", "invite", "Certified", "--tenant", tenant, "--cloud", "certified", "--app", "certified", "--no-wait", "--json"];
    let link = url_of(&desk.world.run(&words).await?.ok()?.json()?)?;

    browser.open(&link).await?;
    browser.click("button").await?;
    browser.write("input[name=login]", "somebody").await?;
    browser.write("input[name=password]", "anything").await?;
    browser.click("button[type=submit]").await?;
    browser.click("form:has(input[name=prompt][value=consent]) button[type=submit]").await?;
    browser.heading("Connected. Thank you").await?;
    browser.picture("certified").await?;
    // The daemon goes on by itself: with the token that the last of several redemptions left, or the family would be dead.
    let verified = desk.world.run(&["tenant", "verify", "Certified"]).await?.ok()?;
    assert!(verified.stdout.contains("works; 1 of 1 sources"), "{}", verified.stdout);
    let again = desk.world.run(&["tenant", "verify", "Certified"]).await?.ok()?;
    assert!(again.stdout.contains("works"), "{}", again.stdout);
    browser.end().await?;
    desk.end().await
}
