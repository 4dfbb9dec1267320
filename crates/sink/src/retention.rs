//! What is kept for how long, and the task that forgets the rest.
//!
//! Versions go by whole months: a month is dropped once it ended longer ago than they are kept, and the latest versions of
//! alerts that were still worked on since are moved out of it first. Nothing is ever deleted from it row by row, so
//! forgetting a year costs as little as forgetting an hour, and no dead rows are left to clean up.
//!
//! What may be forgotten stands in the database (`tocsin.retention`), where only the owner's login can write it; the daemon's
//! role can but ask. So whoever steals the daemon's login cannot delete what the operator wants kept.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::Clock;
use sqlx::{Connection, FromRow, PgConnection, PgExecutor, PgPool};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use std::sync::Arc;

use crate::postgres::partitions::Months;
use crate::postgres::session::{self, Limits};

/// So many versions of kept alerts are moved out of a month at most: that holds everybody up for a moment.
const MOVED_AT_MOST: i64 = 10_000;
/// Dropping waits so long for those who read, and everybody who comes later waits for it.
const LOCK: Duration = Duration::from_secs(3);
/// Counting a month of a million versions takes seconds; nobody waits for it.
const STATEMENT: Duration = Duration::from_secs(15 * 60);
const EVERY: Duration = Duration::from_secs(3600);
/// After something did not work, such as a month that somebody reads.
const AGAIN: Duration = Duration::from_secs(60);
/// Rows of each kind forgotten at once.
const PIECE: i64 = 5_000;
const BREATH: Duration = Duration::from_millis(50);
/// Partitions are made for now and for these times ahead.
const AHEAD: [Duration; 3] = [Duration::ZERO, Duration::from_secs(31 * 24 * 3600), Duration::from_secs(61 * 24 * 3600)];

/// How long is kept what grows. `None` is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Versions of alerts: by month of the alert's creation.
    pub versions: Option<Duration>,
    /// Observed changes of status, assignee and so on.
    pub events: Option<Duration>,
    /// Records that could not be understood.
    pub quarantine: Option<Duration>,
    /// Gaps, from their healing on. One that is open stays.
    pub gaps: Option<Duration>,
    /// What comparisons came to.
    pub comparisons: Option<Duration>,
}

impl Retention {
    /// Nothing can be kept for a shorter time than this.
    pub const SHORTEST: Duration = Duration::from_secs(30 * 24 * 3600);
    /// Whoever means longer means for ever; and Postgres can still count back so far.
    pub const LONGEST: Duration = Duration::from_secs(36_500 * 24 * 3600);

    /// Writes it down, with the owner's login. Says whether that changed anything.
    ///
    /// # Errors
    /// When the database cannot be asked, or the login is not the owner's.
    pub async fn allow(&self, owner: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let seconds = |kept: Option<Duration>| kept.map(|kept| kept.as_secs_f64());
        let done = sqlx::query(
            "-- retention::allow
             update tocsin.retention
             set versions = $1 * interval '1 second', events = $2 * interval '1 second', quarantine = $3 * interval '1 second',
                 gaps = $4 * interval '1 second', comparisons = $5 * interval '1 second'
             where (versions, events, quarantine, gaps, comparisons) is distinct from
                 ($1 * interval '1 second', $2 * interval '1 second', $3 * interval '1 second', $4 * interval '1 second', $5 * interval '1 second')",
        )
        .bind(seconds(self.versions))
        .bind(seconds(self.events))
        .bind(seconds(self.quarantine))
        .bind(seconds(self.gaps))
        .bind(seconds(self.comparisons))
        .execute(owner)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// What stands in the database.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn allowed(db: impl PgExecutor<'_>) -> Result<Self, sqlx::Error> {
        let row: [Option<f64>; 5] = sqlx::query_as::<_, (Option<f64>, Option<f64>, Option<f64>, Option<f64>, Option<f64>)>(
            "-- retention::allowed
             select extract(epoch from versions)::float8, extract(epoch from events)::float8, extract(epoch from quarantine)::float8,
                 extract(epoch from gaps)::float8, extract(epoch from comparisons)::float8
             from tocsin.retention",
        )
        .fetch_one(db)
        .await?
        .into();
        let [versions, events, quarantine, gaps, comparisons] =
            row.map(|seconds| seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()));
        Ok(Self { versions, events, quarantine, gaps, comparisons })
    }

    /// What is kept for another time than before, in words; nothing when nothing is.
    pub fn changes(&self, before: &Self) -> Vec<String> {
        let words = |kept: Option<Duration>| kept.map_or("for ever".to_owned(), |kept| format!("{}d", kept.as_secs() / 86_400));
        [
            ("versions", before.versions, self.versions),
            ("events", before.events, self.events),
            ("quarantine", before.quarantine, self.quarantine),
            ("gaps", before.gaps, self.gaps),
            ("comparisons", before.comparisons, self.comparisons),
        ]
        .into_iter()
        .filter(|(_, before, now)| before != now)
        .map(|(what, before, now)| format!("{what} are kept {} instead of {}", words(now), words(before)))
        .collect()
    }
}

