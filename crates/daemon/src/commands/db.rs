//! `tocsin db migrate` and `tocsin db status`.

use super::Setting;
use crate::cli::Db;
use crate::database::{Purpose, Reached, SchemaState, migrate, migration_rows, state};
use crate::failure::{Exit, Failure};

/// Works on the schema, without opening the rest.
pub(super) async fn run(setting: &Setting, command: Db) -> Result<(), Failure> {
    let name = match command {
        Db::Migrate => "db migrate",
        Db::Status => "db status",
    };
    let mut reached = Reached::reach(&setting.config, Purpose::Command(name)).await?;
    let result = match command {
        Db::Migrate => apply(setting, &reached).await,
        Db::Status => status(setting, &reached).await,
    };
    if let Some(server) = reached.server.take() {
        server.stop().await.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    }
    result
}

async fn apply(setting: &Setting, reached: &Reached) -> Result<(), Failure> {
    let owner = reached.owner()?;
    let before = migration_rows(&owner).await?.iter().filter(|row| !row.applied).count();
    let notes = migrate(&owner).await?;
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
