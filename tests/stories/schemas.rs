//! Every command with `--json` prints what its published schema says.
//!
//! All stories hold what they run to the schemas. This one runs each command at least once, so that none is left out.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::harness::{Receiver, Setup, World, eventually, process, run_in, schemas};
use simulator::{Poison, Settings, Source, SourceMix};

const SOON: Duration = Duration::from_secs(60);

/// Not run here: stories of the consent flow hold their events to the schema, with somebody who signs in.
const ELSEWHERE: [&str; 1] = ["tenant-connect"];

#[tokio::test]
async fn what_a_command_prints_with_json_is_as_its_schema_says() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 3, history: 6, history_days: 3, sources: SourceMix::Both, ..Settings::default() };
    let world = World::build(Setup { cloud, ..Setup::default() }).await?;
    let receiver = Receiver::start().await?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let (url, secret) = (
        world.write_private("webhook.url", &receiver.url)?,
        world.write_private("webhook.secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?,
    );
    let extra = format!(
        "[notify]\nurl_file = {url:?}\nsecret_file = {secret:?}\nallow_plaintext = true\n\
         [ladder]\nshort_every = \"0s\"\nlong_every = \"0s\"\ncompare = false\n\
         [budget]\ngraph_per_minute = 100000\ndefender_per_minute = 100000\ndefender_per_hour = 1000000\n"
    );
    let toml = world.toml(&extra).replace("[ops]\nlisten = \"127.0.0.1:0\"", &format!("[ops]\nlisten = \"{port}\""));
    world.write_private("tocsin.toml", &toml)?;
    let tenants = world.cloud.tenants();
    let (one, two, three) = (tenants[0].name.as_str(), tenants[1].name.as_str(), tenants[2].name.as_str());

    let mut held = BTreeSet::new();
    // What is printed is held to its schema by the harness; here it must be something, whatever the exit code.
    let mut json = async |words: &[&str], code: i32| -> anyhow::Result<serde_json::Value> {
        let ended = world.run(&[words, &["--json"]].concat()).await?;
        ensure!(ended.code() == code && !ended.stdout.trim().is_empty(), "{words:?}: {ended:?}");
        held.insert(schemas::schema_of(words).with_context(|| format!("{words:?} has no schema"))?);
        Ok(serde_json::from_str(&ended.stdout).unwrap_or_default())
    };
    let csv = format!("{}\nno guid,Bad,lab,main,graph-alerts,\n", world.csv(&tenants[..2]).trim_end());
    let csv = world.write_private("tenants.csv", &csv)?.display().to_string();
    json(&["tenant", "import", &csv], 1).await?;
    let third = tenants[2].directory_id.to_string();
    json(&["tenant", "add", three, "--tenant", &third, "--cloud", "lab"], 0).await?;
    json(&["tenant", "invite", three, "--no-wait"], 0).await?;
    json(&["tenant", "invite", three, "--cancel"], 0).await?;
    json(&["doctor"], 3).await?;
    json(&["db", "status"], 0).await?;
    json(&["db", "migrate"], 0).await?;

    let mut daemon = world.serve()?;
    eventually("the two are read", SOON, async || {
        let count = world.count("select from dash.alert").await.map_err(|error| error.to_string())?;
        if count == 12 { Ok(()) } else { Err(count.to_string()) }
    })
    .await?;
    let first = tenants[0].directory_id;
    world.cloud.publish_poison(first, Source::GraphAlerts, Poison::InvalidUtf8, "da-broken")?;
    world.cloud.publish_raw(first, Source::GraphAlerts, b"{\"title\":\"no id\"}".to_vec())?;
    eventually("both are in quarantine", SOON, async || {
        let count = world.count("select from dash.quarantine").await.map_err(|error| error.to_string())?;
        if count == 2 { Ok(()) } else { Err(count.to_string()) }
    })
    .await?;
    eventually("the first backfills are over", SOON, async || {
        let count = world
            .count("select from dash.reread where errand = 'backfill' and finished_at is null")
            .await
            .map_err(|error| error.to_string())?;
        if count == 0 { Ok(()) } else { Err(count.to_string()) }
    })
    .await?;
    let quarantined = json(&["quarantine", "list"], 0).await?;
    for record in quarantined.as_array().context("an array")? {
        json(&["quarantine", "show", record["id"].as_str().context("an id")?], 0).await?;
    }
    json(&["quarantine", "replay", "--all"], 0).await?;
    json(&["quarantine", "replay", "--all", "--wait"], 3).await?;
    json(&["reconcile", "--tenant", one, "--since", "7d"], 0).await?;
    json(&["backfill", "start", one, "--since", "2d", "--wait"], 0).await?;
    json(&["backfill", "start", two, "--since", "2d"], 0).await?;
    json(&["backfill", "status"], 0).await?;
    for words in [
        &["tenant", "list"][..],
        &["tenant", "set", one, "--access-expires", "2027-03-01"],
        &["tenant", "show", one],
        &["tenant", "show", three],
        &["tenant", "verify", one],
        &["tenant", "pause", two],
        &["tenant", "resume", two],
        &["alerts", "list"],
        &["alerts", "tail", "--no-follow"],
        &["audit", "list"],
        &["audit", "verify"],
        &["audit", "heads"],
        &["top"],
        &["report", "--out", "-"],
        &["config", "check"],
        &["config", "show"],
        &["healthcheck"],
        &["notify", "test"],
        &["reload"],
        &["schema"],
        &["db", "partitions"],
        &["db", "rebuild"],
        &["key", "status"],
        &["key", "rotate"],
    ] {
        json(words, 0).await?;
    }
    let keys = json(&["key", "status"], 0).await?;
    let idle = keys
        .as_array()
        .into_iter()
        .flatten()
        .find(|key| key["active"] == false)
        .and_then(|key| key["id"].as_str())
        .context("an idle key")?;
    json(&["key", "retire", idle, "--yes"], 0).await?;
    // Roles belong to the whole server.
    let reader = format!("schemas_{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    json(&["reader", "create", &reader, "--tenants", one], 0).await?;
    // A comma may be part of a name, and whoever is named twice is one customer.
    let pool = world.pool().await?;
    let (called, id) = ("Finch, Harbour & Co.", tenants[1].directory_id);
    for name in [called, two] {
        sqlx::query("update tocsin.tenant set name = $1 where tenant = $2").bind(name).bind(id).execute(&pool).await?;
        let granted = json(&["reader", "grant", &reader, "--tenants", name, "--tenants", &format!("{one},{id}")], 0).await?;
        let more = if name == called { serde_json::json!([id]) } else { serde_json::json!([]) };
        ensure!(granted["granted"] == more, "{granted}");
    }
    pool.close().await;
    json(&["reader", "list"], 0).await?;
    json(&["reader", "revoke", &reader, "--tenants", two], 0).await?;
    json(&["reader", "drop", &reader, "--yes"], 0).await?;
    json(&["tenant", "remove", one, "--delete-alerts", "--yes"], 0).await?;
    daemon.terminate().await?;
    json(&["backfill", "start", two, "--since", "1d", "--replace"], 0).await?;
    json(&["backfill", "cancel", two], 0).await?;

    let ring = world.path("keys/other").display().to_string();
    let made = run_in(&world.config, &["key", "init", "--json"], "", &[("TOCSIN_VAULT__KEY_FILE", &ring)]).await?.ok()?;
    ensure!(!made.stdout.is_empty(), "{made:?}");
    held.insert("key-init".to_owned());

    let listed = process::run(std::path::Path::new("/nonexistent"), &["schema", "--json"]).await?.ok()?.json()?;
    let published: BTreeSet<_> =
        listed.as_array().into_iter().flatten().filter_map(|schema| schema["name"].as_str().map(str::to_owned)).collect();
    let left: Vec<_> = published.iter().filter(|name| !held.contains(*name) && !ELSEWHERE.contains(&name.as_str())).collect();
    ensure!(published.len() > 40 && left.is_empty(), "not held to their schemas: {left:?}");
    world.end().await
}

#[tokio::test]
async fn a_schema_is_printed_by_the_words_of_its_command_and_others_are_refused() -> anyhow::Result<()> {
    let nowhere = std::path::Path::new("/nonexistent");
    let printed = process::run(nowhere, &["schema", "tenant", "list"]).await?.ok()?.json()?;
    assert_eq!(printed["title"], "tocsin tenant list --json");
    assert_eq!(process::run(nowhere, &["schema", "tenant-list"]).await?.ok()?.json()?, printed);
    let refused = process::run(nowhere, &["schema", "tenants"]).await?;
    ensure!(refused.code() == 4 && refused.complaint()?.contains("`tocsin schema` lists them"), "{refused:?}");
    // What does not fit is told, with its place.
    let wrong = schemas::fits(&["tenant", "pause", "x", "--json"], r#"{"directory_id":"x","name":"x","before":"active","state":"asleep"}"#);
    ensure!(wrong.is_err_and(|error| error.to_string().contains("tenant-pause.json")), "it is taken for what it is not");
    Ok(())
}
