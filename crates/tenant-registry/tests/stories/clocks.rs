//! The clocks that run out: shown with the nearest first, warned of once per line, and never a trouble.

use std::time::Duration;

use domain::{AppName, Audience, Clock as _, Report, ReportOrigin, Source, SystemClock, TenantState, Ticks, Trace, Trouble, Verdict};
use sqlx::PgPool;
use tenant_registry::{AppClock, Config};

use super::world::{Captured, World, eventually, id, quick, world};

fn quick_clocks() -> Config {
    Config { clocks_every: Duration::from_millis(60), ..quick() }
}

/// Lets the refresh token of a tenant end in so many days.
async fn token_ends_in(world: &World, tenant: u128, days: f64) {
    let statement = sqlx::query("update tocsin.tenant set token_expires_at = now() + $2 * interval '1 day' where tenant = $1");
    statement.bind(id(tenant).0).bind(days).execute(&world.pool).await.unwrap();
}

async fn warned(world: &World) -> i64 {
    world.count("select count(*) from tocsin.clock_warning").await
}

fn ticks_in(days: f64) -> Ticks {
    let span = Duration::from_secs_f64(days.abs() * 86_400.0);
    if days < 0.0 { SystemClock.now().minus(span) } else { SystemClock.now().plus(span) }
}

