//! `tocsin reconcile`, `backfill` and `quarantine` as an operator and a script use them, mistakes included.

use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::harness::{Finished, Setup, World, eventually, process};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use simulator::{Effect, Endpoint, Poison, Rule, Settings, SimTenant, Source, SourceMix};
use tokio::process::Child;
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(60);

/// Nothing is read again but what a story asks for, and polling is done with an alert after two seconds.
const BY_HAND: &str = "[poll]\ninterval = \"1s\"\noverlap = \"2s\"\n\
                       [ladder]\nshort_every = \"0s\"\nlong_every = \"0s\"\ncompare = false\n\
                       [budget]\ngraph_per_minute = 100000\ndefender_per_minute = 100000\ndefender_per_hour = 1000000\n";

fn setup(history: usize, history_days: u32, config: &str) -> Setup {
    let cloud = Settings { tenants: 1, history, history_days, sources: SourceMix::GraphOnly, ..Settings::default() };
    Setup { cloud, config: config.to_owned(), ..Setup::default() }
}

fn only_tenant(world: &World) -> anyhow::Result<SimTenant> {
    world.cloud.tenants().into_iter().next().context("a tenant")
}

/// The last word of a command that did not end well.
fn last_word(ended: &Finished) -> anyhow::Result<&str> {
    let last = ended.stderr.lines().next_back().with_context(|| format!("it said nothing: {ended:?}"))?;
    last.strip_prefix("tocsin: ").with_context(|| format!("no sentence of ours: {ended:?}"))
}

/// Checks exit code and last word.
fn ended_with(ended: &Finished, code: i32, words: &[&str]) -> anyhow::Result<()> {
    ensure!(ended.code() == code, "exit {} instead of {code}: {ended:?}", ended.code());
    let said = last_word(ended)?;
    for word in words {
        ensure!(said.contains(word), "{word:?} is missing in: {said}; it printed: {}", ended.stdout);
    }
    Ok(())
}

/// Starts a command and lets it run.
fn spawn(world: &World, arguments: &[&str]) -> anyhow::Result<Child> {
    let mut command = process::tocsin(&world.config, arguments)?;
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    Ok(command.spawn()?)
}

async fn outcome(child: Child) -> anyhow::Result<Finished> {
    let output = tokio::time::timeout(SOON, child.wait_with_output()).await.context("it did not end")??;
    Ok(Finished { status: output.status, stdout: String::from_utf8(output.stdout)?, stderr: String::from_utf8(output.stderr)? })
}

async fn one_text(world: &World, sql: &'static str) -> anyhow::Result<String> {
    Ok(sqlx::query_scalar(sql).fetch_one(&world.pool().await?).await?)
}

async fn execute(world: &World, sql: &'static str, id: &str) -> anyhow::Result<()> {
    let changed = sqlx::query(sql).bind(id).execute(&world.pool().await?).await?.rows_affected();
    ensure!(changed > 0, "nothing was changed by {sql}");
    Ok(())
}

/// Waits until an operator's errand is in this state.
async fn errand(world: &World, errand: &str, state: &str) -> anyhow::Result<()> {
    let sql = format!("select from dash.reread where errand = '{errand}' and state = '{state}'");
    eventually(&format!("the {errand} is {state}"), SOON, async || {
        let count = world.count(&sql).await.map_err(|error| error.to_string())?;
        if count == 1 { Ok(()) } else { Err(format!("{count} rows")) }
    })
    .await
}

