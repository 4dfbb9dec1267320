//! The command line as a script uses it: what each command does, prints and leaves behind, and the names that the
//! contract promises to dashboards and alert rules.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::harness::process::{self, tocsin};
use e2e::harness::{Daemon, Setup, World, eventually, run_in};
use rustix::process::{Pid, Signal, kill_process};
use simulator::{Endpoint, Poison, Settings, SimTenant, Source, SourceMix};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::io::{AsyncBufReadExt, BufReader};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);

fn setup(tenants: usize, history: usize) -> Setup {
    Setup { cloud: Settings { tenants, history, sources: SourceMix::GraphOnly, ..Settings::default() }, ..Setup::default() }
}

/// Waits until every tenant of these was polled so often from now on.
async fn polled(world: &World, tenants: &[&SimTenant], times: usize) -> anyhow::Result<()> {
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
fn requests(world: &World, tenant: Uuid) -> usize {
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
async fn healthcheck_says_ready_not_ready_and_not_there() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(1, 1)).await?;
    // The probe asks where the configuration says, so the port has to stand there.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    world.write_private("tocsin.toml", &world.toml("").replace("127.0.0.1:0", &port))?;
    let healthcheck = async |arguments: &[&str]| world.run(&[&["healthcheck"], arguments].concat()).await;
    assert_eq!(healthcheck(&[]).await?.code(), 69);
    let mut daemon = world.serve()?;
    let code = async |wanted: i32| {
        eventually("the health that is due", Duration::from_secs(45), async || {
            let ended = healthcheck(&[]).await.map_err(|error| error.to_string())?;
            if ended.code() == wanted { Ok(ended) } else { Err(format!("{ended:?}")) }
        })
        .await
    };
    let ready = code(0).await?;
    for stage in ["registry", "refresher", "poller", "sink"] {
        assert!(ready.stdout.contains(&format!("{stage}: ok")), "{}", ready.stdout);
    }
    assert_eq!(healthcheck(&["--json"]).await?.ok()?.json()?["healthy"], true);
    let (status, body) = daemon.ops("/readyz").await?;
    assert_eq!(status, 200, "{body}");

    let database = world.database.as_ref().context("a database")?;
    database.shut().await?;
    let sick = code(3).await?;
    assert!(sick.complaint()?.contains("not ready"), "{sick:?}");
    assert!(sick.stdout.contains("database"), "the stage says why: {}", sick.stdout);
    assert_eq!(healthcheck(&["--json"]).await?.json()?["healthy"], false);
    assert_eq!(healthcheck(&["--live"]).await?.code(), 0, "alive all the same: a restart would not bring the database back");
    let (status, body) = daemon.ops("/readyz").await?;
    assert_eq!(status, 503, "{body}");
    assert_eq!(daemon.ops("/livez").await?.0, 200);
    database.reopen().await?;
    code(0).await?;
    daemon.terminate().await?;
    assert_eq!(healthcheck(&[]).await?.code(), 69);
    world.end().await
}

