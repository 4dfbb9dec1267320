//! Reports of the other rooms, and what an operator sees of them.

use std::time::Duration;

use domain::{Fence, Report, ReportOrigin, Source, TenantState, Trouble, Verdict};
use sqlx::PgPool;

use crate::world::{Captured, Running, eventually, id, world};

const SIGN_IN: ReportOrigin = ReportOrigin::SignIn;
const GRAPH: ReportOrigin = ReportOrigin::Read(Source::GraphAlerts);

fn trouble(verdict: Verdict) -> Trouble {
    Trouble {
        verdict,
        reason: format!("reason {}", verdict.as_str()),
        action: "do something".to_owned(),
        code: Some("AADSTS1".to_owned()),
        trace: None,
    }
}

async fn report(worker: &Running, fence: Fence, origin: ReportOrigin, verdict: Verdict) {
    worker.reports.send(Report::Trouble { fence, origin, trouble: trouble(verdict) }).await.unwrap();
}

async fn works(worker: &Running, fence: Fence, origin: ReportOrigin) {
    worker.reports.send(Report::Working { fence, origin }).await.unwrap();
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_need_is_shown_at_once_with_reason_and_action_and_ends_when_it_works(pool: PgPool) {
    let world = world(pool).await.with_tenants(2).await;
    let mut worker = world.worker();
    let fence = worker.tenant(id(1)).await.fence();
    for (verdict, state, word) in [
        (Verdict::NeedsConsent, TenantState::NeedsConsent, "needs-consent"),
        (Verdict::NeedsCustomer, TenantState::NeedsCustomer, "needs-customer"),
    ] {
        report(&worker, fence, SIGN_IN, verdict).await;
        worker.until(word, |set| set.tenants[&id(1)].state == state).await;
        let expected = (word.to_owned(), Some(format!("reason {word}")), Some("do something".to_owned()), Some("AADSTS1".to_owned()));
        assert_eq!(world.health(id(1)).await, expected);
    }
    assert_eq!(world.state(id(2)).await, "active");
    works(&worker, fence, SIGN_IN).await;
    worker.until("recovery", |set| set.tenants[&id(1)].state == TenantState::Active).await;
    assert_eq!(world.health(id(1)).await, ("active".to_owned(), None, None, None));
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn passing_trouble_leaves_the_state_and_shows_once_it_has_lasted(pool: PgPool) {
    let world = world(pool).await.with_tenants(3).await;
    let mut worker = world.worker();
    worker.holding(3).await;
    let verdicts = [Verdict::Retry, Verdict::RetryAfter(Duration::from_secs(5)), Verdict::OurBug];
    for (number, verdict) in (1..).zip(verdicts) {
        let fence = worker.tenant(id(number)).await.fence();
        report(&worker, fence, GRAPH, verdict).await;
        eventually("the row", || world.count("select count(*) from tocsin.trouble"), |count| *count == i64::try_from(number).unwrap())
            .await;
        let shown_after: f64 =
            sqlx::query_scalar("select extract(epoch from shown_from - since)::float8 from tocsin.trouble where tenant = $1")
                .bind(id(number).0)
                .fetch_one(&world.pool)
                .await
                .unwrap();
        assert!((shown_after - 90.0).abs() < 0.1, "3 intervals of 30 s: {shown_after}");
        assert_eq!(world.health(id(number)).await, ("active".to_owned(), None, None, None));
    }
    // It goes on: `since` and `shown_from` stay, the words are new.
    sqlx::query(
        "update tocsin.trouble set since = since - interval '2 minutes', shown_from = shown_from - interval '2 minutes', reason = 'old'",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    let fence = worker.tenant(id(1)).await.fence();
    report(&worker, fence, GRAPH, Verdict::Retry).await;
    let health = eventually("new words", || world.health(id(1)), |health| health.1.as_deref() == Some("reason retry")).await;
    assert_eq!(health.0, "active", "shown, but no state of its own");
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_probe_that_fails_in_passing_does_not_hide_a_need(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let mut worker = world.worker();
    let fence = worker.tenant(id(1)).await.fence();
    // From passing trouble to a need: the need begins now, and is shown now.
    report(&worker, fence, SIGN_IN, Verdict::Retry).await;
    eventually("the row", || world.count("select count(*) from tocsin.trouble"), |count| *count == 1).await;
    sqlx::query("update tocsin.trouble set since = since - interval '1 day'").execute(&world.pool).await.unwrap();
    report(&worker, fence, SIGN_IN, Verdict::NeedsConsent).await;
    worker.until("the need", |set| set.tenants[&id(1)].state == TenantState::NeedsConsent).await;
    assert_eq!(world.count("select count(*) from tocsin.trouble where since > now() - interval '1 hour' and shown_from <= now()").await, 1);
    // And not back.
    report(&worker, fence, SIGN_IN, Verdict::Retry).await;
    report(&worker, fence, GRAPH, Verdict::Retry).await;
    eventually("both rows", || world.count("select count(*) from tocsin.trouble"), |count| *count == 2).await;
    assert_eq!(world.state(id(1)).await, "needs-consent");
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn trouble_is_ended_by_its_own_activity_only(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let mut worker = world.worker();
    let fence = worker.tenant(id(1)).await.fence();
    report(&worker, fence, GRAPH, Verdict::NeedsCustomer).await;
    worker.until("the need", |set| set.tenants[&id(1)].state == TenantState::NeedsCustomer).await;
    works(&worker, fence, SIGN_IN).await;
    works(&worker, fence, ReportOrigin::Read(Source::MdeAlerts)).await;
    report(&worker, fence, SIGN_IN, Verdict::Retry).await;
    eventually("the later report", || world.count("select count(*) from tocsin.trouble"), |count| *count == 2).await;
    works(&worker, fence, SIGN_IN).await;
    eventually("its end", || world.count("select count(*) from tocsin.trouble"), |count| *count < 2).await;
    assert_eq!(world.state(id(1)).await, "needs-customer");
    works(&worker, fence, GRAPH).await;
    worker.until("recovery", |set| set.tenants[&id(1)].state == TenantState::Active).await;
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_fault_of_our_own_app_is_one_alarm_and_marks_no_tenant(pool: PgPool) {
    let world = world(pool).await.with_tenants(3).await;
    let mut worker = world.worker();
    let set = worker.holding(3).await;
    for tenant in set.tenants.values() {
        report(&worker, tenant.fence(), SIGN_IN, Verdict::Global).await;
    }
    eventually("the fault", || world.count("select count(*) from tocsin.app_fault"), |count| *count == 1).await;
    eventually("its words", || world.health(id(3)), |health| health.1.as_deref() == Some("reason global")).await;
    assert_eq!(world.count("select count(*) from tocsin.trouble").await, 0);
    for number in 1..=3 {
        let (state, reason, action, code) = world.health(id(number)).await;
        assert_eq!((state.as_str(), reason.as_deref(), code.as_deref()), ("active", Some("reason global"), Some("AADSTS1")));
        assert!(action.is_some());
    }
    works(&worker, set.tenants[&id(2)].fence(), GRAPH).await;
    works(&worker, set.tenants[&id(2)].fence(), SIGN_IN).await;
    eventually("the end", || world.count("select count(*) from tocsin.app_fault"), |count| *count == 0).await;
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn i7_a_report_under_an_old_epoch_is_not_written(pool: PgPool) {
    let world = world(pool).await.with_tenants(2).await;
    let mut worker = world.worker_with(tenant_registry::Config { full_read_every: Duration::from_secs(600), ..crate::world::quick() });
    let (one, two) = (worker.tenant(id(1)).await.fence(), worker.tenant(id(2)).await.fence());
    // The worker believes that it holds tenant 1; the database knows better. A reading worker would notice.
    sqlx::query("update tocsin.lease set epoch = epoch + 1 where tenant = $1").bind(id(1).0).execute(&world.pool).await.unwrap();
    report(&worker, one, SIGN_IN, Verdict::NeedsConsent).await;
    report(&worker, Fence { epoch: domain::Epoch(77), ..two }, SIGN_IN, Verdict::NeedsConsent).await;
    report(&worker, two, SIGN_IN, Verdict::NeedsCustomer).await;
    worker.until("the rightful report", |set| set.tenants[&id(2)].state == TenantState::NeedsCustomer).await;
    assert_eq!(world.state(id(1)).await, "active");
    assert_eq!(world.count("select count(*) from tocsin.trouble").await, 1);
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_another_replica_left_open_is_ended_by_its_successor(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let mut first = world.worker();
    let fence = first.tenant(id(1)).await.fence();
    report(&first, fence, SIGN_IN, Verdict::NeedsConsent).await;
    first.until("the need", |set| set.tenants[&id(1)].state == TenantState::NeedsConsent).await;
    first.stop().await;
    let mut second = world.worker();
    let held = second.tenant(id(1)).await;
    assert_eq!(held.state, TenantState::NeedsConsent);
    works(&second, held.fence(), SIGN_IN).await;
    second.until("recovery", |set| set.tenants[&id(1)].state == TenantState::Active).await;
    second.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_last_reports_are_written_before_the_end(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let mut worker = world.worker();
    let fence = worker.tenant(id(1)).await.fence();
    report(&worker, fence, SIGN_IN, Verdict::NeedsConsent).await;
    worker.stop().await;
    assert_eq!(world.state(id(1)).await, "needs-consent");
}

#[sqlx::test(migrations = "../../migrations")]
async fn resuming_clears_the_trouble_and_is_noticed_at_once(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let mut worker = world.worker();
    let held = worker.tenant(id(1)).await;
    report(&worker, held.fence(), SIGN_IN, Verdict::NeedsConsent).await;
    worker.until("the need", |set| set.tenants[&id(1)].state == TenantState::NeedsConsent).await;
    world.registry.resume(id(1)).await.unwrap();
    let set = worker.until("the resumption", |set| set.tenants[&id(1)].state == TenantState::Active).await;
    assert_eq!(set.tenants[&id(1)].credential_version, held.credential_version + 1);
    // The next trouble is a new one.
    report(&worker, held.fence(), SIGN_IN, Verdict::NeedsConsent).await;
    worker.until("the need again", |set| set.tenants[&id(1)].state == TenantState::NeedsConsent).await;
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_nul_in_an_error_message_does_not_stop_the_reports(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let mut worker = world.worker();
    let fence = worker.tenant(id(1)).await.fence();
    let trouble = Trouble { reason: "odd \0 text".to_owned(), ..trouble(Verdict::NeedsConsent) };
    worker.reports.send(Report::Trouble { fence, origin: SIGN_IN, trouble }).await.unwrap();
    worker.until("the need", |set| set.tenants[&id(1)].state == TenantState::NeedsConsent).await;
    assert_eq!(world.health(id(1)).await.1.as_deref(), Some("odd \u{fffd} text"));
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn every_state_is_counted_also_the_empty_ones(pool: PgPool) {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = world(pool).await.with_tenants(3).await;
    world.registry.pause(id(3)).await.unwrap();
    let mut worker = world.worker();
    let fence = worker.tenant(id(1)).await.fence();
    report(&worker, fence, SIGN_IN, Verdict::NeedsConsent).await;
    let expected = [
        ("awaiting-consent", 0),
        ("active", 1),
        ("needs-consent", 1),
        ("needs-customer", 0),
        ("paused", 1),
        ("offboarding", 0),
        ("removed", 0),
    ]
    .map(|(state, count)| format!("tocsin_tenants{{state=\"{state}\"}} {count}"));
    let ask = || std::future::ready(metrics.render());
    let text = eventually("the counts", ask, |text| expected.iter().all(|line| text.contains(line))).await;
    assert!(text.contains("tocsin_lease_held 3"), "{text}");
    worker.stop().await;
    assert!(metrics.render().contains("tocsin_lease_held 0"));
}

#[sqlx::test(migrations = "../../migrations")]
async fn each_change_is_logged_once_for_whoever_should_act(pool: PgPool) {
    let captured = Captured::default();
    let _guard = captured.listen(tracing::Level::INFO);
    let world = world(pool).await.with_tenants(2).await;
    let mut worker = world.worker();
    let set = worker.holding(2).await;
    let (one, two) = (set.tenants[&id(1)].fence(), set.tenants[&id(2)].fence());
    for _ in 0..3 {
        report(&worker, one, SIGN_IN, Verdict::NeedsConsent).await;
        report(&worker, one, GRAPH, Verdict::Retry).await;
        report(&worker, two, GRAPH, Verdict::OurBug).await;
        report(&worker, two, SIGN_IN, Verdict::Global).await;
        worker.until("the need", |set| set.tenants[&id(1)].state == TenantState::NeedsConsent).await;
        eventually("the fault", || world.count("select count(*) from tocsin.app_fault"), |count| *count == 1).await;
    }
    works(&worker, one, SIGN_IN).await;
    works(&worker, two, SIGN_IN).await;
    worker.until("recovery", |set| set.tenants[&id(1)].state == TenantState::Active).await;
    worker.stop().await;

    let log = captured.text();
    let lines = |words: &str| log.lines().filter(|line| line.contains(words)).map(str::to_owned).collect::<Vec<_>>();
    for (words, level) in [
        ("the tenant needs consent", "WARN"),
        ("works again", "INFO"),
        ("Microsoft refuses what we send", "ERROR"),
        ("our app registration is refused", "ERROR"),
        ("our app registration is accepted again", "INFO"),
    ] {
        let found = lines(words);
        assert_eq!(found.len(), 1, "{words}: {log}");
        assert!(found[0].contains(level), "{found:?}");
    }
    let need = &lines("the tenant needs consent")[0];
    assert!(
        need.contains(&format!("tenant.id={}", id(1))) && need.contains("error_code=\"AADSTS1\"") && need.contains("reason needs-consent"),
        "{need}"
    );
    assert!(lines("passing trouble").is_empty());
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_trouble_of_a_source_goes_with_the_source_and_does_not_come_back(pool: PgPool) {
    let world = world(pool).await;
    let line = |sources: &str| [format!("{},tenant,global,main,{sources},token", id(1))];
    assert_eq!(world.import(&line("graph-alerts;mde-alerts")).await.failures().count(), 0);
    let mut worker = world.worker();
    let fence = worker.tenant(id(1)).await.fence();
    let defender = ReportOrigin::Read(Source::MdeAlerts);
    report(&worker, fence, defender, Verdict::NeedsCustomer).await;
    report(&worker, fence, GRAPH, Verdict::Retry).await;
    report(&worker, fence, SIGN_IN, Verdict::Retry).await;
    worker.until("the need", |set| set.tenants[&id(1)].state == TenantState::NeedsCustomer).await;
    let rows = || world.count("select count(*) from tocsin.trouble");
    eventually("all three rows", rows, |count| *count == 3).await;

    // Nobody reads Defender any more, so nobody would ever find it to work.
    assert_eq!(world.import(&line("graph-alerts")).await.failures().count(), 0);
    worker.until("the end of the need", |set| set.tenants[&id(1)].state == TenantState::Active).await;
    assert_eq!(rows().await, 2, "the others stay");

    // A report that was under way comes too late. One that is written with it says when both have been taken.
    report(&worker, fence, defender, Verdict::NeedsCustomer).await;
    report(&worker, fence, GRAPH, Verdict::NeedsConsent).await;
    worker.until("the other need", |set| set.tenants[&id(1)].state == TenantState::NeedsConsent).await;
    assert_eq!(world.count("select count(*) from tocsin.trouble where origin = 'mde-alerts'").await, 0);
    worker.stop().await;
}
