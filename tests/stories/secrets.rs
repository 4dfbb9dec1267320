//! A refresh token, a client secret, an access token and a key are found nowhere but where they belong (I13, I14).
//!
//! Everything secret in this world carries a marker. After everything that can happen to a token has happened, at
//! the most talkative log level, every place that somebody else may read ([`places::Place`]) is searched for the marker in
//! the seven forms in which a secret gets written down by accident ([`Form`]).

mod consent;
mod places;

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use e2e::harness::canary::{Form, Scanner, from_base64};
use e2e::harness::{Finished, Setup, World, eventually, process, run_in};
use simulator::{Effect, Endpoint, OddToken, Outage, Rule, Settings, SimTenant, SourceMix};

use places::{Place, Places, machine_keeps_cores, serve_where_cores_land};

const SOON: Duration = Duration::from_secs(60);
const MARKER: &str = "CANARY-9d41f7c0b2_e5";

/// The whole database, or one schema, as `pg_dump` writes it.
async fn dump(world: &World, options: &[&str]) -> anyhow::Result<Vec<u8>> {
    let programs = local_postgres::find_programs(None)?;
    let running = local_postgres::attach(&world.path("state/postgres"))?.context("no embedded server runs")?;
    let output = tokio::process::Command::new(programs.bindir().join("pg_dump"))
        .arg(running.url)
        .args(options)
        .stdin(Stdio::null())
        .output()
        .await?;
    anyhow::ensure!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

/// Polls and commands with everything that goes wrong in between, while the daemon logs all it can.
async fn live_through_everything(world: &World, tenants: &[SimTenant]) -> anyhow::Result<()> {
    let rotated = |tenant: &SimTenant| {
        let journal = world.cloud.journal();
        journal
            .iter()
            .filter(|entry| entry.endpoint == Endpoint::Token && entry.tenant == Some(tenant.directory_id) && entry.status == 200)
            .count()
    };
    let rotations = async |more: usize| {
        let before: Vec<_> = tenants.iter().map(rotated).collect();
        eventually("tokens are rotated", SOON, async || {
            if tenants.iter().zip(&before).all(|(tenant, before)| rotated(tenant) >= before + more) { Ok(()) } else { Err("not yet") }
        })
        .await
    };
    rotations(2).await?;
    // What an API and a sign-in service can say, each of it at least once.
    let at = |endpoint, effect| Rule::new(effect).endpoint(endpoint);
    for rule in [
        at(Endpoint::Graph, Effect::Unauthorized { claims: false }).times(3),
        at(Endpoint::Graph, Effect::Forbidden { code: None }).times(2),
        at(Endpoint::Graph, Effect::Outage(Outage::InternalError)).times(2),
        at(Endpoint::Graph, Effect::Outage(Outage::Reset)).times(2),
        at(Endpoint::Graph, Effect::Html { status: 200 }).times(2),
        at(Endpoint::Graph, Effect::ForeignNextLink { url: "http://127.0.0.1:1/elsewhere".to_owned() }).times(4),
        at(Endpoint::Token, Effect::Html { status: 200 }).times(2),
        at(Endpoint::Token, Effect::Outage(Outage::Reset)).times(2),
        at(Endpoint::Token, Effect::OddToken(OddToken::Opaque)).times(4),
    ] {
        world.cloud.script(rule);
    }
    rotations(3).await?;
    world.cloud.clear_script();
    let (dead, foreign) = (&tenants[0], &tenants[1]);
    world.cloud.script(Rule::new(Effect::OddToken(OddToken::WrongTenant)).tenant(foreign.directory_id));
    world.cloud.revoke(dead.directory_id, 50173)?;
    for tenant in [dead, foreign] {
        world.healthy_when(tenant.directory_id, "the trouble is told", SOON, |health| health.state == "needs-consent").await?;
    }
    world.cloud.clear_script();
    world.run(&["tenant", "resume", &foreign.name]).await?.ok()?;
    // A fresh consent, first refused and then asked for.
    let fresh = SimTenant { refresh_token: world.cloud.issue_refresh_token(dead.directory_id)?, ..dead.clone() };
    let csv = world.csv(&[fresh]);
    anyhow::ensure!(run_in(&world.config, &["tenant", "import", "-"], &csv, &[("RUST_LOG", "trace")]).await?.code() == 1);
    run_in(&world.config, &["tenant", "import", "--replace-token", "-"], &csv, &[]).await?.ok()?;
    world.healthy_when(dead.directory_id, "it is well again", SOON, |health| health.state == "active").await?;
    rotations(1).await
}

/// Everything that a command can be told to log, besides all that it prints.
const TRACE: [(&str, &str); 1] = [("RUST_LOG", "trace,hyper=trace,hyper_util=trace,reqwest=trace,rustls=trace,sqlx=trace,h2=trace")];

/// What an operator asks for, besides imports.
const COMMANDS: &[&[&str]] = &[
    &["tenant", "list", "--json"],
    &["tenant", "list"],
    &["tenant", "show", "{tenant}", "--json"],
    &["tenant", "show", "{tenant}"],
    &["config", "show", "--json"],
    &["config", "show"],
    &["config", "check"],
    &["key", "status", "--json"],
    &["key", "init"],
    &["alerts", "list", "--json"],
    &["alerts", "tail", "--no-follow", "--json"],
    &["db", "status"],
    &["tenant", "pause", "{tenant}"],
    &["tenant", "resume", "{tenant}"],
];

/// What an auditor gets to see.
const AUDIT: &[&[&str]] = &[
    &["audit", "list", "-n", "100000"],
    &["audit", "list", "-n", "100000", "--json"],
    &["audit", "verify", "--json"],
    &["audit", "heads"],
];

fn add_output(places: &mut Places, name: &str, ended: &Finished) {
    places.add(Place::CommandOutput, name, format!("{}{}", ended.stdout, ended.stderr));
}

/// Everything that a diagnosis writes for others to see, and the audit log in every form that it leaves the house in.
async fn diagnose_and_audit(world: &World, environment: &[(&str, &str)], places: &mut Places) -> anyhow::Result<()> {
    let archive = world.path("ticket.tar.gz");
    let diagnosis = run_in(&world.config, &["doctor", "--bundle", &archive.display().to_string()], "", environment).await?;
    add_output(places, "doctor", &diagnosis);
    places.add(Place::DoctorBundle, "as it lies there", std::fs::read(&archive)?);
    for (name, content) in super::doctor::unpack(&archive)? {
        places.add(Place::DoctorBundle, name, content);
    }
    for arguments in AUDIT {
        let told = run_in(&world.config, arguments, "", environment).await?.ok()?;
        places.add(Place::AuditLog, arguments.join(" "), format!("{}{}", told.stdout, told.stderr));
    }
    let rows: Vec<String> = sqlx::query_scalar("select a::text from tocsin.audit a union all select h::text from tocsin.audit_head h")
        .fetch_all(&world.pool().await?)
        .await?;
    places.add(Place::AuditLog, "the tables", rows.join("\n"));
    Ok(())
}

/// Imports all customers in every way there is, with a look at a command while it holds tokens.
async fn import_all(world: &World, tenants: &[SimTenant], places: &mut Places) -> anyhow::Result<()> {
    let csv = world.write_private("tenants.csv", &world.csv(&tenants[1..]))?;
    let imported = run_in(&world.config, &["tenant", "import", &csv.display().to_string()], "", &TRACE).await?.ok()?;
    add_output(places, "import", &imported);
    let one = &tenants[0];
    let directory = one.directory_id.to_string();
    let sources = ["--source", "graph-alerts", "--source", "mde-alerts"];
    let add = [&["tenant", "add", &one.name, "--tenant", &directory, "--cloud", "lab"], &sources[..], &["--refresh-token-stdin"]].concat();
    add_output(places, "add", &run_in(&world.config, &add, &one.refresh_token, &TRACE).await?.ok()?);

    // A token in the wrong column is not repeated either. While the command waits for the rest it is looked at.
    let shifted = format!(
        "directory_id,name,cloud,app,sources,refresh_token\n{0},Name,{1},main,graph-alerts,\n{0},{1},lab,main,graph-alerts\n{1}\n",
        uuid::Uuid::from_u128(7),
        one.refresh_token
    );
    add_output(places, "refused import", &run_in(&world.config, &["tenant", "import", "-"], &shifted, &TRACE).await?);
    let mut waiting = process::tocsin(&world.config, &["tenant", "import", "-"])?;
    let mut waiting = waiting.envs(TRACE).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let pid = waiting.id().context("it has ended")?;
    places.add_process("tenant import", pid).await?;
    drop(waiting.stdin.take());
    waiting.wait().await?;
    Ok(())
}

/// Postgres itself writes down every statement with what was bound to it, from its next start on.
async fn let_postgres_tell_all(world: &World) -> anyhow::Result<()> {
    let pool = world.pool().await?;
    for setting in [
        "log_statement = 'all'",
        "log_parameter_max_length = -1",
        "log_parameter_max_length_on_error = -1",
        "log_min_duration_statement = 0",
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("alter system set {setting}"))).execute(&pool).await?;
    }
    Ok(())
}

