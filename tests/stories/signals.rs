//! That somebody is told: a real Prometheus with the real rules, and what their runbooks ask Postgres.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::harness::{Prometheus, Setup, World, eventually, run_in, skipped};
use simulator::{Settings, SimTenant, SourceMix};
use sqlx::AssertSqlSafe;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const MINUTE: Duration = Duration::from_secs(60);

/// A folder of this repository.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// The rules as they are, but for the time that a story has: what must have lasted for minutes lasts for a second.
fn hasty(rules: &str) -> String {
    let line = |line: &str| match line.split_once("for: ") {
        Some((indent, _)) if indent.trim().is_empty() => format!("{indent}for: 1s"),
        // A gauge is remembered for three scrapes instead of for minutes. A rate needs its stretch.
        _ if line.contains("max_over_time(") => line.replace("[5m]", "[3s]").replace("[2m]", "[3s]"),
        _ => line.to_owned(),
    };
    rules.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Waits until exactly these rules fire, the dead man among them.
async fn firing(prometheus: &Prometheus, expected: &[&str]) -> anyhow::Result<Vec<String>> {
    let expected: BTreeSet<_> = expected.iter().copied().chain(["TocsinWatchdog"]).map(str::to_owned).collect();
    eventually(&format!("{expected:?} fire and nothing else"), MINUTE, async || {
        let alerts = prometheus.alerts().await.map_err(|error| vec![error.to_string()])?;
        let firing: Vec<_> = alerts.into_iter().filter(|alert| alert.firing).collect();
        if firing.iter().map(|alert| alert.rule.clone()).collect::<BTreeSet<_>>() == expected {
            Ok(firing.into_iter().map(|alert| alert.summary).collect())
        } else {
            Err(firing.into_iter().map(|alert| alert.rule).collect::<Vec<_>>())
        }
    })
    .await
}

/// What promtool finds wrong with this page of metrics.
async fn lint(metrics: &str) -> anyhow::Result<String> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    child.stdin.take().context("no stdin")?.write_all(metrics.as_bytes()).await?;
    let ended = child.wait_with_output().await?;
    Ok(format!("{}{}", String::from_utf8(ended.stdout)?, String::from_utf8(ended.stderr)?))
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "whoever reads the run must see what was not tried")]
async fn a_real_prometheus_fires_the_real_rule_when_a_customer_takes_his_consent_back_and_resolves_it() -> anyhow::Result<()> {
    let access_lifetime = (Duration::from_secs(4), Duration::from_secs(6));
    let cloud = Settings { tenants: 2, history: 5, access_lifetime, sources: SourceMix::GraphOnly, ..Settings::default() };
    let world = World::with_tenants(Setup { cloud, ..Setup::default() }).await?;
    let mut daemon = world.serve()?;
    world.settled(MINUTE).await?;
    let rules = std::fs::read_to_string(folder("deploy/prometheus/rules.yaml"))?;
    let Some(prometheus) = Prometheus::start(world.folder(), &daemon.ops_address().await?, &hasty(&rules)).await? else {
        skipped("prometheus is not installed here; the rules are not seen in a real one");
        daemon.terminate().await?;
        return world.end().await;
    };
    firing(&prometheus, &[]).await?;
    assert_eq!(prometheus.value("tocsin_database_up").await?, Some(1.0));
    let behind = prometheus.value("time() - tocsin_feed_last_success_timestamp_seconds").await?.context("no last success")?;
    assert!((-5.0..60.0).contains(&behind), "{behind} s");
    let (_, page) = daemon.ops("/metrics").await?;
    assert_eq!(lint(&page).await?, "", "what promtool says of our metrics");

    let lost = world.cloud.tenants().remove(0);
    world.cloud.revoke(lost.directory_id, 65001)?;
    let said = firing(&prometheus, &["TocsinTenantBlind", "TocsinConsentLost"]).await?;
    assert!(said.contains(&"1 customer(s) cannot be seen in whole.".to_owned()), "{said:?}");

    let fresh = world.cloud.issue_refresh_token(lost.directory_id)?;
    let csv = world.csv(&[SimTenant { refresh_token: fresh, ..lost }]);
    run_in(&world.config, &["tenant", "import", "--replace-token", "-"], &csv, &[]).await?.ok()?;
    firing(&prometheus, &[]).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn every_query_of_a_runbook_runs() -> anyhow::Result<()> {
    let world = World::build(Setup::default()).await?;
    let pool = world.pool().await?;
    let mut queries = 0;
    for entry in std::fs::read_dir(folder("docs/runbooks"))? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        for block in text.split("```sql\n").skip(1) {
            let (query, _) = block.split_once("```").with_context(|| format!("{}: a block without end", path.display()))?;
            let ran = sqlx::raw_sql(AssertSqlSafe(query.to_owned())).execute(&pool).await;
            ran.with_context(|| format!("{}: {query}", path.display()))?;
            queries += 1;
        }
    }
    ensure!(queries > 10, "only {queries} queries were found");
    world.end().await
}