#[tokio::test]
async fn a_comparison_finds_nothing_where_nothing_differs_and_repairs_what_does() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(60, 2, BY_HAND)).await?;
    let tenant = only_tenant(&world)?;
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    // The first contact reads everything a second time, by creation, and would mend some of what is broken below.
    errand(&world, "backfill", "finished").await?;

    let fine = world.run(&["reconcile", "--tenant", &tenant.name, "--since", "3d"]).await?.ok()?;
    let said = |what: &str| fine.stdout.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") == what);
    assert!(fine.stdout.lines().next().is_some_and(|line| line.starts_with(&tenant.name) && line.contains("graph-alerts")), "{fine:?}");
    assert!(said("at the source 60") && said("stored 60") && said("missing 0") && said("changed 0") && said("only stored 0"), "{fine:?}");

    // One alert is lost, one version is lost, and one is stored that the source does not know. They are from the middle:
    // every poll reads the youngest again, and the oldest to learn whether the source sorts, and would mend the first of them.
    let pick = |number: u32| {
        let old = "last_updated_at < now() - interval '1 hour'";
        format!("select alert_id from dash.alert where {old} order by last_updated_at, alert_id offset {number} limit 1")
    };
    let ids: Vec<String> = {
        let pool = world.pool().await?;
        let mut ids = Vec::new();
        for number in [30, 31, 32] {
            ids.push(sqlx::query_scalar(sqlx::AssertSqlSafe(pick(number))).fetch_one(&pool).await?);
        }
        ids
    };
    let [lost, changed, strange] = [&ids[0], &ids[1], &ids[2]];
    execute(&world, "delete from tocsin.alert where alert_id = $1", lost).await?;
    execute(&world, "delete from tocsin.alert_version where alert_id = $1", lost).await?;
    execute(&world, "delete from tocsin.alert_version where alert_id = $1", changed).await?;
    execute(&world, "update tocsin.alert set alert_id = alert_id || '-strange' where alert_id = $1", strange).await?;
    execute(&world, "update tocsin.alert_version set alert_id = alert_id || '-strange' where alert_id = $1", strange).await?;

    let id = tenant.directory_id.to_string();
    let found = world.run(&["reconcile", "--tenant", &id, "--since", "3d", "--json"]).await?;
    ended_with(&found, 3, &["4 differences", "3 repaired", "1 no longer shown"])?;
    let row = found.json()?[0].clone();
    assert_eq!(
        (row["source"].as_str(), row["state"].as_str(), row["asked_by"].as_str()),
        (Some("graph-alerts"), Some("finished"), Some("operator"))
    );
    assert_eq!(row["directory_id"], id);
    let ids_of = |key: &str| -> Vec<String> {
        let mut ids: Vec<_> = row[key].as_array().into_iter().flatten().filter_map(|id| Some(id.as_str()?.to_owned())).collect();
        ids.sort();
        ids
    };
    let mut missing = vec![lost.clone(), strange.clone()];
    missing.sort();
    assert_eq!((ids_of("missing_ids"), row["missing"].as_i64()), (missing, Some(2)));
    assert_eq!((ids_of("changed_ids"), row["changed"].as_i64()), (vec![changed.clone()], Some(1)));
    assert_eq!((ids_of("only_stored_ids"), row["only_stored"].as_i64()), (vec![format!("{strange}-strange")], Some(1)));
    assert_eq!(world.count("select from dash.reconciliation where asked_by = 'operator' and missing = 2").await?, 1);

    // It is repaired: only what is stored too much is still told of.
    execute(&world, "delete from tocsin.alert where alert_id = $1", &format!("{strange}-strange")).await?;
    execute(&world, "delete from tocsin.alert_version where alert_id = $1", &format!("{strange}-strange")).await?;
    assert!(world.tally().await?.agrees(), "{}", world.tally().await?);
    world.run(&["reconcile", "--tenant", &id, "--since", "3d"]).await?.ok()?;

    // The last comparison is one line of `tenant show`.
    let shown = world.run(&["tenant", "show", &id]).await?.ok()?;
    let line = shown.stdout.lines().find(|line| line.contains("last_comparison")).context("a line")?;
    assert!(line.contains("60 at the source, 60 stored, nothing differed"), "{line}");
    let shown = world.run(&["tenant", "show", &id, "--json"]).await?.ok()?.json()?;
    assert_eq!(shown["feeds"][0]["last_comparison"]["stored"], 60);
    assert_eq!(shown["feeds"][0]["backfill"]["state"], "finished");
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_one_sentence_and_asks_for_nothing() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(2, 2, BY_HAND)).await?;
    let tenant = only_tenant(&world)?;
    let name = tenant.name.as_str();
    let near = format!("{name}x");
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["reconcile", "--tenant", &near], 4, &[&near, name]),
        (&["reconcile", "--tenant", "00000000-0000-0000-0000-00000000dead"], 4, &["00000000-0000-0000-0000-00000000dead"]),
        (&["reconcile", "--tenant", name, "--source", "mde-alerts"], 2, &["mde-alerts", "graph-alerts"]),
        (&["reconcile", "--tenant", name, "--since", "1h", "--until", "2h"], 2, &["nothing to read"]),
        (&["reconcile", "--tenant", name, "--since", "0s"], 2, &["nothing to read"]),
        (&["reconcile", "--tenant", name, "--since", "2099-01-01T00:00:00Z"], 2, &["nothing to read"]),
        (&["backfill", "start", &near, "--since", "90d"], 4, &[&near]),
        (&["backfill", "start", name, "--since", "90d", "--source", "graph-incidents"], 2, &["graph-incidents"]),
        (&["backfill", "status", &near], 4, &[&near]),
        (&["backfill", "cancel", name], 4, &["no backfill", "under way"]),
        (&["quarantine", "list", "--tenant", &near], 4, &[&near]),
        (&["quarantine", "show", "abcd1234"], 4, &["abcd1234"]),
        (&["quarantine", "show", "xyz"], 2, &["xyz", "hexadecimal"]),
        (&["quarantine", "show", "abcd1234", "--raw", "--json"], 2, &["--raw", "--json"]),
        (&["quarantine", "replay", "abcd1234"], 4, &["abcd1234"]),
    ];
    let before = world.dump().await?;
    for (arguments, code, words) in cases {
        let ended = world.run(arguments).await?;
        ensure!(ended.code() == *code, "{arguments:?}: {ended:?}");
        let sentence = ended.complaint().with_context(|| format!("{arguments:?}"))?;
        for word in *words {
            assert!(sentence.contains(word), "{arguments:?}: {word:?} is missing in: {sentence}");
        }
        assert!(ended.stdout.is_empty(), "{arguments:?}: {}", ended.stdout);
    }
    // What the command line itself refuses says how it is written.
    let mistypes: &[(&[&str], &[&str])] = &[
        (&["reconcile", "--tenant", name, "--since", "yesterday"], &["yesterday", "--since", "24h", "2026-11-20T08:00:00Z"]),
        (&["reconcile", "--tenant", name, "--source", "graph"], &["graph", "graph-alerts, mde-alerts, graph-incidents"]),
        (&["reconcile", "--tenant", name, "--timeout", "soon"], &["soon", "--timeout"]),
        (&["reconcile"], &["--tenant"]),
        (&["backfill", "start", name], &["--since"]),
        (&["quarantine", "replay"], &["ID"]),
        (&["quarantine", "replay", "abcd", "--all"], &["--all"]),
    ];
    for (arguments, words) in mistypes {
        let ended = world.run(arguments).await?;
        assert!(ended.code() == 2 && ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
        for word in *words {
            assert!(ended.stderr.contains(word), "{arguments:?}: {word:?} is missing in: {}", ended.stderr);
        }
    }
    assert_eq!(world.dump().await?, before, "not a single row was written");
    world.end().await
}

