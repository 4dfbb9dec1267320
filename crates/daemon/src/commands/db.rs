//! `tocsin db migrate`, `tocsin db status` and `tocsin db rebuild`.

use sqlx::{ConnectOptions, Connection};

use super::Setting;
use crate::cli::Db;
use crate::database::{Purpose, Reached, SchemaState, migrate, migration_rows, state};
use crate::failure::{Exit, Failure};

/// Works on the schema, without opening the rest.
pub(super) async fn run(setting: &Setting, command: Db) -> Result<(), Failure> {
    let name = match command {
        Db::Migrate => "db migrate",
        Db::Status => "db status",
        Db::Rebuild => "db rebuild",
    };
    let mut reached = Reached::reach(&setting.config, Purpose::Command(name)).await?;
    let result = match command {
        Db::Migrate => apply(setting, &reached).await,
        Db::Status => status(setting, &reached).await,
        Db::Rebuild => rebuild(setting, &reached).await,
    };
    if let Some(server) = reached.server.take() {
        server.stop().await.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    }
    result
}

async fn apply(setting: &Setting, reached: &Reached) -> Result<(), Failure> {
    let before = migration_rows(&reached.owner).await?.iter().filter(|row| !row.applied).count();
    let notes = migrate(&reached.owner).await?;
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
