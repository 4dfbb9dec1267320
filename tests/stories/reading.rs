//! Reading what is stored from the command line: lists, tails and closed pipes.

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::Context;
use e2e::harness::process::{self, tocsin};
use e2e::harness::{Daemon, World};
use rustix::process::{Pid, Signal, kill_process};
use simulator::Source;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::commands::{SOON, setup};

fn ids(rows: &[serde_json::Value]) -> Vec<String> {
    rows.iter().filter_map(|row| row["alert_id"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn stored_alerts_are_listed_by_tenant_severity_age_and_number() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(2, 30)).await?;
    let none = world.run(&["alerts", "list"]).await?.ok()?;
    assert!(none.stdout.is_empty() && !none.stderr.is_empty(), "{none:?}");
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    let list = async |arguments: &[&str]| {
        let rows = world.run(&[&["alerts", "list", "--json"], arguments].concat()).await?.ok()?.json()?;
        rows.as_array().cloned().context("an array")
    };
    let all = list(&["-n", "1000"]).await?;
    assert_eq!(all.len(), 60);
    assert_eq!(list(&[]).await?.len(), 50, "50 without a word");
    let times: Vec<_> = all.iter().filter_map(|row| row["last_stored_at"].as_str()).collect();
    assert!(times.is_sorted() && times.len() == 60, "newest arrivals last");
    let newest = list(&["--limit", "7"]).await?;
    assert_eq!(ids(&newest), ids(&all[53..]), "the newest");
    for column in [
        "directory_id",
        "tenant",
        "alert_id",
        "incident_id",
        "title",
        "severity",
        "status",
        "service_source",
        "detection_source",
        "category",
        "created_at",
        "last_updated_at",
        "first_stored_at",
        "last_stored_at",
        "version_count",
        "portal_url",
    ] {
        assert!(all[0].get(column).is_some(), "{column} is missing in {}", all[0]);
    }
    let tenant = &world.cloud.tenants()[0];
    for asked in [&tenant.name, &tenant.directory_id.to_string()] {
        let of_one = list(&["-n", "1000", "--tenant", asked]).await?;
        assert_eq!(ids(&of_one).into_iter().collect::<BTreeSet<_>>(), world.cloud.ledger().alert_ids(tenant.directory_id));
    }
    let mut sum = 0;
    for severity in ["informational", "low", "medium", "high"] {
        let of_one = list(&["-n", "1000", "--severity", severity]).await?;
        assert!(of_one.iter().all(|row| row["severity"] == severity));
        sum += of_one.len();
    }
    assert_eq!(sum, all.iter().filter(|row| row["severity"] != "unknown").count());
    assert_eq!(list(&["-n", "1000", "--since", "1h"]).await?.len(), 60);
    // For people: a line each, with the title; control characters of an attacker never reach the terminal.
    let nasty = format!(
        r#"{{"id":"nasty","title":"red \u001b[31m\u202eevil","severity":"high","status":"new","createdDateTime":"{0}","lastUpdateDateTime":"{0}"}}"#,
        world.cloud.now()
    );
    world.cloud.publish_raw(tenant.directory_id, Source::GraphAlerts, nasty)?;
    world.settled(SOON).await?;
    let table = world.run(&["alerts", "list", "-n", "3"]).await?.ok()?.stdout;
    assert!(table.contains("evil") && !table.contains('\u{1b}') && !table.contains('\u{202e}'), "{table:?}");
    let printed = world.run(&["alerts", "tail", "--no-follow", "-n", "3"]).await?.ok()?.stdout;
    assert!(printed.contains("evil") && !printed.contains('\u{1b}') && printed.lines().count() == 3, "{printed:?}");
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_tail_prints_each_change_once_in_order_until_it_is_interrupted() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(2, 10)).await?;
    let tenants = world.cloud.tenants();
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;

    // As lines of JSON, and to its end.
    let printed = world.run(&["alerts", "tail", "--no-follow", "--json", "-n", "5"]).await?.ok()?;
    let rows: Vec<serde_json::Value> = printed.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(rows.len(), 5);
    let one = world.run(&["alerts", "tail", "--no-follow", "--json", "--tenant", &tenants[0].name]).await?.ok()?;
    assert_eq!(one.stdout.lines().count(), 10);
    let high = world.run(&["alerts", "tail", "--no-follow", "--json", "--severity", "high"]).await?.ok()?;
    assert!(high.stdout.lines().all(|line| line.contains("\"severity\":\"high\"")), "{}", high.stdout);

    let mut tail =
        tocsin(&world.config, &["alerts", "tail", "--json", "-n", "3"])?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let pid = tail.id().context("the tail runs")?;
    let mut lines = BufReader::new(tail.stdout.take().context("stdout")?).lines();
    let mut seen: Vec<(String, String, i64)> = Vec::new();
    let mut next = async |seen: &mut Vec<(String, String, i64)>| {
        let line = tokio::time::timeout(SOON, lines.next_line()).await.context("no more lines")??.context("the tail has ended")?;
        let row: serde_json::Value = serde_json::from_str(&line)?;
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        seen.push((
            text("last_stored_at"),
            format!("{} {}", text("directory_id"), text("alert_id")),
            row["version_count"].as_i64().unwrap_or_default(),
        ));
        anyhow::Ok(())
    };
    for _ in 0..3 {
        next(&mut seen).await?;
    }
    // New ones and changes, one after the other; each must come, once, and in the order in which it was stored.
    let mut expected: BTreeSet<(String, i64)> = BTreeSet::new();
    for round in 0..4 {
        let tenant = tenants[round % 2].directory_id;
        for id in world.cloud.publish_new(tenant, 2)? {
            expected.insert((format!("{tenant} {id}"), 1));
        }
        world.settled(SOON).await?;
        if round == 2 {
            let id = world.cloud.publish_new(tenant, 1)?.remove(0);
            world.settled(SOON).await?;
            world.cloud.publish_update_of(tenant, &id)?;
            world.settled(SOON).await?;
            expected.insert((format!("{tenant} {id}"), 2));
        }
    }
    let has_all = |seen: &[(String, String, i64)]| {
        expected.iter().all(|(key, version)| seen.iter().any(|(_, other, count)| other == key && count == version))
    };
    while !has_all(&seen) {
        next(&mut seen).await?;
    }
    assert!(seen.is_sorted_by(|a, b| a.0 <= b.0), "in the order in which they were stored: {seen:?}");
    let distinct: BTreeSet<_> = seen.iter().map(|(_, key, version)| (key, version)).collect();
    assert_eq!(distinct.len(), seen.len(), "each once: {seen:?}");
    kill_process(Pid::from_raw(i32::try_from(pid)?).context("a pid")?, Signal::INT)?;
    let ended = tokio::time::timeout(SOON, tail.wait_with_output()).await??;
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stderr.is_empty(), "{ended:?}");
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_reader_that_goes_away_is_an_ordinary_end() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(1, 40)).await?;
    let mut daemon: Daemon = world.serve()?;
    world.settled(SOON).await?;
    // `| head`: the reader goes away before everything is written.
    let mut list = tocsin(&world.config, &["alerts", "tail", "--json"])?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    drop(list.stdout.take());
    world.cloud.publish_new(world.cloud.tenants()[0].directory_id, 1)?;
    let ended = tokio::time::timeout(SOON, list.wait_with_output()).await??;
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
    daemon.terminate().await?;
    // The version is data, on stdout, and needs no configuration.
    let version = process::finish(tocsin(std::path::Path::new("/nonexistent"), &["--version"])?, "").await?.ok()?;
    assert!(version.stdout.starts_with("tocsin "), "{version:?}");
    world.end().await
}
