//! Stamps and ids that are odd, late or alike.

use std::time::Duration;

use e2e::harness::eventually;
use simulator::{Effect, NextLink, OrderBy, Poison, Rule, Settings, Source, SourceMix, Stamp};

use super::{ORDERS, SOON, ago, alert, customer, endpoint_alert, settled, source, world};

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
            settled(&world, &told).await?;
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
        settled(&world, &told).await?;
        for life in 0..2 {
            if life == 1 {
                daemon.terminate().await?;
                daemon = world.serve()?;
            }
            // A clock that goes ten minutes fast stamps one of them.
            world.cloud.publish_at(tenant, world.cloud.now().plus(Duration::from_secs(600)))?;
            settled(&world, &told).await?;
            world.cloud.publish_new(tenant, 3)?;
            world.cloud.publish_update(tenant)?;
            for source in [Source::GraphAlerts, Source::MdeAlerts] {
                world.cloud.publish_poison(tenant, source, Poison::FarFuture, &format!("far-2-{life}"))?;
                world.cloud.publish_poison(tenant, source, Poison::EmptyStamp, &format!("empty-2-{life}"))?;
            }
            settled(&world, &told).await?;
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
