//! How tokens are got when all goes well: in order, one at a time, not too fast, ahead of expiry.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::ports::AccessTokens;
use domain::{AppName, Audience, HeldTenant, Verdict};
use token_refresher::Config;
use tokio::time::{Instant, sleep};

use crate::sign_in::{Quirk, Rotation};
use crate::vault::Row;
use crate::world::{DAY, Event, HOUR, MINUTE, SECOND, World, bearer, id, world};

#[tokio::test(start_paused = true)]
async fn the_rotated_token_is_committed_before_the_access_token_is_given_out_i30() {
    let mut world = world();
    let tenant = world.tenant(1);
    world.ask(&tenant, Audience::Graph).await.unwrap();
    let events: Vec<_> = world.journal.all().into_iter().map(|(_, event)| event).collect();
    let (tenant, audience) = (id(1), Audience::Graph);
    assert_eq!(
        events,
        [
            Event::Asked { tenant, audience, token: Some("imported-1".to_owned()) },
            Event::Committed { tenant, token: "refresh-1".to_owned() },
            Event::GivenOut { tenant },
        ]
    );
    let row = world.vault.row(tenant);
    let previous = Some("imported-1".to_owned());
    assert_eq!(row, Row { version: 2, token: "refresh-1".to_owned(), previous, last_refresh_at: row.last_refresh_at });
    assert!(row.last_refresh_at.is_some());
    assert_eq!(world.reported(), [None]);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_cached_per_audience_until_it_nearly_ends() {
    let world = world();
    let tenant = world.tenant(1);
    let graph = world.ask(&tenant, Audience::Graph).await.unwrap();
    let defender = world.ask(&tenant, Audience::Defender).await.unwrap();
    assert_ne!(bearer(&graph), bearer(&defender));
    sleep(58 * MINUTE).await;
    assert_eq!(bearer(&world.ask(&tenant, Audience::Graph).await.unwrap()), bearer(&graph));
    sleep(90 * SECOND).await;
    assert_ne!(bearer(&world.ask(&tenant, Audience::Graph).await.unwrap()), bearer(&graph), "half a minute is too little to start with");
}

#[tokio::test(start_paused = true)]
async fn two_audiences_at_once_are_one_redemption_after_the_other_with_the_token_that_came_back() {
    for rotation in [Rotation::Lenient, Rotation::Strict] {
        let world = World::new(rotation, HOUR, Config::default());
        let tenant = world.tenant(1);
        // The pretend service fails the test when two are in flight for one tenant.
        let (graph, defender, again) =
            tokio::join!(world.ask(&tenant, Audience::Graph), world.ask(&tenant, Audience::Defender), world.ask(&tenant, Audience::Graph));
        assert_eq!(bearer(&graph.unwrap()), bearer(&again.unwrap()), "the second who asks for Graph gets what the first one fetched");
        defender.unwrap();
        assert_eq!(world.journal.presented(), ["imported-1", "refresh-1"], "{rotation:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_rotated_the_token_stays_and_its_predecessor_goes() {
    let world = World::new(Rotation::None, HOUR, Config::default());
    let tenant = world.tenant(1);
    world.vault.set_previous(id(1), "older");
    world.ask(&tenant, Audience::Graph).await.unwrap();
    let row = world.vault.row(id(1));
    assert_eq!((row.version, row.token.as_str(), row.previous), (1, "imported-1", None));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_tenants_start_within_the_rate_of_the_login_host_i12() {
    let world = World::new(Rotation::Strict, HOUR, Config::default());
    let tenants: Vec<_> = (1..=1000).map(|number| world.tenant(number)).collect();
    let start = Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    for tenant in tenants {
        let source = world.source.clone();
        asking.spawn(async move { source.access_token(&tenant, Audience::Graph).await.map(|_| ()) });
    }
    for answer in asking.join_all().await {
        answer.unwrap();
    }
    assert!(start.elapsed() < 55 * SECOND, "{:?}", start.elapsed());
    let asked = world.journal.asked();
    assert_eq!(asked.len(), 1000);
    for (index, first) in asked.iter().enumerate() {
        let within = asked[index..].iter().take_while(|at| **at < *first + SECOND).count();
        assert!(within <= 20, "{within} in one second");
    }
}

#[tokio::test(start_paused = true)]
async fn the_worker_refreshes_ahead_of_expiry_what_is_asked_for_and_lets_the_rest_go() {
    let mut world = World::new(Rotation::Strict, HOUR, Config::default());
    let asked_often = world.tenant(1);
    let asked_once = world.tenant(2);
    world.run();
    let start = Instant::now();
    world.ask(&asked_once, Audience::Graph).await.unwrap();
    let mut last = bearer(&world.ask(&asked_often, Audience::Graph).await.unwrap()).to_owned();
    let mut changes = vec![Instant::now()];
    while start.elapsed() < 10 * HOUR {
        sleep(20 * SECOND).await;
        let before = Instant::now();
        let token = world.ask(&asked_often, Audience::Graph).await.unwrap();
        assert_eq!(Instant::now(), before, "whoever asks never waits");
        assert!(token.expires_at > world.clock.now().plus(10 * MINUTE), "and gets a token with some life in it");
        if bearer(&token) != last {
            last = bearer(&token).to_owned();
            changes.push(Instant::now());
        }
    }
    for pair in changes.windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap >= 29 * MINUTE && gap <= 47 * MINUTE, "{gap:?}");
    }
    assert!(changes.len() >= 13, "{changes:?}");
    let spread: BTreeSet<_> = changes.windows(2).map(|pair| (pair[1] - pair[0]).as_secs() / 60).collect();
    assert!(spread.len() > 3, "jitter spreads the refreshes: {spread:?}");
    let idle = world.journal.all().into_iter().filter(|(_, event)| matches!(event, Event::Asked { tenant, .. } if *tenant == id(2)));
    let idle: Vec<_> = idle.map(|(at, _)| at).collect();
    assert!(idle.len() >= 2 && idle.len() <= 5, "kept for two lives, then let go: {}", idle.len());
    assert!(*idle.last().unwrap() - start <= 3 * HOUR);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_dropped_once_and_a_newer_one_stays() {
    let world = world();
    let tenant = world.tenant(1);
    let first = world.ask(&tenant, Audience::Graph).await.unwrap();
    world.source.refused(tenant.id, Audience::Graph, &first).await;
    let second = world.ask(&tenant, Audience::Graph).await.unwrap();
    assert_ne!(bearer(&first), bearer(&second));
    // A slower reader comes back with the same complaint about the first one.
    world.source.refused(tenant.id, Audience::Graph, &first).await;
    world.source.refused(tenant.id, Audience::Defender, &second).await;
    assert_eq!(bearer(&world.ask(&tenant, Audience::Graph).await.unwrap()), bearer(&second));
    assert_eq!(world.journal.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_signs_in_as_itself_needs_no_stored_token() {
    let mut world = World::new(Rotation::Strict, HOUR, Config { beat: HOUR, ..Config::default() });
    let tenant = world.tenant(1);
    let tenant = world.hold(HeldTenant { app: AppName::new("itself"), ..(*tenant).clone() });
    world.run();
    world.ask(&tenant, Audience::Graph).await.unwrap();
    assert_eq!(world.reported(), [None]);
    sleep(30 * DAY).await;
    assert!(world.journal.presented().is_empty());
    assert!(world.journal.asked().len() <= 5, "there is no refresh token that would have to be kept alive");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_does_not_take_a_rotated_token_along() {
    let world = World::new(Rotation::Strict, HOUR, Config::default());
    let tenant = world.tenant(1);
    world.sign_in.once(Quirk::Slow(5 * SECOND));
    let answer = tokio::time::timeout(SECOND, world.ask(&tenant, Audience::Graph)).await;
    assert!(answer.is_err(), "the caller lost patience");
    sleep(10 * SECOND).await;
    assert_eq!(world.vault.row(id(1)).token, "refresh-1", "what came back is stored all the same");
    world.ask(&tenant, Audience::Graph).await.unwrap();
    assert_eq!(world.journal.asked().len(), 1, "and what was fetched is there for the next one");
}

#[tokio::test(start_paused = true)]
async fn a_slow_tenant_delays_nobody_else() {
    let world = world();
    let (slow, quick) = (world.tenant(1), world.tenant(2));
    world.sign_in.always(Some(slow.id), Some(Quirk::Slow(Duration::from_secs(30))));
    let start = Instant::now();
    let quickly = async {
        world.ask(&quick, Audience::Graph).await.unwrap();
        start.elapsed()
    };
    let (_, took) = tokio::join!(world.ask(&slow, Audience::Graph), quickly);
    assert!(took < SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn every_redemption_is_counted_by_its_outcome() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _here = metrics_local(&recorder);
    let world = world();
    let tenant = world.tenant(1);
    world.sign_in.once(Quirk::Refuse(crate::sign_in::passing()));
    world.sign_in.once(Quirk::Refuse(crate::sign_in::refused(Verdict::RetryAfter(MINUTE), "http-429", false)));
    world.ask_until_given(&tenant).await;
    let text = handle.render();
    for outcome in ["ok", "retry", "throttled"] {
        assert!(text.contains(&format!("tocsin_token_refresh_total{{outcome=\"{outcome}\"}} 1")), "{text}");
    }
}

fn metrics_local(recorder: &metrics_exporter_prometheus::PrometheusRecorder) -> metrics::LocalRecorderGuard<'_> {
    metrics::set_default_local_recorder(recorder)
}

#[tokio::test(start_paused = true)]
async fn five_thousand_tokens_that_end_in_one_second_are_fresh_within_five_minutes_i12() {
    let mut world = World::new(Rotation::Strict, 24 * HOUR, Config::default());
    let tenants: Vec<_> = (1..=5000).map(|number| world.tenant(number)).collect();
    world.run();
    let poll = |tenant: std::sync::Arc<HeldTenant>| {
        let (source, clock) = (world.source.clone(), std::sync::Arc::clone(&world.clock));
        async move {
            loop {
                // As a poller does: every half minute, and after trouble not before it is told to.
                match source.access_token(&tenant, Audience::Graph).await {
                    Ok(token) => break token.expires_at,
                    Err(none) => sleep(none.retry_at.since(clock.now()).max(SECOND)).await,
                }
            }
        }
    };
    let all = async |what: &str| {
        let start = Instant::now();
        let mut polls = tokio::task::JoinSet::new();
        tenants.iter().for_each(|tenant| drop(polls.spawn(poll(std::sync::Arc::clone(tenant)))));
        let ends = polls.join_all().await;
        assert!(start.elapsed() <= 5 * MINUTE, "{what}: {:?}", start.elapsed());
        let now = world.clock.now();
        assert!(ends.into_iter().all(|end| end > now.plus(HOUR)), "{what}: each has a live one");
    };
    all("the start").await;
    // The machine slept for two days: all of them have ended in the same moment.
    world.clock.forward(2 * DAY);
    world.trust_until(Instant::now() + HOUR);
    all("after the sleep").await;
    let asked = world.journal.asked();
    assert_eq!(asked.len(), 10_000, "one each, and none for nothing");
    let mut first = 0;
    for (index, at) in asked.iter().enumerate() {
        while *at >= asked[first] + SECOND {
            first += 1;
        }
        assert!(index - first < 20, "{} in one second", index - first + 1);
    }
    assert!(world.reported().into_iter().all(|report| report.is_none()));
}
