//! One step of the derivation of one tenant: a bounded number of alerts, in one transaction that also moves the tenant's place.
//!
//! Either all of it is there or nothing: whoever is killed amid a step does it again. What is derived follows from what is
//! stored and from what an alert was counted as before, so that a step done twice counts nothing twice.

use domain::rehearsal::{Rehearsed, point};
use domain::{Fence, Source, TenantId, Ticks};
use microsoft::evidence::{self, Facts};
use sqlx::{Connection, PgConnection, PgPool};

use crate::counted::{Counted, Moves};
use crate::ocsf::{self, Columns};
use crate::store::place::Place;
use crate::store::read::{AlertRow, VersionRow};
use crate::store::write::Derived;
use crate::store::{counts, place, prepare, read, write};

/// Grows whenever what is derived from an alert changes: every tenant is then derived anew.
pub(crate) const VERSION: i32 = 1;

/// Alerts of one step. One transaction of the sink writes at most some thousands, which have to go together.
const ALERTS: i64 = 5000;
/// Of a sweep, and of a tenant with which something went wrong.
const FEW: i64 = 500;
/// Bodies held at once.
const BODIES: usize = 64;

/// By what right a tenant is derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// This replica holds it.
    Lease(Fence),
    /// It has gone, and its alerts were kept. Nobody stores anything of it any more; whoever comes first derives the rest.
    Removed(TenantId),
}

impl Right {
    /// Whose alerts.
    pub fn tenant(self) -> TenantId {
        match self {
            Self::Lease(fence) => fence.tenant,
            Self::Removed(tenant) => tenant,
        }
    }
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// So many alerts were derived, and perhaps there are more.
    Moved {
        /// How many.
        alerts: usize,
        /// Whether to go on at once.
        more: bool,
    },
    /// Somebody else derives it, or may: nothing was done.
    NotOurs,
}

