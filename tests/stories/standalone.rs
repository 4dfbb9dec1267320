//! Where the alerts go: a Postgres of the daemon's own where none is configured, as root and as an ordinary
//! user, and the configured one where there is one. And that what goes in is what came.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use e2e::harness::process::tocsin_binary;
use e2e::harness::{Daemon, Finished, Setup, TestDatabase, World, eventually, finish};
use rustix::process::geteuid;
use simulator::{SampleStamps, Settings, SourceMix};
use tokio::process::Command;

const SOON: Duration = Duration::from_secs(60);

fn embedded() -> Setup {
    Setup { embedded: true, ..Setup::default() }
}

#[tokio::test]
async fn without_a_database_url_a_server_of_its_own_is_made_and_used_in_folders_that_were_not_there() -> anyhow::Result<()> {
    let world = World::build(embedded()).await?;
    let state = world.path("not/yet/there");
    std::fs::write(&world.config, world.toml("").replace(&world.path("state").display().to_string(), &state.display().to_string()))?;
    assert!(!world.path("not").exists());
    import(&world, Whoever).await?;
    let mut daemon = world.serve()?;
    ready(&daemon).await?;
    let postgres = state.join("postgres");
    let running = local_postgres::attach(&postgres)?.context("no server runs")?;
    assert_eq!((running.pid, running.purpose.as_str()), (daemon.pid()?, "tocsin serve"));
    let alerts = eventually("the history of all customers arrives", SOON, async || {
        let list =
            world.run(&["alerts", "list", "--json", "--limit", "1000"]).await.and_then(Finished::ok).map_err(|error| error.to_string())?;
        let alerts = list.json().map_err(|error| error.to_string())?.as_array().map_or(0, Vec::len);
        if alerts == 60 { Ok(alerts) } else { Err(alerts.to_string()) }
    })
    .await?;
    assert_eq!(alerts, world.cloud.ledger().total_alerts());
    assert_eq!(std::fs::metadata(postgres.join("data"))?.mode() & 0o777, 0o700);
    // Nothing of a first start is worth a warning.
    let log = daemon.log()?;
    let worries: Vec<_> = log.lines().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).collect();
    assert!(worries.is_empty(), "{worries:#?}");
    daemon.terminate().await?;
    assert!(local_postgres::attach(&postgres)?.is_none(), "the server outlived the daemon");
    world.end().await
}

#[tokio::test]
async fn an_ordinary_user_needs_nobody_elses_help() -> anyhow::Result<()> {
    let who = Somebody::ordinary()?;
    let world = World::build(embedded()).await?;
    // The build may lie in a folder that this user cannot enter.
    std::fs::copy(tocsin_binary()?, world.path("tocsin"))?;
    who.own_all(world.folder())?;
    import(&world, &who).await?;
    let mut daemon = Daemon::spawn(who.tocsin(&world, &["serve"]), &world.path("daemon.log"))?;
    let tally = world.settled(SOON).await?;
    assert_eq!(tally.published, 60);
    let owner = std::fs::metadata(world.path("state/postgres/data"))?.uid();
    assert_eq!(owner, who.uid);
    let list = finish(who.tocsin(&world, &["tenant", "list", "--json"]), "").await?.ok()?;
    assert_eq!(list.json()?.as_array().map(Vec::len), Some(3));
    daemon.terminate().await?;

    // What an ordinary user has made, root can go on with, and the other way round.
    if geteuid().is_root() {
        let mut daemon = world.serve()?;
        world.cloud.publish_new(world.cloud.tenants()[0].directory_id, 2)?;
        world.settled(SOON).await?;
        daemon.terminate().await?;
        assert_eq!(std::fs::metadata(world.path("state/postgres/data"))?.uid(), who.uid);
        let mut daemon = Daemon::spawn(who.tocsin(&world, &["serve"]), &world.path("daemon.log"))?;
        world.cloud.publish_new(world.cloud.tenants()[0].directory_id, 2)?;
        world.settled(SOON).await?;
        daemon.terminate().await?;
    }
    world.end().await
}

