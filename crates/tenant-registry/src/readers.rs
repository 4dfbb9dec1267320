//! Who reads schema `dash` besides the members of `tocsin_reader`: roles that see the customers they were given.
//!
//! Row security beneath the views decides what such a role sees; `tocsin.reader_tenant` says which customers it was
//! given, and the owner alone writes there. So [`Registry::create_reader`] and its like work over the owner's login,
//! and where that login may not make roles, they answer with the statements for somebody who may.
//!
//! A customer's role is a member of nothing: a member of `tocsin_reader` sees everybody.

mod scram;

use domain::TenantId;
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;

use crate::admin::AdminError;
use crate::audit::{INSTALLATION, Unaudited};
use crate::registry::Registry;
use crate::store::readers::{self, RoleRow};

pub use scram::{PasswordError, Verifier, random_password};

/// What every reader's sessions begin with. He may change it for himself: it keeps mistakes small, and guards nothing.
const SETTINGS: [(&str, &str); 3] = [
    ("default_transaction_read_only", "on"),
    ("statement_timeout", "15s"),
    // One that is left open keeps months from being dropped.
    ("idle_in_transaction_session_timeout", "60s"),
];

/// Which customers a reader sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Every one, and those that come later.
    All,
    /// These.
    Of(Vec<TenantId>),
}

/// A role that reads schema `dash`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reader {
    /// Its name.
    pub name: String,
    /// Whether one can log in as it.
    pub login: bool,
    /// Whether it sees every customer.
    pub sees_all: bool,
    /// The customers it sees otherwise, by name.
    pub tenants: Vec<String>,
    /// What it may do besides reading that, and should not.
    pub excess: Vec<String>,
    /// It is named as a reader, and there is no such role any more.
    pub gone: bool,
}

/// What became of a reader that was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// How many customers it saw by name.
    pub tenants: usize,
    /// Why the role itself is still there, without any right of ours.
    pub role_stays: Option<String>,
}

/// Why nothing was changed about a reader.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// This login may not make or change roles; whoever may has these statements to run.
    #[error("this login may not make or change roles")]
    NotAllowed {
        /// In the order in which they are to be run; none holds a password.
        statements: Vec<String>,
    },
    /// Anything else.
    #[error(transparent)]
    Admin(#[from] AdminError),
}

impl From<sqlx::Error> for ReaderError {
    fn from(error: sqlx::Error) -> Self {
        Self::Admin(error.into())
    }
}

impl From<Unaudited> for ReaderError {
    fn from(error: Unaudited) -> Self {
        Self::Admin(error.into())
    }
}

