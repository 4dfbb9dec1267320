//! `tocsin db migrate`, for good or as a rehearsal, `db status`, `db partitions` and `db rebuild`.

use domain::Ticks;
use sink::read::{PartitionRow, dropped_months, partitions};
use sqlx::{ConnectOptions, Connection};
use tokio::time::Instant;

use super::Setting;
use super::asking::unread;
use crate::cli::Db;
use crate::database::{Purpose, Reached, SchemaState, migrate, migration_rows, rehearse_migration, state};
use crate::failure::{Exit, Failure};
use crate::output::size;

/// Works on the schema, without opening the rest.
pub(super) async fn run(setting: &Setting, command: Db) -> Result<(), Failure> {
    match command {
        Db::Migrate { dry_run: false } => schema(setting, "db migrate", apply).await,
        Db::Migrate { dry_run: true } => schema(setting, "db migrate", rehearse).await,
        Db::Status => schema(setting, "db status", status).await,
        Db::Rebuild { yes } => schema(setting, "db rebuild", async |setting, reached| rebuild(setting, reached, yes).await).await,
        Db::Partitions => months(setting).await,
    }
}

/// Works on the schema, whatever its state.
async fn schema(
    setting: &Setting,
    name: &'static str,
    work: impl AsyncFnOnce(&Setting, &Reached) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut reached = Reached::reach(&setting.config, Purpose::Command(name)).await?;
    let result = work(setting, &reached).await;
    if let Some(server) = reached.server.take() {
        server.stop().await.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    }
    result
}

async fn apply(setting: &Setting, reached: &Reached) -> Result<(), Failure> {
    let owner = reached.owner()?;
    let before = migration_rows(&owner).await?.iter().filter(|row| !row.applied).count();
    let notes = migrate(&owner, &reached.retention).await?;
    for note in &notes {
        setting.output.note(note);
    }
    if setting.output.json {
        setting.output.document(&serde_json::json!({ "applied": before, "notes": notes }))
    } else {
        setting.output.line(&format!("{}: {before} migration(s) applied", reached.described()))
    }
}

async fn rehearse(setting: &Setting, reached: &Reached) -> Result<(), Failure> {
    let begun = Instant::now();
    let (steps, notes) = rehearse_migration(&reached.owner()?, &reached.retention).await?;
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    for note in &notes {
        setting.output.note(note);
    }
    if setting.output.json {
        return setting.output.document(&serde_json::json!({ "would_apply": steps, "notes": notes, "milliseconds": milliseconds }));
    }
    if !steps.is_empty() {
        setting.output.rows(&["MIGRATION", "TOOK", "WHAT FOR"], &steps, |step| {
            vec![step.name.clone(), format!("{} ms", step.milliseconds), step.purpose.clone()]
        })?;
    }
    setting.output.line(&format!(
        "{}: {} migration(s) would be applied; tried in {milliseconds} ms, and nothing was changed",
        reached.described(),
        steps.len()
    ))
}

async fn status(setting: &Setting, reached: &Reached) -> Result<(), Failure> {
    let rows = migration_rows(&reached.options).await?;
    setting.output.rows(&["MIGRATION", "APPLIED"], &rows, |row| vec![row.name.clone(), if row.applied { "yes" } else { "no" }.into()])?;
    match state(&reached.options).await? {
        SchemaState::Current => Ok(()),
        SchemaState::Pending(pending) => {
            Err(Failure::new(Exit::ConditionTrue, format!("{} migration(s) pending; type: tocsin db migrate", pending.len())))
        }
        SchemaState::Ahead(version) => Err(Failure::new(
            Exit::ConditionTrue,
            format!("the database has migration {version}, which this tocsin does not know; install the newer tocsin"),
        )),
    }
}

async fn months(setting: &Setting) -> Result<(), Failure> {
    let database = setting.database("db partitions").await?;
    let rows = partitions(&database.pool).await;
    let gone = dropped_months(&database.pool, 12).await;
    database.close().await;
    let (rows, gone) = (rows.map_err(unread)?, gone.map_err(unread)?);
    if setting.output.json {
        return setting.output.document(&serde_json::json!({ "partitions": rows, "dropped": gone }));
    }
    setting.output.rows(&["MONTH", "VERSIONS", "SIZE", "GOES"], &rows, |row| {
        let versions = row.versions.map_or_else(|| "?".to_owned(), |versions| format!("about {versions}"));
        vec![row.month.clone().unwrap_or_else(|| "others".to_owned()), versions, size(row.bytes), goes(row)]
    })?;
    for month in gone {
        let day = month.dropped_at.and_then(Ticks::to_timestamp).map_or_else(String::new, |at| at.strftime(" on %Y-%m-%d").to_string());
        let moved = if month.kept > 0 { format!(", {} of them moved first", month.kept) } else { String::new() };
        setting.output.note(&format!("{} was dropped{day}: {} versions{moved}, {}", month.month, month.versions, size(month.bytes)));
    }
    Ok(())
}

/// When a month goes, in words.
fn goes(row: &PartitionRow) -> String {
    match (row.goes_at.and_then(Ticks::to_timestamp), row.kept) {
        _ if row.month.is_none() => "stays".to_owned(),
        (None, _) => "kept for ever".to_owned(),
        (Some(at), None) => at.strftime("%Y-%m-%d").to_string(),
        (Some(_), Some(kept)) => format!("now; {kept} of its alerts are still worked on"),
    }
}

/// Alerts of which something is derived that could not be derived again.
const FOR_GOOD: &str = "
    select count(*)
    from (select distinct month from tocsin.dropped_month) d
    join tocsin.alert a
        on a.version_created_at >= d.month::timestamp at time zone 'UTC' and a.version_created_at < (d.month + interval '1 month') at time zone 'UTC'
    join tocsin.digested g on g.tenant = a.tenant and g.alert_id = a.alert_id
    where not exists (
            select from tocsin.alert_version v
            where v.tenant = a.tenant and v.source = a.source and v.alert_id = a.alert_id and v.hash = a.hash and v.created_at = a.version_created_at
        )
        and (cardinality(g.techniques) > 0 or exists (select from tocsin.evidence e where e.tenant = a.tenant and e.alert_id = a.alert_id))";

async fn rebuild(setting: &Setting, reached: &Reached, yes: bool) -> Result<(), Failure> {
    if state(&reached.options).await? != SchemaState::Current {
        return Err(Failure::new(Exit::ConditionTrue, "the schema is not that of this tocsin; see: tocsin db status"));
    }
    let mut connection = reached.options.connect().await?;
    let for_good: i64 = sqlx::query_scalar(FOR_GOOD).fetch_one(&mut connection).await?;
    if for_good > 0 && !yes {
        return Err(Failure::new(
            Exit::Conflict,
            format!(
                "evidence and techniques of {for_good} alert(s) would be gone for good, since [retention] has let their bodies go; if that is meant, type: tocsin db rebuild --yes"
            ),
        ));
    }
    sqlx::query("select tocsin.forget_derived()").execute(&mut connection).await?;
    let alerts: i64 = sqlx::query_scalar("select count(*) from tocsin.alert").fetch_one(&mut connection).await?;
    connection.close().await?;
    if setting.output.json {
        return setting.output.document(&serde_json::json!({ "alerts": alerts }));
    }
    setting.output.line(&format!(
        "{}: what was derived is thrown away; running daemons derive it again from {alerts} alert(s), see dash.digest_health",
        reached.described()
    ))
}
