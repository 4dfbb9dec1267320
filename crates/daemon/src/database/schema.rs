//! The schema: which migrations are applied, applying them, and the roles.
//!
//! Migrations run as the owner of an existing database and need no superuser. The three roles are
//! cluster-wide, so another tocsin database may have made them already, or this login may not make
//! them; either way the migration goes on and says what it could not do.

use std::borrow::Cow;

use sink::{Retention, months_over};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::failure::{Exit, Failure};

/// The table that remembers migrations lives in our own schema, not in the user's `public`.
const HISTORY: &str = "tocsin.schema_history";
const GRANTS: &str = include_str!("../../../../migrations/grants.sql");
const OLDEST_POSTGRES: i32 = 150_000;

/// Where the schema stands against this program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SchemaState {
    /// Exactly what this program expects.
    Current,
    /// These are still to be applied.
    Pending(Vec<MigrationRow>),
    /// A newer program has been here and left this version.
    Ahead(i64),
}

/// One migration of this program.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct MigrationRow {
    /// Its number.
    pub(crate) version: i64,
    /// `0001_tenants` and so on.
    pub(crate) name: String,
    /// Whether this database has it.
    pub(crate) applied: bool,
}

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../../migrations");
    migrator.dangerous_set_table_name(HISTORY);
    // By `turn::wait`, which says whom it waits for.
    migrator.set_locking(false);
    migrator
}

/// Every migration of this program and whether the database has it.
///
/// # Errors
/// When the database cannot be asked.
pub(crate) async fn migration_rows(options: &PgConnectOptions) -> Result<Vec<MigrationRow>, Failure> {
    Ok(rows(options).await?.0)
}

async fn rows(options: &PgConnectOptions) -> Result<(Vec<MigrationRow>, Vec<i64>), Failure> {
    let mut connection = options.connect().await?;
    let exists: bool = sqlx::query_scalar("select to_regclass('tocsin.schema_history') is not null").fetch_one(&mut connection).await?;
    let applied: Vec<i64> = if exists {
        sqlx::query_scalar("select version from tocsin.schema_history where success order by version").fetch_all(&mut connection).await?
    } else {
        Vec::new()
    };
    connection.close().await?;
    let rows = migrator()
        .iter()
        .map(|migration| MigrationRow {
            version: migration.version,
            name: format!("{:04}_{}", migration.version, migration.description.replace(' ', "_")),
            applied: applied.contains(&migration.version),
        })
        .collect();
    Ok((rows, applied))
}

/// Compares the schema with this program.
///
/// # Errors
/// When the database cannot be asked.
pub(crate) async fn state(options: &PgConnectOptions) -> Result<SchemaState, Failure> {
    let (rows, applied) = rows(options).await?;
    let newest = rows.iter().map(|row| row.version).max().unwrap_or(0);
    if let Some(ahead) = applied.iter().rev().find(|version| **version > newest) {
        return Ok(SchemaState::Ahead(*ahead));
    }
    let pending: Vec<_> = rows.into_iter().filter(|row| !row.applied).collect();
    Ok(if pending.is_empty() { SchemaState::Current } else { SchemaState::Pending(pending) })
}

/// Applies what is pending, makes the roles where it may, repeats the grants, and writes down what may be forgotten. Two
/// daemons that start together are safe: the second waits for its turn and finds the work done.
///
/// # Errors
/// When the server is too old, the login may not create schemas, or a migration fails.
pub(crate) async fn migrate(owner: &PgConnectOptions, retention: &Retention) -> Result<Vec<String>, Failure> {
    let mut connection = owner.connect().await?;
    let notes = bring_up(&mut connection, retention).await?;
    connection.close().await?;
    Ok(notes)
}

/// A migration that was tried.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Tried {
    pub(crate) name: String,
    /// What it is for, as it says itself.
    pub(crate) purpose: String,
    pub(crate) milliseconds: i64,
}

