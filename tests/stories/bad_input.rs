//! Bad input: each ends in one sentence that says what, where and what to do, and in the exit code of the contract.

mod configuration;
mod imports;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, ensure};
use e2e::harness::{Finished, Pooler, Setup, World, run, run_in};
use simulator::{Settings, SourceMix};

const GOOD: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1";
const HEADER: &str = "directory_id,name,cloud,app,sources,refresh_token";

async fn small_world() -> anyhow::Result<World> {
    World::build(Setup { cloud: Settings { tenants: 2, sources: SourceMix::GraphOnly, ..Settings::default() }, ..Setup::default() }).await
}

/// A directory id of nobody the simulator knows.
fn id(number: usize) -> String {
    format!("{GOOD}{number:02}")
}

fn mode(path: &Path, mode: u32) -> anyhow::Result<()> {
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

/// The command ended with this code, no data, and one sentence with these words in it.
fn refused(told: &str, ended: &Finished, code: i32, words: &[&str]) -> anyhow::Result<()> {
    let sentence = ended.complaint()?;
    ensure!(ended.code() == code, "{told}: exit {} instead of {code}: {sentence}", ended.code());
    ensure!(ended.stdout.is_empty(), "{told}: a command that failed has no data: {}", ended.stdout);
    for word in words {
        ensure!(sentence.contains(word), "{told}: {word:?} is missing in: {sentence}");
    }
    // What a programmer would read, not an operator.
    for noise in ["Error {", "Os {", "Some(", "enum ", "panicked", "RUST_BACKTRACE", "\u{1b}["] {
        ensure!(!ended.stderr.contains(noise), "{told}: {}", ended.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_or_missing_key_ring_is_named_and_nothing_is_written() -> anyhow::Result<()> {
    let world =
        World::with_tenants(Setup { cloud: Settings { tenants: 2, history: 3, ..Settings::default() }, ..Setup::default() }).await?;
    let ring = world.path("keys/ring");
    let good = std::fs::read_to_string(&ring)?;
    let status = world.run(&["key", "status", "--json"]).await?.ok()?.json()?;
    let missing_id = status[0]["id"].as_str().unwrap_or_default().to_owned();
    assert_eq!(missing_id.len(), 16, "{status}");
    let csv = world.path("tenants.csv").display().to_string();
    let before = world.dump().await?;
    assert_eq!(before["tocsin.tenant_secret"].len(), 2);

    // Another ring than the one that sealed.
    std::fs::remove_file(&ring)?;
    world.run(&["key", "init"]).await?.ok()?;
    let other = std::fs::read_to_string(&ring)?;
    assert_ne!(good, other);
    for arguments in [&["serve"][..], &["tenant", "import", &csv], &["tenant", "import", "--replace-token", &csv]] {
        let ended = world.run(arguments).await?;
        refused(&arguments.join(" "), &ended, 78, &["2 tenants", &missing_id, "restore the ring", "nothing in the database was changed"])?;
    }
    let added =
        run_in(&world.config, &["tenant", "add", "New", "--tenant", &id(1), "--cloud", "lab", "--refresh-token-stdin"], "0.token", &[])
            .await?;
    refused("tenant add", &added, 78, &[&missing_id])?;

    // Cut anywhere, glued together from two, emptied: never a key.
    let line = good.lines().last().unwrap_or_default();
    let glued =
        format!("{} {}", line.rsplit_once(' ').map_or("", |(head, _)| head), other.trim_end().rsplit_once(' ').map_or("", |(_, key)| key));
    let cases: Vec<(&str, String, &[&str])> = vec![
        ("cut in the key", good[..good.len() - 6].to_owned(), &["keys/ring", "line 3", "cut off or altered", "backup"]),
        ("cut in the id", good[..good.len() - 50].to_owned(), &["keys/ring", "line 3"]),
        ("glued", glued, &["keys/ring", "line 1", "do not belong together"]),
        (
            "comments only",
            good.lines().take(2).map(|line| format!("{line}\n")).collect(),
            &["keys/ring", "holds no key", "tocsin key init"],
        ),
        ("empty", String::new(), &["keys/ring", "holds no key"]),
        ("something else", "-----BEGIN PRIVATE KEY-----\n".to_owned(), &["keys/ring", "line 1", "tocsin-key-1"]),
    ];
    for (told, text, words) in cases {
        std::fs::write(&ring, &text)?;
        for arguments in [&["serve"][..], &["tenant", "import", &csv], &["key", "status"], &["config", "check"]] {
            let ended = world.run(arguments).await?;
            refused(&format!("{told}: {}", arguments.join(" ")), &ended, 78, words)?;
            let key = line.rsplit(' ').next().unwrap_or(line);
            assert!(!ended.stderr.contains(&key[..20]), "{told}: a message shows key material");
        }
    }
    std::fs::write(&ring, &good)?;
    for open in [0o644, 0o604, 0o620, 0o602] {
        mode(&ring, open)?;
        for arguments in [&["serve"][..], &["tenant", "import", &csv], &["config", "check"]] {
            refused("open to others", &world.run(arguments).await?, 78, &["keys/ring", &format!("mode {open:03o}"), "chmod 600"])?;
        }
    }
    std::fs::remove_file(&ring)?;
    for arguments in [&["serve"][..], &["tenant", "import", &csv], &["key", "status"], &["config", "check"]] {
        refused("missing", &world.run(arguments).await?, 78, &["keys/ring", "tocsin key init", "restore"])?;
    }
    assert_eq!(world.dump().await?, before, "the database is as it was, row for row and write for write");

    // With the right ring all is well, and the foreign one may stand behind it.
    std::fs::write(&ring, format!("{good}{other}"))?;
    mode(&ring, 0o600)?;
    let mut daemon = world.serve()?;
    world.settled(std::time::Duration::from_secs(30)).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_told_with_its_place_and_the_fitting_exit_code() -> anyhow::Result<()> {
    let world = small_world().await?;
    let url = world.database.as_ref().map(|database| database.url()).unwrap_or_default();
    let name = world.database.as_ref().map(|database| database.name().to_owned()).unwrap_or_default();
    let plain = world.toml("");
    let nobody = url.replacen("postgres://", "postgres://no_such_login_of_tocsin:hunter2@", 1);
    let nobody = nobody.replacen(&format!("@{}", &url["postgres://".len()..=url.find('@').unwrap_or(0)]), "@", 1);
    let cases: Vec<(&str, String, i32, &[&str])> = vec![
        ("nobody listens", "postgres://tocsin@127.0.0.1:1/tocsin".to_owned(), 69, &["tocsin at 127.0.0.1:1", "[database] url", "runs"]),
        ("no such socket", "postgres://tocsin@localhost/tocsin?host=/nonexistent".to_owned(), 69, &["/nonexistent", "[database] url"]),
        (
            "no such database",
            url.replace(&name, "no_such_database_of_tocsin"),
            69,
            &["no_such_database_of_tocsin", "does not exist", "createdb"],
        ),
        ("no such login", nobody, 77, &["refuses the login", "no_such_login_of_tocsin", "check user and password"]),
    ];
    for (told, other, code, words) in cases {
        let file = world.write_private("tocsin.toml", &plain.replace(&url, &other))?;
        for arguments in [&["serve"][..], &["db", "status"], &["db", "migrate"], &["tenant", "list", "--json"], &["alerts", "list"]] {
            let ended = run(&file, arguments).await?;
            refused(&format!("{told}: {}", arguments.join(" ")), &ended, code, words)?;
            assert!(!ended.stderr.contains("hunter2"), "a password is never repeated");
        }
    }
    // The same from a file of its own, which nobody else may read.
    let secret = world.write_private("database.url", "postgres://tocsin:hunter2@127.0.0.1:1/tocsin\n")?;
    let by_file = plain.replace(&format!("url = \"{url}\""), &format!("url_file = \"{}\"", secret.display()));
    let file = world.write_private("tocsin.toml", &by_file)?;
    refused("by file", &run(&file, &["tenant", "list"]).await?, 69, &["tocsin at 127.0.0.1:1"])?;
    mode(&secret, 0o644)?;
    refused("a file for all", &run(&file, &["tenant", "list"]).await?, 78, &["database.url", "mode 644", "chmod 600"])?;
    std::fs::write(&secret, "\n")?;
    mode(&secret, 0o600)?;
    refused("an empty file", &run(&file, &["tenant", "list"]).await?, 78, &["database.url", "empty"])?;
    std::fs::remove_file(&secret)?;
    refused("a missing file", &run(&file, &["tenant", "list"]).await?, 78, &["database.url", "cannot read"])?;
    world.end().await
}

#[tokio::test]
async fn fault_54_a_pooler_that_mixes_up_sessions_is_told_before_anything_is_done() -> anyhow::Result<()> {
    let world = small_world().await?;
    let direct = world.database.as_ref().context("no database")?.url();
    let pooler = Pooler::start(&direct).await?;
    let file = world.config_for("behind-a-pooler", &pooler.url(&direct)?)?;
    for arguments in [&["serve"][..], &["db", "migrate"], &["tenant", "list"]] {
        let ended = run(&file, arguments).await?;
        refused(&arguments.join(" "), &ended, 78, &["pooler in transaction mode", "[database] url", "session mode"])?;
    }
    world.end().await
}

#[tokio::test]
async fn a_schema_that_does_not_fit_ends_with_the_command_to_type() -> anyhow::Result<()> {
    let world = small_world().await?;
    let pool = world.pool().await?;
    // A newer program has been here.
    sqlx::raw_sql("insert into tocsin.schema_history (version, description, success, checksum, execution_time) values (9999, 'of the future', true, '', 0)").execute(&pool).await?;
    for arguments in [&["serve"][..], &["tenant", "list"], &["serve", "--migrate"], &["db", "migrate"]] {
        refused(&arguments.join(" "), &world.run(arguments).await?, 3, &["9999", "newer tocsin"])?;
    }
    let status = world.run(&["db", "status"]).await?;
    assert_eq!(status.code(), 3);
    assert!(status.complaint()?.contains("9999"), "{status:?}");
    // Nobody has been here.
    sqlx::raw_sql("drop schema dash cascade; drop schema tocsin cascade").execute(&pool).await?;
    for arguments in [&["serve"][..], &["tenant", "list"]] {
        refused(&arguments.join(" "), &world.run(arguments).await?, 3, &["migration", "0001_tenants", "type: tocsin db migrate"])?;
    }
    let status = world.run(&["db", "status", "--json"]).await?;
    assert_eq!(status.code(), 3);
    assert!(status.json()?.as_array().is_some_and(|rows| rows.iter().all(|row| row["applied"] == false)), "{status:?}");
    world.run(&["db", "migrate"]).await?.ok()?;
    world.run(&["db", "status"]).await?.ok()?;
    world.end().await
}

#[tokio::test]
async fn a_secret_file_that_is_missing_empty_or_open_to_others_stops_the_start() -> anyhow::Result<()> {
    let world = small_world().await?;
    let secret = world.path("app.secret");
    for (told, arguments) in [("serve", &["serve"][..]), ("check", &["config", "check"])] {
        mode(&secret, 0o644)?;
        refused(told, &world.run(arguments).await?, 78, &["app.secret", "client secret", "mode 644", "chmod 600"])?;
        mode(&secret, 0o600)?;
        std::fs::write(&secret, "\n")?;
        refused(told, &world.run(arguments).await?, 78, &["app.secret", "empty", "client secret"])?;
        std::fs::rename(&secret, world.path("moved.secret"))?;
        refused(told, &world.run(arguments).await?, 78, &["app.secret", "cannot read"])?;
        world.write_private("app.secret", world.cloud.client_secret())?;
    }
    // Key ring and app credential in one place: a word of warning, or a refusal where that is wanted.
    let beside = world.path("keys/app.secret");
    std::fs::rename(&secret, &beside)?;
    let text = world.toml("").replace(&secret.display().to_string(), &beside.display().to_string());
    world.write_private("tocsin.toml", &text)?;
    let warned = world.run(&["config", "check"]).await?.ok()?;
    assert!(warned.stderr.contains("warning") && warned.stderr.contains("one leak takes both"), "{warned:?}");
    let strict = run_in(&world.config, &["serve"], "", &[("TOCSIN_VAULT__REQUIRE_SEPARATION", "true")]).await?;
    refused("together", &strict, 78, &["vault.key_file", "apps.main.client_secret_file", "/keys"])?;
    world.end().await
}

#[tokio::test]
async fn what_cannot_be_typed_ends_with_2_and_what_does_not_exist_with_4() -> anyhow::Result<()> {
    let world = World::with_tenants(Setup { cloud: Settings { tenants: 2, ..Settings::default() }, ..Setup::default() }).await?;
    for (arguments, words) in [
        (&["serv"][..], &["serv", "serve"][..]),
        (&["tenant"], &["import", "Usage"]),
        (&["tenant", "imprt", "x"], &["imprt", "import"]),
        (&["tenant", "import"], &["<FILE>"]),
        (&["tenant", "show"], &["<TENANT>"]),
        (&["alerts", "list", "--limit", "many"], &["many", "--limit"]),
        (&["alerts", "list", "--since", "yesterday"], &["yesterday", "--since"]),
        (&["serve", "--migrat"], &["--migrat", "--migrate"]),
        (&[], &["Usage"]),
    ] {
        let ended = world.run(arguments).await?;
        assert_eq!(ended.code(), 2, "{arguments:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{arguments:?}");
        for word in words {
            assert!(ended.stderr.contains(word), "{arguments:?}: {word:?} is missing in: {}", ended.stderr);
        }
    }
    let name = world.cloud.tenants()[0].name.clone();
    let mistyped = format!("{}x", name.to_lowercase());
    for command in ["show", "pause", "resume", "remove"] {
        let ended = world.run(&["tenant", command, &mistyped]).await?;
        refused(command, &ended, 4, &[&mistyped, "did you mean", &name])?;
        refused(command, &world.run(&["tenant", command, &id(1)]).await?, 4, &[&id(1), "no tenant"])?;
    }
    refused("list", &world.run(&["alerts", "list", "--tenant", &id(1)]).await?, 4, &[&id(1)])?;
    refused("tail", &world.run(&["alerts", "tail", "--tenant", &id(1)]).await?, 4, &[&id(1)])?;
    let empty =
        run_in(&world.config, &["tenant", "add", "New", "--tenant", &id(1), "--cloud", "lab", "--refresh-token-stdin"], "\n", &[]).await?;
    refused("no token on standard input", &empty, 2, &["standard input", "refresh token"])?;
    world.end().await
}

#[tokio::test]
async fn a_port_in_use_and_a_daemon_that_is_not_there_are_told() -> anyhow::Result<()> {
    let world = small_world().await?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    world.write_private("tocsin.toml", &world.toml("").replace("127.0.0.1:0", &address))?;
    refused("in use", &world.run(&["serve"]).await?, 5, &[&address, "[ops] listen"])?;
    drop(taken);
    refused("nobody", &world.run(&["healthcheck"]).await?, 69, &[&address, "is the daemon running"])?;
    world.end().await
}

#[tokio::test]
async fn with_json_asked_for_stdout_holds_json_or_nothing_also_when_it_goes_wrong() -> anyhow::Result<()> {
    let world = small_world().await?;
    let csv = world.write_private("bad.csv", &format!("{HEADER}\nnonsense\n"))?.display().to_string();
    let cases: [(&[&str], i32); 9] = [
        (&["--json", "tenant", "show", "nobody"], 4),
        (&["tenant", "pause", "nobody", "--json"], 4),
        (&["tenant", "remove", "nobody", "--json"], 4),
        (&["alerts", "list", "--tenant", "nobody", "--json"], 4),
        (&["tenant", "import", "--json", "/nonexistent"], 4),
        (&["tenant", "import", "--json", &csv], 1),
        (&["key", "init", "--json"], 5),
        (&["healthcheck", "--json"], 69),
        (&["tenant", "add", "--json", "x", "--tenant", "y"], 1),
    ];
    for (arguments, code) in cases {
        let ended = world.run(arguments).await?;
        assert_eq!(ended.code(), code, "{arguments:?}: {ended:?}");
        ended.complaint()?;
        if !ended.stdout.is_empty() {
            ended.json()?;
        }
    }
    for arguments in [
        &["tenant", "list", "--json"][..],
        &["alerts", "list", "--json"],
        &["key", "status", "--json"],
        &["config", "show", "--json"],
        &["config", "check", "--json"],
        &["db", "status", "--json"],
        &["db", "migrate", "--json"],
    ] {
        let ended = world.run(arguments).await?.ok()?;
        ended.json()?;
    }
    world.end().await
}