/// The months of versions that may go now, oldest first, as `2026-08`.
///
/// # Errors
/// When the database cannot be asked.
pub async fn months_over(db: impl PgExecutor<'_>) -> Result<Vec<String>, sqlx::Error> {
    let sql = "-- retention::months_over\nselect to_char(month, 'YYYY-MM') from tocsin.version_part where over order by month";
    sqlx::query_scalar(sql).fetch_all(db).await
}

/// A month that was looked at.
#[derive(Debug, FromRow)]
struct Dropped {
    dropped: bool,
    versions: i64,
    kept: i64,
    bytes: i64,
}

/// The long-lived task that makes months ahead and forgets old ones; see [`Keeper::run`].
///
/// Every replica runs it: each step is a transaction of its own, and one replica at a time drops a month.
pub struct Keeper {
    pool: PgPool,
    clock: Arc<dyn Clock>,
    months: Months,
    /// Months of which it was said that they have to wait.
    waiting: BTreeSet<String>,
}

impl Keeper {
    /// Puts it together; it does nothing before [`Keeper::run`].
    pub fn new(pool: PgPool, clock: Arc<dyn Clock>) -> Self {
        Self { pool, clock, months: Months::default(), waiting: BTreeSet::new() }
    }

    /// Works until `stop`. Trouble with the database is waited for; others tell of it.
    ///
    /// # Errors
    /// Never.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), String> {
        // A round is dropped wherever it stands: what is half-way in the database is rolled back.
        while stop.run_until_cancelled(self.round()).await.is_some() {}
        Ok(())
    }

    async fn round(&mut self) {
        let pause = match self.look().await {
            Ok(()) => EVERY,
            Err(error) => {
                tracing::info!(%error, "what is too old could not be forgotten just now; it is tried again in a minute");
                AGAIN
            }
        };
        sleep(pause).await;
    }

    /// Does all that is due.
    ///
    /// # Errors
    /// When the database cannot be asked, or somebody uses what should go.
    pub async fn look(&mut self) -> Result<(), sqlx::Error> {
        let mut conn = self.pool.acquire().await?;
        let now = self.clock.now();
        self.months.ensure(&mut conn, AHEAD.into_iter().map(|ahead| now.plus(ahead)), now).await.map_err(sqlx::Error::decode)?;
        let due: Vec<String> = sqlx::query_scalar(
            "-- retention::due
             select to_char(p.month, 'YYYY-MM-DD') from tocsin.version_part p where p.over order by p.month",
        )
        .fetch_all(&mut *conn)
        .await?;
        for month in due {
            self.drop_month(&mut conn, month).await?;
        }
        while forget(&mut conn).await? > 0 {
            sleep(BREATH).await;
        }
        Ok(())
    }

    async fn drop_month(&mut self, conn: &mut PgConnection, month: String) -> Result<(), sqlx::Error> {
        let mut tx = conn.begin().await?;
        session::prepare(&mut tx, Limits { statement: STATEMENT, lock: LOCK }).await?;
        let done: Option<Dropped> = sqlx::query_as(
            "-- retention::drop_month
             select dropped, versions, kept, bytes from tocsin.drop_version_month($1::text::date, $2)",
        )
        .bind(&month)
        .bind(MOVED_AT_MOST)
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        match done {
            Some(Dropped { dropped: true, versions, kept, bytes }) => {
                self.waiting.remove(&month);
                tracing::info!(month, versions, kept, bytes, "a month of old versions was dropped, as [retention] versions wants it");
            }
            Some(Dropped { kept, .. }) if self.waiting.insert(month.clone()) => {
                tracing::info!(
                    month,
                    "this month of versions is old enough to go, and waits: more than {kept_at_most} of its alerts were still worked on within [retention] versions",
                    kept_at_most = kept - 1
                );
            }
            // Said before, or another replica is at it.
            Some(_) | None => {}
        }
        Ok(())
    }
}

async fn forget(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let mut tx = conn.begin().await?;
    session::prepare(&mut tx, Limits { statement: STATEMENT, lock: LOCK }).await?;
    let forgotten = sqlx::query_scalar(
        "-- retention::forget
         select tocsin.forget_some($1)",
    )
    .bind(PIECE)
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(forgotten)
}
