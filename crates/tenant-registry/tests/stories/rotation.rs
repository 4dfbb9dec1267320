//! D2, G24: keys are rotated under running daemons, and a rotation that is killed anywhere is gone on with.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use domain::rehearsal::{Action, Rehearsal};
use futures_util::FutureExt as _;
use sqlx::PgPool;
use tenant_registry::{KeyChangeError, KeyRing, KeyRingError, Registry, RingTarget, Rotated, RotationStep, Upkeep};
use tokio_util::sync::CancellationToken;

use crate::world::{CLIENT, Captured, World, eventually, id, world};

const PATIENCE: Duration = Duration::from_secs(10);
const IN_PLACE: RingTarget = RingTarget::InPlace;

fn ids(world: &World) -> Vec<String> {
    KeyRing::load(&world.ring_path).unwrap().ids().iter().map(ToString::to_string).collect()
}

async fn wrapped_by(world: &World) -> Vec<(String, i64)> {
    sqlx::query_as("select key_id, count(*) from tocsin.tenant_key group by 1 order by 1").fetch_all(&world.pool).await.unwrap()
}

/// A registry of another process: it has read the same file by itself.
async fn another(world: &World, ring: &std::path::Path) -> Registry {
    Registry::open(world.pool.clone(), KeyRing::load(ring).unwrap()).await.unwrap()
}

