//! Tables of facts and what is said of them.

use domain::Ticks;

use super::super::check::Outcome::{self, Fail, Ok as Well, Warn};
use super::super::facts::*;
use super::*;
use crate::output::size;

fn healthy() -> Facts {
    Facts {
        now: Ticks(0),
        config: ConfigFacts::default(),
        keys: KeyFacts { keys: 1, opens_all: Some(Ok(())), sealed: [2, 0, 0], ..KeyFacts::default() },
        apps: vec![app()],
        database: DatabaseFacts::There(Box::new(server())),
        daemon: answers(true),
        hosts: vec![host(Some(0.4))],
        tenants: vec![tenant(1), tenant(2)],
        deep: None,
    }
}

fn app() -> AppFacts {
    AppFacts { app: Alias("app", 1), private_unreadable: None, has_credential: true, days_left: Some(200), fault: None, tenants: 2 }
}

fn server() -> ServerFacts {
    ServerFacts {
        version: 170_002,
        replicas: 1,
        leases_due: 2,
        leases_held: 2,
        autovacuum: true,
        tables: vec![table(900, 100)],
        ..ServerFacts::default()
    }
}

fn table(live: i64, dead: i64) -> TableFacts {
    TableFacts { table: "tocsin.feed".to_owned(), bytes: 3_500_000, live, dead, vacuumed_seconds: Some(7200.0) }
}

fn answers(ready: bool) -> DaemonFacts {
    DaemonFacts::Answers { ready, stages: vec![("poller".to_owned(), true, ready)], metrics: String::new() }
}

fn host(skew_seconds: Option<f64>) -> HostFacts {
    let reached = Ok(Reached { status: 302, skew_seconds });
    HostFacts { cloud: Alias("cloud", 1), public_cloud: None, what: "login", reached }
}

fn tenant(number: usize) -> TenantFacts {
    TenantFacts {
        tenant: Alias("tenant", number),
        state: "active".to_owned(),
        for_seconds: 1000.0,
        troubled: false,
        error_code: None,
        trace_id: None,
        last_success_seconds: Some(20.0),
        lag_seconds: Some(25.0),
        throttled_seconds: None,
        never_read: false,
        nearest_clock: Some("refresh-token".to_owned()),
        nearest_days: Some(89),
        consent_missing: 0,
        unseen: 0,
        quarantined: 0,
        open_gaps: 0,
        looked_after: true,
    }
}

/// What these facts come to, besides what is well.
fn complaints(change: impl FnOnce(&mut Facts)) -> Vec<(&'static str, Outcome)> {
    let mut facts = healthy();
    change(&mut facts);
    let checks = judge(&facts);
    assert!(checks.iter().enumerate().all(|(at, check)| check.number == at + 1));
    for check in checks.iter().filter(|check| check.outcome != Well) {
        let fix = check.fix.as_deref().unwrap_or_default();
        assert!(fix.starts_with("you") || fix.starts_with("the customer's administrator"), "{check:?}");
        assert!(!check.found.is_empty() && !check.why.is_empty(), "{check:?}");
    }
    checks.into_iter().filter(|check| check.outcome != Well).map(|check| (check.title, check.outcome)).collect()
}

