//! The command line as a script uses it: what the commands about tenants, keys and configuration do, print and
//! leave behind.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::harness::{Setup, World, eventually, run_in};
use simulator::{Endpoint, Settings, SimTenant, SourceMix};
use uuid::Uuid;

pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) fn setup(tenants: usize, history: usize) -> Setup {
    Setup { cloud: Settings { tenants, history, sources: SourceMix::GraphOnly, ..Settings::default() }, ..Setup::default() }
}

/// Waits until every tenant of these was polled so often from now on.
pub(crate) async fn polled(world: &World, tenants: &[&SimTenant], times: usize) -> anyhow::Result<()> {
    world.cloud.clear_journal();
    eventually("these tenants are polled", SOON, async || {
        let journal = world.cloud.journal();
        let polls = |tenant: &SimTenant| {
            journal.iter().filter(|entry| entry.endpoint == Endpoint::Graph && entry.tenant == Some(tenant.directory_id)).count()
        };
        let counts: Vec<_> = tenants.iter().map(|tenant| polls(tenant)).collect();
        if counts.iter().all(|count| *count >= times) { Ok(()) } else { Err(counts) }
    })
    .await
}

/// How many requests to the API there were about a tenant since the journal was cleared.
pub(crate) fn requests(world: &World, tenant: Uuid) -> usize {
    world.cloud.journal().iter().filter(|entry| entry.tenant == Some(tenant)).count()
}

