//! What a sign-in brings belongs to it alone until it is proved, and to nobody once its link has ended (I15, I18, I26).

use std::time::Duration;

use domain::{LinkKind, Ticks};
use secrecy::ExposeSecret as _;
use sqlx::PgPool;
use tenant_registry::{Accepted, AdminError, Alerts, ImportRules, Invitation, Step, StepResult, Upkeep};
use tokio_util::sync::CancellationToken;

use crate::world::{CLIENT, World, eventually, id, rules, token, world};

const HOUR: Duration = Duration::from_secs(3600);
const BACK: &str = "http://localhost/callback";
const NOW: Ticks = Ticks(17_900_000_000_000_000);

/// A link that may replace the connection of tenant 1.
async fn link(world: &World) -> Invitation {
    world.registry.invite(id(1), LinkKind::Delegated, true, HOUR).await.unwrap()
}

/// Somebody signs in from the link and comes back.
async fn signed_in(world: &World, link: &Invitation) -> Accepted {
    let (_, begun) = world.registry.begin_sign_in(&link.ticket, BACK).await.unwrap();
    world.registry.accept_answer(&begun.state, Some(&begun.browser)).await.unwrap()
}

fn is_over<T>(outcome: &Result<T, AdminError>) -> bool {
    matches!(outcome, Err(AdminError::Conflict(words)) if words.contains("the link has ended meanwhile"))
}

async fn assert_over(world: &World, accepted: &Accepted) {
    let registry = &world.registry;
    assert!(is_over(&registry.still_wanted(accepted).await));
    assert!(is_over(&registry.seal_candidate(accepted, CLIENT, &token("late")).await));
    assert!(is_over(&registry.open_candidate(accepted, CLIENT).await));
    assert!(is_over(&registry.promote_candidate(accepted, CLIENT, None, NOW).await));
}

fn steps(result: StepResult) -> Vec<Step> {
    vec![Step { step: "first-page".to_owned(), result, words: String::new(), outside: None }]
}

#[sqlx::test(migrations = "../../migrations")]
async fn two_people_who_sign_in_from_one_link_never_get_each_others_token_i18(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let registry = &world.registry;
    let link = link(&world).await;
    let (ann, bob) = (signed_in(&world, &link).await, signed_in(&world, &link).await);
    registry.seal_candidate(&ann, CLIENT, &token("ann-1")).await.unwrap();
    registry.seal_candidate(&bob, CLIENT, &token("bob-1")).await.unwrap();
    assert_eq!(registry.seal_candidate(&bob, CLIENT, &token("bob-2")).await.unwrap(), 2);
    assert_eq!(registry.open_candidate(&ann, CLIENT).await.unwrap().token.expose_secret(), "ann-1");
    assert_eq!(registry.open_candidate(&bob, CLIENT).await.unwrap().token.expose_secret(), "bob-2");
    // The last one who came back is shown; the other one's list is not mixed into it.
    registry.show_steps(&ann, &steps(StepResult::Fail), true).await.unwrap();
    assert_eq!(registry.link_status(id(1), link.link).await.unwrap().steps, []);
    assert_eq!(registry.open_refresh_token(id(1), CLIENT).await.unwrap().unwrap().token.expose_secret(), "token-1", "untouched");

    registry.promote_candidate(&ann, CLIENT, None, NOW).await.unwrap();
    assert_eq!(registry.open_refresh_token(id(1), CLIENT).await.unwrap().unwrap().token.expose_secret(), "ann-1");
    assert_over(&world, &bob).await;
    registry.show_steps(&ann, &steps(StepResult::Ok), false).await.unwrap();
    registry.show_steps(&bob, &steps(StepResult::Fail), true).await.unwrap();
    let status = registry.link_status(id(1), link.link).await.unwrap();
    assert_eq!((status.outcome.as_deref(), status.steps), (Some("linked"), steps(StepResult::Ok)), "of the one who connected");
    assert_eq!(world.count("select count(*) from tocsin.candidate").await, 0);
}

