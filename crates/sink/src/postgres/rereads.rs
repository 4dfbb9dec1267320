//! `tocsin.reread` and `tocsin.reconciliation`: what is read again, how far it has come, and what it found.

use domain::ports::StoredId;
use domain::{AlertId, Axis, Comparison, Errand, Reread, Source, TenantId, Ticks};
use sqlx::postgres::PgBindIterExt;
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use super::stamp::PgStamp;
use crate::store::{Feed, MOST_IDS, StoreError, Tally};
use crate::text::storable;

/// Moves a re-read, and says whether it stands. `before` is how far it has to have come for that.
pub(crate) async fn step(conn: &mut PgConnection, feed: Feed, before: Option<(Axis, Ticks)>, to: &Reread) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "-- rereads::step
         insert into tocsin.reread as r
             (tenant, source, errand, run, axis, from_ticks, to_ticks, left_ticks, polled_before_ticks, started_at, moved_at, finished_at)
         select $1, $2, $3, $4, $5, $6, $7, $8, $9, now(), now(), case when $10 then now() end
         where $11::text is null or exists (select from tocsin.reread where tenant = $1 and source = $2 and errand = $3)
         on conflict (tenant, source, errand) do update set
             run = excluded.run,
             axis = excluded.axis,
             from_ticks = excluded.from_ticks,
             to_ticks = excluded.to_ticks,
             left_ticks = excluded.left_ticks,
             polled_before_ticks = excluded.polled_before_ticks,
             started_at = case when excluded.run > r.run then now() else coalesce(r.started_at, now()) end,
             moved_at = now(),
             finished_at = excluded.finished_at,
             cancelled_at = case when excluded.run = r.run then r.cancelled_at end,
             asked_at = case when excluded.run = r.run then r.asked_at end,
             records = case when r.finished_at is null then r.records else 0 end,
             new_alerts = case when r.finished_at is null then r.new_alerts else 0 end,
             updated_alerts = case when r.finished_at is null then r.updated_alerts else 0 end,
             late = case when r.finished_at is null then r.late else 0 end,
             missing_ids = case when r.finished_at is null then r.missing_ids else '{}' end,
             changed_ids = case when r.finished_at is null then r.changed_ids else '{}' end
         where case
             when $11::text is null then excluded.run > r.run or (excluded.run = r.run and r.finished_at is null)
             else excluded.run = r.run and r.finished_at is null
                 and ((r.axis = $11 and r.left_ticks <= $12) or (r.axis = 'creation' and $11 = 'update'))
         end",
    )
    .bind(feed.tenant.0)
    .bind(feed.source.as_str())
    .bind(to.errand.as_str())
    .bind(to.run)
    .bind(to.axis.as_str())
    .bind(to.from.0)
    .bind(to.to.0)
    .bind(to.left.0)
    .bind(to.polled_before.0)
    .bind(to.finished_at.is_some())
    .bind(before.map(|(axis, _)| axis.as_str()))
    .bind(before.map(|(_, left)| left.0))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Adds to the counters and lists of a re-read, and says whether it was there.
pub(crate) async fn tally(
    conn: &mut PgConnection,
    feed: Feed,
    errand: Errand,
    run: Option<i64>,
    tally: &Tally<'_>,
) -> Result<bool, sqlx::Error> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let done = sqlx::query(
        "-- rereads::tally
         update tocsin.reread r set
             records = r.records + $5,
             new_alerts = r.new_alerts + $6,
             updated_alerts = r.updated_alerts + $7,
             late = r.late + $8,
             missing_ids = (r.missing_ids || array(select x from unnest($9::text[]) x where x <> all (r.missing_ids)))[1:$11],
             changed_ids = (r.changed_ids || array(select x from unnest($10::text[]) x where x <> all (r.changed_ids)))[1:$11]
         where r.tenant = $1 and r.source = $2 and r.errand = $3
           and case when $4::bigint is null then r.started_at is not null and r.finished_at is null else r.run = $4 end",
    )
    .bind(feed.tenant.0)
    .bind(feed.source.as_str())
    .bind(errand.as_str())
    .bind(run)
    .bind(number(tally.records))
    .bind(number(tally.new))
    .bind(number(tally.updated))
    .bind(number(tally.late))
    .bind(tally.missing.iter().copied().bind_iter())
    .bind(tally.changed.iter().copied().bind_iter())
    .bind(i32::try_from(MOST_IDS).unwrap_or(i32::MAX))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Records what a comparison came to, and says how many were missing and how many had changed.
