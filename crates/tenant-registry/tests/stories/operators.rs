//! What an operator does with tenants that are there.

use domain::TenantState;
use sqlx::PgPool;
use tenant_registry::{AdminError, Alerts, KeyRing};

use crate::world::{CLIENT, id, rules, token, world};

#[sqlx::test(migrations = "../../migrations")]
async fn a_tenant_is_found_by_id_or_exact_name_and_a_near_miss_is_suggested(pool: PgPool) {
    let world = world(pool).await.with_tenants(2).await;
    assert_eq!(world.registry.find(&id(1).to_string()).await.unwrap().name, "tenant 1");
    assert_eq!(world.registry.find(&id(1).to_string().to_uppercase()).await.unwrap().name, "tenant 1");
    assert_eq!(world.registry.find("tenant 2").await.unwrap().id, id(2));
    let error = world.registry.find("Tenant 2").await.unwrap_err();
    assert_eq!(error.to_string(), "there is no tenant \"Tenant 2\"; did you mean \"tenant 2\"?");
    let error = world.registry.find("something else entirely").await.unwrap_err();
    assert!(matches!(error, AdminError::NotFound { hint: None, .. }));
}

#[sqlx::test(migrations = "../../migrations")]
async fn states_move_only_as_they_may(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let registry = &world.registry;
    let change = registry.pause(id(1)).await.unwrap();
    assert_eq!((change.before, change.after), (TenantState::Active, TenantState::Paused));
    assert!(!registry.pause(id(1)).await.unwrap().happened());
    assert_eq!(world.state(id(1)).await, "paused");
    assert!(registry.resume(id(1)).await.unwrap().happened());
    assert!(!registry.resume(id(1)).await.unwrap().happened());
    assert_eq!(world.count("select credential_version from tocsin.tenant").await, 2, "each resume is tried at once");

    world.import(&[format!("{},waiting,global,main,graph-alerts,", id(2))]).await;
    for refused in [registry.pause(id(2)).await, registry.resume(id(2)).await] {
        assert!(matches!(&refused, Err(AdminError::Conflict(words)) if words.contains("awaiting-consent")), "{refused:?}");
    }

    assert!(registry.remove(id(1), Alerts::Keep).await.unwrap().happened());
    assert!(!registry.remove(id(1), Alerts::Keep).await.unwrap().happened());
    for refused in [registry.pause(id(1)).await, registry.resume(id(1)).await] {
        assert!(matches!(&refused, Err(AdminError::Conflict(words)) if words.contains("was removed")), "{refused:?}");
    }
    for unknown in [
        registry.pause(id(9)).await,
        registry.resume(id(9)).await,
        registry.remove(id(9), Alerts::Keep).await.map(|_| unreachable!("there is none")),
    ] {
        assert!(matches!(unknown, Err(AdminError::NotFound { .. })), "{unknown:?}");
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn removing_destroys_key_tokens_and_troubles_and_voids_what_is_in_flight(pool: PgPool) {
    let world = world(pool).await.with_tenants(2).await;
    let fence = world.hold(id(1)).await;
    sqlx::query("insert into tocsin.trouble (tenant, origin, verdict, reason, action) values ($1, 'sign-in', 'needs-consent', 'r', 'a')")
        .bind(id(1).0)
        .execute(&world.pool)
        .await
        .unwrap();
    world.registry.remove(id(1), Alerts::Keep).await.unwrap();

    let left = "select (select count(*) from tocsin.tenant_key) * 100 + (select count(*) from tocsin.tenant_secret) * 10 + (select count(*) from tocsin.trouble)";
    assert_eq!(world.count(left).await, 110, "those of the other tenant only");
    assert_eq!(world.state(id(1)).await, "removed");
    assert!(world.registry.commit_rotation(fence, 1, CLIENT, &token("late")).await.is_err());
    assert!(world.registry.open_refresh_token(id(1), CLIENT).await.unwrap().is_none());
    assert_eq!(world.registry.list().await.unwrap().len(), 1);
    assert_eq!(world.registry.list_with_removed().await.unwrap().len(), 2);
    assert_eq!(world.registry.find(&id(1).to_string()).await.unwrap().state, TenantState::Removed);
}

#[sqlx::test(migrations = "../../migrations")]
async fn removing_waits_for_a_writer_and_gives_up_politely(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let mut writer = world.pool.begin().await.unwrap();
    sqlx::query("select 1 from tocsin.lease for key share").execute(&mut *writer).await.unwrap();
    let error = world.registry.remove(id(1), Alerts::Keep).await.unwrap_err();
    assert!(matches!(error, AdminError::Busy), "{error}");
    assert_eq!(world.state(id(1)).await, "active");
    writer.commit().await.unwrap();
    world.registry.remove(id(1), Alerts::Keep).await.unwrap();
}

#[sqlx::test(migrations = "../../migrations")]
async fn key_status_counts_what_each_key_seals_also_without_it(pool: PgPool) {
    let world = world(pool).await.with_tenants(3).await;
    let ring = KeyRing::load(&world.ring_path).unwrap();
    let status = world.registry.key_status(&ring).await.unwrap();
    assert_eq!(status.len(), 1);
    assert!(status[0].active && status[0].in_ring && status[0].tenants == 3 && status[0].id == ring.active_id().to_string());

    let other = KeyRing::init(&world.ring_path.with_file_name("other")).unwrap();
    let status = world.registry.key_status(&other).await.unwrap();
    assert_eq!(status.iter().map(|key| (key.in_ring, key.tenants)).collect::<Vec<_>>(), [(true, 0), (false, 3)]);
}

#[sqlx::test(migrations = "../../migrations")]
async fn portal_addresses_follow_the_configuration(pool: PgPool) {
    let world = world(pool).await.with_tenants(2).await;
    let portals = rules().clouds.into_keys().map(|cloud| (cloud, "https://portal.test".to_owned())).collect();
    assert_eq!(world.registry.set_portals(&portals).await.unwrap(), 2);
    assert_eq!(world.registry.set_portals(&portals).await.unwrap(), 0);
}
