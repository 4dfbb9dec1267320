//! Re-reads and comparisons: how far they have come, and what they found.

use domain::{Errand, Source, TenantId, Ticks};
use serde::Serialize;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::{ours, stamp, stamp_or_null};
use crate::error::ReadError;
use crate::postgres::rereads::asked_by;
use crate::postgres::stamp::PgStamp;

/// Where a re-read stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RereadState {
    /// It is asked for; nobody has begun.
    Waiting,
    /// It has begun and is not at its end.
    Running,
    /// All of it was read.
    Finished,
    /// An operator has called it off.
    Cancelled,
}

impl RereadState {
    /// Whether it will not move any more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Cancelled)
    }

    fn from_word(word: &str) -> Self {
        match word {
            "cancelled" => Self::Cancelled,
            "finished" => Self::Finished,
            "waiting" => Self::Waiting,
            _ => Self::Running,
        }
    }
}

/// A row of `dash.reread`, and which run it is. Serialises to the column names of the view.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RereadRow {
    /// The customer.
    pub directory_id: TenantId,
    /// The operator's name for it.
    pub tenant: String,
    /// What is read.
    pub source: String,
    /// What for, one of the words of [`Errand`].
    pub errand: String,
    /// Counts the re-reads of this errand.
    pub run: i64,
    /// Where it stands.
    pub state: RereadState,
    /// Start of the stretch, inclusive.
    #[serde(serialize_with = "stamp")]
    pub from_at: Ticks,
    /// End of the stretch, exclusive.
    #[serde(serialize_with = "stamp")]
    pub to_at: Ticks,
    /// How much of it is done, from 0 to 1.
    pub done: f64,
    /// Records read so far.
    pub records: i64,
    /// Of them, alerts or incidents that were not stored.
    pub new_alerts: i64,
    /// Of them, versions that were not stored, of what was.
    pub updated_alerts: i64,
    /// Of both, those that polling had passed over.
    pub late: i64,
    /// When an operator asked for it; absent when it came up by itself.
    #[serde(serialize_with = "stamp_or_null")]
    pub asked_at: Option<Ticks>,
    /// When it began.
    #[serde(serialize_with = "stamp_or_null")]
    pub started_at: Option<Ticks>,
    /// When it last moved.
    #[serde(serialize_with = "stamp_or_null")]
    pub moved_at: Option<Ticks>,
    /// When it ended.
    #[serde(serialize_with = "stamp_or_null")]
    pub finished_at: Option<Ticks>,
}

#[derive(FromRow)]
struct Columns {
    directory_id: Uuid,
    tenant: String,
    source: String,
    errand: String,
    run: i64,
    state: String,
    from_ticks: i64,
    to_ticks: i64,
    done: f64,
    records: i64,
    new_alerts: i64,
    updated_alerts: i64,
    late: i64,
    asked_at: Option<PgStamp>,
    started_at: Option<PgStamp>,
    moved_at: Option<PgStamp>,
    finished_at: Option<PgStamp>,
}

impl From<Columns> for RereadRow {
    fn from(row: Columns) -> Self {
        Self {
            directory_id: TenantId(row.directory_id),
            tenant: row.tenant,
            source: row.source,
            errand: row.errand,
            run: row.run,
            state: RereadState::from_word(&row.state),
            from_at: Ticks(row.from_ticks),
            to_at: Ticks(row.to_ticks),
            done: row.done,
            records: row.records,
            new_alerts: row.new_alerts,
            updated_alerts: row.updated_alerts,
            late: row.late,
            asked_at: row.asked_at.map(ours),
            started_at: row.started_at.map(ours),
            moved_at: row.moved_at.map(ours),
            finished_at: row.finished_at.map(ours),
        }
    }
}

/// The latest re-read of each errand of each feed, of one tenant or of all, by tenant's name, source and errand.
///
/// # Errors
/// When the database cannot be asked.
pub async fn rereads(pool: &PgPool, tenant: Option<TenantId>) -> Result<Vec<RereadRow>, ReadError> {
    Ok(select(pool, tenant, None).await?.into_iter().map(RereadRow::from).collect())
}

async fn select(pool: &PgPool, tenant: Option<TenantId>, one: Option<(Source, Errand)>) -> Result<Vec<Columns>, sqlx::Error> {
    sqlx::query_as(
        "-- read::rereads
         select d.directory_id, t.name as tenant, d.source, d.errand, r.run, d.state, r.from_ticks, r.to_ticks, d.done::double precision as done,
                d.records, d.new_alerts, d.updated_alerts, d.late, r.asked_at, d.started_at, d.moved_at, d.finished_at
         from dash.reread d
         join tocsin.reread r on r.tenant = d.directory_id and r.source = d.source and r.errand = d.errand
         join tocsin.tenant t on t.tenant = d.directory_id
         where ($1::uuid is null or d.directory_id = $1) and ($2::text is null or d.source = $2) and ($3::text is null or d.errand = $3)
         order by t.name, d.source, d.errand",
    )
    .bind(tenant.map(|tenant| tenant.0))
    .bind(one.map(|one| one.0.as_str()))
    .bind(one.map(|one| one.1.as_str()))
    .fetch_all(pool)
    .await
}

