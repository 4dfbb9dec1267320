//! `tocsin quarantine list`, `show` and `replay`: records that could not be understood.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use domain::{Errand, Source};
use serde_json::json;
use sink::ask::{self, AskError, ReplayAsked, ReplayOf};
use sink::read::{QuarantineFilter, QuarantineRecord, RereadState, quarantine_list, quarantine_show, replay_result};
use sqlx::PgPool;

use super::Setting;
use super::asking::{self, Asked, End};
use super::reconcile::short;
use crate::cli::Quarantine;
use crate::database::Database;
use crate::failure::{Exit, Failure};
use crate::output::escaped;
use crate::progress::{Board, Elsewhere};

/// So much of a body is shown to people; `--raw` has all of it.
const SHOWN: usize = 16 * 1024;
/// How long a replay is waited for.
const REPLAY_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Works on records in quarantine.
pub(super) async fn run(setting: &Setting, command: Quarantine) -> Result<(), Failure> {
    if matches!(&command, Quarantine::Show { raw: true, .. }) && setting.output.json {
        return Err(Failure::new(Exit::Usage, "--raw writes the bytes as they came and --json an object; choose one of them"));
    }
    let database = setting.database("quarantine").await?;
    let result = match command {
        Quarantine::List { tenant, source, limit, replayed } => {
            list(setting, &database.pool, tenant.as_deref(), QuarantineFilter { source, replayed, limit, ..QuarantineFilter::default() })
                .await
        }
        Quarantine::Show { id, tenant, raw } => show(setting, &database.pool, &id, tenant.as_deref(), raw).await,
        Quarantine::Replay { ids, tenant, source, wait, .. } => replay(setting, &database, Wanted { ids, tenant, source, wait }).await,
    };
    database.close().await;
    result
}

async fn list(setting: &Setting, pool: &PgPool, tenant: Option<&str>, filter: QuarantineFilter) -> Result<(), Failure> {
    let filter = QuarantineFilter { tenant: asking::tenant_id(pool, tenant).await?, ..filter };
    let rows = quarantine_list(pool, &filter).await.map_err(asking::unread)?;
    if rows.is_empty() && !setting.output.json {
        setting.output.note("no records in quarantine that match");
    }
    setting.output.rows(&["ID", "SEEN", "TENANT", "SOURCE", "BYTES", "REASON"], &rows, |row| {
        let told = match (row.replayed_at, row.tried_at) {
            (Some(at), _) => format!("{} (understood {})", row.reason, short(at)),
            (None, Some(at)) => format!("{} (tried again {})", row.reason, short(at)),
            (None, None) => row.reason.clone(),
        };
        vec![row.id.clone(), short(row.seen_at), row.tenant.clone(), row.source.to_string(), row.bytes.to_string(), told]
    })?;
    if !setting.output.json && rows.len() >= usize::try_from(filter.limit).unwrap_or(usize::MAX) {
        setting.output.note(&format!("only the newest {} are shown; --limit shows more", filter.limit));
    }
    Ok(())
}

async fn find(pool: &PgPool, tenant: Option<&str>, id: &str) -> Result<QuarantineRecord, Failure> {
    let tenant = asking::tenant_id(pool, tenant).await?;
    quarantine_show(pool, tenant, id.trim()).await.map_err(|error| match &error {
        AskError::Ambiguous { candidates, .. } => {
            let some: Vec<_> =
                candidates.iter().take(3).map(|row| format!("{} of {} {}", row.id, escaped(row.tenant.as_bytes()), row.source)).collect();
            Failure::new(Exit::Conflict, format!("{error}: {}", some.join(", ")))
        }
        _ => asking::failure(error),
    })
}

async fn show(setting: &Setting, pool: &PgPool, id: &str, tenant: Option<&str>, raw: bool) -> Result<(), Failure> {
    let QuarantineRecord { row, raw: body } = find(pool, tenant, id).await?;
    if raw {
        let mut stdout = std::io::stdout().lock();
        return match stdout.write_all(&body).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::new(Exit::Failed, format!("cannot write to standard output: {error}")))
            }
            _ => Ok(()),
        };
    }
    if setting.output.json {
        let mut document = serde_json::to_value(&row).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        match std::str::from_utf8(&body) {
            Ok(text) => document["body"] = text.into(),
            // What is no text cannot stand in JSON as it is.
            Err(_) => document["body_escaped"] = escaped(&body).into(),
        }
        return setting.output.document(&document);
    }
    let facts = [
        ("id", Some(row.id.clone())),
        ("tenant", Some(format!("{} ({})", row.tenant, row.directory_id))),
        ("source", Some(row.source.to_string())),
        ("seen", Some(short(row.seen_at))),
        ("reason", Some(row.reason.clone())),
        ("tried again", row.tried_at.map(short)),
        ("understood", row.replayed_at.map(short)),
        ("bytes", Some(row.bytes.to_string())),
    ];
    for (key, value) in facts.into_iter().filter_map(|(key, value)| Some((key, value?))) {
        setting.output.line(&format!("{key:12}{}", escaped(value.as_bytes())))?;
    }
    setting.output.line("")?;
    setting.output.line(&escaped(&body[..body.len().min(SHOWN)]))?;
    if body.len() > SHOWN {
        setting.output.note(&format!("{} of {} bytes are shown; --raw writes all of them", SHOWN, body.len()));
    }
    Ok(())
}

