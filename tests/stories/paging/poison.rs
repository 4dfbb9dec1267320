//! Records and pages that nobody can understand.

use std::collections::BTreeMap;

use e2e::harness::{Tally, eventually};
use simulator::{Effect, Endpoint, NextLink, OrderBy, Poison, Rule, Settings, Source, SourceMix, Truncate};

use super::{ORDERS, SOON, customer, settled, source, world};

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
            settled(&world, &told).await?;
        }
        assert_eq!(world.health(customer(&world)).await?.state, "active", "{told}: a passing fault is nobody's affair");
        daemon.terminate().await?;
        world.end().await?;
    }
    Ok(())
}
