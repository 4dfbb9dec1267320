//! Faults 48 to 52 and 55: Postgres is there and says no. Nothing is lost, it is told why, and it goes on by itself as
//! soon as it can. I1, I24, I29.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use e2e::harness::{Changes, Daemon, Setup, TestDatabase, World, eventually, side_by_side};
use local_postgres::Durability;
use simulator::{Settings, SourceMix};
use sqlx::AssertSqlSafe;

use super::{SMALL_PAGES, SOON, case, grown, own_postgres, publish_everywhere, ready, rows, server_folder};

#[tokio::test]
async fn faults_48_to_55_a_database_that_refuses_is_waited_for_and_named() -> anyhow::Result<()> {
    let folder = server_folder()?;
    let server = own_postgres(folder.path(), Durability::OffForTests, &[]).await?;
    let data = folder.path().join("data");
    let url = server.url().to_owned();
    let cases = [
        case("fault 48: read-only", read_only(url.clone())),
        case("fault 49: disk full", disk_full(url.clone(), data.clone())),
        case("fault 50: too many connections", too_many_connections(url.clone())),
        case("fault 51: deadlocks and races", deadlocks(url.clone())),
        case("fault 52: locks that are held", locked(url.clone())),
    ];
    let outcome = side_by_side(5, cases).await;
    server.stop().await?;
    outcome?;
    password_rotated().await
}

/// A world on this server, settled, and the daemon in it.
async fn settled_world(url: &str) -> anyhow::Result<(World, Daemon)> {
    let database = TestDatabase::create_on(url).await?;
    let cloud = Settings { tenants: 3, history: 60, sources: SourceMix::Mixed, ..Settings::default() };
    let world = World::build_on(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }, Some(database)).await?;
    world.import_all().await?;
    let daemon = world.serve()?;
    world.settled(SOON).await?;
    ready(&daemon).await?;
    Ok((world, daemon))
}

/// Runs a statement as the server's administrator.
async fn admin(world: &World, statement: &str) -> anyhow::Result<()> {
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&world.pool().await?).await?;
    Ok(())
}

fn name(world: &World) -> anyhow::Result<String> {
    Ok(world.database.as_ref().context("no database")?.name().to_owned())
}

