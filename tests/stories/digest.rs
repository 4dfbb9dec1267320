//! What dashboards read: evidence and roll-ups follow what is stored, whatever happens to the daemon meanwhile.

use std::time::Duration;

use e2e::harness::{Changes, Setup, World, eventually};
use simulator::{Settings, SourceMix};

const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(120);
const SMALL_PAGES: &str = "[poll]\ninterval = \"1s\"\npage_size = 25\n\
                           [budget]\ngraph_per_minute = 100000\ndefender_per_minute = 100000\ndefender_per_hour = 1000000\n";

/// What is derived, and the same asked of the alerts themselves.
const RECOUNTS: &[(&str, &str)] = &[
    (
        "select directory_id, tenant, day, severity, status, service_source, alerts from dash.alert_day",
        "select directory_id, tenant, (created_at at time zone 'UTC')::date, severity, status, service_source, count(*) from dash.alert group by 1, 2, 3, 4, 5, 6",
    ),
    (
        "select hour, severity, alerts from dash.alert_hour",
        "select date_trunc('hour', created_at, 'UTC'), severity, count(*) from dash.alert group by 1, 2",
    ),
    (
        "select directory_id, day, technique, alerts from dash.technique_day",
        "select directory_id, (created_at at time zone 'UTC')::date, technique, count(*)
         from dash.alert, lateral (select distinct json_array_elements_text(raw -> 'mitreTechniques') as technique) t group by 1, 2, 3",
    ),
    (
        "select directory_id, day, title, severity, service_source, alerts, true_positives, false_positives, resolved from dash.detection_day",
        "select directory_id, (created_at at time zone 'UTC')::date, left(title, 300), severity, service_source, count(*),
             count(*) filter (where classification = 'truePositive'), count(*) filter (where classification = 'falsePositive'),
             count(*) filter (where status = 'resolved') from dash.alert group by 1, 2, 3, 4, 5",
    ),
    ("select directory_id, alert_id from dash.ocsf_finding", "select directory_id, alert_id from dash.alert"),
];

/// Things that the bodies name at the top of their evidence: each has to be found.
const NAMED: &[(&str, &str)] =
    &[("ip", "e ->> 'ipAddress'"), ("device", "e ->> 'deviceDnsName'"), ("url", "e ->> 'url'"), ("mailbox", "e ->> 'primaryAddress'")];

pub(crate) async fn assert_derived(world: &World) -> anyhow::Result<()> {
    for (derived, recount) in RECOUNTS {
        let differ = world.count(&format!("(({derived}) except all ({recount})) union all (({recount}) except all ({derived}))")).await?;
        anyhow::ensure!(differ == 0, "{differ} rows differ between {derived} and {recount}");
    }
    for (kind, member) in NAMED {
        let named = format!(
            "select distinct directory_id, alert_id, trim({member}) from dash.alert, json_array_elements(raw -> 'evidence') e
             where json_typeof(e) = 'object' and trim({member}) <> '' and left({member}, 1) <> '{{' and length({member}) < 1000"
        );
        anyhow::ensure!(world.count(&named).await? > 0, "no alert names a {kind}, so this proves nothing");
        let missing = world
            .count(&format!("({named}) except (select directory_id, alert_id, value from dash.evidence where kind = '{kind}')"))
            .await?;
        anyhow::ensure!(missing == 0, "{missing} things of kind {kind} are missing in dash.evidence");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_derived_equals_a_recount_after_kills_amid_derivation() -> anyhow::Result<()> {
    let cloud = Settings { tenants: 3, history: 300, sources: SourceMix::Mixed, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, config: SMALL_PAGES.into(), ..Setup::default() }).await?;
    let mut changes = Changes::default();
    for point in ["digest.derived", "digest.before-commit", "digest.committed"] {
        let mut daemon = world.serve_with(&[("TOCSIN_REHEARSAL", &format!("{point}=abort@3"))])?;
        world.cloud.set_rate(20.0);
        let status = daemon.ended(SOON).await?;
        anyhow::ensure!(!status.success() && daemon.log()?.contains(point), "{status}: {}", daemon.last_words());
    }
    // Once more by the hard way, while something is derived.
    let mut daemon = world.serve()?;
    eventually("something waits", SOON, async || match world.count("select from dash.digest_health where waiting > 0").await {
        Ok(1..) => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await?;
    daemon.kill().await?;
    world.cloud.set_rate(0.0);

    let mut daemon = world.serve()?;
    for tenant in world.cloud.tenants() {
        changes.make(&world, &tenant, 5).await?;
    }
    world.settled(LONG).await?;
    world.derived(SOON).await?;
    assert_derived(&world).await?;
    anyhow::ensure!(world.count("select distinct kind from dash.evidence").await? >= 6, "few kinds of evidence");
    anyhow::ensure!(world.count("select from dash.digest_health where skipped > 0").await? == 0, "bodies that could not be read");
    anyhow::ensure!(daemon.metric("tocsin_digest_lag_seconds", "").await? < 60.0, "the lag is told");

    // Everything is thrown away under the running daemon, which derives it again.
    let rebuilt = world.run(&["db", "rebuild", "--json"]).await?.ok()?.json()?;
    anyhow::ensure!(rebuilt["alerts"].as_i64() == Some(world.count("select from dash.alert").await?), "{rebuilt}");
    world.derived(SOON).await?;
    assert_derived(&world).await?;
    daemon.terminate().await?;
    world.end().await
}
