//! Fault 54: a pooler in transaction mode, behind which nothing of a session lasts: no LISTEN, no role, no prepared
//! statement. I3, I7.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use e2e::harness::{Setup, TestDatabase, World, eventually};
use local_postgres::Durability;
use simulator::{Settings, SourceMix};
use tokio::process::{Child, Command};

use super::{LONG, SMALL_PAGES, holds, own_postgres, publish_everywhere, server_folder};

#[tokio::test]
async fn fault_54_behind_a_pooler_in_transaction_mode_everything_works() -> anyhow::Result<()> {
    let folder = server_folder()?;
    let server = own_postgres(folder.path(), Durability::OffForTests, &[]).await?;
    let database = TestDatabase::create_on(server.url()).await?;
    let cloud = Settings { tenants: 4, history: 100, sources: SourceMix::Mixed, ..Settings::default() };
    let world = World::build_on(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }, Some(database)).await?;
    world.import_all().await?;
    let direct = world.database.as_ref().context("no database")?.url();
    let Some((mut pooler, port)) = start(&world, &folder.path().join("socket")).await? else {
        println!("skipped: fault 54, pooler in transaction mode: there is no pgbouncer on this machine");
        return Ok(());
    };
    let database = world.database.as_ref().context("no database")?.name();
    let login = direct.split_once("://").and_then(|(_, rest)| rest.split_once('@')).context("no login")?.0;
    let config = world.config_for("pooled", &format!("postgres://{login}@127.0.0.1:{port}/{database}?sslmode=disable"))?;

    let mut daemons = [world.serve_config(&config, &[])?, world.serve_config(&config, &[])?];
    for daemon in &daemons {
        holds(daemon, 2).await?;
    }
    publish_everywhere(&world, 50)?;
    let tally = world.settled(LONG).await?;
    assert_eq!(tally.published, 4 * 150);
    for daemon in &mut daemons {
        daemon.terminate().await?;
    }
    pooler.kill().await?;
    server.stop().await?;
    Ok(())
}

/// A pooler in front of the server with this socket; `None` where none is installed.
async fn start(world: &World, socket: &Path) -> anyhow::Result<Option<(Child, u16)>> {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let settings = world.path("pooler.ini");
    let text = format!(
        "[databases]\n* = host={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
         default_pool_size = 6\nlogfile = {}\nignore_startup_parameters = extra_float_digits\n",
        socket.display(),
        world.path("pooler.log").display(),
    );
    let login = world.database.as_ref().context("no database")?.url();
    let login = login.split_once("://").and_then(|(_, rest)| rest.split_once('@')).context("no login")?.0.to_owned();
    // It knows only logins that it is told, and connects to the server as one of them.
    let text = text.replace("* = host=", &format!("* = user={login} host="));
    std::fs::write(&settings, text)?;
    let mut command = Command::new("pgbouncer");
    // It refuses to be root, as Postgres does.
    if rustix::process::getuid().is_root() {
        command = Command::new("runuser");
        command.args(["-u", "nobody", "--", "pgbouncer"]);
        std::os::unix::fs::chown(world.folder(), Some(65534), None)?;
    }
    let child = command.arg(&settings).kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return Ok(None) };
    let there = eventually("the pooler listens", Duration::from_secs(10), async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    match (there, child.try_wait()?) {
        (Ok(()), _) => Ok(Some((child, port))),
        (Err(_), Some(_)) => Ok(None),
        (Err(error), None) => Err(error),
    }
}
