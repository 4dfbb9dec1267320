//! `tocsin doctor`: it finds what is wrong, says how to mend it, and its archive can be shown to anybody.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use e2e::harness::canary::Scanner;
use e2e::harness::{Setup, World, eventually};
use flate2::read::GzDecoder;
use simulator::{Effect, Endpoint, Poison, RetryAfter, Rule, Settings, Source, SourceMix};

const MARKER: &str = "CANARY-4b7e60d1aa_c3";
const SOON: Duration = Duration::from_secs(60);

/// The checks of a diagnosis: title, outcome, what was found.
fn checks(diagnosis: &serde_json::Value) -> Vec<(String, String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let checks = diagnosis["checks"].as_array().cloned().unwrap_or_default();
    checks.iter().map(|check| (text(&check["title"]), text(&check["outcome"]), text(&check["found"]))).collect()
}

/// The files of an archive, by name.
pub(crate) fn unpack(path: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut archive = tar::Archive::new(GzDecoder::new(std::fs::File::open(path)?));
    let mut files = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.push((name, content));
    }
    Ok(files)
}

/// A world whose daemon can be asked where the configuration says, with a second app and cloud that carry the marker.
async fn world() -> anyhow::Result<World> {
    let cloud = Settings { tenants: 3, history: 5, sources: SourceMix::Both, ..Settings::default() };
    let world = World::build(Setup { cloud, ..Setup::default() }).await?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let secret = world.write_private("other.secret", &format!("secret-{MARKER}"))?;
    let url = world.cloud.base_url();
    let extra = format!(
        "[clouds.{MARKER}]\nlogin_url = \"{url}/{MARKER}\"\ngraph_url = \"{url}\"\nallow_plaintext = true\n\
         [apps.{MARKER}]\nclient_id = \"{MARKER}\"\nclient_secret_file = \"{}\"\nclient_secret_expires = \"2099-01-01\"\n",
        secret.display()
    );
    world.write_private("tocsin.toml", &world.toml(&extra).replace("127.0.0.1:0", &port))?;
    world.import_all().await?;
    Ok(world)
}

#[tokio::test]
async fn a_diagnosis_names_what_is_wrong_and_who_mends_it() -> anyhow::Result<()> {
    let world = world().await?;
    let tenants = world.cloud.tenants();
    let before = world.run(&["doctor", "--json"]).await?;
    assert_eq!(before.code(), 3, "no daemon runs: {before:?}");
    let found = checks(&before.json()?);
    assert!(found.iter().any(|(title, outcome, _)| title == "daemons" && outcome == "fail"), "{found:?}");

    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    let diagnosis = eventually("all is well", SOON, async || {
        let run = world.run(&["doctor", "--json"]).await.map_err(|error| error.to_string())?;
        if run.code() == 0 { run.json().map_err(|error| error.to_string()) } else { Err(format!("{run:?}")) }
    })
    .await?;
    assert_eq!(diagnosis["ok"], true);
    let found = checks(&diagnosis);
    for title in [
        "configuration",
        "key ring",
        "database",
        "roles and grants",
        "dashboards' role",
        "data keys",
        "daemons",
        "leases",
        "hosts",
        "throttling",
        "quarantine",
        "dead rows",
        "our clock",
        "tenants",
    ] {
        assert!(found.iter().any(|(of, outcome, _)| of == title && outcome == "ok"), "{title}: {found:?}");
    }
    let numbers: Vec<_> = diagnosis["checks"].as_array().context("checks")?.iter().map(|check| check["number"].as_u64()).collect();
    assert_eq!(numbers, (1..=found.len() as u64).map(Some).collect::<Vec<_>>());

    // One tenant runs out of time, another is in trouble.
    world.run(&["tenant", "set", &tenants[0].name, "--access-expires", "2020-01-01"]).await?.ok()?;
    world.cloud.revoke(tenants[1].directory_id, 50173)?;
    sqlx::query(
        "insert into tocsin.trouble (tenant, origin, verdict, reason, action, error_code) values ($1, 'sign-in', 'needs-consent', 'dead', 'you: act', 'AADSTS50173')
         on conflict (tenant, origin) do nothing",
    )
    .bind(tenants[1].directory_id)
    .execute(&world.pool().await?)
    .await?;
    let shown = world.run(&["doctor"]).await?;
    assert_eq!(shown.code(), 3, "{shown:?}");
    assert!(shown.stdout.contains("AADSTS50173") && shown.stdout.contains(&format!("({})", tenants[1].name)), "{}", shown.stdout);
    assert!(shown.stdout.contains("why: ") && shown.stdout.contains("fix: "), "{}", shown.stdout);
    let close = world.run(&["doctor", "--tenant", &tenants[0].name, "--json"]).await?;
    assert_eq!(close.code(), 3);
    let found = checks(&close.json()?);
    assert!(found.contains(&("clock".to_owned(), "fail".to_owned(), "access: over".to_owned())), "{found:?}");
    assert!(!close.stdout.contains("AADSTS50173"), "the other tenant is not asked about");
    assert_eq!(world.run(&["doctor", "--tenant", "nobody"]).await?.code(), 4);
    let listed = world.run(&["tenant", "list"]).await?.ok()?;
    assert!(listed.stdout.contains("access over"), "{}", listed.stdout);
    world.run(&["tenant", "set", &tenants[0].name, "--access-expires", "never"]).await?.ok()?;
    assert!(!world.run(&["tenant", "list"]).await?.ok()?.stdout.contains("access over"));
    daemon.terminate().await?;

    // A configuration that does not load is a finding as well.
    let broken = world.write_private("broken.toml", "[pol]\ninterval = \"1s\"\n")?;
    let run = e2e::harness::run(&broken, &["doctor", "--json"]).await?;
    assert_eq!(run.code(), 3, "{run:?}");
    assert!(run.stdout.contains("unknown key pol"), "{run:?}");
    world.end().await
}

