//! `tocsin backfill start`, `status` and `cancel`: reading the past of a tenant back.

use domain::{Errand, Source, TenantId};
use serde_json::json;
use sink::ask::{self, AskError};
use sink::read::{RereadRow, RereadState, rereads};
use sqlx::PgPool;

use super::Setting;
use super::asking::{self, Asked, End};
use super::reconcile::short;
use crate::cli::{Backfill, Named};
use crate::database::Database;
use crate::failure::{Exit, Failure};
use crate::moment::Moment;
use crate::output::{self, Output, printable};
use crate::progress::{Board, Elsewhere, words};

/// Works on backfills.
pub(super) async fn run(setting: &Setting, command: Backfill) -> Result<(), Failure> {
    let database = setting.database("backfill").await?;
    let result = match command {
        Backfill::Start { named, source, since, until, replace, wait } => {
            start(setting, &database, Wanted { named, source, since, until, replace, wait }).await
        }
        Backfill::Status { tenant, watch } => status(setting, &database.pool, tenant.as_deref(), watch).await,
        Backfill::Cancel { named, source } => cancel(setting, &database, &named, source).await,
    };
    database.close().await;
    result
}

/// What `start` was told.
struct Wanted {
    named: Named,
    source: Option<Source>,
    since: Moment,
    until: Option<Moment>,
    replace: bool,
    wait: bool,
}

async fn start(setting: &Setting, database: &Database, wanted: Wanted) -> Result<(), Failure> {
    let tenant = asking::tenant(&database.pool, &wanted.named.tenant).await?;
    let name = printable(&tenant.name);
    let (from, to) = asking::stretch(wanted.since, wanted.until);
    let keeps = setting.config.poll.source_keeps;
    if to.since(from) > keeps {
        let keeps = humantime::format_duration(keeps);
        setting
            .output
            .note(&format!("warning: Microsoft keeps alerts for about {keeps} ([poll] source_keeps); what is older is not there any more"));
    }
    let registry = setting.registry(database);
    let (mut asked, mut refused) = (Vec::new(), Vec::new());
    for source in asking::sources(&tenant, wanted.source) {
        let mut deed = registry.deed().await.map_err(super::tenant::failure)?;
        match ask::backfill(deed.connection(), tenant.id, source, from, to, wanted.replace).await {
            Ok(run) => {
                let details =
                    json!({ "source": source, "run": run, "from": from.to_string(), "to": to.to_string(), "replace": wanted.replace });
                deed.done("backfill.start", [(tenant.id, details)]).await.map_err(super::tenant::failure)?;
                asked.push(Asked { tenant: tenant.id, source, errand: Errand::Backfill, run });
            }
            Err(AskError::Open { .. }) => refused.push(source),
            Err(error) => return Err(asking::failure(error)),
        }
    }
    if setting.output.json {
        let documents: Vec<_> = asked
            .iter()
            .map(|one| json!({ "directory_id": tenant.id, "tenant": tenant.name, "source": one.source, "run": one.run, "state": RereadState::Waiting, "from_at": from.to_string(), "to_at": to.to_string() }))
            .collect();
        if !wanted.wait || database.server.is_some() {
            setting.output.document(&documents)?;
        }
    } else {
        for one in &asked {
            setting.output.line(&format!("{name} {}: asked to read back from {} to {}", one.source, short(from), short(to)))?;
        }
    }
    if !refused.is_empty() {
        let sources = refused.iter().map(|source| source.as_str()).collect::<Vec<_>>().join(" and ");
        return Err(Failure::new(
            Exit::Conflict,
            format!(
                "a backfill of {sources} is under way already; see `tocsin backfill status {}`, or type --replace to give it up for this one",
                tenant.id
            ),
        ));
    }
    if database.server.is_some() {
        // The server runs for this command only, and would be in the way of the daemon that is to do the work.
        setting.output.note("no daemon runs; start one with `tocsin serve`, which will do it");
        return if wanted.wait { Err(Failure::new(Exit::Temporary, "there is nobody to wait for")) } else { Ok(()) };
    }
    if let Some(hindrance) = asking::hindrance(database, tenant.id, wanted.source).await? {
        setting.output.note(&format!("it does not begin yet: {hindrance}"));
    }
    if !wanted.wait {
        return Ok(());
    }
    let mut board = Board::new(asked.iter().map(|one| format!("{name} {}", one.source)), Elsewhere::Lines(output::remark));
    let waited = asking::wait(&database.pool, &asked, None, &mut board).await;
    board.end(true);
    let waited = waited?;
    if setting.output.json {
        setting.output.document(&waited.states.iter().flatten().map(|state| &state.reread).collect::<Vec<_>>())?;
    }
    if waited.end == End::Interrupted {
        let words = format!("not waiting any longer; the backfill goes on, and `tocsin backfill status {}` shows how far it is", tenant.id);
        return Err(Failure::new(Exit::Temporary, words));
    }
    waited.check("the backfill")
}