#[sqlx::test(migrations = "../../migrations")]
async fn whoever_fails_takes_nothing_from_the_other_one(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let link = link(&world).await;
    let (ann, bob) = (signed_in(&world, &link).await, signed_in(&world, &link).await);
    for (who, text) in [(&ann, "ann"), (&bob, "bob")] {
        world.registry.seal_candidate(who, CLIENT, &token(text)).await.unwrap();
    }
    world.registry.end_proof(&bob).await.unwrap();
    assert!(is_over(&world.registry.promote_candidate(&bob, CLIENT, None, NOW).await));
    world.registry.promote_candidate(&ann, CLIENT, None, NOW).await.unwrap();
    assert_eq!(world.registry.open_refresh_token(id(1), CLIENT).await.unwrap().unwrap().token.expose_secret(), "ann");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_link_that_was_called_back_or_replaced_takes_what_it_brought_with_it(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let called_back = signed_in(&world, &link(&world).await).await;
    world.registry.seal_candidate(&called_back, CLIENT, &token("one")).await.unwrap();
    assert!(world.registry.cancel_link(id(1)).await.unwrap());
    assert_over(&world, &called_back).await;
    let replaced = signed_in(&world, &link(&world).await).await;
    world.registry.seal_candidate(&replaced, CLIENT, &token("two")).await.unwrap();
    link(&world).await;
    assert_over(&world, &replaced).await;
    assert_eq!(world.count("select count(*) from tocsin.candidate").await, 0);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_proof_that_is_under_way_brings_no_key_back_to_a_removed_tenant_i26(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let (before, after) = {
        let link = link(&world).await;
        (signed_in(&world, &link).await, signed_in(&world, &link).await)
    };
    world.registry.seal_candidate(&before, CLIENT, &token("before")).await.unwrap();
    let removal = world.registry.remove(id(1), Alerts::Keep).await.unwrap();
    assert_eq!((removal.keys, removal.tokens), (1, 2), "the connection's and the one that was being proved");
    assert_over(&world, &before).await;
    assert_over(&world, &after).await;
    for table in ["tenant_key", "tenant_secret", "candidate"] {
        let rows: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from tocsin.{table}"))).fetch_one(&world.pool).await.unwrap();
        assert_eq!(rows, 0, "{table}");
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_one_sign_in_brought_does_not_open_in_the_place_of_another_i15(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let link = link(&world).await;
    let (evil, good) = (signed_in(&world, &link).await, signed_in(&world, &link).await);
    for (who, text) in [(&evil, "evil"), (&good, "good")] {
        world.registry.seal_candidate(who, CLIENT, &token(text)).await.unwrap();
    }
    let copied = "update tocsin.candidate c set sealed = e.sealed from tocsin.candidate e where c.sign_in = $1 and e.sign_in = $2";
    sqlx::query(copied).bind(good.sign_in).bind(evil.sign_in).execute(&world.pool).await.unwrap();
    assert!(matches!(world.registry.open_candidate(&good, CLIENT).await, Err(AdminError::Vault(_))));
    assert!(matches!(world.registry.promote_candidate(&good, CLIENT, None, NOW).await, Err(AdminError::Vault(_))));
    assert_eq!(world.registry.open_refresh_token(id(1), CLIENT).await.unwrap().unwrap().token.expose_secret(), "token-1", "untouched");
    // Nor in the place of the tenant's own token.
    let copied = "update tocsin.tenant_secret s set sealed = e.sealed from tocsin.candidate e where s.tenant = e.tenant and e.sign_in = $1";
    sqlx::query(copied).bind(evil.sign_in).execute(&world.pool).await.unwrap();
    assert!(world.registry.open_refresh_token(id(1), CLIENT).await.is_err());
}

/// The heart of a proof stopped beating a while ago.
async fn dies(world: &World, accepted: &Accepted) {
    let age = "update tocsin.sign_in set proving_at = now() - interval '46 seconds' where sign_in = $1";
    assert_eq!(sqlx::query(age).bind(accepted.sign_in).execute(&world.pool).await.unwrap().rows_affected(), 1);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_proof_whose_process_died_is_ended_by_the_upkeep_and_told_to_whoever_waits(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let link = link(&world).await;
    let (under_way, left) = (signed_in(&world, &link).await, signed_in(&world, &link).await);
    for who in [&left, &under_way] {
        world.registry.seal_candidate(who, CLIENT, &token("sealed")).await.unwrap();
    }
    world.registry.show_steps(&left, &steps(StepResult::Ok), false).await.unwrap();
    for who in [&left, &under_way] {
        dies(&world, who).await;
    }
    world.registry.still_proving(&under_way).await.unwrap();
    let stop = CancellationToken::new();
    let daemon = world.registry.clone().acting_as("daemon");
    let upkeep = tokio::spawn(Upkeep::new(daemon).looking_every(Duration::from_millis(10)).run(stop.clone()));
    let kept = async || world.count("select count(*) from tocsin.candidate").await;
    eventually("the one that was left is gone", kept, |kept| *kept == 1).await;
    stop.cancel();
    upkeep.await.unwrap().unwrap();
    assert_over(&world, &left).await;
    world.registry.open_candidate(&under_way, CLIENT).await.unwrap();
    let status = world.registry.link_status(id(1), link.link).await.unwrap();
    assert_eq!((status.outcome, status.proving_for), (None, None), "the link is still good");
    assert_eq!(status.steps.len(), 2);
    assert!(status.steps[1].result == StepResult::Fail && status.steps[1].words.contains("open the link again"), "{:?}", status.steps);
    let told = world.count("select count(*) from tocsin.audit where action = 'sign-in.interrupted'").await;
    assert_eq!(told, 1);
    // A process that only slept cannot go on with it.
    world.registry.still_proving(&left).await.unwrap();
    assert_over(&world, &left).await;
    world.registry.promote_candidate(&under_way, CLIENT, None, NOW).await.unwrap();
}

/// What would be in the hands of a thief who copied both: the data key as it is wrapped, and what it sealed.
async fn stolen(world: &World) -> (Vec<u8>, Vec<u8>) {
    let sql = "select k.wrapped, s.sealed from tocsin.tenant_key k join tocsin.tenant_secret s using (tenant)";
    sqlx::query_as(sql).fetch_one(&world.pool).await.unwrap()
}

/// Puts what was stolen back where it lay.
async fn put_back(world: &World, wrapped: Option<&[u8]>, sealed: Option<&[u8]>) {
    for (sql, blob) in [("update tocsin.tenant_key set wrapped = $1", wrapped), ("update tocsin.tenant_secret set sealed = $1", sealed)] {
        if let Some(blob) = blob {
            sqlx::query(sql).bind(blob).execute(&world.pool).await.unwrap();
        }
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn i15_a_connection_that_is_made_anew_has_a_data_key_of_its_own(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let registry = &world.registry;
    let held = async || registry.open_refresh_token(id(1), CLIENT).await.map(|held| held.unwrap().token.expose_secret().to_owned());
    let before = stolen(&world).await;
    let link = link(&world).await;
    let ann = signed_in(&world, &link).await;
    registry.seal_candidate(&ann, CLIENT, &token("ann-1")).await.unwrap();
    assert_eq!(stolen(&world).await, before, "until it is proved the old connection is as it was");
    registry.promote_candidate(&ann, CLIENT, None, NOW).await.unwrap();
    let after = stolen(&world).await;
    assert!(before.0 != after.0 && held().await.unwrap() == "ann-1");

    // The old data key, which a thief may have opened once, does not open the new token, nor the new key the old one.
    put_back(&world, Some(&before.0), None).await;
    assert!(held().await.is_err());
    put_back(&world, Some(&after.0), Some(&before.1)).await;
    assert!(held().await.is_err());
    put_back(&world, Some(&after.0), Some(&after.1)).await;
    assert_eq!(held().await.unwrap(), "ann-1");

    // The same for a token that is imported in the place of another, and not for one that was imported before.
    let line = |text: &str| [format!("{},tenant 1,global,main,graph-alerts,{text}", id(1))];
    let replace = ImportRules { replace_token: true, ..rules() };
    for (text, another) in [("token-two", true), ("token-two", false), ("token-three", true)] {
        let before = stolen(&world).await;
        world.import_by(&line(text), &replace).await;
        assert_eq!(stolen(&world).await.0 != before.0, another, "{text}");
        assert_eq!(held().await.unwrap(), text);
    }
    assert_eq!(world.count("select count(*) from tocsin.tenant_key").await, 1);
}
