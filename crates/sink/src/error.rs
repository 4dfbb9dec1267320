//! What can go wrong between us and Postgres, sorted by what to do about it.

use sqlx::error::DatabaseError;

/// A read that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read what is stored")]
pub struct ReadError(#[from] sqlx::Error);

impl ReadError {
    /// Whether the database could not be asked at all, rather than refusing the question.
    pub fn is_unreachable(&self) -> bool {
        matches!(classify(&self.0), Kind::Away)
    }
}

/// Why an attempt to store did not commit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Another replica holds the tenant now: never try again.
    #[error("the lease on this tenant is lost")]
    LeaseLost,
    /// The database refuses these records, and will refuse them every time.
    #[error("the database refuses the data ({code}): {message}")]
    Data {
        /// SQLSTATE; safe to log.
        code: String,
        /// May quote the data: goes to quarantine, never to a log.
        message: String,
    },
    /// Somebody else was in the way, or wrote the same at the same time: try again soon.
    #[error("another writer was in the way: {0}")]
    Contention(String),
    /// The database cannot be asked: try again later.
    #[error("the database cannot be reached: {0}")]
    Away(String),
    /// The database answers, and says no for a reason that is not in the data, such as a missing grant
    /// or a full disk: try again later, and tell somebody.
    #[error("the database refuses to store: {0}")]
    Refused(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match classify(&error) {
            Kind::Data => {
                let code =
                    error.as_database_error().and_then(DatabaseError::code).map_or_else(|| "encoding".to_owned(), |code| code.into_owned());
                let message = error.as_database_error().map_or_else(|| error.to_string(), |refusal| refusal.message().to_owned());
                Self::Data { code, message }
            }
            Kind::Contention => Self::Contention(error.to_string()),
            Kind::Away => Self::Away(error.to_string()),
            Kind::Refused => Self::Refused(error.to_string()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Contention,
    Away,
    Refused,
}

fn classify(error: &sqlx::Error) -> Kind {
    match error {
        sqlx::Error::Database(refusal) => refusal.code().map_or(Kind::Refused, |code| by_code(&code)),
        sqlx::Error::Encode(_) => Kind::Data,
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Kind::Away,
        _ => Kind::Refused,
    }
}

/// Sorts by SQLSTATE, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn by_code(code: &str) -> Kind {
    match code {
        // A lock or a statement took too long.
        "55P03" | "57014" => Kind::Contention,
        // The session was ended under us.
        "25P03" | "25P04" => Kind::Away,
        _ => match code.get(..2).unwrap_or_default() {
            // Data exceptions, broken constraints, and limits such as a key too long for an index.
            "22" | "23" | "54" => Kind::Data,
            // Serialisation failures and deadlocks.
            "40" => Kind::Contention,
            // Connections, and an operator who shuts down or starts up.
            "08" | "57" => Kind::Away,
            _ => Kind::Refused,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_what_to_do() {
        for (code, kind) in [
            ("22021", Kind::Data),
            ("22P05", Kind::Data),
            ("54000", Kind::Data),
            ("23514", Kind::Data),
            ("40001", Kind::Contention),
            ("40P01", Kind::Contention),
            ("55P03", Kind::Contention),
            ("57014", Kind::Contention),
            ("57P01", Kind::Away),
            ("57P03", Kind::Away),
            ("08006", Kind::Away),
            ("25P03", Kind::Away),
            ("42501", Kind::Refused),
            ("42P01", Kind::Refused),
            ("53100", Kind::Refused),
            ("28P01", Kind::Refused),
            ("", Kind::Refused),
        ] {
            assert_eq!(by_code(code), kind, "{code}");
        }
    }

    #[test]
    fn a_pool_without_a_connection_is_a_database_away() {
        assert_eq!(classify(&sqlx::Error::PoolTimedOut), Kind::Away);
        assert_eq!(classify(&sqlx::Error::RowNotFound), Kind::Refused);
    }
}
