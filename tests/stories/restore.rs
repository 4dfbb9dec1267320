//! Backup and restore, as docs/how-to/back-up.md and restore-from-a-backup.md say: by a dump and to a point in time.
//!
//! Whatever went on after the backup, what Microsoft still has is read again, each alert once; what is derived equals a
//! recount; and what an operator decided since is named, because nothing else would tell that it is undone.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use e2e::harness::{Changes, Daemon, OwnPostgres, Setup, TestDatabase, World, eventually};
use simulator::{Rotation, Settings, SimTenant, SourceMix};
use uuid::Uuid;

use crate::digest::assert_derived;
use crate::proof::{LONG, SOON, publish_everywhere, ready, says, server_folder};

/// As it is where commits can be replayed.
const ARCHIVING: &[(&str, &str)] = &[("wal_level", "replica"), ("max_wal_senders", "4"), ("archive_mode", "on")];

/// A world on a server of its own, in which some alerts are stored and derived.
async fn begun(server: &OwnPostgres, rotation: Rotation) -> anyhow::Result<(World, Daemon)> {
    let cloud = Settings { tenants: 3, history: 40, sources: SourceMix::Mixed, rotation, ..Settings::default() };
    let database = TestDatabase::create_on(&server.url()?).await?;
    let world = World::build_on(Setup { cloud, ..Setup::default() }, Some(database)).await?;
    world.import_all().await?;
    let daemon = world.serve()?;
    world.settled(LONG).await?;
    world.derived(SOON).await?;
    Ok((world, daemon))
}

/// What happens after the backup: alerts come and change, every token is replaced, one customer goes.
async fn time_passes(world: &World, mut daemon: Daemon, gone: Option<&SimTenant>) -> anyhow::Result<()> {
    let mut changes = Changes::default();
    publish_everywhere(world, 7)?;
    for tenant in world.cloud.tenants() {
        ensure!(changes.make(world, &tenant, 5).await? == 5, "five alerts change");
    }
    world.settled(LONG).await?;
    // Another process has no access token, and redeems the refresh token.
    daemon.terminate().await?;
    let before = token_versions(world).await?;
    let mut daemon = world.serve()?;
    eventually("every refresh token is replaced", SOON, async || match token_versions(world).await {
        // Each above its own: who reads two services has replaced his more often than others have.
        Ok(now) if before.iter().all(|(tenant, version)| now.get(tenant) > Some(version)) => Ok(()),
        seen => Err(format!("{seen:?}, was {before:?}")),
    })
    .await?;
    if let Some(gone) = gone {
        world.run(&["tenant", "remove", &gone.name, "--keep-alerts", "--yes"]).await?.ok()?;
        let heads = world.path("state/audit.heads");
        eventually("this host has seen the removal", SOON, async || match std::fs::read_to_string(&heads) {
            Ok(text) if text.contains("tenant.remove") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await?;
    }
    daemon.terminate().await
}

/// How often the refresh token of each customer was replaced.
async fn token_versions(world: &World) -> anyhow::Result<BTreeMap<Uuid, i64>> {
    let rows = sqlx::query_as("select tenant, version from tocsin.tenant_secret").fetch_all(&world.pool().await?).await?;
    Ok(rows.into_iter().collect())
}

/// A dump of the database and the roles, put into an empty server; the world works on that one from now on.
async fn dump_and_restore(world: &mut World, dump: &Path, roles: &Path, into: &OwnPostgres) -> anyhow::Result<()> {
    // "role postgres already exists" and the like are no harm.
    into.program("psql", &["--quiet", "--file", path(roles)?]).await?;
    into.program("pg_restore", &["--create", "--dbname=postgres", "--exit-on-error", path(dump)?]).await?;
    let old = world.database.take().context("a database of its own")?;
    let (url, name) = (old.url(), old.name().to_owned());
    old.drop_now().await?;
    world.database = Some(TestDatabase::existing_on(&into.url()?, &name).await?);
    let restored = world.database.as_ref().map(TestDatabase::url).unwrap_or_default();
    let text = std::fs::read_to_string(&world.config)?;
    Ok(std::fs::write(&world.config, text.replace(&url, &restored))?)
}

fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that can be typed")
}

/// What an operator is told of a customer who is back, before the daemon runs and after.
async fn told_of(world: &World, daemon: &Daemon, back: &SimTenant) -> anyhow::Result<()> {
    says(daemon, "the database is older than it was when this host last saw it", SOON).await?;
    says(daemon, &format!("tenant.remove {}", back.directory_id), SOON).await?;
    ensure!(world.health(back.directory_id).await?.state == "active", "he is back");
    let audited = world.run(&["audit", "list"]).await?.ok()?.stdout;
    ensure!(audited.contains("database.went-back") && audited.contains("tenant.remove"), "{audited}");
    let lost = world.path("state/audit.heads.lost");
    let verified = world.run(&["audit", "verify", "--heads", path(&lost)?]).await?;
    ensure!(verified.code() == 3 && verified.stdout.contains(&back.directory_id.to_string()), "{verified:?}");
    let judged = world.run(&["doctor"]).await?.stdout;
    ensure!(judged.contains("fail  time of the database") && judged.contains("1 of them had been removed"), "{judged}");
    world.run(&["tenant", "remove", &back.name, "--keep-alerts", "--yes"]).await?.ok()?;
    let judged = world.run(&["doctor"]).await?.stdout;
    ensure!(!judged.contains("fail  time of the database"), "done again, it counts no more: {judged}");
    Ok(())
}

/// Everything is there once, nothing is missing at the source's own word, and what is derived is a recount.
async fn healed(world: &World, left: &SimTenant) -> anyhow::Result<()> {
    world.settled(LONG).await?;
    world.derived(LONG).await?;
    assert_derived(world).await?;
    ensure!(world.count("select from dash.gap where healed_at is null").await? == 0, "a gap stays open");
    // Exit 0: nothing differed between the source and what is stored.
    world.run(&["reconcile", "--tenant", &left.name, "--since", "24h"]).await?.ok()?;
    Ok(())
}

async fn dumped(world: &World, server: &OwnPostgres) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (dump, roles) = (world.path("tocsin.dump"), world.path("roles.sql"));
    let name = world.database.as_ref().context("a database of its own")?.name();
    server.program("pg_dump", &["--no-blobs", "--format=custom", "--file", path(&dump)?, name]).await?;
    std::fs::write(&roles, server.program("pg_dumpall", &["--globals-only", "--no-role-passwords"]).await?)?;
    Ok((dump, roles))
}

