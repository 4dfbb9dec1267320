//! The package as a service manager would run it: what lies in it, what the service is told and tells, and what becomes of
//! its configuration while it runs. No systemd runs here; this story stands in its place, with the unit that is in the package:
//! a socket to be notified at, a folder of credentials, an ordinary user.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::harness::process::tocsin_binary;
use e2e::harness::{Daemon, Finished, Proxy, Setup, World, eventually, finish, skipped};
use rustix::process::{Signal, geteuid};
use tokio::process::Command;

use crate::proof::says;
use crate::standalone::Somebody;

const SOON: Duration = Duration::from_secs(60);
/// What systemd would give with `WatchdogSec=3s`: fed once a second.
const WATCHDOG: (&str, &str) = ("WATCHDOG_USEC", "3000000");

#[tokio::test]
async fn the_package_holds_a_service_that_tells_how_it_is_and_keeps_a_good_configuration() -> anyhow::Result<()> {
    let world = World::with_tenants(Setup::default()).await?;
    let Some(package) = package(world.folder()).await? else {
        skipped("the package as a service, since it cannot be built here");
        return world.end().await;
    };
    let installed = Installed::unpack(&world, &package).await?;
    installed.unit_is_understood().await?;

    // As root fills in the folders. The daemon has no use for the owner's login: what lies there is no URL.
    let door = Proxy::to(world.database.as_ref().context("no database")?.target()?).await?;
    let url = world.database.as_ref().context("no database")?.url_through(door.address());
    installed.write("keys/ring", &std::fs::read_to_string(world.path("keys/ring"))?)?;
    installed.write("apps/main.secret", world.cloud.client_secret())?;
    installed.write("database/url", &url)?;
    installed.write("owner/url", "nobody should read this")?;
    let config = installed.config(&world, "127.0.0.1:0", "[log]\nformat = \"json\"\n");
    installed.configure(&config)?;
    let checked = finish(installed.tocsin(["config", "check"]), "").await?;
    // The login of the owner is whatever root keeps there; all else is found beside the configuration.
    ensure!(checked.ok()?.stderr.contains("apps.main.client_secret_file = \"apps/main.secret\" is "), "config check says what it took");

    let manager = Manager::listen(&world)?;
    let mut daemon = installed.start(&world, &manager)?;
    manager.hears("READY=1", SOON).await?;
    let before_ready = manager.until("READY=1");
    ensure!(before_ready.iter().any(|word| word.starts_with("EXTEND_TIMEOUT_USEC=")), "{before_ready:?}");
    world.settled(SOON).await?;
    let fed = manager.count("WATCHDOG=1");
    manager.hears_so_often("WATCHDOG=1", fed + 3, SOON).await?;
    manager.hears("STATUS=3 tenants, 0 not readable, worst lag ", SOON).await?;

    // A database that is away makes the daemon not ready, and is no reason to start it anew.
    door.shut();
    eventually("the daemon is not ready", SOON, async || match daemon.ops("/readyz").await {
        Ok((503, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    let fed = manager.count("WATCHDOG=1");
    manager.hears_so_often("WATCHDOG=1", fed + 3, SOON).await?;
    ensure!(daemon.ops("/readyz").await?.0 == 503, "the database was away all the time");
    door.clear();
    world.settled(SOON).await?;

    // A slip: the old configuration stays, and the log says what is wrong.
    let started = configuration(&daemon).await?;
    assert_eq!((&started["generation"], &started["read"]), (&1.into(), &1.into()));
    installed.configure(&config.replace("interval = \"1s\"", "intervall = \"5s\""))?;
    let ready = manager.count("READY=1");
    daemon.signal(Signal::HUP)?;
    manager.hears_so_often("READY=1", ready + 1, SOON).await?;
    ensure!(manager.count("RELOADING=1") == 1, "it says that it reads");
    let refused = configuration(&daemon).await?;
    assert_eq!((&refused["generation"], &refused["read"]), (&1.into(), &2.into()));
    ensure!(refused["refused"].as_str().is_some_and(|sentence| sentence.contains("did you mean poll.interval?")), "{refused}");
    says(&daemon, "is refused, so the one before stays in force: unknown key poll.intervall", SOON).await?;
    // `tocsin reload` sees it before the daemon does.
    let reload = installed.reload(&daemon).await?;
    ensure!(reload.code() == 78 && reload.complaint()?.contains("unknown key poll.intervall"), "{reload:?}");

    // What only the daemon sees: a credential that was not handed over.
    let address = daemon.ops_address().await?;
    installed
        .configure(&installed.config(&world, &address, "[log]\nformat = \"json\"\n").replace("apps/main.secret", "apps/other.secret"))?;
    let reload = installed.reload(&daemon).await?;
    ensure!(reload.code() == 78 && reload.complaint()?.contains("apps/other.secret"), "{reload:?}");
    ensure!(reload.complaint()?.ends_with("the configuration before stays in force"), "{reload:?}");
    assert_eq!(configuration(&daemon).await?["generation"], 1);
    world.cloud.publish_new(world.cloud.tenants()[0].directory_id, 2)?;
    world.settled(SOON).await?;

    // A good one: what can change at once does, and what waits is named.
    let other = "[log]\nformat = \"json\"\nlevel = \"info,microsoft=debug\"\n[poll]\ninterval = \"2s\"\n";
    installed.configure(&installed.config(&world, &address, other))?;
    let reload = installed.reload(&daemon).await?.ok()?;
    ensure!(reload.stdout.contains("generation 2") && reload.stderr.contains("wait for a restart: ops.listen"), "{reload:?}");
    let taken = configuration(&daemon).await?;
    assert_eq!((&taken["generation"], &taken["read"], &taken["refused"]), (&2.into(), &4.into(), &serde_json::Value::Null));
    says(&daemon, "\"level\":\"DEBUG\"", SOON).await?;
    world.cloud.publish_new(world.cloud.tenants()[1].directory_id, 2)?;
    world.settled(SOON).await?;

    daemon.terminate().await?;
    manager.hears("STOPPING=1", SOON).await?;
    world.end().await
}

#[tokio::test]
async fn a_stage_that_stands_still_is_named_once_and_starves_the_watchdog() -> anyhow::Result<()> {
    let world = World::with_tenants(Setup::default()).await?;
    let manager = Manager::listen(&world)?;
    let socket = manager.socket.display().to_string();
    let mut daemon = world.serve_with(&[("NOTIFY_SOCKET", &socket), WATCHDOG, ("TOCSIN_REHEARSAL", "poller.beat=delay:3600s@5")])?;
    manager.hears("READY=1", SOON).await?;
    manager.hears_so_often("WATCHDOG=1", 3, SOON).await?;
    manager.hears("STATUS=stuck: poller; 3 tenants", Duration::from_secs(90)).await?;
    // Fed once a second before; in the ten seconds to the next line not at all.
    let fed = manager.count("WATCHDOG=1");
    manager.hears_so_often("STATUS=stuck: poller", 2, SOON).await?;
    assert_eq!(manager.count("WATCHDOG=1"), fed, "{:?}", manager.heard());
    let log = daemon.log()?;
    let named: Vec<_> = log.lines().filter(|line| line.contains("gives no sign of life")).collect();
    ensure!(named.len() == 1 && named[0].contains("\"stage\":\"poller\"") && named[0].contains("ERROR"), "{named:?}");
    // As systemd would, with WatchdogSignal=.
    daemon.signal(Signal::ABORT)?;
    daemon.ended(Duration::from_secs(10)).await?;
    world.end().await
}

/// Builds the package; `None` where that cannot be done, for want of a tool.
async fn package(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(root.join("deploy/deb/build"));
    command.arg(tocsin_binary()?).arg(folder.join("deb")).stdin(Stdio::null()).kill_on_drop(true);
    let built = tokio::time::timeout(Duration::from_secs(300), command.output()).await.context("the package takes over five minutes")??;
    let (said, out) = (String::from_utf8(built.stderr)?, String::from_utf8(built.stdout)?);
    ensure!(built.status.success(), "{said}");
    let path = out.lines().next_back().map(PathBuf::from);
    ensure!(path.is_some() || said.contains("skipped: "), "neither a package nor a reason: {said}");
    Ok(path)
}

/// The package, unpacked.
struct Installed {
    root: PathBuf,
    unit: String,
    who: Somebody,
}

impl Installed {
    async fn unpack(world: &World, package: &Path) -> anyhow::Result<Self> {
        let root = world.path("root");
        let unpacked = Command::new("dpkg-deb").arg("-x").arg(package).arg(&root).status().await?;
        ensure!(unpacked.success(), "dpkg-deb -x: {unpacked}");
        let unit = std::fs::read_to_string(root.join("usr/lib/systemd/system/tocsin.service"))?;
        let who = Somebody::ordinary()?;
        // What dpkg-deb unpacks belongs to whoever unpacks; the folder above must let the service through.
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755))?;
        // As the package's script does after it.
        let folders = include_str!("../../deploy/deb/postinst").lines().find_map(|line| line.trim().strip_prefix("for folder in "));
        for folder in folders.and_then(|line| line.strip_suffix("; do")).context("the script makes no folders")?.split(' ') {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join("etc/tocsin").join(folder))?;
        }
        for page in ["tocsin.1.gz", "tocsin-serve.1.gz", "tocsin-reload.1.gz"] {
            ensure!(root.join("usr/share/man/man1").join(page).is_file(), "there is no {page}");
        }
        Ok(Self { root, unit, who })
    }

    /// All values of a key of the unit, in order.
    fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.unit.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
    }

    async fn unit_is_understood(&self) -> anyhow::Result<()> {
        let unit = self.root.join("tocsin.service");
        std::fs::write(&unit, self.unit.replace("=/usr/bin/tocsin", &format!("={}/usr/bin/tocsin", self.root.display())))?;
        let verified = Command::new("systemd-analyze").args(["verify", "--man=no", "--recursive-errors=no"]).arg(&unit).output().await;
        let Ok(verified) = verified else {
            skipped("the unit of the package, since systemd-analyze is not installed");
            return Ok(());
        };
        let said = String::from_utf8(verified.stderr)?;
        ensure!(verified.status.success() && !said.contains("tocsin.service"), "{said}");
        Ok(())
    }

    /// A file below /etc/tocsin, as root keeps it.
    fn write(&self, name: &str, content: &str) -> anyhow::Result<()> {
        let path = self.root.join("etc/tocsin").join(name);
        let folder = path.parent().context("a folder")?;
        std::fs::create_dir_all(folder)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
        std::fs::write(&path, content)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(())
    }

    /// The configuration of the world, with every secret named as the package's configuration says.
    fn config(&self, world: &World, ops: &str, extra: &str) -> String {
        let (folder, cloud) = (world.folder().display(), world.cloud.base_url());
        let poll = if extra.contains("[poll]") { "" } else { "[poll]\ninterval = \"1s\"\n" };
        format!(
            "state_dir = \"{folder}/state\"\n[database]\nurl_file = \"database/url\"\nmigrate_url_file = \"owner/url\"\n\
             [ops]\nlisten = \"{ops}\"\n[console]\nlisten = \"127.0.0.1:0\"\n\
             [clouds.lab]\nlogin_url = \"{cloud}\"\ngraph_url = \"{cloud}\"\ndefender_url = \"{cloud}\"\nallow_plaintext = true\n\
             [apps.main]\nclient_id = \"{}\"\nclient_secret_file = \"apps/main.secret\"\n{poll}{extra}",
            world.cloud.client_id(),
        )
    }

    fn configure(&self, text: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.root.join("etc/tocsin/tocsin.toml"), text)?)
    }

    /// The program of the package under the environment that the unit sets.
    fn tocsin(&self, arguments: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Command {
        let mut command = Command::new(self.root.join("usr/bin/tocsin"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let etc = format!("{}/etc/", self.root.display());
        let variables = self.values("Environment").filter_map(|variable| variable.split_once('='));
        command.envs(variables.map(|(name, value)| (name, value.replace("/etc/", &etc))));
        command.args(arguments).kill_on_drop(true).stdin(Stdio::null()).current_dir("/");
        command
    }

    /// `ExecStart=` as an ordinary user, with copies of what `LoadCredential=` names.
    fn start(&self, world: &World, manager: &Manager) -> anyhow::Result<Daemon> {
        let credentials = world.path("credentials");
        std::fs::create_dir(&credentials)?;
        for (id, folder) in self.values("LoadCredential").filter_map(|value| value.split_once(':')) {
            let folder = self.root.join(folder.trim_start_matches('/'));
            for file in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
                let file = file?;
                let copy = credentials.join(format!("{id}_{}", file.file_name().to_string_lossy()));
                std::fs::copy(file.path(), &copy)?;
                std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o440))?;
                self.give(&copy)?;
            }
        }
        self.give(&credentials)?;
        let start = self.values("ExecStart").next().and_then(|line| line.strip_prefix("/usr/bin/tocsin ")).context("no ExecStart")?;
        let mut command = self.tocsin(start.split(' '));
        command.env("CREDENTIALS_DIRECTORY", &credentials).env("NOTIFY_SOCKET", &manager.socket).env(WATCHDOG.0, WATCHDOG.1);
        if geteuid().is_root() {
            command.uid(self.who.uid).gid(self.who.gid);
        }
        Daemon::spawn(command, &world.next_log())
    }

    fn give(&self, path: &Path) -> anyhow::Result<()> {
        if geteuid().is_root() {
            chown(path, Some(self.who.uid), Some(self.who.gid))?;
        }
        Ok(())
    }

    /// `ExecReload=`, with what a service manager tells it: which process it is about.
    async fn reload(&self, daemon: &Daemon) -> anyhow::Result<Finished> {
        let reload = self.values("ExecReload").next().and_then(|line| line.strip_prefix("/usr/bin/tocsin ")).context("no ExecReload")?;
        let mut command = self.tocsin(reload.split(' '));
        command.env("MAINPID", daemon.pid()?.to_string());
        finish(command, "").await
    }
}

