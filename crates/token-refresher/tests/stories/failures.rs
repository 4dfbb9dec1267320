//! What follows from a refusal: who waits, who is told, and when it is tried again.

use std::time::Duration;

use domain::ports::AccessTokens;
use domain::{AppName, Audience, Epoch, HeldTenant, Source, Verdict};
use token_refresher::Config;
use tokio::time::{Instant, sleep};

use crate::sign_in::{Quirk, Rotation, dead, expired_secret, passing, refused};
use crate::world::{HOUR, MINUTE, SECOND, World, bearer, id, world};

const PASSING: Option<Verdict> = Some(Verdict::Retry);
const CONSENT: Option<Verdict> = Some(Verdict::NeedsConsent);
const GLOBAL: Option<Verdict> = Some(Verdict::Global);

#[tokio::test(start_paused = true)]
async fn a_dead_token_is_believed_when_it_is_said_twice() {
    let mut world = world();
    let tenant = world.tenant(1);
    world.sign_in.revoke(tenant.id);
    let first = world.ask(&tenant, Audience::Graph).await.unwrap_err();
    assert_eq!(first.trouble.verdict, Verdict::Retry);
    assert_eq!(world.reported(), [], "nobody is alarmed by one answer");
    let waits = first.retry_at.since(world.clock.now());
    assert!(waits >= 10 * SECOND && waits <= 12 * SECOND, "{waits:?}");
    assert_eq!(world.ask(&tenant, Audience::Graph).await.unwrap_err().trouble.verdict, Verdict::Retry);
    assert_eq!(world.journal.asked().len(), 1, "nor is it asked again at once");

    world.wait(&first).await;
    let second = world.ask(&tenant, Audience::Graph).await.unwrap_err();
    assert_eq!(second.trouble, dead().trouble);
    assert_eq!(world.reported(), [CONSENT]);
    assert_eq!(world.vault.row(tenant.id).token, "imported-1", "a stored token is never deleted");
}

#[tokio::test(start_paused = true)]
async fn a_dead_token_said_once_by_mistake_is_forgotten() {
    let mut world = world();
    let tenant = world.tenant(1);
    for _ in 0..5 {
        world.sign_in.once(Quirk::Refuse(dead()));
        let token = world.ask_until_given(&tenant).await;
        AccessTokens::refused(&world.source, tenant.id, Audience::Graph, &token).await;
    }
    assert_eq!(world.reported(), [None; 5]);
}

#[tokio::test(start_paused = true)]
async fn the_worker_confirms_a_death_even_when_nobody_asks_again() {
    let mut world = world();
    let tenant = world.tenant(1);
    world.run();
    world.sign_in.revoke(tenant.id);
    world.ask(&tenant, Audience::Graph).await.unwrap_err();
    sleep(MINUTE).await;
    assert_eq!(world.reported(), [CONSENT]);
}

