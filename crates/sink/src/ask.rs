//! What an operator asks for: reading again, comparing, trying again what is in quarantine.
//!
//! Asking writes a row, nothing else, in a transaction of its own or in that of the caller.
//! The replica that holds the tenant does the work, with its own token, lease and
//! fence, and writes down how far it has come; [`crate::read::run_state`] and [`crate::read::replay_result`] show it.

use domain::{Errand, Source, TenantId, Ticks};
use sqlx::postgres::PgBindIterExt;
use sqlx::{Acquire, PgConnection, Postgres};
use uuid::Uuid;

use crate::error::ReadError;
use crate::postgres::stamp::PgStamp;
use crate::read::{QuarantineRow, Selected};

/// Why nothing was asked for, or nothing found.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no such tenant, or it was removed.
    #[error("there is no tenant {0}")]
    NoSuchTenant(TenantId),
    /// The tenant is there, but this source of it is not read.
    #[error("{source_name} is not read for this tenant; it reads {}", .read.join(", "))]
    NotRead {
        /// The source asked for.
        source_name: Source,
        /// What is read.
        read: Vec<String>,
    },
    /// A stretch that is empty, backwards, or outside the years 1 to 9999.
    #[error("there is nothing to read from {from} to {to}")]
    NoStretch {
        /// Where it begins.
        from: Ticks,
        /// Where it ends.
        to: Ticks,
    },
    /// One is open already.
    #[error("{errand} is under way for this feed already (run {run})")]
    Open {
        /// Which errand.
        errand: Errand,
        /// Which run.
        run: i64,
    },
    /// There is none that could be cancelled.
    #[error("{0} is not under way for this feed")]
    NothingOpen(Errand),
    /// A text that cannot be the beginning of a hash.
    #[error("\"{0}\" is no id of a record in quarantine: say at least four hexadecimal digits of it")]
    NoPrefix(String),
    /// No record has this hash.
    #[error("no record in quarantine has an id that begins with {0}")]
    NoSuchRecord(String),
    /// Several records have such a hash.
    #[error("{} records in quarantine have an id that begins with {prefix}; say more of it, or name the tenant", .candidates.len())]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// The first hundred that it could be.
        candidates: Vec<QuarantineRow>,
    },
    /// The database cannot be asked, or refuses.
    #[error(transparent)]
    Database(#[from] ReadError),
}

impl From<sqlx::Error> for AskError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(ReadError::from(error))
    }
}

/// Asks to read `[from, to)` of a feed back, and returns the run. With `replace` one that is open is given up for it.
///
/// # Errors
/// [`AskError::Open`] when one is open and not to be replaced; or for a feed or stretch that does not exist.
pub async fn backfill(
    db: impl Acquire<'_, Database = Postgres>,
    tenant: TenantId,
    source: Source,
    from: Ticks,
    to: Ticks,
    replace: bool,
) -> Result<i64, AskError> {
    ask(db, tenant, source, Errand::Backfill, (from, to), replace).await
}

/// Asks to compare `[from, to)` of a feed with what is stored, and returns the run.
///
/// # Errors
/// [`AskError::Open`] when one is open; or for a feed or stretch that does not exist.
pub async fn comparison(
    db: impl Acquire<'_, Database = Postgres>,
    tenant: TenantId,
    source: Source,
    from: Ticks,
    to: Ticks,
) -> Result<i64, AskError> {
    ask(db, tenant, source, Errand::Reconcile, (from, to), false).await
}

/// Calls off what is open of an errand, and returns its run. What was stored on the way stays.
///
/// # Errors
/// [`AskError::NothingOpen`], or when there is no such feed.
pub async fn cancel(db: impl Acquire<'_, Database = Postgres>, tenant: TenantId, source: Source, errand: Errand) -> Result<i64, AskError> {
    let mut conn = db.acquire().await?;
    check_feed(&mut conn, tenant, source).await?;
    let run: Option<i64> = sqlx::query_scalar(
        "-- ask::cancel
         update tocsin.reread set cancelled_at = now(), finished_at = now()
         where tenant = $1 and source = $2 and errand = $3 and finished_at is null
         returning run",
    )
    .bind(tenant.0)
    .bind(source.as_str())
    .bind(errand.as_str())
    .fetch_optional(&mut *conn)
    .await?;
    run.ok_or(AskError::NothingOpen(errand))
}

pub(crate) async fn ask(
    db: impl Acquire<'_, Database = Postgres>,
    tenant: TenantId,
    source: Source,
    errand: Errand,
    (from, to): (Ticks, Ticks),
    replace: bool,
) -> Result<i64, AskError> {
    if from >= to || PgStamp::of(from).is_none() || PgStamp::of(to).is_none() {
        return Err(AskError::NoStretch { from, to });
    }
    let mut tx = db.begin().await?;
    check_feed(&mut tx, tenant, source).await?;
    let run = insert(&mut tx, tenant, source, errand, (from, to), replace).await?;
    tx.commit().await?;
    Ok(run)
}

async fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    source: Source,
    errand: Errand,
    (from, to): (Ticks, Ticks),
    replace: bool,
) -> Result<i64, AskError> {
    let run: Option<i64> = sqlx::query_scalar(
        "-- ask::insert
         insert into tocsin.reread as r (tenant, source, errand, from_ticks, to_ticks, left_ticks, polled_before_ticks, asked_at)
         values ($1, $2, $3, $4, $5, $5, $5, now())
         on conflict (tenant, source, errand) do update set
             run = r.run + 1,
             axis = 'update',
             from_ticks = excluded.from_ticks,
             to_ticks = excluded.to_ticks,
             left_ticks = excluded.left_ticks,
             polled_before_ticks = excluded.polled_before_ticks,
             asked_at = now(),
             started_at = null,
             moved_at = null,
             finished_at = null,
             cancelled_at = null,
             records = 0,
             new_alerts = 0,
             updated_alerts = 0,
             late = 0,
             missing_ids = '{}',
             changed_ids = '{}'
         where $6 or r.finished_at is not null
         returning run",
    )
    .bind(tenant.0)
    .bind(source.as_str())
    .bind(errand.as_str())
    .bind(from.0)
    .bind(to.0)
    .bind(replace)
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(run) = run {
        return Ok(run);
    }
    let run = sqlx::query_scalar(
        "-- ask::open
         select run from tocsin.reread where tenant = $1 and source = $2 and errand = $3",
    )
    .bind(tenant.0)
    .bind(source.as_str())
    .bind(errand.as_str())
    .fetch_one(conn)
    .await?;
    Err(AskError::Open { errand, run })
}

async fn check_feed(conn: &mut PgConnection, tenant: TenantId, source: Source) -> Result<(), AskError> {
    let read: Option<Vec<String>> = sqlx::query_scalar(
        "-- ask::check_feed
         select sources from tocsin.tenant where tenant = $1 and state <> 'removed'",
    )
    .bind(tenant.0)
    .fetch_optional(conn)
    .await?;
    let read = read.ok_or(AskError::NoSuchTenant(tenant))?;
    if read.iter().any(|word| word == source.as_str()) { Ok(()) } else { Err(AskError::NotRead { source_name: source, read }) }
}

/// Which records in quarantine to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayOf {
    /// All that were not understood yet.
    All {
        /// Of this tenant only.
        tenant: Option<TenantId>,
        /// Of this source only.
        source: Option<Source>,
    },
    /// These.
    These(Vec<Selected>),
}

/// A replay that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayAsked {
    /// Of this tenant.
    pub tenant: TenantId,
    /// Of this source.
    pub source: Source,
    /// Its run.
    pub run: i64,
    /// How many records it will try.
    pub records: u64,
}

/// Asks to try records in quarantine again, and returns the replays, one for each feed that is read and has such
/// records. One that is under way is begun anew, with what it has not tried yet.
///
/// # Errors
/// When the database cannot be asked. Then nothing is asked for.
pub async fn replay(db: impl Acquire<'_, Database = Postgres>, which: &ReplayOf) -> Result<Vec<ReplayAsked>, AskError> {
    let mut tx = db.begin().await?;
    let feeds = mark(&mut tx, which).await?;
    let now: PgStamp = sqlx::query_scalar("select now()").fetch_one(&mut *tx).await?;
    let now = now.to_ticks().unwrap_or(Ticks(0));
    let mut asked = Vec::new();
    for (tenant, source, records) in feeds {
        let Ok(source) = source.parse::<Source>() else { continue };
        let tenant = TenantId(tenant);
        let run = insert(&mut tx, tenant, source, Errand::Replay, (now, now), true).await?;
        asked.push(ReplayAsked { tenant, source, run, records: u64::try_from(records).unwrap_or(0) });
    }
    tx.commit().await?;
    Ok(asked)
}

/// Marks records to be tried again, and says how many of which feed.
pub(crate) async fn mark(conn: &mut PgConnection, which: &ReplayOf) -> Result<Vec<(Uuid, String, i64)>, sqlx::Error> {
    let (tenant, source, these) = match which {
        ReplayOf::All { tenant, source } => (*tenant, *source, None),
        ReplayOf::These(these) => (None, None, Some(these.as_slice())),
    };
    let each = || these.unwrap_or_default().iter();
    sqlx::query_as(
        "-- ask::replay
         with marked as (
             update tocsin.quarantine q set replay_at = now()
             from tocsin.tenant t
             where t.tenant = q.tenant and t.state <> 'removed' and q.source = any (t.sources) and q.replayed_at is null
               and ($1::uuid is null or q.tenant = $1) and ($2::text is null or q.source = $2)
               and ($3 or exists (
                   select from unnest($4::uuid[], $5::text[], $6::bytea[]) as n(tenant, source, hash)
                   where n.tenant = q.tenant and n.source = q.source and n.hash = q.hash
               ))
             returning q.tenant, q.source
         )
         select tenant, source, count(*) from marked group by tenant, source order by tenant, source",
    )
    .bind(tenant.map(|tenant| tenant.0))
    .bind(source.map(Source::as_str))
    .bind(these.is_none())
    .bind(each().map(|one| one.tenant.0).bind_iter())
    .bind(each().map(|one| one.source.as_str()).bind_iter())
    .bind(each().map(|one| one.hash.0).bind_iter())
    .fetch_all(conn)
    .await
}