/// A row of `dash.reconciliation`. Serialises to the column names of the view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReconciliationRow {
    /// The customer.
    pub directory_id: TenantId,
    /// What was compared.
    pub source: String,
    /// `nightly` or `operator`.
    pub asked_by: String,
    /// When it began.
    #[serde(serialize_with = "stamp_or_null")]
    pub started_at: Option<Ticks>,
    /// When it ended.
    #[serde(serialize_with = "stamp")]
    pub finished_at: Ticks,
    /// Start of the stretch, inclusive.
    #[serde(serialize_with = "stamp")]
    pub from_at: Ticks,
    /// End of the stretch, exclusive.
    #[serde(serialize_with = "stamp")]
    pub to_at: Ticks,
    /// Alerts that the source shows.
    pub at_source: i64,
    /// Alerts that are stored.
    pub stored: i64,
    /// Alerts that were not stored; they are now.
    pub missing: i64,
    /// Versions that were not stored; they are now.
    pub changed: i64,
    /// Alerts that the source no longer shows.
    pub only_stored: i64,
    /// The first hundred ids of each.
    pub missing_ids: Vec<String>,
    /// See `missing_ids`.
    pub changed_ids: Vec<String>,
    /// See `missing_ids`.
    pub only_stored_ids: Vec<String>,
}

#[derive(FromRow)]
struct ReconciliationColumns {
    started_at: Option<PgStamp>,
    finished_at: PgStamp,
    from_ticks: i64,
    to_ticks: i64,
    at_source: i64,
    stored: i64,
    missing: i64,
    changed: i64,
    only_stored: i64,
    missing_ids: Vec<String>,
    changed_ids: Vec<String>,
    only_stored_ids: Vec<String>,
}

/// How a run of an errand stands that somebody waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct RunState {
    /// The re-read as it is on record. Its `run` is the one waited for, or a later one: a comparison that was interrupted
    /// is begun anew.
    pub reread: RereadRow,
    /// What it came to, once it is finished, if it is a comparison.
    pub reconciliation: Option<ReconciliationRow>,
}

impl RunState {
    /// Whether there is nothing to wait for any more.
    pub fn is_over(&self) -> bool {
        self.reread.state.is_over()
    }
}

/// How the re-read of this errand stands whose run is `run` or later; `None` when there is none.
///
/// # Errors
/// When the database cannot be asked.
pub async fn run_state(pool: &PgPool, tenant: TenantId, source: Source, errand: Errand, run: i64) -> Result<Option<RunState>, ReadError> {
    let found = select(pool, Some(tenant), Some((source, errand))).await?.into_iter().find(|row| row.run >= run);
    let Some(row) = found else { return Ok(None) };
    let reread = RereadRow::from(row);
    if !errand.is_comparison() || reread.state != RereadState::Finished {
        return Ok(Some(RunState { reread, reconciliation: None }));
    }
    let found: Option<ReconciliationColumns> = sqlx::query_as(
        "-- read::reconciliation
         select started_at, finished_at, from_ticks, to_ticks, at_source, stored, missing, changed, only_stored,
                missing_ids, changed_ids, only_stored_ids
         from tocsin.reconciliation
         where tenant = $1 and source = $2 and asked_by = $3 and run = $4
         order by finished_at desc
         limit 1",
    )
    .bind(tenant.0)
    .bind(source.as_str())
    .bind(asked_by(errand))
    .bind(reread.run)
    .fetch_optional(pool)
    .await?;
    let reconciliation = found.map(|row| ReconciliationRow {
        directory_id: tenant,
        source: source.to_string(),
        asked_by: asked_by(errand).to_owned(),
        started_at: row.started_at.map(ours),
        finished_at: ours(row.finished_at),
        from_at: Ticks(row.from_ticks),
        to_at: Ticks(row.to_ticks),
        at_source: row.at_source,
        stored: row.stored,
        missing: row.missing,
        changed: row.changed,
        only_stored: row.only_stored,
        missing_ids: row.missing_ids,
        changed_ids: row.changed_ids,
        only_stored_ids: row.only_stored_ids,
    });
    Ok(Some(RunState { reread, reconciliation }))
}

/// What a replay of quarantine has come to so far.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplayResult {
    /// Where the replay stands.
    pub state: RereadState,
    /// Records that are understood now and stored.
    pub understood: i64,
    /// Records that were tried and are no better understood than before.
    pub refused: i64,
    /// Records that are still to be tried.
    pub waiting: i64,
}

/// What the latest replay of a feed has come to, if its run is `run` or later.
///
/// # Errors
/// When the database cannot be asked.
pub async fn replay_result(pool: &PgPool, tenant: TenantId, source: Source, run: i64) -> Result<Option<ReplayResult>, ReadError> {
    let Some(RunState { reread, .. }) = run_state(pool, tenant, source, Errand::Replay, run).await? else { return Ok(None) };
    let (understood, refused, waiting): (i64, i64, i64) = sqlx::query_as(
        "-- read::replay_result
         select count(*) filter (where q.replayed_at is not null),
                count(*) filter (where q.replayed_at is null and q.tried_at >= q.replay_at),
                count(*) filter (where q.replayed_at is null and (q.tried_at is null or q.tried_at < q.replay_at))
         from tocsin.quarantine q
         join tocsin.reread r on r.tenant = q.tenant and r.source = q.source and r.errand = 'replay'
         where q.tenant = $1 and q.source = $2 and q.replay_at >= r.asked_at",
    )
    .bind(tenant.0)
    .bind(source.as_str())
    .fetch_one(pool)
    .await?;
    Ok(Some(ReplayResult { state: reread.state, understood, refused, waiting }))
}
