//! What single tenants are told and what is really about our own app: a federated credential that was deleted, an app that
//! Microsoft disabled. One alarm then, as for an expired secret; and what is one customer's affair stays that.

use std::sync::Arc;

use domain::{Audience, HeldTenant, TenantId, Verdict};
use microsoft::MaybeOurs;
use token_refresher::Refused;
use tokio::time::{Instant, sleep};

use crate::sign_in::{Quirk, in_doubt};
use crate::world::{HOUR, MINUTE, SECOND, World, id, world};

const GLOBAL: Option<Verdict> = Some(Verdict::Global);
const CUSTOMER: Option<Verdict> = Some(Verdict::NeedsCustomer);

fn unknown_credential() -> Refused {
    in_doubt(Verdict::Retry, "AADSTS70021", MaybeOurs::IfItLasts)
}

fn disabled_app() -> Refused {
    in_doubt(Verdict::NeedsCustomer, "AADSTS7000112", MaybeOurs::IfSeveralSaySo)
}

fn tenants(world: &World, count: u128) -> Vec<Arc<HeldTenant>> {
    (1..=count).map(|number| world.tenant(number)).collect()
}

/// Everybody asks whenever there is use in it, for so long.
async fn poll(world: &World, tenants: &[Arc<HeldTenant>], span: std::time::Duration) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        for tenant in tenants {
            // What comes of it is in the journal and in the reports.
            let _ = world.ask(tenant, Audience::Graph).await;
        }
        sleep(SECOND).await;
    }
}

fn asked(world: &World, tenant: TenantId) -> usize {
    world.journal.all().iter().filter(|(_, event)| matches!(event, crate::world::Event::Asked { tenant: id, .. } if *id == tenant)).count()
}

#[tokio::test(start_paused = true)]
async fn a_federated_credential_that_stays_unknown_is_one_fault_of_our_app() {
    let mut world = world();
    let tenants = tenants(&world, 20);
    world.run();
    world.sign_in.always(None, Some(Quirk::Refuse(unknown_credential())));
    poll(&world, &tenants, 9 * MINUTE).await;
    assert!(world.reported().into_iter().all(|report| report == Some(Verdict::Retry)), "it may be a new one");
    poll(&world, &tenants, 6 * MINUTE).await;
    assert_eq!(world.reported().into_iter().filter(|report| *report == GLOBAL).count(), count_since_alarm(&world));
    let fault = world.status.borrow_and_update().remark.clone().unwrap();
    assert!(fault.contains("federated credential"), "{fault}");
    let before = world.journal.asked().len();
    poll(&world, &tenants, 10 * MINUTE).await;
    let probes = world.journal.asked().len() - before;
    assert!((17..=23).contains(&probes), "one probe every half minute for all of them: {probes}");
    let none = world.ask(&tenants[7], Audience::Graph).await.unwrap_err();
    assert!(none.trouble.action.starts_with("you: compare issuer"), "{}", none.trouble.action);

    world.sign_in.always(None, None);
    poll(&world, &tenants, MINUTE).await;
    assert_eq!(world.status.borrow_and_update().remark, None);
    assert!(world.ask(&tenants[7], Audience::Graph).await.is_ok());
}

/// The alarm, and what each probe since then has renewed.
fn count_since_alarm(world: &World) -> usize {
    let asked = world.journal.asked();
    let begun = asked[0];
    asked.into_iter().filter(|at| *at - begun >= 10 * MINUTE).count()
}

#[tokio::test(start_paused = true)]
async fn a_federated_credential_that_is_accepted_for_others_is_not_at_fault() {
    let mut world = world();
    let tenants = tenants(&world, 3);
    world.sign_in.always(Some(id(1)), Some(Quirk::Refuse(unknown_credential())));
    for _ in 0..10 {
        poll(&world, &tenants[..1], 6 * MINUTE).await;
        // Somebody's token falls due now and then.
        let token = world.ask(&tenants[1], Audience::Graph).await.unwrap();
        domain::ports::AccessTokens::refused(&world.source, id(2), Audience::Graph, &token).await;
    }
    assert!(!world.reported().contains(&GLOBAL));
}