#[tokio::test]
async fn an_import_again_changes_nothing_and_another_token_is_a_conflict_unless_asked_for() -> anyhow::Result<()> {
    let world = World::build(setup(2, 0)).await?;
    let tenants = world.cloud.tenants();
    let csv = world.csv(&tenants);
    let import = async |csv: &str, options: &[&str]| run_in(&world.config, &[&["tenant", "import", "-"], options].concat(), csv, &[]).await;

    let first = import(&csv, &[]).await?.ok()?;
    assert!(first.stdout.lines().all(|line| line.contains("added") && line.contains("token stored")), "{}", first.stdout);
    let before = world.dump().await?;
    let again = import(&csv, &[]).await?.ok()?;
    assert!(again.stdout.lines().all(|line| line.contains("unchanged")), "{}", again.stdout);
    // Without a token, and in another spelling of the same: the token that is there stays.
    let tokenless: String = csv.lines().map(|line| format!("{},\n", line.rsplit_once(',').map_or(line, |(head, _)| head))).collect();
    let tokenless = tokenless.replacen("sources,\n", "sources,refresh_token\n", 1);
    import(&tokenless, &[]).await?.ok()?;
    assert_eq!(world.dump().await?, before, "not a single row was written");

    // Name, app and sources are brought up to date.
    let renamed = tokenless.replace(&tenants[0].name, "Renamed Ltd").replace("graph-alerts", "graph-alerts;mde-alerts");
    import(&renamed, &[]).await?.ok()?;
    let shown = world.run(&["tenant", "show", "Renamed Ltd", "--json"]).await?.ok()?.json()?;
    assert_eq!(shown["directory_id"], tenants[0].directory_id.to_string());
    assert_eq!(shown["sources"], serde_json::json!(["graph-alerts", "mde-alerts"]));

    // Another token: a conflict on that line, and the other line is done.
    let fresh = world.cloud.issue_refresh_token(tenants[0].directory_id)?;
    let other = csv.replace(&tenants[0].refresh_token, &fresh);
    let before = world.dump().await?;
    let conflict = import(&other, &[]).await?;
    assert_eq!(conflict.code(), 1, "{conflict:?}");
    assert!(conflict.stderr.contains("line 2: ") && conflict.stderr.contains("--replace-token"), "{conflict:?}");
    assert!(conflict.stdout.contains("line 3: "), "{conflict:?}");
    assert!(!conflict.stderr.contains(&fresh[..40]), "a token is never repeated");
    assert_eq!(world.dump().await?["tocsin.tenant_secret"], before["tocsin.tenant_secret"]);
    let replaced = import(&other, &["--replace-token"]).await?.ok()?;
    assert!(replaced.stdout.lines().any(|line| line.starts_with("line 2: ") && line.contains("token stored")), "{}", replaced.stdout);
    let after = world.dump().await?;
    assert_ne!(after["tocsin.tenant_secret"], before["tocsin.tenant_secret"]);
    // From now on that one is the one last imported, and the former is the other one.
    let again = import(&other, &[]).await?.ok()?;
    assert!(again.stdout.lines().all(|line| line.contains("unchanged")), "{}", again.stdout);
    assert_eq!(import(&csv, &[]).await?.code(), 1);

    // What was stored is what works.
    let mut daemon = world.serve()?;
    world.cloud.revoke(tenants[1].directory_id, 50173)?;
    world
        .healthy_when(tenants[0].directory_id, "the replaced token works", SOON, |health| {
            health.state == "active" && health.reason.is_empty()
        })
        .await?;
    eventually("it was redeemed", SOON, async || {
        let count = world.count("select from dash.tenant_health where last_refresh_at is not null").await?;
        ensure!(count == 1, "{count}");
        Ok(())
    })
    .await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_tenant_can_be_added_by_hand_with_its_token_from_standard_input() -> anyhow::Result<()> {
    let world = World::build(setup(2, 4)).await?;
    let [one, other] = world.cloud.tenants().try_into().map_err(|_| anyhow::anyhow!("two tenants"))?;
    let (first, second) = (one.directory_id.to_string(), other.directory_id.to_string());
    let add = async |arguments: &[&str], input: &str| run_in(&world.config, &[&["tenant", "add"], arguments].concat(), input, &[]).await;

    let added = add(
        &["İzmir Ltd", "--tenant", &first, "--cloud", "lab", "--app", "main", "--refresh-token-stdin", "--json"],
        &format!("{}\n", one.refresh_token),
    )
    .await?
    .ok()?;
    let told = added.json()?;
    assert_eq!(
        (told["directory_id"].as_str(), told["name"].as_str(), told["state"].as_str()),
        (Some(&*first), Some("İzmir Ltd"), Some("active"))
    );
    assert!(!added.stdout.contains(&one.refresh_token[..40]));
    let waits =
        add(&["Later Ltd", "--tenant", &second, "--cloud", "lab", "--source", "graph-alerts", "--source", "mde-alerts"], "").await?.ok()?;
    assert!(waits.stdout.contains("awaiting-consent"), "{}", waits.stdout);

    // Adding again, the same name twice, or a cloud that is none, changes nothing.
    let before = world.dump().await?;
    for (arguments, code, words) in [
        (&["Third Ltd", "--tenant", &first, "--cloud", "lab"][..], 5, &[&*first, "İzmir Ltd"][..]),
        (&["İzmir Ltd", "--tenant", "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "--cloud", "lab"], 5, &["İzmir Ltd", "unique"]),
        (&["Third Ltd", "--tenant", "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "--cloud", "mars"], 1, &["mars", "lab"]),
        (&["Third Ltd", "--tenant", "izmir", "--cloud", "lab"], 1, &["GUID"]),
    ] {
        let ended = add(arguments, "").await?;
        assert_eq!(ended.code(), code, "{arguments:?}: {ended:?}");
        let sentence = ended.complaint()?;
        assert!(words.iter().all(|word| sentence.contains(word)), "{arguments:?}: {sentence}");
    }
    assert_eq!(world.dump().await?, before);

    let mut daemon = world.serve()?;
    eventually("the added tenant is read", SOON, async || {
        let count = world.count("select from dash.alert").await?;
        ensure!(count == 4, "{count}");
        Ok(())
    })
    .await?;
    // Consent arrives while the daemon runs.
    run_in(&world.config, &["tenant", "import", "-"], &world.csv(&[other]), &[]).await?.ok()?;
    world.settled(SOON).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn tenants_are_listed_and_shown_for_people_and_for_scripts() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(3, 5)).await?;
    let tenants = world.cloud.tenants();
    let empty = World::build(setup(1, 0)).await?;
    let nobody = empty.run(&["tenant", "list"]).await?.ok()?;
    assert!(nobody.stdout.is_empty() && nobody.stderr.contains("tocsin tenant import"), "{nobody:?}");
    assert_eq!(empty.run(&["tenant", "list", "--json"]).await?.ok()?.json()?, serde_json::json!([]));
    empty.end().await?;

    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    let listed = world.run(&["tenant", "list", "--json"]).await?.ok()?.json()?;
    let listed = listed.as_array().context("an array")?;
    let ids: BTreeSet<_> = listed.iter().filter_map(|tenant| tenant["directory_id"].as_str()?.parse::<Uuid>().ok()).collect();
    assert_eq!(ids, tenants.iter().map(|tenant| tenant.directory_id).collect());
    for tenant in listed {
        for key in [
            "directory_id",
            "name",
            "cloud",
            "app",
            "sources",
            "state",
            "since",
            "reason",
            "action",
            "error_code",
            "token_expires_at",
            "last_refresh_at",
        ] {
            assert!(tenant.get(key).is_some(), "{key} is missing in {tenant}");
        }
        assert_eq!(tenant["state"], "active");
    }
    let lives = "select from dash.tenant_health where token_expires_at - last_refresh_at between interval '89 days' and interval '91 days'";
    assert_eq!(world.count(lives).await?, 3, "a refresh token dies after 90 days without use");
    let table = world.run(&["tenant", "list"]).await?.ok()?;
    for tenant in &tenants {
        let line = table.stdout.lines().find(|line| line.contains(&tenant.directory_id.to_string())).context("a line")?;
        assert!(line.contains(&tenant.name) && line.contains("active") && line.contains("graph-alerts"), "{line}");
    }
    // By id in any spelling, and by name exactly.
    let id = tenants[0].directory_id.to_string();
    for asked in [&id, &id.to_uppercase(), &tenants[0].name] {
        let shown = world.run(&["tenant", "show", asked, "--json"]).await?.ok()?.json()?;
        assert_eq!(shown["directory_id"], id, "asked for {asked}");
        let feed = &shown["feeds"][0];
        assert_eq!(feed["source"], "graph-alerts");
        for key in ["last_success_at", "last_attempt_at", "last_error", "watermark", "lag_seconds", "throttled_until", "quarantined"] {
            assert!(feed.get(key).is_some(), "{key} is missing in {feed}");
        }
    }
    let page = world.run(&["tenant", "show", &tenants[0].name]).await?.ok()?.stdout;
    assert!(page.contains("watermark") && page.contains("active"), "{page}");
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_pause_stops_the_polling_and_resume_goes_on_without_a_gap() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(3, 5)).await?;
    let tenants = world.cloud.tenants();
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;

    // One by name, one by id.
    let (one, other) = (&tenants[0], &tenants[1]);
    let paused = world.run(&["tenant", "pause", &one.name]).await?.ok()?;
    assert!(paused.stdout.contains("paused (was active)"), "{}", paused.stdout);
    let paused = world.run(&["tenant", "pause", &other.directory_id.to_string(), "--json"]).await?.ok()?.json()?;
    assert_eq!((paused["before"].as_str(), paused["state"].as_str()), (Some("active"), Some("paused")));
    let again = world.run(&["tenant", "pause", &one.name]).await?.ok()?;
    assert!(again.stdout.contains("paused already"), "{}", again.stdout);
    let health = world.health(one.directory_id).await?;
    assert_eq!(health.state, "paused");
    assert!(health.reason.contains("paused") && health.action.contains("tocsin tenant resume"), "{health:?}");
    eventually("the daemon has heard of it", SOON, async || {
        let count = daemon.metric("tocsin_tenants", "state=\"paused\"").await?;
        ensure!(count == 2.0, "{count}");
        Ok(())
    })
    .await?;
    // What was in flight has ended by the time that another tenant was polled twice.
    polled(&world, &[&tenants[2]], 2).await?;
    world.cloud.publish_new(one.directory_id, 2)?;
    world.cloud.publish_new(other.directory_id, 2)?;
    polled(&world, &[&tenants[2]], 4).await?;
    assert_eq!((requests(&world, one.directory_id), requests(&world, other.directory_id)), (0, 0), "a paused tenant is left alone");

    // A restart does not forget it.
    daemon.terminate().await?;
    world.cloud.clear_journal();
    let mut daemon = world.serve()?;
    polled(&world, &[&tenants[2]], 3).await?;
    assert_eq!(requests(&world, one.directory_id), 0);

    let resumed = world.run(&["tenant", "resume", &one.name]).await?.ok()?;
    assert!(resumed.stdout.contains("active (was paused)"), "{}", resumed.stdout);
    world.run(&["tenant", "resume", &other.name]).await?.ok()?;
    world.settled(SOON).await?;
    assert_eq!(world.health(one.directory_id).await?.state, "active");
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_removed_tenant_is_read_no_more_its_keys_are_destroyed_and_its_alerts_stay() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(3, 5)).await?;
    let tenants = world.cloud.tenants();
    let (gone, also, stays) = (&tenants[0], &tenants[1], &tenants[2]);
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;

    // Nobody to ask: nothing happens.
    let secrets = format!("select from tocsin.tenant_secret where tenant = '{}'", gone.directory_id);
    let keys = secrets.replace("tenant_secret", "tenant_key");
    let asked = world.run(&["tenant", "remove", &gone.name]).await?;
    assert_eq!(asked.code(), 2, "{asked:?}");
    assert!(asked.complaint()?.contains("--yes"), "{asked:?}");
    // A terminal there is not, so the name on standard input is no answer either.
    let piped = run_in(&world.config, &["tenant", "remove", &gone.name], &format!("{}\n", gone.name), &[]).await?;
    assert_eq!(piped.code(), 2, "{piped:?}");
    assert_eq!(world.health(gone.directory_id).await?.state, "active");
    assert_eq!((world.count(&keys).await?, world.count(&secrets).await?), (1, 1));

    let removed = world.run(&["tenant", "remove", &gone.name, "--yes", "--json"]).await?.ok()?.json()?;
    assert_eq!((removed["before"].as_str(), removed["state"].as_str()), (Some("active"), Some("removed")));
    world.run(&["tenant", "remove", &also.directory_id.to_string(), "--yes"]).await?.ok()?;
    assert_eq!((world.count(&keys).await?, world.count(&secrets).await?), (0, 0));
    assert_eq!(world.count("select from tocsin.tenant_key").await?, 1);
    let health = world.health(gone.directory_id).await?;
    assert_eq!(health.state, "removed");
    assert!(health.reason.contains("removed"), "{health:?}");
    polled(&world, &[stays], 2).await?;
    polled(&world, &[stays], 3).await?;
    assert_eq!((requests(&world, gone.directory_id), requests(&world, also.directory_id)), (0, 0), "a removed tenant is left alone");
    let alerts = format!("select from dash.alert where directory_id = '{}'", gone.directory_id);
    assert_eq!(world.count(&alerts).await?, 5, "its alerts stay");
    assert_eq!(
        world.count(&alerts.replace("dash.alert", "dash.alert_version")).await?,
        world.count(&format!("{alerts} and raw is not null").replace("dash.alert", "dash.alert_version")).await?
    );
    let listed = world.run(&["tenant", "list", "--json"]).await?.ok()?.json()?;
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    // Again: nothing to do. To pause: nothing to pause.
    world.run(&["tenant", "remove", &gone.directory_id.to_string(), "--yes"]).await?.ok()?;
    for command in ["pause", "resume"] {
        let refused = world.run(&["tenant", command, &gone.directory_id.to_string()]).await?;
        assert_eq!(refused.code(), 5, "{refused:?}");
        assert!(refused.complaint()?.contains("removed"), "{refused:?}");
    }

    // An import with a token brings it back, and nothing is stored twice.
    world.cloud.publish_new(gone.directory_id, 2)?;
    let csv = world.csv(std::slice::from_ref(gone));
    let back = run_in(&world.config, &["tenant", "import", "-"], &csv, &[]).await?.ok()?;
    assert!(back.stdout.contains("added again"), "{}", back.stdout);
    eventually("the alerts of the one who is back", SOON, async || {
        let count = world.count(&alerts).await?;
        ensure!(count == 7, "{count}");
        Ok(())
    })
    .await?;
    assert_eq!(world.health(gone.directory_id).await?.state, "active");
    assert_eq!((world.count(&keys).await?, world.count(&secrets).await?), (1, 1));
    let tally = world.tally().await?;
    assert!(tally.duplicated.is_empty() && tally.unknown.is_empty(), "{tally}");
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_name_is_free_again_once_its_tenant_is_removed() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(2, 0)).await?;
    let [one, other] = world.cloud.tenants().try_into().map_err(|_| anyhow::anyhow!("two tenants"))?;
    let taken = world.csv(&[SimTenant { name: one.name.clone(), ..other.clone() }]);
    let refused = run_in(&world.config, &["tenant", "import", "-"], &taken, &[]).await?;
    assert_eq!(refused.code(), 1, "{refused:?}");
    assert!(refused.stderr.contains("line 2: ") && refused.stderr.contains("unique"), "{refused:?}");
    world.run(&["tenant", "remove", &one.name, "--yes"]).await?.ok()?;
    run_in(&world.config, &["tenant", "import", "-"], &taken, &[]).await?.ok()?;
    let shown = world.run(&["tenant", "show", &one.name, "--json"]).await?.ok()?.json()?;
    assert_eq!(shown["directory_id"], other.directory_id.to_string(), "the living one has the name");
    // The removed one comes back only under another name.
    let back = run_in(&world.config, &["tenant", "import", "-"], &world.csv(std::slice::from_ref(&one)), &[]).await?;
    assert_eq!(back.code(), 1, "{back:?}");
    assert_eq!(world.health(one.directory_id).await?.state, "removed");
    let renamed = SimTenant { name: format!("{} (old)", one.name), ..one.clone() };
    run_in(&world.config, &["tenant", "import", "-"], &world.csv(&[renamed]), &[]).await?.ok()?;
    assert_eq!(world.health(one.directory_id).await?.state, "active");
    world.end().await
}

#[tokio::test]
async fn a_key_ring_is_never_overwritten_and_its_status_counts_what_is_sealed() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(3, 0)).await?;
    let ring = world.path("keys/ring");
    let before = std::fs::read(&ring)?;
    let again = world.run(&["key", "init"]).await?;
    assert_eq!(again.code(), 5);
    let sentence = again.complaint()?;
    assert!(sentence.contains("keys/ring") && sentence.contains("exists already"), "{sentence}");
    assert_eq!(std::fs::read(&ring)?, before);
    assert_eq!(std::fs::read_dir(world.path("keys"))?.count(), 1, "no half-made file is left");

    let status = world.run(&["key", "status", "--json"]).await?.ok()?.json()?;
    let [key] = status.as_array().map(Vec::as_slice).context("an array")? else { anyhow::bail!("one key: {status}") };
    assert!(key["id"].as_str().is_some_and(|id| String::from_utf8_lossy(&before).contains(id)), "{key}");
    assert_eq!((&key["active"], &key["tenants"]), (&serde_json::json!(true), &serde_json::json!(3)));

    // A second key in front seals from now on; the first still opens.
    let elsewhere = World::build(setup(1, 0)).await?;
    let other = std::fs::read(elsewhere.path("keys/ring"))?;
    elsewhere.end().await?;
    std::fs::write(&ring, [other, before].concat())?;
    let status = world.run(&["key", "status", "--json"]).await?.ok()?.json()?;
    assert_eq!((&status[0]["active"], &status[0]["tenants"]), (&serde_json::json!(true), &serde_json::json!(0)), "{status}");
    assert_eq!((&status[1]["active"], &status[1]["tenants"]), (&serde_json::json!(false), &serde_json::json!(3)), "{status}");
    let table = world.run(&["key", "status"]).await?.ok()?.stdout;
    assert!(table.contains(key["id"].as_str().unwrap_or("?")), "{table}");
    world.end().await
}