/// What stands in for the service manager: it takes down every word that it is told.
struct Manager {
    socket: PathBuf,
    words: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    fn listen(world: &World) -> anyhow::Result<Self> {
        let path = world.path("notify");
        let socket = UnixDatagram::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))?;
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixDatagram::from_std(socket)?;
        let words = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&words);
        tokio::spawn(async move {
            let mut message = [0; 4096];
            while let Ok(length) = socket.recv(&mut message).await {
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                heard.lock().unwrap_or_else(PoisonError::into_inner).extend(text.lines().map(str::to_owned));
            }
        });
        Ok(Self { socket: path, words })
    }

    fn heard(&self) -> Vec<String> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn until(&self, word: &str) -> Vec<String> {
        self.heard().into_iter().take_while(|heard| heard != word).collect()
    }

    fn count(&self, beginning: &str) -> usize {
        self.heard().iter().filter(|word| word.starts_with(beginning)).count()
    }

    async fn hears(&self, beginning: &str, limit: Duration) -> anyhow::Result<()> {
        self.hears_so_often(beginning, 1, limit).await
    }

    async fn hears_so_often(&self, beginning: &str, times: usize, limit: Duration) -> anyhow::Result<()> {
        eventually(
            &format!("{times} × {beginning}"),
            limit,
            async || {
                if self.count(beginning) >= times { Ok(()) } else { Err(self.heard()) }
            },
        )
        .await
    }
}

/// Which configuration the daemon says is in force.
async fn configuration(daemon: &Daemon) -> anyhow::Result<serde_json::Value> {
    let (_, body) = daemon.ops("/readyz?format=json").await?;
    let answer: serde_json::Value = serde_json::from_str(&body)?;
    ensure!(answer["pid"] == daemon.pid()?, "{answer}");
    Ok(answer["configuration"].clone())
}
