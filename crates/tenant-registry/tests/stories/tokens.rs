//! Refresh tokens out and rotated ones in, and opening the registry.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Epoch, Fence, TenantId, Ticks};
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, PgPool};
use tenant_registry::{KeyRing, OpenError, OpenTokenError, Registry, RotateError};

use crate::world::{CLIENT, id, token, world};

#[sqlx::test(migrations = "../../migrations")]
async fn i30_a_rotated_token_takes_the_place_of_the_old_which_is_kept_until_it_worked(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let fence = world.hold(id(1)).await;
    let registry = &world.registry;
    assert_eq!(registry.commit_rotation(fence, 1, CLIENT, &token("two")).await.unwrap(), 2);

    let current = registry.open_refresh_token(id(1), CLIENT).await.unwrap().unwrap();
    assert_eq!((current.token.expose_secret(), current.version), ("two", 2));
    let previous = registry.open_previous(id(1), CLIENT).await.unwrap().unwrap();
    assert_eq!((previous.token.expose_secret(), previous.version), ("token-1", 1));

    registry.token_worked(fence, 1, Ticks(17_000_000_000_000_000)).await.unwrap();
    assert!(registry.open_previous(id(1), CLIENT).await.unwrap().is_some(), "the old one worked, which says nothing of the new");
    registry.token_worked(fence, 2, Ticks(17_000_000_000_000_000)).await.unwrap();
    assert!(registry.open_previous(id(1), CLIENT).await.unwrap().is_none());
    let found = registry.find("tenant 1").await.unwrap();
    assert_eq!(found.last_refresh_at.unwrap().to_string(), "2023-11-14T22:13:20Z");
    assert_eq!(found.token_expires_at.unwrap().to_string(), "2024-02-12T22:13:20Z");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_commit_whose_answer_was_lost_can_be_repeated(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let fence = world.hold(id(1)).await;
    assert_eq!(world.registry.commit_rotation(fence, 1, CLIENT, &token("two")).await.unwrap(), 2);
    assert_eq!(world.registry.commit_rotation(fence, 1, CLIENT, &token("two")).await.unwrap(), 2);
    let error = world.registry.commit_rotation(fence, 1, CLIENT, &token("three")).await.unwrap_err();
    assert!(matches!(error, RotateError::Moved), "{error}");
    let previous = world.registry.open_previous(id(1), CLIENT).await.unwrap().unwrap();
    assert_eq!(previous.token.expose_secret(), "token-1", "the repetition did not rotate again");
}

#[sqlx::test(migrations = "../../migrations")]
async fn i7_i11_a_write_under_an_old_epoch_or_version_is_refused(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let old = world.hold(id(1)).await;
    let new = world.hold(id(1)).await;
    let before: String = sqlx::query_scalar("select s::text from tocsin.tenant_secret s").fetch_one(&world.pool).await.unwrap();
    for fence in [old, Fence { epoch: Epoch(new.epoch.0 + 1), ..new }] {
        let error = world.registry.commit_rotation(fence, 1, CLIENT, &token("two")).await.unwrap_err();
        assert!(matches!(error, RotateError::LeaseLost), "{error}");
        let error = world.registry.token_worked(fence, 1, Ticks(0)).await.unwrap_err();
        assert!(matches!(error, RotateError::LeaseLost), "{error}");
        let error = world.registry.app_credential_worked(fence, Ticks(0)).await.unwrap_err();
        assert!(matches!(error, RotateError::LeaseLost), "{error}");
    }
    for version in [0, 2, 7] {
        let error = world.registry.commit_rotation(new, version, CLIENT, &token("two")).await.unwrap_err();
        assert!(matches!(error, RotateError::Moved), "{error}");
    }
    let error = world.registry.commit_rotation(new, 1, "another app", &token("two")).await.unwrap_err();
    assert!(matches!(error, RotateError::Moved), "{error}");
    let after: String = sqlx::query_scalar("select s::text from tocsin.tenant_secret s").fetch_one(&world.pool).await.unwrap();
    assert_eq!(before, after);
}

/// What every row of every table says of who wrote it, and about whom.
async fn written(pool: &PgPool) -> Vec<(String, String, TenantId)> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant'
         where c.relnamespace = 'tocsin'::regnamespace and c.relkind = 'r' and not a.attisdropped",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut written = Vec::new();
    for table in tables {
        let rows = format!("select xmin::text, tenant from tocsin.{table} where tenant is not null");
        let rows: Vec<(String, uuid::Uuid)> = sqlx::query_as(AssertSqlSafe(rows)).fetch_all(pool).await.unwrap();
        written.extend(rows.into_iter().map(|(by, tenant)| (table.clone(), by, TenantId(tenant))));
    }
    written
}

