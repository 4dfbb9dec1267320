//! A database that has gone back in time is noticed by what this host has seen in it.

use sqlx::PgPool;
use tenant_registry::{Alerts, AuditHead, Memory, Upkeep, WentBack};
use tokio_util::sync::CancellationToken;

use crate::world::{World, eventually, id, world};

const KEPT: &[&str] = &["tenant", "audit", "audit_head", "tenant_key", "tenant_secret"];

/// Keeps what the registry holds, as a backup would.
async fn back_up(world: &World) {
    for table in KEPT {
        let sql = format!("create table public.kept_{table} as select * from tocsin.{table}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&world.pool).await.unwrap();
    }
}

/// Puts it back, as a restore would.
async fn restore(world: &World) {
    let mut sql = "begin; set local session_replication_role = replica;".to_owned();
    for table in KEPT {
        sql += &format!("delete from tocsin.{table}; insert into tocsin.{table} select * from public.kept_{table};");
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql + "commit")).execute(&world.pool).await.unwrap();
}

fn lost(found: Option<WentBack>) -> Vec<(u128, String)> {
    found.map(|found| found.lost).unwrap_or_default().into_iter().map(|chain| (chain.tenant.0.as_u128(), chain.last)).collect()
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_a_restore_undid_is_named_once_and_counted_until_it_is_decided_again(pool: PgPool) {
    let world = world(pool).await.with_tenants(4).await;
    let folder = tempfile::tempdir().unwrap();
    let (registry, mut memory) = (&world.registry, Memory::in_folder(&folder.path().join("state")));
    assert_eq!(registry.remember(&mut memory).await.unwrap(), None, "nothing was seen before");
    back_up(&world).await;
    registry.pause(id(1)).await.unwrap();
    registry.remove(id(2), Alerts::Keep).await.unwrap();
    registry.pause(id(3)).await.unwrap();
    registry.resume(id(3)).await.unwrap();
    assert_eq!(registry.remember(&mut memory).await.unwrap(), None, "it has only grown");

    restore(&world).await;
    let undone = [(1, "tenant.pause".to_owned()), (2, "tenant.remove".to_owned()), (3, "tenant.resume".to_owned())];
    // Looked at before a daemon runs, and by a process that remembers nothing itself.
    let mut again = Memory::in_folder(&folder.path().join("state"));
    assert_eq!(lost(registry.went_back(&again).await.unwrap()), undone);
    assert_eq!(lost(registry.still_undone(30).await.unwrap()), [], "nobody has written it down yet");
    // Something is decided before anybody looks: the chain goes on, and is another one all the same.
    registry.pause(id(3)).await.unwrap();
    assert_eq!(lost(registry.remember(&mut again).await.unwrap()), undone);
    assert_eq!(lost(registry.remember(&mut again).await.unwrap()), [], "it is said once");
    assert_eq!(lost(registry.remember(&mut memory).await.unwrap()), [], "by one of them");
    assert_eq!(world.count("select count(*) from tocsin.audit where action = 'database.went-back'").await, 1);

    assert_eq!(lost(registry.still_undone(30).await.unwrap()), undone, "until it is decided again");
    registry.remove(id(2), Alerts::Keep).await.unwrap();
    assert_eq!(lost(registry.still_undone(30).await.unwrap()), [undone[0].clone(), undone[2].clone()]);
    assert_eq!(lost(registry.still_undone(0).await.unwrap()), [], "or for so long");

    let kept = AuditHead::parse_lines(&std::fs::read_to_string(memory.lost_file()).unwrap()).unwrap();
    assert_eq!(registry.verify_audit(None, &kept).await.unwrap().problems, 3, "the heads that are lacking");
    assert_eq!(registry.verify_audit(None, &[]).await.unwrap().problems, 0);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_running_daemon_remembers_and_notices_a_failover(pool: PgPool) {
    let world = world(pool).await.with_tenants(2).await;
    let folder = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let upkeep = Upkeep::new(world.registry.clone()).looking_every(std::time::Duration::from_millis(10));
    let running = tokio::spawn(upkeep.remembering(Memory::in_folder(folder.path())).run(stop.clone()));
    let seen = async |action: &'static str| {
        let file = folder.path().join("audit.heads");
        eventually(action, async || std::fs::read_to_string(&file).unwrap_or_default(), |text| text.contains(action)).await
    };
    seen("tenant.add").await;
    back_up(&world).await;
    world.registry.remove(id(1), Alerts::Keep).await.unwrap();
    seen("tenant.remove").await;
    restore(&world).await;
    let written = "select count(*) from tocsin.audit where action = 'database.went-back' and details like '%tenant.remove%'";
    eventually("it is written down", async || world.count(written).await, |count| *count == 1).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_file_that_cannot_be_used_is_told_and_left_alone(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.heads");
    std::fs::write(&file, "rubbish\n").unwrap();
    let error = world.registry.remember(&mut Memory::in_folder(folder.path())).await.unwrap_err().to_string();
    assert!(error.contains("audit.heads: line 1 is no head"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "rubbish\n");
}
