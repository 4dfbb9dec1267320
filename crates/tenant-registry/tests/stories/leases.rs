//! Leases: who looks after a tenant when replicas come, go, crash and stall. Real locks throughout.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use domain::{TenantId, TenantState};
use sqlx::PgPool;
use tenant_registry::{Alerts, Config, RotateError};
use tokio::time::Instant;

use crate::world::{CLIENT, eventually, id, quick, token, world};

fn ids(set: &domain::TenantSet) -> BTreeSet<TenantId> {
    set.tenants.keys().copied().collect()
}

#[sqlx::test(migrations = "../../migrations")]
async fn one_replica_holds_everybody_paused_ones_too_and_new_ones_soon(pool: PgPool) {
    let world = world(pool).await.with_tenants(3).await;
    let mut worker = world.worker();
    let set = worker.holding(3).await;
    assert!(set.trusted_until > Instant::now() + Duration::from_secs(20));
    assert!(set.tenants.values().all(|tenant| tenant.state == TenantState::Active && tenant.epoch.0 == 1));

    world.registry.pause(id(2)).await.unwrap();
    worker.until("the pause", |set| set.tenants[&id(2)].state == TenantState::Paused).await;
    world.import(&[format!("{},late,global,main,graph-alerts,t", id(4))]).await;
    worker.holding(4).await;
    world.registry.remove(id(3), Alerts::Keep).await.unwrap();
    let set = worker.holding(3).await;
    assert_eq!(ids(&set), [id(1), id(2), id(4)].into());
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn each_change_of_a_tenant_is_noticed_without_reading_everything_each_time(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let mut worker = world.worker_with(Config { full_read_every: Duration::from_secs(600), ..quick() });
    worker.holding(1).await;
    let facts = [
        "renamed,global,main,graph-alerts,",
        "renamed,global,main,mde-alerts,",
        "renamed,global,other,mde-alerts,",
        "renamed,china,other,mde-alerts,token-1",
    ];
    for facts in facts {
        let before = worker.tenant(id(1)).await;
        let report = world.import(&[format!("{},{facts}", id(1))]).await;
        assert_eq!(report.failures().count(), 0, "{report:?}");
        worker.until(facts, |set| *set.tenants[&id(1)] != *before).await;
    }
    world.registry.pause(id(1)).await.unwrap();
    worker.until("the pause", |set| set.tenants[&id(1)].state == TenantState::Paused).await;
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn who_is_held_stays_the_same_allocation_until_somebody_changes(pool: PgPool) {
    let world = world(pool).await.with_tenants(2).await;
    let mut worker = world.worker();
    let before = worker.holding(2).await;
    // Several renewals, and in between everything was read anew.
    let far = before.trusted_until + 3 * quick().full_read_every;
    let later = worker.until("renewals", |set| set.trusted_until > far).await;
    assert!(Arc::ptr_eq(&before.tenants, &later.tenants));
    world.registry.pause(id(1)).await.unwrap();
    let paused = worker.until("the pause", |set| set.tenants[&id(1)].state == TenantState::Paused).await;
    assert!(!Arc::ptr_eq(&later.tenants, &paused.tenants));
    assert!(Arc::ptr_eq(&later.tenants[&id(2)], &paused.tenants[&id(2)]), "whoever did not change is the same");
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_a_look_found_before_it_failed_is_not_forgotten(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let (never, each_time) = (Duration::from_secs(600), Duration::ZERO);
    let mut worker = world.worker_with(Config { full_read_every: never, clocks_every: each_time, ..quick() });
    worker.holding(1).await;
    // The clocks are looked at after who is held was read, and from now on that fails.
    let rename = async |from: &str, to: &str| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("alter table tocsin.{from} rename to {to}"))).execute(&world.pool).await.unwrap();
    };
    rename("clock_warning", "mislaid").await;
    world.registry.pause(id(1)).await.unwrap();
    let looks = || world.count("select looks from tocsin.replica");
    let before = looks().await;
    eventually("a whole look at the pause", looks, |looks| *looks >= before + 2).await;
    assert_eq!(worker.tenant(id(1)).await.state, TenantState::Active, "nothing was published meanwhile");
    rename("mislaid", "clock_warning").await;
    worker.until("the pause", |set| set.tenants[&id(1)].state == TenantState::Paused).await;
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_lease_that_went_elsewhere_is_noticed_at_the_next_renewal(pool: PgPool) {
    let world = world(pool).await.with_tenants(2).await;
    let mut worker = world.worker_with(Config { full_read_every: Duration::from_secs(600), ..quick() });
    worker.holding(2).await;
    world.hold(id(1)).await;
    let set = worker.holding(1).await;
    assert!(set.tenants.contains_key(&id(2)));
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn renewing_very_many_leases_writes_into_no_index_and_those_that_went_elsewhere_are_told_apart(pool: PgPool) {
    let world = world(pool).await;
    let many = "with made as (
                    insert into tocsin.tenant (tenant, name, cloud, app, sources, state)
                    select lpad(to_hex(n), 32, '0')::uuid, 'customer ' || n, 'global', 'main', '{graph-alerts}', 'active'
                    from generate_series(1, 2000) n
                    returning tenant
                )
                insert into tocsin.lease (tenant) select tenant from made";
    sqlx::query(many).execute(&world.pool).await.unwrap();
    // As long as an ANALYZE holds its snapshot, nothing dead is cleared away in this database, and the renewals of that moment leave their
    // pages. Autovacuum makes one whenever it likes: not of these tables, and what it makes of others is little among so many renewals.
    let unattended = "alter table tocsin.tenant set (autovacuum_enabled = off); alter table tocsin.lease set (autovacuum_enabled = off)";
    sqlx::raw_sql(unattended).execute(&world.pool).await.unwrap();
    let mut worker = world.worker_with(Config { full_read_every: Duration::from_secs(600), ..quick() });
    worker.holding(2000).await;

    // Counters are shown about a second after what they count. The claim and the first renewals are before the pages are as they stay.
    let written = || async {
        let sql = "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relid = 'tocsin.lease'::regclass";
        sqlx::query_as::<_, (i64, i64)>(sql).fetch_one(&world.pool).await.unwrap()
    };
    let early = eventually("the first renewals", written, |(all, _)| *all >= 10_000).await;
    let later = eventually("forty more", written, |(all, _)| *all >= early.0 + 80_000).await;
    let (all, within_their_page) = (later.0 - early.0, later.1 - early.1);
    assert!(within_their_page * 10 >= all * 9, "{within_their_page} of {all} renewals stayed in their page");

    let elsewhere = "update tocsin.lease set epoch = epoch + 1, holder = '00000000-0000-0000-0000-00000000dead'
                     where tenant in (lpad(to_hex(7), 32, '0')::uuid, lpad(to_hex(1999), 32, '0')::uuid)";
    sqlx::query(elsewhere).execute(&world.pool).await.unwrap();
    let set = worker.holding(1998).await;
    assert!(!set.tenants.contains_key(&id(7)) && !set.tenants.contains_key(&id(1999)));
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn i11_a_tenant_on_its_way_to_another_replica_is_published_no_more_but_held_for_a_while(pool: PgPool) {
    let world = world(pool).await.with_tenants(4).await;
    let mut first = world.worker();
    first.redeeming.begin((1..=4).map(id));
    first.holding(4).await;
    let second = world.worker();
    first.holding(2).await;
    let held = || {
        world.count(
            "select count(*) from tocsin.lease l join tocsin.replica r on l.holder = r.replica where l.epoch = 1 and l.expires_at > now()",
        )
    };
    assert_eq!(held().await, 4, "what is in flight for the two can end");
    assert!(second.held.borrow().tenants.is_empty());
    // When the other one goes away again, they are simply ours as before.
    second.stop().await;
    let set = first.holding(4).await;
    assert!(set.tenants.values().all(|tenant| tenant.epoch.0 == 1));
    first.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn two_replicas_share_fairly_and_one_that_stops_hands_over_at_once(pool: PgPool) {
    let world = world(pool).await.with_tenants(5).await;
    let mut first = world.worker();
    first.holding(5).await;
    let mut second = world.worker();
    let of_second = second.holding(2).await;
    let of_first = first.holding(3).await;
    assert_eq!(ids(&of_first).union(&ids(&of_second)).count(), 5, "nobody is held twice or by nobody");
    assert!(of_second.tenants.values().all(|tenant| tenant.epoch.0 == 2));
    assert_eq!([&of_first, &of_second].map(|set| set.replicas.get()), [2, 2], "each knows that it is not alone");

    let started = Instant::now();
    second.stop().await;
    assert_eq!(first.holding(5).await.replicas.get(), 1);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(world.count("select count(*) from tocsin.replica").await, 1);
    first.stop().await;
    assert_eq!(world.count("select count(*) from tocsin.lease where holder is not null").await, 0);
    assert_eq!(world.count("select count(*) from tocsin.replica").await, 0);
}

#[sqlx::test(migrations = "../../migrations")]
async fn i7_a_crashed_replicas_lease_expires_and_its_epoch_is_void(pool: PgPool) {
    let world = world(pool).await.with_tenants(2).await;
    let config = || Config { lease: Duration::from_secs(2), trust_margin: Duration::from_millis(200), ..quick() };
    let mut first = world.worker_with(config());
    let stale = first.tenant(id(1)).await;
    first.holding(2).await;
    first.crash().await;

    let mut second = world.worker_with(Config { replica_gone_after: Duration::from_millis(300), ..config() });
    let set = second.holding(2).await;
    assert!(set.tenants.values().all(|tenant| tenant.epoch.0 == 2));
    let error = world.registry.commit_rotation(stale.fence(), 1, CLIENT, &token("late")).await.unwrap_err();
    assert!(matches!(error, RotateError::LeaseLost), "{error}");
    world.registry.commit_rotation(set.tenants[&id(1)].fence(), 1, CLIENT, &token("in time")).await.unwrap();
    second.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn i7_a_renewal_passes_a_writer_and_a_claim_waits_for_it(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let config = || Config { lease: Duration::from_secs(1), trust_margin: Duration::from_millis(200), ..quick() };
    let mut first = world.worker_with(config());
    let held = first.tenant(id(1)).await;

    let mut writer = world.pool.begin().await.unwrap();
    let fence = "select 1 from tocsin.lease where tenant = $1 and epoch = $2 for key share";
    let standing = sqlx::query(fence).bind(id(1).0).bind(held.epoch.0).execute(&mut *writer).await.unwrap().rows_affected();
    assert_eq!(standing, 1);

    // Renewals go on while the writer is in the middle of its transaction.
    let ask = || world.count("select (extract(epoch from expires_at) * 1000)::bigint from tocsin.lease");
    let expiry = ask().await;
    eventually("two renewals", ask, |later| *later > expiry + 200).await;

    // The holder dies, its lease ends, and yet nobody gets past the writer.
    first.crash().await;
    let mut second = world.worker_with(Config { replica_gone_after: Duration::from_millis(300), ..config() });
    eventually("the lease to end", || world.count("select count(*) from tocsin.lease where expires_at < now()"), |count| *count == 1).await;
    let mut looks = second.status.clone();
    for _ in 0..3 {
        looks.changed().await.unwrap();
    }
    assert_eq!(world.count("select epoch from tocsin.lease").await, held.epoch.0, "claimed past a writer");
    assert!(second.held.borrow().tenants.is_empty());
    writer.commit().await.unwrap();
    let taken = second.tenant(id(1)).await;
    assert_eq!(taken.epoch.0, held.epoch.0 + 1);
    second.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_process_of_this_machine_that_is_gone_is_succeeded_without_waiting(pool: PgPool) {
    let world = world(pool).await.with_tenants(2).await;
    // A child that has ended, marked as a running daemon would mark itself.
    let ours = Config::default().process.to_string();
    let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let start = stat[stat.rfind(')').unwrap()..].split_ascii_whitespace().nth(20).unwrap().to_owned();
    let (host, rest) = ours.split_once(" pid ").unwrap();
    let (_, boot) = rest.split_once(" boot ").unwrap();
    let mark = format!("{host} pid {} start {start} boot {boot}", child.id());
    sqlx::query("insert into tocsin.replica (replica, host) values ('00000000-0000-0000-0000-00000000dead', $1)")
        .bind(&mark)
        .execute(&world.pool)
        .await
        .unwrap();
    sqlx::query(
        "update tocsin.lease set holder = '00000000-0000-0000-0000-00000000dead', epoch = 1, expires_at = now() + interval '1 hour'",
    )
    .execute(&world.pool)
    .await
    .unwrap();

    let mut worker = world.worker();
    eventually("the newcomer to announce itself", || world.count("select count(*) from tocsin.replica"), |count| *count == 2).await;
    let mut looks = worker.status.clone();
    for _ in 0..3 {
        looks.changed().await.unwrap();
    }
    assert!(worker.held.borrow().tenants.is_empty(), "it is alive: its lease stands");
    child.kill().unwrap();
    child.wait().unwrap();
    let set = worker.holding(2).await;
    assert!(set.tenants.values().all(|tenant| tenant.epoch.0 == 2));
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn without_the_database_nobody_is_trusted_for_longer_than_the_lease(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let mut worker = world.worker_with(Config {
        lease: Duration::from_millis(1500),
        trust_margin: Duration::from_millis(500),
        database_timeout: Duration::from_millis(300),
        ..quick()
    });
    let before = worker.holding(1).await;
    // The database does not answer any more: the lock stands for a server that hangs.
    let mut lock = world.pool.begin().await.unwrap();
    sqlx::query("lock table tocsin.lease, tocsin.replica in access exclusive mode").execute(&mut *lock).await.unwrap();
    worker.holding(0).await;
    let mut status = worker.status.clone();
    let fault = status.wait_for(|status| status.fault.is_some()).await.unwrap().fault.clone().unwrap();
    assert!(fault.contains("the database cannot be reached"), "{fault}");
    // The lease itself ends as well, and then it is not renewed but claimed anew: nobody can know
    // what happened in between.
    tokio::time::sleep_until(before.trusted_until + Duration::from_secs(2)).await;
    lock.rollback().await.unwrap();
    let after = worker.tenant(id(1)).await;
    assert!(after.epoch > before.tenants[&id(1)].epoch);
    status.wait_for(|status| status.fault.is_none()).await.unwrap();
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn stopping_ends_within_two_seconds_even_when_the_database_hangs(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let mut worker = world.worker();
    worker.holding(1).await;
    let mut lock = world.pool.begin().await.unwrap();
    sqlx::query("lock table tocsin.lease, tocsin.replica in access exclusive mode").execute(&mut *lock).await.unwrap();
    let started = Instant::now();
    worker.stop().await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    lock.rollback().await.unwrap();
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_trust_moves_on_with_each_renewal_and_the_beat_with_each_second(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let mut worker = world.worker();
    let first = worker.holding(1).await;
    let later = worker.until("a renewal", |set| set.trusted_until > first.trusted_until).await;
    assert!(std::sync::Arc::ptr_eq(&first.tenants[&id(1)], &later.tenants[&id(1)]), "what did not change is the same allocation");
    let beat = worker.status.borrow().beat;
    worker.status.wait_for(|status| status.beat > beat && status.fault.is_none()).await.unwrap();
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_configuration_in_which_a_lease_would_end_between_renewals_is_refused(pool: PgPool) {
    let world = world(pool).await;
    let worker = world.worker_with(Config { lease: Duration::from_secs(5), renew_every: Duration::from_secs(4), ..quick() });
    let error = worker.ended().await.unwrap_err();
    assert!(error.contains("must last longer"), "{error}");
}