#[tokio::test]
async fn a_second_daemon_on_one_state_folder_is_told_who_is_there() -> anyhow::Result<()> {
    let world = World::with_tenants(embedded()).await?;
    let mut first = world.serve()?;
    ready(&first).await?;
    let second = world.run(&["serve"]).await?;
    assert_eq!(second.code(), 5, "{second:?}");
    let pid = first.pid()?.to_string();
    assert!(second.stderr.contains(&pid) && second.stderr.contains("tocsin serve"), "{second:?}");
    assert!(second.stderr.contains(&world.path("state").display().to_string()), "{second:?}");

    // The first one does not notice.
    world.cloud.publish_new(world.cloud.tenants()[0].directory_id, 2)?;
    world.settled(SOON).await?;
    first.terminate().await?;
    let mut second = world.serve()?;
    ready(&second).await?;
    second.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn commands_use_the_server_of_a_running_daemon_and_start_one_for_a_moment_where_none_runs() -> anyhow::Result<()> {
    let world = World::with_tenants(embedded()).await?;
    let postgres = world.path("state/postgres");
    for arguments in [&["tenant", "list", "--json"][..], &["db", "status", "--json"], &["alerts", "list", "--json"]] {
        world.run(arguments).await?.ok()?.json()?;
        assert!(local_postgres::attach(&postgres)?.is_none(), "{arguments:?} left its server behind");
    }
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    let before = std::fs::read_to_string(postgres.join("data/postmaster.pid"))?;
    let tenants = world.run(&["tenant", "list", "--json"]).await?.ok()?.json()?;
    assert_eq!(tenants.as_array().map(Vec::len), Some(3));
    let alerts = world.run(&["alerts", "list", "--json", "-n", "7"]).await?.ok()?.json()?;
    assert_eq!(alerts.as_array().map(Vec::len), Some(7));
    let name = world.cloud.tenants()[1].name.clone();
    world.run(&["tenant", "pause", &name]).await?.ok()?;
    assert_eq!(world.run(&["tenant", "show", &name, "--json"]).await?.ok()?.json()?["state"], "paused");
    world.run(&["tenant", "resume", &name]).await?.ok()?;
    assert_eq!(std::fs::read_to_string(postgres.join("data/postmaster.pid"))?, before, "the daemon's server was used and left alone");
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn commands_typed_at_the_same_time_do_not_take_the_server_away_from_each_other() -> anyhow::Result<()> {
    let world = World::with_tenants(embedded()).await?;
    for _ in 0..4 {
        let list = || world.run(&["tenant", "list", "--json"]);
        let (a, b, c, d) = tokio::join!(list(), list(), list(), list());
        for finished in [a?, b?, c?, d?] {
            assert_eq!(finished.ok()?.json()?.as_array().map(Vec::len), Some(3));
        }
    }
    // Nor does one of them keep the daemon from starting.
    let command = world.run(&["alerts", "list", "--json"]);
    let start = async {
        let daemon = world.serve()?;
        ready(&daemon).await?;
        anyhow::Ok(daemon)
    };
    let (command, daemon) = tokio::join!(command, start);
    command?.ok()?;
    daemon?.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_configured_database_is_used_and_no_other_server_is_started() -> anyhow::Result<()> {
    let world = World::with_tenants(Setup::default()).await?;
    let mut daemon = world.serve()?;
    let tally = world.settled(SOON).await?;
    assert_eq!(tally.published, 60);
    assert!(!world.path("state/postgres").exists());
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn pending_migrations_on_a_configured_database_are_applied_only_when_asked_for() -> anyhow::Result<()> {
    let world = World::build(Setup::default()).await?;
    let migrated = world.run(&["db", "status", "--json"]).await?.ok()?.json()?;
    let fresh = TestDatabase::create().await?;
    let url = world.database.as_ref().context("no database")?.url();
    std::fs::write(&world.config, world.toml("").replace(&url, &fresh.url()))?;

    for arguments in [&["serve"][..], &["db", "status"], &["tenant", "list"]] {
        let refused = world.run(arguments).await?;
        assert_eq!(refused.code(), 3, "{arguments:?}: {refused:?}");
        assert!(refused.stderr.contains("tocsin db migrate"), "{arguments:?} does not say what to type: {refused:?}");
    }
    let status = world.run(&["db", "status", "--json"]).await?;
    let pending = status.json()?;
    assert_eq!(pending.as_array().map(Vec::len), migrated.as_array().map(Vec::len));
    let schemas: i64 =
        sqlx::query_scalar("select count(*) from pg_namespace where nspname in ('tocsin', 'dash')").fetch_one(&fresh.pool).await?;
    assert_eq!(schemas, 0, "looking must not change anything");

    let mut command = e2e::harness::process::tocsin(&world.config, &["serve", "--migrate"])?;
    command.env("TOCSIN_LOG__LEVEL", "info");
    let mut daemon = Daemon::spawn(command, &world.path("daemon.log"))?;
    ready(&daemon).await?;
    let applied = world.run(&["db", "status", "--json"]).await?.ok()?.json()?;
    assert_eq!(applied, migrated);
    import(&world, Whoever).await?;
    eventually("alerts arrive in it", SOON, async || {
        let count: i64 =
            sqlx::query_scalar("select count(*) from dash.alert").fetch_one(&fresh.pool).await.map_err(|error| error.to_string())?;
        if count == 60 { Ok(()) } else { Err(count.to_string()) }
    })
    .await?;
    daemon.terminate().await?;

    // And an upgrade by hand, before the daemon is started without the option.
    let third = TestDatabase::create().await?;
    std::fs::write(&world.config, world.toml("").replace(&url, &third.url()))?;
    world.run(&["db", "migrate"]).await?.ok()?;
    world.run(&["db", "migrate"]).await?.ok()?;
    world.run(&["db", "status"]).await?.ok()?;
    let mut daemon = world.serve()?;
    ready(&daemon).await?;
    daemon.terminate().await?;
    fresh.drop_now().await?;
    third.drop_now().await?;
    world.end().await
}

#[tokio::test]
async fn whoever_waits_to_change_the_schema_says_for_whom() -> anyhow::Result<()> {
    let world = World::build(Setup::default()).await?;
    let database = world.database.as_ref().context("no database")?;
    let mut holder = database.pool.acquire().await?;
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *holder).await?;
    let key = i64::from_be_bytes(*b"migrates");
    sqlx::query("select pg_advisory_lock($1)").bind(key).execute(&mut *holder).await?;

    let mut waiting = Daemon::spawn(e2e::harness::process::tocsin(&world.config, &["db", "migrate"])?, &world.path("migrate.log"))?;
    eventually("it says for whom it waits", SOON, async || {
        let log = waiting.log().map_err(|error| error.to_string())?;
        if log.contains(&format!("pg_terminate_backend({pid})")) { Ok(()) } else { Err(log) }
    })
    .await?;
    sqlx::query("select pg_advisory_unlock($1)").bind(key).execute(&mut *holder).await?;
    let ended = waiting.ended(SOON).await?;
    assert!(ended.success(), "{ended:?}");
    drop(holder);
    world.end().await
}

/// Records as Microsoft documents their shape, with everything in them that is easily changed on the way.
const GRAPH: &[(&str, &str)] = &[
    (
        "da637551227677560813_-961444813",
        "{\n      \"@odata.type\": \"#microsoft.graph.security.alert\",\n      \"id\": \"da637551227677560813_-961444813\",\n      \"providerAlertId\": \"da637551227677560813_-961444813\",\n      \"incidentId\": \"28282\",\n      \"status\": \"new\",\n      \"severity\": \"low\",\n      \"classification\": \"unknown\",\n      \"serviceSource\": \"microsoftDefenderForEndpoint\",\n      \"detectionSource\": \"antivirus\",\n      \"tenantId\": \"b3c1b5fc-828c-45fa-a1e1-10d74f6d6e9c\",\n      \"title\": \"Suspicious execution of hidden file\",\n      \"category\": \"DefenseEvasion\",\n      \"assignedTo\": null,\n      \"createdDateTime\": \"2021-04-27T12:19:27.7211305Z\",\n      \"lastUpdateDateTime\": \"2021-05-02T14:19:01.3266667Z\",\n      \"comments\": [],\n      \"evidence\": []\n    }",
    ),
    (
        "da1_spaces",
        "{ \"id\" :\t\"da1_spaces\" ,\r\n\"title\":\"odd   spacing\"  , \"lastUpdateDateTime\" : \"2021-05-02T14:19:01Z\" ,\"empty\":{ } , \"none\" : [ ]}",
    ),
    (
        "da2_escapes",
        r#"{"id":"da2_escapes","title":"\u0000 NUL, \u00e6 and æ, \/ and /, \ud83d\ude00 and 😀","description":"half a pair: \ud83d","lastUpdateDateTime":"2021-05-02T14:19:01.1Z","createdDateTime":"2021-05-02T14:19:01.12Z"}"#,
    ),
    (
        "da3_numbers",
        r#"{"id":"da3_numbers","a":1.0e5,"b":-0.0,"c":1E400,"d":12345678901234567890.1234567890,"e":1.10,"f":0e-0,"lastUpdateDateTime":"2026-01-01T00:00:00.1234567Z"}"#,
    ),
    ("da4_Case", r#"{"id":"da4_Case","title":"one","lastUpdateDateTime":"2026-01-01T00:00:00Z"}"#),
    ("da4_CASE", r#"{"id":"da4_CASE","title":"another","lastUpdateDateTime":"2026-01-01T00:00:00Z"}"#),
    ("da5_ıssız", r#"{"id":"da5_ıssız","title":"Şüpheli işlem","lastUpdateDateTime":"2026-01-01T00:00:00Z"}"#),
    ("da5_issiz", r#"{"id":"da5_issiz","title":"Mistænkelig proces på enheden","lastUpdateDateTime":"2026-01-01T00:00:00Z"}"#),
    (
        "da6_order",
        r#"{"z":1,"id":"da6_order","a":2,"z2":{"b":1,"a":[3,2,1]},"lastUpdateDateTime":"2026-01-01T00:00:00Z","severity":"aSeverityOfNextYear"}"#,
    ),
    ("da7_twice", r#"{"id":"da7_twice","note":"first","note":"second","lastUpdateDateTime":"2026-01-01T00:00:00Z"}"#),
    ("da8_bare", r#"{"id":"da8_bare"}"#),
    ("da9_stamp", r#"{"id":"da9_stamp","lastUpdateDateTime":"yesterday","createdDateTime":""}"#),
    ("da10 / ? & % \"", r#"{"id":"da10 / ? & % \"","title":null,"lastUpdateDateTime":"9999-12-31T23:59:59.9999999Z"}"#),
];

/// The same alert as Defender for Endpoint shows it, and another.
const ENDPOINT: &[(&str, &str)] = &[
    (
        "da637472900382838869_1364969609",
        "{\n            \"id\": \"da637472900382838869_1364969609\",\n            \"incidentId\": 1126093,\n            \"investigationId\": null,\n            \"severity\": \"Low\",\n            \"status\": \"New\",\n            \"investigationState\": \"Queued\",\n            \"detectionSource\": \"WindowsDefenderAtp\",\n            \"category\": \"Execution\",\n            \"title\": \"Low-reputation arbitrary code executed by signed executable\",\n            \"alertCreationTime\": \"2021-01-26T20:33:57.7220239Z\",\n            \"lastUpdateTime\": \"2021-01-26T20:33:59.2Z\",\n            \"mitreTechniques\": [\n                \"T1064\",\n                \"T1085\"\n            ],\n            \"evidence\": []\n        }",
    ),
    ("da4_Case", r#"{"id":"da4_Case","lastUpdateTime":"2026-01-01T00:00:00.1234567Z","big":1e+06}"#),
];

/// Records nobody can store as an alert.
const NAMELESS: &[&str] = &[
    r#"{"title":"no id at all","lastUpdateDateTime":"2026-01-01T00:00:00Z"}"#,
    r#"{ "id" : null , "title":"none" }"#,
    r#"{"id":12345,"title":"a number for an id"}"#,
    r#"{"title":"\u0000"}"#,
    "7",
    "\"only a text\"",
];

#[tokio::test]
async fn documented_bodies_are_stored_byte_for_byte_and_what_has_no_id_is_kept_aside() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, content: String| std::fs::write(folder.path().join(name), content);
    std::fs::create_dir(folder.path().join("deeper"))?;
    let bodies = |records: &[(&str, &str)]| records.iter().map(|(_, body)| (*body).to_owned()).collect::<Vec<_>>().join(",\n    ");
    // One file for each way in which Microsoft's documentation shows alerts.
    write(
        "graph-list.json",
        format!(
            "{{\n  \"@odata.context\": \"https://graph.microsoft.com/v1.0/$metadata#security/alerts_v2\",\n  \"value\": [\n    {}\n  ]\n}}\n",
            bodies(&GRAPH[..5])
        ),
    )?;
    write("graph-one.json", format!("{}\n", GRAPH[5].1))?;
    write("deeper/graph-marked.json", format!("\u{feff}{}", GRAPH[6].1))?;
    write("graph-array.json", format!("[{}\r\n]", bodies(&GRAPH[7..])))?;
    write("graph-empty.json", "{\"value\":[]}".to_owned())?;
    write(
        "mde-list.json",
        format!("{{\"@odata.context\":\"https://api.security.microsoft.com/api/$metadata#Alerts\",\"value\":[{}]}}", bodies(ENDPOINT)),
    )?;
    write("graph-nameless.json", format!("{{\"value\":[{}]}}", NAMELESS.join(" , ")))?;
    write("notes.txt", "not a sample".to_owned())?;

    let cloud = Settings {
        tenants: 3,
        history: 0,
        sources: SourceMix::Mixed,
        samples: Some(folder.path().to_owned()),
        sample_stamps: SampleStamps::Start,
        ..Settings::default()
    };
    let world = World::with_tenants(Setup { cloud, ..Setup::default() }).await?;
    assert_eq!(world.cloud.samples().records, GRAPH.len() + ENDPOINT.len() + NAMELESS.len(), "{:?}", world.cloud.samples());
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;

    let pool = world.pool().await?;
    let rows: Vec<(String, String, String)> =
        sqlx::query_as("select source, alert_id, raw::text from dash.alert_version").fetch_all(&pool).await?;
    let found: BTreeMap<(&str, &str), &str> = rows.iter().map(|(source, id, raw)| ((source.as_str(), id.as_str()), raw.as_str())).collect();
    let graph = GRAPH.iter().map(|(id, body)| (("graph-alerts", *id), *body));
    let expected: BTreeMap<_, _> = graph.chain(ENDPOINT.iter().map(|(id, body)| (("mde-alerts", *id), *body))).collect();
    assert_eq!(found, expected);
    assert_eq!(rows.len(), expected.len(), "each once");

    let mut aside: Vec<Vec<u8>> = sqlx::query_scalar("select raw_bytes from dash.quarantine").fetch_all(&pool).await?;
    aside.sort();
    let mut nameless: Vec<Vec<u8>> = NAMELESS.iter().map(|record| record.as_bytes().to_vec()).collect();
    nameless.sort();
    assert_eq!(aside, nameless);

    // What can be said of them stands in the columns; a body full of escapes is no obstacle to reading all.
    let (title, severity, incident): (Option<String>, Option<String>, Option<String>) =
        sqlx::query_as("select title, severity, incident_id from dash.alert where alert_id = 'da637472900382838869_1364969609'")
            .fetch_one(&pool)
            .await?;
    assert_eq!(title.as_deref(), Some("Low-reputation arbitrary code executed by signed executable"));
    assert_eq!((severity.as_deref(), incident.as_deref()), (Some("low"), Some("1126093")));
    let listed = world.run(&["alerts", "list", "--json", "-n", "1000"]).await?.ok()?.json()?;
    assert_eq!(
        listed.as_array().map(Vec::len),
        Some(usize::try_from(sqlx::query_scalar::<_, i64>("select count(*) from dash.alert").fetch_one(&pool).await?)?)
    );
    daemon.terminate().await?;
    world.end().await
}

/// Who runs a command: whoever runs the tests, or somebody else.
trait Runner {
    fn command(&self, world: &World, arguments: &[&str]) -> anyhow::Result<Command>;
    fn own(&self, path: &Path) -> anyhow::Result<()>;
}

struct Whoever;

impl Runner for Whoever {
    fn command(&self, world: &World, arguments: &[&str]) -> anyhow::Result<Command> {
        e2e::harness::process::tocsin(&world.config, arguments)
    }

    fn own(&self, _: &Path) -> anyhow::Result<()> {
        Ok(())
    }
}

/// An ordinary user.
pub(crate) struct Somebody {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Somebody {
    /// `nobody`, if we are root; otherwise we are one already.
    pub(crate) fn ordinary() -> anyhow::Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self { uid: geteuid().as_raw(), gid: rustix::process::getegid().as_raw() });
        }
        let users = std::fs::read_to_string("/etc/passwd")?;
        let line = users.lines().find(|line| line.starts_with("nobody:")).context("this machine has no user nobody")?;
        let mut numbers = line.split(':').skip(2).map(str::parse);
        let (uid, gid) = (numbers.next().context("no uid")??, numbers.next().context("no gid")??);
        Ok(Self { uid, gid })
    }

    /// A command that this user types, with the binary in the folder of the world.
    fn tocsin(&self, world: &World, arguments: &[&str]) -> Command {
        let mut command = Command::new(world.path("tocsin"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", "/nonexistent");
        command.arg("--config").arg(&world.config).args(arguments).kill_on_drop(true).stdin(Stdio::null()).current_dir("/");
        if geteuid().is_root() {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    fn own_all(&self, path: &Path) -> anyhow::Result<()> {
        if !geteuid().is_root() {
            return Ok(());
        }
        chown(path, Some(self.uid), Some(self.gid))?;
        if path.is_dir() {
            for entry in std::fs::read_dir(path)? {
                self.own_all(&entry?.path())?;
            }
        }
        Ok(())
    }
}

impl Runner for &Somebody {
    fn command(&self, world: &World, arguments: &[&str]) -> anyhow::Result<Command> {
        Ok(self.tocsin(world, arguments))
    }

    fn own(&self, path: &Path) -> anyhow::Result<()> {
        self.own_all(path)
    }
}

/// Imports all customers of the world, as this runner.
async fn import(world: &World, who: impl Runner) -> anyhow::Result<()> {
    let csv = world.write_private("tenants.csv", &world.csv(&world.cloud.tenants()))?;
    who.own(&csv)?;
    finish(who.command(world, &["tenant", "import", &csv.display().to_string()])?, "").await?.ok()?;
    Ok(())
}

/// Waits until the daemon does its job.
async fn ready(daemon: &Daemon) -> anyhow::Result<()> {
    eventually("/readyz is 200", SOON, async || match daemon.ops("/readyz").await {
        Ok((200, _)) => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await
}
