//! What is in quarantine.

use domain::{ContentHash, Source, TenantId, Ticks};
use serde::Serialize;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::{ours, stamp, stamp_or_null};
use crate::ask::AskError;
use crate::error::ReadError;
use crate::postgres::stamp::PgStamp;

/// Which records to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineFilter {
    /// Of this tenant only.
    pub tenant: Option<TenantId>,
    /// Of this source only.
    pub source: Option<Source>,
    /// Also those that were understood in a replay.
    pub replayed: bool,
    /// What comes after this record, the last of the page before.
    pub after: Option<QuarantinePlace>,
    /// No more than so many.
    pub limit: u32,
}

impl Default for QuarantineFilter {
    fn default() -> Self {
        Self { tenant: None, source: None, replayed: false, after: None, limit: 50 }
    }
}

/// A place in the list, which is newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinePlace {
    seen_at: Ticks,
    record: Selected,
}

/// A record in quarantine by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Whose.
    pub tenant: TenantId,
    /// From where.
    pub source: Source,
    /// Of its bytes.
    pub hash: ContentHash,
}

/// A record in quarantine without its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QuarantineRow {
    /// The first 16 digits of its hash: what to say to `show` and `replay`.
    pub id: String,
    /// The customer.
    pub directory_id: TenantId,
    /// The operator's name for it.
    pub tenant: String,
    /// From where.
    pub source: Source,
    /// What is wrong with it.
    pub reason: String,
    /// How large it is.
    pub bytes: i64,
    /// When it was first seen.
    #[serde(serialize_with = "stamp")]
    pub seen_at: Ticks,
    /// When an operator last asked to try it again.
    #[serde(serialize_with = "stamp_or_null")]
    pub replay_at: Option<Ticks>,
    /// When it was last tried again.
    #[serde(serialize_with = "stamp_or_null")]
    pub tried_at: Option<Ticks>,
    /// When it was understood; it is stored as an alert since.
    #[serde(serialize_with = "stamp_or_null")]
    pub replayed_at: Option<Ticks>,
    /// Its key.
    #[serde(skip)]
    pub record: Selected,
}

impl QuarantineRow {
    /// Its place in the list, for the page that follows.
    pub fn place(&self) -> QuarantinePlace {
        QuarantinePlace { seen_at: self.seen_at, record: self.record }
    }
}

/// A record in quarantine, with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineRecord {
    /// All but the bytes.
    pub row: QuarantineRow,
    /// As received.
    pub raw: Vec<u8>,
}

#[derive(FromRow)]
struct Columns {
    tenant: Uuid,
    name: String,
    source: String,
    hash: Vec<u8>,
    reason: String,
    bytes: i64,
    seen_at: PgStamp,
    replay_at: Option<PgStamp>,
    tried_at: Option<PgStamp>,
    replayed_at: Option<PgStamp>,
}

impl Columns {
    /// `None` for what a later version has written in words that we do not know.
    fn row(self) -> Option<QuarantineRow> {
        let hash = ContentHash(self.hash.try_into().ok()?);
        let record = Selected { tenant: TenantId(self.tenant), source: self.source.parse().ok()?, hash };
        Some(QuarantineRow {
            id: hash.0[..8].iter().map(|byte| format!("{byte:02x}")).collect(),
            directory_id: record.tenant,
            tenant: self.name,
            source: record.source,
            reason: self.reason,
            bytes: self.bytes,
            seen_at: ours(self.seen_at),
            replay_at: self.replay_at.map(ours),
            tried_at: self.tried_at.map(ours),
            replayed_at: self.replayed_at.map(ours),
            record,
        })
    }
}