/// Does all that [`migrate`] does in one transaction, and takes it back.
///
/// # Errors
/// As [`migrate`], and when somebody works on a table for so long that waiting would hold up the others.
pub(crate) async fn rehearse(owner: &PgConnectOptions, retention: &Retention) -> Result<(Vec<Tried>, Vec<String>), Failure> {
    let pending = match state(owner).await? {
        SchemaState::Pending(pending) => pending,
        SchemaState::Current => Vec::new(),
        SchemaState::Ahead(version) => return Err(failed(MigrateError::VersionMissing(version))),
    };
    let mut connection = owner.connect().await?;
    let mut tx = connection.begin().await?;
    // Whoever waits for a table keeps everybody waiting who comes later.
    sqlx::raw_sql("set local lock_timeout = '5s'").execute(&mut *tx).await?;
    let notes = bring_up(&mut tx, retention).await?;
    // Measured by whoever applied them, in nanoseconds.
    let took: Vec<(i64, i64)> =
        sqlx::query_as("select version, execution_time / 1000000 from tocsin.schema_history").fetch_all(&mut *tx).await?;
    tx.rollback().await?;
    connection.close().await?;
    let migrator = migrator();
    let tried = pending.into_iter().map(|row| Tried {
        purpose: migrator.iter().find(|migration| migration.version == row.version).map(|it| purpose(it.sql.as_str())).unwrap_or_default(),
        milliseconds: took.iter().find(|(version, _)| *version == row.version).map_or(0, |(_, took)| *took),
        name: row.name,
    });
    Ok((tried.collect(), notes))
}

/// The first sentence of the comment that a migration begins with.
fn purpose(sql: &str) -> String {
    let comment: Vec<&str> = sql.lines().map_while(|line| line.strip_prefix("-- ")).collect();
    let comment = comment.join(" ");
    let end = comment.find(['.', ':']).unwrap_or(comment.len());
    comment[..end].to_owned()
}

async fn bring_up(connection: &mut PgConnection, retention: &Retention) -> Result<Vec<String>, Failure> {
    let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int").fetch_one(&mut *connection).await?;
    if version < OLDEST_POSTGRES {
        return Err(Failure::new(Exit::Failed, format!("the server is PostgreSQL {}; tocsin needs 15 or newer", version / 10_000)));
    }
    super::turn::wait(connection).await?;
    let mut notes = roles(connection).await?;
    let owns = member(connection, "tocsin_owner").await?;
    if owns {
        take_ownership(connection).await?;
    }
    sqlx::raw_sql("create schema if not exists tocsin").execute(&mut *connection).await.map_err(may_not_create)?;
    migrator().run(&mut *connection).await.map_err(failed)?;
    sqlx::raw_sql(GRANTS).execute(&mut *connection).await?;
    notes.extend(keep(connection, retention).await?);
    if !owns {
        notes.push("the schemas belong to this login, since it cannot take the role tocsin_owner".into());
    }
    Ok(notes)
}

/// Writes down what may be forgotten; says what is new about that, and which months go for it.
async fn keep(connection: &mut PgConnection, retention: &Retention) -> Result<Vec<String>, Failure> {
    let before = Retention::allowed(&mut *connection).await?;
    retention.allow(connection).await?;
    let mut notes = retention.changes(&before);
    if before.versions != retention.versions {
        let over = months_over(&mut *connection).await?;
        if !over.is_empty() {
            notes.push(format!(
                "the versions of {} month(s) go at the daemon's next look, within the hour: {}",
                over.len(),
                over.join(", ")
            ));
        }
    }
    Ok(notes)
}

/// Writes down what may be forgotten, in a schema that is up to date.
///
/// # Errors
/// When the database cannot be asked.
pub(super) async fn allow(owner: &PgConnectOptions, retention: &Retention) -> Result<(), Failure> {
    let mut connection = owner.connect().await?;
    if member(&mut connection, "tocsin_owner").await? {
        sqlx::raw_sql("set role tocsin_owner").execute(&mut connection).await?;
    }
    retention.allow(&mut connection).await?;
    Ok(connection.close().await?)
}