#[tokio::test]
async fn when_nobody_takes_it_up_in_time_it_is_said_why() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(5, 2, BY_HAND)).await?;
    let tenant = only_tenant(&world)?;
    let id = tenant.directory_id.to_string();
    let ask = ["reconcile", "--tenant", &id, "--timeout", "1s"];

    // No daemon at all. The request stays, and JSON is JSON all the same.
    let ended = world.run(&[&ask[..], &["--json"]].concat()).await?;
    ended_with(&ended, 75, &["nobody has begun", "no daemon", "tocsin serve"])?;
    assert_eq!(ended.json()?[0]["state"], "waiting");
    let begun = Instant::now();
    let mut daemon = world.serve()?;
    errand(&world, "reconcile", "finished").await?;
    assert!(begun.elapsed() < SOON);
    world.settled(SOON).await?;

    // A paused customer.
    world.run(&["tenant", "pause", &id]).await?.ok()?;
    let ended = world.run(&ask).await?;
    ended_with(&ended, 75, &["paused", &format!("tocsin tenant resume {id}")])?;
    assert!(ended.stderr.lines().count() == 2, "it is said at the beginning as well: {ended:?}");
    world.run(&["tenant", "resume", &id]).await?.ok()?;
    errand(&world, "reconcile", "finished").await?;

    // A customer whose consent is gone.
    world.cloud.revoke(tenant.directory_id, 50173)?;
    world.cloud.script(Rule::new(Effect::Unauthorized { claims: false }).endpoint(Endpoint::Graph));
    world.healthy_when(tenant.directory_id, "the need is seen", SOON, |health| health.state == "needs-consent").await?;
    let ended = world.run(&ask).await?;
    let health = world.health(tenant.directory_id).await?;
    ended_with(&ended, 75, &["needs-consent", &health.reason, &health.action])?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn ctrl_c_ends_the_waiting_and_not_the_work_and_two_can_wait_for_one() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(300, 2, &BY_HAND.replace("overlap = \"2s\"\n", "overlap = \"2s\"\npage_size = 20\n"))).await?;
    let id = only_tenant(&world)?.directory_id.to_string();
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    world.cloud.script(Rule::new(Effect::Slow { ms: 300 }).endpoint(Endpoint::Graph));

    let first = spawn(&world, &["reconcile", "--tenant", &id, "--since", "3d"])?;
    errand(&world, "reconcile", "running").await?;
    let second = spawn(&world, &["reconcile", "--tenant", &id, "--since", "3d", "--json"])?;
    let pid = i32::try_from(first.id().context("it has ended")?)?;
    kill_process(Pid::from_raw(pid).context("no process id")?, Signal::INT)?;
    let first = outcome(first).await?;
    ended_with(&first, 75, &["goes on", &format!("tocsin tenant show {id}")])?;
    assert!(first.stdout.is_empty(), "{first:?}");
    errand(&world, "reconcile", "running").await?;

    world.cloud.clear_script();
    let second = outcome(second).await?.ok()?;
    assert!(second.stderr.contains("already"), "{second:?}");
    assert_eq!(second.json()?[0]["stored"], 300);
    assert_eq!(world.count("select from dash.reconciliation where asked_by = 'operator'").await?, 1, "one comparison served both");
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_backfill_is_started_watched_called_off_and_begun_anew() -> anyhow::Result<()> {
    // First contact reads two days back; the rest of the history is an operator's wish.
    let config = BY_HAND.replace("overlap = \"2s\"\n", "overlap = \"2s\"\nfirst_sync = \"2d\"\npage_size = 20\n");
    let world = World::with_tenants(setup(400, 60, &config)).await?;
    let tenant = only_tenant(&world)?;
    let id = tenant.directory_id.to_string();
    let none = world.run(&["backfill", "status"]).await?.ok()?;
    assert!(none.stdout.is_empty() && none.stderr.contains("tocsin backfill start"), "{none:?}");
    assert_eq!(world.run(&["backfill", "status", "--json"]).await?.ok()?.json()?, serde_json::json!([]));
    let mut daemon = world.serve()?;
    errand(&world, "backfill", "finished").await?;
    let stored = world.count("select from dash.alert").await?;
    ensure!(stored < 100, "{stored} of 400 alerts after a first contact of two days");

    world.cloud.script(Rule::new(Effect::Slow { ms: 300 }).endpoint(Endpoint::Graph));
    let started = world.run(&["backfill", "start", &tenant.name, "--since", "90d"]).await?.ok()?;
    assert!(started.stdout.contains(&tenant.name) && started.stdout.contains("graph-alerts: asked to read back"), "{started:?}");
    errand(&world, "backfill", "running").await?;
    let again = world.run(&["backfill", "start", &id, "--since", "30d"]).await?;
    ended_with(&again, 5, &["under way already", "tocsin backfill status", "--replace"])?;
    let status = world.run(&["backfill", "status", &id, "--json"]).await?.ok()?.json()?;
    assert_eq!((status[0]["state"].as_str(), status[0]["errand"].as_str()), (Some("running"), Some("backfill")));
    assert!(status[0]["done"].as_f64().is_some_and(|done| (0.0..1.0).contains(&done)), "{status}");
    let table = world.run(&["backfill", "status"]).await?.ok()?;
    assert!(table.stdout.contains(&tenant.name) && table.stdout.contains("% done"), "{table:?}");

    // Whoever waits for it is told when it is called off.
    let watcher = spawn(&world, &["backfill", "status", "--watch"])?;
    let waiting = spawn(&world, &["backfill", "start", &id, "--since", "60d", "--replace", "--wait"])?;
    eventually("the new run has begun", SOON, async || {
        let count = world.count("select from tocsin.reread where errand = 'backfill' and run >= 3 and started_at is not null").await;
        count.map_err(|error| error.to_string()).and_then(|count| if count == 1 { Ok(()) } else { Err(count.to_string()) })
    })
    .await?;
    let cancelled = world.run(&["backfill", "cancel", &tenant.name]).await?.ok()?;
    assert!(cancelled.stdout.contains("cancelled"), "{cancelled:?}");
    ended_with(&outcome(waiting).await?, 75, &["called off", "stays"])?;
    let watched = outcome(watcher).await?.ok()?;
    assert!(watched.stdout.lines().next_back().is_some_and(|line| line.contains("cancelled at")), "{watched:?}");
    ended_with(&world.run(&["backfill", "cancel", &id]).await?, 4, &["no backfill"])?;
    let stored = world.count("select from dash.alert").await?;
    ensure!(stored < 400, "it was called off after it had ended");

    // And once more, to its end.
    world.cloud.clear_script();
    let done = world.run(&["backfill", "start", &id, "--since", "90d", "--wait", "--json"]).await?.ok()?;
    assert_eq!(done.json()?[0]["state"], "finished");
    assert!(done.stderr.contains("finished"), "plain lines where there is no terminal: {done:?}");
    world.settled(SOON).await?;
    assert_eq!(world.count("select from dash.alert").await?, 400);
    let shown = world.run(&["tenant", "show", &id]).await?.ok()?;
    let line = shown.stdout.lines().find(|line| line.contains("backfill")).context("a line")?;
    assert!(line.contains("finished: "), "{line}");
    let watched = world.run(&["backfill", "status", "--watch"]).await?.ok()?;
    assert!(watched.stderr.contains("no backfill is under way"), "{watched:?}");
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn records_in_quarantine_are_listed_shown_harmlessly_and_tried_again() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(10, 2, BY_HAND)).await?;
    let tenant = only_tenant(&world)?;
    let id = tenant.directory_id.to_string();
    let empty = world.run(&["quarantine", "list"]).await?.ok()?;
    assert!(empty.stdout.is_empty() && empty.stderr.contains("no records"), "{empty:?}");
    let nothing = world.run(&["quarantine", "replay", "--all", "--wait"]).await?.ok()?;
    assert!(nothing.stderr.contains("nothing to try again"), "{nothing:?}");

    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    world.cloud.publish_poison(tenant.directory_id, Source::GraphAlerts, Poison::InvalidUtf8, "da-broken")?;
    let hostile = format!(
        "{{\"title\":\"\u{1b}[2Jgone \u{202e}live\",\"createdDateTime\":\"{0}\",\"lastUpdateDateTime\":\"{0}\"}}",
        world.cloud.now()
    );
    // A record without an id; the escape character stands in it as it is, which JSON forbids.
    world.cloud.publish_raw(tenant.directory_id, Source::GraphAlerts, hostile.clone().into_bytes())?;
    eventually("both are in quarantine", SOON, async || {
        let count = world.count("select from dash.quarantine").await.map_err(|error| error.to_string())?;
        if count == 2 { Ok(()) } else { Err(format!("{count}")) }
    })
    .await?;

    let listed = world.run(&["quarantine", "list", "--tenant", &tenant.name, "--source", "graph-alerts", "--json"]).await?.ok()?.json()?;
    let rows = listed.as_array().context("an array")?;
    assert_eq!(rows.len(), 2, "{listed}");
    let find = |bytes: usize| rows.iter().find(|row| row["bytes"].as_u64() == u64::try_from(bytes).ok());
    let record = find(hostile.len()).context("the hostile one")?["id"].as_str().context("an id")?.to_owned();
    let table = world.run(&["quarantine", "list", "--limit", "1"]).await?.ok()?;
    assert!(table.stdout.lines().count() == 2 && table.stderr.contains("--limit"), "{table:?}");

    // For people nothing in it steers the terminal; the bytes themselves come only when asked for.
    let shown = world.run(&["quarantine", "show", &record]).await?.ok()?;
    assert!(!shown.stdout.contains('\u{1b}') && !shown.stdout.contains('\u{202e}'), "{shown:?}");
    assert!(shown.stdout.contains("\\u{1b}[2Jgone \\u{202e}live") && shown.stdout.contains(&tenant.name), "{shown:?}");
    let raw = world.run(&["quarantine", "show", &record[..8], "--raw"]).await?.ok()?;
    assert_eq!(raw.stdout, hostile, "the bytes as they came, and nothing else");
    let json = world.run(&["quarantine", "show", &record, "--json"]).await?.ok()?.json()?;
    assert_eq!(json["body"], hostile);
    let broken = rows.iter().find(|row| row["id"] != Value::String(record.clone())).context("the broken one")?;
    let json = world.run(&["quarantine", "show", broken["id"].as_str().context("an id")?, "--json"]).await?.ok()?.json()?;
    assert!(json["body_escaped"].as_str().is_some_and(|body| body.contains("\\xff")) && json.get("body").is_none(), "{json}");

    // They are no better understood than before.
    let again = world.run(&["quarantine", "replay", &record, "--wait"]).await?;
    ended_with(&again, 3, &["1 record is not understood"])?;
    assert!(again.stdout.contains("0 understood and stored, 1 not understood"), "{again:?}");

    // A record that an older version could not read: it is stored as an alert now.
    let lost = one_text(&world, "select alert_id from dash.alert order by created_at offset 3 limit 1").await?;
    execute(
        &world,
        "insert into tocsin.quarantine (tenant, source, hash, reason, raw_bytes)
         select tenant, source, hash, 'too new for the version of then', convert_to(raw, 'UTF8') from tocsin.alert_version where alert_id = $1",
        &lost,
    )
    .await?;
    execute(&world, "delete from tocsin.alert where alert_id = $1", &lost).await?;
    execute(&world, "delete from tocsin.alert_version where alert_id = $1", &lost).await?;
    let mended = world.run(&["quarantine", "replay", "--all", "--tenant", &id, "--wait", "--json"]).await?;
    ended_with(&mended, 3, &["2 records are not understood"])?;
    let result = mended.json()?[0].clone();
    assert_eq!(
        (result["understood"].as_i64(), result["refused"].as_i64(), result["waiting"].as_i64()),
        (Some(1), Some(2), Some(0)),
        "{result}"
    );
    assert_eq!(world.count(&format!("select from dash.alert where alert_id = '{lost}'")).await?, 1);
    let left = world.run(&["quarantine", "list", "--json"]).await?.ok()?.json()?;
    assert_eq!(left.as_array().map(Vec::len), Some(2));
    let all = world.run(&["quarantine", "list", "--replayed"]).await?.ok()?;
    assert!(all.stdout.contains("(understood "), "{all:?}");
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn beside_an_embedded_server_without_a_daemon_nobody_is_waited_for() -> anyhow::Result<()> {
    let world = World::build(Setup { embedded: true, ..setup(3, 2, BY_HAND) }).await?;
    world.import_all().await?;
    let tenant = only_tenant(&world)?;
    let begun = Instant::now();
    let ended = world.run(&["reconcile", "--tenant", &tenant.name, "--timeout", "5m"]).await?;
    ended_with(&ended, 75, &["asked for", "tocsin serve"])?;
    let started = world.run(&["backfill", "start", &tenant.name, "--since", "10d"]).await?.ok()?;
    assert!(started.stderr.contains("tocsin serve"), "{started:?}");
    assert!(begun.elapsed() < SOON, "the server of a command that waits would keep the daemon out");
    let mut daemon = world.serve()?;
    eventually("the daemon has its server", SOON, async || world.pool().await.map(drop).map_err(|error| error.to_string())).await?;
    errand(&world, "reconcile", "finished").await?;
    errand(&world, "backfill", "finished").await?;
    daemon.terminate().await?;
    world.end().await
}
