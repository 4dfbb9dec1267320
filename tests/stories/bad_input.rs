//! Bad input: each ends in one sentence that says what, where and what to do, and in the exit code of the contract.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::ensure;
use e2e::harness::process;
use e2e::harness::{Finished, Setup, World, run, run_in};
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
async fn a_configuration_that_cannot_be_used_is_told_in_one_sentence_with_key_and_place() -> anyhow::Result<()> {
    let world = small_world().await?;
    let plain = world.toml("");
    let without_poll = plain.replace("[poll]\ninterval = \"1s\"\n", "");
    let with = |extra: &str| format!("{without_poll}{extra}\n");
    let line = |text: &str, key: &str| text.lines().position(|line| line.starts_with(key)).map_or(0, |at| at + 1);
    let typo = with("[poll]\nintervall = \"1s\"");
    let typo_line = format!("tocsin.toml:{}", line(&typo, "intervall"));

    let cases: Vec<(&str, String, Vec<&str>)> = vec![
        ("a key with a typo", typo, vec!["unknown key poll.intervall", &typo_line, "did you mean poll.interval?"]),
        (
            "a section that does not exist",
            with("[pol]\ninterval = \"1s\""),
            vec!["unknown key pol.interval", "did you mean poll.interval?"],
        ),
        ("a key of a cloud with a typo", with("[clouds.far]\nlogin = \"https://x\""), vec!["clouds.far.login", "login_url"]),
        (
            "a key of an app with a typo",
            with("[apps.other]\nclient_secret = \"x\""),
            vec!["apps.other.client_secret", "client_secret_file"],
        ),
        ("a duration without a unit", with("[poll]\ninterval = \"soon\""), vec!["poll.interval", "tocsin.toml", "soon", "30s"]),
        ("a number that is none", with("[poll]\npage_size = \"many\""), vec!["poll.page_size", "tocsin.toml", "many"]),
        ("a page of nothing", with("[poll]\npage_size = 0"), vec!["poll.page_size = 0", "1 to 10000"]),
        ("a hot loop", with("[poll]\ninterval = \"1ms\""), vec!["poll.interval", "1s"]),
        ("a budget of nothing", with("[budget]\ngraph_per_minute = 0"), vec!["budget.graph_per_minute = 0", "1"]),
        (
            "a log format that does not exist",
            plain.replace("format = \"json\"", "format = \"xml\""),
            vec!["log.format", "tocsin.toml", "xml", "pretty"],
        ),
        (
            "a log level that does not exist",
            plain.replace("[log]\n", "[log]\nlevel = \"daemon=loud\"\n"),
            vec!["log.level", "daemon=loud", "info"],
        ),
        ("a listen address that is none", plain.replace("127.0.0.1:0", "everywhere"), vec!["ops.listen", "everywhere", "127.0.0.1:9464"]),
        ("a database of another make", plain.replace("postgres://", "mysql://"), vec!["database.url", "postgres://"]),
        ("two databases", plain.replace("[vault]", "url_file = \"/x\"\n[vault]"), vec!["database.url", "database.url_file", "keep one"]),
        (
            "plain text to another machine",
            plain.replace("login_url = \"http://127.0.0.1", "login_url = \"http://192.0.2.1"),
            vec!["clouds.lab", "http"],
        ),
        ("plain text without permission", plain.replace("allow_plaintext = true", ""), vec!["clouds.lab", "http"]),
        ("a cloud without addresses", with("[clouds.far]\nlogin_url = \"https://login.example\""), vec!["clouds.far", "graph_url"]),
        ("an app without an id", with("[apps.other]\nclient_id = \"\""), vec!["apps.other.client_id", "empty"]),
        (
            "a grant that does not exist",
            with("[apps.other]\nclient_id = \"x\"\ngrant = \"password\""),
            vec!["apps.other.grant", "password", "refresh_token"],
        ),
        (
            "an own credential without a secret",
            with("[apps.other]\nclient_id = \"x\"\ngrant = \"client_credentials\""),
            vec!["apps.other", "client_secret_file"],
        ),
        ("no TOML", format!("{plain}[poll\n"), vec!["tocsin.toml"]),
        ("a section twice", format!("{plain}[ops]\nlisten = \"127.0.0.1:1\"\n"), vec!["tocsin.toml", "ops"]),
    ];
    let mut wrongs = Vec::new();
    for (told, text, words) in cases {
        let file = world.write_private("tocsin.toml", &text)?;
        if let Err(wrong) = refused(told, &run(&file, &["config", "check"]).await?, 78, &words) {
            wrongs.push(wrong.to_string());
        }
    }
    assert!(wrongs.is_empty(), "{}", wrongs.join("\n"));
    // Whatever is to be done: nobody starts with such a file.
    let file = world.write_private("tocsin.toml", &with("[poll]\nintervall = \"1s\""))?;
    for arguments in [
        &["serve"][..],
        &["tenant", "list"],
        &["db", "migrate"],
        &["key", "status"],
        &["alerts", "list"],
        &["healthcheck"],
        &["config", "show", "--json"],
    ] {
        refused(&arguments.join(" "), &run(&file, arguments).await?, 78, &["unknown key poll.intervall"])?;
    }
    let missing = world.path("nowhere.toml");
    refused("no such file", &run(&missing, &["config", "check"]).await?, 78, &["nowhere.toml", "cannot read"])?;
    world.end().await
}