fn there(facts: &mut Facts) -> &mut ServerFacts {
    match &mut facts.database {
        DatabaseFacts::There(server) => server,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_healthy_world_has_no_complaints() {
    assert_eq!(complaints(|_| {}), []);
}

#[test]
fn each_fault_of_the_machine_is_named() {
    let private = || Some("in words".to_owned());
    assert_eq!(complaints(|facts| facts.config.private_warnings.push("x".to_owned())), [("configuration", Warn)]);
    assert_eq!(complaints(|facts| facts.config.together = true), [("separation", Warn)]);
    assert_eq!(complaints(|facts| facts.keys.private_unusable = private()), [("key ring", Fail)]);
    assert_eq!(complaints(|facts| facts.keys.opens_all = None), [("data keys", Warn)]);
    assert_eq!(complaints(|facts| facts.keys.opens_all = Some(Err("x".to_owned()))), [("data keys", Fail)]);
    assert_eq!(complaints(|facts| facts.keys.sealed = [1, 1, 0]), [("keys in use", Warn)]);
    assert_eq!(complaints(|facts| facts.keys.sealed = [1, 0, 1]), [("keys in use", Fail)]);
    assert_eq!(complaints(|facts| facts.apps[0].private_unreadable = private()), [("app registration", Fail)]);
    assert_eq!(complaints(|facts| facts.apps[0].fault = Some("AADSTS7000222".to_owned())), [("app registration", Fail)]);
    for (days, outcome) in [(Some(29), Warn), (Some(0), Warn), (Some(-1), Fail)] {
        assert_eq!(complaints(|facts| facts.apps[0].days_left = days), [("app registration", outcome)]);
    }
    assert_eq!(complaints(|facts| facts.apps[0].days_left = None), []);
    for (skew, outcome) in [(31.0, Warn), (-40.0, Warn), (301.0, Fail)] {
        assert_eq!(complaints(|facts| there(facts).skew_seconds = skew), [("clock of the database", outcome)]);
        assert_eq!(complaints(|facts| facts.hosts = vec![host(Some(skew)), host(None), host(Some(skew))]), [("our clock", outcome)]);
    }
    assert_eq!(complaints(|facts| there(facts).ingest_lacks.push("tocsin.tenant".to_owned())), [("roles and grants", Fail)]);
    assert_eq!(complaints(|facts| there(facts).roles_missing.push("tocsin_owner".to_owned())), [("roles and grants", Warn)]);
    assert_eq!(complaints(|facts| there(facts).reader_lacks.push("dash.alert".to_owned())), [("dashboards' role", Warn)]);
    assert_eq!(complaints(|facts| there(facts).reader_exceeds.push("tocsin.tenant".to_owned())), [("dashboards' role", Fail)]);
    assert_eq!(complaints(|facts| there(facts).readers.count = 3), []);
    assert_eq!(complaints(|facts| there(facts).readers.gone = 1), [("readers", Warn)]);
    assert_eq!(complaints(|facts| there(facts).readers.exceed = 1), [("readers", Fail)]);
    let leaky = |readers: usize| {
        complaints(|facts| {
            there(facts).readers.count = readers;
            there(facts).readers.leaks.push("tocsin.gap is not guarded".to_owned());
        })
    };
    assert_eq!((leaky(0), leaky(1)), (vec![("readers", Warn)], vec![("readers", Fail)]));
    assert_eq!(complaints(|facts| there(facts).misplaced_rows = 3), [("partitions", Warn)]);
    assert_eq!(complaints(|facts| there(facts).retention_differs = true), [("retention", Warn)]);
    assert_eq!(complaints(|facts| there(facts).overdue.push(("2026-01".to_owned(), 12_000))), [("retention", Warn)]);
    assert_eq!(complaints(|facts| there(facts).audit_problems = 1), [("audit log", Fail)]);
    let back =
        |removed| complaints(|facts| there(facts).went_back = Some(WentBackFacts { customers: 2, removed, ..WentBackFacts::default() }));
    assert_eq!((back(0), back(1)), (vec![("time of the database", Warn)], vec![("time of the database", Fail)]));
    assert_eq!(complaints(|facts| there(facts).leases_held = 1), [("leases", Warn)]);
    assert_eq!(complaints(|facts| there(facts).version = 140_011), [("database", Fail)]);
    assert_eq!(complaints(|facts| facts.daemon = answers(false)), [("ops endpoint", Fail)]);
    assert_eq!(complaints(|facts| facts.daemon = DaemonFacts::Silent), [], "it may run elsewhere");
    let silent = |facts: &mut Facts| {
        there(facts).replicas = 0;
        facts.daemon = DaemonFacts::Silent;
    };
    assert_eq!(complaints(silent), [("daemons", Fail), ("ops endpoint", Warn)]);
    let idle = |facts: &mut Facts| {
        silent(facts);
        (there(facts).leases_due, there(facts).leases_held) = (0, 0);
    };
    assert_eq!(complaints(idle), [("daemons", Warn), ("ops endpoint", Warn)]);
    let unreached = || Err(Unreached { kind: "timeout", private_reason: "x".to_owned() });
    assert_eq!(complaints(|facts| facts.hosts[0].reached = unreached()), [("hosts", Fail)]);
}

#[test]
fn without_a_database_the_rest_is_still_looked_at() {
    for (database, outcome) in [
        (DatabaseFacts::NotMade, Warn),
        (DatabaseFacts::Away { exit: 69, private_reason: "x".to_owned() }, Fail),
        (DatabaseFacts::OtherSchema { pending: 2 }, Fail),
        (DatabaseFacts::OtherSchema { pending: 0 }, Fail),
    ] {
        assert_eq!(complaints(|facts| facts.database = database), [("database", outcome)]);
    }
}

#[test]
fn each_trouble_of_a_tenant_is_named() {
    assert_eq!(complaints(|facts| facts.tenants.clear()), [("tenants", Warn)]);
    assert_eq!(complaints(|facts| facts.tenants[0].state = "needs-consent".to_owned()), [("tenants", Fail)]);
    assert_eq!(complaints(|facts| facts.tenants[0].troubled = true), [("tenants", Fail)]);
    assert_eq!(complaints(|facts| facts.tenants[0].last_success_seconds = Some(1000.0)), [("last success", Warn)]);
    let never_read = |for_seconds: f64| {
        complaints(|facts| facts.tenants.iter_mut().for_each(|tenant| (tenant.never_read, tenant.for_seconds) = (true, for_seconds)))
    };
    assert_eq!((never_read(121.0), never_read(119.0)), (vec![("last success", Fail)], vec![("last success", Warn)]), "who came just now");
    assert_eq!(complaints(|facts| facts.tenants[0].lag_seconds = Some(4000.0)), [("lag", Warn)]);
    for (days, outcome) in [(29, Warn), (0, Warn), (-1, Fail)] {
        assert_eq!(complaints(|facts| facts.tenants[0].nearest_days = Some(days)), [("clocks", outcome)]);
    }
    assert_eq!(complaints(|facts| facts.tenants[0].consent_missing = 1), [("consent", Fail)]);
    assert_eq!(complaints(|facts| facts.tenants[0].unseen = 1), [("device groups", Warn)]);
    assert_eq!(complaints(|facts| facts.tenants[0].quarantined = 1), [("quarantine", Warn)]);
    assert_eq!(complaints(|facts| facts.tenants[0].open_gaps = 1), [("gaps", Warn)]);
    let paused = |facts: &mut Facts| {
        (facts.tenants[0].state, facts.tenants[0].last_success_seconds) = ("paused".to_owned(), Some(1e6));
        facts.tenants[0].lag_seconds = Some(1e6);
    };
    assert_eq!(complaints(paused), [], "a paused tenant is not read, as it should be");
}

#[test]
fn what_is_derived_late_is_told_with_what_holds_it_up() {
    let digest = |digest: DigestFacts| {
        let server = ServerFacts { digest, ..server() };
        let check = strain::digest(&server);
        (check.outcome, check.found, check.fix.unwrap_or_default())
    };
    let late = || DigestFacts { lag_seconds: 600.0, waiting: 12, ..DigestFacts::default() };
    assert_eq!(digest(DigestFacts { lag_seconds: 59.0, waiting: 3, ..DigestFacts::default() }).0, Well);
    let (outcome, found, fix) = digest(DigestFacts { held_up_by: Some((Some(4711), 900.0)), ..late() });
    assert!(outcome == Warn && found.contains("12 alerts waiting") && found.contains("process 4711"), "{found}");
    assert!(fix.contains("pg_terminate_backend(4711)"), "{fix}");
    let (_, found, fix) = digest(DigestFacts { held_up_by: Some((None, 900.0)), ..late() });
    assert!(found.contains("prepared") && fix.contains("pg_prepared_xacts"), "{found} {fix}");
    // A transaction that has just begun is not what everything waits for.
    let (outcome, found, _) = digest(DigestFacts { held_up_by: Some((Some(4711), 1.0)), ..late() });
    assert!(outcome == Warn && !found.contains("4711"), "{found}");
    assert!(digest(DigestFacts { rebuilding: 1, waiting: 7, lag_seconds: 900.0, ..DigestFacts::default() }).1.contains("7 alerts to go"));
    assert!(digest(DigestFacts { skipped: 1, ..DigestFacts::default() }).1.contains("1 alert without evidence"));
}

#[test]
fn dead_rows_are_told_of_when_autovacuum_has_missed_its_time() {
    for (live, dead, told) in
        [(0, 9_999, false), (0, 10_000, true), (25_000, 10_000, false), (24_000, 10_000, true), (1_000_000, 399_000, false)]
    {
        let expected: &[_] = if told { &[("dead rows", Warn)] } else { &[] };
        assert_eq!(complaints(|facts| there(facts).tables = vec![table(live, dead)]), expected, "{dead} of {live}");
    }
    assert_eq!(complaints(|facts| there(facts).autovacuum = false), [("dead rows", Warn)]);
    let mut facts = healthy();
    there(&mut facts).tables =
        vec![table(24_000, 10_000), TableFacts { table: "tocsin.gap".to_owned(), vacuumed_seconds: None, ..table(0, 50_000) }];
    let checks = judge(&facts);
    let check = checks.iter().find(|check| check.title == "dead rows").unwrap();
    let found = "2 tables hold more than autovacuum should let stand: tocsin.gap (100 % of 50000 rows, 3.5 MB, never vacuumed), \
                 tocsin.feed (29 % of 34000 rows, 3.5 MB, vacuumed 2 h ago)";
    assert_eq!(check.found, found);
    assert!(check.fix.as_deref().unwrap().contains("vacuum (analyze) tocsin.gap, tocsin.feed;"), "{check:?}");
}

#[test]
fn throttling_is_told_of_by_host_and_by_tenant() {
    let daemon = |throttled: u32, ok: u32| DaemonFacts::Answers {
        ready: true,
        stages: Vec::new(),
        metrics: format!(
            "# TYPE tocsin_poll_total counter\n\
             tocsin_poll_total{{source=\"graph-alerts\",outcome=\"throttled\"}} {throttled}\n\
             tocsin_poll_total{{source=\"graph-alerts\",outcome=\"ok\"}} {ok}\n\
             tocsin_poll_total{{source=\"graph-alerts\",outcome=\"waiting\"}} 100000\n\
             tocsin_poll_total{{outcome=\"ok\",source=\"mde-alerts\"}} 500\n\
             tocsin_token_refresh_total{{outcome=\"ok\"}} 500\n"
        ),
    };
    for (throttled, ok, told) in [(0, 0, false), (19, 0, false), (20, 0, true), (9, 91, false), (10, 90, true)] {
        let expected: &[_] = if told { &[("throttling", Warn)] } else { &[] };
        assert_eq!(complaints(|facts| facts.daemon = daemon(throttled, ok)), expected, "{throttled} besides {ok}");
    }
    for (seconds, told) in [(None, false), (Some(299.0), false), (Some(301.0), true)] {
        let expected: &[_] = if told { &[("throttling", Warn)] } else { &[] };
        assert_eq!(complaints(|facts| facts.tenants[1].throttled_seconds = seconds), expected, "{seconds:?}");
    }
    let mut facts = healthy();
    (facts.daemon, facts.tenants[1].throttled_seconds) = (daemon(25, 75), Some(600.0));
    let found = judge(&facts).into_iter().find(|check| check.title == "throttling").unwrap().found;
    assert_eq!(found, "graph refused 25 of 100 polls since the daemon began (25 %); tenant-2 (nothing read for 10 min)");
}

#[test]
fn sizes_read_as_people_say_them() {
    for (bytes, words) in [(900, "900 B"), (3_500_000, "3.5 MB"), (12_000_000_000, "12.0 GB")] {
        assert_eq!(size(bytes), words);
    }
}

#[test]
fn a_long_list_is_cut() {
    let mut facts = healthy();
    facts.tenants = (1..=25).map(|number| TenantFacts { quarantined: 2, ..tenant(number) }).collect();
    let checks = judge(&facts);
    let found = &checks.iter().find(|check| check.title == "quarantine").unwrap().found;
    assert!(found.contains("tenant-10 (2 records)") && !found.contains("tenant-11") && found.ends_with("and 15 more"), "{found}");
}

#[test]
fn one_tenant_is_looked_at_closely() {
    let source = |change: fn(&mut SourceFacts)| {
        let mut source = SourceFacts {
            source: "graph-alerts".to_owned(),
            last_success_seconds: Some(10.0),
            lag_seconds: Some(12.0),
            throttled: false,
            failing: false,
            quarantined: 0,
            open_gaps: 0,
        };
        change(&mut source);
        source
    };
    let deep = |sources: Vec<SourceFacts>| DeepFacts {
        sources,
        clocks: vec![("access".to_owned(), Some(90), false), ("consent".to_owned(), None, false)],
        consent: vec![("graph".to_owned(), vec!["SecurityAlert.Read.All".to_owned()], Vec::new())],
        token_version: Some(3),
        has_data_key: true,
    };
    assert_eq!(complaints(|facts| facts.deep = Some(deep(vec![source(|_| {})]))), []);
    assert_eq!(complaints(|facts| facts.deep = Some(deep(vec![source(|source| source.throttled = true)]))), [("source", Warn)]);
    let dead = |source: &mut SourceFacts| (source.failing, source.last_success_seconds) = (true, None);
    assert_eq!(complaints(|facts| facts.deep = Some(deep(vec![source(dead)]))), [("source", Fail)]);
    assert_eq!(complaints(|facts| facts.deep = Some(DeepFacts { has_data_key: false, ..deep(Vec::new()) })), [("credential", Fail)]);
    let drift = || DeepFacts {
        consent: vec![("graph".to_owned(), vec!["User.Read".to_owned()], vec!["SecurityAlert.Read.All".to_owned()])],
        ..deep(Vec::new())
    };
    assert_eq!(complaints(|facts| facts.deep = Some(drift())), [("permissions", Fail)]);
    let late =
        || DeepFacts { clocks: vec![("access".to_owned(), Some(3), false), ("consent".to_owned(), Some(-2), false)], ..deep(Vec::new()) };
    assert_eq!(complaints(|facts| facts.deep = Some(late())), [("clock", Warn), ("clock", Fail)]);
}

#[test]
fn spans_read_as_people_say_them() {
    for (seconds, words) in [(5.0, "5 s"), (119.0, "2 min"), (7200.0, "2 h"), (200_000.0, "2 d")] {
        assert_eq!(tenants::span(seconds), words);
    }
}