/// An access token as this pretend Microsoft makes them, to see that the search would know one.
async fn an_access_token(world: &World, tenant: &SimTenant) -> anyhow::Result<String> {
    let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let form = format!(
        "grant_type=refresh_token&client_id={}&client_secret={}&refresh_token={}&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default",
        world.cloud.client_id(),
        escaped(world.cloud.client_secret()),
        escaped(&tenant.refresh_token)
    );
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/{}/oauth2/v2.0/token", world.cloud.base_url(), tenant.directory_id);
    let asked = client.post(url).header("content-type", "application/x-www-form-urlencoded").body(form);
    let answer: serde_json::Value = serde_json::from_str(&asked.send().await?.text().await?)?;
    Ok(answer["access_token"].as_str().with_context(|| format!("no access token: {}", answer["error"]))?.to_owned())
}

#[tokio::test]
async fn no_secret_is_found_outside_of_its_place_whatever_happens() -> anyhow::Result<()> {
    let cloud = Settings {
        tenants: 4,
        history: 20,
        sources: SourceMix::Both,
        marker: Some(MARKER.to_owned()),
        access_lifetime: (Duration::from_secs(3), Duration::from_secs(4)),
        ..Settings::default()
    };
    let door = consent::Door::open().await?;
    let world = World::build(Setup { cloud, embedded: true, config: door.config() }).await?;
    let mut tenants = world.cloud.tenants();
    let newcomer = tenants.pop().context("a customer who is invited")?;
    let mut places = Places::default();
    import_all(&world, &tenants, &mut places).await?;

    let mut daemon = world.serve_with(&TRACE)?;
    daemon.ops_address().await?;
    let_postgres_tell_all(&world).await?;
    daemon.terminate().await?;
    let temporary = world.path("tmp");
    std::fs::create_dir(&temporary)?;
    let talkative = [TRACE[0], ("TMPDIR", temporary.to_str().context("a path that is no text")?)];
    let mut daemon = world.serve_with(&talkative)?;
    daemon.ops_address().await?;
    live_through_everything(&world, &tenants).await?;
    let tickets = consent::connect(&world, &daemon, &door, &newcomer, &talkative, &mut places).await?;

    for path in ["/metrics", "/readyz", "/livez", "/startupz", "/nowhere"] {
        let (status, body) = daemon.ops(path).await?;
        let place = if path == "/metrics" { Place::Metrics } else { Place::HttpBodies };
        places.add(place, path, format!("{status} {body}"));
    }
    places.add_process("serve", daemon.pid()?).await?;
    for arguments in COMMANDS {
        let arguments: Vec<&str> =
            arguments.iter().map(|word| if *word == "{tenant}" { tenants[0].name.as_str() } else { *word }).collect();
        add_output(&mut places, &arguments.join(" "), &run_in(&world.config, &arguments, "", &talkative).await?);
    }
    diagnose_and_audit(&world, &talkative, &mut places).await?;
    for (name, options) in
        [("all", &[][..]), ("the private schema", &["--schema", "tocsin", "--inserts"]), ("the read side", &["--schema", "dash"])]
    {
        places.add(Place::Dump, name, dump(&world, options).await?);
    }
    world.settled(SOON).await?;
    // The folder with the data files, the write-ahead log and the server's log, while it runs and after it ended.
    let own = ["app.secret", "tenants.csv", "keys/ring"].map(|file| world.path(file));
    places.add_files(world.folder(), &own)?;
    daemon.terminate().await?;
    places.add_files(world.folder(), &own)?;
    crash(&world, &talkative, &mut places).await?;

    let ring = std::fs::read_to_string(world.path("keys/ring"))?;
    let text = ring.split_whitespace().last().context("a key")?;
    let key = from_base64(text);
    assert_eq!(key.len(), 32);
    let mut secrets: Vec<(&'static str, &[u8])> =
        vec![("the marker", MARKER.as_bytes()), ("the ring key", &key), ("the ring key's text", text.as_bytes())];
    secrets.extend(tickets.iter().map(|(name, ticket)| (*name, ticket.as_bytes())));
    let scanner = Scanner::of(&secrets);
    looks_where_it_should(&world, &tenants, &places, &scanner).await?;

    let hits = places.hits(&scanner);
    assert!(hits.is_empty(), "{}", hits.join("\n"));
    world.end().await
}

/// The daemon is ended as by a bug of its own, with tokens in its memory, where nothing else keeps a core from being made.
async fn crash(world: &World, environment: &[(&str, &str)], places: &mut Places) -> anyhow::Result<()> {
    let cores = world.path("cores");
    std::fs::create_dir(&cores)?;
    let keeps = machine_keeps_cores(&cores)?;
    places.add(Place::Core, "this machine", format!("keeps a core of whoever allows it, in the folder that it runs in: {keeps}"));
    let mut daemon = serve_where_cores_land(world, &cores, environment)?;
    world.cloud.clear_journal();
    eventually("it holds tokens", SOON, async || {
        let granted = world.cloud.journal().iter().filter(|entry| entry.endpoint == Endpoint::Token && entry.status == 200).count();
        if granted >= 3 { Ok(()) } else { Err(granted) }
    })
    .await?;
    places.add_core(&mut daemon, &cores).await
}

/// The places are there, they are full, what is planted in any of them in any form is found, and so is each secret where it
/// belongs.
async fn looks_where_it_should(world: &World, tenants: &[SimTenant], places: &Places, scanner: &Scanner) -> anyhow::Result<()> {
    for place in Place::ALL {
        assert!(places.has(place), "nothing was collected from {place:?}");
    }
    let found = places.found_when_planted(scanner, MARKER.as_bytes());
    let all: Vec<_> = Place::ALL.iter().flat_map(|place| Form::ALL.map(|form| (*place, form))).collect();
    let missed: Vec<_> = all.iter().filter(|pair| !found.contains(pair)).collect();
    assert!(all.len() >= 12 * 7 && missed.is_empty(), "planted and not found: {missed:?}");

    let told = places.text(Place::DaemonLog, "daemon-1.log")?;
    assert!(told.contains("\"DEBUG\"") && told.lines().count() > 50, "the daemon told all it could: {} lines", told.lines().count());
    let server = places.text(Place::PostgresLog, "server.log")?;
    assert!(server.contains("tocsin.tenant_secret"), "Postgres wrote the statements down");
    assert!(server.contains("parameters: $1"), "with what was bound to them");
    let dumped = places.text(Place::Dump, "all")?;
    assert!(dumped.contains("COPY tocsin.tenant_secret") && dumped.contains(&tenants[0].name));
    let doctor = places.text(Place::DoctorBundle, "doctor.json")?;
    assert!(doctor.contains("\"tenant-4\""), "{doctor}");
    let audit = places.text(Place::AuditLog, "the tables")?;
    for action in ["tenant.add", "tenant.update", "tenant.pause", "tenant.connect", "consent.refused"] {
        assert!(audit.contains(action) && places.text(Place::AuditLog, "--json")?.contains(action), "{action}: {audit}");
    }
    assert!(places.text(Place::ConsentPages, "the end")?.contains("Connected. Thank you"));
    assert!(places.bytes() > 10_000_000, "{} bytes", places.bytes());

    let belongs = |file: &str, secret: &str| -> anyhow::Result<bool> { Ok(knows(scanner, &std::fs::read(world.path(file))?, secret)) };
    assert!(belongs("app.secret", "the marker")? && belongs("tenants.csv", "the marker")?);
    assert!(belongs("keys/ring", "the ring key")? && belongs("keys/ring", "the ring key's text")?);
    assert!(tenants.iter().all(|tenant| knows(scanner, tenant.refresh_token.as_bytes(), "the marker")));
    assert!(knows(scanner, an_access_token(world, &tenants[2]).await?.as_bytes(), "the marker"));
    Ok(())
}

fn knows(scanner: &Scanner, content: &[u8], secret: &str) -> bool {
    scanner.hits(content).iter().any(|(name, _)| *name == secret)
}
