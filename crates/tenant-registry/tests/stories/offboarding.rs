//! D16, I26: a customer goes; what is stored of him stays or goes, to the end, whoever is interrupted.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::{TenantId, TenantState};
use sqlx::PgPool;
use tenant_registry::{AdminError, Alerts, Stored, Upkeep};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::world::{CLIENT, World, eventually, id, quick, rules, world};

/// Tables with a row for a tenant that stay when its alerts are deleted: the tombstone, its lease, what was destroyed
/// with the removal itself, and the record of all this.
const STAY: [&str; 18] = [
    "tenant",
    "lease",
    "tenant_key",
    "tenant_secret",
    "trouble",
    "audit",
    "audit_head",
    "erasure",
    "tenant_access",
    "tenant_consent",
    "clock_warning",
    "partial_sight",
    "link",
    "sign_in",
    "candidate",
    "notified",
    "notification",
    "reader_tenant",
];
const GO: [&str; 19] = [
    "alert",
    "alert_version",
    "version_seen",
    "alert_event",
    "incident",
    "incident_redirect",
    "reread",
    "reconciliation",
    "gap",
    "quarantine",
    "feed",
    // What is derived, which nobody is told the number of.
    "digested",
    "evidence",
    "finding",
    "technique_day",
    "alert_day",
    "detection_day",
    "derivation",
    // Counted by a trigger, deleted by one.
    "response_day",
];

/// Puts rows of the tenant into every table that holds what was read: so many versions, and one row elsewhere.
async fn fill(world: &World, tenant: TenantId, versions: i32) {
    let sql = "select tocsin.ensure_version_partition('2026-11-05 00:00+00');
        insert into tocsin.alert_version (tenant, source, alert_id, hash, created_at, version, raw)
            select 'TENANT', 'graph-alerts', 'a' || n, sha256(n::text::bytea), case when n % 2 = 0 then timestamptz '2026-11-05' else '-infinity' end, 1, '{}'
            from generate_series(1, COUNT) n;
        insert into tocsin.alert (tenant, alert_id, source, source_rank, hash, version_created_at)
            select tenant, alert_id, source, 1, hash, created_at from tocsin.alert_version where tenant = 'TENANT';
        insert into tocsin.version_seen (tenant, source, alert_id, hash, version, month) values ('TENANT', 's', 'a1', '', 1, '2026-01-01');
        insert into tocsin.alert_event (tenant, alert_id, field, new_value, source) values ('TENANT', 'a1', 'status', 'resolved', 's');
        insert into tocsin.incident (tenant, incident_id, hash, raw) values ('TENANT', 'i', '', '{}');
        insert into tocsin.incident_redirect values ('TENANT', 'i', 'j');
        insert into tocsin.reread (tenant, source, errand, from_ticks, to_ticks, left_ticks, polled_before_ticks) values ('TENANT', 's', 'short', 0, 1, 1, 0);
        insert into tocsin.reconciliation (tenant, source, asked_by, run, from_ticks, to_ticks, at_source, stored, missing, changed, only_stored)
            values ('TENANT', 's', 'nightly', 1, 0, 1, 0, 0, 0, 0, 0);
        insert into tocsin.gap (tenant, source, from_ticks, to_ticks, reason) values ('TENANT', 's', 0, 1, 'r');
        insert into tocsin.quarantine (tenant, source, hash, reason, raw_bytes) values ('TENANT', 's', 'h', 'r', 'x');
        insert into tocsin.feed (tenant, source) values ('TENANT', 's');
        insert into tocsin.derivation (tenant, upto, system_id, version) values ('TENANT', '1', 1, 1);
        insert into tocsin.digested (tenant, alert_id, changed_xid, created_at, title, severity, status, service_source, classification, techniques, measured)
            select tenant, alert_id, changed_xid, '2026-11-05 10:30+00', '', 'high', '', '', '', '{}', '{}' from tocsin.alert where tenant = 'TENANT';
        insert into tocsin.alert_hour as h select '2026-11-05 10:00+00', 'high', 3, COUNT on conflict (hour, severity, shard) do update set alerts = h.alerts + COUNT;
        insert into tocsin.evidence (tenant, alert_id, kind, value, created_at) values ('TENANT', 'a1', 'ip', 'v', now());
        insert into tocsin.finding values ('TENANT', 'a1', '{}');
        insert into tocsin.technique_day values ('TENANT', '2026-11-05', 't', 1);
        insert into tocsin.alert_day values ('TENANT', '2026-11-05', '', '', '', 1);
        insert into tocsin.detection_day values ('TENANT', '2026-11-05', '', '', '', 1, 0, 0, 0)";
    let sql = sql.replace("TENANT", &tenant.to_string()).replace("COUNT", &versions.to_string());
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&world.pool).await.unwrap();
}

