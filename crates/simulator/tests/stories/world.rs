//! What is published: determinism, updates, ties, late arrivals, the ledger and the journal.

use crate::{Caller, column};
use simulator::{Clock, Effect, Endpoint, ManualClock, Poison, Rule, Settings, Simulator, Source, SourceMix, Stamp};
use std::time::Duration;

fn noon() -> Stamp {
    Stamp::parse("2025-06-01T12:00:00Z").unwrap()
}

fn start(settings: Settings) -> (Simulator, ManualClock) {
    let clock = ManualClock::at(noon());
    (Simulator::start(Settings { clock: Clock::Manual(clock.clone()), ..settings }).unwrap(), clock)
}

/// Everything published, as text.
fn everything(simulator: &Simulator) -> Vec<(Option<String>, String, Stamp)> {
    simulator.ledger().all_rows().into_iter().map(|row| (row.alert_id.clone(), row.sha256(), row.visible_at)).collect()
}

#[test]
fn the_same_seed_and_the_same_steps_publish_the_same_bytes() {
    let run = |seed, steps: &[u64]| {
        let (simulator, clock) = start(Settings { seed, history: 40, rate: 8.0, sources: SourceMix::Both, ..Settings::default() });
        for seconds in steps {
            clock.advance(Duration::from_secs(*seconds));
            simulator.tick();
        }
        everything(&simulator)
    };
    let one = run(5, &[1, 2, 7, 10]);
    assert_eq!(one, run(5, &[1, 2, 7, 10]));
    assert_ne!(one, run(6, &[1, 2, 7, 10]));
    assert!(one.len() > 3 * 40 + 60, "{} versions", one.len());
    let bodies = |rows: Vec<(Option<String>, String, Stamp)>| rows.into_iter().map(|row| (row.0, row.1)).collect::<Vec<_>>();
    assert_eq!(bodies(one), bodies(run(5, &[20])), "how often the clock was looked at makes no difference to what happened");
}

#[test]
fn history_spreads_over_thirty_days_and_no_stamp_lies_ahead() {
    let (simulator, _) = start(Settings { history: 300, ..Settings::default() });
    let stamps: Vec<Stamp> = simulator.ledger().all_rows().iter().map(|row| row.last_update.as_deref().unwrap().parse().unwrap()).collect();
    assert!(stamps.iter().all(|stamp| *stamp <= noon() && stamp.on_grid() == *stamp));
    let days = |stamp: &Stamp| (noon().unix_seconds() - stamp.unix_seconds()) / 86_400;
    assert!(stamps.iter().map(days).max().unwrap() >= 28);
    assert!(stamps.iter().filter(|stamp| days(stamp) < 3).count() > 50);
}

#[test]
fn many_alerts_published_at_once_never_lie_ahead_and_some_are_tied() {
    let (simulator, clock) = start(Settings::default());
    let tenant = simulator.tenants()[0].directory_id;
    simulator.publish_new(tenant, 1_000).unwrap();
    clock.advance(Duration::from_millis(40));
    simulator.publish_new(tenant, 50).unwrap();
    let rows = simulator.ledger().rows(tenant);
    let stamps: Vec<Stamp> = rows.iter().map(|row| row.last_update.as_deref().unwrap().parse().unwrap()).collect();
    assert!(stamps.is_sorted(), "in order of publication");
    assert!(stamps.iter().all(|stamp| *stamp <= simulator.now()));
    assert!(stamps.windows(2).any(|pair| pair[0] == pair[1]), "equal stamps are ordinary");
}

#[tokio::test]
async fn a_change_moves_the_alert_to_the_front_and_adds_a_version() {
    let (simulator, clock) = start(Settings { history: 20, ..Settings::default() });
    let tenant = simulator.tenants()[0].clone();
    clock.advance(Duration::from_secs(60));
    let changed = simulator.publish_update(tenant.directory_id).unwrap();
    let caller = Caller::of(&simulator, &tenant, Source::GraphAlerts).await;
    let page = caller.page(&[("$top", "5")]).await;
    assert_eq!(column(&page, "id")[0], changed);
    assert_eq!(column(&page, "lastUpdateDateTime")[0], "2025-06-01T12:01:00Z");
    let versions: Vec<_> =
        simulator.ledger().rows(tenant.directory_id).into_iter().filter(|row| row.alert_id.as_deref() == Some(&changed)).collect();
    assert_eq!(versions.iter().map(|row| (row.version, row.latest, row.served)).collect::<Vec<_>>(), [(1, false, 0), (2, true, 1)]);
    assert_ne!(versions[0].body, versions[1].body);
}