#[tokio::test(start_paused = true)]
async fn an_app_that_microsoft_disabled_is_one_alarm_and_marks_nobody_who_did_not_meet_it_first() {
    let mut world = world();
    let tenants = tenants(&world, 10);
    world.run();
    world.sign_in.always(None, Some(Quirk::Refuse(disabled_app())));
    for tenant in &tenants {
        world.ask(tenant, Audience::Graph).await.unwrap_err();
    }
    assert_eq!(world.reported(), [CUSTOMER, CUSTOMER, GLOBAL], "two may be two customers, three are our app");
    assert_eq!(world.journal.asked().len(), 3, "and the others need not find out");
    let none = world.ask(&tenants[9], Audience::Graph).await.unwrap_err();
    assert_eq!(none.trouble.verdict, Verdict::Global);
    assert!(none.trouble.reason.contains("may be our own app"), "{}", none.trouble.reason);
    poll(&world, &tenants, 10 * MINUTE).await;
    assert!(world.reported().into_iter().all(|report| report == GLOBAL), "an alarm that is renewed, and no tenant's trouble");

    // It is enabled again. Those who were marked find out without being asked and before their slow probe.
    world.sign_in.always(None, None);
    let marked = [1, 2].map(|number| asked(&world, id(number)));
    poll(&world, &tenants[2..], 2 * MINUTE).await;
    assert_eq!([1, 2].map(|number| asked(&world, id(number)) > marked[number as usize - 1]), [true, true]);
    assert!(world.reported().into_iter().all(|report| report.is_none()));
    for tenant in &tenants {
        world.ask(tenant, Audience::Graph).await.unwrap();
    }
    assert_eq!(world.status.borrow_and_update().remark, None);
}

#[tokio::test(start_paused = true)]
async fn customers_who_removed_our_app_are_their_own_affair() {
    let mut world = world();
    let tenants = tenants(&world, 6);
    world.run();
    // Three of six, one after the other, and the others are served.
    for gone in 1..=3 {
        world.sign_in.always(Some(id(gone)), Some(Quirk::Refuse(disabled_app())));
        world.ask(&tenants[gone as usize - 1], Audience::Graph).await.unwrap_err();
        world.ask(&tenants[gone as usize + 2], Audience::Graph).await.unwrap();
    }
    poll(&world, &tenants, 30 * HOUR).await;
    assert!(!world.reported().contains(&GLOBAL));
    assert_eq!(world.status.borrow_and_update().remark, None);
}

#[tokio::test(start_paused = true)]
async fn an_app_with_two_tenants_never_blames_itself() {
    let mut world = world();
    let tenants = tenants(&world, 2);
    world.sign_in.always(None, Some(Quirk::Refuse(disabled_app())));
    poll(&world, &tenants, 3 * HOUR).await;
    let reported = world.reported();
    assert!(reported.len() >= 4 && reported.into_iter().all(|report| report == CUSTOMER));
}

#[tokio::test(start_paused = true)]
async fn three_who_are_really_gone_raise_one_false_alarm_at_most() {
    let mut world = world();
    let tenants = tenants(&world, 4);
    world.run();
    for gone in 1..=3 {
        world.sign_in.always(Some(id(gone)), Some(Quirk::Refuse(disabled_app())));
    }
    poll(&world, &tenants[..3], MINUTE).await;
    assert!(world.reported().contains(&GLOBAL), "nobody has contradicted them");
    poll(&world, &tenants, 5 * MINUTE).await;
    assert_eq!(world.status.borrow_and_update().remark, None, "the fourth has");
    world.reported();
    poll(&world, &tenants, 30 * HOUR).await;
    assert!(!world.reported().contains(&GLOBAL));
}
