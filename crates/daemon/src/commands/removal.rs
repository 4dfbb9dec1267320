//! `tocsin tenant remove`: asks, ends all work for a customer, and says what became of everything.

use std::time::Duration;

use domain::{TenantId, TenantState};
use serde_json::json;
use tenant_registry::{Alerts, Erased, Registry, Removal, Stored, TenantSummary};

use super::tenant::failure;
use super::{Setting, confirm};
use crate::cli::Named;
use crate::failure::Failure;

/// How long the daemon that looked after the tenant may take to notice.
const QUIET_WITHIN: Duration = Duration::from_secs(5);
/// Progress is told after so many deleted rows.
const TELL_EVERY: i64 = 50_000;

/// Removes a tenant. Without a word about its alerts they stay, unless their deletion was begun before.
pub(super) async fn remove(
    setting: &Setting,
    registry: &Registry,
    named: &Named,
    wanted: Option<Alerts>,
    yes: bool,
) -> Result<(), Failure> {
    let found = registry.find(&named.tenant).await.map_err(failure)?;
    let begun = found.state == TenantState::Offboarding;
    let alerts = wanted.unwrap_or(if begun { Alerts::Delete } else { Alerts::Keep });
    let stored = registry.stored(found.id).await.map_err(failure)?;
    confirm(&found.name, yes, &question(&found.name, found.id, stored, alerts))?;

    let removal = registry.remove(found.id, alerts).await.map_err(failure)?;
    let quiet = registry.quiet(&removal, QUIET_WITHIN).await.map_err(failure)?;
    let erased = match removal.after {
        TenantState::Offboarding => Some(erase(setting, registry, &found).await?),
        _ => None,
    };
    let left = registry.stored(found.id).await.map_err(failure)?;
    let state = if erased.is_some() { TenantState::Removed } else { removal.after };
    if setting.output.json {
        return setting.output.document(&json!({
            "directory_id": found.id, "name": found.name, "before": removal.before, "state": state,
            "keys_destroyed": removal.keys, "tokens_destroyed": removal.tokens, "polling_stopped": quiet, "deleted": erased,
            "alerts_kept": left.alerts, "versions_kept": left.versions, "incidents_kept": left.incidents,
        }));
    }
    for line in became(&found, &removal, quiet, erased, left) {
        setting.output.line(&line)?;
    }
    Ok(())
}

fn question(name: &str, id: TenantId, stored: Stored, alerts: Alerts) -> String {
    let Stored { alerts: count, versions, incidents } = stored;
    let fate = match alerts {
        Alerts::Keep => {
            format!("Its {count} stored alerts stay ({versions} versions, {incidents} incidents); --delete-alerts deletes them.")
        }
        Alerts::Delete => format!("It also deletes its {count} stored alerts ({versions} versions, {incidents} incidents), for good."),
    };
    format!("This destroys the token and the data key of {name} ({id}). {fate}")
}

async fn erase(setting: &Setting, registry: &Registry, tenant: &TenantSummary) -> Result<Erased, Failure> {
    let mut told = 0;
    let erased = registry
        .erase(tenant.id, |erased| {
            let rows = erased.alerts + erased.versions + erased.incidents + erased.others;
            if rows - told >= TELL_EVERY {
                told = rows;
                setting.output.note(&format!("{rows} rows deleted so far"));
            }
        })
        .await;
    erased.map_err(|error| {
        let failure = failure(error);
        let message = format!(
            "{}; the token and the data key are destroyed, and a running daemon or the same command goes on deleting",
            failure.message
        );
        Failure::new(failure.exit, message)
    })
}

/// What became of everything, a line each.
fn became(tenant: &TenantSummary, removal: &Removal, quiet: bool, erased: Option<Erased>, left: Stored) -> Vec<String> {
    let name = &tenant.name;
    if !removal.happened() && erased.is_none() {
        return vec![format!("{name}: removed already")];
    }
    let mut lines = vec![format!("{name}: removed (was {})", removal.before)];
    lines.push(if quiet {
        "polling: stopped".to_owned()
    } else {
        "polling: the daemon that looked after it has not answered yet; it can store nothing for it any more".to_owned()
    });
    lines.push(format!("token and data key: destroyed ({} and {})", removal.tokens, removal.keys));
    lines.push(match erased {
        Some(Erased { alerts, versions, incidents, others }) => {
            format!("alerts: deleted ({alerts} with {versions} versions, {incidents} incidents, {others} other rows)")
        }
        None => format!("alerts: kept ({} with {} versions, {} incidents)", left.alerts, left.versions, left.incidents),
    });
    lines.push("kept: a tombstone with its name and directory id, and its audit log".to_owned());
    lines.push(
        "backups of the database hold what they held, and its data key sealed under the key ring of their time: see SECURITY.md".to_owned(),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_says_how_much_there_is_and_what_becomes_of_it() {
        let id = TenantId(uuid::Uuid::from_u128(1));
        let stored = Stored { alerts: 7, versions: 9, incidents: 2 };
        let keep = question("Contoso", id, stored, Alerts::Keep);
        assert!(keep.contains("Its 7 stored alerts stay (9 versions, 2 incidents)") && keep.contains("--delete-alerts"), "{keep}");
        let delete = question("Contoso", id, stored, Alerts::Delete);
        assert!(delete.contains("deletes its 7 stored alerts") && delete.contains("for good"), "{delete}");
    }
}
