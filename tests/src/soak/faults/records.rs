//! Faults of the data: odd, tied, late and poisoned records. They are published and stay; whether each of them and
//! all its neighbours are stored is what the count at the end decides.

use std::time::Duration;

use anyhow::Context;
use simulator::{Effect, Endpoint, Poison, Rule, SimTenant, Source, Stamp};
use uuid::Uuid;

use crate::soak::lab::Lab;
use crate::soak::load;

/// One fault.
pub struct Batch {
    /// Its number in the catalogue.
    pub fault: u8,
    /// Publishes; answers how many records it made.
    pub publish: fn(&Lab, &SimTenant) -> anyhow::Result<u64>,
}

const fn batch(fault: u8, publish: fn(&Lab, &SimTenant) -> anyhow::Result<u64>) -> Batch {
    Batch { fault, publish }
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Every fault that comes about like this.
pub const BATCHES: &[Batch] = &[
    // More equal stamps than the page holds that the caller is given.
    batch(21, |lab, tenant| {
        lab.cloud.script(Rule::new(Effect::Clamp { top: 20 }).tenant(tenant.directory_id).endpoint(Endpoint::Graph).times(12));
        Ok(lab.cloud.publish_tied(tenant.directory_id, lab.cloud.now().on_grid(), 50)?.len() as u64)
    }),
    batch(22, |lab, tenant| late(lab, tenant, &[15 * MINUTE, 15 * MINUTE + 1, 20 * MINUTE])),
    batch(23, |lab, tenant| late(lab, tenant, &[3 * HOUR, DAY - 10 * MINUTE, 3 * DAY, 7 * DAY - HOUR])),
    batch(26, |lab, tenant| {
        let id = format!("da{}_x", Uuid::new_v4().simple());
        for id in [id.clone(), id.to_uppercase()] {
            lab.cloud.publish_raw(tenant.directory_id, Source::GraphAlerts, plain(lab, &id, "twins but for their letters"))?;
        }
        Ok(2)
    }),
    batch(27, |lab, tenant| poison(lab, tenant, &[Poison::Sparse, Poison::UnknownType, Poison::NullStamp])),
    batch(28, |lab, tenant| poison(lab, tenant, &[Poison::DuplicateKeys])),
    batch(29, |lab, tenant| {
        poison(lab, tenant, &[Poison::NulEscape, Poison::LoneSurrogate, Poison::InvalidUtf8, Poison::NotAnObject, Poison::MissingId])
    }),
    batch(30, |lab, tenant| poison(lab, tenant, &[Poison::Deep])),
    batch(31, |lab, tenant| poison(lab, tenant, &[Poison::Huge])),
    batch(32, |lab, tenant| poison(lab, tenant, &[Poison::LongId])),
];

/// Alerts that become visible now with stamps from so many seconds ago.
fn late(lab: &Lab, tenant: &SimTenant, ago: &[u64]) -> anyhow::Result<u64> {
    for seconds in ago {
        lab.cloud.publish_at(tenant.directory_id, lab.cloud.now().minus(Duration::from_secs(*seconds)).on_grid())?;
    }
    Ok(ago.len() as u64)
}

/// Poisoned records, each with a sound neighbour.
fn poison(lab: &Lab, tenant: &SimTenant, kinds: &[Poison]) -> anyhow::Result<u64> {
    for kind in kinds {
        let id = format!("da{}_p", Uuid::new_v4().simple());
        lab.cloud.publish_new(tenant.directory_id, 1)?;
        lab.cloud.publish_poison(tenant.directory_id, Source::GraphAlerts, *kind, &id)?;
        lab.cloud.publish_new(tenant.directory_id, 1)?;
    }
    Ok(kinds.len() as u64)
}

fn plain(lab: &Lab, id: &str, title: &str) -> String {
    let now: Stamp = lab.cloud.now().on_grid();
    format!(r#"{{"id":"{id}","title":"{title}","severity":"low","status":"new","createdDateTime":"{now}","lastUpdateDateTime":"{now}"}}"#)
}

/// Fault 25: a version with an older stamp after one with a newer stamp, of an alert that is stored.
///
/// # Errors
/// When the alert is not stored in time.
pub async fn goes_back(lab: &Lab, tenant: &SimTenant) -> anyhow::Result<()> {
    let id = lab.cloud.publish_new(tenant.directory_id, 1)?.remove(0);
    load::is_stored(lab, tenant.directory_id, &id, Duration::from_secs(150)).await?;
    let first = lab.cloud.ledger().rows(tenant.directory_id).into_iter().find(|row| row.alert_id.as_deref() == Some(&id));
    let stamp: Stamp = first.and_then(|row| row.last_update).context("an alert without a stamp")?.parse()?;
    lab.cloud.publish_update_at(tenant.directory_id, &id, stamp.minus(Duration::from_secs(1)))?;
    load::is_stored(lab, tenant.directory_id, &id, Duration::from_secs(150)).await?;
    lab.book.fired(25, 1);
    Ok(())
}