#[tokio::test]
async fn an_environment_variable_with_a_typo_is_named_and_those_of_others_are_ignored() -> anyhow::Result<()> {
    let world = small_world().await?;
    let check = async |environment: &[(&str, &str)]| run_in(&world.config, &["config", "check"], "", environment).await;
    let typo = check(&[("TOCSIN_POLL__INTERVALL", "5s")]).await?;
    refused("a typo", &typo, 78, &["unknown key poll.intervall", "TOCSIN_POLL__INTERVALL", "did you mean poll.interval?"])?;
    let value = check(&[("TOCSIN_POLL__INTERVAL", "soon")]).await?;
    refused("a value", &value, 78, &["poll.interval", "TOCSIN_POLL__INTERVAL", "soon", "30s"])?;
    let file = run_in(Path::new("/nonexistent.toml"), &["config", "check"], "", &[]).await?;
    refused("a file", &file, 78, &["/nonexistent.toml"])?;

    // The file itself may be named by a variable.
    let mut command = tokio::process::Command::new(process::tocsin_binary()?);
    command.env_clear().env("TOCSIN_CONFIG_FILE", world.path("nowhere.toml")).args(["config", "check"]);
    refused("by variable", &process::finish(command, "").await?, 78, &["nowhere.toml"])?;
    let mut command = tokio::process::Command::new(process::tocsin_binary()?);
    command.env_clear().env("TOCSIN_CONFIG_FILE", &world.config).args(["config", "check"]);
    process::finish(command, "").await?.ok()?;
    // Kubernetes injects these for a Service called tocsin.
    check(&[("TOCSIN_PORT", "tcp://10.0.0.1:80"), ("TOCSIN_SERVICE_HOST", "10.0.0.1"), ("TOCSIN_PORT_80_TCP", "tcp://10.0.0.1:80")])
        .await?
        .ok()?;
    check(&[("TOCSIN_POLL__INTERVAL", "7s"), ("TOCSIN_STATE_DIR", "/elsewhere")]).await?.ok()?;
    world.end().await
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

/// Lines of an import file that are each wrong in one way, with the words that say so.
fn bad_lines() -> Vec<(Vec<u8>, &'static [&'static str])> {
    let token = "0.AXplanted-token-planted-token-planted";
    let line = |text: String| text.into_bytes();
    vec![
        (line(format!("not-a-guid,Bad 1,lab,main,graph-alerts,{token}")), &["directory_id", "GUID"]),
        (line(format!(",Bad 2,lab,main,graph-alerts,{token}")), &["directory_id", "GUID"]),
        (line(format!("00000000-0000-0000-0000-000000000000,Bad 3,lab,main,graph-alerts,{token}")), &["directory_id", "GUID"]),
        (line(format!("{},Bad 4,lab,main,graph-alerts", id(4))), &["5 columns instead of 6"]),
        (line(format!("{},Bad 5,lab,main,graph-alerts,{token},", id(5))), &["7 columns instead of 6"]),
        (line(format!("{},Bad 6,mars,main,graph-alerts,{token}", id(6))), &["cloud \"mars\"", "known are", "lab", "[clouds."]),
        (line(format!("{},Bad 7,labb,main,graph-alerts,{token}", id(7))), &["cloud \"labb\"", "did you mean \"lab\"?"]),
        (line(format!("{},Bad 8,lab,mian,graph-alerts,{token}", id(8))), &["app \"mian\"", "did you mean \"main\"?", "[apps."]),
        (line(format!("{},Bad 9,lab,,graph-alerts,{token}", id(9))), &["app is empty", "main"]),
        (
            line(format!("{},Bad 10,lab,main,graph-alert,{token}", id(10))),
            &["source \"graph-alert\"", "did you mean \"graph-alerts\"?", "mde-alerts"],
        ),
        (line(format!("{},Bad 11,lab,main,,{token}", id(11))), &["no source", "graph-alerts"]),
        (line(format!("{},Bad 12,lab,main,graph-alerts;mailbox,{token}", id(12))), &["source \"mailbox\"", "known are"]),
        (line(format!("{},,lab,main,graph-alerts,{token}", id(13))), &["name is empty"]),
        (line(format!("{},Bad\t14,lab,main,graph-alerts,{token}", id(14))), &["control character"]),
        (line(format!("{},{},lab,main,graph-alerts,{token}", id(15), id(16))), &["directory id of another tenant"]),
        (line(format!("{},\"Bad 16,lab,main,graph-alerts,{token}", id(16))), &["quote that is never closed"]),
        (line(format!("{},\"Bad\" 17,lab,main,graph-alerts,{token}", id(17))), &["text after a closing quote"]),
        (line(format!("{},Bad \"18\",lab,main,graph-alerts,{token}", id(18))), &["quote inside of a cell"]),
        (line(format!("{},Bad 19,lab,main,graph-alerts,two planted", id(19))), &["refresh_token", "blank"]),
        (line(format!("{};Bad 20;lab;main;graph-alerts;{token}", id(20))), &["';'", "','"]),
        ([id(21).as_bytes(), b",Bad \xff 21,lab,main,graph-alerts,planted"].concat(), &["UTF-8"]),
        (line(format!("{},Good 1,lab,main,graph-alerts,{token}", id(22))), &["name \"Good 1\"", "belongs to tenant", "unique"]),
        (line(format!("{},Bad 23,lab,main,graph-alerts,planted-other", id(80))), &["line 2", "already"]),
        (line(format!("{},Bad 24,lab,main,graph-alerts,", id(80).to_uppercase())), &["line 2", "already"]),
        // A column too few at the start puts the token where the source should be.
        (line(format!("{},Bad 25,lab,main,{token},graph-alerts", id(25))), &["source", "known"]),
    ]
}