fn app_clock(days: f64) -> AppClock {
    AppClock { app: AppName::new("main"), what: "client secret", ends_at: ticks_in(days) }
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_nearest_clock_comes_first_and_says_who_must_do_what(pool: PgPool) {
    let world = world(pool).await.with_tenants(2).await;
    assert_eq!(world.registry.clocks(None).await.unwrap(), []);
    token_ends_in(&world, 1, 89.5).await;
    world.registry.set_app_clocks(&[app_clock(12.5)]).await.unwrap();
    let in_two_days = ticks_in(2.1).to_timestamp().unwrap();
    world.registry.set_access_end(id(1), Some(in_two_days)).await.unwrap();
    let fence = world.hold(id(1)).await;
    let granted = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let note = async |names: &[&str]| {
        let granted = granted(names);
        world.registry.note_granted(fence, &[Source::GraphAlerts], Audience::Graph, &granted).await.unwrap()
    };
    assert!(note(&["SecurityAlert.Read.All", "User.Read"]).await);

    let clocks = world.registry.clocks(Some(id(1))).await.unwrap();
    let seen: Vec<_> = clocks.iter().map(|clock| (clock.clock.as_str(), clock.days_left, clock.estimated)).collect();
    assert_eq!(
        seen,
        [("access", Some(2), false), ("app-credential", Some(12), false), ("refresh-token", Some(89), true), ("consent", None, false)]
    );
    assert!(clocks[0].words.contains("tocsin tenant set 'tenant 1' --access-expires"), "{}", clocks[0].words);
    assert!(clocks[1].words.contains("client secret of app main"), "{}", clocks[1].words);

    // What is taken back is missing from now on, and the first time that it was seen to be missing stays.
    assert!(note(&["User.Read"]).await);
    let first = world.registry.clocks(Some(id(1))).await.unwrap()[0].clone();
    assert_eq!((first.clock.as_str(), first.days_left), ("consent", Some(-1)));
    assert!(first.words.contains("SecurityAlert.Read.All") && first.words.contains("tocsin tenant invite 'tenant 1'"), "{}", first.words);
    assert!(note(&["User.Read", "openid"]).await);
    assert!(note(&[]).await, "a token that allows nothing is no token that cannot be read");
    let nothing = world.registry.clocks(Some(id(1))).await.unwrap()[0].clone();
    assert!(nothing.clock == "consent" && nothing.words.contains("SecurityAlert.Read.All"), "{}", nothing.words);
    assert_eq!(world.registry.clocks(Some(id(1))).await.unwrap()[0].ends_at, first.ends_at);
    assert!(note(&["SecurityAlert.Read.All"]).await);
    assert_eq!(
        world.registry.clocks(Some(id(1))).await.unwrap().last().unwrap().words,
        "all permissions that its sources need are granted"
    );
    assert_eq!(world.state(id(1)).await, "active");

    // A replica that has lost the tenant does not speak for it.
    world.hold(id(1)).await;
    assert!(!note(&["User.Read"]).await);
    world.registry.set_access_end(id(1), None).await.unwrap();
    world.registry.set_app_clocks(&[]).await.unwrap();
    let left: Vec<_> = world.registry.clocks(Some(id(1))).await.unwrap().into_iter().map(|clock| clock.clock).collect();
    assert_eq!(left, ["refresh-token", "consent"]);
    world.registry.remove(id(1), tenant_registry::Alerts::Keep).await.unwrap();
    assert_eq!(world.registry.clocks(Some(id(1))).await.unwrap(), []);
    assert_eq!(world.count("select count(*) from tocsin.tenant_consent").await, 0);
    world.registry.set_access_end(id(1), Some(in_two_days)).await.unwrap_err();
}

#[sqlx::test(migrations = "../../migrations")]
async fn each_line_is_told_once_by_whichever_replica_and_not_again_after_a_start(pool: PgPool) {
    let captured = Captured::default();
    let _guard = captured.listen(tracing::Level::INFO);
    let world = world(pool).await.with_tenants(4).await;
    let lines = |words: &str| captured.text().lines().filter(|line| line.contains(words)).map(str::to_owned).collect::<Vec<_>>();
    token_ends_in(&world, 1, 29.5).await;
    token_ends_in(&world, 2, 31.5).await;
    world.registry.set_app_clocks(&[app_clock(13.5)]).await.unwrap();
    let (mut one, two) = (world.worker_with(quick_clocks()), world.worker_with(quick_clocks()));
    one.until("a share", |set| set.tenants.len() == 2).await;
    let soon = "a clock of the tenant runs out soon";
    eventually("the first line", || std::future::ready(captured.text()), |text| text.matches(soon).count() == 1).await;
    let ours = "the credential of our app runs out soon";
    eventually("the line of the app", || std::future::ready(lines(ours).len()), |count| *count == 1).await;
    let line = &lines(soon)[0];
    assert!(line.contains(&format!("tenant.id={}", id(1))) && line.contains("clock=\"refresh-token\""), "{line}");
    assert!(line.contains("days_left=29") && line.contains("within_days=30") && line.contains("WARN"), "{line}");
    assert!(lines(ours)[0].contains("within_days=14") && lines(ours)[0].contains("app=\"main\""), "{:?}", lines(ours));

    // Neither the next looks nor the next start say it again.
    one.stop().await;
    two.stop().await;
    let again = world.worker_with(quick_clocks());
    token_ends_in(&world, 2, 2.5).await;
    eventually("the line of another tenant", || std::future::ready(captured.text()), |text| text.matches(soon).count() == 2).await;
    assert!(lines(soon)[1].contains(&id(2).to_string()) && lines(soon)[1].contains("within_days=3"), "{:?}", lines(soon));
    token_ends_in(&world, 1, 13.5).await;
    eventually("the next line", || std::future::ready(captured.text()), |text| text.matches(soon).count() == 3).await;
    assert!(lines(soon)[2].contains("within_days=14"), "{:?}", lines(soon));
    token_ends_in(&world, 1, -0.5).await;
    eventually("the end", || std::future::ready(lines("a clock of the tenant has run out").len()), |count| *count == 1).await;

    // It is kept alive again: forgotten, so that the next time is told anew.
    token_ends_in(&world, 1, 90.0).await;
    token_ends_in(&world, 2, 90.0).await;
    eventually("both are forgotten", || warned(&world), |count| *count == 0).await;
    token_ends_in(&world, 1, 29.5).await;
    eventually("told anew", || std::future::ready(captured.text()), |text| text.matches(soon).count() == 4).await;
    assert_eq!(lines(ours).len(), 1, "once for all tenants and both replicas");
    assert_eq!(world.count("select count(*) from dash.tenant_health where state <> 'active' or reason is not null").await, 0, "no trouble");
    again.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn tenants_are_counted_by_the_lines_within_which_their_clocks_end(pool: PgPool) {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = world(pool).await.with_tenants(3).await;
    token_ends_in(&world, 1, 29.5).await;
    token_ends_in(&world, 2, 2.5).await;
    token_ends_in(&world, 3, 89.5).await;
    world.registry.set_app_clocks(&[app_clock(-1.0)]).await.unwrap();
    let worker = world.worker_with(quick_clocks());
    let expected = [
        ("refresh-token", "30d", 2),
        ("refresh-token", "14d", 1),
        ("refresh-token", "3d", 1),
        ("refresh-token", "ended", 0),
        ("app-credential", "ended", 3),
        ("access", "30d", 0),
        ("consent", "ended", 0),
    ]
    .map(|(clock, within, count)| format!("tocsin_clock_tenants{{clock=\"{clock}\",within=\"{within}\"}} {count}"));
    let ask = || std::future::ready(metrics.render());
    eventually("the counts", ask, |text| expected.iter().all(|line| text.contains(line))).await;
    worker.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_refusal_keeps_what_support_asks_for_and_its_command_can_be_typed(pool: PgPool) {
    let captured = Captured::default();
    let _guard = captured.listen(tracing::Level::INFO);
    let world = world(pool).await.with_tenants(3).await;
    let names = [(1, "contoso"), (2, "O'Neill & Söhne"), (3, "Fabrikam Ltd")];
    for (tenant, name) in names {
        let statement = sqlx::query("update tocsin.tenant set name = $2 where tenant = $1").bind(id(tenant).0).bind(name);
        statement.execute(&world.pool).await.unwrap();
    }
    let mut worker = world.worker();
    let set = worker.holding(3).await;
    for (tenant, _) in names {
        let trouble = Trouble {
            verdict: Verdict::NeedsConsent,
            reason: "the refresh token was revoked".to_owned(),
            action: "the owner: sign in again; you make the link with: tocsin tenant invite {tenant}".to_owned(),
            code: Some("AADSTS424242".to_owned()),
            trace: Some(Box::new(Trace { id: Some("3939d04c".to_owned()), at: Ticks::parse("2026-01-09T02:02:12Z") })),
        };
        let fence = set.tenants[&id(tenant)].fence();
        worker.reports.send(Report::Trouble { fence, origin: ReportOrigin::SignIn, trouble }).await.unwrap();
    }
    worker.until("the needs", |set| set.tenants.values().all(|tenant| tenant.state == TenantState::NeedsConsent)).await;
    for (tenant, typed) in [(1, "contoso".to_owned()), (2, id(2).to_string()), (3, "'Fabrikam Ltd'".to_owned())] {
        let found = world.registry.find(&id(tenant).to_string()).await.unwrap();
        assert!(found.action.unwrap().ends_with(&format!("tocsin tenant invite {typed}")));
        assert_eq!((found.error_code.as_deref(), found.trace_id.as_deref()), (Some("AADSTS424242"), Some("3939d04c")));
        assert_eq!(found.answered_at.map(|at| at.to_string()).as_deref(), Some("2026-01-09T02:02:12Z"));
    }
    worker.stop().await;
    let log = captured.text();
    let line = log.lines().find(|line| line.contains("needs consent") && line.contains(&id(2).to_string())).unwrap();
    assert!(line.contains("trace.id=\"3939d04c\"") && line.contains("answered.at=2026-01-09T02:02:12"), "{line}");
    assert!(line.contains(&format!("tocsin tenant invite {}", id(2))) && !log.contains("Neill"), "{line}");
}
