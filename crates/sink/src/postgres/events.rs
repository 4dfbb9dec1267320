//! `tocsin.alert_event`: observed changes, only ever added.

use sqlx::PgConnection;
use sqlx::postgres::PgBindIterExt;

use super::stamp::PgStamp;
use crate::store::{Event, Feed};

/// Appends changes. The row of each alert is locked by us, so that the times of its events rise even when the
/// clock of the database falls.
pub(crate) async fn add(conn: &mut PgConnection, feed: Feed, events: &[Event<'_>]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- events::add
         insert into tocsin.alert_event (tenant, alert_id, seen_at, field, old_value, new_value, changed_at, source)
         select $1, n.alert_id,
                greatest(statement_timestamp(), (
                    select max(e.seen_at) + interval '1 microsecond' from tocsin.alert_event e where e.tenant = $1 and e.alert_id = n.alert_id
                )),
                n.field, n.old_value, n.new_value, n.changed_at, $2
         from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
             as n(alert_id, field, old_value, new_value, changed_at)",
    )
    .bind(feed.tenant.0)
    .bind(feed.source.as_str())
    .bind(events.iter().map(|event| event.alert).bind_iter())
    .bind(events.iter().map(|event| event.field).bind_iter())
    .bind(events.iter().map(|event| event.old.as_deref()).bind_iter())
    .bind(events.iter().map(|event| event.new.as_deref()).bind_iter())
    .bind(events.iter().map(|event| event.changed_at.and_then(PgStamp::of)).bind_iter())
    .execute(conn)
    .await
    .map(drop)
}