/// The tables of this list that hold a row of the tenant.
async fn with_rows(world: &World, tenant: TenantId, tables: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for table in tables {
        let sql = format!("select exists (select from tocsin.{table} where tenant = '{tenant}')");
        let exists: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&world.pool).await.unwrap();
        found.extend(exists.then(|| (*table).to_owned()));
    }
    found
}

#[sqlx::test(migrations = "../../migrations")]
async fn every_table_with_a_tenant_in_it_has_been_thought_of(pool: PgPool) {
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid
         where c.relnamespace = 'tocsin'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition and a.attname = 'tenant'",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let known: BTreeSet<&str> = STAY.into_iter().chain(GO).collect();
    assert_eq!(
        tables.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        known,
        "a new table goes into tocsin.erase_some, or is known to stay"
    );
}

#[sqlx::test(migrations = "../../migrations")]
async fn kept_alerts_stay_and_may_be_deleted_later(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    fill(&world, id(1), 10).await;
    assert_eq!(world.registry.stored(id(1)).await.unwrap(), Stored { alerts: 10, versions: 10, incidents: 1 });
    let removal = world.registry.remove(id(1), Alerts::Keep).await.unwrap();
    assert_eq!((removal.before, removal.after, removal.keys, removal.tokens), (TenantState::Active, TenantState::Removed, 1, 1));
    assert_eq!(with_rows(&world, id(1), &GO).await.len(), GO.len(), "all of it is there");
    assert!(!world.registry.remove(id(1), Alerts::Keep).await.unwrap().happened());

    assert_eq!(world.registry.remove(id(1), Alerts::Delete).await.unwrap().after, TenantState::Offboarding);
    let erased = world.registry.erase(id(1), |_| {}).await.unwrap();
    assert_eq!((erased.alerts, erased.versions, erased.incidents, erased.others), (10, 10, 1, 8));
    assert_eq!(with_rows(&world, id(1), &GO).await, [""; 0]);
    let counted = "select coalesce(sum(alerts), 0)::bigint from dash.alert_hour";
    assert_eq!(sqlx::query_scalar::<_, i64>(counted).fetch_one(&world.pool).await.unwrap(), 0, "and out of the counts of all");
    assert_eq!(world.state(id(1)).await, "removed");
    let actions: Vec<String> = world.registry.audit_entries(Some(id(1)), 10).await.unwrap().into_iter().map(|entry| entry.action).collect();
    assert_eq!(actions, ["tenant.add", "tenant.remove", "tenant.remove", "tenant.erased"]);
}