pub(crate) async fn reconcile(
    conn: &mut PgConnection,
    feed: Feed,
    errand: Errand,
    comparison: &Comparison,
) -> Result<(u64, u64), StoreError> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let found: Option<(i64, i64)> = sqlx::query_as(
        "-- rereads::reconcile
         insert into tocsin.reconciliation
             (tenant, source, started_at, asked_by, run, from_ticks, to_ticks, at_source, stored, missing, changed, only_stored,
              missing_ids, changed_ids, only_stored_ids)
         select r.tenant, r.source, r.started_at, $4, r.run, r.from_ticks, r.to_ticks, $5, $6, r.new_alerts, r.updated_alerts, $7,
                r.missing_ids, r.changed_ids, ($8::text[])[1:$9]
         from tocsin.reread r
         where r.tenant = $1 and r.source = $2 and r.errand = $3
         returning missing, changed",
    )
    .bind(feed.tenant.0)
    .bind(feed.source.as_str())
    .bind(errand.as_str())
    .bind(asked_by(errand))
    .bind(number(comparison.at_source))
    .bind(number(comparison.stored))
    .bind(number(comparison.only_stored_count))
    .bind(comparison.only_stored.iter().map(|id| storable(id)).bind_iter())
    .bind(i32::try_from(MOST_IDS).unwrap_or(i32::MAX))
    .fetch_optional(conn)
    .await?;
    let (missing, changed) = found.ok_or_else(|| StoreError::Contention("the re-read of a comparison is gone".into()))?;
    Ok((u64::try_from(missing).unwrap_or(0), u64::try_from(changed).unwrap_or(0)))
}

/// Who wanted a comparison.
pub(crate) fn asked_by(errand: Errand) -> &'static str {
    if errand == Errand::Reconcile { "operator" } else { "nightly" }
}

#[derive(FromRow)]
struct RereadRow {
    errand: String,
    run: i64,
    axis: String,
    from_ticks: i64,
    to_ticks: i64,
    left_ticks: i64,
    polled_before_ticks: i64,
    finished_at: Option<PgStamp>,
}

/// The re-reads on record for a feed.
pub(crate) async fn of_feed(pool: &PgPool, tenant: TenantId, source: Source) -> Result<Vec<Reread>, sqlx::Error> {
    let rows: Vec<RereadRow> = sqlx::query_as(
        "-- rereads::of_feed
         select errand, run, axis, from_ticks, to_ticks, left_ticks, polled_before_ticks, finished_at
         from tocsin.reread where tenant = $1 and source = $2 order by errand",
    )
    .bind(tenant.0)
    .bind(source.as_str())
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().filter_map(RereadRow::reread).collect())
}

impl RereadRow {
    /// A word that a later version has written is passed over: what we do not know we cannot do.
    fn reread(self) -> Option<Reread> {
        Some(Reread {
            errand: self.errand.parse::<Errand>().ok()?,
            run: self.run,
            axis: self.axis.parse::<Axis>().ok()?,
            from: Ticks(self.from_ticks),
            to: Ticks(self.to_ticks),
            left: Ticks(self.left_ticks),
            polled_before: Ticks(self.polled_before_ticks),
            finished_at: self.finished_at.and_then(PgStamp::to_ticks),
        })
    }
}

/// Open re-reads that an operator has asked for: an index holds those and no others.
pub(crate) async fn asked_for(pool: &PgPool) -> Result<Vec<(TenantId, Source, Errand, i64)>, sqlx::Error> {
    let rows: Vec<(Uuid, String, String, i64)> = sqlx::query_as(
        "-- rereads::asked_for
         select tenant, source, errand, run from tocsin.reread
         where asked_at is not null and finished_at is null
         order by tenant, source, errand",
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|(tenant, source, errand, run)| Some((TenantId(tenant), source.parse().ok()?, errand.parse().ok()?, run)))
        .collect())
}

/// What is stored of a source with a last-update stamp of `from` or later, and whether it lies before `to` and is what this
/// source said. Goes by the index on the stamp as a timestamp, and then by the exact stamp.
pub(crate) async fn stored_between(
    pool: &PgPool,
    tenant: TenantId,
    source: Source,
    from: Ticks,
    to: Ticks,
) -> Result<Vec<StoredId>, sqlx::Error> {
    let rows: Vec<(String, bool)> = sqlx::query_as(match source {
        Source::GraphIncidents => {
            "-- rereads::incidents_between
             select incident_id, last_update_ticks < $4 from tocsin.incident
             where tenant = $1 and $2 <> '' and last_updated_at >= $5 and last_update_ticks >= $3"
        }
        Source::GraphAlerts | Source::MdeAlerts => {
            "-- rereads::alerts_between
             select a.alert_id, a.source = $2 and a.last_update_ticks < $4 from tocsin.alert a
             where a.tenant = $1 and a.last_updated_at >= $5 and a.last_update_ticks >= $3
               and (a.source = $2 or exists (
                   select from tocsin.alert_version v where v.tenant = a.tenant and v.source = $2 and v.alert_id = a.alert_id
               ))"
        }
    })
    .bind(tenant.0)
    .bind(source.as_str())
    .bind(from.0)
    .bind(to.0)
    .bind(PgStamp::of(from).unwrap_or(PgStamp::BEGINNING))
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(id, due)| StoredId { id: AlertId::new(id), due }).collect())
}