/// A step that was not done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The database could not be asked or refuses.
    #[error("{}", words(.0))]
    Database(#[from] sqlx::Error),
    /// On purpose.
    #[error(transparent)]
    Rehearsed(#[from] Rehearsed),
}

/// In words that quote no data: what the database says of data may do so, its code cannot.
fn words(error: &sqlx::Error) -> String {
    match error.as_database_error().and_then(|error| error.code()) {
        Some(code) if is_about_data(&code) => format!("the database refuses what was derived (SQLSTATE {code})"),
        Some(code) => format!("the database refuses: {} (SQLSTATE {code})", error.as_database_error().map_or("", |error| error.message())),
        None => format!("the database cannot be reached: {error}"),
    }
}

fn is_about_data(code: &str) -> bool {
    ["22", "23", "54"].contains(&code.get(..2).unwrap_or_default())
}

/// Derives the next alerts of a tenant. With `carefully` it takes few, one by one, and passes over those of which the
/// database refuses what was derived.
///
/// # Errors
/// [`StepError`]; nothing was derived then.
pub async fn step(pool: &PgPool, right: Right, carefully: bool) -> Result<Stepped, StepError> {
    let tenant = right.tenant();
    let mut tx = pool.begin().await?;
    prepare(&mut tx).await?;
    let ours = match right {
        Right::Lease(fence) => place::hold(&mut tx, fence).await?,
        Right::Removed(tenant) => place::is_removed(&mut tx, tenant).await?,
    };
    if !ours {
        return Ok(Stepped::NotOurs);
    }
    let Some(place) = place::take(&mut tx, tenant).await? else { return Ok(Stepped::NotOurs) };
    point("digest.begin").await?;
    let (ids, next, more) = next(&mut tx, tenant, &place, carefully).await?;
    let mut moves = Moves::default();
    for ids in ids.chunks(BODIES) {
        derive(&mut tx, tenant, ids, carefully, &mut moves).await?;
    }
    point("digest.derived").await?;
    place::put(&mut tx, tenant, &next).await?;
    moves.settle();
    counts::put(&mut tx, tenant, &moves).await?;
    point("digest.before-commit").await?;
    tx.commit().await?;
    point("digest.committed").await?;
    Ok(Stepped::Moved { alerts: ids.len(), more })
}

/// Which alerts come next, where the tenant stands after them, and whether there may be more.
async fn next(
    conn: &mut PgConnection,
    tenant: TenantId,
    place: &Place,
    carefully: bool,
) -> Result<(Vec<String>, Place, bool), sqlx::Error> {
    if let Some(after) = &place.swept_to {
        let ids = read::swept(conn, tenant, after, FEW).await?;
        // What was changed meanwhile is found by its transaction once the sweep is over.
        let swept_to = ids.last().filter(|_| ids.len() as i64 == FEW).cloned();
        return Ok((ids, Place { swept_to, ..place.clone() }, true));
    }
    let limit = if carefully { FEW } else { ALERTS };
    let mut changed = read::changed(conn, tenant, place, limit).await?;
    let here = |upto: String| Place { upto, ..place.clone() };
    if (changed.len() as i64) < limit {
        return Ok((changed.into_iter().map(|(id, _)| id).collect(), here(place.horizon.clone()), false));
    }
    // Cut between two transactions. One that wrote more than fits, such as somebody's own update of the whole table, has no
    // order of its own: a sweep takes its alerts by their ids.
    let last = changed.last().map_or(0, |(_, xid)| *xid);
    changed.retain(|(_, xid)| *xid != last);
    if changed.is_empty() {
        return Ok((Vec::new(), Place { upto: place.horizon.clone(), swept_to: Some(String::new()), ..place.clone() }, true));
    }
    Ok((changed.into_iter().map(|(id, _)| id).collect(), here(last.to_string()), true))
}

/// Derives these alerts and writes what belongs to each; what they share is collected in `moves`.
async fn derive(conn: &mut PgConnection, tenant: TenantId, ids: &[String], carefully: bool, moves: &mut Moves) -> Result<(), sqlx::Error> {
    let alerts = read::alerts(conn, tenant, ids).await?;
    let versions = read::versions(conn, tenant, &alerts).await?;
    let mut derived: Vec<Derived> = alerts.iter().map(|alert| of_alert(tenant, alert, &versions)).collect();
    if carefully {
        for (alert, derived) in alerts.iter().zip(&mut derived) {
            one(conn, tenant, alert, derived).await?;
        }
    } else {
        write::put(conn, tenant, &derived).await?;
    }
    for (alert, derived) in alerts.iter().zip(&derived) {
        moves.alert(alert.before().as_ref(), &derived.counted);
    }
    for (visible, stored) in versions.iter().filter_map(VersionRow::lateness) {
        moves.version(visible, stored);
    }
    Ok(())
}

/// Writes one alert; what the database refuses of it is left away, and said.
async fn one(conn: &mut PgConnection, tenant: TenantId, alert: &AlertRow, derived: &mut Derived) -> Result<(), sqlx::Error> {
    let mut attempt = conn.begin().await?;
    match write::put(&mut attempt, tenant, std::slice::from_ref(derived)).await {
        Ok(()) => attempt.commit().await,
        Err(sqlx::Error::Database(refusal)) if refusal.code().is_some_and(|code| is_about_data(&code)) => {
            attempt.rollback().await?;
            let reason = format!("the database refuses what was read from its body (SQLSTATE {})", refusal.code().unwrap_or_default());
            let bare = without_facts(tenant, alert, reason);
            *derived = Derived { measured: std::mem::take(&mut derived.measured), first: derived.first, ..bare };
            write::put(conn, tenant, std::slice::from_ref(derived)).await
        }
        Err(error) => Err(error),
    }
}

fn of_alert(tenant: TenantId, alert: &AlertRow, versions: &[VersionRow]) -> Derived {
    let mut derived = match facts(alert) {
        Ok(facts) => with_facts(tenant, alert, facts, None),
        Err(_) if alert.let_go => let_go(tenant, alert),
        Err(reason) => without_facts(tenant, alert, reason),
    };
    derived.first = alert.before().is_none();
    derived.measured = alert.measured();
    for version in versions.iter().filter(|version| version.alert_id == alert.alert_id) {
        let highest = derived.measured.entry(version.source.clone()).or_default();
        *highest = version.version.max(*highest);
    }
    derived
}

/// What the body tells, or why it tells nothing.
fn facts(alert: &AlertRow) -> Result<Facts, String> {
    let source: Source = alert.source.parse().map_err(|_| "it came from a source that this tocsin does not know".to_owned())?;
    match (&alert.body, alert.body_size) {
        (Some(body), _) => evidence::read(source, body).map_err(str::to_owned),
        (None, Some(size)) => Err(format!("its body of {size} bytes is larger than {} bytes", read::MAX_BODY)),
        (None, None) => Err("its body is not stored any more".to_owned()),
    }
}

/// The body has gone by retention, which is no fault. What it told when it was there is kept; where that was thrown away, the
/// columns are all that is left.
fn let_go(tenant: TenantId, alert: &AlertRow) -> Derived {
    let before = alert.before();
    let mut derived = with_facts(tenant, alert, Facts::default(), None);
    derived.as_before = before.is_some();
    derived.counted.techniques = before.map(|before| before.techniques).unwrap_or_default();
    derived
}

fn without_facts(tenant: TenantId, alert: &AlertRow, reason: String) -> Derived {
    with_facts(tenant, alert, Facts::default(), Some(reason))
}

fn with_facts(tenant: TenantId, alert: &AlertRow, facts: Facts, skipped: Option<String>) -> Derived {
    let columns = Columns {
        directory_id: &tenant.to_string(),
        alert_id: &alert.alert_id,
        title: &alert.title,
        severity: &alert.severity,
        status: &alert.status,
        service_source: &alert.service_source,
        detection_source: &alert.detection_source,
        category: &alert.category,
        created: alert.created.map(Ticks),
        updated: alert.updated.map(Ticks),
        stored: Ticks(alert.last_stored),
        versions: alert.version_count,
    };
    let finding = ocsf::finding(&columns, &facts);
    Derived {
        alert_id: alert.alert_id.clone(),
        changed_xid: alert.changed_xid.clone(),
        counted: Counted {
            created: alert.created.unwrap_or(alert.first_stored),
            title: Counted::headline(&alert.title),
            severity: alert.severity.clone(),
            status: alert.status.clone(),
            service_source: alert.service_source.clone(),
            classification: alert.classification.clone(),
            techniques: facts.techniques,
        },
        things: facts.things,
        finding,
        measured: read::Measured::new(),
        as_before: false,
        first: false,
        skipped,
    }
}