#[tokio::test]
async fn a_bad_line_of_an_import_is_named_by_number_and_the_others_are_imported() -> anyhow::Result<()> {
    let world = small_world().await?;
    let good = [
        format!("{},Good 1,lab,main,graph-alerts,planted-token-1", id(80)),
        format!("{},\"Good, \"\"2\"\"\",lab,main,graph-alerts;mde-alerts,", id(81)),
        format!("{{{}}},  Işık & Værktøj ApS  , lab , main ,mde-alerts; graph-alerts ;,planted-token-3", id(82).to_uppercase()),
        format!("{},Good 4,lab,main,graph-incidents,", id(83)),
    ];
    // A good line, the bad ones with an empty line in between, and good ones again, so that nothing stops at the first.
    let bad = bad_lines();
    let mut csv = format!("{HEADER}\n{}\n", good[0]).into_bytes();
    let mut numbers = Vec::new();
    for (at, (line, _)) in bad.iter().enumerate() {
        numbers.push(3 + at + usize::from(at > 4));
        csv.extend_from_slice(line);
        csv.extend_from_slice(if at == 4 { b"\n\n" } else { b"\n" });
    }
    for line in &good[1..] {
        csv.extend_from_slice(format!("{line}\n").as_bytes());
    }
    let file = world.write_private("bad.csv", "")?;
    std::fs::write(&file, &csv)?;
    let file = file.display().to_string();

    let ended = world.run(&["tenant", "import", &file]).await?;
    let sentence = ended.complaint()?;
    assert_eq!(ended.code(), 1, "{sentence}");
    let told: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("line ")).collect();
    assert_eq!(told.len(), bad.len(), "{}", ended.stderr);
    for ((number, (_, words)), told) in numbers.iter().zip(&bad).zip(told) {
        assert!(told.starts_with(&format!("line {number}: ")), "line {number}: {told}");
        for word in *words {
            assert!(told.contains(word), "{word:?} is missing in: {told}");
        }
        assert!(sentence.contains(&number.to_string()), "{number} is missing in: {sentence}");
    }
    assert_eq!(ended.stdout.lines().count(), good.len(), "{}", ended.stdout);
    for text in [&ended.stdout, &ended.stderr] {
        assert!(!text.contains("planted"), "a token, or a line with one, is repeated: {text}");
    }

    let names: Vec<(String, String)> =
        sqlx::query_as("select tenant, state from dash.tenant_health order by directory_id").fetch_all(&world.pool().await?).await?;
    let expected =
        [("Good 1", "active"), ("Good, \"2\"", "awaiting-consent"), ("Işık & Værktøj ApS", "active"), ("Good 4", "awaiting-consent")];
    assert_eq!(names, expected.map(|(name, state)| (name.to_owned(), state.to_owned())), "what was good, and nothing else");

    // As data: every line with its number, and the same exit code.
    let again = world.run(&["tenant", "import", "--json", &file]).await?;
    assert_eq!(again.code(), 1);
    let lines = again.json()?;
    let lines = lines.as_array().cloned().unwrap_or_default();
    assert_eq!(lines.len(), bad.len() + good.len());
    let failed: Vec<u64> = lines.iter().filter(|line| line["ok"] == false).filter_map(|line| line["line"].as_u64()).collect();
    assert_eq!(failed, numbers.iter().map(|number| *number as u64).collect::<Vec<_>>());
    assert!(!again.stdout.contains("planted"));
    world.end().await
}