#[tokio::test(start_paused = true)]
async fn trouble_on_the_way_to_the_second_answer_does_not_forget_the_first() {
    let mut world = world();
    let tenant = world.tenant(1);
    world.sign_in.revoke(tenant.id);
    let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
    world.sign_in.once(Quirk::Refuse(passing()));
    world.wait(&none).await;
    let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
    assert_eq!(none.trouble, passing().trouble);
    world.wait(&none).await;
    assert_eq!(world.ask(&tenant, Audience::Graph).await.unwrap_err().trouble, dead().trouble);
    assert_eq!(world.reported(), [PASSING, CONSENT]);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_never_worked_gives_way_to_the_one_before_it_i30() {
    for (rotation, stored) in [(Rotation::Lenient, "refresh-1"), (Rotation::Strict, "refresh-1"), (Rotation::None, "imported-1")] {
        let mut world = World::new(rotation, HOUR, Config::default());
        let tenant = world.tenant(1);
        world.vault.import(tenant.id, "never worked");
        world.vault.set_previous(tenant.id, "imported-1");
        world.ask_until_given(&tenant).await;
        assert_eq!(world.journal.presented(), ["never worked", "never worked", "imported-1"], "after the second answer, not before");
        assert_eq!(world.vault.row(tenant.id).token, stored, "{rotation:?}");
        assert_eq!(world.reported(), [None]);
    }
}

#[tokio::test(start_paused = true)]
async fn loop_detection_is_throttling_and_no_dead_token() {
    let mut world = world();
    let tenant = world.tenant(1);
    let loop_detected = refused(Verdict::RetryAfter(10 * MINUTE), "AADSTS50196", false);
    world.sign_in.once(Quirk::Refuse(loop_detected.clone()));
    let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
    assert!(none.retry_at.since(world.clock.now()) >= 10 * MINUTE);
    assert_eq!(world.reported(), [Some(loop_detected.trouble.verdict)]);
    sleep(9 * MINUTE).await;
    world.ask(&tenant, Audience::Graph).await.unwrap_err();
    world.ask(&tenant, Audience::Defender).await.unwrap_err();
    assert_eq!(world.journal.asked().len(), 1, "it stays quiet for as long as it was told");
    sleep(2 * MINUTE).await;
    world.ask(&tenant, Audience::Graph).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn passing_trouble_is_retried_ever_more_slowly_but_never_given_up() {
    let world = world();
    let tenant = world.tenant(1);
    world.sign_in.always(None, Some(Quirk::Refuse(passing())));
    let mut waits = Vec::new();
    for _ in 0..40 {
        let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
        waits.push(none.retry_at.since(world.clock.now()));
        world.wait(&none).await;
    }
    assert!(waits[0] <= 2 * SECOND, "{waits:?}");
    assert!(waits[30..].iter().all(|wait| *wait >= MINUTE && *wait <= 5 * MINUTE), "{waits:?}");
    assert_eq!(world.journal.asked().len(), 40);
    world.sign_in.always(None, None);
    world.ask(&tenant, Audience::Graph).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_need_is_probed_hourly_at_first_daily_in_the_end_and_never_covered_by_passing_trouble() {
    let mut world = world();
    let tenant = world.tenant(1);
    let blocked = refused(Verdict::NeedsCustomer, "AADSTS53003", false);
    world.sign_in.always(Some(tenant.id), Some(Quirk::Refuse(blocked.clone())));
    let mut waits = Vec::new();
    for _ in 0..8 {
        let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
        assert_eq!(none.trouble, blocked.trouble);
        waits.push(none.retry_at.since(world.clock.now()));
        let before = Instant::now();
        world.ask(&tenant, Audience::Graph).await.unwrap_err();
        assert_eq!(Instant::now(), before, "answered from memory");
        world.wait(&none).await;
    }
    let hours: Vec<_> = waits.iter().map(|wait| (wait.as_secs_f64() / 3600.0 * 10.0).round() / 10.0).collect();
    for (hours, about) in hours.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 24.0, 24.0, 24.0]) {
        assert!((hours - about).abs() <= about * 0.11, "{waits:?}");
    }
    assert_eq!(world.journal.asked().len(), 8);
    world.reported();

    world.sign_in.once(Quirk::Refuse(passing()));
    let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
    assert!(none.retry_at.since(world.clock.now()) < MINUTE, "the probe did not get through and is repeated soon");
    assert_eq!(world.ask(&tenant, Audience::Graph).await.unwrap_err().trouble, blocked.trouble, "what stands is still the need");
    assert_eq!(world.reported(), [], "an outage says nothing about a need");

    world.sign_in.always(Some(tenant.id), None);
    world.ask_until_given(&tenant).await;
    assert_eq!(world.reported(), [None]);
}

#[tokio::test(start_paused = true)]
async fn a_new_credential_or_a_new_lease_is_tried_at_once() {
    let mut world = world();
    let tenant = world.tenant(1);
    world.sign_in.revoke(tenant.id);
    let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
    world.wait(&none).await;
    world.ask(&tenant, Audience::Graph).await.unwrap_err();
    assert_eq!(world.reported(), [CONSENT]);

    world.vault.claim(tenant.id, Epoch(2));
    let tenant = world.hold(HeldTenant { epoch: Epoch(2), ..(*tenant).clone() });
    world.ask(&tenant, Audience::Graph).await.unwrap_err();
    assert_eq!(world.journal.asked().len(), 3, "another replica may have brought it back to life");

    world.sign_in.accept(tenant.id, "imported anew");
    world.vault.import(tenant.id, "imported anew");
    let tenant = world.hold(HeldTenant { credential_version: 2, ..(*tenant).clone() });
    let before = Instant::now();
    world.ask(&tenant, Audience::Graph).await.unwrap();
    assert!(before.elapsed() < SECOND);
    assert_eq!(world.reported(), [None]);
}

#[tokio::test(start_paused = true)]
async fn a_new_credential_replaces_cached_tokens_that_lack_its_permissions() {
    let world = world();
    let tenant = world.tenant(1);
    let before = world.ask(&tenant, Audience::Graph).await.unwrap();
    world.sign_in.accept(tenant.id, "with more permissions");
    world.vault.import(tenant.id, "with more permissions");
    let tenant = world.hold(HeldTenant { credential_version: 2, ..(*tenant).clone() });
    let after = world.ask(&tenant, Audience::Graph).await.unwrap();
    assert_ne!(bearer(&before), bearer(&after));
    assert_eq!(world.journal.presented().last().map(String::as_str), Some("with more permissions"));
}

#[tokio::test(start_paused = true)]
async fn a_missing_licence_for_one_api_leaves_the_other_alone() {
    let mut world = world();
    let tenant = world.tenant(1);
    world.sign_in.once(Quirk::Refuse(refused(Verdict::NeedsConsent, "AADSTS650052", false)));
    world.ask(&tenant, Audience::Defender).await.unwrap_err();
    assert_eq!(world.reported(), [CONSENT]);
    world.ask(&tenant, Audience::Graph).await.unwrap();
    assert_eq!(world.reported(), [], "the sign-in as a whole is not well yet");
    world.ask(&tenant, Audience::Defender).await.unwrap_err();
    sleep(2 * HOUR).await;
    world.ask(&tenant, Audience::Defender).await.unwrap();
    assert_eq!(world.reported(), [None]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_read_no_longer_takes_its_trouble_along() {
    let mut world = world();
    let tenant = world.tenant(1);
    world.sign_in.once(Quirk::Refuse(refused(Verdict::NeedsConsent, "AADSTS650052", false)));
    world.ask(&tenant, Audience::Defender).await.unwrap_err();
    let tenant = world.hold(HeldTenant { sources: vec![Source::GraphAlerts], ..(*tenant).clone() });
    world.ask(&tenant, Audience::Graph).await.unwrap();
    assert_eq!(world.reported(), [CONSENT, None]);
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_our_app_is_one_alarm_one_slow_probe_and_no_tenants_trouble() {
    let mut world = world();
    let tenants: Vec<_> = (1..=50).map(|number| world.tenant(number)).collect();
    world.run();
    world.sign_in.always(None, Some(Quirk::Refuse(expired_secret())));
    world.ask(&tenants[0], Audience::Graph).await.unwrap_err();
    assert_eq!(world.reported(), [GLOBAL]);
    let start = Instant::now();
    while start.elapsed() < 10 * MINUTE {
        for tenant in &tenants {
            let none = world.ask(tenant, Audience::Graph).await.unwrap_err();
            assert_eq!(none.trouble.verdict, Verdict::Global);
        }
        sleep(SECOND).await;
    }
    let asked = world.journal.asked();
    assert!((18..=23).contains(&asked.len()), "fifty tenants, ten minutes, {} calls", asked.len());
    let reported = world.reported();
    assert!(reported.iter().all(|verdict| *verdict == GLOBAL) && reported.len() == asked.len() - 1, "{reported:?}");
    let fault = world.status.borrow_and_update().remark.clone().unwrap();
    assert_eq!(fault, "app main in cloud global: refused with AADSTS7000222");

    world.sign_in.always(None, None);
    sleep(40 * SECOND).await;
    for tenant in &tenants {
        world.ask(tenant, Audience::Graph).await.unwrap();
    }
    sleep(2 * SECOND).await;
    assert_eq!(world.status.borrow_and_update().remark, None);
}

#[tokio::test(start_paused = true)]
async fn those_who_queue_when_our_app_turns_out_to_be_at_fault_are_sent_home_unasked() {
    let mut world = world();
    let tenants: Vec<_> = (1..=500).map(|number| world.tenant(number)).collect();
    world.sign_in.always(None, Some(Quirk::Refuse(expired_secret())));
    let mut asking = tokio::task::JoinSet::new();
    for tenant in tenants {
        let source = world.source.clone();
        asking.spawn(async move { AccessTokens::access_token(&source, &tenant, Audience::Graph).await.unwrap_err().trouble.verdict });
    }
    assert!(asking.join_all().await.into_iter().all(|verdict| verdict == Verdict::Global));
    let asked = world.journal.asked().len();
    assert!((2..=4).contains(&asked), "some were in flight together: {asked}");
    assert_eq!(world.reported(), [GLOBAL], "which is still one alarm");
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_only_one_tenant_meets_does_not_stop_the_others() {
    let mut world = world();
    let (odd, even) = (world.tenant(1), world.tenant(2));
    let wrong_cloud = refused(Verdict::Global, "AADSTS900432", false);
    world.sign_in.always(Some(odd.id), Some(Quirk::Refuse(wrong_cloud.clone())));
    world.ask(&odd, Audience::Graph).await.unwrap_err();
    assert_eq!(world.reported(), [GLOBAL]);
    let even_token = world.ask_until_given(&even).await;
    assert_eq!(world.reported(), [None], "somebody else got through: the alarm is over");

    let none = world.ask(&odd, Audience::Graph).await.unwrap_err();
    assert_eq!(none.trouble.verdict, Verdict::OurBug);
    assert_eq!(world.reported(), [Some(Verdict::OurBug)]);
    assert!(none.retry_at.since(world.clock.now()) >= 9 * MINUTE);
    AccessTokens::refused(&world.source, even.id, Audience::Graph, &even_token).await;
    world.ask(&even, Audience::Graph).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_secret_file_that_cannot_be_read_is_a_fault_of_the_app_that_names_the_file() {
    let mut world = world();
    let tenant = world.tenant(1);
    let tenant = world.hold(HeldTenant { app: AppName::new("lost"), ..(*tenant).clone() });
    let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
    assert!(none.trouble.reason.contains("/etc/tocsin/apps/lost.secret"), "{}", none.trouble.reason);
    assert_eq!(world.reported(), [GLOBAL]);
    assert!(world.journal.asked().is_empty());
    let tenant = world.hold(HeldTenant { app: AppName::new("unheard-of"), ..(*tenant).clone() });
    let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
    assert!(none.trouble.reason.contains("no app called unheard-of"), "{}", none.trouble.reason);
}

#[tokio::test(start_paused = true)]
async fn fault_62_a_machine_short_of_open_files_is_no_fault_of_the_app() {
    let mut world = world();
    let tenant = world.tenant(1);
    let tenant = world.hold(HeldTenant { app: AppName::new("crowded"), ..(*tenant).clone() });
    let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
    assert!(none.trouble.reason.contains("too many open files"), "{}", none.trouble.reason);
    assert!(none.trouble.action.starts_with("nothing, unless it lasts"), "{}", none.trouble.action);
    assert_eq!(world.reported(), [Some(Verdict::Retry)]);
    assert!(world.journal.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_stored_token_or_a_key_the_tenant_says_so_and_nobody_is_asked() {
    let mut world = world();
    let tenant = world.tenant(1);
    let tenant = world.hold(HeldTenant { id: id(77), ..(*tenant).clone() });
    let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
    assert!(none.trouble.reason.contains("no refresh token is stored"), "{}", none.trouble.reason);
    let tenant = world.tenant(2);
    world.vault.make_unreadable();
    let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
    assert_eq!(none.trouble.reason, "the sealed token does not open");
    assert_eq!(world.reported(), [CONSENT, Some(Verdict::OurBug)]);
    assert!(world.journal.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_live_token_is_given_out_whatever_stands_in_the_way_of_the_next_one() {
    let mut world = world();
    let tenant = world.tenant(1);
    world.run();
    let token = world.ask(&tenant, Audience::Graph).await.unwrap();
    world.sign_in.revoke(tenant.id);
    sleep(50 * MINUTE).await;
    assert_eq!(world.reported(), [None, CONSENT], "the worker has found out ahead of expiry");
    assert_eq!(bearer(&world.ask(&tenant, Audience::Graph).await.unwrap()), bearer(&token));
    sleep(10 * MINUTE).await;
    world.ask(&tenant, Audience::Graph).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_is_not_held_gets_nothing_and_nobody_is_asked() {
    let world = world();
    let tenant = world.tenant(1);
    world.ask(&tenant, Audience::Graph).await.unwrap();
    world.lose(tenant.id);
    let none = world.ask(&tenant, Audience::Graph).await.unwrap_err();
    assert!(none.retry_at.since(world.clock.now()) <= Duration::from_secs(1));
    assert_eq!(world.journal.asked().len(), 1);
}