/// Every backfill on record, or those of one tenant.
async fn backfills(pool: &PgPool, tenant: Option<TenantId>) -> Result<Vec<RereadRow>, Failure> {
    let rows = rereads(pool, tenant).await.map_err(asking::unread)?;
    Ok(rows.into_iter().filter(|row| row.errand == Errand::Backfill.as_str()).collect())
}

async fn status(setting: &Setting, pool: &PgPool, named: Option<&str>, watch: bool) -> Result<(), Failure> {
    let tenant = asking::tenant_id(pool, named).await?;
    let rows = backfills(pool, tenant).await?;
    if watch {
        return follow(setting.output, pool, &rows).await;
    }
    if rows.is_empty() && !setting.output.json {
        setting.output.note("no backfills yet: the first contact with a tenant begins one, and so does `tocsin backfill start`");
    }
    setting.output.rows(&["TENANT", "SOURCE", "FROM", "TO", "STATE"], &rows, |row| {
        vec![row.tenant.clone(), row.source.clone(), short(row.from_at), short(row.to_at), words(row)]
    })
}

/// Goes on until all of them have ended. For scripts it is one JSON object a line, whenever something has moved.
async fn follow(output: Output, pool: &PgPool, rows: &[RereadRow]) -> Result<(), Failure> {
    let open: Vec<Asked> = rows
        .iter()
        .filter(|row| !row.state.is_over())
        .filter_map(|row| {
            Some(Asked { tenant: row.directory_id, source: row.source.parse().ok()?, errand: Errand::Backfill, run: row.run })
        })
        .collect();
    if open.is_empty() {
        output.note("no backfill is under way");
        return Ok(());
    }
    let labels = open.iter().map(|one| {
        let row = rows.iter().find(|row| row.directory_id == one.tenant);
        format!("{} {}", row.map(|row| row.tenant.as_str()).unwrap_or_default(), one.source)
    });
    let mut board = if output.json { Board::objects(open.len()) } else { Board::new(labels, Elsewhere::Lines(output::datum)) };
    let waited = asking::wait(pool, &open, None, &mut board).await;
    board.end(true);
    // Whoever stops watching has seen what there was to see.
    waited.map(drop)
}

async fn cancel(setting: &Setting, database: &Database, named: &Named, source: Option<Source>) -> Result<(), Failure> {
    let tenant = asking::tenant(&database.pool, &named.tenant).await?;
    let registry = setting.registry(database);
    let mut cancelled = Vec::new();
    for source in asking::sources(&tenant, source) {
        let mut deed = registry.deed().await.map_err(super::tenant::failure)?;
        match ask::cancel(deed.connection(), tenant.id, source, Errand::Backfill).await {
            Ok(run) => {
                let details = json!({ "source": source, "run": run });
                deed.done("backfill.cancel", [(tenant.id, details)]).await.map_err(super::tenant::failure)?;
                cancelled.push((source, run));
            }
            Err(AskError::NothingOpen(_)) => {}
            Err(error) => return Err(asking::failure(error)),
        }
    }
    if setting.output.json {
        let documents: Vec<_> = cancelled
            .iter()
            .map(|(source, run)| json!({ "directory_id": tenant.id, "tenant": tenant.name, "source": source, "run": run, "state": RereadState::Cancelled }))
            .collect();
        setting.output.document(&documents)?;
    } else {
        for (source, _) in &cancelled {
            setting.output.line(&format!("{} {source}: cancelled; what it has stored stays", printable(&tenant.name)))?;
        }
    }
    if cancelled.is_empty() {
        return Err(Failure::new(Exit::NotFound, format!("no backfill of {:?} is under way", tenant.name)));
    }
    Ok(())
}
