//! The limit that Postgres itself sets: COPY of the rows that the daemon has stored into a table of the same kind, in its
//! binary format, encoded before anybody counts. One table and one transaction per connection; no look-up, no latest state.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use sqlx::PgPool;
use sqlx::postgres::PgPoolCopyExt;

use crate::harness::proc_stats;
use crate::measure::ingest::Ground;

/// Signature, flags, and the length of an extension that nobody uses.
const HEADER: usize = 11 + 4 + 4;

/// Where a row would say how many fields it has, the end says this.
const END: i16 = -1;

/// So much is handed over at a time.
const PIECE: usize = 256 << 10;

/// Rows in the binary format of COPY.
pub struct Rows {
    header: Vec<u8>,
    /// One row after the other, without header and end.
    rows: Vec<u8>,
    /// Where each row begins.
    starts: Vec<usize>,
}

/// What a COPY came to.
#[derive(Clone, Copy, Debug)]
pub struct Copied {
    /// Connections at the same time.
    pub connections: usize,
    /// From the first statement to the last commit.
    pub wall: Duration,
    /// CPU seconds of this process, which hands the rows over.
    pub program_cpu: f64,
    /// CPU seconds of all processes of Postgres.
    pub postgres_cpu: f64,
    /// Rows that were stored.
    pub rows: u64,
    /// Their size on the line, bytes.
    pub bytes: usize,
}

impl Copied {
    /// Rows stored in a second.
    pub fn rate(&self) -> f64 {
        self.rows as f64 / self.wall.as_secs_f64()
    }
}

impl Rows {
    /// The first version of every alert that a daemon has stored, exactly.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn stored_first(pool: &PgPool) -> anyhow::Result<Self> {
        let sql = "copy (select * from tocsin.alert_version where version = 1) to stdout (format binary)";
        let pieces: Vec<_> = pool.copy_out_raw(sql).await?.try_collect().await?;
        Self::read(&pieces.concat())
    }

    fn read(all: &[u8]) -> anyhow::Result<Self> {
        let (header, mut rest) = all.split_at_checked(HEADER).context("less than a header")?;
        let mut rows = Self { header: header.to_owned(), rows: Vec::with_capacity(rest.len()), starts: Vec::new() };
        loop {
            let row = rest;
            let (fields, mut after) = rest.split_first_chunk().context("an end is missing")?;
            let fields = i16::from_be_bytes(*fields);
            if fields == END {
                return Ok(rows);
            }
            for _ in 0..fields {
                let (length, field) = after.split_first_chunk().context("half a row")?;
                // Of nothing there is -1 byte.
                let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
                after = field.get(length..).context("half a field")?;
            }
            rows.starts.push(rows.rows.len());
            rows.rows.extend_from_slice(&row[..row.len() - after.len()]);
            rest = after;
        }
    }

    /// So many streams of about as many rows each, each whole by itself.
    fn streams(&self, count: usize) -> Vec<Vec<u8>> {
        let start = |part: usize| self.starts.get(part * self.starts.len() / count).copied().unwrap_or(self.rows.len());
        let rows = (0..count).map(|part| &self.rows[start(part)..start(part + 1)]);
        rows.map(|rows| [&self.header, rows, &END.to_be_bytes()].concat()).collect()
    }
}

/// Copies these rows into a new table like `tocsin.alert_version`, in this database.
///
/// # Errors
/// When the database refuses, or a row is missing in the end.
pub async fn copy(ground: &Ground<'_>, pool: &PgPool, rows: &Rows, connections: usize) -> anyhow::Result<Copied> {
    sqlx::raw_sql("create schema copied; create table copied.version (like tocsin.alert_version including all)").execute(pool).await?;
    let streams = rows.streams(connections);
    let meter = ground.meter().await?;
    let program = proc_stats::cpu(std::process::id())?;
    let stored: u64 = try_join_all(streams.iter().map(|stream| one(pool, stream))).await?.into_iter().sum();
    let seen = meter.so_far().await?;
    let program_cpu = proc_stats::cpu(std::process::id())? - program;
    ensure!(usize::try_from(stored)? == rows.starts.len(), "{stored} of {} rows were copied", rows.starts.len());
    sqlx::query("drop schema copied cascade").execute(pool).await?;
    Ok(Copied { connections, wall: seen.wall, program_cpu, postgres_cpu: seen.postgres_cpu, rows: stored, bytes: rows.rows.len() })
}

async fn one(pool: &PgPool, stream: &[u8]) -> anyhow::Result<u64> {
    let mut copying = pool.copy_in_raw("copy copied.version from stdin (format binary)").await?;
    for piece in stream.chunks(PIECE) {
        copying.send(piece).await?;
    }
    Ok(copying.finish().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows: of the fields "ab" and nothing, and of the field "".
    fn two() -> Vec<u8> {
        let header = [b"PGCOPY\n\xff\r\n\0".as_slice(), &[0; 8]].concat();
        let first = [&[0, 2, 0, 0, 0, 2][..], b"ab", &[0xff; 4]].concat();
        [header, first, vec![0, 1, 0, 0, 0, 0], vec![0xff, 0xff]].concat()
    }

    #[test]
    fn rows_are_dealt_out_whole() {
        let rows = Rows::read(&two()).unwrap();
        assert_eq!(rows.starts, [0, 12]);
        assert_eq!(rows.streams(1), [two()]);
        let streams = rows.streams(2);
        assert!(streams.iter().all(|stream| Rows::read(stream).unwrap().starts == [0]));
        assert_eq!(streams.iter().map(|stream| Rows::read(stream).unwrap().rows).collect::<Vec<_>>().concat(), rows.rows);
    }

    #[test]
    fn half_a_row_is_an_error() {
        let whole = two();
        for length in 0..whole.len() {
            assert!(Rows::read(&whole[..length]).is_err(), "{length}");
        }
    }
}