#[tokio::test]
async fn config_show_names_every_key_with_its_origin_and_never_a_password() -> anyhow::Result<()> {
    let world = World::build(setup(1, 0)).await?;
    let checked = world.run(&["config", "check", "--json"]).await?.ok()?.json()?;
    assert_eq!(checked["ok"], true);
    let shown = run_in(
        &world.config,
        &["config", "show", "--json"],
        "",
        &[("TOCSIN_POLL__OVERLAP", "20m"), ("TOCSIN_DATABASE__URL", "postgres://u:hunter2@db.example/x")],
    )
    .await?
    .ok()?;
    assert!(!shown.stdout.contains("hunter2"), "{}", shown.stdout);
    let shown = shown.json()?;
    let find = |key: &str| {
        let row =
            shown.as_array().and_then(|rows| rows.iter().find(|row| row["key"] == key)).with_context(|| format!("{key} is not shown"))?;
        anyhow::Ok((row["value"].as_str().unwrap_or_default().to_owned(), row["origin"].as_str().unwrap_or_default().to_owned()))
    };
    assert_eq!(find("poll.overlap")?, ("20m".to_owned(), "environment TOCSIN_POLL__OVERLAP".to_owned()));
    assert_eq!(find("poll.interval")?, ("1s".to_owned(), world.config.display().to_string()));
    assert_eq!(find("poll.first_sync")?, ("30d".to_owned(), "default".to_owned()));
    for key in [
        "state_dir",
        "database.url",
        "database.url_file",
        "database.migrate_url_file",
        "vault.key_file",
        "vault.require_separation",
        "log.level",
        "log.format",
        "ops.listen",
        "console.listen",
        "console.public_url",
        "clouds.lab.login_url",
        "apps.main.client_id",
        "apps.main.client_secret_file",
        "poll.page_size",
        "budget.graph_per_minute",
        "budget.defender_per_minute",
        "budget.defender_per_hour",
        "budget.token_per_second",
    ] {
        find(key)?;
    }
    world.end().await
}
