//! `tocsin reconcile`: compares what is at the source with what is stored, and has the difference repaired.

use domain::{Errand, Source};
use serde_json::json;
use sink::ask::{self, AskError};
use sink::read::{ReconciliationRow, RereadState, RunState};
use tenant_registry::TenantSummary;

use super::Setting;
use super::asking::{self, Asked, End, Waited};
use crate::cli::Reconcile;
use crate::database::Database;
use crate::failure::{Exit, Failure};
use crate::output::printable;
use crate::progress::{Board, Elsewhere};

/// Asks for the comparison, waits for it, and prints what it came to.
pub(super) async fn run(setting: &Setting, options: &Reconcile) -> Result<(), Failure> {
    let database = setting.database("reconcile").await?;
    let result = reconcile(setting, &database, options).await;
    database.close().await;
    result
}

async fn reconcile(setting: &Setting, database: &Database, options: &Reconcile) -> Result<(), Failure> {
    let tenant = asking::tenant(&database.pool, &options.tenant).await?;
    let (from, to) = asking::stretch(options.since, options.until);
    let registry = setting.registry(database);
    let mut asked = Vec::new();
    for source in asking::sources(&tenant, options.source) {
        let mut deed = registry.deed().await.map_err(super::tenant::failure)?;
        let run = match ask::comparison(deed.connection(), tenant.id, source, from, to).await {
            Ok(run) => {
                let details = json!({ "source": source, "run": run, "from": from.to_string(), "to": to.to_string() });
                deed.done("reconcile", [(tenant.id, details)]).await.map_err(super::tenant::failure)?;
                run
            }
            Err(AskError::Open { run, .. }) => {
                setting.output.note(&format!("{source} is being compared already; this waits for that comparison"));
                run
            }
            Err(error) => return Err(asking::failure(error)),
        };
        asked.push(Asked { tenant: tenant.id, source, errand: Errand::Reconcile, run });
    }
    if database.server.is_some() {
        // The server runs for this command only, and would be in the way of the daemon that is to do the work.
        return Err(Failure::new(
            Exit::Temporary,
            "the comparison is asked for, but no daemon runs; start one with `tocsin serve`, which will do it, and ask again",
        ));
    }
    if let Some(hindrance) = asking::hindrance(database, tenant.id, options.source).await? {
        setting.output.note(&format!("waiting, though {hindrance}"));
    }
    let name = printable(&tenant.name);
    let mut board = Board::new(asked.iter().map(|one| format!("{name} {}", one.source)), Elsewhere::Silent);
    let waited = asking::wait(&database.pool, &asked, Some(options.timeout), &mut board).await;
    board.end(false);
    let waited = waited?;
    print(setting, &tenant, &asked, &waited.states)?;
    conclude(database, &tenant, options.source, &waited).await
}

/// What a script learns from the exit code, and a person from the last words.
async fn conclude(database: &Database, tenant: &TenantSummary, source: Option<Source>, waited: &Waited) -> Result<(), Failure> {
    let name = printable(&tenant.name);
    let look = format!("`tocsin tenant show {}` tells when it is done", tenant.id);
    match waited.end {
        End::Interrupted => {
            return Err(Failure::new(Exit::Temporary, format!("not waiting any longer; the comparison goes on, and {look}")));
        }
        End::TimedOut if waited.has_begun() => {
            return Err(Failure::new(Exit::Temporary, format!("the comparison takes longer than that and goes on; {look}")));
        }
        End::TimedOut => {
            let hindrance = asking::hindrance(database, tenant.id, source).await?;
            let why =
                hindrance.unwrap_or_else(|| format!("a daemon looks after {name} and is busy; `tocsin healthcheck` asks it how it is"));
            return Err(Failure::new(Exit::Temporary, format!("nobody has begun in time: {why}")));
        }
        End::Over => {}
    }
    waited.check("the comparison")?;
    let differences: i64 = waited.states.iter().flatten().filter_map(|state| state.reconciliation.as_ref()).map(differences).sum();
    if differences == 0 {
        return Ok(());
    }
    let repaired: i64 =
        waited.states.iter().flatten().filter_map(|state| state.reconciliation.as_ref()).map(|row| row.missing + row.changed).sum();
    let words = match (repaired, differences - repaired) {
        (repaired, 0) => format!("{} and repaired", found(repaired)),
        (0, kept) => format!("{}: the source no longer shows what is stored, and it stays", found(kept)),
        (repaired, kept) => format!("{}: {repaired} repaired, {kept} no longer shown by the source and kept", found(repaired + kept)),
    };
    Err(Failure::new(Exit::ConditionTrue, words))
}

