//! Defender for Endpoint, and the same alert through two sources.

use simulator::{NextLink, OrderBy, Settings, Source, SourceMix, Stamp};

use super::{SOON, ago, customer, endpoint_alert, no_gap, source, stored, world};

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
