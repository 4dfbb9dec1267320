//! The everyday business during a soak: new alerts everywhere, and changes of alerts that are stored.
//!
//! A version that was given out to a process which died before it stored it, and was replaced before anybody asked
//! again, cannot be had any more from anybody: the source shows the latest only. So an alert is changed only once
//! all its versions are stored, and nothing that is lost here is lost by the source.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use simulator::Source;
use uuid::Uuid;

use super::dice::Dice;
use super::lab::Lab;

/// An alert is changed at most so often.
const MOST_VERSIONS: i64 = 6;

/// Publishes and changes alerts for as long as it is not dropped.
pub async fn run(lab: &Lab, seed: u64) {
    let mut dice = Dice::of(seed, 1);
    // Versions each alert should have by now, per source it is seen through.
    let mut versions: BTreeMap<(Uuid, String), i64> = BTreeMap::new();
    let mut beat = tokio::time::interval(Duration::from_millis(400));
    loop {
        beat.tick().await;
        if !lab.publishing.load(Ordering::Relaxed) {
            continue;
        }
        for _ in 0..3 {
            let tenant = &lab.tenants[dice.below(lab.tenants.len())];
            for id in lab.cloud.publish_new(tenant.directory_id, 1 + dice.below(2)).unwrap_or_default() {
                versions.insert((tenant.directory_id, id), 1);
            }
        }
        if lab.changing.load(Ordering::Relaxed) {
            let tenant = lab.tenants[dice.below(lab.tenants.len())].directory_id;
            for id in stored(lab, tenant, &versions).await.into_iter().take(3) {
                if lab.changing.load(Ordering::Relaxed) && lab.cloud.publish_update_of(tenant, &id).is_ok() {
                    versions.entry((tenant, id)).and_modify(|count| *count += 1);
                }
            }
        }
    }
}

/// The alerts of a tenant of which every version is stored from every source, fewest versions first.
async fn stored(lab: &Lab, tenant: Uuid, versions: &BTreeMap<(Uuid, String), i64>) -> Vec<String> {
    let sql = "select alert_id, count(*), count(distinct source) from tocsin.alert_version where tenant = $1 group by alert_id";
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(sql).bind(tenant).fetch_all(&lab.pool()).await.unwrap_or_default();
    // An alert that is seen through both APIs has to be stored from both, and which these are only the body tells.
    let seen_through = lab
        .tenants
        .iter()
        .find(|known| known.directory_id == tenant)
        .map_or(1, |known| known.sources.iter().filter(|source| **source != Source::GraphIncidents).count());
    let mut whole: Vec<(i64, String)> = rows
        .into_iter()
        .filter_map(|(id, stored, sources)| {
            let due = *versions.get(&(tenant, id.clone()))?;
            let complete = usize::try_from(sources) == Ok(seen_through) && stored == due * sources;
            (complete && due < MOST_VERSIONS).then_some((due, id))
        })
        .collect();
    whole.sort();
    whole.into_iter().map(|(_, id)| id).collect()
}

/// Waits until every version of this alert is stored, for those who change it out of turn.
///
/// # Errors
/// When that does not come within `limit`.
pub async fn is_stored(lab: &Lab, tenant: Uuid, id: &str, limit: Duration) -> anyhow::Result<()> {
    let due = lab.cloud.ledger().rows(tenant).iter().filter(|row| row.alert_id.as_deref() == Some(id)).count();
    let due = i64::try_from(due)?;
    crate::harness::eventually("every version of an alert is stored", limit, async || {
        let sql = "select count(*) from tocsin.alert_version where tenant = $1 and alert_id = $2";
        match sqlx::query_scalar::<_, i64>(sql).bind(tenant).bind(id).fetch_one(&lab.pool()).await {
            Ok(stored) if stored >= due => Ok(()),
            seen => Err(format!("{seen:?} of {due}")),
        }
    })
    .await
}
