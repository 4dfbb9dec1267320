//! Alerts as they are stored: each change once to whoever goes on looking, and nothing missed by whoever comes back.
//!
//! What is new cannot be told by a time or a sequence: a transaction may commit long after one that began later. Every
//! row names the transaction that wrote it last, though, and below the oldest transaction that still runs nothing can
//! appear any more: that line is the place to go on from. What lies above it and is visible already is shown at once and
//! remembered, so that a transaction that runs for long delays nobody; only whoever comes back is shown it again.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use super::alerts::{AlertFilter, AlertRow, Columns};
use crate::error::ReadError;

/// Keys read at once.
const PAGE: i64 = 500;

/// A place in the stream of changes, as it is written down: everything that transactions below it wrote has been shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The server that counts the transactions.
    system: i64,
    /// The transaction.
    upto: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.system.cast_unsigned(), self.upto)
    }
}

/// What was given is no place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor: copy the one that `tocsin alerts tail --json` printed with the last line that you have")]
pub struct NoPlace;

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (system, upto) = text.split_once('-').ok_or(NoPlace)?;
        let system = u64::from_str_radix(system, 16).map_err(|_| NoPlace)?.cast_signed();
        let upto = upto.parse().ok().filter(|upto| *upto >= 0).ok_or(NoPlace)?;
        Ok(Self { system, upto })
    }
}

/// Why a tail cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The database could not be asked.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The place was noted elsewhere.
    #[error("the cursor is of another database server, where changes are counted otherwise: begin anew, with --since for what was missed")]
    Elsewhere,
    /// The place was noted before this database was set back.
    #[error(
        "the cursor is ahead of this database, which was probably restored from a backup: begin anew, with --since for what was missed"
    )]
    Ahead,
}

impl From<sqlx::Error> for TailError {
    fn from(error: sqlx::Error) -> Self {
        Self::Read(error.into())
    }
}

/// A change, and where to go on for whoever has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tailed {
    /// The alert as it stands.
    pub row: AlertRow,
    /// Whoever goes on from here misses nothing, and may see again what the same transaction wrote.
    pub place: Place,
}

/// A look-out for changes.
#[derive(Clone, Debug)]
pub struct Tail {
    place: Place,
    /// What was shown, or was there before, above the place: by which transaction it was changed last.
    seen: HashMap<(Uuid, String), i64>,
}

/// What one look sees of the server's transactions.
#[derive(FromRow)]
struct Here {
    system: i64,
    /// The oldest that still runs.
    oldest: i64,
    /// The first that has not begun.
    next: i64,
}

#[derive(FromRow)]
struct Key {
    tenant: Uuid,
    alert_id: String,
    changed: i64,
}

impl Tail {
    /// Begins with what is stored from now on.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn from_now(pool: &PgPool) -> Result<Self, TailError> {
        let mut tx = pool.begin_with(SNAPSHOT).await?;
        let here = here(&mut tx).await?;
        let mut tail = Self { place: Place { system: here.system, upto: here.oldest }, seen: HashMap::new() };
        let mut after = Key { tenant: Uuid::nil(), alert_id: String::new(), changed: here.oldest };
        loop {
            let page = keys(&mut tx, None, &after, here.next).await?;
            let full = page.len() == PAGE as usize;
            for key in page {
                tail.seen.insert((key.tenant, key.alert_id.clone()), key.changed);
                after = key;
            }
            if !full {
                return Ok(tail);
            }
        }
    }

    /// Begins where another one stopped.
    ///
    /// # Errors
    /// When the database cannot be asked, or is not the one in which the place was noted.
    pub async fn after(pool: &PgPool, place: Place) -> Result<Self, TailError> {
        let here = here(&mut *pool.acquire().await?).await?;
        place.fits(&here)?;
        Ok(Self { place, seen: HashMap::new() })
    }

    /// Everything below has been shown.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Alerts stored, or stored anew, since the last look, in the order of the transactions that did it. When these are
    /// `filter.limit` or more there may be others: look again at once. `filter.since` is not used, the place says it.
    ///
    /// # Errors
    /// When the database cannot be asked; the tail is then still good. When it has become another one.
    pub async fn look(&mut self, pool: &PgPool, filter: &AlertFilter) -> Result<Vec<Tailed>, TailError> {
        // Keys and rows out of one snapshot: a row is what its transaction left.
        let mut tx = pool.begin_with(SNAPSHOT).await?;
        let here = here(&mut tx).await?;
        self.place.fits(&here)?;
        let mut after = Key { tenant: Uuid::nil(), alert_id: String::new(), changed: self.place.upto };
        let mut upto = self.place.upto.max(here.oldest);
        let mut shown = Vec::new();
        let mut news = HashMap::new();
        loop {
            let page = keys(&mut tx, filter.tenant.map(|tenant| tenant.0), &after, here.next).await?;
            let full = page.len() == PAGE as usize;
            let fresh: Vec<&Key> =
                page.iter().filter(|key| self.seen.get(&(key.tenant, key.alert_id.clone())) != Some(&key.changed)).collect();
            for (row, changed) in rows(&mut tx, filter, &fresh).await? {
                let upto = changed.min(here.oldest).max(self.place.upto);
                shown.push(Tailed { row, place: Place { upto, ..self.place } });
            }
            news.extend(page.iter().map(|key| ((key.tenant, key.alert_id.clone()), key.changed)));
            if let Some(last) = page.into_iter().next_back() {
                after = last;
            }
            if full && shown.len() >= filter.limit as usize {
                upto = upto.min(after.changed);
                break;
            }
            if !full {
                break;
            }
        }
        // From here on the look has happened.
        self.place.upto = upto;
        self.seen.extend(news);
        self.seen.retain(|_, changed| *changed >= upto);
        if let Some(last) = shown.last_mut() {
            last.place = self.place;
        }
        Ok(shown)
    }
}