/// Waits until a check of a diagnosis has this outcome, and answers what it found.
async fn judged(world: &World, title: &str, wanted: &str) -> anyhow::Result<String> {
    eventually(&format!("{title} is judged {wanted}"), SOON, async || {
        let run = world.run(&["doctor", "--json"]).await.map_err(|error| error.to_string())?;
        let found = checks(&run.json().map_err(|error| error.to_string())?);
        match found.iter().find(|(of, outcome, _)| of == title && outcome == wanted) {
            Some((.., what)) => Ok(what.clone()),
            None => Err(format!("{found:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn throttling_is_told_of_by_the_host_that_refuses_and_the_tenant_that_is_held_back() -> anyhow::Result<()> {
    let world = world().await?;
    let tenants = world.cloud.tenants();
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    judged(&world, "throttling", "ok").await?;
    let throttle = Effect::Throttle { status: 429, retry_after: RetryAfter::Seconds(1) };
    world.cloud.script(Rule::new(throttle).endpoint(Endpoint::Graph));
    let found = judged(&world, "throttling", "warn").await?;
    assert!(
        found.starts_with("graph refused ") && found.contains(" polls since the daemon began (") && !found.contains("tenant-"),
        "{found}"
    );
    world.cloud.clear_script();
    daemon.terminate().await?;

    // What the daemon counted went with it. One tenant was told to wait again and again, another one just once.
    judged(&world, "throttling", "ok").await?;
    let held_back = "update tocsin.feed set throttled_until = now() + interval '10 minutes', last_success_at = now() - $2 * interval '1 minute' where tenant = $1";
    let pool = world.pool().await?;
    for (tenant, minutes) in [(&tenants[1], 2), (&tenants[2], 10)] {
        sqlx::query(held_back).bind(tenant.directory_id).bind(minutes).execute(&pool).await?;
    }
    let run = world.run(&["doctor"]).await?;
    let told = format!("throttling: tenant-3 ({}) (nothing read for 10 min)", tenants[2].name);
    assert!(run.stdout.contains(&told) && run.stdout.contains("nothing else calls with this app"), "{}", run.stdout);
    sqlx::query("update tocsin.feed set throttled_until = now() - interval '1 second'").execute(&pool).await?;
    judged(&world, "throttling", "ok").await?;
    world.end().await
}

#[tokio::test]
async fn records_that_wait_for_a_person_and_rows_that_wait_for_a_vacuum_are_told_of() -> anyhow::Result<()> {
    let world = world().await?;
    let tenant = world.cloud.tenants().remove(0);
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    judged(&world, "quarantine", "ok").await?;
    world.cloud.publish_poison(tenant.directory_id, Source::GraphAlerts, Poison::InvalidUtf8, "da-broken")?;
    let found = judged(&world, "quarantine", "warn").await?;
    assert_eq!(found, format!("tenant-1 ({}) (1 record)", tenant.name));
    let shown = world.run(&["doctor"]).await?;
    assert!(shown.stdout.contains("tocsin quarantine list"), "{}", shown.stdout);

    let pool = world.pool().await?;
    judged(&world, "dead rows", "ok").await?;
    sqlx::raw_sql(
        "alter table tocsin.gap set (autovacuum_enabled = off);
         insert into tocsin.gap (tenant, source, from_ticks, to_ticks, reason)
             select tenant, 'graph-alerts', n, n + 1, 'made up' from tocsin.tenant, generate_series(1, 5000) n;
         delete from tocsin.gap;
         select pg_stat_force_next_flush()",
    )
    .execute(&pool)
    .await?;
    let found = judged(&world, "dead rows", "warn").await?;
    assert!(found.contains("tocsin.gap (100 % of 15000 rows") && found.contains("never vacuumed"), "{found}");
    let shown = world.run(&["doctor"]).await?;
    assert!(shown.stdout.contains("vacuum (analyze) tocsin.gap; if they come back"), "{}", shown.stdout);
    sqlx::raw_sql("vacuum (analyze) tocsin.gap").execute(&pool).await?;
    judged(&world, "dead rows", "ok").await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn the_archive_holds_no_secret_and_no_name() -> anyhow::Result<()> {
    let world = world().await?;
    let tenants = world.cloud.tenants();
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    // Whatever a name or a sentence of the database may hold, the marker stands in it.
    let pool = world.pool().await?;
    for statement in [
        format!("update tocsin.tenant set name = name || ' {MARKER}'"),
        format!(
            "insert into tocsin.trouble (tenant, origin, verdict, reason, action, error_code)
             select tenant, 'sign-in', 'needs-customer', '{MARKER}', '{MARKER}', 'AADSTS53003' from tocsin.tenant on conflict do nothing"
        ),
        format!("update tocsin.feed set last_error = '{MARKER}'"),
        format!("update tocsin.replica set host = '{MARKER}'"),
        format!(
            "insert into tocsin.gap (tenant, source, from_ticks, to_ticks, reason) select tenant, 'graph-alerts', 0, 1, '{MARKER}' from tocsin.tenant"
        ),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&pool).await?;
    }
    let path = world.path("ticket.tar.gz");
    let run = world.run(&["doctor", "--bundle", &path.display().to_string()]).await?;
    assert_eq!(run.code(), 3, "{run:?}");
    assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
    let close = world.path("close.tar.gz");
    let closely = ["doctor", "--tenant", &tenants[0].directory_id.to_string(), "--bundle", &close.display().to_string()];
    assert_eq!(world.run(&closely).await?.code(), 3);
    daemon.terminate().await?;

    let client_secret = world.cloud.client_secret().to_owned();
    let folder = world.folder().display().to_string();
    let mut secrets: Vec<(&'static str, Vec<u8>)> = vec![
        ("marker", MARKER.as_bytes().to_vec()),
        ("client secret", client_secret.into_bytes()),
        ("client id", world.cloud.client_id().to_string().into_bytes()),
        ("folder", folder.into_bytes()),
        ("database", world.database.as_ref().context("a database")?.url().into_bytes()),
        ("cloud", world.cloud.base_url().to_string().into_bytes()),
    ];
    for tenant in &tenants {
        secrets.push(("name", tenant.name.clone().into_bytes()));
        secrets.push(("domain", tenant.domain.clone().into_bytes()));
        secrets.push(("id", tenant.directory_id.to_string().into_bytes()));
        secrets.push(("simple id", tenant.directory_id.simple().to_string().into_bytes()));
        secrets.push(("token", tenant.refresh_token.clone().into_bytes()));
    }
    let secrets: Vec<(&'static str, &[u8])> = secrets.iter().map(|(name, secret)| (*name, secret.as_slice())).collect();
    let scanner = Scanner::of(&secrets);
    assert!(!scanner.hits(world.run(&["doctor"]).await?.stdout.as_bytes()).is_empty(), "the terminal shows names: the scanner works");
    for archive in [&path, &close] {
        let files = unpack(archive)?;
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        let expected = ["README.txt", "doctor.json", "config.json", "versions.json", "health.json", "counts.json", "metrics.txt"];
        assert_eq!(names, expected.map(|name| format!("tocsin-doctor/{name}")));
        for (name, content) in &files {
            assert!(!content.is_empty(), "{name}");
            assert!(scanner.hits(content).is_empty(), "{name} tells {:?}", scanner.hits(content));
        }
        // And it says something all the same.
        let text = |wanted: &str| {
            let found =
                files.iter().find(|(name, _)| name.ends_with(wanted)).map(|(_, content)| String::from_utf8_lossy(content).into_owned());
            found.unwrap_or_default()
        };
        let doctor: serde_json::Value = serde_json::from_str(&text("doctor.json"))?;
        assert_eq!(doctor["tenants"][0]["tenant"], "tenant-1");
        assert!(text("doctor.json").contains("AADSTS53003"));
        assert!(text("metrics.txt").contains("tocsin_build_info"));
        assert!(text("config.json").contains("poll.interval") && text("config.json").contains("1s"));
    }
    let raw = std::fs::read(&path)?;
    assert!(scanner.hits(&raw).is_empty(), "nor the archive as it lies there: {:?}", scanner.hits(&raw));
    world.end().await
}
