//! How a command ends when it does not end well: one sentence and an exit code that scripts can use.

use std::fmt;

/// Exit codes (contract, section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Something went wrong that no other code says better.
    Failed = 1,
    /// The command line cannot be used.
    Usage = 2,
    /// The condition asked about is true: migrations pending, unhealthy.
    ConditionTrue = 3,
    /// What was named does not exist.
    NotFound = 4,
    /// It would contradict what is there.
    Conflict = 5,
    /// A service that is needed cannot be reached.
    Unavailable = 69,
    /// Passing trouble: the same command may work later.
    Temporary = 75,
    /// Somebody has to give permission first.
    NoPermission = 77,
    /// The configuration cannot be used.
    Config = 78,
}

/// A command's bad end.
#[derive(Debug)]
pub(crate) struct Failure {
    /// For scripts.
    pub(crate) exit: Exit,
    /// For people: what, where, and what to do.
    pub(crate) message: String,
}

impl Failure {
    /// A bad end with this code and sentence.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::new(Exit::Config, error.to_string())
    }
}

/// A database error in the middle of a command. The sentence leaves out what the driver may quote.
impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) if database.code().as_deref() == Some("42501") => Self::new(
                Exit::NoPermission,
                format!("the database refuses this login: {}; grant it the role tocsin_ingest", database.message()),
            ),
            sqlx::Error::Database(database) => Self::new(Exit::Failed, format!("the database answered: {}", database.message())),
            _ => Self::new(Exit::Temporary, format!("lost the database: {error}; try again")),
        }
    }
}
