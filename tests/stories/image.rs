//! The container: its root file system, laid out by the script that lays it out for the image, in which the daemon serves as an
//! unknown user without capabilities; and what goes to standard output where there is no place for a file.
//!
//! Here the debug build stands in for the static program, with the libraries that it needs beside it. `./dev package` runs the
//! same story with what is released, by `TOCSIN_PROGRAM`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use e2e::harness::process::{tocsin, tocsin_binary};
use e2e::harness::{Daemon, Finished, Proxy, World, eventually, finish, skipped};
use tokio::process::Command;

use super::commands::{SOON, setup};
use super::doctor::unpack;

const CAPSH: &str = "/usr/sbin/capsh";
/// The user of the image.
const NOBODY: u32 = 65532;

/// The root file system, and in it, at the same place as outside, the files that a cluster would mount.
async fn laid_out(world: &World, config: &Path) -> anyhow::Result<PathBuf> {
    let root = world.path("root");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/container/assemble");
    let output = Command::new(script).arg(&root).arg(tocsin_binary()?).output().await?;
    ensure!(output.status.success(), "assemble: {}", String::from_utf8_lossy(&output.stderr));
    for file in [config, &world.path("keys/ring"), &world.path("app.secret")] {
        let mounted = root.join(file.strip_prefix("/")?);
        std::fs::create_dir_all(mounted.parent().context("a folder")?)?;
        std::fs::copy(file, &mounted)?;
        std::os::unix::fs::chown(&mounted, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(root)
}

/// A command in that root: nobody's, without capabilities or a way to get any, and without an environment.
fn inside(root: &Path, config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(CAPSH);
    command.env_clear().args(["--no-new-privs", "--drop=all"]).arg(format!("--chroot={}", root.display()));
    command.args(["--groups=", "--gid=65532", "--uid=65532", "--shell=/usr/bin/tocsin", "--", "--config"]);
    command.arg(config).args(arguments).kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Every file and folder below with the time of its last change.
async fn listing(root: &Path) -> anyhow::Result<String> {
    let output = Command::new("find").arg(root).args(["-printf", "%p %T@ %u %m\n"]).output().await?;
    ensure!(output.status.success(), "find: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn the_image_serves_as_nobody_without_capabilities_and_writes_nothing() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() || !Path::new(CAPSH).is_file() {
        skipped("the daemon in the image's root file system, since chroot needs root and capsh");
        return Ok(());
    }
    let world = World::with_tenants(setup(2, 5)).await?;
    // Postgres is behind a socket file here, which is not in there.
    let database = world.database.as_ref().context("a database")?;
    let door = Proxy::to(database.target()?).await?;
    let config = world.config_for("image", &database.url_through(door.address()))?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    std::fs::write(&config, std::fs::read_to_string(&config)?.replacen("127.0.0.1:0", &port, 1))?;
    let root = laid_out(&world, &config).await?;
    let before = listing(&root).await?;

    let mut daemon = Daemon::spawn(inside(&root, &config, &["serve"]), &world.next_log())?;
    eventually("it is ready", SOON, async || match daemon.ops("/readyz").await {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    world.settled(SOON).await?;

    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid()?))?;
    let said = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").split_whitespace().collect::<Vec<_>>();
    let [uid, none] = [NOBODY.to_string(), "0000000000000000".to_owned()];
    assert_eq!((said("Uid:"), said("Gid:")), (vec![uid.as_str(); 4], vec![uid.as_str(); 4]), "{status}");
    assert_eq!(said("Groups:"), Vec::<&str>::new(), "{status}");
    for kind in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(said(kind), [none.as_str()], "{kind} {status}");
    }
    assert_eq!(said("NoNewPrivs:"), ["1"], "{status}");
    assert_eq!(std::fs::read_link(format!("/proc/{}/root", daemon.pid()?))?, root.canonicalize()?);

    // As the image's own health check asks, and the three probes of a cluster.
    let ask = async |question: &[&str]| finish(inside(&root, &config, &[&["healthcheck"], question].concat()), "").await;
    for question in [&[][..], &["--startup"], &["--live"], &["--ready"]] {
        let asked = ask(question).await?;
        assert_eq!(asked.code(), 0, "{question:?} {asked:?}");
    }
    assert_eq!(ask(&["--live", "--ready"]).await?.code(), 2, "one question at a time");
    daemon.terminate().await?;
    assert_eq!(ask(&["--startup"]).await?.code(), 69);
    assert_eq!(listing(&root).await?, before, "nothing was written");
    world.end().await
}

#[tokio::test]
async fn a_ring_that_cannot_be_written_is_rotated_over_standard_output() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(2, 0)).await?;
    let ring = world.path("keys/ring");
    let first = std::fs::read_to_string(&ring)?;
    let keys = |ring: &str| ring.lines().filter(|line| line.starts_with("tocsin-key-1 ")).map(str::to_owned).collect::<Vec<_>>();

    let confused = world.run(&["key", "rotate", "--write-ring", "-", "--json"]).await?;
    assert_eq!((confused.code(), confused.stdout.as_str()), (2, ""), "{confused:?}");
    let rotate = async || -> anyhow::Result<Finished> {
        let run = world.run(&["key", "rotate", "--write-ring", "-"]).await?;
        if run.code() == 75 {
            assert!(run.stderr.contains("was written to standard output: put it in the place of"), "{run:?}");
            assert_eq!(run.stderr.matches("tocsin-key-1").count(), 0, "no key stands among the words: {run:?}");
            std::fs::write(&ring, &run.stdout)?;
        }
        Ok(run)
    };
    let added = rotate().await?;
    assert_eq!((added.code(), keys(&added.stdout).len()), (75, 2), "{}", added.stderr);
    assert!(keys(&added.stdout).last().is_some_and(|key| key.ends_with(" next")), "{}", added.stderr);
    let activated = rotate().await?;
    assert_eq!((activated.code(), keys(&activated.stdout).len()), (75, 2), "{}", activated.stderr);
    let done = rotate().await?;
    assert_eq!((done.code(), done.stdout.as_str()), (0, ""), "nothing that could be taken for a ring: {done:?}");
    assert!(done.stderr.contains("all tenants are sealed under key") && done.stderr.contains("2 data keys"), "{done:?}");

    let old = keys(&first)[0].split(' ').nth(1).context("an id")?.to_owned();
    let retired = world.run(&["key", "retire", &old, "--write-ring", "-", "--yes"]).await?.ok()?;
    assert_eq!(keys(&retired.stdout), keys(&activated.stdout)[..1], "{}", retired.stderr);
    assert!(retired.stderr.contains(&format!("the ring without key {old} was written to standard output")), "{}", retired.stderr);
    std::fs::write(&ring, &retired.stdout)?;
    let listed = world.run(&["key", "status", "--json"]).await?.ok()?.json()?;
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!((&listed[0]["active"], &listed[0]["tenants"]), (&true.into(), &2.into()), "{listed}");
    world.end().await
}

#[tokio::test]
async fn the_archive_of_doctor_goes_to_standard_output_and_its_words_do_not() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(1, 0)).await?;
    let output = tocsin(&world.config, &["doctor", "--bundle", "-"])?.output().await?;
    let words = String::from_utf8(output.stderr)?;
    assert!(words.contains("the archive written") && words.contains("  1  ok    configuration"), "{words}");
    let archive = world.path("from-stdout.tar.gz");
    std::fs::write(&archive, output.stdout)?;
    let file = world.path("ticket.tar.gz");
    world.run(&["doctor", "--bundle", &file.display().to_string()]).await?;
    let names = |path: &Path| anyhow::Ok(unpack(path)?.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
    assert_eq!(names(&archive)?, names(&file)?);
    let confused = world.run(&["doctor", "--bundle", "-", "--json"]).await?;
    assert_eq!((confused.code(), confused.stdout.as_str()), (2, ""), "{confused:?}");
    world.end().await
}
