//! I26, D16: a customer goes while he is being read, and from then on nobody asks for him.

use std::time::Duration;

use anyhow::ensure;
use e2e::harness::{Setup, World, eventually};
use simulator::{Endpoint, Settings, SourceMix};

use super::commands::{SOON, polled};

/// Removes customers one after the other at different moments of their polls.
#[tokio::test]
async fn i26_after_a_removal_at_most_the_request_in_flight_is_still_made() -> anyhow::Result<()> {
    const TENANTS: usize = 12;
    let cloud = Settings {
        tenants: TENANTS,
        history: 40,
        sources: SourceMix::Both,
        access_lifetime: (Duration::from_secs(3), Duration::from_secs(4)),
        ..Settings::default()
    };
    let config = "[poll]\ninterval = \"1s\"\noverlap = \"2m\"\npage_size = 5\n\
                  [budget]\ngraph_per_minute = 100000\ndefender_per_minute = 100000\ndefender_per_hour = 1000000\n";
    let world = World::with_tenants(Setup { cloud, config: config.into(), ..Setup::default() }).await?;
    let tenants = world.cloud.tenants();
    let (stays, gone) = (&tenants[0], &tenants[1..]);
    let mut daemon = world.serve()?;
    polled(&world, &[stays], 1).await?;
    let about = |tenant: uuid::Uuid| world.cloud.journal().iter().filter(|entry| entry.tenant == Some(tenant)).count();

    let mut worst = 0;
    for (number, tenant) in gone.iter().enumerate() {
        // First while everything is read for the first time, with pages after pages, later between polls and redemptions.
        tokio::time::sleep(Duration::from_millis(37 * number as u64)).await;
        let delete: &[&str] = if number % 2 == 0 { &["--delete-alerts"] } else { &[] };
        let arguments = [&["tenant", "remove", tenant.name.as_str(), "--yes", "--json"], delete].concat();
        let removed = world.run(&arguments).await?.ok()?.json()?;
        let at_its_end = about(tenant.directory_id);
        ensure!(removed["polling_stopped"] == true && removed["state"] == "removed", "{removed}");
        ensure!(removed["keys_destroyed"] == 1 && removed["tokens_destroyed"] == 1, "{removed}");
        let kept = world.count(&format!("select from dash.alert where directory_id = '{}'", tenant.directory_id)).await?;
        ensure!(removed["alerts_kept"] == kept && (kept == 0 || delete.is_empty()), "{kept} alerts are there: {removed}");
        ensure!(removed["deleted"].is_null() == delete.is_empty(), "{removed}");
        let before = about(stays.directory_id);
        eventually("another customer is polled on", SOON, async || {
            let polls = about(stays.directory_id);
            if polls >= before + 6 { Ok(()) } else { Err(polls) }
        })
        .await?;
        worst = worst.max(about(tenant.directory_id) - at_its_end);
    }
    ensure!(worst <= 1, "{worst} requests for a customer after he was removed");
    let asked = world.cloud.journal().iter().any(|entry| entry.endpoint == Endpoint::Token);
    ensure!(asked, "tokens were redeemed meanwhile");

    // What is left of him is a tombstone; everything is in the audit log, and the log is whole.
    ensure!(world.count("select from tocsin.tenant_key").await? == 1, "one data key is left");
    for table in ["tenant_secret", "trouble"] {
        let left = format!("select from tocsin.{table} where tenant <> '{}'", stays.directory_id);
        ensure!(world.count(&left).await? == 0, "{table}");
    }
    let listed = world.run(&["audit", "list", "--tenant", &gone[0].directory_id.to_string(), "--json"]).await?.ok()?.json()?;
    let actions: Vec<_> = listed.as_array().into_iter().flatten().filter_map(|entry| entry["action"].as_str()).collect();
    assert_eq!(actions, ["tenant.add", "tenant.remove", "tenant.erased"]);
    world.run(&["audit", "verify"]).await?.ok()?;
    daemon.terminate().await?;
    world.end().await
}