async fn roles(connection: &mut PgConnection) -> Result<Vec<String>, Failure> {
    let mut notes = Vec::new();
    let login: String = sqlx::query_scalar("select quote_ident(current_user)").fetch_one(&mut *connection).await?;
    for (create, grant, role, wanted) in [
        ("create role tocsin_owner nologin", Some("grant tocsin_owner to current_user"), "tocsin_owner", "own the schemas"),
        ("create role tocsin_ingest nologin", Some("grant tocsin_ingest to current_user"), "tocsin_ingest", "be what the daemon works as"),
        ("create role tocsin_reader nologin", None, "tocsin_reader", "read the dashboards' views"),
    ] {
        let exists: bool = sqlx::query_scalar("select to_regrole($1) is not null").bind(role).fetch_one(&mut *connection).await?;
        if !exists && let Err(error) = attempt(connection, create).await {
            match code(&error).as_deref() {
                // Another database of this server made it in this moment.
                Some("42710" | "23505") => {}
                Some("42501") => {
                    notes.push(format!("could not create role {role} (to {wanted}): this login may not; an administrator can: {create}"));
                    continue;
                }
                _ => return Err(error.into()),
            }
        }
        if let Some(grant) = grant
            && !member(connection, role).await?
            && attempt(connection, grant).await.is_err()
        {
            notes.push(format!("could not take role {role}; an administrator can: grant {role} to {login}"));
        }
    }
    Ok(notes)
}

/// Does something that may be refused, without harm to what goes on around it.
async fn attempt(connection: &mut PgConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin().await?;
    sqlx::raw_sql(sql).execute(&mut *tx).await?;
    tx.commit().await
}

/// Works as the owner role from here on, so that what migrations make belongs to it.
async fn take_ownership(connection: &mut PgConnection) -> Result<(), Failure> {
    let database: String = sqlx::query_scalar("select quote_ident(current_database())").fetch_one(&mut *connection).await?;
    sqlx::raw_sql(AssertSqlSafe(format!("grant create on database {database} to tocsin_owner")))
        .execute(&mut *connection)
        .await
        .map_err(may_not_create)?;
    sqlx::raw_sql("set role tocsin_owner").execute(&mut *connection).await?;
    Ok(())
}

/// The statement that turns a connection into the role the daemon works as, where there is one.
pub(super) async fn working_role(options: &PgConnectOptions) -> Result<Option<String>, Failure> {
    let mut connection = options.connect().await?;
    let member = member(&mut connection, "tocsin_ingest").await?;
    connection.close().await?;
    Ok(member.then(|| "set role tocsin_ingest".to_owned()))
}

/// The statement that turns a connection into the owner of the schemas.
///
/// # Errors
/// Exit 77 when the login may not be that.
pub(super) async fn owning_role(options: &PgConnectOptions) -> Result<String, Failure> {
    let mut connection = options.connect().await?;
    let sql = "select quote_ident(pg_get_userbyid(nspowner)), pg_has_role(current_user, nspowner, 'member') from pg_namespace where nspname = 'tocsin'";
    let (owner, may): (String, bool) = sqlx::query_as(sql).fetch_one(&mut connection).await?;
    connection.close().await?;
    if !may {
        let words = format!("this login is not the owner of the schemas, {owner}; name the owner's login in [database] migrate_url_file");
        return Err(Failure::new(Exit::NoPermission, words));
    }
    Ok(format!("set role {owner}"))
}

async fn member(connection: &mut PgConnection, role: &str) -> Result<bool, Failure> {
    let sql = "select coalesce((select pg_has_role(current_user, oid, 'member') from pg_roles where rolname = $1), false)";
    Ok(sqlx::query_scalar(sql).bind(role).fetch_one(connection).await?)
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(Cow::into_owned)
}

fn may_not_create(error: sqlx::Error) -> Failure {
    match code(&error).as_deref() {
        Some("42501") => Failure::new(
            Exit::NoPermission,
            "this login may not create schemas in the database; let the database's owner run the migration: name his login in [database] migrate_url_file",
        ),
        _ => error.into(),
    }
}

fn failed(error: MigrateError) -> Failure {
    match error {
        MigrateError::VersionMissing(version) => Failure::new(
            Exit::ConditionTrue,
            format!("the database has migration {version}, which this tocsin does not know; install the newer tocsin"),
        ),
        MigrateError::VersionMismatch(version) => Failure::new(
            Exit::Failed,
            format!("migration {version} was applied in another form than this tocsin has; was it an unreleased build?"),
        ),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => may_not_create(error),
        other => Failure::new(Exit::Failed, format!("the migration failed: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_is_one_transaction_and_says_in_a_line_what_it_is_for() {
        for migration in migrator().iter() {
            let purpose = purpose(migration.sql.as_str());
            assert!((10..=150).contains(&purpose.len()), "{}: {purpose:?}", migration.version);
            assert!(!migration.no_tx, "{} could not be tried", migration.version);
        }
    }
}
