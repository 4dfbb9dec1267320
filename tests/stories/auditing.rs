//! I25 and the keys, by the command line: the audit log as an operator uses it, and a rotation under a running daemon.

use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::harness::{Setup, World, eventually};
use simulator::{Endpoint, Settings, SourceMix};
use sqlx::AssertSqlSafe;

use super::commands::{SOON, polled, setup};

#[tokio::test]
async fn an_action_that_may_not_be_audited_is_refused_with_a_sentence_and_nothing_changes() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(2, 0)).await?;
    let tenants = world.cloud.tenants();
    let pool = world.pool().await?;
    sqlx::raw_sql("revoke insert on tocsin.audit from tocsin_ingest").execute(&pool).await?;
    let before = world.dump().await?;
    let name = tenants[0].name.as_str();
    for arguments in [
        &["tenant", "pause", name][..],
        &["tenant", "resume", name],
        &["tenant", "set", name, "--access-expires", "2099-01-01"],
        &["tenant", "remove", name, "--yes"],
        &["key", "rotate", "--timeout", "1s"],
    ] {
        let refused = world.run(arguments).await?;
        assert_eq!(refused.code(), 77, "{arguments:?}: {refused:?}");
        assert!(refused.complaint()?.contains("cannot be written to the audit log, so it was not done"), "{refused:?}");
    }
    assert_eq!(world.dump().await?, before, "row for row");
    sqlx::raw_sql("grant insert on tocsin.audit to tocsin_ingest").execute(&pool).await?;
    world.run(&["tenant", "pause", name]).await?.ok()?;
    let listed = world.run(&["audit", "list", "--tenant", name, "--json"]).await?.ok()?.json()?;
    let last = listed.as_array().and_then(|entries| entries.last()).context("an entry")?;
    assert_eq!(last["action"], "tenant.pause");
    assert!(last["actor"].as_str().is_some_and(|actor| actor.starts_with("cli ") && actor.contains('@')), "{last}");
    world.end().await
}

#[tokio::test]
async fn reading_again_comparing_and_replaying_are_in_the_log_or_not_asked_for() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(2, 0)).await?;
    let tenants = world.cloud.tenants();
    let (one, other) = (tenants[0].name.as_str(), tenants[1].name.as_str());
    let pool = world.pool().await?;
    world.run(&["backfill", "start", one, "--since", "2d"]).await?.ok()?;
    sqlx::raw_sql(
        "insert into tocsin.quarantine (tenant, source, hash, reason, raw_bytes)
             select tenant, 'graph-alerts', sha256('x'), 'made up', 'x' from tocsin.tenant;
         revoke insert on tocsin.audit from tocsin_ingest",
    )
    .execute(&pool)
    .await?;
    let before = world.dump().await?;
    for arguments in [
        &["backfill", "start", other, "--since", "2d"][..],
        &["backfill", "start", one, "--since", "3d", "--replace"],
        &["backfill", "cancel", one],
        &["quarantine", "replay", "--all"],
        &["reconcile", "--tenant", one, "--timeout", "1s"],
    ] {
        let refused = world.run(arguments).await?;
        assert_eq!(refused.code(), 77, "{arguments:?}: {refused:?}");
        assert!(refused.complaint()?.contains("cannot be written to the audit log, so it was not done"), "{refused:?}");
    }
    assert_eq!(world.dump().await?, before, "row for row");
    sqlx::raw_sql("grant insert on tocsin.audit to tocsin_ingest").execute(&pool).await?;

    // One that is under way already is refused, and nothing is written down of what was not done.
    assert_eq!(world.run(&["backfill", "start", one, "--since", "2d"]).await?.code(), 5);
    world.run(&["backfill", "cancel", one]).await?.ok()?;
    assert_eq!(world.run(&["backfill", "cancel", one]).await?.code(), 4);
    world.run(&["quarantine", "replay", "--all"]).await?.ok()?;
    // No daemon runs, so nobody does it in time. Who asks a second time waits for the same comparison.
    for _ in 0..2 {
        assert_eq!(world.run(&["reconcile", "--tenant", one, "--timeout", "1s"]).await?.code(), 75);
    }
    let chains = [
        (one, &["tenant.add", "backfill.start", "backfill.cancel", "quarantine.replay", "reconcile"][..]),
        (other, &["tenant.add", "quarantine.replay"]),
    ];
    for (name, expected) in chains {
        let listed = world.run(&["audit", "list", "--tenant", name, "--json"]).await?.ok()?.json()?;
        let entries = listed.as_array().context("entries")?;
        let actions: Vec<_> = entries.iter().filter_map(|entry| entry["action"].as_str()).collect();
        assert_eq!(actions, expected);
        assert!(entries.iter().all(|entry| entry["actor"].as_str().is_some_and(|actor| actor.starts_with("cli "))), "{listed}");
        for entry in &entries[1..] {
            assert!(entry["details"]["source"] == "graph-alerts" && entry["details"]["run"] == 1, "{entry}");
        }
    }
    world.run(&["audit", "verify"]).await?.ok()?;
    world.end().await
}

