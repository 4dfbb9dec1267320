//! Reading page by page from a source that may sort or not, link or not, cut answers short, or lie: nothing is lost,
//! nothing is stored twice, and what cannot be had is named.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use e2e::harness::{Setup, Tally, World, eventually};
use simulator::{Effect, Endpoint, NextLink, OrderBy, Poison, Rule, Settings, Source, SourceMix, Stamp, Truncate};
use tokio::io::AsyncReadExt;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(60);
const ORDERS: [OrderBy; 3] = [OrderBy::Accepted, OrderBy::Ignored, OrderBy::Refused];
const LINKS: [NextLink; 4] = [NextLink::SkipToken, NextLink::CountingSkipToken, NextLink::Skip, NextLink::Absent];

/// A source with one customer and nothing in it yet.
fn source(order_by: OrderBy, next_link: NextLink) -> Settings {
    Settings { tenants: 1, sources: SourceMix::GraphOnly, order_by, next_link, ..Settings::default() }
}

/// A world in which small pages are read as fast as they come.
async fn world(cloud: Settings, page_size: usize) -> anyhow::Result<World> {
    let config = format!(
        "[poll]\ninterval = \"1s\"\npage_size = {page_size}\n[budget]\ngraph_per_minute = 60000\ndefender_per_minute = 60000\ndefender_per_hour = 1000000"
    );
    World::with_tenants(Setup { cloud, config, ..Setup::default() }).await
}

fn customer(world: &World) -> Uuid {
    world.cloud.tenants()[0].directory_id
}

/// The seconds before now, as a stamp.
fn ago(world: &World, seconds: u64) -> Stamp {
    world.cloud.now().minus(Duration::from_secs(seconds))
}

/// A small alert as Graph would show it.
fn alert(id: &str, updated: Stamp, title: &str) -> String {
    format!(
        r#"{{"id":"{id}","title":"{title}","severity":"low","status":"new","serviceSource":"microsoftDefenderForEndpoint","createdDateTime":"{updated}","lastUpdateDateTime":"{updated}","evidence":[]}}"#
    )
}

/// The same as Defender for Endpoint would show it.
fn endpoint_alert(id: &str, updated: Stamp, title: &str) -> String {
    format!(
        r#"{{"id":"{id}","title":"{title}","severity":"Low","status":"New","alertCreationTime":"{updated}","lastUpdateTime":"{updated}","evidence":[]}}"#
    )
}

/// Publishes so many alerts, a second apart, the youngest so many seconds old; those in a tie (first, last) have equal stamps.
fn publish(world: &World, prefix: &str, count: usize, youngest: u64, ties: &[(usize, usize)]) -> anyhow::Result<()> {
    // One look at the clock for all of them: a tie must not fall apart over the border of a second.
    let now = ago(world, youngest).unix_seconds();
    for number in 0..count {
        let place = ties.iter().find(|tie| (tie.0..=tie.1).contains(&number)).map_or(number, |tie| tie.0);
        let updated = Stamp::from_unix_seconds(now - i64::try_from(count - place)?);
        world.cloud.publish_raw(customer(world), Source::GraphAlerts, alert(&format!("{prefix}{number:05}"), updated, "first"))?;
    }
    Ok(())
}

/// Changes one of the alerts published so: the change has the stamp of now.
fn update(world: &World, id: &str, title: &str) -> anyhow::Result<()> {
    world.cloud.publish_raw(customer(world), Source::GraphAlerts, alert(id, world.cloud.now(), title))
}

/// Waits until at least so many alerts are stored.
async fn stored(world: &World, least: i64) -> anyhow::Result<()> {
    eventually(&format!("{least} alerts are stored"), SOON, async || {
        let count = world.count("select from dash.alert").await.map_err(|error| error.to_string())?;
        if count >= least { Ok(()) } else { Err(count.to_string()) }
    })
    .await
}

async fn no_gap(world: &World) -> anyhow::Result<()> {
    let gaps: Vec<String> = sqlx::query_scalar("select reason from dash.gap").fetch_all(&world.pool().await?).await?;
    ensure!(gaps.is_empty(), "{gaps:?}");
    Ok(())
}