#[sqlx::test(migrations = "../../migrations")]
async fn deleting_goes_in_pieces_and_a_daemon_goes_on_with_it(pool: PgPool) {
    let world = world(pool).await.with_tenants(2).await;
    fill(&world, id(1), 5_000).await;
    fill(&world, id(2), 100).await;
    let removal = world.registry.remove(id(1), Alerts::Delete).await.unwrap();
    assert_eq!((removal.after, removal.tokens), (TenantState::Offboarding, 1), "the token is destroyed at once");
    assert_eq!(world.state(id(1)).await, "offboarding");
    for refused in [
        world.registry.pause(id(1)).await.map(drop),
        world.registry.resume(id(1)).await.map(drop),
        world.registry.remove(id(1), Alerts::Keep).await.map(drop),
        world.registry.erase(id(2), |_| {}).await.map(drop),
    ] {
        assert!(matches!(refused, Err(AdminError::Conflict(_))), "{refused:?}");
    }
    let report = world.import_by(&[format!("{},tenant 1,global,main,graph-alerts,t", id(1))], &rules()).await;
    assert!(report.failures().next().unwrap().1.to_string().contains("being removed"));

    // Interrupted after the first piece.
    let piece = Notify::new();
    tokio::select! {
        biased;
        () = piece.notified() => {}
        _ = world.registry.erase(id(1), |_| piece.notify_one()) => unreachable!("there is more than one piece"),
    }
    let left = world.registry.stored(id(1)).await.unwrap().versions;
    assert!((1..5_000).contains(&left), "{left} left");
    // The command again changes nothing but goes on; here a daemon is faster.
    assert!(!world.registry.remove(id(1), Alerts::Delete).await.unwrap().happened());
    let mut worker = world.worker();
    worker.until("the other tenant alone", |set| set.tenants.len() == 1 && set.tenants.contains_key(&id(2))).await;
    let stop = CancellationToken::new();
    let upkeep =
        tokio::spawn(Upkeep::new(world.registry.clone().acting_as("daemon")).looking_every(Duration::from_millis(20)).run(stop.clone()));
    eventually("it is removed", || world.state(id(1)), |state| state == "removed").await;
    stop.cancel();
    upkeep.await.unwrap().unwrap();
    worker.stop().await;

    assert_eq!(with_rows(&world, id(1), &GO).await, [""; 0]);
    assert_eq!(with_rows(&world, id(2), &GO).await.len(), GO.len(), "nobody else lost a row");
    let counted = "select coalesce(sum(alerts), 0)::bigint from dash.alert_hour";
    assert_eq!(sqlx::query_scalar::<_, i64>(counted).fetch_one(&world.pool).await.unwrap(), 100, "nor a count");
    assert_eq!(world.registry.stored(id(2)).await.unwrap().versions, 100);
    let last = world.registry.audit_entries(Some(id(1)), 1).await.unwrap().remove(0);
    assert_eq!((last.action.as_str(), last.actor.as_str()), ("tenant.erased", "daemon"));
    assert_eq!((last.details["deleted"]["alerts"].as_i64(), last.details["deleted"]["versions"].as_i64()), (Some(5_000), Some(5_000)));
    assert_eq!(with_rows(&world, id(1), &STAY).await, ["tenant", "lease", "audit", "audit_head", "erasure"], "the tombstone");
    assert!(world.registry.open_refresh_token(id(1), CLIENT).await.unwrap().is_none());
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_removal_is_quiet_when_its_daemon_has_taken_notice(pool: PgPool) {
    let world = world(pool).await.with_tenants(4).await;
    let mut worker = world.worker_with(quick());
    worker.holding(4).await;
    for tenant in 1..=3 {
        let removal = world.registry.remove(id(tenant), Alerts::Keep).await.unwrap();
        assert!(world.registry.quiet(&removal, Duration::from_secs(10)).await.unwrap());
        assert!(!worker.held.borrow().tenants.contains_key(&id(tenant)), "not published any more at that very moment");
    }
    // One that does not answer is not waited for for ever.
    let removal = world.registry.remove(id(4), Alerts::Keep).await.unwrap();
    worker.crash().await;
    assert!(!world.registry.quiet(&removal, Duration::from_millis(200)).await.unwrap());
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_customer_is_erased_only_when_the_audit_log_says_that_this_was_asked_for(pool: PgPool) {
    let world = world(pool).await.with_tenants(2).await;
    let registry = &world.registry;
    let erase = async |tenant: TenantId| -> Result<i64, String> {
        let statement = sqlx::query_scalar("select tocsin.erase_some($1, 10)").bind(tenant.0);
        statement.fetch_one(&world.pool).await.map_err(|error| error.to_string())
    };
    // What the daemon's role may write into the table of tenants is no reason to delete anything.
    let offboarding = async |tenant: TenantId| {
        let sql = "update tocsin.tenant set state = 'offboarding' where tenant = $1";
        sqlx::query(sql).bind(tenant.0).execute(&world.pool).await.unwrap();
    };
    for tenant in [id(1), id(2)] {
        fill(&world, tenant, 3).await;
    }
    assert!(erase(id(1)).await.unwrap_err().contains("is not being erased"));
    offboarding(id(1)).await;
    assert!(erase(id(1)).await.unwrap_err().contains("by the audit log"), "nobody has removed it");

    // Removed, but with its alerts kept.
    registry.remove(id(2), Alerts::Keep).await.unwrap();
    offboarding(id(2)).await;
    assert!(erase(id(2)).await.unwrap_err().contains("by the audit log"), "its alerts were to stay");
    // Removed with its alerts, a long time ago: it has come back since.
    sqlx::query("update tocsin.tenant set state = 'removed' where tenant = $1").bind(id(2).0).execute(&world.pool).await.unwrap();
    registry.remove(id(2), Alerts::Delete).await.unwrap();
    registry.erase(id(2), |_| {}).await.unwrap();
    world.import(&[format!("{},tenant 2,global,main,graph-alerts,again", id(2))]).await;
    fill(&world, id(2), 3).await;
    offboarding(id(2)).await;
    assert!(erase(id(2)).await.unwrap_err().contains("by the audit log"), "it was removed before it came back");
    for tenant in [id(1), id(2)] {
        assert_eq!(registry.stored(tenant).await.unwrap().versions, 3, "{tenant}");
    }

    // Asked for, and then refused a sign-in by whoever still had a link: that is no change of state.
    sqlx::query("update tocsin.tenant set state = 'active' where tenant = $1").bind(id(1).0).execute(&world.pool).await.unwrap();
    registry.remove(id(1), Alerts::Delete).await.unwrap();
    registry.audit_refusal(Some(id(1)), "consent.refused", "the link has ended").await.unwrap();
    assert_eq!(erase(id(1)).await, Ok(10));
}