fn found(count: i64) -> String {
    if count == 1 { "1 difference was found".to_owned() } else { format!("{count} differences were found") }
}

fn differences(row: &ReconciliationRow) -> i64 {
    row.missing + row.changed + row.only_stored
}

fn print(setting: &Setting, tenant: &TenantSummary, asked: &[Asked], states: &[Option<RunState>]) -> Result<(), Failure> {
    if setting.output.json {
        let documents: Vec<_> = asked.iter().zip(states).map(|(one, state)| document(tenant, one, state.as_ref())).collect();
        return setting.output.document(&documents);
    }
    for row in states.iter().flatten().filter_map(|state| state.reconciliation.as_ref()) {
        for line in lines(&tenant.name, row) {
            setting.output.line(&line)?;
        }
    }
    Ok(())
}

/// One source for scripts: how the comparison stands, and, once it is done, the row of `dash.reconciliation`.
fn document(tenant: &TenantSummary, asked: &Asked, state: Option<&RunState>) -> serde_json::Value {
    let mut document = json!({
        "directory_id": tenant.id,
        "tenant": tenant.name,
        "source": asked.source,
        "state": state.map_or(RereadState::Waiting, |state| state.reread.state),
    });
    let result = state.and_then(|state| state.reconciliation.as_ref()).and_then(|row| serde_json::to_value(row).ok());
    if let (Some(document), Some(serde_json::Value::Object(row))) = (document.as_object_mut(), result) {
        document.extend(row);
    }
    document
}

/// One source for people.
fn lines(tenant: &str, row: &ReconciliationRow) -> Vec<String> {
    let mut lines = vec![format!("{} {} from {} to {}", printable(tenant), row.source, short(row.from_at), short(row.to_at))];
    lines.push(format!("  at the source {:>9}", row.at_source));
    lines.push(format!("  stored        {:>9}", row.stored));
    for (what, count, ids, remark) in [
        ("missing      ", row.missing, &row.missing_ids, "stored now"),
        ("changed      ", row.changed, &row.changed_ids, "stored now"),
        ("only stored  ", row.only_stored, &row.only_stored_ids, "the source no longer shows it; it stays"),
    ] {
        lines.push(format!("  {what} {count:>9}{}", if count > 0 { format!("  ({remark})") } else { String::new() }));
        lines.extend(ids.iter().map(|id| format!("      {}", printable(id))));
        let more = count - i64::try_from(ids.len()).unwrap_or(count);
        if more > 0 {
            lines.push(format!("      … and {more} more"));
        }
    }
    lines
}

/// To the second.
pub(super) fn short(stamp: domain::Ticks) -> String {
    let text = stamp.to_string();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

#[cfg(test)]
mod tests {
    use domain::{TenantId, Ticks};

    use super::*;

    #[test]
    fn ids_are_listed_made_harmless_and_what_is_cut_off_is_counted() {
        let row = ReconciliationRow {
            directory_id: TenantId(uuid::Uuid::nil()),
            source: "graph-alerts".to_owned(),
            asked_by: "operator".to_owned(),
            started_at: None,
            finished_at: Ticks(0),
            from_at: Ticks(0),
            to_at: Ticks(600_000_000),
            at_source: 250,
            stored: 100,
            missing: 152,
            changed: 0,
            only_stored: 2,
            missing_ids: vec!["da1".to_owned(), "da2\u{1b}[2J".to_owned()],
            changed_ids: Vec::new(),
            only_stored_ids: vec!["da3".to_owned(), "da4".to_owned()],
        };
        let lines = lines("Contoso\u{7} A/S", &row);
        assert_eq!(lines[0], "Contoso\u{fffd} A/S graph-alerts from 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z");
        assert_eq!(lines[3], "  missing             152  (stored now)");
        assert_eq!(lines[5], "      da2\u{fffd}[2J");
        assert_eq!(lines[6], "      … and 150 more");
        assert_eq!(lines[7], "  changed               0");
        assert_eq!(lines.len(), 11, "{lines:?}");
        assert_eq!(differences(&row), 154);
    }
}
