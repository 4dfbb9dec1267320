//! The rows that alerts share: the roll-ups.
//!
//! Those of one tenant are written by whoever holds its place. Those of all tenants together are where workers of several
//! replicas meet: they come last in the transaction, in one order, so that a row is held for the length of a commit and
//! nobody waits in a circle; and each hour has sixteen rows, of which a tenant always moves the same one.

use domain::TenantId;
use domain::metric::LAG_SECONDS;
use sqlx::PgConnection;
use sqlx::postgres::PgBindIterExt;

use crate::counted::Moves;

/// Moves the counts.
pub(crate) async fn put(conn: &mut PgConnection, tenant: TenantId, moves: &Moves) -> Result<(), sqlx::Error> {
    days(conn, tenant, moves).await?;
    if !moves.alert_hour.is_empty() {
        sqlx::query(
            "-- counts::alert_hour
             insert into tocsin.alert_hour as h (hour, severity, shard, alerts)
             select tocsin.ticks_to_timestamptz(r.hour), r.severity, tocsin.shard_of($1), r.alerts
             from unnest($2::bigint[], $3::text[], $4::bigint[]) as r(hour, severity, alerts)
             on conflict (hour, severity, shard) do update set alerts = h.alerts + excluded.alerts",
        )
        .bind(tenant.0)
        .bind(moves.alert_hour.keys().map(|(hour, _)| *hour).bind_iter())
        .bind(moves.alert_hour.keys().map(|(_, severity)| severity.as_str()).bind_iter())
        .bind(moves.alert_hour.values().copied().bind_iter())
        .execute(&mut *conn)
        .await?;
    }
    if !moves.ingest_hour.is_empty() {
        let bound = |at: usize| LAG_SECONDS.get(at).copied().unwrap_or(f64::INFINITY);
        sqlx::query(
            "-- counts::ingest_hour
             insert into tocsin.ingest_hour as h (hour, le_seconds, shard, versions)
             select tocsin.ticks_to_timestamptz(r.hour), r.bound, tocsin.shard_of($1), r.versions
             from unnest($2::bigint[], $3::float8[], $4::bigint[]) as r(hour, bound, versions)
             on conflict (hour, le_seconds, shard) do update set versions = h.versions + excluded.versions",
        )
        .bind(tenant.0)
        .bind(moves.ingest_hour.keys().map(|(hour, _)| *hour).bind_iter())
        .bind(moves.ingest_hour.keys().map(|(_, at)| bound(*at)).bind_iter())
        .bind(moves.ingest_hour.values().copied().bind_iter())
        .execute(conn)
        .await?;
    }
    Ok(())
}

async fn days(conn: &mut PgConnection, tenant: TenantId, moves: &Moves) -> Result<(), sqlx::Error> {
    if !moves.alert_day.is_empty() {
        sqlx::query(
            "-- counts::alert_day
             insert into tocsin.alert_day as d (tenant, day, severity, status, service_source, alerts)
             select $1, (tocsin.ticks_to_timestamptz(r.day) at time zone 'UTC')::date, r.severity, r.status, r.service, r.alerts
             from unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[]) as r(day, severity, status, service, alerts)
             on conflict (tenant, day, severity, status, service_source) do update set alerts = d.alerts + excluded.alerts",
        )
        .bind(tenant.0)
        .bind(moves.alert_day.keys().map(|key| key.0).bind_iter())
        .bind(moves.alert_day.keys().map(|key| key.1.as_str()).bind_iter())
        .bind(moves.alert_day.keys().map(|key| key.2.as_str()).bind_iter())
        .bind(moves.alert_day.keys().map(|key| key.3.as_str()).bind_iter())
        .bind(moves.alert_day.values().copied().bind_iter())
        .execute(&mut *conn)
        .await?;
    }
    if !moves.technique_day.is_empty() {
        sqlx::query(
            "-- counts::technique_day
             insert into tocsin.technique_day as d (tenant, day, technique, alerts)
             select $1, (tocsin.ticks_to_timestamptz(r.day) at time zone 'UTC')::date, r.technique, r.alerts
             from unnest($2::bigint[], $3::text[], $4::bigint[]) as r(day, technique, alerts)
             on conflict (tenant, day, technique) do update set alerts = d.alerts + excluded.alerts",
        )
        .bind(tenant.0)
        .bind(moves.technique_day.keys().map(|(day, _)| *day).bind_iter())
        .bind(moves.technique_day.keys().map(|(_, technique)| technique.as_str()).bind_iter())
        .bind(moves.technique_day.values().copied().bind_iter())
        .execute(&mut *conn)
        .await?;
    }
    if !moves.detection_day.is_empty() {
        let tally = |at: usize| moves.detection_day.values().map(move |tally| tally[at]);
        sqlx::query(
            "-- counts::detection_day
             insert into tocsin.detection_day as d
                 (tenant, day, title, severity, service_source, alerts, true_positives, false_positives, resolved)
             select $1, (tocsin.ticks_to_timestamptz(r.day) at time zone 'UTC')::date, r.title, r.severity, r.service, r.alerts, r.tp, r.fp, r.resolved
             from unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[])
                 as r(day, title, severity, service, alerts, tp, fp, resolved)
             on conflict (tenant, day, title, severity, service_source) do update set
                 alerts = d.alerts + excluded.alerts,
                 true_positives = d.true_positives + excluded.true_positives,
                 false_positives = d.false_positives + excluded.false_positives,
                 resolved = d.resolved + excluded.resolved",
        )
        .bind(tenant.0)
        .bind(moves.detection_day.keys().map(|key| key.0).bind_iter())
        .bind(moves.detection_day.keys().map(|key| key.1.as_str()).bind_iter())
        .bind(moves.detection_day.keys().map(|key| key.2.as_str()).bind_iter())
        .bind(moves.detection_day.keys().map(|key| key.3.as_str()).bind_iter())
        .bind(tally(0).bind_iter())
        .bind(tally(1).bind_iter())
        .bind(tally(2).bind_iter())
        .bind(tally(3).bind_iter())
        .execute(conn)
        .await?;
    }
    Ok(())
}