/// One line of `/metrics`: name, labels, value.
fn samples(text: &str) -> Vec<(String, BTreeMap<String, String>, f64)> {
    let sample = |line: &str| {
        let (head, value) = line.rsplit_once(' ')?;
        let (name, labels) = head.split_once('{').map_or((head, ""), |(name, rest)| (name, rest.trim_end_matches('}')));
        let labels = labels
            .split(',')
            .filter_map(|label| label.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()));
        Some((name.to_owned(), labels.collect(), value.parse().ok()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

#[tokio::test]
async fn every_metric_of_the_contract_is_there_with_its_labels_and_tells_no_names() -> anyhow::Result<()> {
    let world = World::with_tenants(Setup {
        cloud: Settings { tenants: 2, history: 10, sources: SourceMix::Both, ..Settings::default() },
        ..Setup::default()
    })
    .await?;
    let tenants = world.cloud.tenants();
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    // One of each: something new while it runs, a change, a record that is poison, a paused tenant.
    for tenant in &tenants {
        world.cloud.publish_new(tenant.directory_id, 2)?;
        world.cloud.publish_update(tenant.directory_id)?;
        world.cloud.publish_poison(tenant.directory_id, Source::GraphAlerts, Poison::MissingId, "x")?;
        world.cloud.publish_poison(tenant.directory_id, Source::MdeAlerts, Poison::MissingId, "x")?;
    }
    world.settled(SOON).await?;
    world.run(&["tenant", "pause", &tenants[1].name]).await?.ok()?;

    // (name, labels, one value that a label must have had)
    let promised: &[(&str, &[&str], &[&str])] = &[
        ("tocsin_alerts_stored_total", &["source", "kind"], &["source=graph-alerts", "source=mde-alerts", "kind=new", "kind=updated"]),
        ("tocsin_alerts_duplicate_total", &["source"], &["source=graph-alerts", "source=mde-alerts"]),
        ("tocsin_poll_total", &["source", "outcome"], &["source=graph-alerts", "source=mde-alerts", "outcome=ok"]),
        ("tocsin_token_refresh_total", &["outcome"], &["outcome=ok"]),
        ("tocsin_tenants", &["state"], &["state=active", "state=paused"]),
        ("tocsin_ingest_lag_seconds_bucket", &["le"], &["le=+Inf"]),
        ("tocsin_ingest_lag_seconds_count", &[], &[]),
        ("tocsin_ingest_lag_seconds_sum", &[], &[]),
        ("tocsin_poll_lateness_seconds_bucket", &["le"], &["le=+Inf"]),
        ("tocsin_poll_lateness_seconds_count", &[], &[]),
        ("tocsin_quarantined_total", &["source"], &["source=graph-alerts", "source=mde-alerts"]),
        ("tocsin_lease_held", &[], &[]),
        ("tocsin_build_info", &["version"], &[]),
    ];
    let text = eventually("every metric is there", SOON, async || {
        let (_, text) = daemon.ops("/metrics").await.map_err(|error| vec![error.to_string()])?;
        let samples = samples(&text);
        let mut missing = Vec::new();
        for (name, labels, values) in promised {
            let of_name: Vec<_> = samples.iter().filter(|(other, ..)| other == name).collect();
            let expected: BTreeSet<_> = labels.iter().map(|label| (*label).to_owned()).collect();
            if of_name.is_empty() || of_name.iter().any(|(_, labels, _)| labels.keys().cloned().collect::<BTreeSet<_>>() != expected) {
                missing.push(format!("{name} {labels:?}: {of_name:?}"));
            }
            for wanted in *values {
                if !of_name
                    .iter()
                    .any(|(_, labels, value)| *value > 0.0 && labels.iter().any(|(key, value)| format!("{key}={value}") == **wanted))
                {
                    missing.push(format!("{name} {wanted}"));
                }
            }
        }
        if missing.is_empty() { Ok(text) } else { Err(missing) }
    })
    .await?;
    let samples = samples(&text);
    assert!(samples.iter().all(|(name, ..)| name.starts_with("tocsin_")), "{text}");
    let sum = |name: &str, label: &str| -> f64 {
        samples
            .iter()
            .filter(|(other, labels, _)| other == name && labels.values().any(|value| label.is_empty() || value == label))
            .map(|(_, _, value)| value)
            .sum()
    };
    let stored = world.count("select from dash.alert_version").await? as f64;
    assert_eq!(sum("tocsin_alerts_stored_total", ""), stored, "the counters agree with the table");
    assert_eq!(sum("tocsin_quarantined_total", ""), world.count("select from dash.quarantine").await? as f64);
    assert_eq!(sum("tocsin_tenants", "active"), 1.0);
    for tenant in &tenants {
        for secret in [&tenant.name, &tenant.domain, &tenant.directory_id.to_string(), &tenant.directory_id.simple().to_string()] {
            assert!(!text.contains(secret.as_str()), "a label tells {secret}");
        }
    }
    assert!(text.lines().count() < 400, "few labels: {}", text.lines().count());
    daemon.terminate().await?;
    world.end().await
}

/// Section 3 of the contract, column by column.
const READ_SIDE: &[(&str, &str)] = &[
    (
        "alert",
        "directory_id uuid, tenant text, alert_id text, incident_id text, title text, severity text, status text, service_source text, detection_source text, category text, \
         created_at timestamptz, last_updated_at timestamptz, first_stored_at timestamptz, last_stored_at timestamptz, version_count int, portal_url text, raw json",
    ),
    ("alert_version", "directory_id uuid, source text, alert_id text, version int, last_update_text text, stored_at timestamptz, raw json"),
    (
        "tenant_health",
        "directory_id uuid, tenant text, state text, since timestamptz, reason text, action text, error_code text, token_expires_at timestamptz, last_refresh_at timestamptz",
    ),
    (
        "feed_health",
        "directory_id uuid, source text, last_success_at timestamptz, last_attempt_at timestamptz, last_error text, watermark timestamptz, lag_seconds double precision, \
         throttled_until timestamptz, quarantined bigint",
    ),
    ("gap", "directory_id uuid, source text, from_at timestamptz, to_at timestamptz, reason text, healed_at timestamptz"),
    ("quarantine", "directory_id uuid, source text, seen_at timestamptz, reason text, raw_bytes bytea"),
];

#[tokio::test]
async fn the_read_side_has_exactly_the_columns_and_types_of_the_contract() -> anyhow::Result<()> {
    let world = World::build(setup(1, 0)).await?;
    let pool = world.pool().await?;
    for (view, expected) in READ_SIDE {
        let sql = "select column_name::text, data_type::text from information_schema.columns where table_schema = 'dash' and table_name = $1 order by ordinal_position";
        let columns: Vec<(String, String)> = sqlx::query_as(sql).bind(view).fetch_all(&pool).await?;
        let short = |kind: &str| match kind {
            "timestamp with time zone" => "timestamptz".to_owned(),
            "integer" => "int".to_owned(),
            other => other.to_owned(),
        };
        let found: Vec<_> = columns.iter().map(|(name, kind)| format!("{name} {}", short(kind))).collect();
        assert_eq!(found.join(", "), *expected, "dash.{view}");
    }
    // Every column of every table that holds ciphertext says so, and no other column is binary.
    let sql = "select c.relname || '.' || a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid
               where c.relnamespace = 'tocsin'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition and a.attnum > 0 and a.atttypid = 'bytea'::regtype
                 and coalesce(col_description(c.oid, a.attnum), '') not like '%SEALED%' order by 1";
    let unsealed: Vec<String> = sqlx::query_scalar(sql).fetch_all(&pool).await?;
    assert_eq!(
        unsealed,
        [
            "alert.hash",
            "alert_version.hash",
            "quarantine.hash",
            "quarantine.raw_bytes",
            "schema_history.checksum",
            "tenant_secret.import_mac"
        ],
        "a hash, a body, a keyed hash"
    );
    world.end().await
}

/// A connection with the rights of this role and no others.
async fn connection_of(world: &World, role: &str) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnection::connect(&world.database.as_ref().context("a database")?.url()).await?;
    sqlx::raw_sql(AssertSqlSafe(format!("set session authorization {role}"))).execute(&mut connection).await?;
    Ok(connection)
}

/// Tries a statement; gives the SQLSTATE with which it was refused, or `None`.
async fn refusal(connection: &mut PgConnection, sql: &str) -> anyhow::Result<Option<String>> {
    match sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *connection).await {
        Ok(_) => Ok(None),
        Err(sqlx::Error::Database(error)) => Ok(error.code().map(|code| code.into_owned())),
        Err(other) => Err(other.into()),
    }
}

#[tokio::test]
async fn a_reader_reads_the_read_side_and_nothing_else_and_the_daemon_can_change_no_version() -> anyhow::Result<()> {
    const FORBIDDEN: Option<&str> = Some("42501");
    let world = World::with_tenants(Setup {
        cloud: Settings { tenants: 2, history: 5, sources: SourceMix::Both, ..Settings::default() },
        ..Setup::default()
    })
    .await?;
    let tenant = world.cloud.tenants()[0].directory_id;
    // An id that needs encoding in a link, so that every function of the views is really called.
    let odd = format!(r#"{{"id":"da ı/?#1","title":"t","createdDateTime":"{0}","lastUpdateDateTime":"{0}"}}"#, world.cloud.now());
    world.cloud.publish_raw(tenant, Source::GraphAlerts, odd)?;
    world.cloud.publish_poison(tenant, Source::GraphAlerts, Poison::NotAnObject, "x")?;
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    daemon.terminate().await?;

    let pool = world.pool().await?;
    let login = format!("reader_{}", Uuid::new_v4().simple());
    sqlx::raw_sql(AssertSqlSafe(format!("create role {login} login in role tocsin_reader"))).execute(&pool).await?;
    let mut reader = connection_of(&world, &login).await?;
    for (view, columns) in READ_SIDE {
        let names: Vec<_> = columns.split(", ").filter_map(|column| column.split(' ').next()).collect();
        let sql = format!("select count(*) from (select {} from dash.{view} offset 0) as rows", names.join(", "));
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut reader)
            .await
            .with_context(|| format!("the reader may read dash.{view}"))?;
        assert!(rows > 0 || *view == "gap", "dash.{view} is empty");
        for sql in [
            format!("delete from dash.{view}"),
            format!("update dash.{view} set directory_id = directory_id"),
            format!("drop view dash.{view}"),
        ] {
            // 55000: a view over several tables cannot be written through at all.
            let code = refusal(&mut reader, &sql).await?;
            assert!(code.as_deref() == FORBIDDEN || code.as_deref() == Some("55000"), "{sql}: {code:?}");
        }
    }
    let link: String = sqlx::query_scalar("select portal_url from dash.alert where alert_id like 'da %'").fetch_one(&mut reader).await?;
    assert_eq!(link, format!("{}/portal/alerts/da%20%C4%B1%2F%3F%231?tid={tenant}", world.cloud.base_url()));
    let tables: Vec<String> = sqlx::query_scalar(
        "select 'tocsin.' || quote_ident(relname) from pg_class where relnamespace = 'tocsin'::regnamespace and relkind in ('r', 'p', 'S', 'v')",
    )
    .fetch_all(&pool)
    .await?;
    assert!(tables.len() > 10, "{tables:?}");
    for table in &tables {
        assert_eq!(refusal(&mut reader, &format!("select from {table} limit 1")).await?.as_deref(), FORBIDDEN, "the reader reads {table}");
        assert_eq!(refusal(&mut reader, &format!("delete from {table}")).await?.as_deref(), FORBIDDEN, "the reader deletes from {table}");
    }
    for sql in [
        "create table dash.x (y int)",
        "create table tocsin.x (y int)",
        "set role tocsin_ingest",
        "set role tocsin_owner",
        "select tocsin.ensure_version_partition(now())",
    ] {
        assert_eq!(refusal(&mut reader, sql).await?.as_deref(), FORBIDDEN, "the reader: {sql}");
    }
    reader.close().await?;
    sqlx::raw_sql(AssertSqlSafe(format!("drop role {login}"))).execute(&pool).await?;

    let mut ingest = connection_of(&world, "tocsin_ingest").await?;
    let versions: Vec<_> = tables.iter().filter(|table| table.starts_with("tocsin.alert_version")).collect();
    assert!(versions.len() > 2, "the table and its partitions: {tables:?}");
    for table in versions {
        for sql in [
            format!("update {table} set raw = ''"),
            format!("update {table} set stored_at = now()"),
            format!("delete from {table}"),
            format!("truncate {table}"),
            format!("drop table {table}"),
            format!("alter table {table} add column x int"),
        ] {
            assert_eq!(refusal(&mut ingest, &sql).await?.as_deref(), FORBIDDEN, "the daemon's role: {sql}");
        }
    }
    for sql in [
        "delete from tocsin.alert",
        "truncate tocsin.alert",
        "create table tocsin.x (y int)",
        "drop view dash.alert",
        "set role tocsin_owner",
        "truncate tocsin.quarantine",
    ] {
        assert_eq!(refusal(&mut ingest, sql).await?.as_deref(), FORBIDDEN, "the daemon's role: {sql}");
    }
    assert!(refusal(&mut ingest, "select from tocsin.alert_version limit 1").await?.is_none(), "it may read them");
    ingest.close().await?;
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