/// 2,500 alerts with ties across the borders of pages, changes while they are being read, and more afterwards.
async fn everything_is_read(order_by: OrderBy) -> anyhow::Result<()> {
    for next_link in LINKS {
        let told = format!("{order_by:?}, {next_link:?}");
        let world = world(source(order_by, next_link), 100).await?;
        // Whatever the pages look like, one of these lies across a border.
        publish(&world, "a", 2500, 3600, &[(80, 119), (1333, 1372), (2480, 2499)])?;
        let mut daemon = world.serve()?;
        // While it reads, alerts that it has seen and alerts that it has not move to the end.
        for step in 1..=4_usize {
            stored(&world, i64::try_from(step * 300)?).await?;
            for number in [step, 100 + step, 1340 + step, 2485 + step] {
                update(&world, &format!("a{number:05}"), &format!("changed in step {step}"))?;
            }
            publish(&world, &format!("b{step}-"), 5, 0, &[])?;
        }
        let tally = world.settled(SOON).await.map_err(|error| error.context(told.clone()))?;
        assert_eq!((tally.published, tally.stored), (2520, 2520), "{told}");
        // And it stays so, and goes on, also after a restart.
        daemon.terminate().await?;
        let mut daemon = world.serve()?;
        update(&world, "a00001", "changed once more")?;
        publish(&world, "c", 150, 1, &[(10, 59)])?;
        let tally = world.settled(SOON).await.map_err(|error| error.context(told.clone()))?;
        assert_eq!(tally.stored, 2670, "{told}");
        no_gap(&world).await?;
        let states = world.count("select from dash.tenant_health where state = 'active' and reason is null").await?;
        assert_eq!(states, 1, "{told}: no trouble is made of it");
        daemon.terminate().await?;
        world.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_source_that_sorts_is_read_whole_with_every_kind_of_link() -> anyhow::Result<()> {
    everything_is_read(OrderBy::Accepted).await
}

#[tokio::test]
async fn a_source_that_answers_newest_first_all_the_same_is_read_whole_with_every_kind_of_link() -> anyhow::Result<()> {
    everything_is_read(OrderBy::Ignored).await
}

#[tokio::test]
async fn a_source_that_refuses_to_sort_is_read_whole_with_every_kind_of_link() -> anyhow::Result<()> {
    everything_is_read(OrderBy::Refused).await
}

#[tokio::test]
async fn more_equal_stamps_than_a_page_holds_are_read_all_the_same() -> anyhow::Result<()> {
    for (order_by, next_link) in [
        (OrderBy::Accepted, NextLink::SkipToken),
        (OrderBy::Accepted, NextLink::Absent),
        (OrderBy::Ignored, NextLink::CountingSkipToken),
        (OrderBy::Ignored, NextLink::Absent),
        (OrderBy::Refused, NextLink::Skip),
        (OrderBy::Refused, NextLink::Absent),
    ] {
        let told = format!("{order_by:?}, {next_link:?}");
        let world = world(source(order_by, next_link), 100).await?;
        publish(&world, "a", 600, 3600, &[(100, 499)])?;
        let mut daemon = world.serve()?;
        // While they are read, some of them move away, and those behind them move up.
        stored(&world, 150).await?;
        for number in [101, 250, 300, 499] {
            update(&world, &format!("a{number:05}"), "moves away from its ties")?;
        }
        world.settled(SOON).await.map_err(|error| error.context(told.clone()))?;
        no_gap(&world).await?;
        daemon.terminate().await?;
        world.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn equal_stamps_beyond_all_reach_become_a_named_gap_and_nothing_after_them_is_lost() -> anyhow::Result<()> {
    for order_by in ORDERS {
        let told = format!("{order_by:?}");
        // $skip ends at 500 and there are no links: of 900 equal ones, 600 can be had.
        let world = world(source(order_by, NextLink::Absent), 100).await?;
        publish(&world, "a", 1000, 3600, &[(50, 949)])?;
        let mut daemon = world.serve()?;
        let gap = eventually("the gap is named", SOON, async || {
            let gaps: Vec<String> = sqlx::query_scalar("select reason from dash.gap where source = 'graph-alerts' and healed_at is null")
                .fetch_all(&world.pool().await.map_err(|error| error.to_string())?)
                .await
                .map_err(|error| error.to_string())?;
            if gaps.is_empty() { Err("no gap".to_owned()) } else { Ok(gaps) }
        })
        .await?;
        assert!(gap.iter().all(|reason| !reason.is_empty()), "{told}: {gap:?}");
        publish(&world, "b", 20, 1, &[])?;
        let around = "select from dash.alert where alert_id < 'a00050' or alert_id >= 'a00950'";
        eventually(&told, SOON, async || {
            let count = world.count(around).await.map_err(|error| error.to_string())?;
            if count == 120 { Ok(()) } else { Err(format!("{count} of 120 around the gap")) }
        })
        .await?;
        let tally = world.tally().await?;
        assert!(tally.stored >= 700 && tally.duplicated.is_empty() && tally.unknown.is_empty(), "{told}: {tally}");
        assert!(daemon.metric("tocsin_gap_total", "graph-alerts").await? >= 1.0, "{told}: somebody is told");
        assert!(daemon.log()?.contains("\"ERROR\""), "{told}: and loudly");
        daemon.terminate().await?;
        world.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_page_that_is_cut_shorter_than_asked_for_without_a_word_loses_nothing() -> anyhow::Result<()> {
    for order_by in ORDERS {
        for (told, effect) in [("clamped", Effect::Clamp { top: 37 }), ("ignored", Effect::IgnoreTop)] {
            let told = format!("{order_by:?}, $top {told}");
            let world = world(Settings { default_page: 41, ..source(order_by, NextLink::Absent) }, 200).await?;
            world.cloud.script(Rule::new(effect).endpoint(Endpoint::Graph));
            publish(&world, "a", 700, 3600, &[(100, 179)])?;
            let mut daemon = world.serve()?;
            world.settled(SOON).await.map_err(|error| error.context(told.clone()))?;
            publish(&world, "b", 120, 1, &[])?;
            world.settled(SOON).await.map_err(|error| error.context(told.clone()))?;
            no_gap(&world).await?;
            daemon.terminate().await?;
            world.end().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_page_asked_for_larger_than_the_api_has_them_loses_nothing() -> anyhow::Result<()> {
    // The API lowers 2,000 to 1,000 without a word, and no link says that there is more.
    let world = world(source(OrderBy::Accepted, NextLink::Absent), 2000).await?;
    publish(&world, "a", 2300, 3600, &[(990, 1010)])?;
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    no_gap(&world).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn a_source_that_shuffles_its_pages_from_the_start_or_later_on_loses_nothing() -> anyhow::Result<()> {
    for next_link in [NextLink::SkipToken, NextLink::Absent] {
        for from_the_start in [true, false] {
            let told = format!("{next_link:?}, from the start: {from_the_start}");
            let world = world(source(OrderBy::Accepted, next_link), 100).await?;
            let shuffle = Rule::new(Effect::Reorder).endpoint(Endpoint::Graph);
            publish(&world, "a", 700, 3600, &[(90, 110)])?;
            world.cloud.script(if from_the_start { shuffle } else { shuffle.after(4) });
            let mut daemon = world.serve()?;
            world.settled(SOON).await.map_err(|error| error.context(told.clone()))?;
            update(&world, "a00005", "changed")?;
            publish(&world, "b", 250, 1, &[])?;
            world.settled(SOON).await.map_err(|error| error.context(told.clone()))?;
            no_gap(&world).await?;
            daemon.terminate().await?;
            world.end().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_link_that_leads_back_to_its_own_page_is_no_trap() -> anyhow::Result<()> {
    for order_by in ORDERS {
        let told = format!("{order_by:?}");
        let world = world(source(order_by, NextLink::SkipToken), 100).await?;
        world.cloud.script(Rule::new(Effect::LoopingNextLink).endpoint(Endpoint::Graph));
        publish(&world, "a", 700, 3600, &[(100, 449)])?;
        let mut daemon = world.serve()?;
        world.settled(SOON).await.map_err(|error| error.context(told.clone()))?;
        publish(&world, "b", 10, 1, &[])?;
        world.settled(SOON).await.map_err(|error| error.context(told.clone()))?;
        // Being led in circles costs a few calls, not thousands.
        let calls = world.cloud.journal_totals().get(&(Endpoint::Graph, 200)).copied().unwrap_or(0);
        assert!(calls < 600, "{told}: {calls} calls");
        daemon.terminate().await?;
        world.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_link_to_another_host_is_never_followed_and_nothing_is_lost() -> anyhow::Result<()> {
    // Whoever listens here would get the bearer token.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let elsewhere = listener.local_addr()?;
    let visits = Arc::new(AtomicUsize::new(0));
    let seen = visits.clone();
    let watch = tokio::spawn(async move {
        while let Ok((mut visitor, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::Relaxed);
            let _ = visitor.read(&mut [0; 1024]).await;
        }
    });
    for (order_by, url) in [
        (OrderBy::Accepted, format!("http://{elsewhere}/v1.0/security/alerts_v2?$skiptoken=x")),
        (OrderBy::Ignored, format!("http://localhost:{}/v1.0/security/alerts_v2?$skiptoken=x", elsewhere.port())),
        (OrderBy::Refused, format!("http://127.0.0.1@{elsewhere}/v1.0/security/alerts_v2?$skiptoken=x")),
    ] {
        let told = format!("{order_by:?}, {url}");
        let cloud = Settings { sources: SourceMix::Both, ..source(order_by, NextLink::SkipToken) };
        let world = world(cloud, 100).await?;
        world.cloud.script(Rule::new(Effect::ForeignNextLink { url: url.clone() }));
        publish(&world, "a", 700, 3600, &[(100, 449)])?;
        for number in 0..250 {
            let record = endpoint_alert(&format!("e{number:05}"), ago(&world, 5000 - number), "at the endpoint");
            world.cloud.publish_raw(customer(&world), Source::MdeAlerts, record)?;
        }
        let mut daemon = world.serve()?;
        world.settled(SOON).await.map_err(|error| error.context(told.clone()))?;
        publish(&world, "b", 10, 1, &[])?;
        world.settled(SOON).await.map_err(|error| error.context(told.clone()))?;
        no_gap(&world).await?;
        daemon.terminate().await?;
        assert_eq!(visits.load(Ordering::Relaxed), 0, "{told}: somebody else was visited");
        world.end().await?;
    }
    // The listener does listen.
    drop(tokio::net::TcpStream::connect(elsewhere).await?);
    eventually("the listener sees a visitor", SOON, async || if visits.load(Ordering::Relaxed) == 1 { Ok(()) } else { Err("nobody") })
        .await?;
    watch.abort();
    Ok(())
}

#[tokio::test]
async fn alerts_that_become_visible_late_out_of_order_or_with_the_stamp_of_another_are_stored() -> anyhow::Result<()> {
    for order_by in [OrderBy::Accepted, OrderBy::Refused] {
        let told = format!("{order_by:?}");
        let world = world(Settings { history: 30, ..source(order_by, NextLink::SkipToken) }, 100).await?;
        let tenant = customer(&world);
        let mut daemon = world.serve()?;
        world.settled(SOON).await?;
        world.cloud.publish_new(tenant, 5)?;
        world.settled(SOON).await?;
        // Up to a quarter of an hour late, in any order, one with exactly the stamp of another, one a tick younger.
        let newest = ago(&world, 2);
        world.cloud.publish_at(tenant, newest)?;
        world.settled(SOON).await?;
        for seconds in [860, 30, 600, 5, 301] {
            world.cloud.publish_at(tenant, ago(&world, seconds))?;
        }
        world.cloud.publish_at(tenant, newest)?;
        world.cloud.publish_at(tenant, Stamp::from_ticks(newest.ticks() - 1))?;
        world.cloud.script(Rule::new(Effect::Late { seconds: 700 }).tenant(tenant).times(3));
        world.cloud.publish_new(tenant, 3)?;
        // A change that keeps its stamp is a change, and the latest one.
        let same = ago(&world, 100);
        for title in ["first", "second", "third"] {
            world.cloud.publish_raw(tenant, Source::GraphAlerts, alert("same-stamp", same, title))?;
            world.settled(SOON).await.map_err(|error| error.context(told.clone()))?;
        }
        // A change that goes back in time is a change.
        let id = world.cloud.publish_new(tenant, 1)?.remove(0);
        world.settled(SOON).await?;
        world.cloud.publish_update_at(tenant, &id, ago(&world, 400))?;
        eventually(&told, SOON, async || {
            let tally = world.tally().await.map_err(|error| error.to_string())?;
            // Which of two versions is the latest state may be argued; that both are stored may not.
            let fine = tally.lost.is_empty() && tally.duplicated.is_empty() && tally.unknown.is_empty() && tally.published == tally.stored;
            if fine { Ok(()) } else { Err(tally.to_string()) }
        })
        .await?;
        daemon.terminate().await?;
        world.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_alert_of_the_year_9999_and_those_without_a_readable_stamp_blind_nobody() -> anyhow::Result<()> {
    for order_by in ORDERS {
        let told = format!("{order_by:?}");
        let world = world(Settings { history: 250, sources: SourceMix::Both, ..source(order_by, NextLink::Absent) }, 100).await?;
        let tenant = customer(&world);
        for source in [Source::GraphAlerts, Source::MdeAlerts] {
            world.cloud.publish_poison(tenant, source, Poison::FarFuture, "far-1")?;
            world.cloud.publish_poison(tenant, source, Poison::EmptyStamp, "empty-1")?;
            world.cloud.publish_poison(tenant, source, Poison::NonsenseStamp, "nonsense-1")?;
        }
        let mut daemon = world.serve()?;
        world.settled(SOON).await.map_err(|error| error.context(told.clone()))?;
        for life in 0..2 {
            if life == 1 {
                daemon.terminate().await?;
                daemon = world.serve()?;
            }
            // A clock that goes ten minutes fast stamps one of them.
            world.cloud.publish_at(tenant, world.cloud.now().plus(Duration::from_secs(600)))?;
            world.settled(SOON).await.map_err(|error| error.context(told.clone()))?;
            world.cloud.publish_new(tenant, 3)?;
            world.cloud.publish_update(tenant)?;
            for source in [Source::GraphAlerts, Source::MdeAlerts] {
                world.cloud.publish_poison(tenant, source, Poison::FarFuture, &format!("far-2-{life}"))?;
                world.cloud.publish_poison(tenant, source, Poison::EmptyStamp, &format!("empty-2-{life}"))?;
            }
            world.settled(SOON).await.map_err(|error| error.context(told.clone()))?;
        }
        let texts: Vec<Option<String>> = sqlx::query_scalar("select last_update_text from dash.alert_version where alert_id = 'empty-1'")
            .fetch_all(&world.pool().await?)
            .await?;
        assert_eq!(texts, [Some(String::new()), Some(String::new())], "exactly as received");
        let ahead = world.count("select from dash.feed_health where watermark > now() + interval '5 minutes'").await?;
        assert_eq!(ahead, 0, "{told}: the watermark does not run ahead");
        daemon.terminate().await?;
        world.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn ids_are_compared_letter_by_letter_and_stored_as_they_are() -> anyhow::Result<()> {
    let world = world(Settings { sources: SourceMix::Both, ..source(OrderBy::Accepted, NextLink::SkipToken) }, 100).await?;
    let tenant = customer(&world);
    // Case, the four Turkish i, composed and decomposed letters, blanks, and what could be taken for a pattern.
    let ids = [
        "daABC_1",
        "DAabc_1",
        "daabc_1",
        "da ı",
        "da i",
        "da I",
        "da İ",
        "caf\u{e9}",
        "cafe\u{301}",
        " lead",
        "trail ",
        "100%",
        "a_b",
        "a'b",
        "a\\\\b",
        "a\\\"b",
        "\u{1f514}",
    ];
    for (number, id) in ids.iter().enumerate() {
        let at = ago(&world, 1000 - u64::try_from(number)?);
        world.cloud.publish_raw(tenant, Source::GraphAlerts, alert(id, at, "a"))?;
        world.cloud.publish_raw(tenant, Source::MdeAlerts, endpoint_alert(id, at, "a"))?;
    }
    let mut daemon = world.serve()?;
    let tally = world.settled(SOON).await?;
    assert_eq!((tally.stored, tally.versions_stored), (ids.len(), ids.len() * 2));
    let published: Vec<String> = world.cloud.ledger().alert_ids(tenant).into_iter().collect();
    let kept: Vec<String> =
        sqlx::query_scalar("select alert_id from dash.alert order by alert_id collate \"C\"").fetch_all(&world.pool().await?).await?;
    assert_eq!(kept, published);
    daemon.terminate().await?;
    world.end().await
}

/// What each kind of poison is to come to: a reason in quarantine, or a stored alert.
const KINDS: [(Poison, Option<&str>); 9] = [
    (Poison::NulEscape, None),
    (Poison::LoneSurrogate, None),
    (Poison::FarFuture, None),
    (Poison::EmptyStamp, None),
    (Poison::NonsenseStamp, None),
    (Poison::InvalidUtf8, Some("UTF-8")),
    (Poison::Deep, Some("deep")),
    (Poison::MissingId, Some("no id")),
    (Poison::NotAnObject, Some("object")),
];

#[tokio::test]
async fn a_record_that_cannot_be_understood_is_kept_raw_and_stands_in_nobodys_way() -> anyhow::Result<()> {
    for order_by in ORDERS {
        let told = format!("{order_by:?}");
        let world = world(Settings { history: 60, sources: SourceMix::Both, ..source(order_by, NextLink::SkipToken) }, 50).await?;
        let tenant = customer(&world);
        for source in [Source::GraphAlerts, Source::MdeAlerts] {
            for (number, (kind, _)) in KINDS.iter().enumerate() {
                world.cloud.publish_poison(tenant, source, *kind, &format!("poison-{number}"))?;
            }
        }
        world.cloud.publish_new(tenant, 30)?;
        // Every byte that is to be somewhere, and where.
        let expected: BTreeMap<(&str, String), bool> = world
            .cloud
            .ledger()
            .rows(tenant)
            .into_iter()
            .map(|row| {
                let kind = row.alert_id.as_deref().and_then(|id| id.strip_prefix("poison-")?.parse::<usize>().ok());
                let is_alert = row.alert_id.is_some() && kind.is_none_or(|kind| KINDS[kind].1.is_none());
                ((row.source.name(), row.sha256()), is_alert)
            })
            .collect();
        let mut daemon = world.serve()?;
        let found = async || {
            let sql = "select source, encode(sha256(convert_to(raw::text, 'UTF8')), 'hex'), true from dash.alert_version
                       union all select source, encode(sha256(raw_bytes), 'hex'), false from dash.quarantine";
            let rows: Vec<(String, String, bool)> = sqlx::query_as(sql).fetch_all(&world.pool().await?).await?;
            anyhow::Ok(rows)
        };
        eventually(&told, SOON, async || {
            let rows = found().await.map_err(|error| error.to_string())?;
            let is_there = |place: &(&str, String), is_alert: bool| {
                rows.iter().any(|(source, hash, alert)| (source.as_str(), hash) == (place.0, &place.1) && *alert == is_alert)
            };
            let missing = expected.iter().filter(|(place, is_alert)| !is_there(place, **is_alert)).count();
            if missing == 0 && rows.len() == expected.len() {
                Ok(())
            } else {
                Err(format!("{missing} missing of {}, {} there", expected.len(), rows.len()))
            }
        })
        .await?;
        for (kind, reason) in KINDS {
            if let Some(reason) = reason {
                let like = format!("select from dash.quarantine where reason like '%{reason}%'");
                assert_eq!(world.count(&like).await?, 2, "{told}: {kind:?}, once per source, however often it was read");
            }
        }
        assert_eq!(daemon.metric("tocsin_quarantined_total", "").await?, 8.0, "{told}: counted once each");
        let counted: i64 =
            sqlx::query_scalar("select sum(quarantined)::bigint from dash.feed_health").fetch_one(&world.pool().await?).await?;
        assert_eq!(counted, 8, "{told}");
        // Everything can be read back, the odd ones too.
        let titles = world.count("select raw ->> 'id' from dash.alert where raw is not null").await?;
        assert_eq!(titles, world.count("select from dash.alert").await?);
        // The feed goes on.
        world.cloud.publish_new(tenant, 3)?;
        world.cloud.publish_update(tenant)?;
        eventually("the feed goes on", SOON, async || {
            let tally: Tally = world.tally().await.map_err(|error| error.to_string())?;
            // The tally knows of no quarantine for records that have an id; those are compared above.
            let poison =
                2 * KINDS.iter().filter(|(kind, reason)| reason.is_some() && matches!(kind, Poison::InvalidUtf8 | Poison::Deep)).count();
            if tally.lost.len() <= poison && tally.poison_lost == 0 && tally.duplicated.is_empty() && tally.unknown.is_empty() {
                Ok(())
            } else {
                Err(format!("{tally} {:?}", tally.lost))
            }
        })
        .await?;
        daemon.terminate().await?;
        world.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn poison_that_is_on_a_page_only_once_is_kept_and_its_neighbours_are_stored() -> anyhow::Result<()> {
    let world = world(Settings { history: 300, sources: SourceMix::Both, ..source(OrderBy::Accepted, NextLink::SkipToken) }, 40).await?;
    for (kind, _) in KINDS {
        world.cloud.script(Rule::new(Effect::PoisonRecord { kind }).times(2));
    }
    world.cloud.script(Rule::new(Effect::DuplicateRecord).after(18).times(2));
    world.cloud.script(Rule::new(Effect::Reorder).after(20).times(2));
    let mut daemon = world.serve()?;
    eventually("everything else is stored", SOON, async || {
        let tally = world.tally().await.map_err(|error| error.to_string())?;
        // What was on a page for once is not in the ledger, so the tally calls the stored ones unknown.
        if tally.lost.is_empty() && tally.stale.len() <= 10 && tally.duplicated.is_empty() && tally.unknown.len() == 10 {
            Ok(())
        } else {
            Err(format!("{tally}"))
        }
    })
    .await?;
    let reasons: Vec<String> = sqlx::query_scalar("select reason from dash.quarantine").fetch_all(&world.pool().await?).await?;
    for reason in KINDS.iter().filter_map(|(_, reason)| *reason) {
        assert!(reasons.iter().any(|other| other.contains(reason)), "{reason}: {reasons:?}");
    }
    world.cloud.clear_script();
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn half_a_page_or_a_page_of_something_else_is_asked_for_again() -> anyhow::Result<()> {
    for order_by in [OrderBy::Accepted] {
        let told = format!("{order_by:?}");
        let world = world(Settings { history: 300, sources: SourceMix::Both, ..source(order_by, NextLink::SkipToken) }, 60).await?;
        let mut daemon = world.serve()?;
        for (name, effect) in [
            ("short_body", Effect::Truncate(Truncate::ShortBody)),
            ("cut_json", Effect::Truncate(Truncate::CutJson)),
            ("200", Effect::Html { status: 200 }),
            ("502", Effect::Html { status: 502 }),
        ] {
            world.cloud.script(Rule::new(effect.clone()).endpoint(Endpoint::Graph).times(1));
            world.cloud.script(Rule::new(effect).endpoint(Endpoint::Defender).times(1));
            world.cloud.publish_new(customer(&world), 70)?;
            eventually(&format!("{told}: these faults are met: {name}"), SOON, async || {
                let met = world.cloud.journal().iter().filter(|entry| entry.effects.iter().any(|effect| effect.contains(name))).count();
                if met == 2 { Ok(()) } else { Err(met) }
            })
            .await?;
            world.settled(SOON).await.map_err(|error| error.context(told.clone()))?;
        }
        assert_eq!(world.health(customer(&world)).await?.state, "active", "{told}: a passing fault is nobody's affair");
        daemon.terminate().await?;
        world.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_endpoint_source_with_more_alerts_than_a_page_holds_is_read_whole() -> anyhow::Result<()> {
    let cloud = Settings { sources: SourceMix::Both, defender_max_top: 100, ..source(OrderBy::Accepted, NextLink::SkipToken) };
    let world = world(cloud, 100).await?;
    let tenant = customer(&world);
    let start = ago(&world, 40_000).unix_seconds();
    let at = |number: i64| Stamp::from_unix_seconds(start + 30 * number);
    // Ties within a page and a tie of more than two pages.
    for number in 0..900_i64 {
        let place = match number {
            190..=210 => 190,
            500..=730 => 500,
            other => other,
        };
        world.cloud.publish_raw(tenant, Source::MdeAlerts, endpoint_alert(&format!("e{number:05}"), at(place), "first"))?;
    }
    let mut daemon = world.serve()?;
    stored(&world, 150).await?;
    for number in [3, 195, 600, 899] {
        world.cloud.publish_raw(tenant, Source::MdeAlerts, endpoint_alert(&format!("e{number:05}"), world.cloud.now(), "changed"))?;
    }
    let tally = world.settled(SOON).await?;
    assert_eq!(tally.stored, 900);
    for number in 0..130 {
        world.cloud.publish_raw(tenant, Source::MdeAlerts, endpoint_alert(&format!("f{number:05}"), world.cloud.now(), "new"))?;
    }
    let tally = world.settled(SOON).await?;
    assert_eq!(tally.stored, 1030);
    no_gap(&world).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn the_same_alert_through_both_sources_is_one_alert_with_all_its_versions() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 2, history: 80, sources: SourceMix::Both, ..Settings::default() };
    let world = world(cloud, 200).await?;
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    for tenant in world.cloud.tenants() {
        for _ in 0..5 {
            world.cloud.publish_update(tenant.directory_id)?;
        }
    }
    let tally = world.settled(SOON).await?;
    assert_eq!(tally.stored, 160);
    let twice = "select directory_id, alert_id from dash.alert_version group by 1, 2 having count(distinct source) = 2";
    let both = world.count(twice).await?;
    assert!(both > 20, "{both} alerts come through both");
    let once = "select directory_id, alert_id from dash.alert group by 1, 2 having count(*) <> 1";
    assert_eq!(world.count(once).await?, 0);
    let miscounted = "select a.alert_id from dash.alert a where a.version_count <> (select count(*) from dash.alert_version v where v.directory_id = a.directory_id and v.alert_id = a.alert_id)";
    assert_eq!(world.count(miscounted).await?, 0, "version_count counts all sources");
    // Whichever source delivered it, the words are Graph's.
    let words: Vec<(Option<String>, Option<String>)> =
        sqlx::query_as("select distinct severity, status from dash.alert").fetch_all(&world.pool().await?).await?;
    for (severity, status) in words {
        let (severity, status) = (severity.unwrap_or_default(), status.unwrap_or_default());
        assert!(["unknown", "informational", "low", "medium", "high"].contains(&severity.as_str()), "{severity}");
        assert!(["new", "inProgress", "resolved"].contains(&status.as_str()), "{status}");
    }
    let versions = "select from (select version, row_number() over (partition by directory_id, source, alert_id order by version) as place from dash.alert_version) as v where version <> place";
    assert_eq!(world.count(versions).await?, 0, "versions are numbered from 1 without a hole");
    daemon.terminate().await?;
    world.end().await
}