#[tokio::test]
async fn a_file_that_is_no_tenant_list_is_refused_whole_and_says_why() -> anyhow::Result<()> {
    let world = small_world().await?;
    let row = format!("{},Acme,lab,main,graph-alerts,planted-token", id(1));
    let utf16: Vec<u8> = [0xfeff].into_iter().chain(format!("{HEADER}\n{row}\n").encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("separated by semicolons", format!("{HEADER}\n{row}\n").replace(',', ";").into_bytes(), &["line 1", "';'", "','", HEADER]),
        ("without a header", format!("{row}\n").into_bytes(), &["line 1", "header", HEADER]),
        ("empty", Vec::new(), &["empty", HEADER]),
        ("blank lines only", b"\r\n\n".to_vec(), &["empty", HEADER]),
        (
            "a column with another name",
            format!("{}\n{row}\n", HEADER.replace("sources", "source")).into_bytes(),
            &["line 1", "sources", HEADER],
        ),
        (
            "columns in another order",
            format!("{}\n{row}\n", HEADER.replace("name,cloud", "cloud,name")).into_bytes(),
            &["line 1", "order", HEADER],
        ),
        ("UTF-16", utf16, &["UTF-16", "UTF-8"]),
    ];
    for (told, content, words) in cases {
        let file = world.write_private("list.csv", "")?;
        std::fs::write(&file, content)?;
        let ended = world.run(&["tenant", "import", &file.display().to_string()]).await?;
        // These sentences begin like the note for a line, but are the last word of the command.
        refused(told, &ended, 1, words)?;
        assert!(!ended.stderr.contains("planted"), "{told}: {}", ended.stderr);
    }
    refused(
        "no such file",
        &world.run(&["tenant", "import", "/nonexistent/list.csv"]).await?,
        4,
        &["/nonexistent/list.csv", "cannot read"],
    )?;
    assert_eq!(world.count("select from dash.tenant_health").await?, 0);
    world.end().await
}

#[tokio::test]
async fn a_list_from_a_spreadsheet_with_bom_and_crlf_is_accepted_and_one_that_others_can_read_is_warned_of() -> anyhow::Result<()> {
    let world = small_world().await?;
    let tenants = world.cloud.tenants();
    let csv = format!("\u{feff}{}", world.csv(&tenants).replace('\n', "\r\n"));
    let file = world.write_private("list.csv", &csv)?;
    let path = file.display().to_string();
    let ended = world.run(&["tenant", "import", &path]).await?.ok()?;
    assert_eq!(ended.stderr, "");
    assert_eq!(world.count("select from dash.tenant_health where state = 'active'").await?, 2);
    mode(&file, 0o644)?;
    let ended = world.run(&["tenant", "import", &path]).await?.ok()?;
    for word in ["warning", &path, "read by others", "644"] {
        assert!(ended.stderr.contains(word), "{word:?} is missing in: {}", ended.stderr);
    }
    // The same from a pipe.
    let piped = run_in(&world.config, &["tenant", "import", "-"], &csv, &[]).await?.ok()?;
    assert!(piped.stdout.lines().all(|line| line.contains("unchanged")), "{}", piped.stdout);
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
