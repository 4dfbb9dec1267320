//! Monthly partitions of `tocsin.alert_version`, made when an alert first needs one.
//!
//! This happens in a transaction of its own before the batch: making a partition takes locks that must
//! not be held while a batch is written. When it fails, the default partition takes the rows, and the
//! month stays there.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::Ticks;
use jiff::tz::TimeZone;
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use super::session::{self, Limits};
use super::stamp::PgStamp;
use crate::store::StoreError;

/// Attaching waits for those who are using the default partition, and everybody who comes later waits
/// for it: a short limit keeps a slow reader from stopping all storing.
const LIMIT: Duration = Duration::from_secs(3);
/// After a failure the month is left alone for so long.
const PAUSE: Duration = Duration::from_secs(60);
/// The database makes no partitions for times before 2015 or further ahead than this; it need not be asked.
const AHEAD: Duration = Duration::from_secs(62 * 24 * 3600);
const FIRST_YEAR: i16 = 2015;

/// A month of the calendar, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Month(i16, i8);

impl Month {
    /// The month of a creation time that deserves a partition.
    fn of(created: Ticks, now: Ticks) -> Option<Self> {
        let date = created.to_timestamp().filter(|_| created <= now.plus(AHEAD))?.to_zoned(TimeZone::UTC);
        (date.year() >= FIRST_YEAR).then(|| Self(date.year(), date.month()))
    }
}

/// Which months this process has seen to.
#[derive(Debug, Default)]
pub(crate) struct Months(Mutex<BTreeMap<Month, State>>);

#[derive(Clone, Copy, Debug)]
enum State {
    Done,
    FailedAt(Instant),
}

impl Months {
    /// Sees to the partitions for these creation times.
    ///
    /// # Errors
    /// [`StoreError::Away`] when the database cannot be reached; then the batch cannot be stored either,
    /// and must not fill the default partition as soon as it can. Other failures are logged and passed over.
    pub(crate) async fn ensure(&self, conn: &mut PgConnection, created: impl Iterator<Item = Ticks>, now: Ticks) -> Result<(), StoreError> {
        for (month, at) in self.missing(created, now) {
            match make(conn, at).await.map_err(StoreError::from) {
                Ok(()) => self.set(month, State::Done),
                Err(error @ StoreError::Away(_)) => return Err(error),
                Err(error) => {
                    self.set(month, State::FailedAt(Instant::now()));
                    tracing::warn!(
                        month = format!("{}-{:02}", month.0, month.1),
                        %error,
                        "no partition could be made for this month; its alerts go into the default partition"
                    );
                }
            }
        }
        Ok(())
    }

    fn missing(&self, created: impl Iterator<Item = Ticks>, now: Ticks) -> BTreeMap<Month, PgStamp> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        created
            .filter_map(|created| Some((Month::of(created, now)?, PgStamp::of(created)?)))
            .filter(|(month, _)| match seen.get(month) {
                None => true,
                Some(State::Done) => false,
                Some(State::FailedAt(at)) => at.elapsed() >= PAUSE,
            })
            .collect()
    }

    fn set(&self, month: Month, state: State) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(month, state);
    }
}

async fn make(conn: &mut PgConnection, at: PgStamp) -> Result<(), sqlx::Error> {
    let mut tx = conn.begin().await?;
    session::prepare(&mut tx, Limits { statement: LIMIT, lock: LIMIT }).await?;
    sqlx::query(
        "-- partitions::make
         select tocsin.ensure_version_partition($1)",
    )
    .bind(at)
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_month_is_asked_for_once_and_the_absurd_not_at_all() {
        let now = Ticks::parse("2026-11-21T00:00:00Z").unwrap();
        let months = Months::default();
        let stamps = [
            "2026-11-01T00:00:00Z",
            "2026-11-30T23:59:59.9999999Z",
            "2026-10-31T23:59:59Z",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "2014-12-31T00:00:00Z",
            "2027-03-01T00:00:00Z",
        ];
        let ask = || months.missing(stamps.iter().filter_map(|text| Ticks::parse(text)), now).into_keys().collect::<Vec<_>>();
        assert_eq!(ask(), [Month(2026, 10), Month(2026, 11)]);
        months.set(Month(2026, 10), State::Done);
        assert_eq!(ask(), [Month(2026, 11)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_month_that_failed_is_left_alone_for_a_while() {
        let now = Ticks::parse("2026-11-21T00:00:00Z").unwrap();
        let months = Months::default();
        months.set(Month(2026, 11), State::FailedAt(Instant::now()));
        assert!(months.missing([now].into_iter(), now).is_empty());
        tokio::time::advance(PAUSE).await;
        assert_eq!(months.missing([now].into_iter(), now).len(), 1);
    }
}