/// Records in quarantine, those seen last first.
///
/// # Errors
/// When the database cannot be asked.
pub async fn quarantine_list(pool: &PgPool, filter: &QuarantineFilter) -> Result<Vec<QuarantineRow>, ReadError> {
    let after = filter.after.as_ref();
    let rows: Vec<Columns> = sqlx::query_as(
        "-- read::quarantine_list
         select q.tenant, t.name, q.source, q.hash, q.reason, octet_length(q.raw_bytes)::bigint as bytes,
                q.seen_at, q.replay_at, q.tried_at, q.replayed_at
         from tocsin.quarantine q join tocsin.tenant t using (tenant)
         where ($1::uuid is null or q.tenant = $1) and ($2::text is null or q.source = $2) and ($3 or q.replayed_at is null)
           and ($4::timestamptz is null or (q.seen_at, q.tenant, q.source, q.hash) < ($4, $5, $6, $7))
         order by q.seen_at desc, q.tenant desc, q.source desc, q.hash desc
         limit $8",
    )
    .bind(filter.tenant.map(|tenant| tenant.0))
    .bind(filter.source.map(Source::as_str))
    .bind(filter.replayed)
    .bind(after.and_then(|after| PgStamp::of(after.seen_at)))
    .bind(after.map(|after| after.record.tenant.0))
    .bind(after.map(|after| after.record.source.as_str()))
    .bind(after.map(|after| after.record.hash.0))
    .bind(i64::from(filter.limit))
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().filter_map(Columns::row).collect())
}

/// The record in quarantine, of any tenant, whose hash begins with these hexadecimal digits (at least four of them).
/// The same bytes of several feeds are several records: name the tenant then.
///
/// # Errors
/// [`AskError::NoPrefix`], [`AskError::NoSuchRecord`] or [`AskError::Ambiguous`]; or when the database cannot be asked.
pub async fn quarantine_show(pool: &PgPool, tenant: Option<TenantId>, prefix: &str) -> Result<QuarantineRecord, AskError> {
    let (low, high) = span(prefix).ok_or_else(|| AskError::NoPrefix(prefix.to_owned()))?;
    let rows: Vec<Columns> = sqlx::query_as(
        "-- read::quarantine_show
         select q.tenant, t.name, q.source, q.hash, q.reason, octet_length(q.raw_bytes)::bigint as bytes,
                q.seen_at, q.replay_at, q.tried_at, q.replayed_at
         from tocsin.quarantine q join tocsin.tenant t using (tenant)
         where q.hash between $1 and $2 and ($3::uuid is null or q.tenant = $3)
         order by q.seen_at desc
         limit 100",
    )
    .bind(low)
    .bind(high)
    .bind(tenant.map(|tenant| tenant.0))
    .fetch_all(pool)
    .await?;
    let mut rows: Vec<QuarantineRow> = rows.into_iter().filter_map(Columns::row).collect();
    let row = match rows.len() {
        0 => return Err(AskError::NoSuchRecord(prefix.to_owned())),
        1 => rows.remove(0),
        _ => return Err(AskError::Ambiguous { prefix: prefix.to_owned(), candidates: rows }),
    };
    let raw = sqlx::query_scalar(
        "-- read::quarantine_body
         select raw_bytes from tocsin.quarantine where tenant = $1 and source = $2 and hash = $3",
    )
    .bind(row.record.tenant.0)
    .bind(row.record.source.as_str())
    .bind(row.record.hash.0)
    .fetch_one(pool)
    .await?;
    Ok(QuarantineRecord { row, raw })
}

/// The smallest and the greatest hash that begin so.
fn span(prefix: &str) -> Option<([u8; 32], [u8; 32])> {
    if !(4..=64).contains(&prefix.len()) || !prefix.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let (mut low, mut high) = ([0; 32], [0xff; 32]);
    for (at, digit) in prefix.chars().enumerate() {
        let digit = u8::try_from(digit.to_digit(16)?).ok()?;
        let (shift, mask) = if at % 2 == 0 { (4, 0x0f) } else { (0, 0xf0) };
        low[at / 2] |= digit << shift;
        high[at / 2] = high[at / 2] & mask | digit << shift;
    }
    Some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_span_of_hashes() {
        let (low, high) = span("0aF3c").unwrap();
        assert_eq!((&low[..4], &high[..4]), (&[0x0a, 0xf3, 0xc0, 0x00][..], &[0x0a, 0xf3, 0xcf, 0xff][..]));
        assert_eq!(span(&"f".repeat(64)).unwrap(), ([0xff; 32], [0xff; 32]));
        for bad in ["", "abc", "xyzw", "abcdé", &"0".repeat(65)] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }
}