#[tokio::test]
async fn what_the_ledger_says_is_what_callers_get() {
    let (simulator, _) = start(Settings { history: 90, sources: SourceMix::Both, ..Settings::default() });
    let tenant = simulator.tenants()[0].clone();
    let rows = simulator.ledger().rows(tenant.directory_id);
    for (source, query) in [(Source::GraphAlerts, [("$top", "1000")]), (Source::MdeAlerts, [("$expand", "evidence")])] {
        let text = Caller::of(&simulator, &tenant, source).await.send(&query).await.unwrap().text().await.unwrap();
        for row in rows.iter().filter(|row| row.source == source) {
            assert!(text.contains(std::str::from_utf8(&row.body).unwrap()), "{:?} stands in the answer byte by byte", row.alert_id);
        }
    }
    let counts = simulator.ledger().counts();
    assert_eq!((counts[0].alerts, counts[0].sources["graph-alerts"].alerts), (90, 90), "an alert at two sources is one alert");
    assert_eq!(simulator.ledger().total_alerts(), 270);
}

#[tokio::test]
async fn alerts_can_come_late_or_tied() {
    let (simulator, _) = start(Settings::default());
    let tenant = simulator.tenants()[0].clone();
    let tie: Stamp = "2025-06-01T11:00:00.1133333Z".parse().unwrap();
    for _ in 0..3 {
        simulator.publish_at(tenant.directory_id, tie).unwrap();
    }
    simulator.script(Rule::new(Effect::Late { seconds: 7200 }).tenant(tenant.directory_id).times(1));
    simulator.publish_new(tenant.directory_id, 1).unwrap();
    simulator.publish_new(tenant.directory_id, 1).unwrap();
    let page = Caller::of(&simulator, &tenant, Source::GraphAlerts).await.page(&[]).await;
    let expected = [
        "2025-06-01T12:00:00Z",
        "2025-06-01T11:00:00.1133333Z",
        "2025-06-01T11:00:00.1133333Z",
        "2025-06-01T11:00:00.1133333Z",
        "2025-06-01T10:00:00Z",
    ];
    assert_eq!(column(&page, "lastUpdateDateTime"), expected);
}

#[tokio::test]
async fn records_that_cannot_be_understood_are_served_and_counted_like_others() {
    let (simulator, _) = start(Settings { history: 2, ..Settings::default() });
    let tenant = simulator.tenants()[0].clone();
    let kinds = [
        Poison::NulEscape,
        Poison::LoneSurrogate,
        Poison::InvalidUtf8,
        Poison::Deep,
        Poison::MissingId,
        Poison::FarFuture,
        Poison::EmptyStamp,
        Poison::NonsenseStamp,
        Poison::NotAnObject,
    ];
    for (number, kind) in kinds.into_iter().enumerate() {
        simulator.publish_poison(tenant.directory_id, Source::GraphAlerts, kind, &format!("dapoison{number}_1")).unwrap();
    }
    let bytes = Caller::of(&simulator, &tenant, Source::GraphAlerts)
        .await
        .send(&[("$filter", "lastUpdateDateTime ge 2020-01-01T00:00:00Z")])
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    for row in simulator.ledger().rows(tenant.directory_id) {
        assert!(bytes.windows(row.body.len()).any(|window| window == row.body), "{:?}", row.alert_id);
    }
    let count = &simulator.ledger().counts()[0].sources["graph-alerts"];
    assert_eq!((count.alerts, count.without_id), (2 + 7, 2));
}

#[tokio::test]
async fn the_journal_knows_who_asked_what() {
    let (simulator, _) = start(Settings { history: 3, journal_limit: 3, ..Settings::default() });
    let tenant = simulator.tenants()[0].clone();
    let caller = Caller::of(&simulator, &tenant, Source::GraphAlerts).await;
    simulator.script(Rule::new(Effect::Clamp { top: 2 }).times(1));
    for _ in 0..3 {
        caller.page(&[("$top", "7")]).await;
    }
    let entries = simulator.journal();
    assert_eq!(entries.len(), 3, "the sign-in has been forgotten");
    assert_eq!(entries.iter().map(|entry| entry.records).collect::<Vec<_>>(), [2, 3, 3]);
    assert_eq!(entries[0].effects, [r#"{"clamp":{"top":2}}"#]);
    assert!(entries.iter().all(|entry| entry.tenant == Some(tenant.directory_id)
        && entry.endpoint == Endpoint::Graph
        && entry.status == 200
        && entry.query == "%24top=7"));
    assert_eq!(entries[0].token.as_deref(), Some("at-0"));
    assert_eq!(simulator.journal_totals()[&(Endpoint::Token, 200)], 1, "the totals have not");
}

#[test]
fn a_thousand_tenants_start_in_a_moment_and_names_are_unique() {
    let simulator = Simulator::start(Settings { tenants: 1_000, history: 10, ..Settings::default() }).unwrap();
    let tenants = simulator.tenants();
    let names: std::collections::BTreeSet<_> = tenants.iter().map(|tenant| &tenant.name).collect();
    assert_eq!(names.len(), 1_000);
    assert!(tenants.iter().any(|tenant| tenant.name.contains('ı')));
    assert_eq!(simulator.ledger().total_alerts(), 10_000);
}