#[tokio::test]
async fn after_a_dump_on_another_server_the_stretch_heals_and_a_removal_since_is_named() -> anyhow::Result<()> {
    let (old_folder, new_folder) = (server_folder()?, server_folder()?);
    let server = OwnPostgres::start(old_folder.path(), &[]).await?;
    let (mut world, daemon) = begun(&server, Rotation::Entra).await?;
    let tenants = world.cloud.tenants();
    let (gone, left) = (&tenants[0], &tenants[1]);
    let (dump, roles) = dumped(&world, &server).await?;
    time_passes(&world, daemon, Some(gone)).await?;

    let another = OwnPostgres::start(new_folder.path(), &[]).await?;
    dump_and_restore(&mut world, &dump, &roles, &another).await?;
    server.stop().await?;
    // Looked at before the daemon runs.
    world.run(&["db", "migrate"]).await?.ok()?;
    let judged = world.run(&["doctor"]).await?.stdout;
    ensure!(judged.contains("fail  time of the database"), "{judged}");
    let elsewhere = "select from tocsin.derivation where system_id <> (select system_identifier from pg_control_system())";
    ensure!(world.count(elsewhere).await? == 3, "what is derived was derived on another server");

    let mut daemon = world.serve()?;
    ready(&daemon).await?;
    healed(&world, left).await?;
    ensure!(world.count(elsewhere).await? == 0, "it was derived anew");
    ensure!(world.count("select from dash.tenant_health where state <> 'active'").await? == 0, "the old tokens still work");
    told_of(&world, &daemon, gone).await?;
    // It is said once: the present database is what is remembered now.
    daemon.terminate().await?;
    let mut daemon = world.serve()?;
    ready(&daemon).await?;
    ensure!(!daemon.log()?.contains("the database is older"), "{}", daemon.last_words());
    daemon.terminate().await?;
    world.end().await?;
    another.stop().await
}

