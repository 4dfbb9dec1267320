//! What is needed goes away and comes back: the database, Microsoft, one customer's share of it, ourselves.

use std::cell::Cell;
use std::time::Duration;

use anyhow::Context;
use e2e::harness::{Changes, Daemon, Setup, World, eventually};
use rustix::process::Signal;
use simulator::{Effect, Endpoint, JournalEntry, Outage, RetryAfter, Rule, Settings, SimTenant, SourceMix, Stamp, Truncate};
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(180);

/// Many small pages, so that there are many moments to be disturbed at, and a budget that does not slow them down.
const SMALL_PAGES: &str = "[poll]\ninterval = \"1s\"\npage_size = 25\n\
                           [budget]\ngraph_per_minute = 100000\ndefender_per_minute = 100000\ndefender_per_hour = 1000000\n";

#[tokio::test]
async fn connections_that_are_cut_again_and_again_lose_nothing_and_double_nothing() -> anyhow::Result<()> {
    const HISTORY: usize = 1000;
    let cloud = Settings { tenants: 3, history: HISTORY, sources: SourceMix::Mixed, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }).await?;
    let database = world.database.as_ref().context("no database")?;
    world.cloud.script(Rule::new(Effect::Slow { ms: 50 }));
    let mut daemon = world.serve()?;
    let mut changes = Changes::default();
    let mut amid = 0;
    for cut in 0..15 {
        grown(&world, &daemon, stored(&world).await? + 30 * (cut % 3)).await?;
        for tenant in world.cloud.tenants() {
            changes.make(&world, &tenant, 1).await?;
        }
        amid += u32::from(usize::try_from(stored(&world).await?)? < 3 * HISTORY);
        database.cut_connections().await?;
    }
    assert!(amid >= 10, "only {amid} of 15 cuts fell into the first sync, so this proved little");
    world.cloud.clear_script();
    let tally = world.settled(LONG).await?;
    assert!(tally.published >= 3 * HISTORY && changes.count() >= 20, "{tally}, {} changes", changes.count());
    ready(&daemon).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn while_the_database_is_away_nothing_is_fetched_and_afterwards_everything_is() -> anyhow::Result<()> {
    let world = World::with_tenants(Setup::default()).await?;
    let database = world.database.as_ref().context("no database")?;
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    ready(&daemon).await?;
    let memory = daemon.resident_bytes()?;

    database.shut().await?;
    let body = eventually("/readyz says that the database is away", SOON, async || {
        let (status, body) = daemon.ops("/readyz").await.map_err(|error| error.to_string())?;
        if status == 503 { Ok(body) } else { Err(format!("{status} {body}")) }
    })
    .await?;
    let at_fault = |stage: &str| body.lines().any(|line| line.starts_with(stage) && !line.ends_with(": ok"));
    assert!(at_fault("sink:") || at_fault("registry:"), "no stage is named: {body}");
    assert_eq!(daemon.ops("/livez").await?.0, 200, "a restart would not bring the database back");
    for tenant in world.cloud.tenants() {
        world.cloud.publish_new(tenant.directory_id, 400)?;
    }
    // Three intervals long nobody is asked.
    quiet(&world, Duration::from_secs(3)).await?;
    let (status, body) = daemon.ops("/readyz").await?;
    assert_eq!(status, 503, "{body}");
    let grown = daemon.resident_bytes()?.saturating_sub(memory);
    assert!(grown < 32 << 20, "{} MB more while the database was away", grown >> 20);

    database.reopen().await?;
    let tally = world.settled(SOON).await?;
    assert_eq!(tally.published, 3 * 420);
    ready(&daemon).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_stop_while_the_database_is_away_ends_in_time_and_loses_nothing() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 3, history: 500, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }).await?;
    let database = world.database.as_ref().context("no database")?;
    world.cloud.script(Rule::new(Effect::Slow { ms: 50 }));
    let mut daemon = world.serve()?;
    grown(&world, &daemon, 0).await?;
    database.shut().await?;
    daemon.terminate().await?;

    database.reopen().await?;
    world.cloud.clear_script();
    let mut daemon = world.serve()?;
    world.settled(LONG).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn customers_whose_source_is_broken_do_not_hold_up_the_others() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 8, history: 10, sources: SourceMix::GraphOnly, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, ..Setup::default() }).await?;
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;

    let tenants = world.cloud.tenants();
    let faults = [
        Effect::Outage(Outage::InternalError),
        Effect::Outage(Outage::Unavailable),
        Effect::Outage(Outage::Reset),
        Effect::Html { status: 200 },
        Effect::Truncate(Truncate::ShortBody),
        Effect::Truncate(Truncate::CutJson),
    ];
    let (sick, healthy) = tenants.split_at(faults.len());
    for (tenant, effect) in sick.iter().zip(faults) {
        world.cloud.script(Rule::new(effect).tenant(tenant.directory_id).endpoint(Endpoint::Graph));
        world.cloud.publish_new(tenant.directory_id, 3)?;
    }
    for round in 1..=5 {
        for tenant in healthy {
            world.cloud.publish_new(tenant.directory_id, 2)?;
        }
        for tenant in healthy {
            arrives(&world, tenant, 10 + 2 * round, Duration::from_secs(15)).await?;
        }
    }
    eventually("each broken source is named", SOON, async || {
        let sql = "select count(*) from dash.feed_health where last_error is not null";
        let named: i64 = sqlx::query_scalar(sql)
            .fetch_one(&world.pool().await.map_err(|error| error.to_string())?)
            .await
            .map_err(|error| error.to_string())?;
        if usize::try_from(named) == Ok(sick.len()) { Ok(()) } else { Err(format!("{named} of {}", sick.len())) }
    })
    .await?;

    world.cloud.clear_script();
    let tally = world.settled(LONG).await?;
    assert_eq!(tally.published, 8 * 10 + 6 * 3 + 2 * 10);
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_request_that_is_never_answered_is_given_up_and_holds_up_nobody() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 3, history: 10, sources: SourceMix::Both, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, ..Setup::default() }).await?;
    let tenants = world.cloud.tenants();
    // Two requests are swallowed: the other ones get through, also those of the same tenant to the other API.
    world.cloud.script(Rule::new(Effect::Hang).tenant(tenants[0].directory_id).endpoint(Endpoint::Graph).times(1));
    world.cloud.script(Rule::new(Effect::Hang).tenant(tenants[1].directory_id).endpoint(Endpoint::Defender).times(1));
    let mut daemon = world.serve()?;
    arrives(&world, &tenants[2], 10, Duration::from_secs(20)).await?;
    arrives(&world, &tenants[1], 10, Duration::from_secs(20)).await?;
    world.settled(LONG).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_throttled_customer_is_left_alone_for_as_long_as_asked_and_nobody_else_waits() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 4, history: 10, sources: SourceMix::GraphOnly, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, ..Setup::default() }).await?;
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;

    let tenants = world.cloud.tenants();
    // A date has whole seconds, so up to one of them is cut off.
    let forms = [(RetryAfter::Seconds(20), 20.0), (RetryAfter::HttpDate(20), 19.0), (RetryAfter::Decimal(19.128), 19.128)];
    let (throttled, healthy) = tenants.split_at(forms.len());
    world.cloud.clear_journal();
    for (tenant, (retry_after, _)) in throttled.iter().zip(&forms) {
        let effect = Effect::Throttle { status: 429, retry_after: retry_after.clone() };
        world.cloud.script(Rule::new(effect).tenant(tenant.directory_id).endpoint(Endpoint::Graph).times(1));
    }
    eventually("each of them is throttled once", SOON, async || {
        let refused = world.cloud.journal().iter().filter(|entry| entry.status == 429).count();
        if refused == throttled.len() { Ok(()) } else { Err(refused) }
    })
    .await?;
    for tenant in &tenants {
        world.cloud.publish_new(tenant.directory_id, 2)?;
    }
    arrives(&world, &healthy[0], 12, Duration::from_secs(15)).await?;
    eventually("the dashboard shows who is throttled", Duration::from_secs(15), async || {
        let sql = "select count(*) from dash.feed_health where throttled_until > now()";
        let shown: i64 = sqlx::query_scalar(sql)
            .fetch_one(&world.pool().await.map_err(|error| error.to_string())?)
            .await
            .map_err(|error| error.to_string())?;
        if shown == 3 { Ok(()) } else { Err(shown.to_string()) }
    })
    .await?;

    world.settled(SOON).await?;
    let journal = world.cloud.journal();
    for (tenant, (form, seconds)) in throttled.iter().zip(&forms) {
        let asked: Vec<&JournalEntry> =
            journal.iter().filter(|entry| entry.tenant == Some(tenant.directory_id) && entry.endpoint == Endpoint::Graph).collect();
        let refused = asked.iter().position(|entry| entry.status == 429).context("never throttled")?;
        let next = asked.get(refused + 1).context("never asked again")?;
        let left_alone = seconds_between(&asked[refused].at, &next.at)?;
        assert!(left_alone >= *seconds, "{form:?}: asked again after {left_alone} s");
        assert!(left_alone <= seconds + 15.0, "{form:?}: forgotten for {left_alone} s");
    }
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn an_outage_of_the_sign_in_service_leaves_every_customer_as_it_is() -> anyhow::Result<()> {
    let access_lifetime = (Duration::from_secs(3), Duration::from_secs(5));
    let cloud = Settings { tenants: 4, history: 10, access_lifetime, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, ..Setup::default() }).await?;
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    let before = states(&world).await?;
    assert!(before.iter().all(|state| state == "active"), "{before:?}");

    for (tenant, outage) in
        world.cloud.tenants().iter().zip([Outage::Unavailable, Outage::InternalError, Outage::Reset, Outage::Unavailable])
    {
        world.cloud.script(Rule::new(Effect::Outage(outage)).tenant(tenant.directory_id).endpoint(Endpoint::Token));
        world.cloud.publish_new(tenant.directory_id, 2)?;
    }
    world.cloud.clear_journal();
    eventually("each tenant has been refused several times", SOON, async || {
        let journal = world.cloud.journal();
        let refused = |tenant: &SimTenant| {
            journal.iter().filter(|entry| entry.tenant == Some(tenant.directory_id) && entry.endpoint == Endpoint::Token).count()
        };
        let counts: Vec<_> = world.cloud.tenants().iter().map(refused).collect();
        if counts.iter().all(|count| *count >= 4) { Ok(()) } else { Err(counts) }
    })
    .await?;
    assert_eq!(states(&world).await?, before);

    world.cloud.clear_script();
    world.settled(LONG).await?;
    assert_eq!(states(&world).await?, before);
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn stops_under_load_end_in_time_and_lose_nothing() -> anyhow::Result<()> {
    // Nothing changes here: what changes while nobody looks cannot be had any more by anybody.
    let cloud = Settings { tenants: 4, history: 500, rate: 150.0, updates: 0.0, sources: SourceMix::Mixed, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }).await?;
    for life in 0..6 {
        let before = stored(&world).await?;
        let mut daemon = world.serve()?;
        grown(&world, &daemon, before + 40 * life).await?;
        daemon.terminate().await?;
        let log = daemon.log()?;
        assert!(!log.contains("panicked"), "{}", daemon.last_words());
    }
    world.cloud.set_rate(0.0);
    let mut daemon = world.serve()?;
    let tally = world.settled(LONG).await?;
    assert!(tally.published > 2000, "{tally}");
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_stop_while_microsoft_hangs_ends_in_time() -> anyhow::Result<()> {
    let world = World::with_tenants(Setup::default()).await?;
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    world.cloud.script(Rule::new(Effect::Hang));
    hangs(&world, Endpoint::Graph).await?;
    daemon.terminate().await?;

    world.cloud.clear_script();
    let mut daemon = world.serve()?;
    world.cloud.publish_new(world.cloud.tenants()[0].directory_id, 2)?;
    world.settled(SOON).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_second_ctrl_c_ends_at_once() -> anyhow::Result<()> {
    let world = World::with_tenants(Setup::default()).await?;
    // A redemption in flight is worth waiting for: its answer may hold the only token that works.
    world.cloud.script(Rule::new(Effect::Hang).endpoint(Endpoint::Token));
    let mut daemon = world.serve()?;
    hangs(&world, Endpoint::Token).await?;
    daemon.signal(Signal::INT)?;
    eventually("the daemon says that it stops", SOON, async || {
        let log = daemon.log().map_err(|error| error.to_string())?;
        if log.contains("once more ends at once") { Ok(()) } else { Err(daemon.last_words()) }
    })
    .await?;
    let begun = Instant::now();
    daemon.signal(Signal::INT)?;
    let status = daemon.ended(Duration::from_secs(5)).await?;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(status.code(), Some(0));
    assert!(daemon.log()?.contains("ending at once"), "the first Ctrl-C had ended it already:\n{}", daemon.last_words());

    world.cloud.clear_script();
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    daemon.terminate().await?;
    world.end().await
}

/// Waits until the daemon does its job.
async fn ready(daemon: &Daemon) -> anyhow::Result<()> {
    eventually("/readyz is 200", SOON, async || match daemon.ops("/readyz").await {
        Ok((200, _)) => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await
}

/// Waits until no alerts were asked for during `span`.
async fn quiet(world: &World, span: Duration) -> anyhow::Result<()> {
    let last = Cell::new((0, Instant::now()));
    eventually("nobody asks for alerts", SOON, async || {
        let totals = world.cloud.journal_totals();
        let asked: u64 = totals.iter().filter(|((endpoint, _), _)| *endpoint != Endpoint::Token).map(|(_, count)| count).sum();
        if asked != last.get().0 {
            last.set((asked, Instant::now()));
        }
        if last.get().1.elapsed() >= span { Ok(()) } else { Err(asked) }
    })
    .await
}

fn seconds_between(earlier: &str, later: &str) -> anyhow::Result<f64> {
    let ticks = |text| Stamp::parse(text).map(Stamp::ticks).context("the journal's time cannot be read");
    #[expect(clippy::cast_precision_loss, reason = "some seconds are far from 2^52 ticks")]
    Ok((ticks(later)? - ticks(earlier)?) as f64 / 1e7)
}

/// Waits until some request to this endpoint is left without an answer.
async fn hangs(world: &World, endpoint: Endpoint) -> anyhow::Result<()> {
    eventually("a request hangs", SOON, async || {
        let journal = world.cloud.journal();
        if journal.iter().any(|entry| entry.endpoint == endpoint && entry.status == 0) { Ok(()) } else { Err(journal.len()) }
    })
    .await
}

/// Waits until this tenant has so many alerts.
async fn arrives(world: &World, tenant: &SimTenant, alerts: i64, limit: Duration) -> anyhow::Result<()> {
    let sql = "select count(*) from dash.alert where directory_id = $1";
    eventually(&format!("{} has {alerts} alerts", tenant.name), limit, async || {
        let pool = world.pool().await.map_err(|error| error.to_string())?;
        let count: i64 = sqlx::query_scalar(sql).bind(tenant.directory_id).fetch_one(&pool).await.map_err(|error| error.to_string())?;
        if count >= alerts { Ok(()) } else { Err(count.to_string()) }
    })
    .await
}

async fn states(world: &World) -> anyhow::Result<Vec<String>> {
    Ok(sqlx::query_scalar("select state from dash.tenant_health order by directory_id").fetch_all(&world.pool().await?).await?)
}

/// Waits until more than `before` versions are stored.
async fn grown(world: &World, daemon: &Daemon, before: i64) -> anyhow::Result<()> {
    eventually("more is stored than before", SOON, async || match stored(world).await {
        Ok(now) if now > before => Ok(()),
        seen => Err(format!("{seen:?}, where {before} were before; the daemon's last words:\n{}", daemon.last_words())),
    })
    .await
}

async fn stored(world: &World) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from dash.alert_version").fetch_one(&world.pool().await?).await?)
}