impl Registry {
    /// Every role that reads schema `dash`, and those that are gone but still named.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn readers(&self) -> Result<Vec<Reader>, AdminError> {
        let there = readers::roles(&self.pool, None).await?.into_iter().map(|role| Reader {
            name: role.name,
            login: role.login,
            sees_all: role.sees_all,
            tenants: role.tenants,
            excess: role.excess,
            gone: false,
        });
        let gone = readers::gone(&self.pool).await?.into_iter().map(|name| Reader {
            name,
            login: false,
            sees_all: false,
            tenants: Vec::new(),
            excess: Vec::new(),
            gone: true,
        });
        Ok(there.chain(gone).collect())
    }

    /// Why readers may see more than they should, a sentence each; nothing when all is well.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn reader_leaks(&self) -> Result<Vec<String>, AdminError> {
        Ok(readers::leaks(&self.pool).await?)
    }

    /// Makes a role that sees these customers. One that is there already is taken, if it may nothing at all; `true` then.
    ///
    /// # Errors
    /// [`AdminError::Conflict`] when the role reads already or may something, or row security would not bind it;
    /// [`ReaderError::NotAllowed`].
    pub async fn create_reader(&self, name: &str, sight: &Sight, password: Option<&Verifier>) -> Result<bool, ReaderError> {
        usable(name)?;
        let mut deed = self.deed().await?;
        let db = deed.connection();
        readers::be_the_owner(db).await?;
        if let Some(leak) = readers::leaks(&mut *db).await?.first().filter(|_| *sight != Sight::All) {
            return Err(conflict(format!(
                "{leak}, so this reader would see every customer; let an ordinary login own the schemas, and see: tocsin doctor"
            )));
        }
        let role = readers::roles(&mut *db, Some(name)).await?.pop();
        if let Some(role) = &role {
            adoptable(role, sight)?;
        }
        let quoted = readers::quoted(&mut *db, name).await?;
        let statements = statements(role.as_ref(), &quoted, sight);
        readers::be_the_login(db).await?;
        let secret = password.map(|password| format!("alter role {quoted} password {}", password.literal()));
        for sql in statements.iter().cloned().chain(secret) {
            if let Err(error) = readers::statement(db, sql).await {
                let statements = if password.is_some() { [statements, vec![format!("\\password {quoted}")]].concat() } else { statements };
                return Err(refused(error, statements));
            }
        }
        readers::be_the_owner(db).await?;
        let entries = match sight {
            Sight::All => vec![INSTALLATION],
            Sight::Of(tenants) => {
                readers::show_dash(&mut *db, name).await?;
                readers::grant(&mut *db, name, tenants).await?
            }
        };
        deed.done("reader.create", entries.into_iter().map(|tenant| (tenant, json!({ "reader": name })))).await?;
        Ok(role.is_some())
    }

    /// Lets a reader see more customers; answers those that it did not see before.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] when there is no such reader, [`AdminError::Conflict`] when it sees all.
    pub async fn grant_reader(&self, name: &str, tenants: &[TenantId]) -> Result<Vec<TenantId>, ReaderError> {
        let mut deed = self.deed().await?;
        let db = deed.connection();
        readers::be_the_owner(db).await?;
        let role = readers::roles(&mut *db, Some(name)).await?.pop().filter(|role| role.reads).ok_or_else(|| no_reader(name))?;
        if role.sees_all {
            return Err(conflict(format!("reader {name} sees every customer already")));
        }
        readers::show_dash(&mut *db, name).await?;
        let granted = readers::grant(&mut *db, name, tenants).await?;
        deed.done("reader.grant", granted.iter().map(|tenant| (*tenant, json!({ "reader": name })))).await?;
        Ok(granted)
    }

    /// Takes customers from a reader, at once; answers those that it saw.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] when there is no such reader, [`AdminError::Conflict`] when it sees all.
    pub async fn revoke_reader(&self, name: &str, tenants: &[TenantId]) -> Result<Vec<TenantId>, ReaderError> {
        let mut deed = self.deed().await?;
        let db = deed.connection();
        readers::be_the_owner(db).await?;
        let role = readers::roles(&mut *db, Some(name)).await?.pop();
        if role.as_ref().is_some_and(|role| role.sees_all) {
            return Err(conflict(format!("reader {name} sees every customer: make another one with --tenants, and drop this one")));
        }
        let revoked = readers::revoke(&mut *db, name, Some(tenants)).await?;
        if revoked.is_empty() && !role.is_some_and(|role| role.reads) {
            return Err(no_reader(name));
        }
        deed.done("reader.revoke", revoked.iter().map(|tenant| (*tenant, json!({ "reader": name })))).await?;
        Ok(revoked)
    }

    /// Takes everything from a reader and drops its role, as far as this login may.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] when there is no such reader, [`AdminError::Conflict`] for a role that has other tasks,
    /// [`ReaderError::NotAllowed`] when it would go on seeing every customer.
    pub async fn drop_reader(&self, name: &str) -> Result<Dropped, ReaderError> {
        usable(name)?;
        let mut deed = self.deed().await?;
        let db = deed.connection();
        readers::be_the_owner(db).await?;
        let role = readers::roles(&mut *db, Some(name)).await?.pop();
        let tenants = readers::revoke(&mut *db, name, None).await?;
        if tenants.is_empty() && !role.as_ref().is_some_and(|role| role.reads) {
            return Err(no_reader(name));
        }
        if let Some(other) = role.as_ref().filter(|role| tenants.is_empty() && !role.excess.is_empty()) {
            return Err(conflict(format!(
                "{name} is no reader that tocsin has made: it {}; nothing was taken from it",
                other.excess.join(" and ")
            )));
        }
        let role_stays = match &role {
            Some(role) => drop_role(db, role).await?,
            None => None,
        };
        if role_stays.is_some() && role.as_ref().is_some_and(|role| role.sees_all) {
            let quoted = readers::quoted(&mut *db, name).await?;
            return Err(ReaderError::NotAllowed {
                statements: vec![format!("revoke tocsin_reader from {quoted}"), format!("drop role {quoted}")],
            });
        }
        let entries = if tenants.is_empty() { vec![INSTALLATION] } else { tenants.clone() };
        deed.done("reader.drop", entries.into_iter().map(|tenant| (tenant, json!({ "reader": name })))).await?;
        Ok(Dropped { tenants: tenants.len(), role_stays })
    }
}