/// As the sink has it for alerts: tables that are distributed by tenant commit such a transaction on one machine.
#[sqlx::test(migrations = "../../migrations")]
async fn a_transaction_that_stores_a_token_is_about_one_tenant(pool: PgPool) {
    let world = world(pool.clone()).await.with_tenants(3).await;
    let (mut secrets, mut about) = (0, BTreeMap::<String, BTreeSet<TenantId>>::new());
    let mut look = async || {
        let written = written(&pool).await;
        let with_secrets: BTreeSet<_> =
            written.iter().filter(|(table, ..)| table == "tenant_secret" || table == "tenant_key").map(|(_, by, _)| by).collect();
        secrets += with_secrets.len();
        for (_, by, tenant) in written.iter().filter(|(_, by, _)| with_secrets.contains(by)) {
            about.entry(by.clone()).or_default().insert(*tenant);
        }
    };
    look().await;
    for number in 1..=3 {
        let fence = world.hold(id(number)).await;
        world.registry.commit_rotation(fence, 1, CLIENT, &token("two")).await.unwrap();
        look().await;
        world.registry.token_worked(fence, 2, Ticks(0)).await.unwrap();
        look().await;
    }
    assert!(secrets >= 3 + 6 && about.len() >= 3 + 6, "{secrets}, {about:?}");
    assert!(about.values().all(|tenants| tenants.len() == 1), "{about:?}");
}

#[sqlx::test(migrations = "../../migrations")]
async fn i15_rows_cannot_be_swapped_and_older_versions_cannot_be_put_back(pool: PgPool) {
    let world = world(pool).await.with_tenants(2).await;
    let fence = world.hold(id(1)).await;
    let old: Vec<u8> =
        sqlx::query_scalar("select sealed from tocsin.tenant_secret where tenant = $1").bind(id(1).0).fetch_one(&world.pool).await.unwrap();
    world.registry.commit_rotation(fence, 1, CLIENT, &token("two")).await.unwrap();

    let put_back = "update tocsin.tenant_secret set sealed = $2 where tenant = $1";
    sqlx::query(put_back).bind(id(1).0).bind(&old).execute(&world.pool).await.unwrap();
    let error = world.registry.open_refresh_token(id(1), CLIENT).await.unwrap_err();
    assert!(matches!(error, OpenTokenError::Vault(_)), "{error}");

    // Everything of another row, its data key included.
    sqlx::query("update tocsin.tenant_secret set sealed = $2, version = 1 where tenant = $1")
        .bind(id(2).0)
        .bind(&old)
        .execute(&world.pool)
        .await
        .unwrap();
    let error = world.registry.open_refresh_token(id(2), CLIENT).await.unwrap_err();
    assert!(matches!(error, OpenTokenError::Vault(_)), "{error}");
    sqlx::query("update tocsin.tenant_key set wrapped = (select wrapped from tocsin.tenant_key where tenant = $2) where tenant = $1")
        .bind(id(2).0)
        .bind(id(1).0)
        .execute(&world.pool)
        .await
        .unwrap();
    let error = world.registry.open_refresh_token(id(2), CLIENT).await.unwrap_err();
    assert!(matches!(error, OpenTokenError::Vault(_)), "{error}");
}

