//! The proof by real processes: faults of the catalogue, each followed by the count that decides (published against stored).
//!
//! The ids (I1 …, fault 1 …) are those of the list of invariants; `docs/faults.md` says which is exercised where. Stories
//! here run many small worlds side by side: most of the time is spent waiting for leases and timeouts, and can be shared.

#![expect(clippy::print_stdout, reason = "what was measured, and what this machine could not do, is shown by --nocapture")]

mod commits;
mod database_away;
mod database_refuses;
mod handover;
mod kills;
mod late;
mod limits;
mod microsoft_away;
mod neighbours;
mod points;
mod rotation;
mod timeline;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use e2e::harness::{Daemon, World, eventually};
use local_postgres::{Durability, LocalPostgres, Options};

/// Long enough for anything that is meant to happen at once, on a machine that does other things as well.
pub(crate) const SOON: Duration = Duration::from_secs(120);
/// Long enough for work that takes a while.
pub(crate) const LONG: Duration = Duration::from_secs(300);
/// How long a lease lasts.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// A second between polls, many small pages, so that there are many moments to be disturbed at, and a budget that does
/// not slow them down.
pub(crate) const SMALL_PAGES: &str = "[poll]\ninterval = \"1s\"\noverlap = \"2m\"\npage_size = 25\n\
                               [budget]\ngraph_per_minute = 100000\ndefender_per_minute = 100000\ndefender_per_hour = 1000000\n";

/// One of several different stories that run side by side.
pub(crate) type Case = (String, Pin<Box<dyn Future<Output = anyhow::Result<()>>>>);

/// Names it.
pub(crate) fn case(name: &str, story: impl Future<Output = anyhow::Result<()>> + 'static) -> Case {
    (name.to_owned(), Box::pin(story))
}

/// A Postgres of the story's own, which it may stop and change without disturbing others.
pub(crate) async fn own_postgres(
    folder: &std::path::Path,
    durability: Durability,
    settings: &[(&str, &str)],
) -> anyhow::Result<LocalPostgres> {
    let bindir = std::env::vars_os().find(|(name, _)| name == "PG_BINDIR").map(|(_, value)| value.into());
    let mut all = vec![("max_wal_size".to_owned(), "128MB".to_owned())];
    all.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let options = Options { folder: folder.to_owned(), purpose: "a story".to_owned(), durability, bindir, settings: all };
    Ok(LocalPostgres::start(options).await?)
}

/// A folder for such a server: its user must get through.
pub(crate) fn server_folder() -> anyhow::Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("tocsin-pg-").tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))?;
    Ok(folder)
}

/// How many rows a relation has.
pub(crate) async fn rows(world: &World, relation: &str) -> anyhow::Result<i64> {
    world.count(&format!("select from {relation}")).await
}

/// Waits until more than `before` versions are stored.
pub(crate) async fn grown(world: &World, before: i64) -> anyhow::Result<i64> {
    eventually("more is stored than before", SOON, async || match rows(world, "dash.alert_version").await {
        Ok(now) if now > before => Ok(now),
        seen => Err(format!("{seen:?}, where {before} were before")),
    })
    .await
}

/// Waits until the log of a daemon holds this.
pub(crate) async fn says(daemon: &Daemon, words: &str, limit: Duration) -> anyhow::Result<()> {
    eventually(&format!("the log says {words:?}"), limit, async || {
        if daemon.log().is_ok_and(|log| log.contains(words)) { Ok(()) } else { Err(daemon.last_words()) }
    })
    .await
}

/// Waits until a daemon looks after so many customers.
pub(crate) async fn holds(daemon: &Daemon, tenants: usize) -> anyhow::Result<()> {
    eventually(&format!("it looks after {tenants} customers"), SOON, async || match daemon.metric("tocsin_lease_held", "").await {
        Ok(held) if held == tenants as f64 => Ok(()),
        seen => Err(format!("{seen:?}; its last words:\n{}", daemon.last_words())),
    })
    .await
}

/// Waits until a daemon says that it does its job.
pub(crate) async fn ready(daemon: &Daemon) -> anyhow::Result<()> {
    eventually("/readyz is 200", SOON, async || match daemon.ops("/readyz").await {
        Ok((200, _)) => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await
}

/// Publishes so many new alerts for every customer.
pub(crate) fn publish_everywhere(world: &World, count: usize) -> anyhow::Result<()> {
    for tenant in world.cloud.tenants() {
        world.cloud.publish_new(tenant.directory_id, count)?;
    }
    Ok(())
}

/// The customers that do not stand as `active`, with what the dashboard says of them.
pub(crate) async fn not_active(world: &World) -> anyhow::Result<BTreeSet<(uuid::Uuid, String)>> {
    let sql =
        "select directory_id, state || coalesce(': ' || reason, '') from dash.tenant_health where state <> 'active' or reason is not null";
    let rows: Vec<(uuid::Uuid, String)> = sqlx::query_as(sql).fetch_all(&world.pool().await?).await?;
    Ok(rows.into_iter().collect())
}