/// Takes our grants from a role and drops it; why it stays, if it does.
async fn drop_role(db: &mut PgConnection, role: &RoleRow) -> Result<Option<String>, sqlx::Error> {
    let quoted = readers::quoted(&mut *db, &role.name).await?;
    readers::statement(db, format!("revoke all on all tables in schema dash from {quoted}; revoke all on schema dash from {quoted}"))
        .await?;
    if !role.excess.is_empty() {
        return Ok(Some(format!("the role {}", role.excess.join(" and "))));
    }
    readers::be_the_login(db).await?;
    let membership = if role.sees_all { format!("revoke tocsin_reader from {quoted}; ") } else { String::new() };
    readers::statement(db, "savepoint reader".to_owned()).await?;
    let dropped = readers::statement(db, format!("{membership}drop role {quoted}")).await;
    if dropped.is_err() {
        readers::statement(db, "rollback to savepoint reader".to_owned()).await?;
    }
    readers::be_the_owner(db).await?;
    match dropped {
        Ok(()) => Ok(None),
        Err(sqlx::Error::Database(error)) => Ok(Some(format!("{}; an administrator can: {membership}drop role {quoted}", error.message()))),
        Err(error) => Err(error),
    }
}

/// What makes the role what a reader is; nothing for one that is so already.
fn statements(role: Option<&RoleRow>, quoted: &str, sight: &Sight) -> Vec<String> {
    let inherit = if *sight == Sight::All { "inherit" } else { "noinherit" };
    let mut statements = Vec::new();
    match role {
        None => statements.push(format!("create role {quoted} login {inherit} connection limit 10")),
        Some(role) if !role.login => statements.push(format!("alter role {quoted} login {inherit} connection limit 10")),
        Some(_) => {}
    }
    for (key, value) in SETTINGS {
        if role.is_none_or(|role| !role.settings.contains(&format!("{key}={value}"))) {
            statements.push(format!("alter role {quoted} set {key} = '{value}'"));
        }
    }
    if *sight == Sight::All && role.is_none_or(|role| !role.sees_all) {
        statements.push(format!("grant tocsin_reader to {quoted}"));
    }
    statements
}

/// What Postgres takes for somebody else where a role is meant.
const RESERVED: [&str; 6] = ["public", "none", "user", "current_user", "current_role", "session_user"];

/// Small letters, so that it is the same word in every statement, quoted or not.
fn usable(name: &str) -> Result<(), ReaderError> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let ours = ["pg_", "tocsin_"].iter().any(|prefix| name.starts_with(prefix));
    let first = name.starts_with(|c: char| c.is_ascii_lowercase());
    if first && name.chars().all(letters) && name.len() <= 63 && !ours && !RESERVED.contains(&name) {
        return Ok(());
    }
    Err(ReaderError::Admin(AdminError::Invalid(format!(
        "{name:?} is no name for a reader: write a small letter, then small letters, digits and _, and neither pg_ nor tocsin_ in front"
    ))))
}

/// A role that is there already becomes a reader only if it is nothing yet.
fn adoptable(role: &RoleRow, sight: &Sight) -> Result<(), ReaderError> {
    let name = &role.name;
    if !role.excess.is_empty() {
        return Err(conflict(format!("role {name} is there already and {}; choose another name", role.excess.join(" and "))));
    }
    if role.sees_all && *sight != Sight::All {
        let words = "is there already and a member of tocsin_reader, which sees every customer";
        return Err(conflict(format!("role {name} {words}; choose another name")));
    }
    if !role.tenants.is_empty() || role.reads && !role.sees_all {
        return Err(conflict(format!("reader {name} is there already; give it more customers with: tocsin reader grant {name}")));
    }
    Ok(())
}

fn refused(error: sqlx::Error, statements: Vec<String>) -> ReaderError {
    match error.as_database_error().and_then(|error| error.code()).as_deref() {
        Some("42501") => ReaderError::NotAllowed { statements },
        _ => error.into(),
    }
}

fn conflict(words: String) -> ReaderError {
    ReaderError::Admin(AdminError::Conflict(words))
}

fn no_reader(name: &str) -> ReaderError {
    ReaderError::Admin(AdminError::NoReader(name.to_owned()))
}
