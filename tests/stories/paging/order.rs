//! Sources that sort, do not sort, or cut pages short; and equal stamps.

use e2e::harness::eventually;
use simulator::{Effect, Endpoint, NextLink, OrderBy, Rule, Settings};

use super::{LINKS, ORDERS, SOON, no_gap, publish, settled, source, stored, update, world};

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
        let tally = settled(&world, &told).await?;
        assert_eq!((tally.published, tally.stored), (2520, 2520), "{told}");
        // And it stays so, and goes on, also after a restart.
        daemon.terminate().await?;
        let mut daemon = world.serve()?;
        update(&world, "a00001", "changed once more")?;
        publish(&world, "c", 150, 1, &[(10, 59)])?;
        let tally = settled(&world, &told).await?;
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
        settled(&world, &told).await?;
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
            settled(&world, &told).await?;
            publish(&world, "b", 120, 1, &[])?;
            settled(&world, &told).await?;
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
            settled(&world, &told).await?;
            update(&world, "a00005", "changed")?;
            publish(&world, "b", 250, 1, &[])?;
            settled(&world, &told).await?;
            no_gap(&world).await?;
            daemon.terminate().await?;
            world.end().await?;
        }
    }
    Ok(())
}