async fn opens(registry: &Registry, tenant: u128) {
    let opened = registry.open_refresh_token(id(tenant), CLIENT).await.unwrap().unwrap();
    assert_eq!(opened.version, 1);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_rotation_under_a_running_daemon_fails_no_refresh_and_the_old_key_can_be_retired(pool: PgPool) {
    let world = world(pool).await.with_tenants(250).await;
    let daemon = another(&world, &world.ring_path).await;
    let mut worker = world.worker_over(daemon.clone(), crate::world::quick());
    let stop = CancellationToken::new();
    let upkeep = tokio::spawn(Upkeep::new(daemon.clone()).looking_every(Duration::from_millis(30)).run(stop.clone()));
    worker.holding(250).await;
    let before = ids(&world);

    // Refreshes go on all the time, through the registry of the daemon.
    let refreshes = async {
        let mut count: u32 = 0;
        loop {
            opens(&daemon, u128::from(count % 250) + 1).await;
            count += 1;
            if count.is_multiple_of(50) {
                tokio::task::yield_now().await;
            }
            if count > 100 && ids(&world).len() == 2 && wrapped_by(&world).await.iter().all(|(key, _)| *key != before[0]) {
                return count;
            }
        }
    };
    let mut steps = Vec::new();
    let rotation = world.registry.rotate_key(&IN_PLACE, PATIENCE, |step| steps.push(step));
    let (rotated, count) = tokio::join!(rotation, refreshes);
    let Rotated::Done { active, rewrapped, idle } = rotated.unwrap() else { panic!("the ring can be written") };
    assert!(count > 100, "{count} refreshes meanwhile, and none failed");
    assert_eq!((rewrapped, idle.len()), (250, 1));
    assert_eq!(ids(&world), [active.to_string(), before[0].clone()]);
    assert_eq!(wrapped_by(&world).await, [(active.to_string(), 250)]);
    // A quick daemon has noticed the ring before it is waited for; that it is waited for is told below.
    assert!(matches!(steps[0], RotationStep::Added(_)), "{steps:?}");
    assert!(steps.contains(&RotationStep::Rewrapped { done: 100, of: 250 }), "in batches of a hundred: {steps:?}");
    for tenant in 1..=250 {
        opens(&daemon, tenant).await;
    }

    // Nothing more to do but a fresh rotation; the old key may go.
    let retired = world.registry.retire_key(&before[0], &IN_PLACE).await.unwrap();
    assert_eq!(retired.active, active);
    assert_eq!(ids(&world), [active.to_string()]);
    eventually("the daemon says that it has one key", || world.count("select cardinality(ring)::bigint from tocsin.replica"), |n| *n == 1)
        .await;
    opens(&daemon, 7).await;
    stop.cancel();
    upkeep.await.unwrap().unwrap();
    worker.stop().await;
    let verified = world.registry.verify_audit(None, &[]).await.unwrap();
    assert_eq!(verified.problems, 0, "{:?}", verified.findings);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_key_is_retired_only_when_nothing_needs_it(pool: PgPool) {
    let world = world(pool).await.with_tenants(3).await;
    let old = ids(&world)[0].clone();
    let refused = async |key: &str, words: &str| {
        let error = world.registry.retire_key(key, &IN_PLACE).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(&old, "is the one that seals").await;
    refused("0123456789abcdef", "there is no key").await;
    world.registry.rotate_key(&IN_PLACE, PATIENCE, |_| {}).await.unwrap();
    sqlx::query("update tocsin.tenant_key set key_id = $1 where tenant = $2").bind(&old).bind(id(2).0).execute(&world.pool).await.unwrap();
    refused(&old, "1 tenants are sealed under key").await;
    sqlx::query("update tocsin.tenant_key set key_id = $1").bind(&ids(&world)[0]).execute(&world.pool).await.unwrap();

    // A daemon elsewhere has only the old key, or seals with it still.
    let announce = "insert into tocsin.replica (replica, host, ring) values (gen_random_uuid(), 'elsewhere', $1)";
    sqlx::query(announce).bind(vec![old.clone()]).execute(&world.pool).await.unwrap();
    refused(&old, "elsewhere still seals with key").await;
    sqlx::query("update tocsin.replica set ring = '{0000000000000000}', seen_at = now()").execute(&world.pool).await.unwrap();
    refused(&old, "do not have it: elsewhere").await;
    sqlx::query("delete from tocsin.replica").execute(&world.pool).await.unwrap();
    world.registry.retire_key(&old, &IN_PLACE).await.unwrap();
    opens(&world.registry, 2).await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn nothing_is_sealed_under_the_new_key_before_every_daemon_has_it(pool: PgPool) {
    let world = world(pool).await.with_tenants(3).await;
    // The other daemon has a copy of the ring, on another machine.
    let copy = world.ring_path.with_file_name("copy");
    fs::copy(&world.ring_path, &copy).unwrap();
    let daemon = another(&world, &copy).await;
    let mut worker = world.worker_over(daemon.clone(), crate::world::quick());
    let stop = CancellationToken::new();
    let upkeep = tokio::spawn(Upkeep::new(daemon.clone()).looking_every(Duration::from_millis(30)).run(stop.clone()));
    worker.holding(3).await;
    let old = ids(&world)[0].clone();

    let error = world.registry.rotate_key(&IN_PLACE, Duration::from_millis(300), |_| {}).await.unwrap_err();
    assert!(matches!(&error, KeyChangeError::Waiting { daemons, .. } if daemons.len() == 1), "{error}");
    assert!(error.to_string().contains("same command again"), "{error}");
    assert_eq!(wrapped_by(&world).await, [(old.clone(), 3)]);
    let both = ids(&world);
    assert_eq!((both.len(), both[0] == old), (2, true), "the new key is there and does not seal");
    // Nor does somebody seal with it who has put it first by hand.
    let by_hand = world.ring_path.with_file_name("by-hand");
    let text = fs::read_to_string(&world.ring_path).unwrap();
    let keys: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    fs::copy(&world.ring_path, &by_hand).unwrap();
    fs::write(&by_hand, format!("{}\n{}\n", keys[1].trim_end_matches(" next"), keys[0])).unwrap();
    let file = format!("{}\n{},new,global,main,graph-alerts,token-4\n", crate::world::HEADER, id(4));
    let report = another(&world, &by_hand).await.import_csv(file.as_bytes(), &crate::world::rules()).await.unwrap();
    let told: Vec<String> = report.failures().map(|(_, error)| error.to_string()).collect();
    assert!(told.len() == 1 && told[0].contains("does not have key"), "{told:?}");

    // Brought to the other machine, the same command goes on, with the same key.
    fs::write(&copy, &text).unwrap();
    let Rotated::Done { active, rewrapped, .. } = world.registry.rotate_key(&IN_PLACE, PATIENCE, |_| {}).await.unwrap() else { panic!() };
    assert_eq!((active.to_string(), rewrapped), (both[1].clone(), 3));
    // The other one still seals with the old key and opens what is sealed with the new one.
    opens(&daemon, 1).await;
    let error = world.registry.retire_key(&old, &IN_PLACE).await.unwrap_err();
    assert!(error.to_string().contains("still seals with key"), "{error}");
    fs::write(&copy, fs::read_to_string(&world.ring_path).unwrap()).unwrap();
    eventually("the other daemon seals with the new key", || wrapped_first(&world), |first| *first == active.to_string()).await;
    world.registry.retire_key(&old, &IN_PLACE).await.unwrap();
    stop.cancel();
    upkeep.await.unwrap().unwrap();
    worker.stop().await;
}

async fn wrapped_first(world: &World) -> String {
    sqlx::query_scalar("select ring[1] from tocsin.replica").fetch_one(&world.pool).await.unwrap()
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_ring_that_cannot_be_written_is_rotated_by_way_of_another_file(pool: PgPool) {
    let world = world(pool).await.with_tenants(3).await;
    let (old, text) = (ids(&world)[0].clone(), fs::read_to_string(&world.ring_path).unwrap());
    let new = world.ring_path.with_file_name("new");
    let target = RingTarget::Elsewhere(new.clone());
    let put_in_place = || {
        fs::write(&world.ring_path, fs::read_to_string(&new).unwrap()).unwrap();
        fs::remove_file(&new).unwrap();
    };
    let Rotated::PutInPlace { key, seals: false } = world.registry.rotate_key(&target, PATIENCE, |_| {}).await.unwrap() else { panic!() };
    assert_eq!(fs::read_to_string(&world.ring_path).unwrap(), text, "untouched");
    let again = world.registry.rotate_key(&target, PATIENCE, |_| {}).await.unwrap_err();
    assert!(again.to_string().contains("exists already"), "{again}");
    put_in_place();
    let second = world.registry.rotate_key(&target, PATIENCE, |_| {}).await.unwrap();
    assert_eq!(second, Rotated::PutInPlace { key, seals: true });
    assert_eq!(wrapped_by(&world).await, [(old.clone(), 3)]);
    put_in_place();
    let third = another(&world, &world.ring_path).await.rotate_key(&target, PATIENCE, |_| {}).await.unwrap();
    assert!(matches!(third, Rotated::Done { active, rewrapped: 3, .. } if active == key), "{third:?}");
    assert_eq!(wrapped_by(&world).await, [(key.to_string(), 3)]);
}

#[sqlx::test(migrations = "../../migrations")]
async fn i33_killed_at_any_point_a_rotation_is_gone_on_with(pool: PgPool) {
    let world = world(pool).await.with_tenants(250).await;
    let mut points: Vec<(&str, u64)> =
        ["begin", "noted", "next-in-ring", "all-have-it", "before-activation", "activated"].map(|point| (point, 1)).into();
    // Three batches, and the one that finds nothing left.
    for at in 1..=4 {
        points.extend(["before-batch", "batch-wrapped", "batch-written", "batch-committed"].map(|point| (point, at)));
    }
    assert!(points.len() >= 20);
    for (point, at) in points {
        let told = format!("{point}@{at}");
        let before = ids(&world);
        assert_eq!(before.len(), 1);
        let name = format!("rotate.{point}");
        Rehearsal::default().at(&name, Action::Abort, Some(at)).begin();
        let registry = another(&world, &world.ring_path).await;
        let killed = AssertUnwindSafe(registry.rotate_key(&IN_PLACE, PATIENCE, |_| {})).catch_unwind().await;
        let passed = Rehearsal::end();
        assert!(killed.is_err(), "{told} was not reached: {passed:?}");
        // Whoever starts now can open everything.
        let registry = another(&world, &world.ring_path).await;
        for tenant in [1, 100, 101, 250] {
            opens(&registry, tenant).await;
        }
        let finished = point == "batch-committed" && at == 4;
        if !finished {
            let rotated = registry.rotate_key(&IN_PLACE, PATIENCE, |_| {}).await.unwrap();
            assert!(matches!(rotated, Rotated::Done { .. }), "{told}: {rotated:?}");
        }
        let after = ids(&world);
        assert_eq!(after.len(), 2, "{told}: one key more, however often it was typed");
        assert_eq!(wrapped_by(&world).await, [(after[0].clone(), 250)], "{told}");
        assert_eq!(after[1], before[0], "{told}");
        assert_eq!(world.count("select count(*) from tocsin.key_rotation where finished_at is null").await, 0, "{told}");
        registry.retire_key(&before[0], &IN_PLACE).await.unwrap();
    }
    for tenant in 1..=250 {
        opens(&another(&world, &world.ring_path).await, tenant).await;
    }
    assert_eq!(world.registry.verify_audit(None, &[]).await.unwrap().problems, 0);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_data_key_that_does_not_open_stops_the_rotation_and_is_left_as_it_is(pool: PgPool) {
    let world = world(pool).await.with_tenants(3).await;
    sqlx::query("update tocsin.tenant_key set wrapped = set_byte(wrapped, 40, get_byte(wrapped, 40) # 1) where tenant = $1")
        .bind(id(2).0)
        .execute(&world.pool)
        .await
        .unwrap();
    let before: Vec<Vec<u8>> =
        sqlx::query_scalar("select wrapped from tocsin.tenant_key order by tenant").fetch_all(&world.pool).await.unwrap();
    let error = world.registry.rotate_key(&IN_PLACE, PATIENCE, |_| {}).await.unwrap_err();
    assert!(matches!(&error, KeyChangeError::Unreadable { tenant, .. } if *tenant == id(2)), "{error}");
    let after: Vec<Vec<u8>> =
        sqlx::query_scalar("select wrapped from tocsin.tenant_key order by tenant").fetch_all(&world.pool).await.unwrap();
    assert_eq!(before, after);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_bad_ring_is_refused_loudly_and_the_old_one_stays_in_use(pool: PgPool) {
    let captured = Captured::default();
    let _guard = captured.listen(tracing::Level::INFO);
    let world = world(pool).await.with_tenants(2).await;
    let good = fs::read_to_string(&world.ring_path).unwrap();
    let stop = CancellationToken::new();
    let upkeep = tokio::spawn(Upkeep::new(world.registry.clone()).looking_every(Duration::from_millis(10)).run(stop.clone()));
    let other = world.ring_path.with_file_name("other");
    KeyRing::init(&other).unwrap();
    let foreign = fs::read_to_string(&other).unwrap();
    for (bad, words) in [
        (good[..good.len() - 9].to_owned(), "is not usable"),
        (foreign.clone(), "which is not in the key ring"),
        ("# nothing\n".to_owned(), "holds no key"),
    ] {
        fs::write(&world.ring_path, bad).unwrap();
        eventually("the refusal is in the log", async || captured.text(), |log| log.contains(words)).await;
        opens(&world.registry, 1).await;
    }
    fs::remove_file(&world.ring_path).unwrap();
    eventually("the refusal is in the log", async || captured.text(), |log| log.contains("there is no key ring")).await;
    opens(&world.registry, 1).await;
    assert_eq!(captured.text().matches("ERROR").count(), 4, "each is said once: {}", captured.text());
    fs::copy(&other, &world.ring_path).unwrap();
    fs::write(&world.ring_path, good + &foreign).unwrap();
    eventually("the good one is taken", async || captured.text(), |log| log.contains("was read again")).await;
    stop.cancel();
    upkeep.await.unwrap().unwrap();
    assert!(matches!(KeyRing::load(&world.ring_path.with_file_name("none")), Err(KeyRingError::Missing(_))));
}

/// G24; not part of the suite: `cargo nextest run -p tenant-registry --run-ignored only`.
#[sqlx::test(migrations = "../../migrations")]
#[ignore = "takes half a minute"]
async fn g24_5_000_tenants_are_rewrapped_within_ten_seconds_and_no_refresh_fails(pool: PgPool) {
    let world = world(pool).await.with_tenants(5_000).await;
    let refreshing = another(&world, &world.ring_path).await;
    let started = tokio::time::Instant::now();
    let rotation = world.registry.rotate_key(&IN_PLACE, PATIENCE, |_| {});
    let refreshes = async {
        let mut count: u32 = 0;
        loop {
            opens(&refreshing, u128::from(count * 7919 % 5_000) + 1).await;
            count += 1;
        }
    };
    let rotated = tokio::select! {
        rotated = rotation => rotated.unwrap(),
        () = refreshes => unreachable!("it goes on for ever"),
    };
    let took = started.elapsed();
    assert!(matches!(rotated, Rotated::Done { rewrapped: 5_000, .. }), "{rotated:?}");
    assert!(took.as_secs_f64() <= 10.0, "{took:?}");
    crate::auditing::report("5,000 data keys rewrapped", took);
}
