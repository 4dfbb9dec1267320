//! I25: what is done is written down with it or not done at all, and what is written down cannot be changed unseen.

use domain::TenantId;
use sqlx::PgPool;
use tenant_registry::{AdminError, Alerts, AuditHead, ImportRules, KeyRing, Registry};
use uuid::Uuid;

use crate::world::{World, id, rules, world};

const ANNA: &str = "cli anna@host";

async fn audited(pool: PgPool) -> World {
    let mut world = world(pool).await;
    world.registry = world.registry.acting_as(ANNA);
    world
}

/// The actions of a chain, in order.
async fn actions(world: &World, tenant: Option<TenantId>) -> Vec<String> {
    world.registry.audit_entries(tenant, 1000).await.unwrap().into_iter().map(|entry| entry.action).collect()
}

async fn problems(world: &World, kept: &[AuditHead]) -> u64 {
    world.registry.verify_audit(None, kept).await.unwrap().problems
}

#[sqlx::test(migrations = "../../migrations")]
async fn everything_an_operator_does_is_in_the_log_of_its_tenant_with_his_name_and_without_a_secret(pool: PgPool) {
    let world = audited(pool).await.with_tenants(2).await;
    let registry = &world.registry;
    registry.pause(id(1)).await.unwrap();
    registry.pause(id(1)).await.unwrap();
    registry.resume(id(1)).await.unwrap();
    registry.set_access_end(id(1), Some("2027-03-01T00:00:00Z".parse().unwrap())).await.unwrap();
    registry.try_now(id(1)).await.unwrap();
    let replace = ImportRules { replace_token: true, ..rules() };
    world.import_by(&[format!("{},tenant 1,global,main,graph-alerts,token-one", id(1))], &replace).await;
    world.import_by(&[format!("{},tenant 1,global,main,graph-alerts,token-one", id(1))], &replace).await;
    registry.remove(id(1), Alerts::Keep).await.unwrap();
    registry.remove(id(1), Alerts::Keep).await.unwrap();
    let expected = ["tenant.add", "tenant.pause", "tenant.resume", "tenant.set", "tenant.verify", "tenant.update", "tenant.remove"];
    assert_eq!(actions(&world, Some(id(1))).await, expected, "what changed nothing is not in it");
    assert_eq!(actions(&world, Some(id(2))).await, ["tenant.add"]);

    let entries = registry.audit_entries(None, 1000).await.unwrap();
    assert!(entries.iter().all(|entry| entry.actor == ANNA));
    let set = entries.iter().find(|entry| entry.action == "tenant.set").unwrap();
    assert_eq!(set.details["access_expires"], "2027-03-01T00:00:00Z");
    let replaced = entries.iter().find(|entry| entry.action == "tenant.update").unwrap();
    assert_eq!((replaced.details["token"].as_str(), replaced.details["token_version"].as_i64()), (Some("replaced"), Some(2)));
    assert_eq!(replaced.details["token_mac"].as_str().map(str::len), Some(64), "told apart by a keyed hash");
    let told = format!("{entries:?}");
    assert!(!told.contains("token-1") && !told.contains("token-one"), "{told}");
    let verified = registry.verify_audit(None, &[]).await.unwrap();
    assert_eq!((verified.entries, verified.chains, verified.problems), (8, 2, 0), "{:?}", verified.findings);
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_ring_is_noted_when_it_changes_and_not_otherwise(pool: PgPool) {
    let world = audited(pool).await;
    let installation = Some(TenantId(Uuid::nil()));
    world.registry.note_ring().await.unwrap();
    world.registry.note_ring().await.unwrap();
    assert_eq!(actions(&world, installation).await, ["key.ring"]);
    let other = KeyRing::init(&world.ring_path.with_file_name("other")).unwrap();
    Registry::open(world.pool.clone(), other).await.unwrap().note_ring().await.unwrap();
    assert_eq!(actions(&world, installation).await, ["key.ring", "key.ring"]);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_deed_of_another_crate_is_committed_with_its_entries_or_not_at_all(pool: PgPool) {
    let world = audited(pool).await.with_tenants(2).await;
    let gaps = "select count(*) from tocsin.gap";
    let dig = "insert into tocsin.gap (tenant, source, from_ticks, to_ticks, reason) select tenant, 'graph-alerts', 0, 1, 'dug' from tocsin.tenant";
    let begun = async || {
        let mut deed = world.registry.deed().await.unwrap();
        sqlx::raw_sql(dig).execute(deed.connection()).await.unwrap();
        deed
    };
    drop(begun().await);
    begun().await.done("gap.dig", []).await.unwrap();
    assert_eq!(world.count(gaps).await, 0, "nothing was said to be done");
    // In any order: two deeds about the same tenants lock their chains in the same one.
    let entries = [2_u64, 1].map(|number| (id(number.into()), serde_json::json!({ "deep": number })));
    begun().await.done("gap.dig", entries).await.unwrap();
    assert_eq!(world.count(gaps).await, 2);
    for number in [1_u64, 2] {
        let entry = world.registry.audit_entries(Some(id(number.into())), 1).await.unwrap().remove(0);
        assert_eq!((entry.actor.as_str(), entry.action.as_str(), entry.details["deep"].as_u64()), (ANNA, "gap.dig", Some(number)));
    }
    sqlx::raw_sql("delete from tocsin.gap; alter table tocsin.audit rename to audit_away").execute(&world.pool).await.unwrap();
    let refused = begun().await.done("gap.dig", [(id(1), serde_json::json!({}))]).await.unwrap_err();
    assert!(matches!(refused, AdminError::Unaudited(_)), "{refused}");
    assert_eq!(world.count(gaps).await, 0);
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_cannot_be_audited_is_not_done(pool: PgPool) {
    let world = audited(pool).await.with_tenants(2).await;
    let state = "select count(*) from tocsin.tenant where state = 'active'";
    sqlx::raw_sql(
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'permission denied for table audit' using errcode = '42501'; end $$;
         create trigger refuse before insert on tocsin.audit for each statement execute function refuse()",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    let before: Vec<String> = sqlx::query_scalar(
        "select t::text from tocsin.tenant t union all select k::text from tocsin.tenant_key k union all select s::text from tocsin.tenant_secret s \
         union all select h::text from tocsin.audit_head h union all select l::text from tocsin.lease l order by 1",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    let registry = &world.registry;
    let refused = |error: AdminError| {
        assert!(matches!(error, AdminError::Unaudited(_)), "{error:?}");
        let words = error.to_string();
        assert!(words.starts_with("it cannot be written to the audit log, so it was not done: "), "{words}");
    };
    refused(registry.pause(id(1)).await.unwrap_err());
    refused(registry.resume(id(1)).await.unwrap_err());
    refused(registry.remove(id(1), Alerts::Keep).await.unwrap_err());
    refused(registry.remove(id(2), Alerts::Delete).await.unwrap_err());
    refused(registry.note_ring().await.unwrap_err());
    let file = format!("{}\n{},new,global,main,graph-alerts,t\n", crate::world::HEADER, id(3));
    assert!(registry.import_csv(file.as_bytes(), &rules()).await.unwrap_err().to_string().contains("cannot be written to the audit log"));
    let rotated = registry.rotate_key(&tenant_registry::RingTarget::InPlace, std::time::Duration::ZERO, |_| {}).await;
    assert!(rotated.unwrap_err().to_string().contains("cannot be written to the audit log"));
    assert_eq!(KeyRing::load(&world.ring_path).unwrap().ids().len(), 1, "the ring is as it was");

    let after: Vec<String> = sqlx::query_scalar(
        "select t::text from tocsin.tenant t union all select k::text from tocsin.tenant_key k union all select s::text from tocsin.tenant_secret s \
         union all select h::text from tocsin.audit_head h union all select l::text from tocsin.lease l order by 1",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert_eq!(before, after, "nothing changed");
    assert_eq!(world.count(state).await, 2);
}

#[sqlx::test(migrations = "../../migrations")]
async fn i25_whatever_is_done_to_the_rows_is_found(pool: PgPool) {
    let world = audited(pool).await.with_tenants(2).await;
    for _ in 0..3 {
        world.registry.pause(id(1)).await.unwrap();
        world.registry.resume(id(1)).await.unwrap();
    }
    let kept = world.registry.audit_heads(None).await.unwrap();
    let lines: String = kept.iter().map(|head| head.to_line() + "\n").collect();
    assert_eq!(AuditHead::parse_lines(&lines).unwrap(), kept);
    assert_eq!(problems(&world, &kept).await, 0);

    // Each is tried, found, and taken back.
    let changes = [
        "update tocsin.audit set tenant = gen_random_uuid() where {}",
        "update tocsin.audit set seq = seq + 100 where {}",
        "update tocsin.audit set at = at + interval '1 microsecond' where {}",
        "update tocsin.audit set at = 'infinity' where {}",
        "update tocsin.audit set actor = actor || 'x' where {}",
        "update tocsin.audit set action = 'tenant.erased' where {}",
        "update tocsin.audit set details = details || ' ' where {}",
        "update tocsin.audit set previous = sha256(previous) where {}",
        "update tocsin.audit set hash = sha256(hash) where {}",
        "delete from tocsin.audit where {}",
        "update tocsin.audit a set seq = case when a.seq = 9 then 8 else 9 end where a.seq in (8, 9) and {}",
        // The head with it: only who kept the head elsewhere sees that.
        "with cut as (delete from tocsin.audit where tenant = '00000000-0000-0000-0000-000000000001' and seq >= 4 and {} returning seq)
         update tocsin.audit_head h set seq = 3, hash = (select hash from tocsin.audit where tenant = h.tenant and seq = 3)
         from (select count(*) as n from cut) c where h.tenant = '00000000-0000-0000-0000-000000000001' and c.n > 0",
        "with all_of_it as (delete from tocsin.audit where {} and tenant = '00000000-0000-0000-0000-000000000002' returning tenant)
         delete from tocsin.audit_head where tenant = (select tenant from all_of_it)",
    ];
    let rows: Vec<(Uuid, i64)> = sqlx::query_as("select tenant, seq from tocsin.audit order by 1, 2").fetch_all(&world.pool).await.unwrap();
    assert_eq!(rows.len(), 8);
    for change in changes {
        let mut applied = 0;
        for (tenant, seq) in &rows {
            sqlx::raw_sql(
                "drop table if exists kept_audit, kept_head; create table kept_audit as table tocsin.audit; create table kept_head as table tocsin.audit_head;
                 alter table tocsin.audit drop constraint if exists audit_pkey",
            )
            .execute(&world.pool)
            .await
            .unwrap();
            let cut = change.contains("seq >= 4") || change.contains("8, 9");
            let which = if cut { "true".to_owned() } else { format!("(tenant = '{tenant}' and seq = {seq})") };
            let changed =
                sqlx::raw_sql(sqlx::AssertSqlSafe(change.replace("{}", &which))).execute(&world.pool).await.unwrap().rows_affected();
            if changed > 0 {
                applied += 1;
                assert!(problems(&world, &kept).await > 0, "{change}: {tenant} {seq}");
            }
            sqlx::raw_sql(
                "delete from tocsin.audit; insert into tocsin.audit table kept_audit; delete from tocsin.audit_head; insert into tocsin.audit_head table kept_head",
            )
            .execute(&world.pool)
            .await
            .unwrap();
        }
        assert!(applied > 0 || change.contains("8, 9"), "{change} changed nothing");
    }
    assert_eq!(problems(&world, &kept).await, 0, "and all is as it was");
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_database_itself_computes_the_same_hashes(pool: PgPool) {
    let world = audited(pool).await.with_tenants(2).await;
    world.registry.pause(id(1)).await.unwrap();
    let sql = "select count(*) from tocsin.audit where hash = sha256(
        int4send(14) || convert_to('tocsin audit 1', 'UTF8') || int4send(16) || uuid_send(tenant) || int4send(8) || int8send(seq)
        || int4send(8) || int8send((extract(epoch from at) * 1000000)::bigint)
        || int4send(octet_length(actor)) || convert_to(actor, 'UTF8') || int4send(octet_length(action)) || convert_to(action, 'UTF8')
        || int4send(octet_length(details)) || convert_to(details, 'UTF8') || int4send(32) || previous)";
    assert_eq!(world.count(sql).await, 3, "as the documentation of the module says");
}

#[sqlx::test(migrations = "../../migrations")]
async fn two_at_once_write_one_chain(pool: PgPool) {
    let world = audited(pool).await.with_tenants(1).await;
    let work = (0..20).map(|_| async { world.registry.resume(id(1)).await });
    for done in futures_util::future::join_all(work).await {
        done.unwrap();
    }
    let verified = world.registry.verify_audit(Some(id(1)), &[]).await.unwrap();
    assert_eq!((verified.entries, verified.problems), (21, 0), "{:?}", verified.findings);
}

/// Fills the audit log with so many entries for each of so many tenants. Postgres computes the hashes, as the
/// documentation of the module says.
async fn fill(pool: &PgPool, tenants: i32, entries: i32) {
    let hash = "sha256(int4send(14) || convert_to('tocsin audit 1', 'UTF8') || int4send(16) || uuid_send(tenant) || int4send(8) || int8send(seq)
        || int4send(8) || int8send((extract(epoch from at) * 1000000)::bigint) || int4send(octet_length(actor)) || convert_to(actor, 'UTF8')
        || int4send(octet_length(action)) || convert_to(action, 'UTF8') || int4send(octet_length(details)) || convert_to(details, 'UTF8') || int4send(32) || previous)";
    let sql = format!(
        "do $$ begin
            insert into tocsin.audit_head select gen_random_uuid(), 0, decode(repeat('00', 32), 'hex') from generate_series(1, {tenants});
            for n in 1..{entries} loop
                insert into tocsin.audit
                select tenant, seq, at, actor, action, details, previous, {hash}
                from (select tenant, seq + 1 as seq, clock_timestamp() as at, 'cli operator@host' as actor, 'tenant.update' as action,
                    '{{\"name\":\"Contoso A/S\",\"cloud\":\"global\",\"app\":\"main\",\"sources\":[\"graph-alerts\"],\"state\":\"active\"}}' as details, hash as previous
                    from tocsin.audit_head) n;
                update tocsin.audit_head h set seq = a.seq, hash = a.hash from tocsin.audit a where a.tenant = h.tenant and a.seq = n;
            end loop;
        end $$"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.unwrap();
}

#[sqlx::test(migrations = "../../migrations")]
async fn chains_that_the_database_has_computed_are_in_order(pool: PgPool) {
    let world = audited(pool).await;
    fill(&world.pool, 20, 50).await;
    let verified = world.registry.verify_audit(None, &[]).await.unwrap();
    assert_eq!((verified.entries, verified.chains, verified.problems), (1000, 20, 0), "{:?}", verified.findings);
}

/// G32; not part of the suite: `cargo test --release -p tenant-registry -- --ignored g32`, within `with-postgres`.
#[sqlx::test(migrations = "../../migrations")]
#[ignore = "takes a minute or two"]
async fn g32_a_million_entries_are_walked_within_ten_seconds(pool: PgPool) {
    let world = audited(pool).await;
    fill(&world.pool, 5_000, 200).await;
    let started = tokio::time::Instant::now();
    let verified = world.registry.verify_audit(None, &[]).await.unwrap();
    let took = started.elapsed();
    assert_eq!((verified.entries, verified.chains, verified.problems), (1_000_000, 5_000, 0), "{:?}", verified.findings);
    report("1,000,000 entries walked", took);
    // The figure is that of a release: an unoptimised build decodes rows several times slower.
    assert!(took.as_secs_f64() <= 10.0 || cfg!(debug_assertions), "{took:?}");
}

/// A figure, for whoever runs a measurement.
#[expect(clippy::print_stdout, reason = "the figure is the output")]
pub(crate) fn report(what: &str, took: std::time::Duration) {
    println!("{what} in {took:?}");
}