#[tokio::test]
async fn where_a_token_is_taken_once_a_restore_asks_each_customer_to_sign_in_and_says_why() -> anyhow::Result<()> {
    let (old_folder, new_folder) = (server_folder()?, server_folder()?);
    let server = OwnPostgres::start(old_folder.path(), &[]).await?;
    let (mut world, daemon) = begun(&server, Rotation::Strict).await?;
    let (dump, roles) = dumped(&world, &server).await?;
    time_passes(&world, daemon, None).await?;
    let another = OwnPostgres::start(new_folder.path(), &[]).await?;
    dump_and_restore(&mut world, &dump, &roles, &another).await?;
    server.stop().await?;

    let mut daemon = world.serve()?;
    let tenants = world.cloud.tenants();
    for tenant in &tenants {
        let health =
            world.healthy_when(tenant.directory_id, "he must sign in again", SOON, |health| health.state == "needs-consent").await?;
        ensure!(health.reason.contains("backup") || health.reason.contains("after a restore"), "{health:?}");
        ensure!(health.action.contains("tocsin tenant invite"), "{health:?}");
    }
    // Tokens of new sign-ins, by the way that takes them without a browser.
    let tenants: Vec<_> = tenants
        .into_iter()
        .map(|tenant| Ok(SimTenant { refresh_token: world.cloud.issue_refresh_token(tenant.directory_id)?, ..tenant }))
        .collect::<anyhow::Result<_>>()?;
    let csv = world.write_private("again.csv", &world.csv(&tenants))?;
    world.run(&["tenant", "import", path(&csv)?, "--replace-token"]).await?.ok()?;
    healed(&world, &tenants[1]).await?;
    daemon.terminate().await?;
    world.end().await?;
    another.stop().await
}

#[tokio::test]
async fn after_a_recovery_to_a_point_in_time_the_stretch_heals_as_well() -> anyhow::Result<()> {
    let folder = server_folder()?;
    let (archive, base) = (folder.path().join("wal"), folder.path().join("base"));
    std::fs::create_dir(&archive)?;
    // The server's user writes here.
    std::fs::set_permissions(&archive, std::fs::Permissions::from_mode(0o777))?;
    let command = format!("test ! -f {0}/%f && cp %p {0}/%f", archive.display());
    let settings: Vec<_> = ARCHIVING.iter().copied().chain([("archive_command", command.as_str())]).collect();
    let mut server = OwnPostgres::start(&folder.path().join("server"), &settings).await?;
    let (mut world, daemon) = begun(&server, Rotation::Entra).await?;
    server.program("pg_basebackup", &["--pgdata", path(&base)?, "--wal-method=stream", "--checkpoint=fast"]).await?;
    // A little more, so that what is replayed is more than the backup.
    publish_everywhere(&world, 3)?;
    world.settled(LONG).await?;
    world.derived(SOON).await?;
    let stored = world.count("select from dash.alert").await?;
    let admin = server.pool(1)?;
    sqlx::query("select pg_create_restore_point('good')").execute(&admin).await?;
    let segment: String = sqlx::query_scalar("select pg_walfile_name(pg_switch_wal())").fetch_one(&admin).await?;
    eventually("the log up to there is archived", SOON, async || match archive.join(&segment).exists() {
        true => Ok(()),
        false => Err(format!("{segment} is not in the archive")),
    })
    .await?;
    admin.close().await;
    let tenants = world.cloud.tenants();
    let (gone, left) = (&tenants[0], &tenants[1]);
    time_passes(&world, daemon, Some(gone)).await?;

    let old = world.database.take().context("a database of its own")?;
    let (url, name) = (old.url(), old.name().to_owned());
    old.pool.close().await;
    server.stop_immediately().await?;
    server.recover_from(&base, &archive, "good").await?;
    server.start_again().await?;
    let admin = server.pool(1)?;
    eventually("the server takes writes again", SOON, async || {
        match sqlx::query_scalar::<_, bool>("select pg_is_in_recovery()").fetch_one(&admin).await {
            Ok(false) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    admin.close().await;
    world.database = Some(TestDatabase::existing_on(&server.url()?, &name).await?);
    let restored = world.database.as_ref().map(TestDatabase::url).unwrap_or_default();
    std::fs::write(&world.config, std::fs::read_to_string(&world.config)?.replace(&url, &restored))?;
    ensure!(world.count("select from dash.alert").await? == stored, "it is the chosen moment");

    let mut daemon = world.serve()?;
    ready(&daemon).await?;
    healed(&world, left).await?;
    told_of(&world, &daemon, gone).await?;
    daemon.terminate().await?;
    world.end().await?;
    server.stop().await
}
