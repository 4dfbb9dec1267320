//! I28: with a ring that is wrong, missing or cut short nothing starts, and the whole database is as it was.

use std::path::Path;

use anyhow::Context;
use e2e::harness::{Setup, World, run};

/// The whole database as `pg_dump` writes it, but for the words that it makes up anew for each dump.
async fn dump(world: &World) -> anyhow::Result<String> {
    let programs = local_postgres::find_programs(None)?;
    let url = world.database.as_ref().context("a database of its own")?.url();
    let output = tokio::process::Command::new(programs.bindir().join("pg_dump")).arg(url).output().await?;
    anyhow::ensure!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n"))
}

/// A ring as `tocsin key init` makes it.
async fn another_ring(world: &World, name: &str) -> anyhow::Result<String> {
    let config = world.path(&format!("{name}.toml"));
    let text = std::fs::read_to_string(&world.config)?;
    let ring = world.path("keys/ring").display().to_string();
    let other = world.path(&format!("keys/{name}"));
    std::fs::write(&config, text.replace(&ring, &other.display().to_string()))?;
    run(&config, &["key", "init"]).await?.ok()?;
    Ok(std::fs::read_to_string(other)?)
}

fn put(ring: &Path, content: Option<&str>) -> anyhow::Result<()> {
    match content {
        // Over the file as it is, so that its rights stay.
        Some(content) => Ok(std::fs::write(ring, content)?),
        None => Ok(std::fs::remove_file(ring)?),
    }
}

#[tokio::test]
async fn i28_with_a_wrong_ring_nothing_starts_and_the_database_stays_byte_for_byte() -> anyhow::Result<()> {
    let world = World::with_tenants(Setup::default()).await?;
    let ring = world.path("keys/ring");
    let right = std::fs::read_to_string(&ring)?;
    let wrong = another_ring(&world, "other").await?;
    let before = dump(&world).await?;
    assert!(before.contains("COPY tocsin.tenant_key") && before.lines().count() > 200, "{before}");
    let cut = &right[..right.len() - 10];
    // Another letter in the middle of the key.
    let at = right.len() - 20;
    let letter = if &right[at..=at] == "A" { "B" } else { "A" };
    let altered = format!("{}{letter}{}", &right[..at], &right[at + 1..]);
    let cases = [
        ("wrong", Some(wrong.as_str()), "3 tenants"),
        ("empty", Some(""), "ring"),
        ("cut short", Some(cut), "ring"),
        ("altered", Some(altered.as_str()), "ring"),
        ("of rubbish", Some("rubbish\n"), "ring"),
        ("missing", None, "tocsin key init"),
    ];
    for (name, content, words) in cases {
        put(&ring, content)?;
        for command in [&["serve"][..], &["tenant", "import", "-"]] {
            let ended = run(&world.config, command).await?;
            assert!(matches!(ended.code(), 2 | 78), "{name}: {ended:?}");
            let sentence = ended.complaint()?;
            assert!(sentence.contains(words) && sentence.lines().count() == 1, "{name}: {sentence}");
        }
        assert_eq!(dump(&world).await?, before, "{name}: the database is as it was");
    }
    // Written anew, as somebody would from a backup: whoever may read it is his business, so that only its owner may.
    std::fs::write(&ring, &right)?;
    std::fs::set_permissions(&ring, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let mut daemon = world.serve()?;
    daemon.ops_address().await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn i16_a_ring_beside_an_app_credential_is_a_warning_and_a_refusal_where_that_is_asked_for() -> anyhow::Result<()> {
    let world = World::with_tenants(Setup::default()).await?;
    let (apart, beside) = (world.path("app.secret"), world.path("keys/app.secret"));
    std::fs::copy(&apart, &beside)?;
    let text = std::fs::read_to_string(&world.config)?;
    let together = text.replace(&apart.display().to_string(), &beside.display().to_string());
    std::fs::write(&world.config, &together)?;
    let warned = world.run(&["config", "check"]).await?.ok()?;
    let said = format!("{}{}", warned.stdout, warned.stderr);
    assert!(said.contains("where one leak takes both"), "{said}");

    let strict = |text: &str| text.replace("[vault]\n", "[vault]\nrequire_separation = true\n");
    std::fs::write(&world.config, strict(&together))?;
    for command in [&["serve"][..], &["config", "check"]] {
        let refused = world.run(command).await?;
        assert!(matches!(refused.code(), 2 | 78), "{refused:?}");
        assert!(refused.complaint()?.contains("vault.require_separation"), "{refused:?}");
    }
    std::fs::write(&world.config, strict(&text))?;
    let mut daemon = world.serve()?;
    daemon.ops_address().await?;
    daemon.terminate().await?;
    world.end().await
}
