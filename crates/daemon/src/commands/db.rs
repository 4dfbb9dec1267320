//! `tocsin db migrate`, `db status`, `db partitions` and `db rebuild`.

use domain::Ticks;
use sink::read::{PartitionRow, dropped_months, partitions};
use sqlx::{ConnectOptions, Connection};

use super::Setting;
use super::asking::unread;
use crate::cli::Db;
use crate::database::{Purpose, Reached, SchemaState, migrate, migration_rows, state};
use crate::failure::{Exit, Failure};
use crate::output::size;

/// Works on the schema, without opening the rest.
pub(super) async fn run(setting: &Setting, command: Db) -> Result<(), Failure> {
    match command {
        Db::Migrate => schema(setting, "db migrate", apply).await,
        Db::Status => schema(setting, "db status", status).await,
        Db::Rebuild => schema(setting, "db rebuild", rebuild).await,
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

async fn rebuild(setting: &Setting, reached: &Reached) -> Result<(), Failure> {
    if state(&reached.options).await? != SchemaState::Current {
        return Err(Failure::new(Exit::ConditionTrue, "the schema is not that of this tocsin; see: tocsin db status"));
    }
    let mut connection = reached.options.connect().await?;
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