impl Place {
    fn fits(self, here: &Here) -> Result<(), TailError> {
        if self.system != here.system {
            return Err(TailError::Elsewhere);
        }
        if self.upto > here.next {
            return Err(TailError::Ahead);
        }
        Ok(())
    }
}

const SNAPSHOT: &str = "begin isolation level repeatable read read only";

async fn here(conn: &mut PgConnection) -> Result<Here, sqlx::Error> {
    sqlx::query_as(
        "-- tail::here
         select system_identifier as system, pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest,
             pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next
         from pg_control_system()",
    )
    .fetch_one(conn)
    .await
}

/// The next changes, tenant by tenant out of the index and then put in order. What another server stamped ahead of this
/// one's transactions is no change.
const KEYS: &str = "-- tail::keys
    select k.tenant, k.alert_id, k.changed_xid::text::bigint as changed
    from tocsin.tenant t
    cross join lateral (
        select a.tenant, a.alert_id, a.changed_xid
        from tocsin.alert a
        where a.tenant = t.tenant and a.changed_xid >= $2::text::xid8 and a.changed_xid < $5::text::xid8
            and (a.changed_xid, a.tenant, a.alert_id) > ($2::text::xid8, $3, $4)
        order by a.changed_xid, a.alert_id
        limit $6
    ) k
    where $1::uuid is null or t.tenant = $1
    order by k.changed_xid, k.tenant, k.alert_id
    limit $6";

async fn keys(conn: &mut PgConnection, tenant: Option<Uuid>, after: &Key, next: i64) -> Result<Vec<Key>, sqlx::Error> {
    sqlx::query_as(KEYS)
        .bind(tenant)
        .bind(after.changed.to_string())
        .bind(after.tenant)
        .bind(&after.alert_id)
        .bind(next.to_string())
        .bind(PAGE)
        .fetch_all(conn)
        .await
}

/// The alerts of these keys, each by its key out of the view, with the transactions that changed them, in their order.
async fn rows(conn: &mut PgConnection, filter: &AlertFilter, keys: &[&Key]) -> Result<Vec<(AlertRow, i64)>, sqlx::Error> {
    #[derive(FromRow)]
    struct Changed {
        #[sqlx(flatten)]
        columns: Columns,
        changed: i64,
    }
    let rows: Vec<Changed> = sqlx::query_as(
        "-- tail::rows
         select d.*, k.changed
         from unnest($1::uuid[], $2::text[], $3::bigint[]) as k(tenant, alert_id, changed)
         cross join lateral (
             select directory_id, tenant, alert_id, incident_id, title, severity, status, service_source, detection_source, category,
                    created_at, last_updated_at, first_stored_at, last_stored_at, version_count, portal_url,
                    assigned_to, classification, determination
             from dash.alert d
             where d.directory_id = k.tenant and d.alert_id = k.alert_id and ($4::text is null or lower(d.severity) = lower($4))
             limit 1
         ) d
         order by k.changed, d.last_stored_at, k.tenant, k.alert_id",
    )
    .bind(keys.iter().map(|key| key.tenant).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.alert_id.as_str()).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.changed).collect::<Vec<_>>())
    .bind(filter.severity.as_deref())
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (AlertRow::from(row.columns), row.changed)).collect())
}

#[cfg(test)]
mod tests {
    use sqlx::AssertSqlSafe;

    use super::*;

    #[sqlx::test(migrations = "../../migrations")]
    async fn a_look_reads_what_changed_and_nothing_else(pool: PgPool) {
        sqlx::raw_sql(
            "insert into tocsin.tenant (tenant, name, cloud, app, sources, state)
             select md5(n::text)::uuid, n::text, 'global', 'main', '{graph-alerts}', 'active' from generate_series(1, 50) n;
             insert into tocsin.alert (tenant, alert_id, source, source_rank, hash, version_created_at, changed_xid)
             select md5((n % 50 + 1)::text)::uuid, n::text, 'graph-alerts', 2, '', '2026-10-01', (n / 10 + 1)::text::xid8
             from generate_series(1, 20000) n;
             analyze tocsin.alert, tocsin.tenant",
        )
        .execute(&pool)
        .await
        .unwrap();
        let mut conn = pool.acquire().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("prepare keys(uuid, text, uuid, text, text, bigint) as {KEYS}")))
            .execute(&mut *conn)
            .await
            .unwrap();
        for tenant in ["null", "'c4ca4238-a0b9-2382-0dcc-509a6f75849b'"] {
            let explain =
                format!("explain (costs off) execute keys({tenant}, '1990', '00000000-0000-0000-0000-000000000000', '', '9999', 500)");
            let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain)).persistent(false).fetch_all(&mut *conn).await.unwrap();
            let plan = plan.join("\n");
            assert!(!plan.contains("Seq Scan on alert") && plan.contains("alert_by_change"), "{plan}");
        }
    }

    #[test]
    fn a_place_is_written_and_read_again() {
        for place in [Place { system: 7_512_345_678_901_234_567, upto: 4711 }, Place { system: -5, upto: 0 }] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for text in ["", "4711", "x-1", "1-x", "1--1", "1-1-1", " 1-1"] {
            assert_eq!(text.parse::<Place>(), Err(NoPlace), "{text}");
        }
    }
}
