//! What cannot be used in a configuration, or in the environment.

use std::path::Path;

use e2e::harness::{process, run, run_in};

use super::{refused, small_world};

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