/// What `replay` was told.
struct Wanted {
    ids: Vec<String>,
    tenant: Option<String>,
    source: Option<Source>,
    wait: bool,
}

async fn replay(setting: &Setting, database: &Database, wanted: Wanted) -> Result<(), Failure> {
    let pool = &database.pool;
    let which = if wanted.ids.is_empty() {
        ReplayOf::All { tenant: asking::tenant_id(pool, wanted.tenant.as_deref()).await?, source: wanted.source }
    } else {
        // All of them are looked up before anything is asked for: a mistake in one changes nothing.
        let mut these = Vec::new();
        for id in &wanted.ids {
            these.push(find(pool, wanted.tenant.as_deref(), id).await?.row.record);
        }
        ReplayOf::These(these)
    };
    let registry = setting.registry(database);
    let mut deed = registry.deed().await.map_err(super::tenant::failure)?;
    let asked = ask::replay(deed.connection(), &which).await.map_err(asking::failure)?;
    let entries = asked.iter().map(|one| (one.tenant, json!({ "source": one.source, "run": one.run, "records": one.records })));
    deed.done("quarantine.replay", entries).await.map_err(super::tenant::failure)?;
    let records: u64 = asked.iter().map(|one| one.records).sum();
    if records == 0 {
        setting.output.note("nothing to try again: what there was is understood by now, or its source is not read any more");
    } else if !setting.output.json {
        setting.output.note(&format!("{records} {} asked to be tried again", if records == 1 { "record is" } else { "records are" }));
    }
    if !wanted.wait || records == 0 || database.server.is_some() {
        if setting.output.json {
            let documents: Vec<_> = asked.iter().map(|one| document(one, None)).collect();
            setting.output.document(&documents)?;
        }
        return match (wanted.wait, records, &database.server) {
            (true, 1.., Some(_)) => Err(Failure::new(Exit::Temporary, "no daemon runs; start one with `tocsin serve`, which will do it")),
            _ => Ok(()),
        };
    }
    wait(setting, database, &asked).await
}

async fn wait(setting: &Setting, database: &Database, asked: &[ReplayAsked]) -> Result<(), Failure> {
    let pool = &database.pool;
    let runs: Vec<Asked> =
        asked.iter().map(|one| Asked { tenant: one.tenant, source: one.source, errand: Errand::Replay, run: one.run }).collect();
    let mut board = Board::new(runs.iter().map(|one| format!("{} {}", one.tenant, one.source)), Elsewhere::Silent);
    let waited = asking::wait(pool, &runs, Some(REPLAY_LIMIT), &mut board).await;
    board.end(false);
    let waited = waited?;
    let (mut documents, mut understood, mut refused) = (Vec::new(), 0, 0);
    for one in asked {
        let result = replay_result(pool, one.tenant, one.source, one.run).await.map_err(asking::unread)?;
        understood += result.as_ref().map_or(0, |result| result.understood);
        refused += result.as_ref().map_or(0, |result| result.refused);
        documents.push(document(one, result.as_ref()));
    }
    if setting.output.json {
        setting.output.document(&documents)?;
    } else {
        setting.output.line(&format!("{understood} understood and stored, {refused} not understood this time either"))?;
    }
    match waited.end {
        End::Interrupted => Err(Failure::new(
            Exit::Temporary,
            "not waiting any longer; the replay goes on, and `tocsin quarantine list` shows what is left",
        )),
        End::TimedOut => {
            let hindrance = match asked.first() {
                Some(one) => asking::hindrance(database, one.tenant, Some(one.source)).await?,
                None => None,
            };
            let why = hindrance.map(|why| format!(": {why}")).unwrap_or_default();
            Err(Failure::new(Exit::Temporary, format!("the replay has not ended in time{why}")))
        }
        End::Over if refused > 0 => Err(Failure::new(
            Exit::ConditionTrue,
            format!("{refused} {} not understood", if refused == 1 { "record is" } else { "records are" }),
        )),
        End::Over => Ok(()),
    }
}

fn document(asked: &ReplayAsked, result: Option<&sink::read::ReplayResult>) -> serde_json::Value {
    json!({
        "directory_id": asked.tenant,
        "source": asked.source,
        "run": asked.run,
        "records": asked.records,
        "state": result.map_or(RereadState::Waiting, |result| result.state),
        "understood": result.map(|result| result.understood),
        "refused": result.map(|result| result.refused),
        "waiting": result.map(|result| result.waiting),
    })
}
