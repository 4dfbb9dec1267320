//! An account that is shown only part of the device groups: noticed by comparing two sources, told once, and over when
//! the other source has caught up.

use std::time::Duration;

use domain::{TenantId, TenantState};
use sqlx::PgPool;
use tenant_registry::{Alerts, SightChanges, Upkeep};
use tokio_util::sync::CancellationToken;

use crate::world::{Captured, World, eventually, id, rules, world};

/// Tenants 1 to `count`, each with a token and read through both sources: for a month, and completely until a minute ago.
async fn read_through_both(pool: PgPool, count: u128) -> World {
    let world = world(pool).await;
    let lines: Vec<_> = (1..=count).map(|n| format!("{},tenant {n},global,main,graph-alerts;mde-alerts,token-{n}", id(n))).collect();
    assert_eq!(world.import(&lines).await.failures().count(), 0);
    sqlx::raw_sql(
        "insert into tocsin.feed (tenant, source, caught_up_ticks)
             select tenant, unnest(sources), (extract(epoch from now() - interval '1 minute') * 10000000)::bigint from tocsin.tenant;
         insert into tocsin.reread (tenant, source, errand, from_ticks, to_ticks, left_ticks, polled_before_ticks, finished_at)
             select tenant, source, 'backfill', (extract(epoch from now() - interval '30 days') * 10000000)::bigint, caught_up_ticks, 0, 0, now() from tocsin.feed",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    world
}

/// An alert of this service that was made and stored so many hours ago, and that these sources delivered.
async fn alert(world: &World, tenant: u128, name: &str, service: &str, hours: f64, sources: &[&str]) {
    let statement = sqlx::query(
        "with made as (select $1::uuid as tenant, $2 as alert_id, now() - $4 * interval '1 hour' as at),
              versions as (
                  insert into tocsin.alert_version (tenant, source, alert_id, hash, created_at, version, raw)
                  select tenant, unnest($5::text[]), alert_id, sha256(alert_id::bytea), at, 1, '{}' from made
              )
         insert into tocsin.alert
             (tenant, alert_id, source, source_rank, hash, version_created_at, service_source, created_at, last_updated_at, first_stored_at)
         select tenant, alert_id, ($5::text[])[1], 2, sha256(alert_id::bytea), at, $3, at, at + interval '1 minute', at from made",
    );
    statement.bind(id(tenant).0).bind(name).bind(service).bind(hours).bind(sources).execute(&world.pool).await.unwrap();
}

const ENDPOINT: &str = "microsoftDefenderForEndpoint";
const GRAPH: &[&str] = &["graph-alerts"];
const BOTH: &[&str] = &["graph-alerts", "mde-alerts"];

async fn compare(world: &World) -> SightChanges {
    let tenants = world.registry.comparable_tenants().await.unwrap();
    world.registry.compare_sources(&tenants).await.unwrap()
}

/// What was newly noticed, as tenant, missing, compared.
async fn narrowed(world: &World) -> Vec<(TenantId, i64, i64)> {
    compare(world).await.narrowed
}

/// Lets the other source deliver an alert after all.
async fn deliver(world: &World, tenant: u128, name: &str) {
    let statement = sqlx::query(
        "insert into tocsin.alert_version (tenant, source, alert_id, hash, created_at, version, raw)
         select tenant, 'mde-alerts', alert_id, 'other', created_at, 1, '{}' from tocsin.alert where tenant = $1 and alert_id = $2",
    );
    statement.bind(id(tenant).0).bind(name).execute(&world.pool).await.unwrap();
}

#[sqlx::test(migrations = "../../migrations")]
async fn alerts_that_only_graph_delivers_are_noticed_once_and_shown_with_whom_to_ask(pool: PgPool) {
    let world = read_through_both(pool, 3).await;
    for (name, sources) in [("a", BOTH), ("b", GRAPH), ("c", GRAPH)] {
        alert(&world, 1, name, ENDPOINT, 5.0, sources).await;
    }
    alert(&world, 2, "a", ENDPOINT, 5.0, BOTH).await;
    alert(&world, 3, "a", "microsoftDefenderForIdentity", 5.0, GRAPH).await;
    assert_eq!(narrowed(&world).await, [(id(1), 2, 3)]);
    let sight = world.registry.partial_sight(id(1)).await.unwrap().unwrap();
    assert_eq!((sight.compared, sight.missing), (3, 2));
    assert!(sight.words.starts_with("2 of 3 alerts of Defender for Endpoint of the last week never came"), "{}", sight.words);
    assert!(sight.words.contains("only part of the device groups; the customer's administrator: give it all"), "{}", sight.words);
    for other in [2, 3] {
        assert_eq!(world.registry.partial_sight(id(other)).await.unwrap(), None, "tenant {other}");
    }
    assert_eq!(world.registry.count_partial_sights().await.unwrap(), 1);

    // More of the same is no news, but counted; and no state has changed.
    alert(&world, 1, "d", ENDPOINT, 4.0, GRAPH).await;
    assert_eq!(compare(&world).await, SightChanges::default());
    let later = world.registry.partial_sight(id(1)).await.unwrap().unwrap();
    assert_eq!((later.since, later.compared, later.missing), (sight.since, 4, 3));
    assert_eq!(world.health(id(1)).await, ("active".to_owned(), None, None, None));

    // The account was given the other groups, and the ladder has found what it now sees.
    for name in ["b", "c"] {
        deliver(&world, 1, name).await;
    }
    assert_eq!(compare(&world).await, SightChanges::default(), "one is still missing");
    deliver(&world, 1, "d").await;
    assert_eq!(compare(&world).await.widened, [id(1)]);
    assert_eq!(world.registry.partial_sight(id(1)).await.unwrap(), None);
    assert_eq!(compare(&world).await, SightChanges::default());
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_the_other_source_may_still_deliver_or_could_not_is_not_held_against_it(pool: PgPool) {
    let world = read_through_both(pool, 1).await;
    for hours in [1.5, 24.0 * 8.0] {
        alert(&world, 1, &format!("{hours}"), ENDPOINT, hours, GRAPH).await;
    }
    assert_eq!(narrowed(&world).await, [], "too young to compare, and out of reach");
    alert(&world, 1, "old enough", ENDPOINT, 10.0, GRAPH).await;
    let change = async |sql: &'static str| sqlx::query(sql).execute(&world.pool).await.unwrap().rows_affected();
    // Each hides the alert in its own way, and is taken back.
    for (why, hide, show) in [
        (
            "the other source is behind",
            "update tocsin.feed set caught_up_ticks = caught_up_ticks - 864000000000 * 5 where source = 'mde-alerts'",
            "update tocsin.feed set caught_up_ticks = caught_up_ticks + 864000000000 * 5 where source = 'mde-alerts'",
        ),
        (
            "the other source has never been read to its end",
            "update tocsin.reread set finished_at = null where source = 'mde-alerts'",
            "update tocsin.reread set finished_at = now() where source = 'mde-alerts'",
        ),
        (
            "the other source was read from a later time only",
            "update tocsin.reread set from_ticks = from_ticks + 864000000000 * 30 - 36000000000 * 8 where source = 'mde-alerts'",
            "update tocsin.reread set from_ticks = from_ticks - 864000000000 * 30 + 36000000000 * 8 where source = 'mde-alerts'",
        ),
        (
            "it was stored only just now",
            "update tocsin.alert set first_stored_at = now() where alert_id = 'old enough'",
            "update tocsin.alert set first_stored_at = created_at where alert_id = 'old enough'",
        ),
        (
            "it lies in a gap of the other source",
            "insert into tocsin.gap (tenant, source, from_ticks, to_ticks, reason)
             select tenant, source, caught_up_ticks - 36000000000 * 12, caught_up_ticks - 36000000000 * 8, 'r' from tocsin.feed where source = 'mde-alerts'",
            "update tocsin.gap set healed_at = now()",
        ),
        (
            "it may be what the other source has in quarantine",
            "update tocsin.feed set quarantined = 1 where source = 'mde-alerts'",
            "update tocsin.feed set quarantined = 0 where source = 'mde-alerts'",
        ),
    ] {
        assert_eq!(change(hide).await, 1, "{why}");
        assert_eq!(narrowed(&world).await, [], "{why}");
        assert_eq!(change(show).await, 1, "{why}");
        assert_eq!(narrowed(&world).await, [(id(1), 1, 1)], "{why}, until it was");
        change("delete from tocsin.partial_sight").await;
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_was_noticed_stands_while_it_cannot_be_looked_at_again(pool: PgPool) {
    let world = read_through_both(pool, 1).await;
    alert(&world, 1, "a", ENDPOINT, 10.0, GRAPH).await;
    assert_eq!(narrowed(&world).await, [(id(1), 1, 1)]);
    let change = async |sql: &'static str| sqlx::query(sql).execute(&world.pool).await.unwrap().rows_affected();
    // The alert lies outside of what is compared for a while: nothing is known, so nothing is over.
    for narrower in [
        "update tocsin.reread set from_ticks = from_ticks + 864000000000 * 30 - 36000000000 * 8 where source = 'mde-alerts'",
        "update tocsin.reread set finished_at = null where source = 'mde-alerts'",
    ] {
        assert_eq!(change(narrower).await, 1);
        assert_eq!(compare(&world).await, SightChanges::default());
        assert!(world.registry.partial_sight(id(1)).await.unwrap().is_some(), "{narrower}");
    }
    // Out of reach, it says nothing about today any more.
    change("update tocsin.reread set from_ticks = 0, finished_at = now() where source = 'mde-alerts'").await;
    change("update tocsin.partial_sight set newest_at = now() - interval '8 days'").await;
    change("update tocsin.alert set created_at = now() - interval '8 days', last_updated_at = now() - interval '8 days'").await;
    assert_eq!(compare(&world).await.widened, [id(1)]);
}

#[sqlx::test(migrations = "../../migrations")]
async fn only_tenants_read_by_an_account_through_both_sources_are_compared(pool: PgPool) {
    let world = read_through_both(pool, 5).await;
    for tenant in 1..=5 {
        alert(&world, tenant, "a", ENDPOINT, 10.0, GRAPH).await;
    }
    assert_eq!(narrowed(&world).await.len(), 5);
    world.registry.pause(id(2)).await.unwrap();
    world.registry.remove(id(3), Alerts::Keep).await.unwrap();
    assert_eq!(world.count("select count(*) from tocsin.partial_sight").await, 4, "a removal takes its row along");
    let lines = [
        format!("{},tenant 4,global,main,graph-alerts,", id(4)),
        // Read by the app itself from now on.
        format!("{},tenant 5,global,direct,graph-alerts;mde-alerts,", id(5)),
    ];
    assert_eq!(world.import_by(&lines, &rules()).await.failures().count(), 0);
    sqlx::query("delete from tocsin.tenant_secret where tenant = $1").bind(id(5).0).execute(&world.pool).await.unwrap();
    assert_eq!(world.state(id(5)).await, TenantState::Active.as_str());
    assert_eq!(world.registry.comparable_tenants().await.unwrap(), [id(1)]);
    let left: Vec<uuid::Uuid> = sqlx::query_scalar("select tenant from tocsin.partial_sight").fetch_all(&world.pool).await.unwrap();
    assert_eq!(left, [id(1).0]);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_daemon_looks_by_itself_and_two_of_them_say_it_once(pool: PgPool) {
    let captured = Captured::default();
    let _guard = captured.listen(tracing::Level::INFO);
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    // More than are compared at once.
    let world = read_through_both(pool, 45).await;
    for tenant in [1, 23, 45] {
        alert(&world, tenant, "a", ENDPOINT, 10.0, GRAPH).await;
    }
    let stop = CancellationToken::new();
    let upkeep = || Upkeep::new(world.registry.clone()).looking_every(Duration::from_millis(20)).run(stop.clone());
    let both = [tokio::spawn(upkeep()), tokio::spawn(upkeep())];
    let counted = || std::future::ready(metrics.render());
    eventually("all are noticed", counted, |text| text.contains("tocsin_partial_sight_tenants 3")).await;
    stop.cancel();
    for task in both {
        task.await.unwrap().unwrap();
    }
    let log = captured.text();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("mde-alerts lacks alerts that graph-alerts holds")).collect();
    assert_eq!(lines.len(), 3, "{log}");
    for tenant in [1, 23, 45] {
        let said = lines.iter().filter(|line| line.contains(&format!("tenant.id={}", id(tenant)))).count();
        assert_eq!(said, 1, "tenant {tenant}");
    }
    assert!(lines[0].contains("WARN") && lines[0].contains("missing=1") && lines[0].contains("compared=1"), "{}", lines[0]);
    assert!(lines[0].contains("the customer's administrator: give that account all device groups"), "{}", lines[0]);
}