#[tokio::test]
async fn what_was_done_to_the_audit_log_is_told_and_a_cut_tail_by_heads_that_were_kept() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(2, 0)).await?;
    let one = &world.cloud.tenants()[0];
    for command in ["pause", "resume", "pause"] {
        world.run(&["tenant", command, &one.name]).await?.ok()?;
    }
    let told = world.run(&["audit", "verify"]).await?.ok()?;
    assert!(told.stdout.contains("5 entries in 2 chains are as they were written"), "{}", told.stdout);
    let heads = world.run(&["audit", "heads"]).await?.ok()?.stdout;
    let kept = world.write_private("heads", &heads)?.display().to_string();
    world.run(&["audit", "verify", "--heads", &kept]).await?.ok()?;

    let pool = world.pool().await?;
    let id = one.directory_id;
    sqlx::raw_sql(AssertSqlSafe(format!(
        "delete from tocsin.audit where tenant = '{id}' and seq = 4;
         update tocsin.audit_head set seq = 3, hash = (select hash from tocsin.audit where tenant = '{id}' and seq = 3) where tenant = '{id}'"
    )))
    .execute(&pool)
    .await?;
    world.run(&["audit", "verify"]).await?.ok()?;
    let found = world.run(&["audit", "verify", "--heads", &kept]).await?;
    assert_eq!(found.code(), 3, "{found:?}");
    assert!(found.stdout.contains(&format!("{id}, entry 4: ")) && found.stdout.contains("was cut"), "{}", found.stdout);
    sqlx::raw_sql(AssertSqlSafe(format!("update tocsin.audit set actor = 'cli nobody' where tenant = '{id}' and seq = 2")))
        .execute(&pool)
        .await?;
    let found = world.run(&["audit", "verify", "--tenant", &one.name, "--json"]).await?;
    assert_eq!((found.code(), found.json()?["findings"][0]["seq"].as_i64()), (3, Some(2)), "{found:?}");
    let nonsense = world.write_private("nonsense", "x\n")?.display().to_string();
    let refused = world.run(&["audit", "verify", "--heads", &nonsense]).await?;
    assert!(refused.code() == 1 && refused.complaint()?.contains("line 1 is no head"), "{refused:?}");
    world.end().await
}

#[tokio::test]
async fn keys_are_rotated_and_retired_while_customers_are_read() -> anyhow::Result<()> {
    let cloud = Settings {
        tenants: 5,
        history: 10,
        sources: SourceMix::GraphOnly,
        access_lifetime: (Duration::from_secs(3), Duration::from_secs(4)),
        ..Settings::default()
    };
    let world = World::with_tenants(Setup { cloud, ..Setup::default() }).await?;
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    let status = async || -> anyhow::Result<serde_json::Value> { world.run(&["key", "status", "--json"]).await?.ok()?.json() };
    let old = status().await?[0]["id"].as_str().context("a key")?.to_owned();
    world.cloud.clear_journal();
    for round in 0..3 {
        let rotated = world.run(&["key", "rotate", "--json"]).await?.ok()?.json()?;
        assert_eq!(rotated["rewrapped"], 5, "round {round}: {rotated}");
    }
    let keys = status().await?;
    let keys = keys.as_array().context("keys")?;
    assert_eq!(keys.len(), 4);
    assert!(keys[0]["active"] == true && keys[0]["tenants"] == 5 && keys[0]["daemons"] == 1, "{keys:?}");
    let refused = world.run(&["key", "retire", keys[0]["id"].as_str().unwrap_or_default(), "--yes"]).await?;
    assert_eq!(refused.code(), 5, "{refused:?}");
    let unasked = world.run(&["key", "retire", &old]).await?;
    assert_eq!(unasked.code(), 2, "nobody is there to ask: {unasked:?}");
    assert!(unasked.stderr.contains("--yes") && unasked.stderr.contains("backups"), "{}", unasked.stderr);
    assert_eq!(status().await?.as_array().map(Vec::len), Some(4), "nothing has left the ring");
    let retired = world.run(&["key", "retire", &old, "--yes"]).await?.ok()?;
    assert!(retired.stdout.contains(&old), "{}", retired.stdout);
    eventually("every customer's token is redeemed after that", SOON, async || {
        let journal = world.cloud.journal();
        let redeemed =
            |tenant: uuid::Uuid| journal.iter().filter(|entry| entry.endpoint == Endpoint::Token && entry.tenant == Some(tenant)).count();
        let counts: Vec<_> = world.cloud.tenants().iter().map(|tenant| redeemed(tenant.directory_id)).collect();
        if counts.iter().all(|count| *count >= 3) { Ok(()) } else { Err(counts) }
    })
    .await?;
    let failed = world.cloud.journal().iter().filter(|entry| entry.endpoint == Endpoint::Token && entry.status != 200).count();
    ensure!(failed == 0, "{failed} refreshes failed");
    daemon.terminate().await?;
    // The next life opens everything with what is left of the ring.
    let mut daemon = world.serve()?;
    let tenants = world.cloud.tenants();
    polled(&world, &tenants.iter().collect::<Vec<_>>(), 1).await?;
    daemon.terminate().await?;
    let log = daemon.log()?;
    ensure!(log.contains("where the audit log stands"), "its digest leaves the host with the log");

    // I28: a ring of several keys that has lost the one in use starts nothing and changes nothing.
    let ring = world.path("keys/ring");
    let whole = std::fs::read_to_string(&ring)?;
    let active = keys[0]["id"].as_str().context("an id")?;
    let cut: String = whole.lines().filter(|line| !line.contains(active)).map(|line| format!("{line}\n")).collect();
    assert_eq!(cut.matches("tocsin-key-1").count(), 2, "{}", cut.len());
    let before = world.dump().await?;
    std::fs::write(&ring, cut)?;
    for command in [&["serve"][..], &["key", "rotate"], &["key", "retire", active]] {
        let refused = world.run(command).await?;
        assert_eq!(refused.code(), 78, "{command:?}: {refused:?}");
        assert!(refused.complaint()?.contains(&format!("5 tenants are sealed under key {active}")), "{refused:?}");
    }
    assert_eq!(world.dump().await?, before, "row for row and write for write");
    std::fs::write(&ring, whole)?;
    world.end().await
}