#[sqlx::test(migrations = "../../migrations")]
async fn i28_a_wrong_ring_ends_the_start_with_words_and_changes_nothing(pool: PgPool) {
    let world = world(pool).await.with_tenants(3).await;
    let needed = KeyRing::load(&world.ring_path).unwrap().active_id();
    let wrong = || KeyRing::init(&world.ring_path.with_file_name(uuid::Uuid::new_v4().to_string())).unwrap();
    let contents = "select jsonb_agg(to_jsonb(k) order by tenant)::text || (select jsonb_agg(to_jsonb(s) order by tenant)::text from tocsin.tenant_secret s)
        from tocsin.tenant_key k";
    let before: String = sqlx::query_scalar(contents).fetch_one(&world.pool).await.unwrap();

    let error = Registry::open(world.pool.clone(), wrong()).await.unwrap_err();
    assert!(matches!(&error, OpenError::MissingKey { tenants: 3, .. }), "{error}");
    let words = error.to_string();
    assert!(
        words.contains(&needed.to_string()) && words.contains("3 tenants") && words.contains("nothing in the database was changed"),
        "{words}"
    );

    // The column says what the ring has, the blob tells another story.
    let other = wrong();
    sqlx::query("update tocsin.tenant_key set key_id = $1").bind(other.active_id().to_string()).execute(&world.pool).await.unwrap();
    let error = Registry::open(world.pool.clone(), other).await.unwrap_err();
    assert!(matches!(&error, OpenError::Unreadable { .. }), "{error}");

    sqlx::query("update tocsin.tenant_key set key_id = $1").bind(needed.to_string()).execute(&world.pool).await.unwrap();
    let after: String = sqlx::query_scalar(contents).fetch_one(&world.pool).await.unwrap();
    assert_eq!(before, after);
    Registry::open(world.pool.clone(), KeyRing::load(&world.ring_path).unwrap()).await.unwrap();
}

#[sqlx::test(migrations = "../../migrations")]
async fn i28_a_key_id_that_tells_another_story_than_its_blob_is_noticed(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    // Both keys are in the ring, so that everything opens; but `key status` would count wrongly, and
    // somebody would retire the key that is in use.
    let second = world.ring_path.with_file_name("second");
    let second_id = KeyRing::init(&second).unwrap().active_id();
    let both = std::fs::read_to_string(&world.ring_path).unwrap() + &std::fs::read_to_string(&second).unwrap();
    std::fs::write(&world.ring_path, both).unwrap();
    Registry::open(world.pool.clone(), KeyRing::load(&world.ring_path).unwrap()).await.unwrap();
    sqlx::query("update tocsin.tenant_key set key_id = $1").bind(second_id.to_string()).execute(&world.pool).await.unwrap();
    let error = Registry::open(world.pool.clone(), KeyRing::load(&world.ring_path).unwrap()).await.unwrap_err();
    assert!(matches!(&error, OpenError::Unreadable { .. }), "{error}");
}

#[sqlx::test(migrations = "../../migrations")]
async fn i28_one_damaged_data_key_among_many_is_found_and_named(pool: PgPool) {
    let world = world(pool).await.with_tenants(20).await;
    sqlx::query("update tocsin.tenant_key set wrapped = set_byte(wrapped, 40, get_byte(wrapped, 40) # 1) where tenant = $1")
        .bind(id(13).0)
        .execute(&world.pool)
        .await
        .unwrap();
    let error = Registry::open(world.pool.clone(), KeyRing::load(&world.ring_path).unwrap()).await.unwrap_err();
    assert!(matches!(&error, OpenError::Unreadable { tenant, .. } if *tenant == id(13)), "{error}");
}

/// Measures; not part of the suite: `cargo nextest run -p tenant-registry --run-ignored only`.
#[sqlx::test(migrations = "../../migrations")]
#[ignore = "takes half a minute"]
async fn opening_with_5_000_tenants_is_quick(pool: PgPool) {
    let started = tokio::time::Instant::now();
    let world = world(pool).await.with_tenants(5_000).await;
    let imported = started.elapsed();
    let started = tokio::time::Instant::now();
    Registry::open(world.pool.clone(), KeyRing::load(&world.ring_path).unwrap()).await.unwrap();
    let opened = started.elapsed();
    assert!(opened.as_secs() < 5, "imported in {imported:?}, opened in {opened:?}");
    tracing::info!(?imported, ?opened, "5,000 tenants");
}