/// While it is refused: nobody polls, and it is said with these words. Then it heals, and nothing is lost.
async fn told_and_healed(
    world: World,
    mut daemon: Daemon,
    words: &[&str],
    heal: impl AsyncFnOnce(&World) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    publish_everywhere(&world, 40)?;
    eventually("/readyz says what is wrong", SOON, async || match daemon.ops("/readyz").await {
        Ok((503, body)) if words.iter().any(|word| body.contains(word)) => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await?;
    publish_everywhere(&world, 40)?;
    heal(&world).await?;
    let tally = world.settled(SOON).await?;
    anyhow::ensure!(tally.published == 3 * 140, "{tally}");
    anyhow::ensure!(rows(&world, "dash.quarantine").await? == 0, "what could not be stored then is in quarantine");
    ready(&daemon).await?;
    anyhow::ensure!(!daemon.log()?.contains("panicked"), "{}", daemon.last_words());
    daemon.terminate().await?;
    world.end().await
}

async fn read_only(url: String) -> anyhow::Result<()> {
    let (world, daemon) = settled_world(&url).await?;
    let name = name(&world)?;
    admin(&world, &format!("alter database {name} set default_transaction_read_only = on")).await?;
    world.database.as_ref().context("no database")?.cut_connections().await?;
    told_and_healed(world, daemon, &["read-only"], async |world| {
        let heal = format!("begin read write; alter database {name} reset default_transaction_read_only; commit");
        sqlx::raw_sql(AssertSqlSafe(heal)).execute(&world.pool().await?).await?;
        world.database.as_ref().context("no database")?.cut_connections().await
    })
    .await
}

/// A small disk for the tables of one database, and a file on it that takes what is left.
struct SmallDisk {
    mount: PathBuf,
}

impl SmallDisk {
    /// `None` where only somebody with more rights could mount one.
    fn mount(mount: PathBuf, owner_of: &Path) -> anyhow::Result<Option<Self>> {
        std::fs::create_dir_all(&mount)?;
        let done = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(&mount).output();
        if !done.is_ok_and(|done| done.status.success()) {
            return Ok(None);
        }
        let disk = Self { mount };
        let owner = std::fs::metadata(owner_of)?;
        std::os::unix::fs::chown(&disk.mount, Some(owner.uid()), Some(owner.gid()))?;
        std::fs::set_permissions(&disk.mount, std::fs::Permissions::from_mode(0o700))?;
        Ok(Some(disk))
    }

    fn fill(&self) -> anyhow::Result<()> {
        let mut ballast = std::fs::File::create(self.mount.join("ballast"))?;
        // It ends when nothing more fits.
        let _ = std::io::copy(&mut std::io::repeat(b'x'), &mut ballast);
        Ok(())
    }

    fn relieve(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.mount.join("ballast"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.mount).output();
    }
}

async fn disk_full(url: String, data: PathBuf) -> anyhow::Result<()> {
    let mount = data.parent().context("the data folder has no parent")?.join("small");
    let Some(disk) = SmallDisk::mount(mount, &data)? else {
        println!("skipped: fault 49, disk full: mounting a small disk needs root");
        return Ok(());
    };
    let database = TestDatabase::create_on(&url).await?;
    let place = disk.mount.display();
    sqlx::query(AssertSqlSafe(format!("create tablespace small location '{place}'"))).execute(&database.pool).await?;
    sqlx::query("grant create on tablespace small to public").execute(&database.pool).await?;
    // Whatever is made from now on, the tables of the migrations, is made there; the log of the server is elsewhere.
    let small = format!("alter database {} set default_tablespace = 'small'", database.name());
    sqlx::query(AssertSqlSafe(small)).execute(&database.pool).await?;
    let cloud = Settings { tenants: 3, history: 60, sources: SourceMix::Mixed, ..Settings::default() };
    let world = World::build_on(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }, Some(database)).await?;
    world.import_all().await?;
    let daemon = world.serve()?;
    world.settled(SOON).await?;
    disk.fill()?;
    told_and_healed(world, daemon, &["could not extend", "No space left", "53100"], async |_| disk.relieve()).await
}

/// The daemon's login may have no connection more, as when others have taken all of them.
async fn too_many_connections(url: String) -> anyhow::Result<()> {
    let database = TestDatabase::create_on(&url).await?;
    let login = format!("login_{}", database.name());
    sqlx::query(AssertSqlSafe(format!("create role {login} login"))).execute(&database.pool).await?;
    let cloud = Settings { tenants: 3, history: 60, sources: SourceMix::Mixed, ..Settings::default() };
    let world = World::build_on(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }, Some(database)).await?;
    world.import_all().await?;
    let granted: Result<(), _> = admin(&world, &format!("grant tocsin_ingest to {login}")).await;
    if granted.is_err() {
        // Where there are no roles, the login needs the rights itself.
        admin(&world, &format!("grant usage on schema tocsin, dash to {login}")).await?;
        admin(&world, &format!("grant all on all tables in schema tocsin, dash to {login}")).await?;
    }
    let direct = world.database.as_ref().context("no database")?.url();
    let (scheme, rest) = direct.split_once("://").context("no scheme")?;
    let (_, place) = rest.split_once('@').context("no login")?;
    let config = world.config_for("own-login", &format!("{scheme}://{login}@{place}"))?;
    let daemon = world.serve_config(&config, &[])?;
    world.settled(SOON).await?;
    admin(&world, &format!("alter role {login} connection limit 0")).await?;
    admin(&world, &format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{login}'")).await?;
    told_and_healed(world, daemon, &["no connection within", "too many connections"], async |world| {
        admin(world, &format!("alter role {login} connection limit -1")).await
    })
    .await
}

/// A trigger makes every transaction that stores something lose a race, sometimes by a deadlock.
async fn deadlocks(url: String) -> anyhow::Result<()> {
    let (world, mut daemon) = settled_world(&url).await?;
    let pool = world.pool().await?;
    admin(&world, "create sequence public.races").await?;
    admin(
        &world,
        "create function public.race() returns trigger language plpgsql security definer as $$ begin \
         case nextval('public.races') % 4 when 1 then raise exception using errcode = '40P01'; when 2 then raise exception using errcode = '40001'; \
         else null; end case; return null; end $$",
    )
    .await?;
    admin(&world, "grant usage on schema public to public").await?;
    admin(&world, "create trigger race before insert on tocsin.alert for each statement execute function public.race()").await?;
    publish_everywhere(&world, 80)?;
    let tally = world.settled(SOON).await?;
    anyhow::ensure!(tally.published == 3 * 140, "{tally}");
    let races: i64 = sqlx::query_scalar("select last_value from public.races").fetch_one(&pool).await?;
    anyhow::ensure!(races >= 6, "only {races} statements raced, so this proved little");
    anyhow::ensure!(rows(&world, "dash.quarantine").await? == 0, "the loser of a race is in quarantine");
    daemon.terminate().await?;
    world.end().await
}

/// Somebody holds the tables for longer than any statement may take; it is a race for each feed, and passes.
async fn locked(url: String) -> anyhow::Result<()> {
    let (world, mut daemon) = settled_world(&url).await?;
    let mut changes = Changes::default();
    let mut lock = world.pool().await?.begin().await?;
    sqlx::query("lock table tocsin.alert in share mode").execute(&mut *lock).await?;
    for tenant in world.cloud.tenants() {
        changes.make(&world, &tenant, 5).await?;
    }
    publish_everywhere(&world, 80)?;
    let begun = tokio::time::Instant::now();
    eventually("the lock is held for longer than a statement may take", SOON, async || {
        if begun.elapsed() > Duration::from_secs(14) { Ok(()) } else { Err(()) }
    })
    .await?;
    lock.rollback().await?;
    let tally = world.settled(SOON).await?;
    anyhow::ensure!(tally.published == 3 * 140 && changes.count() == 15, "{tally}");
    daemon.terminate().await?;
    world.end().await
}

/// The password in force is another one from now on. The daemon goes on with what it has, says so when it cannot, and
/// after a restart with the new one, everything is there.
async fn password_rotated() -> anyhow::Result<()> {
    let folder = server_folder()?;
    let server = own_postgres(folder.path(), Durability::OffForTests, &[]).await?;
    let database = TestDatabase::create_on(server.url()).await?;
    sqlx::query("create role rotated login superuser password 'the-first'").execute(&database.pool).await?;
    // From the next start on, this login needs its password.
    let rules = folder.path().join("data/pg_hba.conf");
    std::fs::write(&rules, "local all rotated scram-sha-256\nlocal all all trust\n")?;
    sqlx::query("select pg_reload_conf()").execute(&database.pool).await?;
    let cloud = Settings { tenants: 3, history: 60, sources: SourceMix::Mixed, ..Settings::default() };
    let world = World::build_on(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }, Some(database)).await?;
    world.import_all().await?;

    let direct = world.database.as_ref().context("no database")?.url();
    let (scheme, rest) = direct.split_once("://").context("no scheme")?;
    let (_, place) = rest.split_once('@').context("no login")?;
    let file = world.write_private("database.url", &format!("{scheme}://rotated:the-first@{place}"))?;
    let text =
        std::fs::read_to_string(&world.config)?.replace(&format!("url = \"{direct}\""), &format!("url_file = \"{}\"", file.display()));
    let config = world.path("by-file.toml");
    std::fs::write(&config, text)?;
    let mut daemon = world.serve_config(&config, &[])?;
    world.settled(SOON).await?;
    let before = grown(&world, 0).await?;

    admin(&world, "alter role rotated password 'the-second'").await?;
    admin(&world, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'rotated'").await?;
    publish_everywhere(&world, 40)?;
    eventually("/readyz says what is wrong", SOON, async || match daemon.ops("/readyz").await {
        Ok((503, body)) if body.contains("password authentication failed") => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await?;
    anyhow::ensure!(rows(&world, "dash.alert_version").await? == before, "something was stored without a password");
    daemon.terminate().await?;
    world.write_private("database.url", &format!("{scheme}://rotated:the-second@{place}"))?;
    let mut daemon = world.serve_config(&config, &[])?;
    let tally = world.settled(SOON).await?;
    anyhow::ensure!(tally.published == 300, "{tally}");
    anyhow::ensure!(!daemon.log()?.contains("the-second"), "a password is in the log");
    daemon.terminate().await?;
    world.end().await?;
    Ok(server.stop().await?)
}
