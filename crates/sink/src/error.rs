//! What can go wrong between us and Postgres, sorted by what to do about it.

use domain::rehearsal::Rehearsed;
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
pub enum StoreError {
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
    /// Somebody else was in the way, or wrote the same at the same time: try again soon. It concerns the
    /// rows of one feed and says nothing about the others.
    #[error("another writer was in the way: {0}")]
    Contention(String),
    /// The database fails over the rows of one feed, for a reason that is neither in the new data nor
    /// true of everybody's, such as a trigger or a broken block: try again later.
    #[error("the database fails over what belongs to this feed: SQLSTATE {0}")]
    Stumbled(String),
    /// The database cannot be asked: try again later.
    #[error("the database cannot be reached: {0}")]
    Away(String),
    /// The database answers, and says no for a reason that is not in the data, such as a missing grant
    /// or a full disk: try again later, and tell somebody.
    #[error("the database refuses to store: {0}")]
    Refused(String),
}

impl StoreError {
    /// Whether nobody's batches can be stored, rather than this feed's alone (I10).
    pub fn concerns_everybody(&self) -> bool {
        match self {
            Self::Away(_) | Self::Refused(_) => true,
            Self::LeaseLost | Self::Data { .. } | Self::Contention(_) | Self::Stumbled(_) => false,
        }
    }
}

/// An error in words for people. The database's own sentence comes without the line of its source code.
pub(crate) fn words(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(refusal) => refusal.message().to_owned(),
        None => error.to_string(),
    }
}

fn code(error: &sqlx::Error, otherwise: &str) -> String {
    error.as_database_error().and_then(DatabaseError::code).map_or_else(|| otherwise.to_owned(), |code| code.into_owned())
}

impl From<Rehearsed> for StoreError {
    fn from(error: Rehearsed) -> Self {
        Self::Away(error.to_string())
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match classify(&error) {
            Kind::Data => Self::Data { code: code(&error, "encoding"), message: words(&error) },
            Kind::Contention => Self::Contention(words(&error)),
            // The words may quote data, the code cannot.
            Kind::Stumbled => Self::Stumbled(code(&error, "unknown")),
            Kind::Away => Self::Away(words(&error)),
            Kind::Refused => Self::Refused(words(&error)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Contention,
    Stumbled,
    Away,
    Refused,
}

fn classify(error: &sqlx::Error) -> Kind {
    match error {
        // A row that fits no partition, or not the one it was led to. While another replica makes a partition of the month,
        // that is so for a moment, and it is never in the data: a constraint of ours has a name.
        sqlx::Error::Database(refusal) if refusal.code().as_deref() == Some("23514") && refusal.constraint().is_none() => Kind::Contention,
        sqlx::Error::Database(refusal) => refusal.code().map_or(Kind::Stumbled, |code| by_code(&code)),
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
        // A lock or a statement took too long: somebody holds this feed's rows, or there is much of them.
        "55P03" | "57014" => Kind::Contention,
        // The session was ended under us.
        "25P03" | "25P04" => Kind::Away,
        // There is no place for us among its connections.
        "53300" => Kind::Away,
        // A standby, or a database that was made read-only.
        "25006" => Kind::Refused,
        _ => match code.get(..2).unwrap_or_default() {
            // Data exceptions, broken constraints, and limits such as a key too long for an index.
            "22" | "23" | "54" => Kind::Data,
            // Serialisation failures and deadlocks.
            "40" => Kind::Contention,
            // Connections, and an operator who shuts down or starts up.
            "08" | "57" => Kind::Away,
            // Who we are, which database and schema this is, what it lets us do, and what it runs out of.
            "28" | "3D" | "3F" | "42" | "53" | "58" => Kind::Refused,
            // Whatever else it is, nothing says that it concerns anybody else.
            _ => Kind::Stumbled,
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
            ("25006", Kind::Refused),
            ("58030", Kind::Refused),
            ("53300", Kind::Away),
            ("P0001", Kind::Stumbled),
            ("XX001", Kind::Stumbled),
            ("", Kind::Stumbled),
        ] {
            assert_eq!(by_code(code), kind, "{code}");
        }
    }

    #[sqlx::test(migrations = false)]
    async fn a_row_led_to_a_partition_that_is_just_being_made_is_no_bad_data(pool: sqlx::PgPool) {
        let run = async |sql: &'static str| sqlx::raw_sql(sql).execute(&pool).await;
        run("create table parted (at int, constraint positive check (at >= 0)) partition by range (at);
             create table low partition of parted for values from (0) to (10);
             create table rest partition of parted default;")
        .await
        .unwrap();
        // This is how it reaches the one that waited: it was led to the default partition before the month got its own.
        let led_astray = run("insert into rest values (5)").await.unwrap_err();
        let refusal = led_astray.as_database_error().unwrap();
        assert_eq!((refusal.code().as_deref(), refusal.constraint()), (Some("23514"), None), "{refusal}");
        assert_eq!(classify(&led_astray), Kind::Contention);
        // The same code for data that no other try makes better.
        let refused = run("insert into parted values (-1)").await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().as_deref(), Some("23514"));
        assert_eq!(classify(&refused), Kind::Data);
        run("drop table rest").await.unwrap();
        assert_eq!(classify(&run("insert into parted values (50)").await.unwrap_err()), Kind::Contention, "no partition at all");
    }

    #[test]
    fn a_pool_without_a_connection_is_a_database_away() {
        assert_eq!(classify(&sqlx::Error::PoolTimedOut), Kind::Away);
        assert_eq!(classify(&sqlx::Error::RowNotFound), Kind::Refused);
    }
}
